//! Convolutions on the GPU.

use sardonyx_shaders::storage::{ValueType, Width};
use sardonyx_shaders::table::Variant;
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::window::Sizes;
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, word};
use crate::ir::tensor::Tensor;
use crate::matmul::gpu::{Factors, shared_rows};
use crate::matmul::product::Product;
use crate::problem::{Operand, Problem};
use crate::repacked::Repacked;

/// The kernels for a convolution or a transposed one, best first.
pub(super) fn lower(problem: &Problem<'_>, caps: &Capabilities, sizes: &Sizes, transposed: bool) -> Lowering {
    let mut lowering = Lowering::default();
    let flat = sizes.input[0] == 1 && sizes.kernel[0] == 1 && sizes.output[0] == 1 && sizes.before[0] == 0;
    let slides = sizes.strides[2] == 1 && sizes.dilations[2] == 1;
    if sizes.is_pointwise() {
        lowering = pointwise(problem, sizes, transposed).lower(problem, caps);
    } else if flat && !transposed && sizes.is_depthwise() {
        lowering.push(candidate(problem, caps, sizes, &table::CONV_DEPTHWISE, slides, false));
    } else if !transposed {
        if caps.sharing_subgroup().is_some() {
            lowering.push(candidate(problem, caps, sizes, &table::CONV_SG, false, false));
        }
        if flat && slides && sizes.kernel[2] > 1 && sizes.output[2] > 3 {
            lowering.push(candidate(problem, caps, sizes, &table::CONV_SLIDE, true, false));
        }
    }
    lowering.push(candidate(problem, caps, sizes, &table::CONV_DIRECT, slides, transposed));
    lowering
}

/// The bias as an operand that broadcasts to the output.
fn bias_dims(problem: &Problem<'_>) -> Option<Vec<usize>> {
    let rank = problem.outputs.first()?.dims.len();
    let mut dims = vec![1; rank.saturating_sub(1)];
    *dims.first_mut()? = problem.input(2)?.len();
    Some(dims)
}

/// A convolution with windows of one element: the product of the weights with each image.
fn pointwise(problem: &Problem<'_>, sizes: &Sizes, transposed: bool) -> Factors {
    let (inputs, outputs, plane) = (sizes.inputs, sizes.outputs, sizes.output_plane());
    let mut product = Product {
        rows: outputs,
        columns: plane,
        depth: inputs,
        a: if transposed { (1, outputs) } else { (inputs, 1) },
        b: (plane, 1),
        batch: Vec::new(),
        a_batch: Vec::new(),
        b_batch: Vec::new(),
    };
    product.push_batch(sizes.groups, outputs * inputs, inputs * plane);
    product.push_batch(sizes.batch, 0, sizes.groups * inputs * plane);
    let addend = bias_dims(problem).map(|dims| (2, dims, 1.0));
    Factors { product, scale: 1.0, a: 1, b: 0, addend }
}

/// The weights' strides between groups, output channels, input channels and window elements.
fn weight_strides(sizes: &Sizes, transposed: bool) -> [usize; 4] {
    let (inputs, outputs, window) = (sizes.inputs, sizes.outputs, sizes.window());
    let group = inputs * outputs * window;
    if transposed { [group, window, outputs * window, 1] } else { [group, inputs * window, window, 1] }
}

