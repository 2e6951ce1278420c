//! [`Unsqueeze`](https://onnx.ai/onnx/operators/onnx__Unsqueeze.html): dimensions of extent 1 put in.

use std::sync::Arc;

use super::axes::{Axes, Known};
use super::relabel::{self, relabels};
use super::sizes::{self, required, view};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::Operator;

/// `Unsqueeze` at the given axes of the output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsqueeze {
    /// Where extents of 1 go in: an attribute before opset 13, then input 1.
    pub axes: Axes,
}

/// Builds [`Unsqueeze`].
///
/// # Errors
/// When the axes are missing.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let axes = Axes::from_spec(spec, 13, 1)?;
    match &axes {
        Axes::Attribute(None) => return Err(OpError::Attribute { name: "axes", expected: "given" }),
        Axes::Attribute(Some(_)) => spec.expect_inputs(1, 1, "1")?,
        Axes::Input(_) => spec.expect_inputs(2, 2, "2")?,
    }
    Ok(Arc::new(Unsqueeze { axes }))
}

/// The dimensions with `one` put in at `axes` of the result.
fn insert<D: Clone>(dims: &[D], axes: &[i64], one: &D) -> Result<Vec<D>, OpError> {
    // No model needs more dimensions; without a bound, hostile axes would take quadratic time.
    const MOST: usize = 64;
    let rank = dims.len().saturating_add(axes.len());
    if rank > MOST {
        return Err(OpError::unsupported(format!("a tensor of {rank} dimensions")));
    }
    let axes = sizes::axes(axes, rank)?;
    let mut rest = dims.iter();
    let dim = |axis: usize| if axes.contains(&axis) { one } else { rest.next().unwrap_or(one) };
    Ok((0..rank).map(dim).cloned().collect())
}

impl Operator for Unsqueeze {
    fn name(&self) -> &'static str {
        "Unsqueeze"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        let Some(dims) = &x.shape else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let shape = match self.axes.known(inputs)? {
            Known::These(axes) => insert(dims, &axes, &Dim::Known(1))?,
            Known::Some(Some(count)) if count <= 64 => {
                (0..dims.len() + count).map(|axis| Dim::named(&format!("Unsqueeze.{axis}"))).collect()
            }
            _ => return Ok(vec![Fact::unranked(x.dtype)]),
        };
        Ok(vec![sizes::carry(x.dtype, shape, sizes::of(x))?])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let axes = self.axes.of_run(inputs)?.ok_or(OpError::Attribute { name: "axes", expected: "given" })?;
        Ok(vec![relabel::reference(&x, &insert(x.dims, &axes, &1)?)?])
    }

    relabels!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_count_in_the_output() {
        assert_eq!(insert(&[3, 4, 5], &[2, 4, 5], &1).unwrap(), [3, 4, 1, 5, 1, 1]);
        assert_eq!(insert(&[3, 4, 5], &[5, 4, 2], &1).unwrap(), [3, 4, 1, 5, 1, 1]);
        assert_eq!(insert(&[], &[0], &1).unwrap(), [1]);
        assert!(insert(&[3], &[0, 0], &1).is_err());
        assert!(insert(&[3], &[2], &1).is_err());
    }
}
