//! A cache of keys and the cache of values that goes with it: one step appends to both.

use std::any::Any;
use std::sync::Arc;

use sardonyx_ops::attention::Append;
use sardonyx_ops::plan::{Plan, PlanStep};

use super::Report;

/// How many steps may lie between the two: those of one layer.
const BETWEEN: usize = 32;

pub(super) fn run(plan: &mut Plan, report: &mut Report) {
    let mut index = 0;
    while index < plan.steps.len() {
        if let Some((at, pair)) = pair(plan, index) {
            report.fused(&pair);
            if let Some(slot) = plan.steps.get_mut(at) {
                *slot = pair;
                plan.steps.remove(index);
            }
        }
        index += 1;
    }
}

/// A step that appends to one cache only.
fn single(step: &PlanStep) -> Option<&Append> {
    let append = (step.op.as_ref() as &dyn Any).downcast_ref::<Append>()?;
    (append.other.is_none() && append.past > 0 && step.epilogue.is_none()).then_some(append)
}

fn turned(step: &PlanStep) -> bool {
    step.inputs.len() > 2
}

/// The step that does what step `first` and a later one do, in the later one's place; no step between them reads what the first
/// one writes.
fn pair(plan: &Plan, first: usize) -> Option<(usize, PlanStep)> {
    let step = plan.steps.get(first)?;
    let op = single(step)?;
    let &[Some(result)] = step.outputs.as_slice() else { return None };
    for (at, other) in plan.steps.iter().enumerate().skip(first + 1).take(BETWEEN) {
        if let Some(other_op) =
            single(other).filter(|other| (other.extents, other.past) == (op.extents, op.past))
        {
            let ((keys_op, keys), (values_op, values)) = match (turned(step), turned(other)) {
                (_, false) => ((op, step), (other_op, other)),
                (false, true) => ((other_op, other), (op, step)),
                (true, true) => return None,
            };
            let mut inputs = keys.inputs.clone();
            inputs.resize(4, None);
            inputs.extend(values.inputs.iter().take(2));
            let op = Append { other: Some(values_op.x), ..*keys_op };
            return Some((
                at,
                PlanStep {
                    op: Arc::new(op),
                    inputs,
                    outputs: keys.outputs.iter().chain(&values.outputs).copied().collect(),
                    epilogue: None,
                    nodes: keys.nodes.iter().chain(&values.nodes).cloned().collect(),
                },
            ));
        }
        if other.reads().any(|id| id == result) {
            return None;
        }
    }
    None
}
