//! Merges pointwise steps into the one step that reads their result: chains and trees become one expression, whose
//! intermediate results never reach memory.

use std::collections::HashMap;
use std::sync::Arc;

use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::{Plan, PlanStep};
use sardonyx_ops::pointwise::Pointwise;

use super::pointwise_form::PointwiseForm;
use super::{BINDINGS, Report, dims, readers};

/// Operations of one expression: bounds the time that drivers take to compile it.
const MOST_CALLS: usize = 64;

pub(super) fn run(plan: &mut Plan, report: &mut Report) {
    let mut readers = readers(plan);
    let mut steps: Vec<Option<PlanStep>> = std::mem::take(&mut plan.steps).into_iter().map(Some).collect();
    // Pointwise steps so far, by their result, and where they stand.
    let mut forms: HashMap<ValueId, (usize, PointwiseForm)> = HashMap::new();
    for index in 0..steps.len() {
        let Some(step) = steps.get(index).and_then(Option::as_ref) else { continue };
        let Some(mut form) = PointwiseForm::of(step, plan) else { continue };
        let mut absorbed = Vec::new();
        let mut reasons;
        loop {
            reasons = Vec::new();
            let mut found = None;
            for (place, inner) in form.operands.iter().filter_map(|id| forms.get(id)) {
                match merge(plan, &readers, &form, inner) {
                    Ok(both) => {
                        found = Some((*place, inner, both));
                        break;
                    }
                    Err(reason) => reasons.push(reason),
                }
            }
            let Some((place, inner, both)) = found else { break };
            // What both read is now read once.
            for id in inner.operands.iter().filter(|id| form.operands.contains(id)) {
                if let Some(count) = readers.get_mut(id.0) {
                    *count = count.saturating_sub(1);
                }
            }
            absorbed.push(place);
            form = both;
        }
        reasons.into_iter().for_each(|reason| report.declined(step, reason));
        if !absorbed.is_empty() || form.operands.len() < step.inputs.len() {
            let name = if absorbed.is_empty() { step.op.name() } else { "Pointwise" };
            let new = PlanStep {
                op: Arc::new(Pointwise { name, expr: form.expr.clone() }),
                inputs: form.operands.iter().copied().map(Some).collect(),
                outputs: step.outputs.clone(),
                epilogue: None,
                nodes: form.nodes.clone(),
            };
            if !absorbed.is_empty() {
                report.fused(&new);
            }
            for (place, content) in
                absorbed.into_iter().map(|place| (place, None)).chain([(index, Some(new))])
            {
                if let Some(slot) = steps.get_mut(place) {
                    *slot = content;
                }
            }
        }
        forms.insert(form.result, (index, form));
    }
    plan.steps = steps.into_iter().flatten().collect();
}

/// Both forms as one, or why not.
fn merge(
    plan: &Plan,
    readers: &[usize],
    outer: &PointwiseForm,
    inner: &PointwiseForm,
) -> Result<PointwiseForm, String> {
    let name = || inner.nodes.last().map_or("", |name| name);
    if readers.get(inner.result.0).is_none_or(|&count| count != 1) {
        return Err(format!("the result of {} has other readers", name()));
    }
    let count = |id: ValueId| dims(plan, id).iter().product::<usize>();
    if count(inner.result) != count(outer.result) {
        return Err(format!("the result of {} is stretched and would be computed several times", name()));
    }
    let both = outer.merged(inner).ok_or_else(|| format!("the result of {} is not read", name()))?;
    if both.operands.len() + 1 > BINDINGS {
        return Err(format!("{} tensors, a kernel binds {BINDINGS}", both.operands.len() + 1));
    }
    if both.expr.calls() > MOST_CALLS {
        return Err(format!("{} operations, an expression has at most {MOST_CALLS}", both.expr.calls()));
    }
    Ok(both)
}
