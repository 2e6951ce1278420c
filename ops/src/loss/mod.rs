//! Operators that say how far predictions are from targets.

mod likelihood;
mod negative_log_likelihood;
mod softmax_cross_entropy;

pub use likelihood::{Likelihood, Reduction};
pub use negative_log_likelihood::NegativeLogLikelihoodLoss;
pub use softmax_cross_entropy::SoftmaxCrossEntropyLoss;

use crate::build::OperatorRow;

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    OperatorRow {
        domain: "",
        name: "NegativeLogLikelihoodLoss",
        since: 12,
        build: negative_log_likelihood::build,
    },
    OperatorRow {
        domain: "",
        name: "SoftmaxCrossEntropyLoss",
        since: 12,
        build: softmax_cross_entropy::build,
    },
];
