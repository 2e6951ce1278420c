//! Which input elements make an output element along one axis of a resize, and with what weights.

use crate::error::OpError;

/// How elements are interpolated.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Mode {
    /// The nearest element.
    Nearest(Nearest),
    /// The two beside.
    Linear,
    /// The four around, by a cubic with this coefficient.
    Cubic(f32),
}

/// Which element is the nearest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nearest {
    /// The nearer one, of two the lower.
    RoundPreferFloor,
    /// The nearer one, of two the upper.
    RoundPreferCeil,
    /// The one below.
    Floor,
    /// The one above.
    Ceil,
    /// The one below, or when the axis shrinks the one above: what runtimes did before opset 11.
    FloorOrCeil,
}

/// How output coordinates become input coordinates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transform {
    /// Centres of elements lie at halves.
    HalfPixel,
    /// The same, shifted so that the centres of input and output agree.
    HalfPixelSymmetric,
    /// Half pixels, but an output of one element takes the first.
    PytorchHalfPixel,
    /// First and last elements agree.
    AlignCorners,
    /// Elements lie at integers.
    Asymmetric,
    /// Half pixels without the shift back, for nearest elements.
    TfHalfPixelForNn,
    /// The region of interest spans the output.
    TfCropAndResize,
}

/// One axis of a resize.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Resized {
    /// Elements of the input.
    pub input: usize,
    /// Elements of the output.
    pub output: usize,
    /// Output elements per input element.
    pub scale: f64,
    /// The output's extent before it was rounded down.
    pub width: f64,
    /// Start and end of the region of interest, as fractions of the axis.
    pub region: (f64, f64),
}

/// What all axes of a resize have in common.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Method {
    /// Interpolation.
    pub mode: Mode,
    /// Coordinates.
    pub transform: Transform,
    /// Shrinking averages over all elements that it skips.
    pub antialias: bool,
    /// Elements outside do not take part; otherwise the outermost ones repeat.
    pub exclude_outside: bool,
}

/// Input elements and weights for each output element of an axis: `taps` of them in a row.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    /// Input elements per output element.
    pub taps: usize,
    /// Input elements; -1 where the output takes the extrapolation value.
    pub index: Vec<i32>,
    /// Their weights.
    pub weight: Vec<f64>,
}

impl Resized {
    /// The input coordinate of output element `x`; `None` outside a region that is cropped.
    fn coordinate(&self, x: usize, transform: Transform) -> Option<f64> {
        let (n, x) = (self.input as f64, x as f64);
        let half = (x + 0.5) / self.scale - 0.5;
        Some(match transform {
            Transform::HalfPixel => half,
            Transform::HalfPixelSymmetric => n / 2.0 * (1.0 - self.output as f64 / self.width) + half,
            Transform::PytorchHalfPixel if self.output > 1 => half,
            Transform::PytorchHalfPixel => 0.0,
            Transform::AlignCorners if self.width == 1.0 => 0.0,
            Transform::AlignCorners => x * (n - 1.0) / (self.width - 1.0),
            Transform::Asymmetric => x / self.scale,
            Transform::TfHalfPixelForNn => (x + 0.5) / self.scale,
            Transform::TfCropAndResize => {
                let (start, end) = self.region;
                let at = if self.width == 1.0 {
                    0.5 * (start + end) * (n - 1.0)
                } else {
                    start * (n - 1.0) + x * (end - start) * (n - 1.0) / (self.width - 1.0)
                };
                return (0.0..=n - 1.0).contains(&at).then_some(at);
            }
        })
    }

    /// Every output element is the input element at its place.
    pub fn is_identity(&self, transform: Transform) -> bool {
        self.input == self.output
            && (self.scale - 1.0).abs() <= 1e-9
            && (transform != Transform::TfCropAndResize || self.region == (0.0, 1.0))
    }

