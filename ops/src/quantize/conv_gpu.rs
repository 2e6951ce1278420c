//! Convolutions of quantized integers on GPUs.

use sardonyx_shaders::storage::{Storage, Width};
use sardonyx_shaders::{Capabilities, params, table};

use super::ends::{Bounds, Places, fits, is_byte, zeros};
use super::gpu::{Constants, Sums, check_weights, knobs, known, refuse, signed, zero};
use super::product_cpu;
use crate::conv::window::Sizes;
use crate::dispatch::{Binding, Candidate, Lowering, Refusal, word};
use crate::ir::dtype::DType;
use crate::ir::tensor::Tensor;
use crate::problem::Problem;
use crate::repacked::Repacked;

/// A convolution of quantized integers.
pub(super) fn lower(
    problem: &Problem<'_>,
    caps: &Capabilities,
    sizes: &Sizes,
    places: Places,
    bounds: Bounds,
) -> Lowering {
    Lowering::from_result(candidate(problem, caps, sizes, places, bounds))
}

fn candidate(
    problem: &Problem<'_>,
    caps: &Capabilities,
    sizes: &Sizes,
    places: Places,
    bounds: Bounds,
) -> Result<Candidate, Refusal> {
    let depthwise = sizes.is_depthwise();
    let variant = if depthwise { &table::CONV_INT8_DEPTHWISE } else { &table::CONV_INT8 };
    check_weights(problem, variant, &places)?;
    let (Some(x), Some(w), Some(output)) =
        (problem.input(places.x), problem.input(places.w), problem.outputs.first())
    else {
        return Err(refuse(variant, "an operand is missing"));
    };
    let channels = sizes.groups * sizes.outputs;
    if !fits(problem, &places, channels) || !is_byte(x.dtype) {
        return Err(refuse(variant, "scales or zero points along other axes than the output channels"));
    }
    if x.is_empty() || w.is_empty() || output.is_empty() {
        return Err(refuse(variant, "nothing to sum"));
    }
    if let Some(bias) = places.bias {
        known(problem, variant, bias, "the bias is")?;
    }
    // Positions are formed in 32 bits, where those before an input must not wrap into it.
    let reach = |axis: usize| {
        let windows = sizes.output[axis].max(sizes.input[axis]) * sizes.strides[axis];
        windows + sizes.kernel[axis] * sizes.dilations[axis] + sizes.before[axis]
    };
    if (0..3).any(|axis| reach(axis) >= 1 << 31) {
        return Err(refuse(variant, "a window that reaches 2^31 elements"));
    }
    let plane = sizes.output_plane();
    let weights =
        if depthwise { depthwise_weights(problem, &places, sizes) } else { weights(problem, &places, sizes) };
    let weights = weights.map_err(|error| refuse(variant, &error.to_string()))?;
    let mut packed = vec![weights.packed, weights.constants];
    let zero = zero(problem, &places, &mut packed);
    let axis = caps.grid_axis as usize;
    let runs = plane.div_ceil(4);
    let (across, down, layers) = if depthwise {
        (runs.div_ceil(64), channels, sizes.batch)
    } else {
        (runs.div_ceil(16), sizes.outputs.div_ceil(16), sizes.batch * sizes.groups)
    };
    let folds = across.div_ceil(axis).max(1);
    let four = |[z, y, x]: [usize; 3], last: usize| -> Result<[u32; 4], Refusal> {
        let name = variant.name;
        Ok([word(name, z)?, word(name, y)?, word(name, x)?, word(name, last)?])
    };
    let params = params::conv::Conv {
        input: four(sizes.input, sizes.input_plane())?,
        output: four(sizes.output, plane)?,
        kernel: four(sizes.kernel, sizes.window())?,
        strides: four(sizes.strides, 0)?,
        dilations: four(sizes.dilations, 0)?,
        before: four(sizes.before, 0)?,
        weights: four(weights.strides, 0)?,
        groups: word(variant.name, sizes.groups)?,
        inputs: word(variant.name, sizes.inputs)?,
        outputs: word(variant.name, sizes.outputs)?,
        folds: word(variant.name, folds)?,
    };
    let pointwise = !depthwise && sizes.is_pointwise() && sizes.input_plane().is_multiple_of(4);
    let wide = if depthwise { Width::One } else { Width::Four };
    let mut along = vec![1; output.dims.len() - 1];
    if let Some(first) = along.first_mut() {
        *first = channels;
    }
    let sums = Sums {
        variant,
        problem,
        places,
        inputs: vec![
            (Storage::U32, Width::One),
            (if depthwise { Storage::I32 } else { Storage::U32 }, wide),
            (Storage::I32, wide),
            (Storage::U32, Width::One),
        ],
        reads: vec![Binding::Input(places.x), Binding::Packed(0), Binding::Packed(1), zero],
        knobs: knobs([
            ("SIGNED", x.dtype == DType::I8),
            ("ZEROS", weights.zeros && !depthwise),
            ("POINTWISE", pointwise),
        ]),
        packed,
        params: bytemuck::bytes_of(&params).to_vec(),
        grid: [across.div_ceil(folds), down, layers.saturating_mul(folds)],
        channels,
        along,
        whole: plane.is_multiple_of(4),
    };
    let result =
        if places.output.is_some() { product_cpu::Output::Bytes(1.0) } else { product_cpu::Output::Sums };
    sums.finish(caps, result, bounds)
}

