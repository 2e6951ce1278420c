//! [`SequenceInsert`](https://onnx.ai/onnx/operators/onnx__SequenceInsert.html): a sequence with one member more.

use std::sync::Arc;

use super::parts::{Dissolved, Dissolving, Given, check_length, members, parts, position};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::item::Item;
use crate::operator::{Expansion, Operator};

/// A sequence with a tensor more: before the position in input 2, or at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SequenceInsert;

/// Builds `SequenceInsert`.
///
/// # Errors
/// When there are not two or three inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 3, "2 or 3")?;
    Ok(Arc::new(Dissolved(SequenceInsert)))
}

impl Dissolving for SequenceInsert {
    fn name(&self) -> &'static str {
        "SequenceInsert"
    }

    fn dissolve(&self, inputs: Given<'_, '_>) -> Result<Expansion, OpError> {
        let mut members = members(parts(inputs, 0)?)?;
        check_length(members.len() + 1)?;
        let tensor = parts(inputs, 1)?;
        if tensor.tensor().is_none() {
            return Err(OpError::constraint("what is inserted", "a tensor", tensor.kind()));
        }
        let place = match inputs.get(2) {
            Some(Some(_)) => position(inputs, 2, members.len(), members.len())?,
            _ => Some(members.len()),
        };
        let Some(place) = place else { return Ok(Expansion::Waits) };
        members.insert(place, tensor);
        Ok(Expansion::Values(vec![Item::Sequence(members)]))
    }

    fn place(&self) -> Option<usize> {
        Some(2)
    }
}
