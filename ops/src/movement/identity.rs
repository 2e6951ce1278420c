//! [`Identity`](https://onnx.ai/onnx/operators/onnx__Identity.html): the input itself.

use std::sync::Arc;

use super::relabel::{self, relabels};
use super::sizes::{required, view};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::item::Item;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Expansion, Operator};
use crate::sequence;

/// `Identity` of a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity;

/// Builds [`Identity`].
///
/// # Errors
/// When there is not one input.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(Identity))
}

impl Operator for Identity {
    fn name(&self) -> &'static str {
        "Identity"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        Ok(vec![required(inputs, 0)?.clone()])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        Ok(vec![relabel::reference(&x, x.dims)?])
    }

    fn expand_items(&self, inputs: &[Option<Item<&Fact>>]) -> Result<Expansion, OpError> {
        match inputs {
            [Some(Item::Sequence(_) | Item::Optional(_))] => {
                Ok(Expansion::Values(vec![sequence::parts(inputs, 0)?]))
            }
            _ => Ok(Expansion::Stays),
        }
    }

    relabels!();
}
