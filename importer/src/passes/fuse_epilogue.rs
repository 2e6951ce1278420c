//! Lets an anchor's results pass through the pointwise step that reads them before they are stored.

use std::collections::HashMap;

use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::{Plan, PlanEpilogue, PlanStep};
use sardonyx_ops::{DType, Role};

use super::pointwise_form::PointwiseForm;
use super::{BINDINGS, Report, dims, readers};

pub(super) fn run(plan: &mut Plan, report: &mut Report) {
    let readers = readers(plan);
    let mut steps: Vec<Option<PlanStep>> = std::mem::take(&mut plan.steps).into_iter().map(Some).collect();
    let mut anchors: HashMap<ValueId, usize> = HashMap::new();
    for index in 0..steps.len() {
        let Some(step) = steps.get(index).and_then(Option::as_ref) else { continue };
        if step.op.role() == Role::Anchor && step.epilogue.is_none() {
            if let Some(Some(output)) = step.outputs.first() {
                anchors.insert(*output, index);
            }
            continue;
        }
        let Some(form) = PointwiseForm::of(step, plan) else { continue };
        // Of several anchors the last is taken: the others' results are there when it runs in the step's place.
        let mut found: Vec<(usize, ValueId)> =
            form.operands.iter().filter_map(|id| Some((*anchors.get(id)?, *id))).collect();
        found.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
        let mut done = None;
        for (place, accumulator) in found {
            let Some(anchor) = steps.get(place).and_then(Option::as_ref) else { continue };
            match fuse(plan, &readers, anchor, &form, accumulator) {
                Ok(fused) => {
                    report.fused(&fused);
                    done = Some((place, fused));
                    break;
                }
                Err(reason) => report.declined(step, reason),
            }
        }
        let Some((place, fused)) = done else { continue };
        for (place, content) in [(place, None), (index, Some(fused))] {
            if let Some(slot) = steps.get_mut(place) {
                *slot = content;
            }
        }
    }
    plan.steps = steps.into_iter().flatten().collect();
}

/// The anchor with the step as its epilogue, or why not. It runs in the place of the step, after all operands.
fn fuse(
    plan: &Plan,
    readers: &[usize],
    anchor: &PlanStep,
    form: &PointwiseForm,
    accumulator: ValueId,
) -> Result<PlanStep, String> {
    let name = anchor.name();
    if readers.get(accumulator.0).is_none_or(|&count| count != 1) {
        return Err(format!("the result of {name} has other readers"));
    }
    if anchor.outputs.iter().skip(1).any(Option::is_some) {
        return Err(format!("{name} has several outputs"));
    }
    if dims(plan, accumulator) != dims(plan, form.result) {
        return Err(format!("the result of {name} is stretched"));
    }
    let dtype = |id: ValueId| plan.values.get(id.0).map(|value| value.dtype);
    if dtype(accumulator) != dtype(form.result)
        || !matches!(dtype(accumulator), Some(DType::F32 | DType::F16))
    {
        return Err(format!("{name} and its epilogue are not both f32 or both f16"));
    }
    let (expr, operands) = form.finishing(accumulator);
    let bound = anchor.inputs.iter().flatten().count() + operands.len() + 1;
    if bound > BINDINGS {
        return Err(format!("{bound} tensors, a kernel binds {BINDINGS}"));
    }
    Ok(PlanStep {
        outputs: vec![Some(form.result)],
        epilogue: Some(PlanEpilogue { expr, operands }),
        nodes: [anchor.nodes.as_slice(), &form.nodes].concat(),
        ..anchor.clone()
    })
}
