//! The arithmetic of the references: element types, and what their products are summed in.

use half::{bf16, f16};

use crate::ir::dtype::Element;

/// An element type that sums of products are defined on.
pub(crate) trait Term: Element {
    /// What sums are kept in: f64 for floats, so that the reference is exact to its last bit or so; the type itself for
    /// integers, which wrap.
    type Sum: Copy;
    /// Nothing summed.
    const ZERO: Self::Sum;
    /// One more product.
    fn add_product(sum: Self::Sum, a: Self, b: Self) -> Self::Sum;
    /// This element added, times a factor.
    fn add_scaled(sum: Self::Sum, element: Self, factor: f32) -> Self::Sum;
    /// The sum times a factor.
    fn scale(sum: Self::Sum, factor: f32) -> Self::Sum;
    /// The element.
    fn from_sum(sum: Self::Sum) -> Self;
}

macro_rules! floats {
    ($($rust:ty: $widen:expr, $narrow:expr;)*) => {$(
        impl Term for $rust {
            type Sum = f64;
            const ZERO: f64 = 0.0;
            fn add_product(sum: f64, a: Self, b: Self) -> f64 {
                sum + $widen(a) * $widen(b)
            }
            fn add_scaled(sum: f64, element: Self, factor: f32) -> f64 {
                sum + $widen(element) * f64::from(factor)
            }
            fn scale(sum: f64, factor: f32) -> f64 {
                sum * f64::from(factor)
            }
            fn from_sum(sum: f64) -> Self {
                $narrow(sum)
            }
        }
    )*};
}

floats! {
    f32: f64::from, |x| x as f32;
    f64: |x: f64| x, |x| x;
    f16: f16::to_f64, f16::from_f64;
    bf16: bf16::to_f64, bf16::from_f64;
}

macro_rules! integers {
    ($($rust:ty),*) => {$(
        impl Term for $rust {
            type Sum = Self;
            const ZERO: Self = 0;
            fn add_product(sum: Self, a: Self, b: Self) -> Self {
                sum.wrapping_add(a.wrapping_mul(b))
            }
            fn add_scaled(sum: Self, element: Self, factor: f32) -> Self {
                sum.wrapping_add(Self::scale(element, factor))
            }
            fn scale(sum: Self, factor: f32) -> Self {
                // Through a float only when the factor asks for it: large integers must stay exact.
                if factor == 1.0 { sum } else { (sum as f64 * f64::from(factor)) as Self }
            }
            fn from_sum(sum: Self) -> Self {
                sum
            }
        }
    )*};
}

integers!(i32, i64, u32, u64);
