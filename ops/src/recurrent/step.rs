//! What one step of a recurrent cell reads: weights of one direction as wide numbers.

use super::activation::{Activation, within};

/// The weights of one direction.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    /// Rows that multiply an element of the sequence.
    pub input: &'a [f64],
    /// Rows that multiply the hidden state.
    pub recurrent: &'a [f64],
    /// Addends of the first, then of the second products.
    pub bias: &'a [f64],
    /// Factors of the cell state: input, output, forget.
    pub peepholes: &'a [f64],
    /// The direction's functions, in the order of its attribute.
    pub activations: &'a [Activation],
    /// What enters a function stays within this distance of zero.
    pub clip: Option<f32>,
}

/// The state of one sequence.
pub(super) struct State<'a> {
    /// The hidden state.
    pub hidden: &'a mut [f64],
    /// The cell state, of the same length.
    pub cell: &'a mut [f64],
}

impl Weights<'_> {
    /// Row `row` of the first product, with its addend.
    pub fn of_input(&self, row: usize, x: &[f64]) -> f64 {
        dot(&self.input[row * x.len()..], x) + self.bias[row]
    }

    /// Row `row` of the second product, with its addend.
    pub fn of_hidden(&self, row: usize, hidden: &[f64]) -> f64 {
        dot(&self.recurrent[row * hidden.len()..], hidden) + self.bias[self.bias.len() / 2 + row]
    }

    /// Function `index` of the direction.
    pub fn activate(&self, index: usize, x: f64) -> f64 {
        self.activate_whole(index, self.clip.map(f64::from).map_or(x, |clip| within(x, -clip, clip)))
    }

    /// The same without a limit: for the cell state, which no known implementation limits.
    pub fn activate_whole(&self, index: usize, x: f64) -> f64 {
        self.activations.get(index).map_or(x, |activation| activation.at(x))
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
