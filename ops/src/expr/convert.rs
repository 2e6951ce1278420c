//! Conversions between element types, as [ONNX `Cast`](https://onnx.ai/onnx/operators/onnx__Cast.html) defines them.

use half::{bf16, f16};

use super::lanes::{Lanes, LanesMut, copy, wrap};
use crate::cpu::math::{ROUND, map};
use crate::ir::dtype::DType;

/// The whole parts of numbers held to a range of fewer than 22 bits; 0 for NaN. In vectors, other than conversions that
/// saturate.
fn narrow(x: &[f32], y: &mut [i64], least: f32, greatest: f32) {
    map(x, y, |x| {
        let x = if x.is_nan() { 0.0 } else { x };
        let x = if x < least { least } else { x };
        let x = if x > greatest { greatest } else { x };
        i64::from(((x.trunc() + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32))
    });
}

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
        (Lanes::F32(a), LanesMut::I64(b)) => match to {
            DType::I8 => narrow(a, b, -128.0, 127.0),
            DType::U8 => narrow(a, b, 0.0, 255.0),
            DType::I16 => narrow(a, b, -32_768.0, 32_767.0),
            DType::U16 => narrow(a, b, 0.0, 65_535.0),
            _ => integers!(a, b),
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_integers_are_those_of_saturating_conversions() {
        let mut all: Vec<f32> = (-70_000..70_000).map(|i| i as f32 * 1.003).collect();
        all.extend((-2_000..2_000).map(|i| i as f32 * 0.25));
        all.extend([
            f32::NAN,
            -f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            -0.0,
            f32::MIN_POSITIVE,
            1e20,
            -1e20,
        ]);
        let converted = |to: DType| {
            let mut out = vec![i64::MIN; all.len()];
            convert(Lanes::F32(&all), LanesMut::I64(&mut out), to);
            out
        };
        let exact = |each: fn(f32) -> i64| all.iter().map(|&x| each(x)).collect::<Vec<_>>();
        assert_eq!(converted(DType::I8), exact(|x| i64::from(x as i8)));
        assert_eq!(converted(DType::U8), exact(|x| i64::from(x as u8)));
        assert_eq!(converted(DType::I16), exact(|x| i64::from(x as i16)));
        assert_eq!(converted(DType::U16), exact(|x| i64::from(x as u16)));
    }
}
