//! Attention on the GPU: by subgroups or by tiles where many queries meet the same keys, a workgroup to a query otherwise.

use sardonyx_shaders::storage::{Storage, ValueType, Width};
use sardonyx_shaders::table::Variant;
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::attend::{ANGLES, Attend, MASK, Spot};
use super::scaled::Sizes;
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, word};
use crate::problem::Problem;

/// Queries of a tile.
const TILE: usize = 64;
/// Queries of a subgroup.
const ROWS: usize = 8;
/// Queries from which tiles pay.
const MANY: usize = 16;
/// Most elements of a query or value that an invocation keeps in registers.
const REGISTERS: usize = 128;
/// Most elements that a workgroup's invocations share.
const SHARED: usize = 512;

pub(super) fn lower(op: &Attend, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
    let mut lowering = Lowering::default();
    let Sizes { queries, size, value_size, .. } = op.sizes;
    let groups = size.is_multiple_of(4) && value_size.is_multiple_of(4);
    if queries >= MANY && groups && size.max(value_size) <= REGISTERS {
        if caps.sharing_subgroup().is_some() {
            lowering.push(candidate(op, problem, caps, &table::ATTEND_SG));
        }
        lowering.push(candidate(op, problem, caps, &table::ATTEND_TILE));
    }
    lowering.push(candidate(op, problem, caps, &table::ATTEND_ROW));
    lowering
}

