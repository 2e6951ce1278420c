//! [`ConstantOfShape`](https://onnx.ai/onnx/operators/onnx__ConstantOfShape.html): one value everywhere.

use std::sync::Arc;

use half::{bf16, f16};

use super::assemble::{by_size, elements, elements_mut};
use super::sizes::{self, required, view};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::{self, Dim};
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{CpuKernel, CpuRun, Operator};
use crate::problem::Problem;

/// `ConstantOfShape` of a value.
#[derive(Clone, Debug)]
pub struct ConstantOfShape {
    /// One element.
    pub value: Tensor,
}

/// Builds [`ConstantOfShape`].
///
/// # Errors
/// When the value does not have one element.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let value = spec.attributes.tensor("value")?.cloned().unwrap_or_else(|| Tensor::scalar(0f32));
    if value.len() != 1 {
        return Err(OpError::Attribute { name: "value", expected: "a tensor of one element" });
    }
    Ok(Arc::new(ConstantOfShape { value: value.aligned() }))
}

/// A tensor of a number everywhere.
///
/// # Errors
/// When the type does not hold plain numbers, or the memory cannot be had.
pub fn filled(dtype: DType, dims: &[usize], number: f64) -> Result<Tensor, OpError> {
    let one = match dtype {
        DType::F32 => Tensor::scalar(number as f32),
        DType::F64 => Tensor::scalar(number),
        DType::F16 => Tensor::scalar(f16::from_f64(number)),
        DType::BF16 => Tensor::scalar(bf16::from_f64(number)),
        DType::I8 => Tensor::scalar(number as i8),
        DType::I16 => Tensor::scalar(number as i16),
        DType::I32 => Tensor::scalar(number as i32),
        DType::I64 => Tensor::scalar(number as i64),
        DType::U8 => Tensor::scalar(number as u8),
        DType::U16 => Tensor::scalar(number as u16),
        DType::U32 => Tensor::scalar(number as u32),
        DType::U64 => Tensor::scalar(number as u64),
        DType::Bool => Tensor::from_bools(&[], &[number != 0.0])?,
        other => return Err(OpError::unsupported(format!("a fill of {other}"))),
    };
    repeat(&one.view(), dims)
}

/// Element 0 of a tensor everywhere.
fn repeat(value: &View<'_>, dims: &[usize]) -> Result<Tensor, OpError> {
    super::assemble::select(value, dims, None, |_| Some(0))
}

fn extents(shape: &View<'_>) -> Result<Vec<usize>, OpError> {
    let sizes = sizes::integers(shape, 0)?;
    let extent = |n| usize::try_from(n).map_err(|_| OpError::constraint("input", "sizes of 0 or more", n));
    sizes.into_iter().map(extent).collect()
}

impl Operator for ConstantOfShape {
    fn name(&self) -> &'static str {
        "ConstantOfShape"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let shape = required(inputs, 0)?;
        let dtype = self.value.dtype();
        let dims = match (shape.integers(), sizes::of(shape), shape.dims().as_deref()) {
            (Some(numbers), ..) => {
                if let Some(wrong) = numbers.iter().find(|&&n| n < 0) {
                    return Err(OpError::constraint("input", "sizes of 0 or more", wrong));
                }
                dim::from_known(&numbers.iter().map(|&n| n as usize).collect::<Vec<_>>())
            }
            (None, Some(sizes), _) => sizes,
            (None, None, Some(&[rank])) if rank <= 64 => {
                (0..rank).map(|axis| Dim::named(&format!("ConstantOfShape.{axis}"))).collect()
            }
            _ => return Ok(vec![Fact::unranked(dtype)]),
        };
        // A short vector of a constant is a shape vector more often than not.
        let value = match dim::known(&dims).as_deref() {
            Some(&[count]) if count <= 64 => sizes::of(&Fact::constant(self.value.reshaped(&[])?))
                .and_then(|one| one.into_iter().next())
                .map(|one| vec![one; count]),
            _ => None,
        };
        Ok(vec![Fact { sizes: value, ..Fact::new(dtype, dims) }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![repeat(&self.value.view(), &extents(&view(inputs, 0)?)?)?])
    }

    fn cpu(&self, _problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let fills_bytes = self.value.dtype().bits() >= 8;
        Ok(fills_bytes.then(|| Box::new(FillKernel { value: self.value.clone() }) as Box<dyn CpuKernel>))
    }
}

struct FillKernel {
    value: Tensor,
}

impl CpuKernel for FillKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let output = run.outputs.first_mut().ok_or(OpError::Internal("no output"))?;
        by_size!(self.value.bytes().len(), fill(self.value.bytes(), output.bytes))
    }
}

fn fill<const N: usize>(value: &[u8], y: &mut [u8]) -> Result<(), OpError> {
    let &[one] = elements::<N>(value) else { return Err(OpError::Internal("a fill of one element")) };
    elements_mut::<N>(y).fill(one);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_repeat() {
        let shape = Tensor::from_slice(&[2], &[2i64, 3]).unwrap();
        let op = ConstantOfShape { value: Tensor::from_slice(&[1], &[7i32]).unwrap() };
        let y = op.reference(&[Some(shape.view())], 1).unwrap();
        assert_eq!((y[0].dims(), y[0].to_vec::<i32>().unwrap()), (&[2, 3][..], vec![7; 6]));
        let empty = Tensor::from_slice::<i64>(&[0], &[]).unwrap();
        assert_eq!(op.reference(&[Some(empty.view())], 1).unwrap()[0].dims(), [0usize; 0]);
        let negative = Tensor::from_slice(&[1], &[-2i64]).unwrap();
        assert!(op.reference(&[Some(negative.view())], 1).is_err());
        let huge = Tensor::from_slice(&[2], &[i64::MAX, 9]).unwrap();
        assert!(op.reference(&[Some(huge.view())], 1).is_err());
    }

    #[test]
    fn fills_are_exact_in_their_type() {
        assert_eq!(filled(DType::BF16, &[1], 1.0).unwrap().bytes(), [0x80, 0x3f]);
        assert_eq!(filled(DType::Bool, &[3], 1.0).unwrap().bytes(), [1, 1, 1]);
    }
}
