//! Removes steps that change nothing: views under equal dimensions, conversions to the same type, choices that a constant
//! condition decides for every element.

use std::collections::HashMap;

use sardonyx_ops::Role;
use sardonyx_ops::expr::ExprNode;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::{Plan, PlanStep};

use super::{Report, dims};

pub(super) fn run(plan: &mut Plan, report: &mut Report) {
    let mut instead: HashMap<ValueId, ValueId> = HashMap::new();
    let mut kept = Vec::with_capacity(plan.steps.len());
    for mut step in std::mem::take(&mut plan.steps) {
        for id in step.inputs.iter_mut().flatten() {
            *id = instead.get(id).copied().unwrap_or(*id);
        }
        let Some((source, result)) = unchanged(plan, &step) else {
            kept.push(step);
            continue;
        };
        if plan.outputs.contains(&result) {
            let given = plan.inputs.contains(&source)
                || plan.outputs.contains(&source)
                || plan.values.get(source.0).is_none_or(|value| value.constant.is_some());
            if given {
                report.declined(&step, "it makes an output of the model from a value that has another name");
                kept.push(step);
                continue;
            }
            let name = plan.values.get(result.0).map(|value| value.name.clone());
            if let (Some(name), Some(value)) = (name, plan.values.get_mut(source.0)) {
                value.name = name;
            }
            plan.outputs.iter_mut().filter(|output| **output == result).for_each(|output| *output = source);
        }
        report.fused(&step);
        instead.insert(result, source);
    }
    plan.steps = kept;
}

/// The value that a step passes on as it is, and the value it writes.
fn unchanged(plan: &Plan, step: &PlanStep) -> Option<(ValueId, ValueId)> {
    let [Some(result)] = step.outputs.as_slice() else { return None };
    let source = match step.op.role() {
        Role::View => step.inputs.first().copied().flatten()?,
        Role::Pointwise => copied(plan, step, *result)?,
        _ => return None,
    };
    let same_type = plan.values.get(source.0)?.dtype == plan.values.get(result.0)?.dtype;
    (same_type && dims(plan, source) == dims(plan, *result)).then_some((source, *result))
}

/// The operand that a pointwise step only converts to the result's type, or chooses everywhere.
fn copied(plan: &Plan, step: &PlanStep, result: ValueId) -> Option<ValueId> {
    let expr = step.op.expression()?;
    let operand = |node: usize| match expr.nodes.get(node)? {
        ExprNode::Operand(index) => step.inputs.iter().flatten().nth(*index).copied(),
        _ => None,
    };
    let last = *expr.results.first()?;
    match expr.nodes.get(last)? {
        ExprNode::Cast { arg, to } if *to == plan.values.get(result.0)?.dtype => operand(*arg),
        ExprNode::Call { function, args, .. } if function.name == "select" => {
            let &[condition, chosen, other] = args.as_slice() else { return None };
            let constant = plan.values.get(operand(condition)?.0)?.constant.as_ref()?;
            let &first = constant.bytes().first()?;
            let decided = constant.bytes().iter().all(|&each| each == first);
            operand(if first == 1 { chosen } else { other }).filter(|_| decided)
        }
        _ => operand(last),
    }
}
