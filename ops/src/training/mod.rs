//! The optimizers of `ai.onnx.preview.training`: one step of training each.

mod optimizer;

pub use optimizer::{Optimizer, Rule};

use crate::build::{Build, OperatorRow};

const fn row(name: &'static str, build: Build) -> OperatorRow {
    OperatorRow { domain: "ai.onnx.preview.training", name, since: 1, build }
}

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] =
    &[row("Adagrad", optimizer::adagrad), row("Adam", optimizer::adam), row("Momentum", optimizer::momentum)];
