//! [`SequenceMap`](https://onnx.ai/onnx/operators/onnx__SequenceMap.html): a nested graph for each member of sequences.

use std::sync::Arc;

use super::parts::{Dissolved, Dissolving, Given, check_length, given};
use super::{at, construct};
use crate::build::NodeSpec;
use crate::control::unroll::{self, Unrolled};
use crate::error::OpError;
use crate::ir::graph::{Graph, ValueId};
use crate::ir::item::Item;
use crate::ir::tensor::Tensor;
use crate::operator::{Expansion, Operator};

/// The body once for each member. Inputs: a sequence, then sequences as long and tensors for all, then what the body
/// captures. Outputs: sequences of what the body gives.
#[derive(Clone, Debug)]
struct SequenceMap {
    body: Arc<Graph>,
}

/// Builds `SequenceMap`.
///
/// # Errors
/// When the body does not fit the node's inputs and outputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(spec.inputs.len().max(1), usize::MAX, "1 or more")?;
    let body = spec.attributes.graph("body")?;
    if body.inputs.len() != spec.inputs.len() || body.outputs.len() != spec.outputs.len() {
        let expected = format!("{} inputs, {} outputs", spec.inputs.len(), spec.outputs.len());
        let got = format!("{} inputs, {} outputs", body.inputs.len(), body.outputs.len());
        return Err(OpError::constraint("the body of SequenceMap", expected, got));
    }
    Ok(Arc::new(Dissolved(SequenceMap { body })))
}

impl Dissolving for SequenceMap {
    fn name(&self) -> &'static str {
        "SequenceMap"
    }

    fn dissolve(&self, inputs: Given<'_, '_>) -> Result<Expansion, OpError> {
        let own = self.body.inputs.len();
        let Item::Sequence(first) = given(inputs, 0)? else {
            return Err(OpError::constraint("input 0", "a sequence", "another value"));
        };
        let count = first.len();
        check_length(count)?;
        if !unroll::fits(&self.body, count) {
            return Err(OpError::unsupported(format!("a body for each of {count} members")));
        }
        if count == 0 {
            let empty = |_: &ValueId| Item::Sequence(Vec::new());
            return Ok(Expansion::Values(self.body.outputs.iter().map(empty).collect()));
        }
        let mut is_sequence = Vec::with_capacity(own);
        for index in 0..own {
            is_sequence.push(match given(inputs, index)? {
                Item::Tensor(_) => false,
                Item::Sequence(members) if members.len() == count => true,
                other => {
                    let expected = format!("a tensor, or a sequence of {count}");
                    return Err(OpError::constraint("an input", expected, other.kind()));
                }
            });
        }
        let mut unrolled = Unrolled::new(&self.body, own);
        let values: Vec<ValueId> = (0..own).map(|index| unrolled.input(index)).collect();
        let mut all: Vec<Vec<ValueId>> = vec![Vec::with_capacity(count); self.body.outputs.len()];
        for iteration in 0..count {
            let at = Tensor::scalar(i64::try_from(iteration).map_err(|_| OpError::Size)?);
            let at = unrolled.graph.constant(at);
            let members: Vec<ValueId> = values
                .iter()
                .zip(&is_sequence)
                .map(|(value, is_sequence)| match is_sequence {
                    true => unrolled.graph.node(at::node(), &[*value, at]),
                    false => *value,
                })
                .collect();
            let outputs = unrolled.iterate(iteration, &members)?;
            all.iter_mut().zip(outputs).for_each(|(all, value)| all.push(value));
        }
        let outputs: Vec<ValueId> =
            all.iter().map(|values| unrolled.graph.node(construct::node(), values)).collect();
        Ok(unrolled.graph.finish(&outputs))
    }
}
