//! Convolutions of quantized integers over values whose channels lie in blocks.

mod dense;
mod depthwise;
#[cfg(target_arch = "x86_64")]
mod ending;
mod fours;
mod micro;
mod pairs;
mod rows;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use dense::DenseKernel;
use depthwise::DepthwiseKernel;
use fours::Fours;
use pairs::Pairs;

use super::conv_cpu::first;
use super::ends::{Bounds, Requantized, fits, is_byte, zeros};
use super::qlinear_conv::{PLACES, QLinearConv};
use crate::conv::blocked::Form;
use crate::conv::window::Sizes;
use crate::cpu::integer::Arithmetic;
use crate::cpu::integer::bytes::{self, Bytes};
use crate::cpu::integer::words::{Wide, Words, widen};
use crate::cpu::vector::{Isa, LANES};
use crate::error::OpError;
use crate::ir::dim::from_known;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::{View, ViewMut};
use crate::layout::{Blocking, Source};
use crate::movement::sizes::{optional, view};
use crate::operator::{Cost, CpuKernel, Operator};
use crate::problem::Problem;

/// A quantized convolution over values in blocks, everything but its image constant.
#[derive(Clone, Debug)]
struct BlockedConv {
    conv: QLinearConv,
    /// The inputs of the convolution; none for the image.
    constants: Vec<Option<Tensor>>,
    /// The type of the output.
    dtype: DType,
    /// Dimensions of the input when it is not in blocks.
    input: Vec<usize>,
    /// Dimensions of the output when it is not in blocks.
    output: Vec<usize>,
    form: Form,
    sizes: Sizes,
}

/// Elements of input rows beyond which a tile's scratch memory is out of proportion, as with dilations of thousands.
const LARGEST: usize = 1 << 22;

/// How a convolution works in blocks: where its channels fill them, or only those of one side, all that goes with the image
/// is constant, and the weights have one zero point.
pub(super) fn blocking(
    conv: &QLinearConv,
    sizes: Sizes,
    problem: &Problem<'_>,
    block: usize,
    blocked: &[bool],
) -> Option<Blocking> {
    let (x, output) = (problem.input(PLACES.x)?, problem.outputs.first()?);
    let constants = problem.inputs.iter().enumerate().map(|(index, input)| match input {
        Some(operand) if index != PLACES.x => operand.value.map(|value| Some(value.clone())),
        _ => Some(None),
    });
    let constants: Vec<Option<Tensor>> = constants.collect::<Option<_>>()?;
    let fit = block == LANES && fits(problem, &PLACES, sizes.groups * sizes.outputs);
    let zero = constants.get(PLACES.w_zero).and_then(Option::as_ref);
    let alike = zero.is_none_or(|zero| zero.bytes().windows(2).all(|pair| pair[0] == pair[1]));
    if !fit || !alike || !is_byte(output.dtype) || output.is_empty() {
        return None;
    }
    let there = blocked.get(PLACES.x).copied().unwrap_or(false);
    let form = Form::of(&sizes, x.dims, output.dims, there)?;
    let (_, rows) = if sizes.groups == 1 {
        dense::tiles(&sizes, form, Bytes::STEP)
    } else {
        depthwise::tiles(&sizes, Bytes::STEP)
    };
    if rows.len() > LARGEST {
        return None;
    }
    let source = if form.input { Source::Blocked(PLACES.x) } else { Source::Plain(PLACES.x) };
    let (dtype, input, output) = (output.dtype, x.dims.to_vec(), output.dims.to_vec());
    let op = BlockedConv { conv: conv.clone(), constants, dtype, input, output, form, sizes };
    Some(Blocking { op: Arc::new(op), inputs: vec![source], output: form.output })
}

impl BlockedConv {
    fn aligned(&self) -> Vec<Option<Tensor>> {
        self.constants.iter().map(|constant| constant.clone().map(Tensor::aligned)).collect()
    }

