//! [`SequenceErase`](https://onnx.ai/onnx/operators/onnx__SequenceErase.html): a sequence with one member less.

use std::sync::Arc;

use super::parts::{Dissolved, Dissolving, Given, members, parts, position};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::item::Item;
use crate::operator::{Expansion, Operator};

/// A sequence without the member at the position in input 1, or the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SequenceErase;

/// Builds `SequenceErase`.
///
/// # Errors
/// When there are not one or two inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 2, "1 or 2")?;
    Ok(Arc::new(Dissolved(SequenceErase)))
}

impl Dissolving for SequenceErase {
    fn name(&self) -> &'static str {
        "SequenceErase"
    }

    fn dissolve(&self, inputs: Given<'_, '_>) -> Result<Expansion, OpError> {
        let mut members = members(parts(inputs, 0)?)?;
        let Some(last) = members.len().checked_sub(1) else {
            return Err(OpError::constraint("position", "within the sequence", "an empty sequence"));
        };
        let place = match inputs.get(1) {
            Some(Some(_)) => position(inputs, 1, members.len(), last)?,
            _ => Some(last),
        };
        let Some(place) = place else { return Ok(Expansion::Waits) };
        members.remove(place);
        Ok(Expansion::Values(vec![Item::Sequence(members)]))
    }

    fn place(&self) -> Option<usize> {
        Some(1)
    }
}
