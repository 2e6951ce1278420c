//! Element types of 8 bits and fewer that Rust has no type for: what their codes stand for, and back.
//!
//! The floats are those of [ONNX's tables](https://onnx.ai/onnx/technical/float8.html): a code is a sign, an exponent and
//! a mantissa, and the types differ in widths, bias, and which codes are not numbers.

use super::dtype::DType;
use super::tensor::Tensor;
use super::view::View;
use crate::error::OpError;

/// Which power of two a number becomes that lies between two, in `f8e8m0`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Rounding {
    /// The larger.
    #[default]
    Up,
    /// The smaller.
    Down,
    /// The nearer; the larger when both are.
    Nearest,
}

/// How numbers become narrow floats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Narrowing {
    /// Numbers out of range become the farthest finite number, otherwise infinity or, without one, NaN.
    pub saturate: bool,
    /// For `f8e8m0`; the other types round to the nearest, ties to even.
    pub rounding: Rounding,
}

impl Default for Narrowing {
    fn default() -> Narrowing {
        Narrowing { saturate: true, rounding: Rounding::Up }
    }
}

/// The layout of a signed narrow float.
struct Layout {
    /// Bits of the mantissa.
    mantissa: u32,
    /// What is subtracted from the exponent's code.
    bias: i32,
    /// The code of the largest finite number.
    largest: u8,
    /// The code of infinity.
    infinity: Option<u8>,
    /// The code that NaN becomes, its sign apart.
    nan: u8,
    /// Where the sign stands.
    sign: u8,
    /// The code of a negative zero stands for NaN.
    negative_zero_is_nan: bool,
}

/// The layout of a type, if it is a narrow float with a sign.
fn layout(dtype: DType) -> Option<Layout> {
    let row = |mantissa, bias, largest, infinity, nan| Layout {
        mantissa,
        bias,
        largest,
        infinity,
        nan,
        sign: 0x80,
        negative_zero_is_nan: nan == 0x80,
    };
    Some(match dtype {
        DType::F8E4M3FN => row(3, 7, 0x7e, None, 0x7f),
        DType::F8E4M3FNUZ => row(3, 8, 0x7f, None, 0x80),
        DType::F8E5M2 => row(2, 15, 0x7b, Some(0x7c), 0x7e),
        DType::F8E5M2FNUZ => row(2, 16, 0x7f, None, 0x80),
        // Nothing but numbers: NaN becomes a negative zero.
        DType::F4E2M1 => Layout { sign: 8, ..row(1, 1, 7, None, 8) },
        _ => return None,
    })
}

/// Whether a type is one of the floats of this module.
pub fn is_narrow_float(dtype: DType) -> bool {
    dtype == DType::F8E8M0 || layout(dtype).is_some()
}

/// Whether a type is one of the integers of this module.
pub fn is_narrow_integer(dtype: DType) -> bool {
    matches!(dtype, DType::I4 | DType::U4 | DType::I2 | DType::U2)
}

/// The number that a code of a narrow float stands for; NaN for another type.
pub fn decode(dtype: DType, code: u8) -> f64 {
    if dtype == DType::F8E8M0 {
        return if code == 0xff { f64::NAN } else { 2f64.powi(i32::from(code) - 127) };
    }
    let Some(layout) = layout(dtype) else { return f64::NAN };
    let magnitude = code & (layout.sign - 1);
    let negative = code & layout.sign != 0;
    let value = if layout.infinity == Some(magnitude) {
        f64::INFINITY
    } else if magnitude > layout.largest || negative && magnitude == 0 && layout.negative_zero_is_nan {
        f64::NAN
    } else {
        let fraction = f64::from(magnitude & ((1 << layout.mantissa) - 1));
        let exponent = i32::from(magnitude >> layout.mantissa);
        let hidden = if exponent == 0 { 0.0 } else { f64::from(1u8 << layout.mantissa) };
        (fraction + hidden) * 2f64.powi(exponent.max(1) - layout.bias - layout.mantissa as i32)
    };
    if negative { -value } else { value }
}

