//! What becomes of sums of products of quantized integers on the CPU: integers of a byte, or numbers.
//!
//! Each end computes what the references compute, operation by operation, so that both give the same bytes.

use super::centred::{Scale, only};
use super::granularity::{range, reals};
use crate::cpu::integer::End;
use crate::cpu::math::ROUND;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::numbers;
use crate::ir::view::View;
use crate::movement::sizes::{optional, view};
use crate::problem::Problem;

/// Which inputs of an operator say what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// The first factor, or the image.
    pub x: usize,
    /// The second factor, or the weights.
    pub w: usize,
    /// Zero point of the first factor.
    pub x_zero: usize,
    /// Zero point of the second.
    pub w_zero: usize,
    /// The scales of both.
    pub scales: Option<[usize; 2]>,
    /// Scale and zero point of the output.
    pub output: Option<[usize; 2]>,
    /// What is added to the sums.
    pub bias: Option<usize>,
}

/// Whether what goes with the sums has one number for everything, or, if it belongs to the second factor, one for each of
/// its `channels`.
pub(super) fn fits(problem: &Problem<'_>, places: &Places, channels: usize) -> bool {
    let input = |index: usize| problem.input(index);
    let one = |index: usize| input(index).is_none_or(|operand| operand.len() == 1);
    let each = |index: usize| {
        input(index).is_none_or(|operand| match operand.dims {
            dims if dims.iter().all(|&dim| dim == 1) => true,
            &[count] => count == channels,
            _ => false,
        })
    };
    let scales = places.scales.is_none_or(|[x, w]| one(x) && each(w));
    let output = places.output.is_none_or(|[scale, zero]| one(scale) && one(zero));
    let bytes = [places.x, places.w].iter().all(|&index| input(index).is_some_and(|x| is_byte(x.dtype)));
    let alike = |zero: usize, of: usize| {
        input(zero).is_none_or(|zero| input(of).is_some_and(|of| of.dtype == zero.dtype))
    };
    one(places.x_zero)
        && each(places.w_zero)
        && scales
        && output
        && bytes
        && alike(places.x_zero, places.x)
        && alike(places.w_zero, places.w)
        && places.bias.is_none_or(each)
}

/// One of the two integers of a byte.
pub(super) fn is_byte(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8)
}

/// The zero point of each channel; one where it is one for all, or absent.
///
/// # Errors
/// When it is no integer.
pub(super) fn zeros(view: Option<View<'_>>) -> Result<Vec<i16>, OpError> {
    let Some(view) = view else { return Ok(vec![0]) };
    // Bytes fit.
    Ok(numbers::integers(&view)?.into_iter().map(|zero| zero as i16).collect())
}

/// Numbers for each channel, and room for a whole vector behind.
fn spread<T: Copy>(count: usize, each: impl Fn(usize) -> Result<T, OpError>) -> Result<Vec<T>, OpError> {
    let mut all: Vec<T> = (0..count).map(&each).collect::<Result<_, _>>()?;
    if let Some(&last) = all.last() {
        all.resize(count + 8, last);
    }
    Ok(all)
}

