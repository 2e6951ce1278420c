//! Arithmetic, rounding, and order as numbers.

use super::parameters;
use crate::cpu::math;
use crate::expr::Function;
use crate::expr::function::Accepts;
use crate::expr::lanes::{Lanes, LanesMut};

functions! {
    /// `a + b`; integers wrap.
    ADD = Function::new("add", 2, Accepts::Numbers, binary_numbers!(
        |a, b| a + b, |a, b| a + b, i64::wrapping_add, u64::wrapping_add
    ));
    /// `a - b`; integers wrap.
    SUB = Function::new("sub", 2, Accepts::Numbers, binary_numbers!(
        |a, b| a - b, |a, b| a - b, i64::wrapping_sub, u64::wrapping_sub
    ));
    /// `a · b`; integers wrap.
    MUL = Function::new("mul", 2, Accepts::Numbers, binary_numbers!(
        |a, b| a * b, |a, b| a * b, i64::wrapping_mul, u64::wrapping_mul
    ));
    /// `a / b`; that of integers is cut towards zero, wraps, and is 0 where `b` is.
    DIV = Function::new("div", 2, Accepts::Numbers, binary_numbers!(
        |a, b| a / b,
        |a, b| a / b,
        |a: i64, b| if b == 0 { 0 } else { a.wrapping_div(b) },
        |a: u64, b| a.checked_div(b).unwrap_or(0)
    ));
    /// `a - floor(a / b) · b`, with the sign of `b`; 0 for integers where `b` is.
    MOD = Function::new("mod", 2, Accepts::Numbers, binary_numbers!(
        floored_mod32,
        floored_mod64,
        |a: i64, b: i64| {
            if b == 0 {
                return 0;
            }
            let r = a.wrapping_rem(b);
            if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
        },
        |a: u64, b| a.checked_rem(b).unwrap_or(0)
    ));
    /// `a - trunc(a / b) · b`, with the sign of `a`; 0 for integers where `b` is.
    REMAINDER = Function::new("remainder", 2, Accepts::Numbers, binary_numbers!(
        |a, b| a % b,
        |a, b| a % b,
        |a: i64, b| if b == 0 { 0 } else { a.wrapping_rem(b) },
        |a: u64, b| a.checked_rem(b).unwrap_or(0)
    ));
    /// `a` to the power of `b`, in the type of `a`. An integer to a negative power is what remains of the fraction: 0, or 1
    /// and -1 for those bases; an integer to a fractional power is computed as `f64` and cut.
    POW = Function { mixes: true, ..Function::new("pow", 2, Accepts::Numbers, pow) };
    /// The smaller; NaN where one is.
    MIN = Function::new("min", 2, Accepts::Numbers, binary_numbers!(
        |a: f32, b: f32| if a < b || a.is_nan() { a } else { b },
        |a: f64, b: f64| if a < b || a.is_nan() { a } else { b },
        i64::min,
        u64::min
    ));
    /// The larger; NaN where one is.
    MAX = Function::new("max", 2, Accepts::Numbers, binary_numbers!(
        |a: f32, b: f32| if a > b || a.is_nan() { a } else { b },
        |a: f64, b: f64| if a > b || a.is_nan() { a } else { b },
        i64::max,
        u64::max
    ));
    /// The magnitude; that of the most negative integer wraps to itself.
    ABS = Function::new("abs", 1, Accepts::Numbers, unary_numbers!(
        f32::abs, f64::abs, i64::wrapping_abs, |x| x
    ));
    /// `-x`; integers wrap.
    NEG = Function::new("neg", 1, Accepts::Numbers, unary_numbers!(
        |x: f32| -x, |x: f64| -x, i64::wrapping_neg, u64::wrapping_neg
    ));
    /// -1, 0 or 1; NaN for NaN.
    SIGN = Function::new("sign", 1, Accepts::Numbers, unary_numbers!(
        |x: f32| if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x },
        |x: f64| if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x },
        i64::signum,
        |x: u64| u64::from(x > 0)
    ));
    /// `1 / x`.
    RECIPROCAL = Function::new("reciprocal", 1, Accepts::Floats, unary_floats!(|x| 1.0 / x, |x| 1.0 / x));
    /// The square root; NaN below zero.
    SQRT = Function::new("sqrt", 1, Accepts::Floats, unary_floats!(f32::sqrt, f64::sqrt));
    /// The smallest integer not below.
    CEIL = Function::new("ceil", 1, Accepts::Floats, unary_floats!(f32::ceil, f64::ceil));
    /// The largest integer not above.
    FLOOR = Function::new("floor", 1, Accepts::Floats, unary_floats!(f32::floor, f64::floor));
    /// The nearest integer, halves to the even one.
    ROUND = Function::new("round", 1, Accepts::Floats, unary_floats!(
        f32::round_ties_even, f64::round_ties_even
    ));
    /// `x / p0`.
    DIV_BY = Function::new("div_by", 1, Accepts::Floats, unary_params!(
        1, |x, [by]: [f32; 1]| x / by, |x, [by]: [f64; 1]| x / by
    )).with_params(1);
    /// `min(max(x, p0), p1)`.
    CLIP = Function::new("clip", 1, Accepts::Floats, unary_params!(
        2,
        |x: f32, [low, high]: [f32; 2]| {
            let x = if x < low { low } else { x };
            if x > high { high } else { x }
        },
        |x: f64, [low, high]: [f64; 2]| {
            let x = if x < low { low } else { x };
            if x > high { high } else { x }
        }
    )).with_params(2);
}

