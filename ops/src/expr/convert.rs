//! Conversions between element types, as [ONNX `Cast`](https://onnx.ai/onnx/operators/onnx__Cast.html) defines them.

use half::{bf16, f16};

use super::lanes::{Lanes, LanesMut, copy, wrap};
use crate::ir::dtype::DType;

/// Converts lanes into those of type `to`. Where ONNX leaves the result open (a float beyond the integer type), it is the
/// nearest integer of that type, and 0 for NaN. Integers keep their lowest bits. Anything but zero is true.
pub(super) fn convert(from: Lanes<'_>, out: LanesMut<'_>, to: DType) {
    macro_rules! each {
        ($from:expr, $out:expr, $f:expr) => {
            $out.iter_mut().zip($from).for_each(|(slot, &x)| *slot = $f(x))
        };
    }
    macro_rules! integers {
        ($from:expr, $out:expr) => {
            match to {
                DType::I8 => each!($from, $out, |x| i64::from(x as i8)),
                DType::I16 => each!($from, $out, |x| i64::from(x as i16)),
                DType::I32 => each!($from, $out, |x| i64::from(x as i32)),
                DType::U8 => each!($from, $out, |x| i64::from(x as u8)),
                DType::U16 => each!($from, $out, |x| i64::from(x as u16)),
                DType::U32 => each!($from, $out, |x| i64::from(x as u32)),
                _ => each!($from, $out, |x| x as i64),
            }
        };
    }
    // Rounding to 16 bits from the original value, not from its f32.
    macro_rules! floats {
        ($from:expr, $out:expr, $wide:expr) => {
            match to {
                DType::F16 => each!($from, $out, |x| f16::from_f64($wide(x)).to_f32()),
                DType::BF16 => each!($from, $out, |x| bf16::from_f64($wide(x)).to_f32()),
                _ => each!($from, $out, |x| x as f32),
            }
        };
    }
    match (from, out) {
        (Lanes::F32(a), LanesMut::F32(b)) => {
            copy(Lanes::F32(a), LanesMut::F32(b));
            wrap(LanesMut::F32(b), to);
        }
        (Lanes::F32(a), LanesMut::F64(b)) => each!(a, b, f64::from),
        (Lanes::F32(a), LanesMut::I64(b)) => integers!(a, b),
        (Lanes::F32(a), LanesMut::U64(b)) => each!(a, b, |x| x as u64),
        (Lanes::F32(a), LanesMut::Bool(b)) => each!(a, b, |x| x != 0.0),
        (Lanes::F64(a), LanesMut::F32(b)) => floats!(a, b, |x| x),
        (Lanes::F64(a), LanesMut::F64(b)) => copy(Lanes::F64(a), LanesMut::F64(b)),
        (Lanes::F64(a), LanesMut::I64(b)) => integers!(a, b),
        (Lanes::F64(a), LanesMut::U64(b)) => each!(a, b, |x| x as u64),
        (Lanes::F64(a), LanesMut::Bool(b)) => each!(a, b, |x| x != 0.0),
        (Lanes::I64(a), LanesMut::F32(b)) => floats!(a, b, |x| x as f64),
        (Lanes::I64(a), LanesMut::F64(b)) => each!(a, b, |x| x as f64),
        (Lanes::I64(a), LanesMut::I64(b)) => integers!(a, b),
        (Lanes::I64(a), LanesMut::U64(b)) => each!(a, b, |x| x as u64),
        (Lanes::I64(a), LanesMut::Bool(b)) => each!(a, b, |x| x != 0),
        (Lanes::U64(a), LanesMut::F32(b)) => floats!(a, b, |x| x as f64),
        (Lanes::U64(a), LanesMut::F64(b)) => each!(a, b, |x| x as f64),
        (Lanes::U64(a), LanesMut::I64(b)) => integers!(a, b),
        (Lanes::U64(a), LanesMut::U64(b)) => copy(Lanes::U64(a), LanesMut::U64(b)),
        (Lanes::U64(a), LanesMut::Bool(b)) => each!(a, b, |x| x != 0),
        (Lanes::Bool(a), LanesMut::F32(b)) => each!(a, b, |x| f32::from(u8::from(x))),
        (Lanes::Bool(a), LanesMut::F64(b)) => each!(a, b, |x| f64::from(u8::from(x))),
        (Lanes::Bool(a), LanesMut::I64(b)) => each!(a, b, i64::from),
        (Lanes::Bool(a), LanesMut::U64(b)) => each!(a, b, u64::from),
        (Lanes::Bool(a), LanesMut::Bool(b)) => copy(Lanes::Bool(a), LanesMut::Bool(b)),
    }
}
