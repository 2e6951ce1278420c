//! Integers as bits.

use crate::cpu::math;
use crate::expr::Function;
use crate::expr::function::Accepts;
use crate::expr::lanes::{Lanes, LanesMut};

/// A function of two integers.
macro_rules! binary_integers {
    ($signed:expr, $unsigned:expr) => {
        |args, _, out| match (args, out) {
            ([Lanes::I64(a), Lanes::I64(b)], LanesMut::I64(y)) => math::zip(a, b, y, $signed),
            ([Lanes::U64(a), Lanes::U64(b)], LanesMut::U64(y)) => math::zip(a, b, y, $unsigned),
            _ => {}
        }
    };
}

functions! {
    /// `a << b`; 0 when `b` is negative or not below the number of bits.
    SHIFT_LEFT = Function::new("shift_left", 2, Accepts::Integers, binary_integers!(
        |a: i64, b| if (0..64).contains(&b) { a << b } else { 0 },
        |a: u64, b| if b < 64 { a << b } else { 0 }
    ));
    /// `a >> b`, filled with the sign; nothing but the sign is left when `b` is negative or not below the number of bits.
    SHIFT_RIGHT = Function::new("shift_right", 2, Accepts::Integers, binary_integers!(
        |a: i64, b| a >> if (0..64).contains(&b) { b } else { 63 },
        |a: u64, b| if b < 64 { a >> b } else { 0 }
    ));
    /// The bits in both.
    BIT_AND = Function::new("bit_and", 2, Accepts::Integers, binary_integers!(|a, b| a & b, |a, b| a & b));
    /// The bits in one or both.
    BIT_OR = Function::new("bit_or", 2, Accepts::Integers, binary_integers!(|a, b| a | b, |a, b| a | b));
    /// The bits in just one.
    BIT_XOR = Function::new("bit_xor", 2, Accepts::Integers, binary_integers!(|a, b| a ^ b, |a, b| a ^ b));
    /// The bits that are not set.
    BIT_NOT = Function::new("bit_not", 1, Accepts::Integers, |args, _, out| match (args, out) {
        ([Lanes::I64(x)], LanesMut::I64(y)) => math::map(x, y, |x| !x),
        ([Lanes::U64(x)], LanesMut::U64(y)) => math::map(x, y, |x| !x),
        _ => {}
    });
}
