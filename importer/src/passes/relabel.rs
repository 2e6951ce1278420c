//! Makes views of steps that move elements but leave them all in order: transpositions of extents of 1, expansions to the
//! same size, slices of everything.

use std::sync::Arc;

use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::movement::layout::Layout;
use sardonyx_ops::movement::reshape::Reshape;
use sardonyx_ops::plan::{Plan, PlanStep, PlanValue};
use sardonyx_ops::{DType, Tensor};

use super::trace::problem;
use super::{Report, dims};

pub(super) fn run(plan: &mut Plan, report: &mut Report) {
    for index in 0..plan.steps.len() {
        let Some(step) = plan.steps.get(index).filter(|step| stays(plan, step)) else { continue };
        let (Some(&x), [Some(result)]) = (step.inputs.first(), step.outputs.as_slice()) else { continue };
        let sizes: Result<Vec<i64>, _> = dims(plan, *result).iter().map(|&n| i64::try_from(n)).collect();
        let Some(shape) = sizes.ok().and_then(|sizes| Tensor::from_vec(&[sizes.len()], sizes).ok()) else {
            continue;
        };
        report.fused(step);
        let new = ValueId(plan.values.len());
        plan.values.push(PlanValue {
            name: format!("{}/shape", step.name()).into(),
            dtype: DType::I64,
            dims: shape.dims().to_vec(),
            constant: Some(shape),
        });
        if let Some(step) = plan.steps.get_mut(index) {
            step.op = Arc::new(Reshape { allow_zero: true });
            step.inputs = vec![x, Some(new)];
        }
    }
}

/// Whether all elements of input 0 come out in order.
fn stays(plan: &Plan, step: &PlanStep) -> bool {
    let ([Some(result)], None, Some(Some(x))) =
        (step.outputs.as_slice(), &step.epilogue, step.inputs.first())
    else {
        return false;
    };
    let len = |id: ValueId| dims(plan, id).iter().product::<usize>();
    let dtype = |id: ValueId| plan.values.get(id.0).map(|value| value.dtype);
    if len(*x) != len(*result) || len(*x) == 0 || dtype(*x) != dtype(*result) {
        return false;
    }
    let map = step.op.moves(&problem(plan, step), 0);
    map.and_then(|map| Layout::dense(len(*x)).through(&map)).is_some_and(|layout| layout.is_dense(len(*x)))
}
