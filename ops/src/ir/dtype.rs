//! Element types of tensors.

use std::fmt;

/// The element type of a tensor, as ONNX names them (`TensorProto.DataType`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// 8-bit signed integer.
    I8,
    /// 16-bit signed integer.
    I16,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
    /// 8-bit unsigned integer.
    U8,
    /// 16-bit unsigned integer.
    U16,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit unsigned integer.
    U64,
    /// One byte, 0 or 1.
    Bool,
    /// 4-bit signed integer, two to a byte, low nibble first.
    I4,
    /// 4-bit unsigned integer, two to a byte, low nibble first.
    U4,
    /// 2-bit signed integer, four to a byte, lowest bits first.
    I2,
    /// 2-bit unsigned integer, four to a byte, lowest bits first.
    U2,
    /// 8-bit float, 4 exponent bits, finite and NaN only.
    F8E4M3FN,
    /// 8-bit float, 4 exponent bits, no negative zero.
    F8E4M3FNUZ,
    /// 8-bit float, 5 exponent bits, IEEE-like.
    F8E5M2,
    /// 8-bit float, 5 exponent bits, no negative zero.
    F8E5M2FNUZ,
    /// 8-bit power-of-two scale.
    F8E8M0,
    /// 4-bit float, two to a byte, low nibble first.
    F4E2M1,
    /// Two binary32: real and imaginary part.
    C64,
    /// Two binary64: real and imaginary part.
    C128,
    /// Text of any length.
    Str,
}

/// `(type, ONNX number, name, bits per element)`: the only list of these facts.
const TABLE: &[(DType, i32, &str, usize)] = &[
    (DType::F32, 1, "f32", 32),
    (DType::U8, 2, "u8", 8),
    (DType::I8, 3, "i8", 8),
    (DType::U16, 4, "u16", 16),
    (DType::I16, 5, "i16", 16),
    (DType::I32, 6, "i32", 32),
    (DType::I64, 7, "i64", 64),
    (DType::Str, 8, "str", 0),
    (DType::Bool, 9, "bool", 8),
    (DType::F16, 10, "f16", 16),
    (DType::F64, 11, "f64", 64),
    (DType::U32, 12, "u32", 32),
    (DType::U64, 13, "u64", 64),
    (DType::C64, 14, "c64", 64),
    (DType::C128, 15, "c128", 128),
    (DType::BF16, 16, "bf16", 16),
    (DType::F8E4M3FN, 17, "f8e4m3fn", 8),
    (DType::F8E4M3FNUZ, 18, "f8e4m3fnuz", 8),
    (DType::F8E5M2, 19, "f8e5m2", 8),
    (DType::F8E5M2FNUZ, 20, "f8e5m2fnuz", 8),
    (DType::U4, 21, "u4", 4),
    (DType::I4, 22, "i4", 4),
    (DType::F4E2M1, 23, "f4e2m1", 4),
    (DType::F8E8M0, 24, "f8e8m0", 8),
    (DType::U2, 25, "u2", 2),
    (DType::I2, 26, "i2", 2),
];

impl DType {
    /// The type with this number in `TensorProto.DataType`, if it is one we know.
    pub fn from_onnx(number: i64) -> Option<DType> {
        TABLE.iter().find(|row| i64::from(row.1) == number).map(|row| row.0)
    }

    /// The number in `TensorProto.DataType`.
    pub fn to_onnx(self) -> i32 {
        self.row().1
    }

    /// The short name used in every message and file of ours: `f32`, `i64`, `bool`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// The type with this short name.
    pub fn from_name(name: &str) -> Option<DType> {
        TABLE.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    /// Bits of one element; 0 for strings, which have no fixed size.
    pub fn bits(self) -> usize {
        self.row().3
    }

    /// Bytes that `count` packed elements take; `None` when that overflows or the type has no fixed size.
    pub fn bytes_for(self, count: usize) -> Option<usize> {
        match self.bits() {
            0 => None,
            bits => Some(count.checked_mul(bits)?.div_ceil(8)),
        }
    }

    /// Any floating-point type.
    pub fn is_float(self) -> bool {
        use DType::*;
        matches!(self, F32 | F64 | F16 | BF16 | F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 | F4E2M1)
    }

    /// Any signed or unsigned integer type (not bool).
    pub fn is_integer(self) -> bool {
        self.is_signed_integer() || self.is_unsigned_integer()
    }

    /// A signed integer type.
    pub fn is_signed_integer(self) -> bool {
        use DType::*;
        matches!(self, I8 | I16 | I32 | I64 | I4 | I2)
    }

    /// An unsigned integer type.
    pub fn is_unsigned_integer(self) -> bool {
        use DType::*;
        matches!(self, U8 | U16 | U32 | U64 | U4 | U2)
    }

    fn row(self) -> &'static (DType, i32, &'static str, usize) {
        // Every variant has a row (asserted by a test), so the fallback is never taken.
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust type that is the element type of some tensors.
pub trait Element: bytemuck::Pod + Send + Sync + PartialOrd + fmt::Debug {
    /// The tensor element type.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($rust:ty => $dtype:ident),* $(,)?) => {$(
        impl Element for $rust {
            const DTYPE: DType = DType::$dtype;
        }
    )*};
}

elements! {
    f32 => F32, f64 => F64, half::f16 => F16, half::bf16 => BF16,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64, u8 => U8, u16 => U16, u32 => U32, u64 => U64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_one_row() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(DType::from_onnx(i64::from(row.1)), Some(row.0));
            assert_eq!(DType::from_name(row.2), Some(row.0));
            assert_eq!(row.0.to_onnx(), i as i32 + 1, "rows stand in ONNX order, without gaps");
        }
        // The last variant in declaration order: adding one without a row fails here.
        assert_eq!(TABLE.len(), DType::Str as usize + 1);
    }

    #[test]
    fn packed_sizes_round_up() {
        assert_eq!(DType::I4.bytes_for(3), Some(2));
        assert_eq!(DType::F32.bytes_for(3), Some(12));
        assert_eq!(DType::F32.bytes_for(usize::MAX), None);
        assert_eq!(DType::Str.bytes_for(1), None);
    }
}
