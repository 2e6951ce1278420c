//! Attention, and what models compute around it.

#[allow(clippy::module_inception, reason = "the family has the name of its first operator")]
mod attention;
mod scaled;

pub use attention::Attention;

use crate::build::OperatorRow;

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] =
    &[OperatorRow { domain: "", name: "Attention", since: 23, build: attention::build }];
