//! Lets attentions read queries, keys, values and masks where they lie, behind reshapes, transpositions, slices and expansions,
//! and write their results in the order in which they are wanted.

use std::any::Any;
use std::sync::Arc;

use sardonyx_ops::Role;
use sardonyx_ops::attention::{Append, Attend, Order, Spot};
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::movement::layout::{Factor, Layout};
use sardonyx_ops::plan::{Plan, PlanStep};

use super::trace::{Trace, problem, spot_of};
use super::{Report, dims, replace};

pub(super) fn run(plan: &mut Plan, report: &mut Report) {
    let trace = Trace::new(plan);
    let mut found = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let Some(op) = (step.op.as_ref() as &dyn Any).downcast_ref::<Attend>() else { continue };
        if step.epilogue.is_some() {
            continue;
        }
        let mut new = (op.clone(), step.clone());
        let mut changed = turned(&trace, &mut new);
        changed |= factors(&trace, &mut new);
        // In the place of the last step that it stands for: the others are left without readers.
        let last = result(plan, &trace, &mut new);
        if changed || last.is_some() {
            let (op, mut step) = new;
            step.op = Arc::new(op);
            report.fused(&step);
            found.push((last.unwrap_or(index), step));
        }
    }
    replace(plan, found);
}

/// Lets a step read another value.
fn read(step: &mut PlanStep, input: usize, id: ValueId) {
    if let Some(slot) = step.inputs.get_mut(input) {
        *slot = Some(id);
    }
}

/// How many heads of queries share a head of keys, which is repeated for them.
fn shared(runs: &[Vec<Factor>]) -> usize {
    match runs.get(1).and_then(|heads| heads.last()) {
        Some(Factor { extent, stride: 0 }) => *extent,
        _ => 1,
    }
}

/// Lets the attention turn its queries itself, when that is all that a step before it does; whether there is one.
fn turned(trace: &Trace<'_>, (op, step): &mut (Attend, PlanStep)) -> bool {
    let Some(Some(q)) = step.inputs.first().copied() else { return false };
    let Some(before) = trace.writer(q).filter(|_| trace.reads(q) == 1) else { return false };
    let Some(append) = (before.op.as_ref() as &dyn Any).downcast_ref::<Append>() else { return false };
    let sizes = op.sizes;
    let all = [sizes.batch, sizes.heads, sizes.queries, sizes.size];
    let &[Some(x), _, Some(cos), Some(sin)] = before.inputs.as_slice() else { return false };
    // Kernels take four elements at a time.
    if append.past > 0 || append.extents != all || op.q != Spot::dense(all) || !sizes.size.is_multiple_of(8) {
        return false;
    }
    (op.q, op.turn) = (append.x, Some([append.cos, append.sin]));
    step.inputs.resize(4, None);
    read(step, 0, x);
    step.inputs.extend([Some(cos), Some(sin)]);
    step.nodes.extend(before.nodes.iter().cloned());
    true
}

/// Finds where the factors come from; whether any of them changed.
fn factors(trace: &Trace<'_>, (op, step): &mut (Attend, PlanStep)) -> bool {
    let sizes = op.sizes;
    let mut changed = false;
    let input = |step: &PlanStep, index: usize| step.inputs.get(index).copied().flatten();
    if let Some(id) = input(step, 0)
        && let Some((root, offset, runs)) =
            trace.runs(id, &op.q, [sizes.batch, sizes.heads, sizes.queries, sizes.size])
        && let Some(spot) = spot_of(offset, &runs)
    {
        (op.q, changed) = (spot, true);
        read(step, 0, root);
    }
    let places = [
        (1, op.k, [sizes.batch, sizes.key_heads, sizes.keys, sizes.size]),
        (2, op.v, [sizes.batch, sizes.key_heads, sizes.keys, sizes.value_size]),
    ];
    let mut sides =
        places.map(|(index, spot, extents)| input(step, index).and_then(|id| trace.runs(id, &spot, extents)));
    // Keys and values that are repeated for several heads alike are read once for all of them.
    if let [Some((_, _, k)), Some((_, _, v))] = &mut sides
        && shared(k) > 1
        && shared(k) == shared(v)
        && sizes.key_heads == sizes.heads
    {
        let group = shared(k);
        for heads in [k.get_mut(1), v.get_mut(1)].into_iter().flatten() {
            heads.pop();
        }
        if let (Some(k_spot), Some(v_spot)) = (spot_of(0, k), spot_of(0, v)) {
            (op.k, op.v) = (k_spot, v_spot);
            op.sizes.key_heads = sizes.heads / group;
            for (index, side) in [(1, &sides[0]), (2, &sides[1])] {
                let Some((root, offset, _)) = side else { continue };
                let spot = if index == 1 { &mut op.k } else { &mut op.v };
                spot.offset = *offset;
                read(step, index, *root);
            }
            changed = true;
        }
        sides = [None, None];
    }
    for (index, side) in [1, 2].into_iter().zip(sides) {
        if let Some((root, offset, runs)) = side
            && let Some(spot) = spot_of(offset, &runs)
        {
            *(if index == 1 { &mut op.k } else { &mut op.v }) = spot;
            read(step, index, root);
            changed = true;
        }
    }
    if let Some(id) = input(step, 3)
        && let Some((root, offset, runs)) =
            trace.runs(id, &op.mask, [sizes.batch, sizes.heads, sizes.queries, sizes.keys])
        && let Some(spot) = spot_of(offset, &runs)
    {
        (op.mask, changed) = (spot, true);
        read(step, 3, root);
    }
    changed
}

/// Takes over the steps that only put the result in another order; where the last of them stands.
fn result(plan: &Plan, trace: &Trace<'_>, (op, step): &mut (Attend, PlanStep)) -> Option<usize> {
    let id = step.outputs.first().copied().flatten()?;
    let sizes = op.sizes;
    let heads = sizes.result();
    if op.order != Order::Heads {
        return None;
    }
    let len = heads.iter().product();
    let (mut at, mut layout) = (id, Layout::dense(len));
    let (mut nodes, mut best) = (Vec::new(), None);
    while let Some((place, next)) = trace.reader(at).filter(|(_, next)| next.epilogue.is_none()) {
        let [Some(moved)] = next.outputs.as_slice() else { break };
        let from = next.inputs.first().copied().flatten();
        if next.op.role() != Role::View {
            let Some(map) = next.op.moves(&problem(plan, next), 0) else { break };
            let Some(through) = layout.through(&map) else { break };
            layout = through;
        }
        if from != Some(at) || nodes.len() > 64 {
            break;
        }
        nodes.extend(next.nodes.iter().cloned());
        at = *moved;
        let Some(places) = layout.inverse(&heads).and_then(|inverse| inverse.strides(&heads)) else {
            continue;
        };
        for order in [Order::Heads, Order::Rows] {
            let mut wanted = Attend { order, ..op.clone() }.place().strides;
            wanted.iter_mut().zip(heads).for_each(|(stride, n)| *stride = if n == 1 { 0 } else { *stride });
            if places == wanted {
                best = Some((at, order, nodes.clone(), place));
                break;
            }
        }
    }
    let (at, order, nodes, place) = best?;
    op.order = order;
    op.dims = dims(plan, at).to_vec();
    step.outputs = vec![Some(at)];
    step.nodes.extend(nodes);
    Some(place)
}