fn candidate(
    problem: &Problem<'_>,
    caps: &Capabilities,
    sizes: &Sizes,
    variant: &'static Variant,
    slides: bool,
    transposed: bool,
) -> Result<Candidate, Refusal> {
    let kernel = variant.name;
    let refuse = |reason: &str| Refusal { kernel, reason: reason.to_owned() };
    let missing = || refuse("an operand is missing");
    let (x, w) = (problem.input(0).ok_or_else(missing)?, problem.input(1).ok_or_else(missing)?);
    let output = problem.outputs.first().ok_or_else(missing)?;
    let storages = [problem.stored(kernel, Some(x))?, problem.stored(kernel, Some(w))?];
    if storages.iter().any(|storage| storage.value() != ValueType::F32) {
        return Err(refuse("it convolves floats only"));
    }
    if [x, w, output].iter().any(|operand| operand.len() >= 1 << 31) {
        return Err(refuse("a tensor of 2^31 elements or more"));
    }
    if x.is_empty() || w.is_empty() {
        return Err(refuse("nothing to sum"));
    }
    let depthwise = *variant == table::CONV_DEPTHWISE;
    let rows = depthwise || *variant == table::CONV_SLIDE;
    let shares = *variant == table::CONV_SG;
    let subgroup = caps.sharing_subgroup().unwrap_or(1);
    let share = shared_rows(sizes.outputs);

    let mut strides = weight_strides(sizes, transposed);
    let mut packed = Vec::new();
    let mut weights = (Binding::Input(1), storages[1], Width::One);
    if !depthwise
        && !shares
        && let Some(ordered) = w.value.and_then(|value| pack(value, sizes, &mut strides, rows))
    {
        packed.push((ordered, storages[1]));
        weights = (Binding::Packed(0), storages[1], Width::Four);
    }

    // Four results lie in a row of the output, or in the whole plane.
    let run = if rows { sizes.output[2] } else { sizes.output_plane() };
    let width = if run.is_multiple_of(4) { Width::Four } else { Width::One };
    let mut ending = problem.ending(kernel, ValueType::F32, width)?;
    if let (Some(bias), Some(dims)) = (problem.input(2), bias_dims(problem)) {
        problem.stored(kernel, Some(bias))?;
        let bias = Operand { dims: &dims, ..*bias };
        ending
            .add_first(&bias, output.dims, width, Binding::Input(2), 1.0)
            .ok_or_else(|| refuse("a bias that no kernel can read"))?;
    }
    let reads = [vec![Binding::Input(0), weights.0], ending.reads].concat();
    if reads.len() + 1 > caps.storage_buffers as usize {
        return Err(refuse("more tensors than the device binds"));
    }

    let runs =
        if rows { sizes.output[1].saturating_mul(sizes.output[2].div_ceil(4)) } else { run.div_ceil(4) };
    let (across, down, layers) = if depthwise {
        (runs.div_ceil(64), sizes.groups * sizes.outputs, sizes.batch)
    } else if shares {
        let [across, down] = [runs.div_ceil(2 * subgroup as usize), sizes.outputs.div_ceil(share as usize)];
        (across, down, sizes.batch * sizes.groups)
    } else {
        (runs.div_ceil(16), sizes.outputs.div_ceil(16), sizes.batch * sizes.groups)
    };
    let axis = caps.grid_axis as usize;
    let folds = across.div_ceil(axis).max(1);
    let grid = [across.div_ceil(folds), down, layers.saturating_mul(folds)];
    if grid.iter().any(|&size| size > axis) {
        return Err(refuse("more workgroups than the device can launch"));
    }
    let words = |values: [usize; 4]| -> Result<[u32; 4], Refusal> {
        let mut all = [0; 4];
        for (slot, value) in all.iter_mut().zip(values) {
            *slot = word(kernel, value)?;
        }
        Ok(all)
    };
    let four = |[z, y, x]: [usize; 3], last: usize| words([z, y, x, last]);
    let params = params::conv::Conv {
        input: four(sizes.input, sizes.input_plane())?,
        output: four(sizes.output, sizes.output_plane())?,
        kernel: four(sizes.kernel, sizes.window())?,
        strides: four(sizes.strides, 0)?,
        dilations: four(sizes.dilations, 0)?,
        before: four(sizes.before, 0)?,
        weights: words(strides)?,
        groups: word(kernel, sizes.groups)?,
        inputs: word(kernel, sizes.inputs)?,
        outputs: word(kernel, sizes.outputs)?,
        folds: word(kernel, folds)?,
    };
    // Positions are formed in 32 bits, where those before an input must not wrap into it.
    let reach = |axis: usize| {
        let windows = sizes.output[axis].max(sizes.input[axis]) * sizes.strides[axis];
        windows + sizes.kernel[axis] * sizes.dilations[axis] + sizes.before[axis]
    };
    if (0..3).any(|axis| reach(axis) >= 1 << 31) {
        return Err(refuse("a window that reaches 2^31 elements"));
    }
    let mut knobs = Vec::new();
    knobs.extend(transposed.then_some(("TRANSPOSED", 1)));
    knobs.extend((weights.2 == Width::Four).then_some(("PACKED", 1)));
    if shares {
        knobs.extend([("WORKGROUP", subgroup), ("ROWS", share)]);
    }
    knobs.extend((depthwise && slides).then_some(("SLIDE", 1)));
    Ok(Candidate {
        dispatches: vec![Dispatch {
            kernel: Kernel {
                variant,
                inputs: vec![(storages[0], Width::One), (weights.1, weights.2)],
                knobs,
                expression: ending.expression,
            },
            reads,
            writes: vec![Binding::Output(0)],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: ending.operands,
            grid: [word(kernel, grid[0])?, word(kernel, grid[1])?, word(kernel, grid[2])?],
        }],
        packed,
        ..Candidate::default()
    })
}

