//! [GRU](https://onnx.ai/onnx/operators/onnx__GRU.html): a hidden state that an update gate keeps or replaces.

use std::sync::Arc;

use super::activation::Curve;
use super::operator::{Cell, Recurrent};
use super::step::Weights;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::operator::Operator;

/// Builds GRU, from opset 7 on.
///
/// # Errors
/// When an attribute breaks a rule, or there are too many inputs or outputs.
pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let cell = Cell::Gru { linear_before_reset: spec.attributes.flag("linear_before_reset", false)? };
    Ok(Arc::new(Recurrent::build(spec, cell, &[Curve::Sigmoid, Curve::Tanh])?))
}

/// One step. The rows of the weights are those of the update gate, the reset gate and the new hidden state.
pub(super) fn step(weights: &Weights<'_>, linear_before_reset: bool, x: &[f64], hidden: &mut [f64]) {
    let size = hidden.len();
    let gate = |gate: usize, unit: usize, hidden: &[f64]| {
        let row = gate * size + unit;
        weights.activate(0, weights.of_input(row, x) + weights.of_hidden(row, hidden))
    };
    let reset: Vec<f64> = (0..size).map(|unit| gate(1, unit, hidden)).collect();
    let scaled: Vec<f64> = reset.iter().zip(&*hidden).map(|(reset, hidden)| reset * hidden).collect();
    let next: Vec<f64> = (0..size)
        .map(|unit| {
            let row = 2 * size + unit;
            let recurrent = if linear_before_reset {
                reset[unit] * weights.of_hidden(row, hidden)
            } else {
                weights.of_hidden(row, &scaled)
            };
            let new = weights.activate(1, weights.of_input(row, x) + recurrent);
            let update = gate(0, unit, hidden);
            (1.0 - update) * new + update * hidden[unit]
        })
        .collect();
    hidden.copy_from_slice(&next);
}
