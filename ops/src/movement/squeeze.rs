//! [`Squeeze`](https://onnx.ai/onnx/operators/onnx__Squeeze.html): dimensions of extent 1 left out.

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

/// `Squeeze` along the given axes, or all of extent 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Squeeze {
    /// What is left out: an attribute before opset 13, then input 1.
    pub axes: Axes,
}

/// Builds [`Squeeze`].
///
/// # Errors
/// When the number of inputs is wrong.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 2, "1 or 2")?;
    Ok(Arc::new(Squeeze { axes: Axes::from_spec(spec, 13, 1)? }))
}

/// The dimensions without those along `axes`, none of which `is_other` than 1.
fn remove<D: Clone + ToString>(
    dims: &[D],
    axes: &[i64],
    is_other: impl Fn(&D) -> bool,
) -> Result<Vec<D>, OpError> {
    let axes = sizes::axes(axes, dims.len())?;
    if let Some(wrong) = axes.iter().find(|&&axis| is_other(&dims[axis])) {
        return Err(OpError::constraint("extent of a squeezed axis", 1, dims[*wrong].to_string()));
    }
    let kept = dims.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
    Ok(kept.map(|(_, dim)| dim.clone()).collect())
}

impl Operator for Squeeze {
    fn name(&self) -> &'static str {
        "Squeeze"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        let Some(dims) = &x.shape else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let shape = match self.axes.known(inputs)? {
            Known::These(axes) => remove(dims, &axes, |dim| dim.known().is_some_and(|n| n != 1))?,
            Known::Absent if x.dims().is_some() => dims.iter().filter(|dim| !dim.is(1)).cloned().collect(),
            Known::Some(Some(count)) if count <= dims.len() => {
                (0..dims.len() - count).map(|axis| Dim::named(&format!("Squeeze.{axis}"))).collect()
            }
            // Which of the named dimensions are 1 is not known.
            _ => return Ok(vec![Fact::unranked(x.dtype)]),
        };
        Ok(vec![sizes::carry(x.dtype, shape, sizes::of(x))?])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let dims = match self.axes.of_run(inputs)? {
            Some(axes) => remove(x.dims, &axes, |&dim| dim != 1)?,
            None => x.dims.iter().copied().filter(|&dim| dim != 1).collect(),
        };
        Ok(vec![relabel::reference(&x, &dims)?])
    }

    relabels!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_of_one_go() {
        let x = Tensor::zeroed(crate::DType::F32, &[1, 3, 1, 5]).unwrap();
        let dims = |axes: Option<Vec<i64>>| {
            let op = Squeeze { axes: Axes::Attribute(axes) };
            op.reference(&[Some(x.view())], 1).map(|all| all[0].dims().to_vec())
        };
        assert_eq!(dims(None).unwrap(), [3, 5]);
        assert_eq!(dims(Some(vec![-2])).unwrap(), [1, 3, 5]);
        assert!(dims(Some(vec![1])).is_err());
        assert!(dims(Some(vec![0, 0])).is_err());
    }

    #[test]
    fn one_element_of_a_shape_becomes_a_scalar() {
        let sizes = Some(vec![Dim::named("n")]);
        let x = Fact { dtype: crate::DType::I64, shape: Some(vec![Dim::Known(1)]), value: None, sizes };
        let axes = Fact::constant(Tensor::from_slice(&[1], &[0i64]).unwrap());
        let all = Squeeze { axes: Axes::Input(1) }.infer(&[Some(&x), Some(&axes)], 1).unwrap();
        assert_eq!(all[0].rank(), Some(0));
        assert_eq!(all[0].sizes, x.sizes);
    }
}
