//! Operators that take dimensions away, or find or accumulate along one.

pub(crate) mod argmax;
mod axes;
mod cpu;
mod cumsum;
pub(crate) mod gpu;
mod kind;
pub(crate) mod lines;
mod reduction;

pub use argmax::ArgMax;
pub use axes::{Axes, Reduced};
pub use cumsum::CumSum;
pub use kind::Kind;
pub use reduction::Reduce;

use crate::build::{Build, OperatorRow};

const fn row(name: &'static str, build: Build) -> OperatorRow {
    OperatorRow { domain: "", name, since: 1, build }
}

/// The ONNX operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    row("ArgMax", argmax::build_max),
    row("ArgMin", argmax::build_min),
    row("CumProd", cumsum::build_product),
    row("CumSum", cumsum::build_sum),
    row("GlobalAveragePool", reduction::global_average_pool),
    row("GlobalMaxPool", reduction::global_max_pool),
    row("ReduceL1", reduction::l1),
    row("ReduceL2", reduction::l2),
    row("ReduceLogSum", reduction::log_sum),
    row("ReduceLogSumExp", reduction::log_sum_exp),
    row("ReduceMax", reduction::max),
    row("ReduceMean", reduction::mean),
    row("ReduceMin", reduction::min),
    row("ReduceProd", reduction::prod),
    row("ReduceSum", reduction::sum),
    row("ReduceSumSquare", reduction::sum_square),
];
