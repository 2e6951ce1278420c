//! [`Dropout`](https://onnx.ai/onnx/operators/onnx__Dropout.html) as inference has it: the input itself, and a mask
//! that keeps everything.

use std::sync::Arc;

use super::constant_of_shape::{ConstantOfShape, filled};
use super::relabel::{self, relabels};
use super::shape::Shape;
use super::sizes::{required, view};
use crate::build::NodeSpec;
use crate::compose::Composition;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Expansion, Operator};

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
/// When there are more than two inputs: the third tells it to train, which is [`crate::random::TrainingDropout`].
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, if spec.has_input(2) { 2 } else { 3 }, "1 or 2")?;
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

impl Operator for Dropout {
    fn name(&self) -> &'static str {
        "Dropout"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        let mask = Fact { dtype: self.mask_type(x.dtype), shape: x.shape.clone(), value: None, sizes: None };
        Ok([x.clone(), mask].into_iter().take(outputs.max(1)).collect())
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let mut all = vec![relabel::reference(&x, x.dims)?];
        if outputs > 1 {
            let ones = vec![1u8; x.len()];
            all.push(match self.mask_type(x.dtype) {
                DType::Bool => Tensor::from_bytes(DType::Bool, x.dims, ones.into())?,
                other => filled(other, x.dims, 1.0)?,
            });
        }
        Ok(all)
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        if !self.mask {
            return Ok(Expansion::Stays);
        }
        // A mask that nothing reads is gone with its nodes.
        let data = required(inputs, 0)?;
        let mut graph = Composition::default();
        let x = graph.input(0, data);
        let shape = graph.node(Arc::new(Shape { start: 0, end: None }), &[x]);
        let value = filled(self.mask_type(data.dtype), &[], 1.0)?;
        let mask = graph.node(Arc::new(ConstantOfShape { value }), &[shape]);
        Ok(graph.finish(&[x, mask]))
    }

    relabels!();
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
}