/// Weights with the output channels of a group together, padded to groups of four: in the order group, input channel,
/// window element (`by_input`), or group, window element, input channel. `strides` become those of the result.
fn pack(value: &Tensor, sizes: &Sizes, strides: &mut [usize; 4], by_input: bool) -> Option<Repacked> {
    let (window, row) = (sizes.window(), sizes.outputs.next_multiple_of(4));
    let [group, output, input, element] = *strides;
    let (shape, steps) = match by_input {
        true => ([sizes.groups, sizes.inputs, window, sizes.outputs], [group, input, element, output]),
        false => ([sizes.groups, window, sizes.inputs, sizes.outputs], [group, element, input, output]),
    };
    let packed = Repacked::reordered(value, &shape, &steps, 4).ok()?;
    let (input, element) = if by_input { (window * row, row) } else { (row, sizes.inputs * row) };
    *strides = [sizes.inputs * window * row, 1, input, element];
    Some(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(packed: &Repacked) -> Vec<f32> {
        let Repacked::Reordered { source, order } = packed else { panic!("made already") };
        order.of(source).unwrap().to_vec().unwrap()
    }

    #[test]
    fn weights_are_padded_by_groups() {
        let sizes = Sizes {
            batch: 1,
            groups: 2,
            inputs: 2,
            outputs: 3,
            input: [1, 1, 4],
            kernel: [1, 1, 2],
            output: [1, 1, 3],
            strides: [1; 3],
            dilations: [1; 3],
            before: [0; 3],
        };
        let weights = Tensor::from_vec(&[6, 2, 2], (0u8..24).map(f32::from).collect()).unwrap();
        let mut strides = weight_strides(&sizes, false);
        assert_eq!(strides, [12, 4, 2, 1]);
        let by_input = elements(&pack(&weights, &sizes, &mut strides, true).unwrap());
        assert_eq!(strides, [16, 1, 8, 4]);
        assert_eq!(by_input[..8], [0.0, 4.0, 8.0, 0.0, 1.0, 5.0, 9.0, 0.0]);
        assert_eq!(by_input[16..20], [12.0, 16.0, 20.0, 0.0]);
        let mut strides = weight_strides(&sizes, true);
        assert_eq!(strides, [12, 2, 6, 1]);
        let by_element = elements(&pack(&weights, &sizes, &mut strides, false).unwrap());
        assert_eq!(strides, [16, 1, 4, 8]);
        assert_eq!(by_element[..8], [0.0, 2.0, 4.0, 0.0, 6.0, 8.0, 10.0, 0.0]);
        assert_eq!(by_element[8..12], [1.0, 3.0, 5.0, 0.0]);
    }
}
