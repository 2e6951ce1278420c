//! From floats to codes: scales, zero points, rounding.

/// Codes of one group of weights with one scale.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    pub scale: f32,
    /// The code that stands for 0.
    pub zero: u8,
}

/// The scale and zero point of a group of weights in codes of `bits` bits without a sign, as ONNX Runtime chooses them:
/// symmetric, the value farthest from 0 gets the lowest code, whatever its sign; else lowest and highest value get the
/// lowest and highest code, and 0 is a code.
pub(super) fn group(values: impl Iterator<Item = f32>, bits: u32, symmetric: bool) -> Group {
    let (low, high) = values.filter(|v| v.is_finite()).fold((0f32, 0f32), |(l, h), v| (l.min(v), h.max(v)));
    let highest = ((1u32 << bits) - 1) as f32;
    let middle = 1u8 << (bits - 1);
    if symmetric {
        let farthest = if high > -low { high } else { low };
        return Group { scale: farthest / -f32::from(middle), zero: middle };
    }
    let scale = (high - low) / highest;
    let zero = if scale > 0.0 { (-low / scale).round().clamp(0.0, highest) } else { 0.0 };
    Group { scale, zero: zero as u8 }
}

impl Group {
    /// The code of a value.
    pub fn code(&self, value: f32, bits: u32) -> u8 {
        let reciprocal = if self.scale == 0.0 { 0.0 } else { self.scale.recip() };
        let highest = ((1u32 << bits) - 1) as f32;
        (value * reciprocal + f32::from(self.zero)).round().clamp(0.0, highest) as u8
    }

    /// The value that a code stands for.
    pub fn value(&self, code: u8) -> f32 {
        (f32::from(code) - f32::from(self.zero)) * self.scale
    }
}

/// The scale of signed symmetric 8-bit codes: the farthest value becomes 127 or -127.
pub(super) fn symmetric_scale(values: impl Iterator<Item = f32>) -> f32 {
    let farthest = values.filter(|v| v.is_finite()).fold(0f32, |most, v| most.max(v.abs()));
    // A scale of 0 or below the normal numbers has no reciprocal.
    if farthest / 127.0 >= f32::MIN_POSITIVE { farthest / 127.0 } else { 1.0 }
}

/// The signed 8-bit code of a value.
pub(super) fn signed_code(value: f32, scale: f32) -> i8 {
    (value / scale).round_ties_even().clamp(-127.0, 127.0) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups() {
        let four = group([1.0, -2.0, 0.5].into_iter(), 4, true);
        assert_eq!(four, Group { scale: 0.25, zero: 8 });
        assert_eq!([-2.0, 0.0, 1.0, 9.0].map(|v| four.code(v, 4)), [0, 8, 12, 15]);
        assert_eq!([0, 8, 12].map(|code| four.value(code)), [-2.0, 0.0, 1.0]);
        // The positive end is the far one: the scale is negative.
        assert_eq!(group([2.0, -1.0].into_iter(), 4, true), Group { scale: -0.25, zero: 8 });
        let eight = group([-1.0, 254.0].into_iter(), 8, false);
        assert_eq!(eight, Group { scale: 1.0, zero: 1 });
        assert_eq!(eight.code(254.0, 8), 255);
        let none = group([0.0, f32::NAN].into_iter(), 4, false);
        assert_eq!((none.clone(), none.code(0.0, 4)), (Group { scale: 0.0, zero: 0 }, 0));
    }

    #[test]
    fn signed() {
        let scale = symmetric_scale([-12.7, 3.0].into_iter());
        assert_eq!([-12.7, 0.05, 0.15, 99.0].map(|v| signed_code(v, scale)), [-127, 0, 2, 127]);
        assert_eq!(symmetric_scale([0.0].into_iter()), 1.0);
    }
}
