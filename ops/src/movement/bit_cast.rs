//! [`BitCast`](https://onnx.ai/onnx/operators/onnx__BitCast.html): the same bits under another element type.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::sizes::{required, view};
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{CpuKernel, CpuRun, Operator};
use crate::problem::Problem;

/// `BitCast` to a type whose elements have as many bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BitCast {
    /// The type asked for.
    pub to: DType,
}

/// Builds [`BitCast`].
///
/// # Errors
/// When there is not one input, or `to` is not a type with bits.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let to = spec.attributes.int("to")?.and_then(|&number| DType::from_onnx(number));
    let to = to.filter(|&to| to != DType::Str);
    Ok(Arc::new(BitCast {
        to: to.ok_or(OpError::Attribute { name: "to", expected: "a type other than string" })?,
    }))
}

impl BitCast {
    fn check(&self, from: DType) -> Result<(), OpError> {
        if from == DType::Str || from.bits() != self.to.bits() {
            let expected = format!("a type of {} bits", self.to.bits());
            return Err(OpError::constraint("type of the input", expected, from));
        }
        Ok(())
    }
}

impl Operator for BitCast {
    fn name(&self) -> &'static str {
        "BitCast"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        self.check(x.dtype)?;
        Ok(vec![Fact { dtype: self.to, shape: x.shape.clone(), value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        self.check(x.dtype)?;
        let bits = x.to_tensor().shared_bytes();
        Ok(vec![Tensor::from_bytes(self.to, x.dims, bits)?])
    }

    fn cpu(&self, _problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        Ok(Some(Box::new(BitCopy)))
    }

    fn lower(&self, _problem: &Problem<'_>, _caps: &Capabilities) -> Lowering {
        Lowering::refused("BitCast", "devices hold some types in other bits than the host")
    }
}

/// Copies all bits.
struct BitCopy;

impl CpuKernel for BitCopy {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let from = view(run.inputs, 0)?.bytes;
        match run.outputs.first_mut() {
            Some(output) if output.bytes.len() == from.len() => {
                output.bytes.copy_from_slice(from);
                Ok(())
            }
            _ => Err(OpError::Internal("an output of another size")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_stay() {
        let x = Tensor::from_slice(&[2], &[1f32, -2.0]).unwrap();
        let y = BitCast { to: DType::U32 }.reference(&[Some(x.view())], 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<u32>().unwrap(), [0x3f80_0000, 0xc000_0000]);
        let back = BitCast { to: DType::F32 }.reference(&[Some(y.view())], 1).unwrap().remove(0);
        assert_eq!(back.to_vec::<f32>().unwrap(), [1.0, -2.0]);
        let fact = Fact::known(DType::F32, &[2]);
        assert!(BitCast { to: DType::F64 }.infer(&[Some(&fact)], 1).is_err());
        assert!(BitCast { to: DType::U8 }.infer(&[Some(&Fact::known(DType::I4, &[2]))], 1).is_err());
        let packed = Tensor::from_bytes(DType::I4, &[3], vec![0x21, 0x03].into()).unwrap();
        let y = BitCast { to: DType::U4 }.reference(&[Some(packed.view())], 1).unwrap().remove(0);
        assert_eq!((y.dtype(), y.bytes()), (DType::U4, &[0x21, 0x03][..]));
    }
}
