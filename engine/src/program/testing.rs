//! What the tests of passes over a plan make their plans of.

use std::sync::Arc;

use sardonyx_ops::Operator;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::PlanStep;

/// A step with one result, named after it.
pub(super) fn step(op: Arc<dyn Operator>, inputs: &[usize], output: usize) -> PlanStep {
    PlanStep {
        op,
        inputs: inputs.iter().map(|&id| Some(ValueId(id))).collect(),
        outputs: vec![Some(ValueId(output))],
        epilogue: None,
        nodes: vec![Arc::from(format!("node{output}"))],
    }
}
