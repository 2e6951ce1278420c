//! Makes one copy of steps that move elements one after another.

use std::sync::Arc;

use sardonyx_ops::Role;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::movement::rearrange::Rearrange;
use sardonyx_ops::plan::{Plan, PlanStep};

use super::trace::{Trace, problem};
use super::{Report, dims, replace};

pub(super) fn run(plan: &mut Plan, report: &mut Report) {
    let trace = Trace::new(plan);
    let mut found = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let Some(new) = composed(plan, &trace, step) else { continue };
        report.fused(&new);
        found.push((index, new));
    }
    replace(plan, found);
}

/// The step as a copy of what an earlier one moves.
fn composed(plan: &Plan, trace: &Trace<'_>, step: &PlanStep) -> Option<PlanStep> {
    let [Some(result)] = step.outputs.as_slice() else { return None };
    let from = step.inputs.first().copied().flatten()?;
    if step.op.role() == Role::View || step.epilogue.is_some() {
        return None;
    }
    step.op.moves(&problem(plan, step), 0)?;
    let len = |id: ValueId| dims(plan, id).iter().product::<usize>();
    let (_, before) = trace.source(from);
    let (root, layout) = trace.source(*result);
    if root == *result || before.is_dense(len(from)) {
        return None;
    }
    let op = Rearrange::new(&layout, len(root), dims(plan, *result)).ok()?;
    Some(PlanStep { op: Arc::new(op), inputs: vec![Some(root)], ..step.clone() })
}
