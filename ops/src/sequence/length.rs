//! [`SequenceLength`](https://onnx.ai/onnx/operators/onnx__SequenceLength.html): how many members a sequence has.

use std::sync::Arc;

use super::parts::{Dissolved, Dissolving, Given, constant, members, parts};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::tensor::Tensor;
use crate::operator::{Expansion, Operator};

/// The number of members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SequenceLength;

/// Builds `SequenceLength`.
///
/// # Errors
/// When there is not one input.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(Dissolved(SequenceLength)))
}

impl Dissolving for SequenceLength {
    fn name(&self) -> &'static str {
        "SequenceLength"
    }

    fn dissolve(&self, inputs: Given<'_, '_>) -> Result<Expansion, OpError> {
        let count = members(parts(inputs, 0)?)?.len();
        Ok(constant(Tensor::scalar(i64::try_from(count).map_err(|_| OpError::Size)?)))
    }
}
