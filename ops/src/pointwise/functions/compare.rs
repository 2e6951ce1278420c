//! Order, equality, choice, and the logic of truth values.

use super::parameters;
use crate::cpu::math;
use crate::expr::Function;
use crate::expr::function::{Accepts, Gives};
use crate::expr::lanes::{Lanes, LanesMut};

/// A comparison of two numbers.
macro_rules! comparison {
    ($op:tt) => {
        |args, _, out| match (args, out) {
            ([Lanes::F32(a), Lanes::F32(b)], LanesMut::Bool(y)) => math::zip(a, b, y, |a, b| a $op b),
            ([Lanes::F64(a), Lanes::F64(b)], LanesMut::Bool(y)) => math::zip(a, b, y, |a, b| a $op b),
            ([Lanes::I64(a), Lanes::I64(b)], LanesMut::Bool(y)) => math::zip(a, b, y, |a, b| a $op b),
            ([Lanes::U64(a), Lanes::U64(b)], LanesMut::Bool(y)) => math::zip(a, b, y, |a, b| a $op b),
            ([Lanes::Bool(a), Lanes::Bool(b)], LanesMut::Bool(y)) => math::zip(a, b, y, |a, b| a $op b),
            _ => {}
        }
    };
}

/// A function of two truth values.
macro_rules! binary_bools {
    ($f:expr) => {
        |args, _, out| {
            if let ([Lanes::Bool(a), Lanes::Bool(b)], LanesMut::Bool(y)) = (args, out) {
                math::zip(a, b, y, $f);
            }
        }
    };
}

functions! {
    /// `a = b`.
    EQUAL = Function::new("equal", 2, Accepts::Any, comparison!(==)).giving_bool();
    /// `a < b`.
    LESS = Function::new("less", 2, Accepts::Numbers, comparison!(<)).giving_bool();
    /// `a > b`.
    GREATER = Function::new("greater", 2, Accepts::Numbers, comparison!(>)).giving_bool();
    /// `a <= b`.
    LESS_EQUAL = Function::new("less_equal", 2, Accepts::Numbers, comparison!(<=)).giving_bool();
    /// `a >= b`.
    GREATER_EQUAL = Function::new("greater_equal", 2, Accepts::Numbers, comparison!(>=)).giving_bool();
    /// Both.
    AND = Function::new("and", 2, Accepts::Bools, binary_bools!(|a, b| a & b));
    /// One or both.
    OR = Function::new("or", 2, Accepts::Bools, binary_bools!(|a, b| a | b));
    /// Just one.
    XOR = Function::new("xor", 2, Accepts::Bools, binary_bools!(|a, b| a ^ b));
    /// The opposite.
    NOT = Function::new("not", 1, Accepts::Bools, |args, _, out| {
        if let ([Lanes::Bool(x)], LanesMut::Bool(y)) = (args, out) {
            math::map(x, y, |x| !x);
        }
    });
    /// `b` where `a` is true, else `c`.
    SELECT = Function {
        same_from: 1,
        gives: Gives::Argument(1),
        ..Function::new("select", 3, Accepts::Any, |args, _, out| match (args, out) {
            ([Lanes::Bool(c), Lanes::F32(a), Lanes::F32(b)], LanesMut::F32(y)) => select(c, a, b, y),
            ([Lanes::Bool(c), Lanes::F64(a), Lanes::F64(b)], LanesMut::F64(y)) => select(c, a, b, y),
            ([Lanes::Bool(c), Lanes::I64(a), Lanes::I64(b)], LanesMut::I64(y)) => select(c, a, b, y),
            ([Lanes::Bool(c), Lanes::U64(a), Lanes::U64(b)], LanesMut::U64(y)) => select(c, a, b, y),
            ([Lanes::Bool(c), Lanes::Bool(a), Lanes::Bool(b)], LanesMut::Bool(y)) => select(c, a, b, y),
            _ => {}
        })
    };
    /// Not a number.
    IS_NAN = Function::new("is_nan", 1, Accepts::Floats, |args, _, out| match (args, out) {
        ([Lanes::F32(x)], LanesMut::Bool(y)) => math::map(x, y, f32::is_nan),
        ([Lanes::F64(x)], LanesMut::Bool(y)) => math::map(x, y, f64::is_nan),
        _ => {}
    }).giving_bool();
    /// Infinite: positive if `p0` is not 0, negative if `p1` is not.
    IS_INF = Function::new("is_inf", 1, Accepts::Floats, |args, params, out| {
        let [positive, negative] = parameters(params).map(|p: f32| p != 0.0);
        match (args, out) {
            ([Lanes::F32(x)], LanesMut::Bool(y)) => {
                math::map(x, y, |x| (positive && x == f32::INFINITY) || (negative && x == f32::NEG_INFINITY));
            }
            ([Lanes::F64(x)], LanesMut::Bool(y)) => {
                math::map(x, y, |x| (positive && x == f64::INFINITY) || (negative && x == f64::NEG_INFINITY));
            }
            _ => {}
        }
    }).with_params(2).giving_bool();
}

fn select<T: Copy>(condition: &[bool], a: &[T], b: &[T], y: &mut [T]) {
    for (((y, &condition), &a), &b) in y.iter_mut().zip(condition).zip(a).zip(b) {
        *y = if condition { a } else { b };
    }
}