/// The remainder with the sign of `b`, a zero too.
macro_rules! floored_mod {
    ($name:ident, $float:ty) => {
        fn $name(a: $float, b: $float) -> $float {
            let r = a % b;
            match r == 0.0 {
                true => r.copysign(b),
                false if (r < 0.0) != (b < 0.0) => r + b,
                false => r,
            }
        }
    };
}

floored_mod!(floored_mod32, f32);
floored_mod!(floored_mod64, f64);

/// The powers of all pairs of kinds.
fn pow(args: &[Lanes<'_>], _: &[f32], out: LanesMut<'_>) {
    match (args, out) {
        ([Lanes::F32(a), Lanes::F32(b)], LanesMut::F32(y)) => match b.first() {
            // The exponents that models raise whole tensors to.
            Some(&n) if b.iter().all(|&b| b == n) => match n {
                1.0 => math::map(a, y, |a| a),
                2.0 => math::map(a, y, |a| a * a),
                3.0 => math::map(a, y, |a| a * a * a),
                -1.0 => math::map(a, y, |a| 1.0 / a),
                n => math::map(a, y, |a| a.powf(n)),
            },
            _ => math::zip(a, b, y, f32::powf),
        },
        ([Lanes::F32(a), Lanes::F64(b)], LanesMut::F32(y)) => {
            math::zip(a, b, y, |a, b| f64::from(a).powf(b) as f32)
        }
        ([Lanes::F32(a), Lanes::I64(b)], LanesMut::F32(y)) => {
            math::zip(a, b, y, |a, b| f64::from(a).powf(b as f64) as f32)
        }
        ([Lanes::F32(a), Lanes::U64(b)], LanesMut::F32(y)) => {
            math::zip(a, b, y, |a, b| f64::from(a).powf(b as f64) as f32)
        }
        ([Lanes::F64(a), Lanes::F32(b)], LanesMut::F64(y)) => math::zip(a, b, y, |a, b| a.powf(f64::from(b))),
        ([Lanes::F64(a), Lanes::F64(b)], LanesMut::F64(y)) => math::zip(a, b, y, f64::powf),
        ([Lanes::F64(a), Lanes::I64(b)], LanesMut::F64(y)) => math::zip(a, b, y, |a, b| a.powf(b as f64)),
        ([Lanes::F64(a), Lanes::U64(b)], LanesMut::F64(y)) => math::zip(a, b, y, |a, b| a.powf(b as f64)),
        ([Lanes::I64(a), Lanes::F32(b)], LanesMut::I64(y)) => {
            math::zip(a, b, y, |a, b| (a as f64).powf(f64::from(b)) as i64)
        }
        ([Lanes::I64(a), Lanes::F64(b)], LanesMut::I64(y)) => {
            math::zip(a, b, y, |a, b| (a as f64).powf(b) as i64)
        }
        ([Lanes::I64(a), Lanes::I64(b)], LanesMut::I64(y)) => math::zip(a, b, y, signed_pow),
        ([Lanes::I64(a), Lanes::U64(b)], LanesMut::I64(y)) => {
            math::zip(a, b, y, |a, b| wrapping_pow(a as u64, b) as i64)
        }
        ([Lanes::U64(a), Lanes::F32(b)], LanesMut::U64(y)) => {
            math::zip(a, b, y, |a, b| (a as f64).powf(f64::from(b)) as u64)
        }
        ([Lanes::U64(a), Lanes::F64(b)], LanesMut::U64(y)) => {
            math::zip(a, b, y, |a, b| (a as f64).powf(b) as u64)
        }
        ([Lanes::U64(a), Lanes::I64(b)], LanesMut::U64(y)) => math::zip(a, b, y, |a, b| match b {
            0.. => wrapping_pow(a, b as u64),
            _ => u64::from(a == 1),
        }),
        ([Lanes::U64(a), Lanes::U64(b)], LanesMut::U64(y)) => math::zip(a, b, y, wrapping_pow),
        _ => {}
    }
}

fn signed_pow(a: i64, b: i64) -> i64 {
    match (a, b) {
        (_, 0..) => wrapping_pow(a as u64, b as u64) as i64,
        (1, _) => 1,
        (-1, _) => 1 - 2 * (b & 1),
        _ => 0,
    }
}

/// The lowest 64 bits of the power, by squaring: two's complement makes it right for signed bases too.
fn wrapping_pow(mut a: u64, mut b: u64) -> u64 {
    let mut y = 1u64;
    while b > 0 {
        if b & 1 == 1 {
            y = y.wrapping_mul(a);
        }
        a = a.wrapping_mul(a);
        b >>= 1;
    }
    y
}
