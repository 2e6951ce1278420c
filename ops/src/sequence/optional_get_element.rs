//! [`OptionalGetElement`](https://onnx.ai/onnx/operators/onnx__OptionalGetElement.html): the value of an optional.

use std::sync::Arc;

use super::parts::{Dissolved, Dissolving, Given, parts};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::item::Item;
use crate::operator::{Expansion, Operator};

/// The value of an optional; any other value is itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct OptionalGetElement;

/// Builds `OptionalGetElement`.
///
/// # Errors
/// When there is not one input.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(Dissolved(OptionalGetElement)))
}

impl Dissolving for OptionalGetElement {
    fn name(&self) -> &'static str {
        "OptionalGetElement"
    }

    fn dissolve(&self, inputs: Given<'_, '_>) -> Result<Expansion, OpError> {
        let value = match parts(inputs, 0)? {
            Item::Optional(None) => {
                return Err(OpError::constraint("the optional", "a value", "none"));
            }
            Item::Optional(Some(value)) => *value,
            value => value,
        };
        Ok(Expansion::Values(vec![value]))
    }
}
