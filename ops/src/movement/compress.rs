//! [`Compress`](https://onnx.ai/onnx/operators/onnx__Compress.html): the slices for which a condition holds.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::assemble::select;
use super::sizes::{self, required, view};
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

/// `Compress` along an axis, or over all elements in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compress {
    /// The axis; the input is flattened when absent.
    pub axis: Option<i64>,
}

/// Builds [`Compress`].
///
/// # Errors
/// When there are not two inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(Arc::new(Compress { axis: spec.attributes.int("axis")?.copied() }))
}

impl Operator for Compress {
    fn name(&self) -> &'static str {
        "Compress"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, condition) = (required(inputs, 0)?, required(inputs, 1)?);
        if condition.dtype != DType::Bool {
            return Err(OpError::Type { input: 1, expected: "bool", got: condition.dtype });
        }
        let count = Dim::named("Compress.count");
        let shape = match (self.axis, &x.shape) {
            (None, _) => Some(vec![count]),
            (Some(axis), Some(dims)) => {
                let mut shape = dims.clone();
                shape[sizes::axis(axis, dims.len())?] = count;
                Some(shape)
            }
            (Some(_), None) => None,
        };
        Ok(vec![Fact { dtype: x.dtype, shape, value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, condition) = (view(inputs, 0)?, view(inputs, 1)?);
        let flat = [x.len()];
        let (dims, axis) = match self.axis {
            Some(axis) => (x.dims, sizes::axis(axis, x.dims.len())?),
            None => (&flat[..], 0),
        };
        let (extent, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
        // A condition may be shorter than the axis: the rest is left out. Beyond the axis it has nothing to say.
        let held = condition.bytes.iter().take(extent).enumerate().filter(|(_, b)| **b != 0);
        let kept: Vec<usize> = held.map(|(i, _)| i).collect();
        let mut shape = dims.to_vec();
        shape[axis] = kept.len();
        let y = select(&x, &shape, None, |i| {
            let (slice, within) = (i / inner, i % inner);
            Some((slice / kept.len() * extent + kept[slice % kept.len()]) * inner + within)
        })?;
        Ok(vec![y])
    }

    fn lower(&self, _problem: &Problem<'_>, _caps: &Capabilities) -> Lowering {
        Lowering::refused("Compress", "the size of its output depends on its input's contents")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_columns_and_elements() {
        let x = Tensor::from_slice(&[3, 2], &[1i32, 2, 3, 4, 5, 6]).unwrap();
        let of = |axis, condition: &[bool]| {
            let condition = Tensor::from_bools(&[condition.len()], condition).unwrap();
            Compress { axis }.reference(&[Some(x.view()), Some(condition.view())], 1).unwrap().remove(0)
        };
        assert_eq!(of(Some(0), &[false, true, true]).to_vec::<i32>().unwrap(), [3, 4, 5, 6]);
        assert_eq!(of(Some(-1), &[false, true]).to_vec::<i32>().unwrap(), [2, 4, 6]);
        assert_eq!(of(None, &[false, true, false, false, true]).to_vec::<i32>().unwrap(), [2, 5]);
        assert_eq!(of(Some(0), &[false; 3]).dims(), [0, 2]);
    }
}
