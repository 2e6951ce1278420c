//! [`SequenceAt`](https://onnx.ai/onnx/operators/onnx__SequenceAt.html): the member at a position.

use std::sync::Arc;

use super::parts::{Dissolved, Dissolving, Given, members, parts, position};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::operator::{Expansion, Operator};

/// The member at a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SequenceAt;

/// Builds `SequenceAt`.
///
/// # Errors
/// When there are not two inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(node())
}

/// The operator.
pub(super) fn node() -> Arc<dyn Operator> {
    Arc::new(Dissolved(SequenceAt))
}

impl Dissolving for SequenceAt {
    fn name(&self) -> &'static str {
        "SequenceAt"
    }

    fn dissolve(&self, inputs: Given<'_, '_>) -> Result<Expansion, OpError> {
        let mut members = members(parts(inputs, 0)?)?;
        let Some(last) = members.len().checked_sub(1) else {
            return Err(OpError::constraint("position", "within the sequence", "an empty sequence"));
        };
        let Some(place) = position(inputs, 1, members.len(), last)? else { return Ok(Expansion::Waits) };
        Ok(Expansion::Values(vec![members.swap_remove(place)]))
    }

    fn place(&self) -> Option<usize> {
        Some(1)
    }
}