/// The product of both scales for each channel, times `factor`.
fn factors(
    inputs: &[Option<View<'_>>],
    places: &Places,
    channels: usize,
    factor: f32,
) -> Result<Vec<f32>, OpError> {
    let [x, w] = places.scales.ok_or(OpError::Internal("sums without scales"))?;
    let x = Scale::new(&view(inputs, x)?, &[channels], 0)?.times(factor);
    let w = Scale::new(&view(inputs, w)?, &[channels], 0)?;
    spread(channels, |channel| Ok(x.at(channel)? * w.at(channel)?))
}

/// The i32 bias of each channel; zeros where there is none.
fn biases(inputs: &[Option<View<'_>>], places: &Places, channels: usize) -> Result<Vec<i32>, OpError> {
    let Some(bias) = places.bias.and_then(|index| optional(inputs, index)) else {
        return spread(channels, |_| Ok(0));
    };
    let bias = numbers::integers(&bias)?;
    let short = OpError::Internal("a bias that is too short");
    // An i32 fits.
    spread(channels, |channel| {
        let one = if bias.len() == 1 { bias.first() } else { bias.get(channel) };
        one.map(|&bias| bias as i32).ok_or(short.clone())
    })
}

/// Integers of a byte again. Channels are the rows of the product, or its columns.
pub(super) struct Requantized<const ROWS: bool> {
    factors: Vec<f32>,
    biases: Vec<i32>,
    zero: f32,
    least: f32,
    greatest: f32,
}

impl<const ROWS: bool> Requantized<ROWS> {
    /// `bounds` narrow the range of the output.
    ///
    /// # Errors
    /// When an input is missing or has another type.
    pub fn new(
        inputs: &[Option<View<'_>>],
        places: &Places,
        channels: usize,
        factor: f32,
        bounds: Bounds,
    ) -> Result<Self, OpError> {
        let [scale, zero] = places.output.ok_or(OpError::Internal("an output without a scale"))?;
        let output_scale = only(&numbers::floats(&view(inputs, scale)?)?, "output scale")? as f32;
        let zero = view(inputs, zero)?;
        let (least, greatest) = bounds.within(zero.dtype)?;
        let mut factors = factors(inputs, places, channels, factor)?;
        for factor in &mut factors {
            *factor /= output_scale;
            if factor.is_nan() {
                // Of all NaNs the one whose low bits are 0.
                *factor = f32::NAN;
            }
        }
        Ok(Requantized {
            factors,
            biases: biases(inputs, places, channels)?,
            zero: only(&reals(&zero)?, "output zero point")? as f32,
            least: least as f32,
            greatest: greatest as f32,
        })
    }
}

impl Requantized<false> {
    /// Takes something off the sums of each channel first.
    pub fn take_off(&mut self, excess: impl Fn(usize) -> i32) {
        let count = self.biases.len().saturating_sub(8);
        let each = self.biases.iter_mut().take(count).enumerate();
        each.for_each(|(channel, bias)| *bias = bias.wrapping_sub(excess(channel)));
    }

    /// The factors and biases of eight channels.
    #[inline(always)]
    pub fn eight_at(&self, channel: usize) -> ([f32; 8], [i32; 8]) {
        (run(&self.factors, channel), run(&self.biases, channel))
    }
}

impl<const ROWS: bool> Requantized<ROWS> {
    /// Every factor is a finite number.
    pub fn is_finite(&self) -> bool {
        self.factors.iter().all(|factor| factor.is_finite())
    }

    /// The factor of each channel.
    pub fn factors(&self, channels: usize) -> &[f32] {
        self.factors.get(..channels).unwrap_or(&[])
    }

    /// Zero point, least and greatest result.
    pub fn range(&self) -> [f32; 3] {
        [self.zero, self.least, self.greatest]
    }
}

/// The part of the range of a quantized type that results are held to: what Relu or Clip leave of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// The least result.
    pub least: i16,
    /// The greatest result.
    pub greatest: i16,
}

impl Bounds {
    /// All of it.
    pub const NONE: Bounds = Bounds { least: i16::MIN, greatest: i16::MAX };

    /// The range of a type within the bounds.
    ///
    /// # Errors
    /// When the type is no small integer.
    pub(super) fn within(self, dtype: DType) -> Result<(f64, f64), OpError> {
        let (least, greatest) =
            range(dtype).ok_or(OpError::Internal("a zero point that is no small integer"))?;
        let held = |bound: i16| f64::from(bound).clamp(least, greatest);
        Ok((held(self.least), held(self.greatest)))
    }
}

/// A run of eight from `column` on.
#[inline(always)]
fn run<T: Copy + Default>(all: &[T], column: usize) -> [T; 8] {
    all.get(column..).and_then(<[T]>::first_chunk::<8>).copied().unwrap_or_default()
}

impl<const ROWS: bool> End<u8> for Requantized<ROWS> {
    #[inline(always)]
    fn eight(&self, row: usize, column: usize, sums: [i32; 8]) -> [u8; 8] {
        let (factors, biases) = if ROWS {
            let at = row.min(self.factors.len().saturating_sub(1));
            (
                [self.factors.get(at).copied().unwrap_or(0.0); 8],
                [self.biases.get(at).copied().unwrap_or(0); 8],
            )
        } else {
            (run(&self.factors, column), run(&self.biases, column))
        };
        let (low, high) = (self.least - self.zero, self.greatest - self.zero);
        let mut bytes = [0; 8];
        for i in 0..8 {
            let value = sums[i].wrapping_add(biases[i]) as f32 * factors[i];
            // Rounding keeps the order, so what is limited to integers first rounds to the same.
            let value = if value < low { low } else { value };
            let value = if value > high { high } else { value };
            let rounded = value + ROUND - ROUND;
            // Exact. The low bits of NaN are 0, as in the reference.
            bytes[i] = (rounded + self.zero + ROUND).to_bits() as u8;
        }
        bytes
    }
}

/// How sums become numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rounding {
    /// An i32 bias first, then one product in f32.
    Product,
    /// Product and f32 bias exactly, rounded once.
    Once,
    /// Sum, product and f32 bias, each rounded.
    Steps,
}

/// Numbers; channels are the columns of the product.
pub(super) struct Numbers {
    factors: Vec<f32>,
    biases: Vec<i32>,
    addends: Vec<f32>,
    rounding: Rounding,
}

impl Numbers {
    /// # Errors
    /// When an input is missing or has another type.
    pub fn new(
        inputs: &[Option<View<'_>>],
        places: &Places,
        channels: usize,
        factor: f32,
        rounding: Rounding,
    ) -> Result<Numbers, OpError> {
        let factors = factors(inputs, places, channels, factor)?;
        let (mut all_biases, mut addends) = (spread(channels, |_| Ok(0))?, Vec::new());
        match (rounding, places.bias.and_then(|index| optional(inputs, index))) {
            (Rounding::Product, _) => all_biases = biases(inputs, places, channels)?,
            (Rounding::Once | Rounding::Steps, Some(bias)) => {
                let bias = Scale::new(&bias, &[channels], 0)?;
                addends = spread(channels, |channel| bias.at(channel))?;
            }
            (Rounding::Once | Rounding::Steps, None) => {}
        }
        Ok(Numbers { factors, biases: all_biases, addends, rounding })
    }
}

impl End<f32> for Numbers {
    #[inline(always)]
    fn eight(&self, _row: usize, column: usize, sums: [i32; 8]) -> [f32; 8] {
        let (factors, mut numbers) = (run(&self.factors, column), [0.0; 8]);
        match self.rounding {
            Rounding::Product => {
                let biases = run(&self.biases, column);
                for i in 0..8 {
                    numbers[i] = sums[i].wrapping_add(biases[i]) as f32 * factors[i];
                }
            }
            Rounding::Steps => {
                let addends = run(&self.addends, column);
                for i in 0..8 {
                    numbers[i] = sums[i] as f32 * factors[i];
                }
                if !self.addends.is_empty() {
                    for i in 0..8 {
                        numbers[i] += addends[i];
                    }
                }
            }
            Rounding::Once if self.addends.is_empty() => {
                for i in 0..8 {
                    numbers[i] = (f64::from(sums[i]) * f64::from(factors[i])) as f32;
                }
            }
            Rounding::Once => {
                let addends = run(&self.addends, column);
                for i in 0..8 {
                    let product = f64::from(sums[i]) * f64::from(factors[i]);
                    numbers[i] = (product + f64::from(addends[i])) as f32;
                }
            }
        }
        numbers
    }
}
