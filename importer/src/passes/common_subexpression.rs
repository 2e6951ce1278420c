//! Computes once what several steps compute alike.

use std::collections::HashMap;

use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::{Plan, PlanStep};

use super::Report;

type Values = Vec<Option<ValueId>>;

pub(super) fn run(plan: &mut Plan, report: &mut Report) {
    let mut instead: HashMap<ValueId, ValueId> = HashMap::new();
    let mut first: HashMap<(String, Values), Values> = HashMap::new();
    let mut kept = Vec::with_capacity(plan.steps.len());
    for mut step in std::mem::take(&mut plan.steps) {
        for id in step.inputs.iter_mut().flatten() {
            *id = instead.get(id).copied().unwrap_or(*id);
        }
        // Operators that do not fold may give another result each time.
        if !step.op.folds() || step.epilogue.is_some() {
            kept.push(step);
            continue;
        }
        // An operator's debug text has all its attributes, tensors by digest.
        let key = (format!("{} {:?}", step.op.name(), step.op), step.inputs.clone());
        let Some(earlier) = first.get(&key) else {
            first.insert(key, step.outputs.clone());
            kept.push(step);
            continue;
        };
        match pairs(&step, earlier) {
            Some(pairs) if !pairs.iter().any(|(output, _)| plan.outputs.contains(output)) => {
                report.fused(&step);
                instead.extend(pairs);
            }
            Some(_) => {
                report.declined(&step, "its result is an output of the model");
                kept.push(step);
            }
            None => {
                report.declined(&step, "it has an output that the earlier step does not write");
                kept.push(step);
            }
        }
    }
    plan.steps = kept;
}

/// Each output of a step with the earlier step's; `None` when one is missing there.
fn pairs(step: &PlanStep, earlier: &[Option<ValueId>]) -> Option<Vec<(ValueId, ValueId)>> {
    let wanted = step.outputs.iter().enumerate().filter_map(|(index, output)| Some((index, (*output)?)));
    wanted.map(|(index, output)| Some((output, earlier.get(index).copied().flatten()?))).collect()
}
