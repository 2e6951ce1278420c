//! Removes steps that no output needs, and values that no step mentions.

use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::{Plan, PlanStep};

use super::Report;

pub(super) fn run(plan: &mut Plan, report: &mut Report) {
    let mut needed = sweep(plan, |step| report.fused(step));
    let mark = |needed: &mut Vec<bool>, id: ValueId| {
        if let Some(slot) = needed.get_mut(id.0) {
            *slot = true;
        }
    };
    plan.inputs.iter().for_each(|&id| mark(&mut needed, id));
    let outputs = plan.steps.iter().flat_map(|step| step.outputs.iter().flatten());
    outputs.for_each(|&id| mark(&mut needed, id));
    compact(plan, &needed);
}

/// Removes steps that no output needs, each shown to `removed`. Which values are needed.
pub(super) fn sweep(plan: &mut Plan, mut removed: impl FnMut(&PlanStep)) -> Vec<bool> {
    let mut needed = vec![false; plan.values.len()];
    let mark = |needed: &mut Vec<bool>, id: ValueId| {
        if let Some(slot) = needed.get_mut(id.0) {
            *slot = true;
        }
    };
    plan.outputs.iter().for_each(|&id| mark(&mut needed, id));
    let mut live = Vec::with_capacity(plan.steps.len());
    for step in std::mem::take(&mut plan.steps).into_iter().rev() {
        let wanted = |id: &ValueId| needed.get(id.0).copied().unwrap_or(false);
        if step.outputs.iter().flatten().any(wanted) {
            step.reads().for_each(|id| mark(&mut needed, id));
            live.push(step);
        } else {
            removed(&step);
        }
    }
    live.reverse();
    plan.steps = live;
    needed
}

/// Drops the values that are not needed and renumbers the others.
fn compact(plan: &mut Plan, needed: &[bool]) {
    let mut kept = 0;
    let places: Vec<usize> = needed
        .iter()
        .map(|&needed| {
            let place = kept;
            kept += usize::from(needed);
            place
        })
        .collect();
    let mut flags = needed.iter();
    plan.values.retain(|_| flags.next().copied().unwrap_or(true));
    let renumber = |id: &mut ValueId| id.0 = places.get(id.0).copied().unwrap_or(id.0);
    let renumber_step = |step: &mut PlanStep| {
        step.inputs.iter_mut().chain(&mut step.outputs).flatten().for_each(renumber);
        step.epilogue.iter_mut().flat_map(|epilogue| &mut epilogue.operands).for_each(renumber);
    };
    plan.steps.iter_mut().for_each(renumber_step);
    plan.inputs.iter_mut().chain(&mut plan.outputs).for_each(renumber);
}
