//! [`AffineGrid`](https://onnx.ai/onnx/operators/onnx__AffineGrid.html): the coordinates that affine maps take the
//! elements of a tensor to, for [`super::grid_sample`].

use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::assemble::coordinates;
use crate::movement::sizes::{self, required, view};
use crate::operator::Operator;

/// `AffineGrid` for images and volumes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AffineGrid {
    /// -1 and 1 are the centres of the outermost elements, otherwise their outer edges.
    pub align_corners: bool,
}

/// Builds [`AffineGrid`].
///
/// # Errors
/// When there are not two inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(Arc::new(AffineGrid { align_corners: spec.attributes.flag("align_corners", false)? }))
}

/// Of sizes (batch, channels, extents), the batch and the extents.
fn split<T: std::fmt::Debug>(sizes: &[T]) -> Result<(&T, &[T]), OpError> {
    match sizes {
        [batch, _, extents @ ..] if matches!(extents.len(), 2 | 3) => Ok((batch, extents)),
        _ => Err(OpError::constraint("size", "4 or 5 numbers", sizes.len())),
    }
}

impl AffineGrid {
    /// The coordinate of element `i` of `n`.
    fn coordinate(self, i: usize, n: usize) -> f64 {
        match n {
            _ if !self.align_corners => (2.0 * i as f64 + 1.0) / n as f64 - 1.0,
            1 => -1.0,
            n => 2.0 * i as f64 / (n as f64 - 1.0) - 1.0,
        }
    }
}

impl Operator for AffineGrid {
    fn name(&self) -> &'static str {
        "AffineGrid"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (theta, size) = (required(inputs, 0)?, required(inputs, 1)?);
        if !theta.dtype.is_float() {
            return Err(OpError::Type { input: 0, expected: "a float type", got: theta.dtype });
        }
        sizes::expect_indices(size.dtype, 1)?;
        if let Some(sizes) = sizes::of(size) {
            let (batch, extents) = split(&sizes)?;
            let axes = Dim::Known(extents.len());
            let shape = [std::slice::from_ref(batch), extents, &[axes]].concat();
            return Ok(vec![Fact::new(theta.dtype, shape)]);
        }
        let axes =
            theta.shape.as_ref().and_then(|dims| dims.get(1)?.known()).filter(|axes| (2..4).contains(axes));
        let Some(axes) = axes else { return Ok(vec![Fact::unranked(theta.dtype)]) };
        let mut shape: Vec<Dim> = (0..=axes).map(|axis| Dim::named(&format!("AffineGrid.{axis}"))).collect();
        shape.push(Dim::Known(axes));
        Ok(vec![Fact::new(theta.dtype, shape)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (theta, size) = (view(inputs, 0)?, view(inputs, 1)?);
        let size = sizes::integers(&size, 1)?;
        let natural: Option<Vec<usize>> = size.iter().map(|&n| usize::try_from(n).ok()).collect();
        let natural = natural
            .ok_or_else(|| OpError::constraint("size", "numbers of 0 or more", format!("{size:?}")))?;
        let (&batch, extents) = split(&natural)?;
        let axes = extents.len();
        if theta.dims != [batch, axes, axes + 1] {
            let expected = format!("[{batch}, {axes}, {}]", axes + 1);
            return Err(OpError::constraint("dimensions of theta", expected, format!("{:?}", theta.dims)));
        }
        let dims = [&[batch], extents, &[axes]].concat();
        let (maps, mut results) = (floats(&theta)?, filled(&dims, 0.0)?);
        let points: usize = extents.iter().product();
        for (index, result) in results.chunks_exact_mut(axes).enumerate() {
            // Coordinates stand innermost axis first.
            let at = coordinates(index % points, extents);
            let place = at.iter().zip(extents).rev().map(|(&i, &n)| self.coordinate(i, n));
            let place: Vec<f64> = place.chain([1.0]).collect();
            let map = &maps[index / points * axes * (axes + 1)..];
            for (slot, row) in result.iter_mut().zip(map.chunks_exact(axes + 1)) {
                *slot = row.iter().zip(&place).map(|(a, b)| a * b).sum();
            }
        }
        Ok(vec![float_tensor(theta.dtype, &dims, &results)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_and_turned_grid() {
        // x' = y + 0.5, y' = x
        let theta = Tensor::from_slice(&[1, 2, 3], &[0f32, 1.0, 0.5, 1.0, 0.0, 0.0]).unwrap();
        let size = Tensor::from_slice(&[4], &[1i64, 1, 1, 2]).unwrap();
        let of = |align_corners| {
            let inputs = [Some(theta.view()), Some(size.view())];
            let y = AffineGrid { align_corners }.reference(&inputs, 1).unwrap().remove(0);
            assert_eq!(y.dims(), [1, 1, 2, 2]);
            y.to_vec::<f32>().unwrap()
        };
        assert_eq!(of(false), [0.5, -0.5, 0.5, 0.5]);
        assert_eq!(of(true), [-0.5, -1.0, -0.5, 1.0]);
    }
}
