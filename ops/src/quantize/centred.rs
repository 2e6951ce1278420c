//! Quantized integers without their zero point, and sums of their products as quantized integers again.

use super::ends::Bounds;
use super::granularity::quantized;
use crate::broadcast::{self, Strides};
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::numbers;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;

/// Checks that a type is one of those that products of quantized integers are defined on.
///
/// # Errors
/// When it is neither i8 nor u8.
pub(super) fn expect_bytes(dtype: DType, input: usize) -> Result<(), OpError> {
    match dtype {
        DType::I8 | DType::U8 => Ok(()),
        got => Err(OpError::Type { input, expected: "i8 or u8", got }),
    }
}

/// Dimensions under which a scale or zero point of `dims` broadcasts to a tensor of dimensions `to`: one number stretches
/// to everything, a vector goes along `axis`, and anything else is taken as it is.
///
/// # Errors
/// When they do not fit.
pub(super) fn stretched(dims: &[usize], to: &[usize], axis: usize) -> Result<Vec<usize>, OpError> {
    let all = match dims {
        _ if dims.iter().all(|&dim| dim == 1) => Vec::new(),
        &[count] if axis < to.len() => {
            let mut all = vec![1; to.len() - axis];
            all[0] = count;
            all
        }
        other => other.to_vec(),
    };
    if broadcast::dims(&[&all, to])? != to {
        return Err(OpError::constraint(
            "dimensions of a scale or zero point",
            format!("{to:?}"),
            format!("{dims:?}"),
        ));
    }
    Ok(all)
}

/// `x − zero point` as i32. A vector of zero points goes along `axis`.
///
/// # Errors
/// When types differ, or the zero point does not fit.
pub(super) fn centred(x: &View<'_>, zero_point: Option<View<'_>>, axis: usize) -> Result<Tensor, OpError> {
    let mut values: Vec<i32> = Vec::new();
    values.try_reserve_exact(x.len()).map_err(|_| OpError::Size)?;
    // Bytes fit.
    values.extend(numbers::integers(x)?.into_iter().map(|value| value as i32));
    if let Some(zero_point) = zero_point {
        if zero_point.dtype != x.dtype {
            let expected = x.dtype.name();
            return Err(OpError::constraint("type of a zero point", expected, zero_point.dtype));
        }
        let strides = Strides::new(&stretched(zero_point.dims, x.dims, axis)?, x.dims);
        let zero_points = numbers::integers(&zero_point)?;
        for (i, value) in values.iter_mut().enumerate() {
            let zero_point = zero_points.get(strides.offset(i));
            let zero_point =
                *zero_point.ok_or(OpError::Internal("fewer zero points than the dimensions say"))?;
            *value -= zero_point as i32;
        }
    }
    Ok(Tensor::from_vec(x.dims, values)?)
}

/// A scale with the dimensions under which it broadcasts to the output.
pub(super) struct Scale {
    values: Vec<f64>,
    strides: Strides,
}

impl Scale {
    /// The scale of an operand; a vector goes along `axis` of the output.
    ///
    /// # Errors
    /// When it is no float, or does not fit the output.
    pub fn new(view: &View<'_>, output: &[usize], axis: usize) -> Result<Scale, OpError> {
        let strides = Strides::new(&stretched(view.dims, output, axis)?, output);
        Ok(Scale { values: numbers::floats(view)?, strides })
    }

    /// The scale times a factor.
    pub fn times(mut self, factor: f32) -> Scale {
        self.values.iter_mut().for_each(|value| *value *= f64::from(factor));
        self
    }

    /// The scale for flat output element `i`.
    ///
    /// # Errors
    /// When there are fewer scales than the dimensions say.
    pub fn at(&self, i: usize) -> Result<f32, OpError> {
        let value = self.values.get(self.strides.offset(i));
        value.map(|&x| x as f32).ok_or(OpError::Internal("fewer scales than the dimensions say"))
    }
}

/// The one number of a tensor.
///
/// # Errors
/// When there is another number of them.
pub(super) fn only(values: &[f64], what: &'static str) -> Result<f64, OpError> {
    match values {
        [value] => Ok(*value),
        _ => Err(OpError::constraint(what, "one number", values.len())),
    }
}

/// `round(sum · a · b / y) + zero point` in the type of the zero point and within `bounds`, computed in f32.
///
/// # Errors
/// When an output scale is not one number, or its type is not of one byte.
pub(super) fn requantized(
    sums: &Tensor,
    [a, b]: [&Scale; 2],
    output_scale: &View<'_>,
    zero_point: &View<'_>,
    bounds: Bounds,
) -> Result<Tensor, OpError> {
    let output_scale = only(&numbers::floats(output_scale)?, "output scale")? as f32;
    let own = super::granularity::reals(zero_point)?;
    let own = only(&own, "output zero point")?;
    let range = bounds.within(zero_point.dtype)?;
    let mut values = Vec::with_capacity(sums.len());
    for (i, &sum) in sums.elements::<i32>()?.iter().enumerate() {
        let factor = a.at(i)? * b.at(i)? / output_scale;
        values.push(quantized(f64::from(sum as f32 * factor), own, range));
    }
    numbers::integer_tensor(zero_point.dtype, sums.dims(), &values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_points_go_along_their_axis() {
        let x = Tensor::from_slice(&[2, 3], &[1u8, 2, 3, 4, 5, 255]).unwrap();
        let run = |dims: &[usize], zero_points: &[u8], axis| {
            let zero_point = Tensor::from_slice(dims, zero_points).unwrap();
            centred(&x.view(), Some(zero_point.view()), axis).map(|y| y.to_vec::<i32>().unwrap())
        };
        assert_eq!(run(&[], &[1], 0).unwrap(), [0, 1, 2, 3, 4, 254]);
        assert_eq!(run(&[2], &[1, 10], 0).unwrap(), [0, 1, 2, -6, -5, 245]);
        assert_eq!(run(&[3], &[1, 2, 3], 1).unwrap(), [0, 0, 0, 3, 3, 252]);
        assert_eq!(run(&[2, 1], &[1, 10], 0).unwrap(), [0, 1, 2, -6, -5, 245]);
        assert!(run(&[2], &[1, 2], 1).is_err());
        let signed = Tensor::scalar(1i8);
        assert!(centred(&x.view(), Some(signed.view()), 0).is_err());
    }
}
