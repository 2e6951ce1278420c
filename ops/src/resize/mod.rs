//! Operators that sample their input at other places.

pub mod affine_grid;
mod blocked;
mod gpu;
pub mod grid_sample;
#[allow(clippy::module_inception, reason = "the family has the name of its first operator")]
pub mod resize;
pub mod separable;
pub mod table;

use crate::build::OperatorRow;

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    OperatorRow { domain: "", name: "AffineGrid", since: 20, build: affine_grid::build },
    OperatorRow { domain: "", name: "GridSample", since: 16, build: grid_sample::build },
    OperatorRow { domain: "", name: "Resize", since: 10, build: resize::build },
    OperatorRow { domain: "", name: "Upsample", since: 7, build: resize::build_upsample },
];