/// The code of the narrow float that a number becomes; 0 for another type.
pub fn encode(dtype: DType, x: f64, narrowing: Narrowing) -> u8 {
    if dtype == DType::F8E8M0 {
        return encode_scale(x, narrowing);
    }
    let Some(layout) = layout(dtype) else { return 0 };
    let sign = if x.is_sign_negative() { layout.sign } else { 0 };
    if x.is_nan() {
        return layout.nan | sign;
    }
    // A magnitude between two powers of two is rounded to a multiple of the smallest step there.
    let magnitude = x.abs();
    let exponent = exponent(magnitude).max(1 - layout.bias);
    let steps = (magnitude * 2f64.powi(layout.mantissa as i32 - exponent.min(128))).round_ties_even();
    // Rounding up to the next power of two carries into the exponent.
    let code = (i64::from(exponent + layout.bias - 1) << layout.mantissa).saturating_add(steps as i64);
    match u8::try_from(code).ok().filter(|&code| code <= layout.largest) {
        Some(0) if layout.negative_zero_is_nan => 0,
        Some(code) => code | sign,
        None if narrowing.saturate || dtype == DType::F4E2M1 => layout.largest | sign,
        None => layout.infinity.unwrap_or(layout.nan) | sign,
    }
}

/// The code of a power of two. Negative numbers, which ONNX leaves open, become NaN.
fn encode_scale(x: f64, narrowing: Narrowing) -> u8 {
    const NAN: u8 = 0xff;
    const LARGEST: i32 = 0xfe;
    if x.is_nan() || x < 0.0 {
        return NAN;
    }
    let floor = exponent(x);
    let significand = x / 2f64.powi(floor.clamp(-1000, 1000));
    let above = match narrowing.rounding {
        Rounding::Up => significand > 1.0,
        Rounding::Down => false,
        Rounding::Nearest => significand >= 1.5,
    };
    let code = floor.saturating_add(i32::from(above)).saturating_add(127);
    let is_outside = x == 0.0 || x.is_infinite() || !(0..=LARGEST).contains(&code);
    if is_outside && !narrowing.saturate {
        return NAN;
    }
    if x.is_infinite() { LARGEST as u8 } else { code.clamp(0, LARGEST) as u8 }
}

/// The exponent of the largest power of two not above a positive number; −1023 for 0 and the least numbers.
fn exponent(x: f64) -> i32 {
    ((x.to_bits() >> 52) & 0x7ff) as i32 - 1023
}

/// The codes of a tensor whose elements have 8 bits or fewer, those of signed integers without their sign.
///
/// # Errors
/// When elements are wider, or there are fewer bytes than the dimensions say.
pub fn codes(view: &View<'_>) -> Result<Vec<u8>, OpError> {
    let bits = view.dtype.bits();
    let (mask, per_byte) = match bits {
        2 | 4 => ((1u8 << bits) - 1, 8 / bits),
        8 => (0xff, 1),
        _ => return Err(OpError::unsupported(format!("{} as codes", view.dtype))),
    };
    let len = view.len();
    if view.bytes.len() != len.div_ceil(per_byte) {
        return Err(OpError::Internal("a view whose bytes do not match its dimensions"));
    }
    let inside = |&byte: &u8| (0..per_byte).map(move |i| byte >> (bits * i) & mask);
    Ok(view.bytes.iter().flat_map(inside).take(len).collect())
}

/// A tensor of elements of 8 bits or fewer from their codes, of which higher bits are dropped.
///
/// # Errors
/// When elements are wider, or the number of codes is not the product of `dims`.
pub fn from_codes(dtype: DType, dims: &[usize], codes: &[u8]) -> Result<Tensor, OpError> {
    let bits = dtype.bits();
    let (mask, per_byte) = match bits {
        2 | 4 => ((1u8 << bits) - 1, 8 / bits),
        8 => (0xff, 1),
        _ => return Err(OpError::unsupported(format!("{dtype} from codes"))),
    };
    if crate::ir::tensor::element_count(dims) != Some(codes.len()) {
        return Err(OpError::Internal("another number of codes than elements"));
    }
    let pack = |group: &[u8]| group.iter().rev().fold(0, |byte, code| (byte << (bits % 8)) | code & mask);
    let packed: Vec<u8> = codes.chunks(per_byte).map(pack).collect();
    Ok(Tensor::from_bytes(dtype, dims, packed.into())?)
}

