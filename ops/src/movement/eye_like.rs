//! [`EyeLike`](https://onnx.ai/onnx/operators/onnx__EyeLike.html): ones on a diagonal.

use std::sync::Arc;

use super::constant_of_shape::filled;
use super::sizes::{required, view};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::assemble::Assembly;
use crate::operator::Operator;

/// `EyeLike`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EyeLike {
    /// Type of the output; that of the input when absent.
    pub dtype: Option<DType>,
    /// How far the diagonal lies above the main one; negative below.
    pub offset: i64,
}

/// Builds [`EyeLike`].
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let known = |number: i64| {
        DType::from_onnx(number).ok_or_else(|| OpError::constraint("dtype", "an element type", number))
    };
    let dtype = spec.attributes.int("dtype")?.copied().map(known).transpose()?;
    Ok(Arc::new(EyeLike { dtype, offset: spec.attributes.int_or("k", 0)? }))
}

impl Operator for EyeLike {
    fn name(&self) -> &'static str {
        "EyeLike"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        if let Some(rank) = x.rank().filter(|&rank| rank != 2) {
            return Err(OpError::constraint("rank", 2, rank));
        }
        let dtype = self.dtype.unwrap_or(x.dtype);
        Ok(vec![Fact { dtype, shape: x.shape.clone(), value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let &[rows, columns] = x.dims else { return Err(OpError::constraint("rank", 2, x.dims.len())) };
        let dtype = self.dtype.unwrap_or(x.dtype);
        let one = filled(dtype, &[], 1.0)?;
        let mut result = Assembly::zeroed(dtype, x.dims)?;
        for row in 0..rows {
            let column = i64::try_from(row).ok().and_then(|row| row.checked_add(self.offset));
            if let Some(column) = column.and_then(|c| usize::try_from(c).ok()).filter(|&c| c < columns) {
                result.copy(row * columns + column, &one.view(), 0)?;
            }
        }
        Ok(vec![result.finish()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagonals() {
        let x = Tensor::zeroed(DType::I32, &[2, 3]).unwrap();
        let of = |offset| {
            let y = EyeLike { dtype: Some(DType::F64), offset }.reference(&[Some(x.view())], 1).unwrap();
            y[0].to_vec::<f64>().unwrap()
        };
        assert_eq!(of(0), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(of(1), [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(of(-1), [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(of(i64::MAX), [0.0; 6]);
    }
}
