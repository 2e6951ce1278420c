//! Products of quantized matrices on GPUs.

use sardonyx_shaders::storage::{Storage, Width};
use sardonyx_shaders::{Capabilities, params, table};

use super::ends::{Bounds, Places, Rounding, fits};
use super::gpu::{Constants, Sums, check_weights, knobs, known, refuse, signed, zero};
use super::product_cpu;
use crate::dispatch::{Binding, Candidate, Lowering, Refusal, word};
use crate::ir::dtype::DType;
use crate::matmul::product::Product;
use crate::problem::Problem;
use crate::repacked::Repacked;

/// A product of quantized matrices.
pub(super) fn lower(
    problem: &Problem<'_>,
    caps: &Capabilities,
    product: &Product,
    places: Places,
    result: product_cpu::Output,
    bounds: Bounds,
) -> Lowering {
    Lowering::from_result(candidate(problem, caps, product, places, result, bounds))
}

fn candidate(
    problem: &Problem<'_>,
    caps: &Capabilities,
    product: &Product,
    places: Places,
    result: product_cpu::Output,
    bounds: Bounds,
) -> Result<Candidate, Refusal> {
    let variant = &table::MATMUL_INT8;
    let (rows, columns, depth) = (product.rows, product.columns, product.depth);
    check_weights(problem, variant, &places)?;
    let (Some(a), Some(b)) = (problem.input(places.x), problem.input(places.w)) else {
        return Err(refuse(variant, "a factor is missing"));
    };
    if !fits(problem, &places, columns) {
        return Err(refuse(variant, "scales or zero points along other axes than the columns"));
    }
    if product.count() != 1 || product.a != (depth, 1) || depth == 0 || a.is_empty() {
        return Err(refuse(variant, "several matrices, a transposed first factor, or nothing to sum"));
    }
    if let (product_cpu::Output::Bytes(_) | product_cpu::Output::Numbers(_, Rounding::Product), Some(bias)) =
        (result, places.bias)
    {
        known(problem, variant, bias, "the bias is")?;
    }
    let value = b.value.ok_or_else(|| refuse(variant, "the weights are not constant"))?;
    let stride = columns.next_multiple_of(4);
    let too_large = || refuse(variant, "weights beyond the address space");
    let len = depth.div_ceil(4).checked_mul(stride).ok_or_else(too_large)?;
    let (mut words, mut sums) = (vec![0u32; len], vec![0i32; columns]);
    for k in 0..depth {
        for (column, sum) in sums.iter_mut().enumerate() {
            let byte = value.bytes().get(k * product.b.0 + column * product.b.1).copied().unwrap_or(0);
            let byte = signed(b.dtype, byte);
            *sum = sum.wrapping_add(i32::from(byte));
            if let Some(word) = words.get_mut(k / 4 * stride + column) {
                *word |= u32::from(byte as u8) << (k % 4 * 8);
            }
        }
    }
    let failed = |error: crate::OpError| refuse(variant, &error.to_string());
    let constants =
        Constants::new(problem, &places, &sums, depth, (stride, |channel| channel)).map_err(failed)?;
    let mut packed = vec![
        (Repacked::made(words).map_err(failed)?, Storage::U32),
        (Repacked::made(constants.all).map_err(failed)?, Storage::I32),
    ];
    let zero = zero(problem, &places, &mut packed);
    let params = params::matmul::MatmulInt8 {
        rows: word(variant.name, rows)?,
        columns: word(variant.name, columns)?,
        depth: word(variant.name, depth)?,
        stride: word(variant.name, stride)?,
    };
    let sums = Sums {
        variant,
        problem,
        places,
        inputs: vec![
            (Storage::U32, Width::One),
            (Storage::U32, Width::Four),
            (Storage::I32, Width::Four),
            (Storage::U32, Width::One),
        ],
        reads: vec![Binding::Input(places.x), Binding::Packed(0), Binding::Packed(1), zero],
        knobs: knobs([
            ("SIGNED", a.dtype == DType::I8),
            ("WHOLE", depth.is_multiple_of(4)),
            ("ZEROS", constants.zeros),
        ]),
        packed,
        params: bytemuck::bytes_of(&params).to_vec(),
        grid: [columns.div_ceil(32), rows.div_ceil(32), 1],
        channels: columns,
        along: vec![columns],
        whole: columns.is_multiple_of(4),
    };
    sums.finish(caps, result, bounds)
}
