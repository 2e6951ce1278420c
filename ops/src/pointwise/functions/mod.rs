//! The function table: one row per pointwise function, by kind.
//!
//! A row gives the function over lanes of every kind it takes; the WGSL library (`shaders/wgsl/lib`) has the same function
//! under the same name for the types that run on a GPU. Both give the same result wherever the function is defined;
//! integer division by zero, which ONNX leaves open, gives 0.

/// A function of one argument: over `f32`, and over `f64`.
macro_rules! unary_floats {
    ($f32:expr, $f64:expr) => {
        |args, _, out| match (args, out) {
            ([Lanes::F32(x)], LanesMut::F32(y)) => math::map(x, y, $f32),
            ([Lanes::F64(x)], LanesMut::F64(y)) => math::map(x, y, $f64),
            _ => {}
        }
    };
}

/// A function of one argument that has a vectorised form over slices of `f32`.
macro_rules! unary_slices {
    ($f32:expr, $f64:expr) => {
        |args, _, out| match (args, out) {
            ([Lanes::F32(x)], LanesMut::F32(y)) => $f32(x, y),
            ([Lanes::F64(x)], LanesMut::F64(y)) => math::map(x, y, $f64),
            _ => {}
        }
    };
}

/// A function of one argument and parameters: two closures over `(x, parameters)`.
macro_rules! unary_params {
    ($count:literal, $f32:expr, $f64:expr) => {
        |args, params, out| {
            let p: [f32; $count] = parameters(params);
            match (args, out) {
                ([Lanes::F32(x)], LanesMut::F32(y)) => math::map(x, y, |x| $f32(x, p)),
                ([Lanes::F64(x)], LanesMut::F64(y)) => math::map(x, y, |x| $f64(x, p.map(f64::from))),
                _ => {}
            }
        }
    };
}

/// A function of one number of any type.
macro_rules! unary_numbers {
    ($f32:expr, $f64:expr, $signed:expr, $unsigned:expr) => {
        |args, _, out| match (args, out) {
            ([Lanes::F32(x)], LanesMut::F32(y)) => math::map(x, y, $f32),
            ([Lanes::F64(x)], LanesMut::F64(y)) => math::map(x, y, $f64),
            ([Lanes::I64(x)], LanesMut::I64(y)) => math::map(x, y, $signed),
            ([Lanes::U64(x)], LanesMut::U64(y)) => math::map(x, y, $unsigned),
            _ => {}
        }
    };
}

/// A function of two numbers of any type.
macro_rules! binary_numbers {
    ($f32:expr, $f64:expr, $signed:expr, $unsigned:expr) => {
        |args, _, out| match (args, out) {
            ([Lanes::F32(a), Lanes::F32(b)], LanesMut::F32(y)) => math::zip(a, b, y, $f32),
            ([Lanes::F64(a), Lanes::F64(b)], LanesMut::F64(y)) => math::zip(a, b, y, $f64),
            ([Lanes::I64(a), Lanes::I64(b)], LanesMut::I64(y)) => math::zip(a, b, y, $signed),
            ([Lanes::U64(a), Lanes::U64(b)], LanesMut::U64(y)) => math::zip(a, b, y, $unsigned),
            _ => {}
        }
    };
}

/// Declares rows, and the list of them.
macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident = $row:expr;)*) => {
        $($(#[$doc])* pub static $name: Function = $row;)*

        /// The functions of this file.
        pub(super) static FUNCTIONS: &[&Function] = &[$(&$name),*];
    };
}

mod activation;
mod arithmetic;
mod bits;
mod compare;
mod elementary;
#[cfg(test)]
mod tests;

pub use activation::*;
pub use arithmetic::*;
pub use bits::*;
pub use compare::*;
pub use elementary::*;

use crate::expr::Function;

/// Every function there is.
pub static FUNCTIONS: &[&[&Function]] = &[
    activation::FUNCTIONS,
    arithmetic::FUNCTIONS,
    bits::FUNCTIONS,
    compare::FUNCTIONS,
    elementary::FUNCTIONS,
];

/// The parameters of a call; 0 for those not given, which the constructors never leave out.
fn parameters<const N: usize>(params: &[f32]) -> [f32; N] {
    std::array::from_fn(|index| params.get(index).copied().unwrap_or(0.0))
}
