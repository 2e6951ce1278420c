//! Operators that move elements without computing: other dimensions, other orders, parts, repetitions, look-ups.

pub mod assemble;
pub mod axes;
pub mod concat;
pub mod constant;
pub mod constant_of_shape;
pub mod dropout;
pub mod expand;
pub mod flatten;
pub mod gather;
pub mod identity;
pub mod number;
pub mod relabel;
pub mod reshape;
pub mod shape;
pub mod size;
pub mod sizes;
pub mod slice;
pub mod squeeze;
pub mod strided;
pub mod transpose;
pub mod unsqueeze;

use crate::build::{Build, OperatorRow};

const fn row(name: &'static str, build: Build) -> OperatorRow {
    OperatorRow { domain: "", name, since: 1, build }
}

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    row("Concat", concat::build),
    row("Constant", constant::build),
    row("ConstantOfShape", constant_of_shape::build),
    row("Dropout", dropout::build),
    row("Expand", expand::build),
    row("Flatten", flatten::build),
    row("Gather", gather::build),
    row("Identity", identity::build),
    row("Reshape", reshape::build),
    row("Shape", shape::build),
    row("Size", size::build),
    row("Slice", slice::build),
    row("Squeeze", squeeze::build),
    row("Transpose", transpose::build),
    row("Unsqueeze", unsqueeze::build),
];
