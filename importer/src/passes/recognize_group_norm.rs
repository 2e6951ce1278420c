//! Group normalisations that exporters wrote as instance normalisations of groups reshaped to channels.

use std::any::Any;
use std::sync::Arc;

use sardonyx_ops::Role;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::norm::{Normalize, Span, Statistic, Stretch};
use sardonyx_ops::plan::{Plan, PlanStep};

use super::trace::Trace;
use super::{Report, dims, replace};

pub(super) fn run(plan: &mut Plan, report: &mut Report) {
    let trace = Trace::new(plan);
    let mut found = Vec::new();
    for step in &plan.steps {
        let Some((place, new)) = group(plan, &trace, step) else { continue };
        report.fused(&new);
        found.push((place, new));
    }
    replace(plan, found);
}

/// The normalisation by groups of what was reshaped before, and the place of the reshaping back.
fn group(plan: &Plan, trace: &Trace<'_>, step: &PlanStep) -> Option<(usize, PlanStep)> {
    let op = (step.op.as_ref() as &dyn Any).downcast_ref::<Normalize>()?;
    let instance = op.statistic == Statistic::Variance && op.span == Span::Groups(None);
    let (&[Some(input), ..], &[Some(result)]) = (step.inputs.as_slice(), step.outputs.as_slice()) else {
        return None;
    };
    let x = view_of(trace.writer(input)?)?;
    let (place, back) = trace.reader(result)?;
    view_of(back)?;
    let output = back.outputs.first().copied().flatten()?;
    let (&[batch, channels, ..], &[groups_batch, groups, ..]) = (dims(plan, x), dims(plan, input)) else {
        return None;
    };
    let fits = batch == groups_batch && groups > 0 && channels.is_multiple_of(groups);
    if !instance || !fits || dims(plan, output) != dims(plan, x) || step.epilogue.is_some() {
        return None;
    }
    let mut inputs = vec![Some(x)];
    // Scales and biases that change nothing stand for those that follow, channel by channel.
    let plain = [(1, 1.0), (2, 0.0)].iter().all(|&(index, number)| {
        step.inputs.get(index).copied().flatten().is_none_or(|id| everywhere(plan, id, number))
    });
    if !plain {
        inputs.extend(step.inputs.iter().skip(1));
    }
    let op = Normalize {
        name: "GroupNormalization",
        span: Span::Groups(Some(groups)),
        stretch: Stretch::Groups(groups),
        ..op.clone()
    };
    let nodes = step.nodes.iter().chain(&back.nodes).cloned().collect();
    Some((place, PlanStep { op: Arc::new(op), inputs, outputs: vec![Some(output)], epilogue: None, nodes }))
}

/// What a step shows under other dimensions.
fn view_of(step: &PlanStep) -> Option<ValueId> {
    (step.op.role() == Role::View).then(|| step.inputs.first().copied().flatten())?
}

/// Whether every element of a constant is this number.
fn everywhere(plan: &Plan, id: ValueId, number: f32) -> bool {
    let constant = plan.values.get(id.0).and_then(|value| value.constant.as_ref());
    constant.and_then(|all| all.elements::<f32>().ok()).is_some_and(|all| all.iter().all(|&x| x == number))
}
