//! [`SequenceConstruct`](https://onnx.ai/onnx/operators/onnx__SequenceConstruct.html): a sequence of the inputs.

use std::sync::Arc;

use super::parts::{Dissolved, Dissolving, Given, check_length, parts};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::item::Item;
use crate::operator::{Expansion, Operator, all_tensors};

/// A sequence of the inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SequenceConstruct;

/// Builds `SequenceConstruct`.
///
/// # Errors
/// When there is no input, or one is absent.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(spec.inputs.len().max(1), usize::MAX, "1 or more")?;
    Ok(node())
}

/// The operator.
pub(super) fn node() -> Arc<dyn Operator> {
    Arc::new(Dissolved(SequenceConstruct))
}

impl Dissolving for SequenceConstruct {
    fn name(&self) -> &'static str {
        "SequenceConstruct"
    }

    fn dissolve(&self, inputs: Given<'_, '_>) -> Result<Expansion, OpError> {
        all_tensors(inputs)?;
        check_length(inputs.len())?;
        let members = (0..inputs.len()).map(|index| parts(inputs, index));
        Ok(Expansion::Values(vec![Item::Sequence(members.collect::<Result<_, _>>()?)]))
    }
}
