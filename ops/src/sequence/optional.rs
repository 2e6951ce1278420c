//! [`Optional`](https://onnx.ai/onnx/operators/onnx__Optional.html): the input as a value that might not be there.

use std::sync::Arc;

use super::parts::{Dissolved, Dissolving, Given, parts};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::attributes::Attribute;
use crate::ir::item::Item;
use crate::operator::{Expansion, Operator};

/// An optional of the input, or of none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Optional;

/// Builds `Optional`.
///
/// # Errors
/// When there is neither an input nor a type.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(0, 1, "0 or 1")?;
    let typed = matches!(spec.attributes.get("type"), Some(Attribute::Type));
    if !typed && !spec.has_input(0) {
        return Err(OpError::Attribute { name: "type", expected: "a type" });
    }
    Ok(Arc::new(Dissolved(Optional)))
}

impl Dissolving for Optional {
    fn name(&self) -> &'static str {
        "Optional"
    }

    fn dissolve(&self, inputs: Given<'_, '_>) -> Result<Expansion, OpError> {
        let value = match inputs.first() {
            Some(Some(Item::Optional(_))) => {
                return Err(OpError::constraint("an input", "a tensor or a sequence", "an optional"));
            }
            Some(Some(_)) => Some(Box::new(parts(inputs, 0)?)),
            _ => None,
        };
        Ok(Expansion::Values(vec![Item::Optional(value)]))
    }
}
