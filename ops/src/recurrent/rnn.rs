//! [RNN](https://onnx.ai/onnx/operators/onnx__RNN.html): a hidden state that is a function of itself and the input.

use std::sync::Arc;

use super::activation::Curve;
use super::operator::{Cell, Recurrent};
use super::step::Weights;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::operator::Operator;

/// Builds RNN, from opset 7 on.
///
/// # Errors
/// When an attribute breaks a rule, or there are too many inputs or outputs.
pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    Ok(Arc::new(Recurrent::build(spec, Cell::Rnn, &[Curve::Tanh])?))
}

/// One step.
pub(super) fn step(weights: &Weights<'_>, x: &[f64], hidden: &mut [f64]) {
    let next: Vec<f64> = (0..hidden.len())
        .map(|row| weights.activate(0, weights.of_input(row, x) + weights.of_hidden(row, hidden)))
        .collect();
    hidden.copy_from_slice(&next);
}
