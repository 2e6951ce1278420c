//! Arithmetic over any number type, for references whose loops are generic over it.

use half::{bf16, f16};

use crate::ir::dtype::Element;

/// An element type that is a number.
pub trait Number: Element {
    /// The number, rounded where it has more than 53 bits.
    fn to_f64(self) -> f64;
    /// The nearest number of this type: halves go to even integers, and integers saturate.
    fn from_f64(x: f64) -> Self;
    /// The sum; integers wrap.
    fn plus(self, other: Self) -> Self;
    /// The product; integers wrap.
    fn times(self, other: Self) -> Self;
}

macro_rules! integers {
    ($($rust:ty),*) => {$(
        impl Number for $rust {
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn from_f64(x: f64) -> $rust {
                x.round_ties_even() as $rust
            }
            fn plus(self, other: $rust) -> $rust {
                self.wrapping_add(other)
            }
            fn times(self, other: $rust) -> $rust {
                self.wrapping_mul(other)
            }
        }
    )*};
}
integers!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! floats {
    ($($rust:ty: $wide:expr, $narrow:expr;)*) => {$(
        impl Number for $rust {
            fn to_f64(self) -> f64 {
                $wide(self)
            }
            fn from_f64(x: f64) -> $rust {
                $narrow(x)
            }
            fn plus(self, other: $rust) -> $rust {
                self + other
            }
            fn times(self, other: $rust) -> $rust {
                self * other
            }
        }
    )*};
}
floats! {
    f32: f64::from, |x| x as f32;
    f64: |x| x, |x| x;
    f16: f16::to_f64, f16::from_f64;
    bf16: bf16::to_f64, bf16::from_f64;
}

/// Calls a function that is generic over a [`Number`] with the Rust type of a `DType`.
macro_rules! by_number {
    ($dtype:expr, $function:ident($($arg:expr),* $(,)?)) => {
        match $dtype {
            $crate::DType::F32 => $function::<f32>($($arg),*),
            $crate::DType::F64 => $function::<f64>($($arg),*),
            $crate::DType::F16 => $function::<half::f16>($($arg),*),
            $crate::DType::BF16 => $function::<half::bf16>($($arg),*),
            $crate::DType::I8 => $function::<i8>($($arg),*),
            $crate::DType::I16 => $function::<i16>($($arg),*),
            $crate::DType::I32 => $function::<i32>($($arg),*),
            $crate::DType::I64 => $function::<i64>($($arg),*),
            $crate::DType::U8 => $function::<u8>($($arg),*),
            $crate::DType::U16 => $function::<u16>($($arg),*),
            $crate::DType::U32 => $function::<u32>($($arg),*),
            $crate::DType::U64 => $function::<u64>($($arg),*),
            got => Err($crate::OpError::Type { input: 0, expected: "a number type", got }),
        }
    };
}
pub(crate) use by_number;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_saturate_and_round_to_even() {
        assert_eq!([0.5, 1.5, 300.0, -1.0].map(u8::from_f64), [0, 2, 255, 0]);
        assert_eq!(i8::from_f64(-129.0), -128);
        assert_eq!(f16::from_f64(1.0 / 3.0).to_bits(), 0x3555);
        assert_eq!(200u8.plus(100), 44);
    }
}
