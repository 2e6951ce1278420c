//! [`OptionalHasElement`](https://onnx.ai/onnx/operators/onnx__OptionalHasElement.html): whether an optional has a value.

use std::sync::Arc;

use super::parts::{Dissolved, Dissolving, Given, constant};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::item::Item;
use crate::ir::tensor::Tensor;
use crate::operator::{Expansion, Operator};

/// Whether there is a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct OptionalHasElement;

/// Builds `OptionalHasElement`.
///
/// # Errors
/// When there is more than one input.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(0, 1, "0 or 1")?;
    Ok(Arc::new(Dissolved(OptionalHasElement)))
}

impl Dissolving for OptionalHasElement {
    fn name(&self) -> &'static str {
        "OptionalHasElement"
    }

    fn dissolve(&self, inputs: Given<'_, '_>) -> Result<Expansion, OpError> {
        let there = !matches!(inputs.first(), None | Some(None | Some(Item::Optional(None))));
        Ok(constant(Tensor::from_bools(&[], &[there])?))
    }
}
