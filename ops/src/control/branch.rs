//! [`If`](https://onnx.ai/onnx/operators/onnx__If.html): one of two nested graphs.

use std::sync::Arc;

use super::evaluate::{evaluate, tensors, truth};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::graph::Graph;
use crate::ir::item::Item;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Expansion, Operator, all_tensors};

/// One of two graphs, by a condition. Inputs: the condition, what the else branch captures, what the then branch captures.
#[derive(Debug)]
pub struct If {
    /// What a true condition takes.
    pub then_branch: Arc<Graph>,
    /// What a false condition takes.
    pub else_branch: Arc<Graph>,
}

/// Builds [`If`].
///
/// # Errors
/// When a branch is missing, or gives another number of outputs than the node has.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let then_branch = spec.attributes.graph("then_branch")?;
    let else_branch = spec.attributes.graph("else_branch")?;
    for branch in [&then_branch, &else_branch] {
        if branch.outputs.len() != spec.outputs.len() || !branch.inputs.is_empty() {
            let expected = format!("no inputs, {} outputs", spec.outputs.len());
            let got = format!("{} inputs, {} outputs", branch.inputs.len(), branch.outputs.len());
            return Err(OpError::constraint("a branch", expected, got));
        }
    }
    Ok(Arc::new(If { then_branch, else_branch }))
}

impl If {
    /// The branch, and where its captures begin in the node's inputs.
    fn taken(&self, condition: bool) -> (&Arc<Graph>, usize) {
        match condition {
            true => (&self.then_branch, 1 + self.else_branch.captures.len()),
            false => (&self.else_branch, 1),
        }
    }
}

impl Operator for If {
    fn name(&self) -> &'static str {
        "If"
    }

    fn infer(&self, _inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        Err(OpError::Internal("a branch waits for its condition"))
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        let condition = inputs.first().copied().flatten().and_then(|fact| fact.value.as_ref());
        let Some(condition) = condition else { return Ok(Expansion::Waits) };
        let (graph, first) = self.taken(truth(&condition.view(), 0)?);
        let inputs = (first..first + graph.captures.len()).collect();
        Ok(Expansion::Graph { graph: Arc::clone(graph), inputs })
    }

    fn expand_items(&self, inputs: &[Option<Item<&Fact>>]) -> Result<Expansion, OpError> {
        let condition = inputs.iter().take(1).cloned().collect::<Vec<_>>();
        self.expand(&all_tensors(&condition)?)
    }

    fn gives_items(&self) -> bool {
        true
    }

    fn wants_value(&self, input: usize) -> bool {
        input == 0
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let condition = inputs.first().copied().flatten().ok_or(OpError::Internal("no condition"))?;
        let (graph, first) = self.taken(truth(&condition, 0)?);
        let captures = inputs.get(first..first + graph.captures.len());
        evaluate(graph, tensors(captures.ok_or(OpError::Internal("a capture is missing"))?)?)
    }
}