/// The elements of a tensor of narrow floats, exactly.
///
/// # Errors
/// When the type is another.
pub fn floats(view: &View<'_>) -> Result<Vec<f64>, OpError> {
    if !is_narrow_float(view.dtype) {
        return Err(OpError::unsupported(format!("{} as a float", view.dtype)));
    }
    Ok(codes(view)?.into_iter().map(|code| decode(view.dtype, code)).collect())
}

/// A tensor of narrow floats.
///
/// # Errors
/// When the type is another, or the number of values is not the product of `dims`.
pub fn float_tensor(
    dtype: DType,
    dims: &[usize],
    values: &[f64],
    narrowing: Narrowing,
) -> Result<Tensor, OpError> {
    if !is_narrow_float(dtype) {
        return Err(OpError::unsupported(format!("{dtype} as a narrow float")));
    }
    let codes: Vec<u8> = values.iter().map(|&x| encode(dtype, x, narrowing)).collect();
    from_codes(dtype, dims, &codes)
}

/// The elements of a tensor of integers of 2 or 4 bits.
///
/// # Errors
/// When the type is another.
pub fn integers(view: &View<'_>) -> Result<Vec<i128>, OpError> {
    let all = codes(view)?;
    let widen: fn(u8) -> i8 = match view.dtype {
        DType::U4 | DType::U2 => |code| code as i8,
        DType::I4 => |code| (code << 4) as i8 >> 4,
        DType::I2 => |code| (code << 6) as i8 >> 6,
        other => return Err(OpError::unsupported(format!("{other} as an integer"))),
    };
    Ok(all.into_iter().map(|code| i128::from(widen(code))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOATS: [DType; 5] =
        [DType::F8E4M3FN, DType::F8E4M3FNUZ, DType::F8E5M2, DType::F8E5M2FNUZ, DType::F4E2M1];
    const OPEN: Narrowing = Narrowing { saturate: false, rounding: Rounding::Nearest };

    #[test]
    fn every_code_comes_back() {
        for dtype in FLOATS.into_iter().chain([DType::F8E8M0]) {
            for code in 0..=(1u16 << dtype.bits()).wrapping_sub(1) as u8 {
                let value = decode(dtype, code);
                for narrowing in [Narrowing::default(), OPEN] {
                    let back = encode(dtype, value, narrowing);
                    match value {
                        x if x.is_nan() => assert!(decode(dtype, back).is_nan(), "{dtype} {code:#x}"),
                        x if x.is_infinite() && narrowing.saturate => assert_eq!(back & 0x7f, 0x7b),
                        _ => assert_eq!(back, code, "{dtype} {value}"),
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_between_two_codes_go_to_the_nearer() {
        for dtype in FLOATS {
            let largest = layout(dtype).unwrap().largest;
            for code in 0..largest {
                let (low, high) = (decode(dtype, code), decode(dtype, code + 1));
                assert!(low < high);
                let middle = (low + high) / 2.0;
                let encode = |x: f64| encode(dtype, x, OPEN);
                assert_eq!(encode(middle), code + code % 2, "{dtype}: a tie goes to the even code");
                assert_eq!(encode(middle.next_down()), code);
                assert_eq!(encode(middle.next_up()), code + 1);
                let sign = if code == 0 && layout(dtype).unwrap().negative_zero_is_nan {
                    0
                } else {
                    layout(dtype).unwrap().sign
                };
                assert_eq!(encode(-middle.next_down()), code | sign);
            }
        }
    }

    #[test]
    fn special_codes_are_those_of_the_specification() {
        let all = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e9, -1e9, -0.0, 1e-9, -1e-9];
        let codes = |dtype, narrowing| all.map(|x| encode(dtype, x, narrowing));
        let held = Narrowing::default();
        assert_eq!(codes(DType::F8E4M3FN, held), [0x7f, 0x7e, 0xfe, 0x7e, 0xfe, 0x80, 0, 0x80]);
        assert_eq!(codes(DType::F8E4M3FN, OPEN), [0x7f, 0x7f, 0xff, 0x7f, 0xff, 0x80, 0, 0x80]);
        assert_eq!(codes(DType::F8E4M3FNUZ, held), [0x80, 0x7f, 0xff, 0x7f, 0xff, 0, 0, 0]);
        assert_eq!(codes(DType::F8E4M3FNUZ, OPEN), [0x80, 0x80, 0x80, 0x80, 0x80, 0, 0, 0]);
        assert_eq!(codes(DType::F8E5M2, held), [0x7e, 0x7b, 0xfb, 0x7b, 0xfb, 0x80, 0, 0x80]);
        assert_eq!(codes(DType::F8E5M2, OPEN), [0x7e, 0x7c, 0xfc, 0x7c, 0xfc, 0x80, 0, 0x80]);
        assert_eq!(codes(DType::F8E5M2FNUZ, held), [0x80, 0x7f, 0xff, 0x7f, 0xff, 0, 0, 0]);
        assert_eq!(codes(DType::F8E5M2FNUZ, OPEN), [0x80, 0x80, 0x80, 0x80, 0x80, 0, 0, 0]);
        assert_eq!(codes(DType::F4E2M1, held), [8, 7, 15, 7, 15, 8, 0, 8]);
        let largest = |dtype: DType| decode(dtype, layout(dtype).unwrap().largest);
        assert_eq!(FLOATS.map(largest), [448.0, 240.0, 57344.0, 57344.0, 6.0]);
        assert_eq!(
            FLOATS.map(|dtype| decode(dtype, 1)),
            [2f64.powi(-9), 2f64.powi(-10), 2f64.powi(-16), 2f64.powi(-17), 0.5]
        );
        let four: Vec<f64> = (0..8).map(|code| decode(DType::F4E2M1, code)).collect();
        assert_eq!(four, [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
        // Past the largest number, but nearer to it than to the next step.
        assert_eq!(encode(DType::F8E4M3FN, 464.0, OPEN), 0x7e);
        assert_eq!(encode(DType::F8E4M3FN, 464.5, OPEN), 0x7f);
    }

    #[test]
    fn powers_of_two_round_as_asked() {
        let encode = |x: f64, saturate, rounding| encode(DType::F8E8M0, x, Narrowing { saturate, rounding });
        let three = |x: f64| [Rounding::Up, Rounding::Down, Rounding::Nearest].map(|r| encode(x, true, r));
        assert_eq!(three(1.0), [127; 3]);
        assert_eq!(three(1.1), [128, 127, 127]);
        assert_eq!(three(1.5), [128, 127, 128]);
        assert_eq!(three(0.0), [0; 3]);
        assert_eq!(three(f64::INFINITY), [254; 3]);
        assert_eq!(three(1e300), [254; 3]);
        assert_eq!(three(1e-300), [0; 3]);
        assert_eq!(three(f64::NAN), [255; 3]);
        let open = |x: f64| encode(x, false, Rounding::Nearest);
        assert_eq!([0.0, f64::INFINITY, 1e300, 1e-300, 2f64.powi(-127)].map(open), [255, 255, 255, 255, 0]);
    }

    #[test]
    fn codes_are_packed_lowest_bits_first() {
        let tensor = from_codes(DType::I4, &[3], &[0xf, 0x8, 7]).unwrap();
        assert_eq!(tensor.bytes(), [0x8f, 0x07]);
        assert_eq!(integers(&tensor.view()).unwrap(), [-1, -8, 7]);
        let tensor = from_codes(DType::I2, &[5], &[3, 2, 1, 0, 2]).unwrap();
        assert_eq!(tensor.bytes(), [0b0001_1011, 0b10]);
        assert_eq!(integers(&tensor.view()).unwrap(), [-1, -2, 1, 0, -2]);
        assert_eq!(codes(&tensor.view()).unwrap(), [3, 2, 1, 0, 2]);
        assert!(from_codes(DType::F8E5M2, &[2], &[1]).is_err());
        assert!(codes(&Tensor::scalar(1f32).view()).is_err());
    }
}
