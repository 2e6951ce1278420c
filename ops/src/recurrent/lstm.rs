//! [LSTM](https://onnx.ai/onnx/operators/onnx__LSTM.html): a cell state that gates let in, keep and let out.

use std::sync::Arc;

use super::activation::Curve;
use super::operator::{Cell, Recurrent};
use super::step::{State, Weights};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::operator::Operator;

/// Builds LSTM, from opset 7 on.
///
/// # Errors
/// When an attribute breaks a rule, or there are too many inputs or outputs.
pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let cell = Cell::Lstm { coupled: spec.attributes.flag("input_forget", false)? };
    Ok(Arc::new(Recurrent::build(spec, cell, &[Curve::Sigmoid, Curve::Tanh, Curve::Tanh])?))
}

/// One step. The rows of the weights are those of the input gate, the output gate, the forget gate and the cell.
pub(super) fn step(weights: &Weights<'_>, coupled: bool, x: &[f64], state: &mut State<'_>) {
    let size = state.hidden.len();
    let before = state.hidden.to_vec();
    for (unit, (hidden, cell)) in state.hidden.iter_mut().zip(state.cell.iter_mut()).enumerate() {
        let sum = |gate: usize| {
            weights.of_input(gate * size + unit, x) + weights.of_hidden(gate * size + unit, &before)
        };
        let peep = |gate: usize, cell: f64| weights.peepholes[gate * size + unit] * cell;
        let enter = weights.activate(0, sum(0) + peep(0, *cell));
        let keep = if coupled { 1.0 - enter } else { weights.activate(0, sum(2) + peep(2, *cell)) };
        *cell = keep * *cell + enter * weights.activate(1, sum(3));
        let leave = weights.activate(0, sum(1) + peep(1, *cell));
        *hidden = leave * weights.activate_whole(2, *cell);
    }
}
