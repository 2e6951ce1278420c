//! Scales and biases: tensors that stretch over what was normalised.

use std::ops::Range;

use crate::broadcast::{self, Strides};
use crate::error::OpError;

/// How scales and biases lie over the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stretch {
    /// As ONNX broadcasts.
    Trailing,
    /// One number for each channel, dimension 1.
    Channels,
    /// One number for each of so many groups of neighbouring channels.
    Groups(usize),
}

impl Stretch {
    /// The dimensions of the parameter and of the output, over which it broadcasts as ONNX defines it.
    ///
    /// # Errors
    /// When the parameter does not fit.
    pub fn views(self, parameter: &[usize], output: &[usize]) -> Result<(Vec<usize>, Vec<usize>), OpError> {
        let count = match self {
            Stretch::Trailing => {
                if broadcast::dims(&[parameter, output])? != output {
                    let got = format!("{parameter:?}");
                    return Err(OpError::constraint("scale or bias", format!("within {output:?}"), got));
                }
                return Ok((parameter.to_vec(), output.to_vec()));
            }
            Stretch::Channels => output.get(1).copied().unwrap_or(1),
            Stretch::Groups(groups) => groups,
        };
        if parameter != [count] {
            return Err(OpError::constraint("scale or bias", format!("[{count}]"), format!("{parameter:?}")));
        }
        let batch = output.first().copied().unwrap_or(1);
        let rest = output.iter().skip(1).product::<usize>().checked_div(count).unwrap_or(0);
        Ok((vec![count, 1], vec![batch, count, rest]))
    }
}

/// A parameter's numbers, and which of them belongs to an element of the output.
pub(super) struct Parameter<'a> {
    values: &'a [f32],
    strides: &'a Strides,
}

/// Elements of the output that take their numbers in a simple way.
pub(super) enum Run<'a> {
    /// All the same.
    One(f32),
    /// One after the other.
    Each(&'a [f32]),
}

impl<'a> Parameter<'a> {
    pub(super) fn new(values: &'a [f32], strides: &'a Strides) -> Parameter<'a> {
        Parameter { values, strides }
    }

    /// Calls `visit` for stretches of the `len` elements from `start` on.
    pub(super) fn runs(&self, start: usize, len: usize, mut visit: impl FnMut(Range<usize>, Run<'a>)) {
        let (Some(&size), Some(&stride)) = (self.strides.dims.first(), self.strides.strides.first()) else {
            return visit(0..len, Run::One(self.values[0]));
        };
        let mut i = 0;
        while i < len {
            let offset = self.strides.offset(start + i);
            let left = (size - (start + i) % size).min(len - i);
            match stride {
                0 => visit(i..i + left, Run::One(self.values[offset])),
                _ => visit(i..i + left, Run::Each(&self.values[offset..offset + left])),
            }
            i += left;
        }
    }

    /// Multiplies the elements from `start` on by this parameter.
    pub(super) fn scale(&self, y: &mut [f32], start: usize) {
        self.runs(start, y.len(), |range, run| match run {
            Run::One(scale) => y[range].iter_mut().for_each(|y| *y *= scale),
            Run::Each(scales) => y[range].iter_mut().zip(scales).for_each(|(y, scale)| *y *= scale),
        });
    }

    /// Adds this parameter to the elements from `start` on.
    pub(super) fn add(&self, y: &mut [f32], start: usize) {
        self.runs(start, y.len(), |range, run| match run {
            Run::One(bias) => y[range].iter_mut().for_each(|y| *y += bias),
            Run::Each(biases) => y[range].iter_mut().zip(biases).for_each(|(y, bias)| *y += bias),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(stretch: Stretch, dims: &[usize], output: &[usize]) -> Vec<f32> {
        let (dims, output) = stretch.views(dims, output).unwrap();
        let strides = Strides::new(&dims, &output);
        let values: Vec<f32> = (0..dims.iter().product::<usize>()).map(|i| i as f32).collect();
        let mut y = vec![0.0; output.iter().product()];
        let half = y.len() / 2;
        let parameter = Parameter::new(&values, &strides);
        parameter.add(&mut y[..half], 0);
        parameter.add(&mut y[half..], half);
        y
    }

    #[test]
    fn parameters_stretch_over_the_output() {
        assert_eq!(
            spread(Stretch::Channels, &[2], &[2, 2, 3]),
            [0., 0., 0., 1., 1., 1., 0., 0., 0., 1., 1., 1.]
        );
        assert_eq!(spread(Stretch::Groups(2), &[2], &[1, 4, 2]), [0., 0., 0., 0., 1., 1., 1., 1.]);
        assert_eq!(spread(Stretch::Trailing, &[3], &[2, 3]), [0., 1., 2., 0., 1., 2.]);
        assert_eq!(spread(Stretch::Trailing, &[2, 1], &[2, 3]), [0., 0., 0., 1., 1., 1.]);
        assert_eq!(spread(Stretch::Trailing, &[], &[2, 1]), [0., 0.]);
        assert!(Stretch::Channels.views(&[3], &[1, 4, 2]).is_err());
        assert!(Stretch::Trailing.views(&[2, 3], &[3]).is_err());
    }
}
