//! Softmax along a dimension that was written as exponentials over their sum: `exp(x − max x) / Σ exp(x − max x)`.

use std::sync::Arc;

use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::norm::{Form, Softmax};
use sardonyx_ops::plan::{Plan, PlanStep};
use sardonyx_ops::reduce::Kind;

use super::trace::{Trace, call};
use super::{Report, replace};

pub(super) fn run(plan: &mut Plan, report: &mut Report) {
    let trace = Trace::new(plan);
    let mut found = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let Some((x, axis)) = softmax(&trace, step) else { continue };
        let op = Softmax { form: Form::Soft, axis, flatten: false };
        let new = PlanStep { op: Arc::new(op), inputs: vec![Some(x)], ..step.clone() };
        report.fused(&new);
        found.push((index, new));
    }
    replace(plan, found);
}

/// What the softmax is taken of, and along which dimension.
fn softmax(trace: &Trace<'_>, step: &PlanStep) -> Option<(ValueId, i64)> {
    let ("div", args) = call(step)? else { return None };
    let &[powers, sum] = args.as_slice() else { return None };
    let (summed, along) = trace.reduced(sum, Kind::Sum)?;
    let ("exp", args) = trace.call(powers)? else { return None };
    let ("sub", args) = trace.call(*args.first()?)? else { return None };
    let &[x, top] = args.as_slice() else { return None };
    let (highest, across) = trace.reduced(top, Kind::Max)?;
    let axis = along.iter().position(|&reduced| reduced)?;
    let single = along.iter().filter(|&&reduced| reduced).count() == 1;
    (summed == powers && highest == x && along == across && single).then_some((x, i64::try_from(axis).ok()?))
}
