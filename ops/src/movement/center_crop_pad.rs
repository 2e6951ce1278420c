//! [`CenterCropPad`](https://onnx.ai/onnx/operators/onnx__CenterCropPad.html): the middle of a tensor, or the tensor in
//! the middle of zeros, axis by axis.

use std::sync::Arc;

use super::assemble::{coordinates, row_major, select};
use super::pad::{Mode, Pad};
use super::sizes::{self, required, view};
use crate::build::NodeSpec;
use crate::compose::Composition;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::operator::{Expansion, Operator};

/// `CenterCropPad` to the extents in input 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CenterCropPad {
    /// The axes that the extents are for; all when absent.
    pub axes: Option<Vec<i64>>,
}

/// Builds [`CenterCropPad`].
///
/// # Errors
/// When there are not two inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(Arc::new(CenterCropPad { axes: spec.attributes.ints("axes")?.map(<[i64]>::to_vec) }))
}

impl CenterCropPad {
    fn axes(&self, rank: usize) -> Result<Vec<usize>, OpError> {
        match &self.axes {
            Some(axes) => sizes::axes(axes, rank),
            None => Ok((0..rank).collect()),
        }
    }

    /// The output's dimensions.
    fn dims(&self, dims: &[usize], extents: &[i64]) -> Result<Vec<usize>, OpError> {
        let axes = self.axes(dims.len())?;
        if axes.len() != extents.len() {
            return Err(OpError::constraint("shape", format!("{} numbers", axes.len()), extents.len()));
        }
        let mut output = dims.to_vec();
        for (&axis, &extent) in axes.iter().zip(extents) {
            let size = usize::try_from(extent);
            output[axis] = size.map_err(|_| OpError::constraint("shape", "sizes of 0 or more", extent))?;
        }
        element_count(&output).ok_or(OpError::Size)?;
        Ok(output)
    }
}

/// Zeros before and after; elements taken away where negative. An odd one is at the end.
fn sides(from: usize, to: usize) -> Result<(i64, i64), OpError> {
    let (from, to) = (i64::try_from(from), i64::try_from(to));
    let (Ok(from), Ok(to)) = (from, to) else { return Err(OpError::Size) };
    let before = (to - from) / 2;
    Ok((before, to - from - before))
}

impl Operator for CenterCropPad {
    fn name(&self) -> &'static str {
        "CenterCropPad"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, shape) = (required(inputs, 0)?, required(inputs, 1)?);
        sizes::expect_indices(shape.dtype, 1)?;
        let Some(dims) = &x.shape else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let axes = self.axes(dims.len())?;
        if let (Some(dims), Some(extents)) = (x.dims(), shape.integers()) {
            return Ok(vec![Fact::known(x.dtype, &self.dims(&dims, &extents)?)]);
        }
        let extents = sizes::of(shape).filter(|extents| extents.len() == axes.len());
        let mut output = dims.clone();
        for (index, &axis) in axes.iter().enumerate() {
            output[axis] = match &extents {
                Some(extents) => extents[index].clone(),
                None => Dim::named("CenterCropPad.extent"),
            };
        }
        Ok(vec![Fact::new(x.dtype, output)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, shape) = (view(inputs, 0)?, view(inputs, 1)?);
        let dims = self.dims(x.dims, &sizes::integers(&shape, 1)?)?;
        let pads: Result<Vec<_>, _> = x.dims.iter().zip(&dims).map(|(&from, &to)| sides(from, to)).collect();
        let (pads, strides) = (pads?, row_major(x.dims));
        let y = select(&x, &dims, None, |i| {
            let mut from = 0;
            for (axis, at) in coordinates(i, &dims).into_iter().enumerate() {
                let at = usize::try_from(at as i64 - pads[axis].0).ok().filter(|&at| at < x.dims[axis])?;
                from += at * strides[axis];
            }
            Some(from)
        })?;
        Ok(vec![y])
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        let (x, shape) = (required(inputs, 0)?, required(inputs, 1)?);
        let (Some(from), Some(extents)) = (x.dims(), shape.integers()) else { return Ok(Expansion::Stays) };
        if x.dtype.bits() < 8 || matches!(x.dtype, DType::C64 | DType::C128) {
            return Ok(Expansion::Stays);
        }
        let to = self.dims(&from, &extents)?;
        let both: Result<Vec<_>, _> = from.iter().zip(&to).map(|(&from, &to)| sides(from, to)).collect();
        let (before, after): (Vec<i64>, Vec<i64>) = both?.into_iter().unzip();
        let pad = Pad { mode: Mode::Constant, attributes: Some(([before, after].concat(), 0.0)) };
        let mut graph = Composition::default();
        let x = graph.input(0, x);
        let y = graph.node(Arc::new(pad), &[x]);
        Ok(graph.finish(&[y]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_stays() {
        let x = Tensor::from_slice(&[1, 5], &[1i32, 2, 3, 4, 5]).unwrap();
        let op = CenterCropPad { axes: Some(vec![-1]) };
        let of = |extent: i64| {
            let shape = Tensor::from_slice(&[1], &[extent]).unwrap();
            op.reference(&[Some(x.view()), Some(shape.view())], 1).unwrap()[0].to_vec::<i32>().unwrap()
        };
        assert_eq!(of(2), [2, 3]);
        assert_eq!(of(5), [1, 2, 3, 4, 5]);
        assert_eq!(of(8), [0, 1, 2, 3, 4, 5, 0, 0]);
        assert_eq!(of(0), [0i32; 0]);
    }
}