fn candidate(
    op: &Attend,
    problem: &Problem<'_>,
    caps: &Capabilities,
    variant: &'static Variant,
) -> Result<Candidate, Refusal> {
    let kernel = variant.name;
    let refuse = |reason: &str| Refusal { kernel, reason: reason.to_owned() };
    let lens: Vec<Option<usize>> = problem.inputs.iter().map(|x| x.as_ref().map(|x| x.len())).collect();
    op.check(&lens).map_err(|error| refuse(&error.to_string()))?;
    let Sizes { batch, heads, key_heads, queries, keys, size, value_size } = op.sizes;
    if size == 0 || keys == 0 || size.max(value_size) > SHARED {
        return Err(refuse("its heads have no elements, or too many"));
    }
    let (tiled, shares) = (*variant == table::ATTEND_TILE, *variant == table::ATTEND_SG);
    let subgroup = caps.sharing_subgroup().unwrap_or(1);
    let limit = 1 << 31;
    if lens.iter().flatten().any(|&len| len >= limit) {
        return Err(refuse("a tensor of 2^31 elements or more"));
    }
    // Four elements at a time, where they follow each other; single ones otherwise.
    let near = |spot: &Spot, size: usize| spot.strides[3] == 1 && size.is_multiple_of(4);
    let nears = [near(&op.q, size), near(&op.k, size), near(&op.v, value_size)];
    let aligned = |spot: &Spot| {
        spot.offset.is_multiple_of(4) && spot.strides[..3].iter().all(|stride| stride.is_multiple_of(4))
    };
    let mut inputs = Vec::new();
    let mut reads = Vec::new();
    for (index, (spot, near)) in [op.q, op.k, op.v].iter().zip(nears).enumerate() {
        let storage = problem.stored(kernel, problem.input(index))?;
        if storage.value() != ValueType::F32 {
            return Err(refuse("it attends to floats only"));
        }
        let width = if near && aligned(spot) { Width::Four } else { Width::One };
        inputs.push((storage, width));
        reads.push(Binding::Input(index));
    }
    let mask = problem.input(MASK);
    let kind = match mask.map(|mask| problem.stored(kernel, Some(mask))).transpose()? {
        // What is bound instead is not read.
        None => {
            inputs.push((inputs[0].0, Width::One));
            reads.push(Binding::Input(0));
            0
        }
        Some(storage @ (Storage::F32 | Storage::F16)) => {
            inputs.push((storage, Width::One));
            reads.push(Binding::Input(MASK));
            1
        }
        Some(storage @ Storage::Bool) => {
            inputs.push((storage, Width::One));
            reads.push(Binding::Input(MASK));
            if op.fill == f32::NEG_INFINITY { 3 } else { 2 }
        }
        Some(_) => return Err(refuse("a mask of such a type")),
    };
    if op.turn.is_some() && !size.is_multiple_of(8) {
        return Err(refuse("the halves of its queries are no whole groups of four"));
    }
    for index in ANGLES {
        // What is bound instead is not read.
        let index = if op.turn.is_some() { index } else { 0 };
        inputs.push((problem.stored(kernel, problem.input(index))?, Width::One));
        reads.push(Binding::Input(index));
    }
    let [cos, sin] = op.turn.unwrap_or_default();
    let width = if value_size.is_multiple_of(4) { Width::Four } else { Width::One };
    let ending = problem.ending(kernel, ValueType::F32, width)?;
    reads.extend(ending.reads);
    if reads.len() + 1 > caps.storage_buffers as usize {
        return Err(refuse("more tensors than the device binds"));
    }
    let axis = |size: usize| word(kernel, size).ok().filter(|&size| size <= caps.grid_axis);
    let together = match (tiled, shares) {
        (true, _) => TILE,
        (_, true) => ROWS,
        _ => 1,
    };
    let across = queries.div_ceil(together);
    let (Some(x), Some(y), Some(z)) = (axis(across), axis(heads), axis(batch)) else {
        return Err(refuse("more workgroups than the device can launch"));
    };
    let mut knobs = vec![("MASK", kind), ("TURN", u32::from(op.turn.is_some()))];
    let names = ["NEAR_Q", "NEAR_K", "NEAR_V"];
    knobs.extend(names.into_iter().zip(nears).map(|(name, near)| (name, u32::from(near))));
    if tiled || shares {
        let groups = [word(kernel, size / 4)?, word(kernel, value_size / 4)?];
        knobs.extend(["SIZE4", "VALUE4"].into_iter().zip(groups));
        if shares {
            let each = groups.map(|groups| groups.div_ceil(subgroup));
            knobs.extend(["PARTS", "SHARES"].into_iter().zip(each));
            knobs.extend([("WORKGROUP", subgroup), ("ROWS", ROWS as u32)]);
        }
    }
    // Far bounds are the same as none; within these nothing overflows.
    let far = 1i64 << 30;
    let bound = |given: Option<i64>, none: i64| given.unwrap_or(none).clamp(-far, far) as i32;
    let strides = |spot: &Spot| -> Result<[u32; 4], Refusal> {
        let mut words = [0; 4];
        for (slot, &stride) in words.iter_mut().zip(&spot.strides) {
            *slot = word(kernel, stride)?;
        }
        Ok(words)
    };
    let offset = |spot: &Spot| word(kernel, spot.offset);
    let params = params::attention::Attend {
        queries: word(kernel, queries)?,
        keys: word(kernel, keys)?,
        size: word(kernel, size)?,
        value_size: word(kernel, value_size)?,
        group: word(kernel, heads / key_heads)?,
        scale: op.scale,
        softcap: op.softcap.max(0.0),
        fill: op.fill.max(f32::MIN),
        low: bound(op.low, -far),
        high: bound(op.high, far),
        pad: [0; 2],
        offsets: [offset(&op.q)?, offset(&op.k)?, offset(&op.v)?, offset(&op.mask)?],
        q_strides: strides(&op.q)?,
        k_strides: strides(&op.k)?,
        v_strides: strides(&op.v)?,
        mask_strides: strides(&op.mask)?,
        y_strides: strides(&op.place())?,
        turn_offsets: [offset(&cos)?, offset(&sin)?, 0, 0],
        cos_strides: strides(&cos)?,
        sin_strides: strides(&sin)?,
    };
    Ok(Candidate {
        dispatches: vec![Dispatch {
            kernel: Kernel { variant, inputs, knobs, expression: ending.expression },
            reads,
            writes: vec![Binding::Output(0)],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: ending.operands,
            grid: [x, y, z],
        }],
        ..Candidate::default()
    })
}
