//! Operators with nested graphs: branches and loops.
//!
//! Where the way is known while planning, a use stands for the nodes it comes down to: the branch taken, the body as often
//! as it runs. Otherwise it waits, and runs on the host.

pub mod branch;
pub mod evaluate;
pub mod repeat;
pub mod scan;
pub(crate) mod unroll;

use crate::build::OperatorRow;

/// The rows of the family.
pub const OPERATORS: &[OperatorRow] = &[
    OperatorRow { domain: "", name: "If", since: 1, build: branch::build },
    OperatorRow { domain: "", name: "Loop", since: 1, build: repeat::build },
    OperatorRow { domain: "", name: "Scan", since: 8, build: scan::build },
];

#[cfg(test)]
mod tests;
