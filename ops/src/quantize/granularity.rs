//! Which scale belongs to which element, and the numbers on both sides.

use half::{bf16, f16};

use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::numbers;
use crate::ir::view::View;
use crate::movement::sizes;

/// The part of a tensor that shares a scale and a zero point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Granularity {
    /// All of it.
    Tensor,
    /// What lies at one index of an axis.
    Axis {
        /// The extent of the axis.
        extent: usize,
        /// Elements of the axes behind it.
        inner: usize,
    },
    /// A run of elements along an axis.
    Block {
        /// The extent of the axis.
        extent: usize,
        /// Elements of the axes behind it.
        inner: usize,
        /// Elements of a run; the last may be shorter.
        block: usize,
        /// Runs along the axis.
        blocks: usize,
    },
}

impl Granularity {
    /// What scales of dimensions `scale` say about a tensor of dimensions `dims`. `block` is 0 without blocks.
    ///
    /// # Errors
    /// When they do not belong together.
    pub fn new(dims: &[usize], scale: &[usize], axis: i64, block: i64) -> Result<Granularity, OpError> {
        if scale.len() <= 1 && scale.iter().all(|&count| count == 1) {
            return Ok(Granularity::Tensor);
        }
        let axis = sizes::axis(axis, dims.len())?;
        let (extent, inner) = (dims[axis], dims[axis + 1..].iter().product());
        let block = usize::try_from(block)
            .map_err(|_| OpError::Attribute { name: "block_size", expected: "a positive integer" })?;
        let (expected, granularity) = match block {
            0 => (vec![extent], Granularity::Axis { extent, inner }),
            _ => {
                let blocks = extent.div_ceil(block);
                let mut expected = dims.to_vec();
                expected[axis] = blocks;
                (expected, Granularity::Block { extent, inner, block, blocks })
            }
        };
        if expected != scale {
            let (expected, got) = (format!("{expected:?}"), format!("{scale:?}"));
            return Err(OpError::constraint("dimensions of the scale", expected, got));
        }
        Ok(granularity)
    }

    /// The index of the scale of flat element `i`.
    pub fn scale(&self, i: usize) -> usize {
        match *self {
            Granularity::Tensor => 0,
            Granularity::Axis { extent, inner } => i / inner % extent,
            Granularity::Block { extent, inner, block, blocks } => {
                let (outer, along) = (i / inner / extent, i / inner % extent);
                (outer * blocks + along / block) * inner + i % inner
            }
        }
    }
}

/// The elements of a tensor of any number type.
pub(super) fn reals(view: &View<'_>) -> Result<Vec<f64>, OpError> {
    if view.dtype.is_float() {
        return numbers::floats(view);
    }
    Ok(numbers::integers(view)?.into_iter().map(|x| x as f64).collect())
}

/// The zero points, as many as there are scales; none where absent.
pub(super) fn zero_points(view: Option<View<'_>>, scales: usize) -> Result<Option<Vec<f64>>, OpError> {
    let Some(view) = view else { return Ok(None) };
    if view.len() != scales {
        return Err(OpError::constraint("number of zero points", scales, view.len()));
    }
    Ok(Some(reals(&view)?))
}

/// A number rounded to a float type; unchanged for types that computations are not rounded to.
pub(super) fn rounded(dtype: DType, x: f64) -> f64 {
    match dtype {
        DType::F32 => f64::from(x as f32),
        DType::F16 => f16::from_f64(x).to_f64(),
        DType::BF16 => bf16::from_f64(x).to_f64(),
        _ => x,
    }
}

/// The least and the greatest number of an integer type of at most 16 bits.
pub(super) fn range(dtype: DType) -> Option<(f64, f64)> {
    let bits = dtype.bits() as i32;
    match dtype {
        _ if bits > 16 => None,
        _ if dtype.is_signed_integer() => Some((-2f64.powi(bits - 1), 2f64.powi(bits - 1) - 1.0)),
        _ if dtype.is_unsigned_integer() => Some((0.0, 2f64.powi(bits) - 1.0)),
        _ => None,
    }
}

/// `round(x) + zero point`, held to a range; 0 for NaN.
pub(super) fn quantized(x: f64, zero_point: f64, (least, greatest): (f64, f64)) -> i128 {
    (x.round_ties_even() + zero_point).clamp(least, greatest) as i128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_find_their_scale() {
        let all = |g: Granularity, n: usize| (0..n).map(|i| g.scale(i)).collect::<Vec<_>>();
        let axis = Granularity::new(&[2, 3, 2], &[3], 1, 0).unwrap();
        assert_eq!(all(axis, 12), [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
        let blocks = Granularity::new(&[2, 3, 2], &[2, 2, 2], 1, 2).unwrap();
        assert_eq!(all(blocks, 12), [0, 1, 0, 1, 2, 3, 4, 5, 4, 5, 6, 7]);
        assert_eq!(Granularity::new(&[5], &[1], 7, 0).unwrap(), Granularity::Tensor);
        assert!(Granularity::new(&[2, 3], &[2], 1, 0).is_err());
        assert!(Granularity::new(&[2, 3], &[2, 1], 1, 2).is_err());
        assert!(Granularity::new(&[2, 3], &[3], 1, -1).is_err());
    }

    #[test]
    fn ranges_hold() {
        assert_eq!(range(DType::I2), Some((-2.0, 1.0)));
        assert_eq!(range(DType::U16), Some((0.0, 65535.0)));
        assert_eq!(range(DType::I32), None);
        assert_eq!(quantized(2.5, 1.0, (0.0, 255.0)), 3);
        assert_eq!(quantized(f64::INFINITY, 1.0, (0.0, 255.0)), 255);
        assert_eq!(quantized(f64::NAN, 128.0, (0.0, 255.0)), 0);
    }
}
