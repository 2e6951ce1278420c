//! [`OneHot`](https://onnx.ai/onnx/operators/onnx__OneHot.html): for each index a line of one value with another at
//! that index.

use std::sync::Arc;

use super::assemble::Assembly;
use super::number::{Number, by_number};
use super::sizes::{self, required, view};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::operator::Operator;

/// `OneHot` along a new axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OneHot {
    /// Where in the output the lines lie.
    pub axis: i64,
}

/// Builds [`OneHot`].
///
/// # Errors
/// When there are not three inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, 3, "3")?;
    Ok(Arc::new(OneHot { axis: spec.attributes.int_or("axis", -1)? }))
}

/// All numbers of a tensor, integers or not: ONNX allows any type for indices and depth.
fn numbers<T: Number>(view: &View<'_>) -> Result<Vec<f64>, OpError> {
    Ok(view.slice::<T>().iter().map(|&x| x.to_f64()).collect())
}

fn depth_of(view: &View<'_>) -> Result<usize, OpError> {
    let all = by_number!(view.dtype, numbers(view))?;
    match all.as_slice() {
        &[depth] if (0.0..1e12).contains(&depth) => Ok(depth as usize),
        other => Err(OpError::constraint("depth", "one number of 0 or more", format!("{other:?}"))),
    }
}

impl Operator for OneHot {
    fn name(&self) -> &'static str {
        "OneHot"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (indices, depth, values) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        let Some(dims) = &indices.shape else { return Ok(vec![Fact::unranked(values.dtype)]) };
        let axis = sizes::axis(self.axis, dims.len() + 1)?;
        let depth = match (&depth.value, sizes::of(depth).as_deref()) {
            (Some(value), _) => Dim::Known(depth_of(&value.clone().aligned().view())?),
            (None, Some([depth])) => depth.clone(),
            _ => Dim::named("OneHot.depth"),
        };
        let mut shape = dims.clone();
        shape.insert(axis, depth);
        Ok(vec![Fact::new(values.dtype, shape)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (indices, values) = (view(inputs, 0)?, view(inputs, 2)?);
        let depth = depth_of(&view(inputs, 1)?)?;
        if values.len() != 2 {
            return Err(OpError::constraint("values", "2 elements", values.len()));
        }
        let axis = sizes::axis(self.axis, indices.dims.len() + 1)?;
        let mut dims = indices.dims.to_vec();
        dims.insert(axis, depth);
        let inner = element_count(&indices.dims[axis..]).ok_or(OpError::Size)?;
        let all = by_number!(indices.dtype, numbers(&indices))?;
        let mut result = Assembly::zeroed(values.dtype, &dims)?;
        for i in 0..result.len() {
            result.copy(i, &values, 0)?;
        }
        for (i, &index) in all.iter().enumerate() {
            // Indices outside leave their line off everywhere.
            let index = if index < 0.0 { index + depth as f64 } else { index };
            if index >= 0.0 && index < depth as f64 {
                result.copy((i / inner * depth + index as usize) * inner + i % inner, &values, 1)?;
            }
        }
        Ok(vec![result.finish()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_along_either_axis() {
        let indices = Tensor::from_slice(&[3], &[1i64, -1, 5]).unwrap();
        let depth = Tensor::scalar(3f32);
        let values = Tensor::from_slice(&[2], &[0i32, 4]).unwrap();
        let inputs = [Some(indices.view()), Some(depth.view()), Some(values.view())];
        let y = OneHot { axis: -1 }.reference(&inputs, 1).unwrap();
        assert_eq!(
            (y[0].dims(), y[0].to_vec::<i32>().unwrap()),
            (&[3, 3][..], vec![0, 4, 0, 0, 0, 4, 0, 0, 0])
        );
        let y = OneHot { axis: 0 }.reference(&inputs, 1).unwrap();
        assert_eq!(y[0].to_vec::<i32>().unwrap(), [0, 0, 0, 4, 0, 0, 0, 4, 0]);
        let negative = Tensor::scalar(-1i64);
        let inputs = [Some(indices.view()), Some(negative.view()), Some(values.view())];
        assert!(OneHot { axis: 0 }.reference(&inputs, 1).is_err());
    }
}
