//! Rotary embeddings that exporters wrote as halves of heads turned around, `x · cos + (−x₂, x₁) · sin`, and caches that keys and
//! values are appended to: one step that reads the new rows where they lie.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use sardonyx_ops::DType;
use sardonyx_ops::attention::{Append, Spot};
use sardonyx_ops::broadcast;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::movement::assemble::row_major;
use sardonyx_ops::movement::concat::Concat;
use sardonyx_ops::movement::layout::Layout;
use sardonyx_ops::movement::strided::Strided;
use sardonyx_ops::plan::{Plan, PlanStep};

use super::trace::{Trace, call, problem};
use super::{Report, dims, replace};

pub(super) fn run(plan: &mut Plan, report: &mut Report) {
    let trace = Trace::new(plan);
    let mut found: Vec<(usize, PlanStep)> = Vec::new();
    // Rows that are turned, by their value: the place in `found`.
    let mut turned: HashMap<ValueId, usize> = HashMap::new();
    for (index, step) in plan.steps.iter().enumerate() {
        if let Some(new) = rotation(plan, &trace, step) {
            turned.extend(step.outputs.first().copied().flatten().map(|id| (id, found.len())));
            found.push((index, new));
        } else if let Some(new) = cached(plan, &trace, step, |id| {
            found.get(*turned.get(&id)?).map(|(_, step)| step).filter(|_| trace.reads(id) == 1)
        }) {
            found.push((index, new));
        }
    }
    found.iter().for_each(|(_, step)| report.fused(step));
    replace(plan, found);
}

/// The dimensions of heads: batch, heads, positions and elements, none of them 0.
fn heads(plan: &Plan, id: ValueId) -> Option<[usize; 4]> {
    let value = plan.values.get(id.0)?;
    let float = matches!(value.dtype, DType::F32 | DType::F16 | DType::BF16);
    <[usize; 4]>::try_from(value.dims.as_slice()).ok().filter(|dims| float && !dims.contains(&0))
}

/// A sum of two products as heads that are turned.
fn rotation(plan: &Plan, trace: &Trace<'_>, step: &PlanStep) -> Option<PlanStep> {
    let ("add", args) = call(step)? else { return None };
    let &[a, b] = args.as_slice() else { return None };
    let [Some(result)] = step.outputs.as_slice() else { return None };
    let (one, other) = (factors(trace, a)?, factors(trace, b)?);
    let ways = [(one, other), (other, one)];
    let orders = |[a, b]: [ValueId; 2]| [(a, b), (b, a)];
    for (plain, around) in ways {
        for (x, cos) in orders(plain) {
            for (turn, sin) in orders(around) {
                if half_turn(plan, trace, turn, x) {
                    let extents = heads(plan, x).filter(|extents| extents == dims(plan, *result))?;
                    let dtype = |id: ValueId| plan.values.get(id.0).map(|value| value.dtype);
                    let fits = |id: ValueId| {
                        dtype(id) == dtype(x)
                            && broadcast::dims(&[dims(plan, id), &extents]).is_ok_and(|all| all == extents)
                    };
                    if !fits(cos) || !fits(sin) {
                        return None;
                    }
                    let place = |id: ValueId| trace.spot(id, &Spot::stretched(dims(plan, id)), extents);
                    let [(x, x_spot), (cos, cos_spot), (sin, sin_spot)] = [x, cos, sin].map(place);
                    let op =
                        Append { extents, past: 0, x: x_spot, cos: cos_spot, sin: sin_spot, other: None };
                    return Some(PlanStep {
                        op: Arc::new(op),
                        inputs: vec![Some(x), None, Some(cos), Some(sin)],
                        ..step.clone()
                    });
                }
            }
        }
    }
    None
}

fn factors(trace: &Trace<'_>, id: ValueId) -> Option<[ValueId; 2]> {
    match trace.call(id)? {
        ("mul", args) => args.try_into().ok(),
        _ => None,
    }
}

/// Whether a value is the second half of the rows of `x`, negative, and then the first.
fn half_turn(plan: &Plan, trace: &Trace<'_>, id: ValueId, x: ValueId) -> bool {
    let Some(step) = trace.writer(id) else { return false };
    let (Some(op), &[Some(back), Some(front)]) =
        ((step.op.as_ref() as &dyn Any).downcast_ref::<Concat>(), step.inputs.as_slice())
    else {
        return false;
    };
    let all = dims(plan, x);
    let (Some(&size), rank) = (all.last(), all.len() as i64) else { return false };
    let Some(("neg", back)) = trace.call(back) else { return false };
    let half = |id: ValueId, first: usize| {
        let Some(step) = trace.writer(id).filter(|step| step.inputs.first() == Some(&Some(x))) else {
            return false;
        };
        let mut shape = all.to_vec();
        shape.iter_mut().last().into_iter().for_each(|last| *last = size / 2);
        let steps: Vec<isize> = row_major(all).into_iter().map(|stride| stride as isize).collect();
        let len = all.iter().product();
        let wanted = Strided::new(&shape, &steps, first, len).ok();
        let layout = |map: Strided| Layout::dense(len).through(&map);
        let own = step.op.moves(&problem(plan, step), 0).and_then(layout);
        own.is_some() && own == wanted.and_then(layout) && dims(plan, id) == shape
    };
    let halves = size % 2 == 0 && matches!(back.as_slice(), &[back] if half(back, size / 2));
    (op.axis == -1 || op.axis == rank - 1) && halves && half(front, 0)
}

/// A cache with rows behind it, when these are moved or turned before. `turned` gives the step that turns a value's rows.
fn cached<'a>(
    plan: &Plan,
    trace: &Trace<'_>,
    step: &PlanStep,
    turned: impl Fn(ValueId) -> Option<&'a PlanStep>,
) -> Option<PlanStep> {
    let op = (step.op.as_ref() as &dyn Any).downcast_ref::<Concat>()?;
    let &[Some(cache), Some(rows)] = step.inputs.as_slice() else { return None };
    if step.epilogue.is_some() || (op.axis != 2 && op.axis != -2) {
        return None;
    }
    let ([_, _, past, _], extents) = (heads(plan, cache)?, heads(plan, rows)?);
    if let Some(before) = turned(rows) {
        let op = (before.op.as_ref() as &dyn Any).downcast_ref::<Append>()?;
        let mut inputs = before.inputs.clone();
        *inputs.get_mut(1)? = Some(cache);
        let nodes = [before.nodes.as_slice(), &step.nodes].concat();
        return Some(PlanStep { op: Arc::new(Append { past, ..*op }), inputs, nodes, ..step.clone() });
    }
    let (root, x) = trace.spot(rows, &Spot::dense(extents), extents);
    if root == rows || plan.values.get(root.0)?.constant.is_some() {
        return None;
    }
    let op = Append { extents, past, x, cos: Spot::default(), sin: Spot::default(), other: None };
    Some(PlanStep { op: Arc::new(op), inputs: vec![Some(root), Some(cache)], ..step.clone() })
}
