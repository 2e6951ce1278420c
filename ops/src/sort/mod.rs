//! Operators that put elements in order or pick the best.

pub mod non_max_suppression;
pub mod top_k;
pub mod unique;

use crate::build::OperatorRow;

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    OperatorRow { domain: "", name: "NonMaxSuppression", since: 10, build: non_max_suppression::build },
    OperatorRow { domain: "", name: "TopK", since: 1, build: top_k::build },
    OperatorRow { domain: "", name: "Unique", since: 11, build: unique::build },
];