    /// The table of this axis.
    ///
    /// # Errors
    /// When it is beyond memory.
    pub fn table(&self, method: &Method) -> Result<Table, OpError> {
        let shrink = if method.antialias { self.scale.min(1.0) } else { 1.0 };
        // The first tap, counted from the element left of the coordinate; there are as many on both sides.
        let first = match method.mode {
            Mode::Nearest(_) => 0,
            Mode::Linear => (-1.0 / shrink).floor() as i64 + 1,
            Mode::Cubic(_) => (-2.0 / shrink).floor() as i64 + 1,
        };
        let taps = match method.mode {
            Mode::Nearest(_) => 1,
            _ => usize::try_from(2 - 2 * first).map_err(|_| OpError::Size)?,
        };
        let count = self.output.checked_mul(taps).filter(|&n| n <= 1 << 28).ok_or(OpError::Size)?;
        let mut table = Table { taps, index: Vec::with_capacity(count), weight: Vec::with_capacity(count) };
        let last = i64::try_from(self.input).map_err(|_| OpError::Size)? - 1;
        let clamp = |at: i64| i32::try_from(at.clamp(0, last.max(0))).unwrap_or(i32::MAX);
        for x in 0..self.output {
            let Some(at) = self.coordinate(x, method.transform) else {
                table.index.extend(std::iter::repeat_n(-1, taps));
                table.weight.extend(std::iter::repeat_n(0.0, taps));
                continue;
            };
            if let Mode::Nearest(nearest) = method.mode {
                let near = match nearest {
                    Nearest::RoundPreferFloor => (at - 0.5).ceil(),
                    Nearest::RoundPreferCeil => (at + 0.5).floor(),
                    Nearest::FloorOrCeil if self.scale < 1.0 => at.ceil(),
                    Nearest::Floor | Nearest::FloorOrCeil => at.floor(),
                    Nearest::Ceil => at.ceil(),
                };
                table.index.push(clamp(near as i64));
                table.weight.push(1.0);
                continue;
            }
            // The fraction lies above 0, up to 1: a coordinate on an element belongs to the interval left of it.
            let left = at.ceil() as i64 - 1;
            let fraction = at - left as f64;
            let from = table.weight.len();
            for tap in first..first + taps as i64 {
                let distance = ((tap as f64 - fraction) * shrink).abs();
                let outside = !(0..=last).contains(&(left + tap));
                let weight = match method.mode {
                    Mode::Cubic(a) => cubic(distance, f64::from(a)),
                    _ => (1.0 - distance).max(0.0),
                };
                table.weight.push(if outside && method.exclude_outside { 0.0 } else { weight });
                table.index.push(clamp(left + tap));
            }
            if method.antialias || method.exclude_outside {
                let sum: f64 = table.weight[from..].iter().sum();
                if sum != 0.0 {
                    table.weight[from..].iter_mut().for_each(|weight| *weight /= sum);
                }
            }
        }
        Ok(table)
    }
}

/// The cubic convolution kernel with coefficient `a` at a distance of 0 or more.
pub(super) fn cubic(x: f64, a: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(input: usize, output: usize) -> Resized {
        let scale = output as f64 / input as f64;
        Resized { input, output, scale, width: output as f64, region: (0.0, 1.0) }
    }

    fn method(mode: Mode, transform: Transform) -> Method {
        Method { mode, transform, antialias: false, exclude_outside: false }
    }

    #[test]
    fn nearest_elements() {
        let index = |nearest, transform, input, output| {
            axis(input, output).table(&method(Mode::Nearest(nearest), transform)).unwrap().index
        };
        use {Nearest as N, Transform as T};
        assert_eq!(index(N::RoundPreferFloor, T::HalfPixel, 2, 6), [0, 0, 0, 1, 1, 1]);
        assert_eq!(index(N::Floor, T::Asymmetric, 3, 6), [0, 0, 1, 1, 2, 2]);
        assert_eq!(index(N::Ceil, T::HalfPixel, 2, 4), [0, 1, 1, 1]);
        assert_eq!(index(N::RoundPreferCeil, T::AlignCorners, 3, 5), [0, 1, 1, 2, 2]);
        assert_eq!(index(N::RoundPreferFloor, T::AlignCorners, 3, 5), [0, 0, 1, 1, 2]);
    }

    #[test]
    fn linear_weights() {
        let table = axis(2, 4).table(&method(Mode::Linear, Transform::HalfPixel)).unwrap();
        assert_eq!(table.index, [0, 0, 0, 1, 0, 1, 1, 1]);
        assert_eq!(table.weight[2..6], [0.75, 0.25, 0.25, 0.75]);
        let shrunk = Method { antialias: true, ..method(Mode::Linear, Transform::HalfPixel) };
        let table = axis(4, 2).table(&shrunk).unwrap();
        assert_eq!(table.taps, 4);
        assert_eq!(table.weight[..4], [0.125, 0.375, 0.375, 0.125]);
        assert_eq!(table.index[..4], [0, 0, 1, 2]);
    }

    #[test]
    fn cubic_weights_sum_to_one() {
        for exclude_outside in [false, true] {
            let method = Method { exclude_outside, ..method(Mode::Cubic(-0.75), Transform::HalfPixel) };
            let table = axis(5, 13).table(&method).unwrap();
            for weights in table.weight.chunks(table.taps) {
                assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
        assert_eq!([cubic(0.0, -0.75), cubic(1.0, -0.75), cubic(2.0, -0.75)], [1.0, 0.0, 0.0]);
    }
}
