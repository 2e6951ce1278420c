//! [`SequenceEmpty`](https://onnx.ai/onnx/operators/onnx__SequenceEmpty.html): a sequence without members.

use std::sync::Arc;

use super::parts::{Dissolved, Dissolving, Given};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::item::Item;
use crate::operator::{Expansion, Operator};

/// A sequence without members. The type that these would have says nothing about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SequenceEmpty;

/// Builds `SequenceEmpty`.
///
/// # Errors
/// When there are inputs, or the element type is unknown.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(0, 0, "none")?;
    let number = spec.attributes.int_or("dtype", 1)?;
    if DType::from_onnx(number).is_none() {
        return Err(OpError::Attribute { name: "dtype", expected: "an element type" });
    }
    Ok(Arc::new(Dissolved(SequenceEmpty)))
}

impl Dissolving for SequenceEmpty {
    fn name(&self) -> &'static str {
        "SequenceEmpty"
    }

    fn dissolve(&self, _inputs: Given<'_, '_>) -> Result<Expansion, OpError> {
        Ok(Expansion::Values(vec![Item::Sequence(Vec::new())]))
    }
}