    /// `as_bytes`: dense convolutions multiply bytes as they are, where the weights fit.
    fn kernel(&self, signed: bool, isa: Isa, as_bytes: bool) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let all = self.aligned();
        let inputs: Vec<Option<View<'_>>> = all.iter().map(|x| x.as_ref().map(Tensor::view)).collect();
        let zero = |index: usize| -> Result<i16, OpError> {
            Ok(zeros(optional(&inputs, index))?.first().copied().unwrap_or(0))
        };
        let Some(Some(tensor)) = self.constants.get(PLACES.w) else { return Ok(None) };
        let constants = Constants {
            tensor,
            weights: view(&inputs, PLACES.w)?,
            zero: zero(PLACES.w_zero)?,
            image: Image { signed, zero: zero(PLACES.x_zero)? },
            bounds: self.conv.bounds,
            inputs: &inputs,
        };
        let (sizes, form) = (self.sizes, self.form);
        // What is no number is the business of the longer ending.
        let narrow = constants.fit_bytes();
        let as_bytes = as_bytes && narrow && constants.end(sizes.groups * sizes.outputs, 0, 0)?.is_finite();
        if sizes.groups == 1 {
            return Ok(Some(match (as_bytes, narrow) {
                (true, _) => Box::new(DenseKernel::<Bytes>::new(sizes, form, isa, &constants)?),
                (_, true) => Box::new(DenseKernel::<Words<i8>>::new(sizes, form, isa, &constants)?),
                (_, false) => Box::new(DenseKernel::<Wide>::new(sizes, form, isa, &constants)?),
            }));
        }
        let fours = if as_bytes { Fours::new(&sizes, isa, &constants) } else { None };
        Ok(Some(match fours {
            Some(fours) => Box::new(DepthwiseKernel::new(sizes, isa, fours, &constants)?),
            None => {
                Box::new(DepthwiseKernel::new(sizes, isa, Pairs::new(&sizes, isa, &constants), &constants)?)
            }
        }))
    }
}

/// The bytes of an image.
#[derive(Clone, Copy, Debug)]
struct Image {
    signed: bool,
    /// What stands for 0.
    zero: i16,
}

/// What goes with the image.
struct Constants<'a> {
    tensor: &'a Tensor,
    weights: View<'a>,
    /// The zero point of the weights.
    zero: i16,
    image: Image,
    bounds: Bounds,
    /// All inputs of the convolution but the image.
    inputs: &'a [Option<View<'a>>],
}

impl Constants<'_> {
    /// The weights of an output channel without their zero point, of which there are `len`.
    fn weights(&self, channel: usize, len: usize) -> Vec<i16> {
        let mut all = vec![0; len];
        let bytes = self.weights.bytes.get(channel * len..(channel + 1) * len).unwrap_or(&[]);
        widen(bytes, self.weights.dtype == DType::I8, self.zero, &mut all);
        all
    }

    /// Weights of this type without this zero point fit eight bits.
    fn fit_bytes(&self) -> bool {
        self.zero == if self.weights.dtype == DType::I8 { 0 } else { 128 }
    }

    /// What becomes of the sums of so many channels over `len` weights each, from an image whose bytes still have this zero
    /// point.
    fn end(&self, channels: usize, len: usize, remains: i32) -> Result<Requantized<false>, OpError> {
        let mut end = Requantized::new(self.inputs, &PLACES, channels, 1.0, self.bounds)?;
        if remains != 0 {
            end.take_off(|channel| {
                let sum = self.weights(channel, len).into_iter().map(i32::from).fold(0, i32::wrapping_add);
                sum.wrapping_mul(remains)
            });
        }
        Ok(end)
    }
}

/// The bytes of the image, and those of the output.
///
/// # Errors
/// When one is missing.
fn operands<'a>(
    inputs: &[Option<View<'a>>],
    outputs: &'a mut [ViewMut<'_>],
) -> Result<(&'a [u8], &'a mut [u8]), OpError> {
    Ok((view(inputs, 0)?.bytes, first(outputs)?.bytes))
}

impl Operator for BlockedConv {
    fn name(&self) -> &'static str {
        self.conv.name()
    }

    fn infer(&self, _inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::new(self.dtype, from_known(&self.form.output_dims(&self.output)))])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let all = self.aligned();
        self.form.reference([&self.input, &self.output], view(inputs, 0)?, |x| {
            let mut views: Vec<Option<View<'_>>> = all.iter().map(|x| x.as_ref().map(Tensor::view)).collect();
            if let Some(slot) = views.get_mut(PLACES.x) {
                *slot = Some(x);
            }
            self.conv.reference(&views, 1)
        })
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let Some(x) = problem.input(0) else { return Ok(None) };
        self.kernel(x.dtype == DType::I8, Isa::detect(), bytes::is_fast())
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let base = problem.default_cost();
        let constants = self.constants.iter().flatten().map(|constant| constant.bytes().len() as u64);
        Cost {
            flops: base.flops.saturating_add(self.sizes.flops(false)),
            bytes: base.bytes.saturating_add(constants.sum()),
        }
    }
}
