//! [`Dropout`](https://onnx.ai/onnx/operators/onnx__Dropout.html) as inference has it: the input itself, and a mask
//! that keeps everything.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::relabel;
use super::sizes::{optional, required, view};
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{CpuKernel, Operator, Role};
use crate::problem::Problem;

/// `Dropout` that drops nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dropout {
    /// The mask is wanted too.
    pub mask: bool,
    /// Type of the mask: bool from opset 10 on, before that the input's.
    pub bool_mask: bool,
}

/// Builds [`Dropout`].
///
/// # Errors
/// When there are more than three inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 3, "1 to 3")?;
    // What the ratio and the seed say has no effect on inference.
    spec.attributes.float("ratio")?;
    spec.attributes.int("seed")?;
    Ok(Arc::new(Dropout { mask: spec.outputs.get(1).copied().unwrap_or(false), bool_mask: spec.opset >= 10 }))
}

impl Dropout {
    fn mask_type(self, x: DType) -> DType {
        if self.bool_mask { DType::Bool } else { x }
    }
}

fn training(value: &Tensor) -> bool {
    value.bytes().first().is_some_and(|&byte| byte != 0)
}

fn refuse_training(is: bool) -> Result<(), OpError> {
    if is { Err(OpError::unsupported("Dropout with training_mode true")) } else { Ok(()) }
}

impl Operator for Dropout {
    fn name(&self) -> &'static str {
        "Dropout"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        if let Some(mode) = optional(inputs, 2) {
            // The output shares the input's memory: by the time of a run it is too late to say no.
            let value = mode.value.as_ref();
            let value = value
                .ok_or_else(|| OpError::unsupported("Dropout with a training_mode given at run time"))?;
            refuse_training(training(value))?;
        }
        let mask = Fact { dtype: self.mask_type(x.dtype), shape: x.shape.clone(), value: None, sizes: None };
        Ok([x.clone(), mask].into_iter().take(outputs.max(1)).collect())
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        refuse_training(optional(inputs, 2).is_some_and(|v| v.bytes.first().is_some_and(|&byte| byte != 0)))?;
        let mut all = vec![relabel::reference(&x, x.dims)?];
        if outputs > 1 {
            let ones = vec![1u8; x.len()];
            all.push(match self.mask_type(x.dtype) {
                DType::Bool => Tensor::from_bytes(DType::Bool, x.dims, ones.into())?,
                other => super::constant_of_shape::filled(other, x.dims, 1.0)?,
            });
        }
        Ok(all)
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        Ok(if self.mask { None } else { relabel::cpu(problem) })
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        if self.mask {
            return Lowering::refused("Dropout", "a mask is made on the CPU");
        }
        relabel::lower("Dropout", problem, caps)
    }

    fn role(&self) -> Role {
        if self.mask { Role::Opaque } else { Role::View }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_dropped_and_the_mask_keeps_all() {
        let x = Tensor::from_slice(&[3], &[1.0f32, -2.0, 0.5]).unwrap();
        let all = Dropout { mask: true, bool_mask: true }.reference(&[Some(x.view())], 2).unwrap();
        assert_eq!(all[0].to_vec::<f32>().unwrap(), [1.0, -2.0, 0.5]);
        assert_eq!((all[1].dtype(), all[1].bytes()), (DType::Bool, &[1u8, 1, 1][..]));
    }

    #[test]
    fn training_is_refused() {
        let (x, yes) = (Tensor::scalar(1.0f32), Tensor::from_bools(&[], &[true]).unwrap());
        let op = Dropout { mask: false, bool_mask: true };
        let result = op.reference(&[Some(x.view()), None, Some(yes.view())], 1);
        assert!(matches!(result, Err(OpError::Unsupported { .. })));
    }
}