/// Weights as a convolution reads them.
struct Weights {
    packed: (Repacked, Storage),
    constants: (Repacked, Storage),
    zeros: bool,
    strides: [usize; 3],
}

/// Words of four input channels: group, window element, input channels, output channels.
fn weights(problem: &Problem<'_>, places: &Places, sizes: &Sizes) -> Result<Weights, crate::OpError> {
    let w = problem.input(places.w).ok_or(crate::OpError::Internal("weights are missing"))?;
    let value = w.value.ok_or(crate::OpError::Internal("weights that are not constant"))?;
    let (window, stride) = (sizes.window(), sizes.outputs.next_multiple_of(4));
    let group = crate::ir::tensor::element_count(&[window, sizes.inputs.div_ceil(4), stride]);
    let group = group.ok_or(crate::OpError::Size)?;
    let mut words = vec![0u32; group.checked_mul(sizes.groups).ok_or(crate::OpError::Size)?];
    let mut sums = vec![0i32; sizes.groups * sizes.outputs];
    let each = value.bytes().chunks_exact((sizes.inputs * window).max(1)).zip(&mut sums).enumerate();
    for (channel, (bytes, sum)) in each {
        let (own, output) = (channel / sizes.outputs, channel % sizes.outputs);
        for (index, &byte) in bytes.iter().enumerate() {
            let (input, element) = (index / window, index % window);
            let byte = signed(w.dtype, byte);
            *sum = sum.wrapping_add(i32::from(byte));
            let at = own * group + (element * sizes.inputs.div_ceil(4) + input / 4) * stride + output;
            if let Some(word) = words.get_mut(at) {
                *word |= u32::from(byte as u8) << (input % 4 * 8);
            }
        }
    }
    let all = sizes.groups * stride;
    let place = |channel: usize| channel / sizes.outputs * stride + channel % sizes.outputs;
    let constants = Constants::new(problem, places, &sums, sizes.inputs * window, (all, place))?;
    Ok(Weights {
        packed: (Repacked::made(words)?, Storage::U32),
        constants: (Repacked::made(constants.all)?, Storage::I32),
        zeros: constants.zeros,
        strides: [stride, group, all],
    })
}

/// Weights without their zero points, and biases.
fn depthwise_weights(
    problem: &Problem<'_>,
    places: &Places,
    sizes: &Sizes,
) -> Result<Weights, crate::OpError> {
    let w = problem.input(places.w).ok_or(crate::OpError::Internal("weights are missing"))?;
    let value = w.value.ok_or(crate::OpError::Internal("weights that are not constant"))?;
    let zeros = zeros(problem.input(places.w_zero).and_then(|zero| zero.value).map(Tensor::view))?;
    let window = sizes.window().max(1);
    let wide = |(index, &byte): (usize, &u8)| {
        let zero = zeros.get(if zeros.len() == 1 { 0 } else { index / window }).copied().unwrap_or(0);
        let byte = if w.dtype == DType::I8 { i32::from(byte as i8) } else { i32::from(byte) };
        byte - i32::from(zero)
    };
    let all: Vec<i32> = value.bytes().iter().enumerate().map(wide).collect();
    let channels = sizes.groups * sizes.outputs;
    let constants = Constants::new(problem, places, &vec![0; channels], 0, (channels, |channel| channel))?;
    Ok(Weights {
        packed: (Repacked::made(all)?, Storage::I32),
        constants: (Repacked::made(constants.all)?, Storage::I32),
        zeros: false,
        strides: [0; 3],
    })
}
