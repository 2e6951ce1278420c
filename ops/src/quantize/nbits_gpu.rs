//! Products with matrices of packed codes on GPUs: codes are read as they are.

use sardonyx_shaders::storage::{Storage, ValueType, Width};
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::matmul_nbits::MatMulNBits;
use crate::dispatch::{Binding, Candidate, Dispatch, Refusal, word};
use crate::ir::numbers;
use crate::ir::tensor::Tensor;
use crate::problem::{Operand, Problem};
use crate::repacked::Repacked;

/// Rows up to which each is computed by itself.
const FEW: usize = 2;

/// The kernel for a problem.
pub(super) fn candidate(
    op: &MatMulNBits,
    problem: &Problem<'_>,
    caps: &Capabilities,
) -> Result<Candidate, Refusal> {
    let variant = &table::MATMUL_NBITS;
    let kernel = variant.name;
    let refuse = |reason: &str| Refusal { kernel, reason: reason.to_owned() };
    let failed = |error: crate::OpError| refuse(&error.to_string());
    let (Some(a), Some(codes), Some(scales), Some(output)) =
        (problem.input(0), problem.input(1), problem.input(2), problem.outputs.first())
    else {
        return Err(refuse("an operand is missing"));
    };
    if !caps.hides_latency && !caps.f16 {
        // SwiftShader takes minutes and gigabytes to compile it; the CPU path is the better one there anyway.
        return Err(refuse("its text is too long for adapters in software without f16"));
    }
    let storage = problem.stored(kernel, Some(a))?;
    if storage.value() != ValueType::F32 || op.bits == 2 || op.depth == 0 || a.is_empty() {
        return Err(refuse("codes of 2 bits, or nothing to sum"));
    }
    let zero_points = problem.input(3).map(|input| input.value);
    let (Some(scales), None | Some(Some(_))) = (scales.value, zero_points) else {
        return Err(refuse("scales or zero points that are not constant"));
    };
    if [a, codes, output].iter().any(|operand| operand.len() >= 1 << 31) {
        return Err(refuse("a tensor of 2^31 elements or more"));
    }
    let (rows, columns, blocks) = (a.len() / op.depth, op.columns, op.blocks());
    let scales = numbers::floats(&scales.view()).map_err(failed)?;
    let zeros = op.zero_points(zero_points.flatten().map(Tensor::view)).map_err(failed)?;
    if scales.len() != columns * blocks || zeros.len() != scales.len() {
        return Err(refuse("another number of scales"));
    }
    let factors: Vec<f32> =
        scales.iter().zip(&zeros).flat_map(|(scale, zero)| [*scale as f32, -(zero * scale) as f32]).collect();
    let width = if columns.is_multiple_of(4) { Width::Four } else { Width::One };
    let mut ending = problem.ending(kernel, ValueType::F32, width)?;
    if let Some(bias) = problem.input(5) {
        problem.stored(kernel, Some(bias))?;
        let bias = Operand { dims: &[columns], ..*bias };
        ending
            .add_first(&bias, output.dims, width, Binding::Input(5), 1.0)
            .ok_or_else(|| refuse("a bias that no kernel can read"))?;
    }
    let together = if rows <= FEW { 1 } else { 4 };
    // Enough invocations to fill a device, as long as each keeps a few blocks.
    let mut split = 1;
    while split < 16 && columns.div_ceil(4) * rows.div_ceil(together) * split < 4096 && blocks >= 2 * split {
        split *= 2;
    }
    let grid = [columns.div_ceil(256 / split), rows.div_ceil(together), 1];
    let axis = |size: usize| word(kernel, size).ok().filter(|&size| size <= caps.grid_axis);
    let [Some(x), Some(y), Some(z)] = grid.map(axis) else {
        return Err(refuse("more workgroups than the device can launch"));
    };
    let codes_per_word = 32 / op.bits;
    let params = params::matmul::MatmulNbits {
        rows: word(kernel, rows)?,
        columns: word(kernel, columns)?,
        depth: word(kernel, op.depth)?,
        block: word(kernel, op.block)?,
        blocks: word(kernel, blocks)?,
        ..Default::default()
    };
    Ok(Candidate {
        dispatches: vec![Dispatch {
            kernel: Kernel {
                variant,
                inputs: vec![(storage, Width::One), (Storage::U32, Width::One), (Storage::F32, Width::One)],
                knobs: vec![
                    ("SPLIT", word(kernel, split)?),
                    ("BITS", word(kernel, op.bits)?),
                    ("ROWS", word(kernel, together)?),
                    ("WHOLE", u32::from(op.depth.is_multiple_of(codes_per_word))),
                ],
                expression: ending.expression,
            },
            reads: [vec![Binding::Input(0), Binding::Input(1), Binding::Packed(0)], ending.reads].concat(),
            writes: vec![Binding::Output(0)],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: ending.operands,
            grid: [x, y, z],
        }],
        packed: vec![(Repacked::made(factors).map_err(failed)?, Storage::F32)],
        ..Candidate::default()
    })
}
