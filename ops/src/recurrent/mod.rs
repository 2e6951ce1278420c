//! Recurrent networks over sequences: LSTM, GRU and the plain RNN.

mod activation;
mod cpu;
mod extents;
mod gpu;
mod gru;
mod lstm;
mod operator;
mod rnn;
mod step;

pub use activation::{Activation, Curve};
pub use operator::{Cell, Direction, Recurrent};

use crate::build::{Build, OperatorRow};

const fn row(name: &'static str, build: Build) -> OperatorRow {
    OperatorRow { domain: "", name, since: 7, build }
}

/// The ONNX operators of this family.
pub const OPERATORS: &[OperatorRow] =
    &[row("GRU", gru::build), row("LSTM", lstm::build), row("RNN", rnn::build)];
