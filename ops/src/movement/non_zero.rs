//! [`NonZero`](https://onnx.ai/onnx/operators/onnx__NonZero.html): the coordinates of all elements that are not zero.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::assemble::coordinates;
use super::number::{Number, by_number};
use super::sizes::{required, view};
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::Operator;
use crate::problem::Problem;

/// `NonZero`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NonZero;

/// Builds [`NonZero`].
///
/// # Errors
/// When there is not one input.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(NonZero))
}

/// The flat indices of elements that are not zero.
fn found<T: Number>(x: &View<'_>) -> Result<Vec<usize>, OpError> {
    let all = x.slice::<T>().iter().enumerate();
    Ok(all.filter(|(_, x)| x.to_f64() != 0.0).map(|(i, _)| i).collect())
}

impl Operator for NonZero {
    fn name(&self) -> &'static str {
        "NonZero"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        let rank = x.rank().map_or_else(|| Dim::named("NonZero.rank"), Dim::Known);
        Ok(vec![Fact::new(DType::I64, vec![rank, Dim::named("NonZero.count")])])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let found = match x.dtype {
            DType::Bool => x.bytes.iter().enumerate().filter(|(_, b)| **b != 0).map(|(i, _)| i).collect(),
            dtype => by_number!(dtype, found(&x))?,
        };
        let (rank, count) = (x.dims.len(), found.len());
        let mut all = vec![0i64; rank.checked_mul(count).ok_or(OpError::Size)?];
        for (k, &i) in found.iter().enumerate() {
            for (axis, c) in coordinates(i, x.dims).into_iter().enumerate() {
                all[axis * count + k] = i64::try_from(c).map_err(|_| OpError::Size)?;
            }
        }
        Ok(vec![Tensor::from_vec(&[rank, count], all)?])
    }

    fn lower(&self, _problem: &Problem<'_>, _caps: &Capabilities) -> Lowering {
        Lowering::refused("NonZero", "the size of its output depends on its input's contents")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_in_row_major_order() {
        let x = Tensor::from_bools(&[2, 2], &[true, false, true, true]).unwrap();
        let y = NonZero.reference(&[Some(x.view())], 1).unwrap();
        assert_eq!((y[0].dims(), y[0].to_vec::<i64>().unwrap()), (&[2, 3][..], vec![0, 1, 1, 0, 0, 1]));
        let x = Tensor::from_slice(&[3], &[0.0f32, -0.0, f32::NAN]).unwrap();
        assert_eq!(NonZero.reference(&[Some(x.view())], 1).unwrap()[0].to_vec::<i64>().unwrap(), [2]);
        let none = Tensor::from_slice(&[0, 4], &[0u8; 0]).unwrap();
        assert_eq!(NonZero.reference(&[Some(none.view())], 1).unwrap()[0].dims(), [2, 0]);
    }
}
