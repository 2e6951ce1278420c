//! Matrix products by plain loops.

use half::{bf16, f16};

use super::product::Product;
use super::terms::Term;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;

/// A matrix added to a product of the same rows and columns, stretched where a stride is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Addend {
    /// Elements between rows.
    pub row_stride: usize,
    /// Elements between columns.
    pub column_stride: usize,
    /// Its factor.
    pub factor: f32,
}

/// `scale · a · b`, plus an addend, as a tensor of dimensions `dims`.
pub(super) fn multiply(
    product: &Product,
    scale: f32,
    [a, b]: [&View<'_>; 2],
    addend: Option<(Addend, &View<'_>)>,
    dims: &[usize],
) -> Result<Tensor, OpError> {
    match a.dtype {
        DType::F32 => typed::<f32>(product, scale, [a, b], addend, dims),
        DType::F64 => typed::<f64>(product, scale, [a, b], addend, dims),
        DType::F16 => typed::<f16>(product, scale, [a, b], addend, dims),
        DType::BF16 => typed::<bf16>(product, scale, [a, b], addend, dims),
        DType::I32 => typed::<i32>(product, scale, [a, b], addend, dims),
        DType::I64 => typed::<i64>(product, scale, [a, b], addend, dims),
        DType::U32 => typed::<u32>(product, scale, [a, b], addend, dims),
        DType::U64 => typed::<u64>(product, scale, [a, b], addend, dims),
        got => Err(OpError::Type { input: 0, expected: TYPES, got }),
    }
}

/// The element types of matrix products, for messages.
pub(super) const TYPES: &str = "a float, or an integer of 32 or 64 bits";

/// Whether matrix products are defined on this type.
pub(super) fn takes(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, F32 | F64 | F16 | BF16 | I32 | I64 | U32 | U64)
}

fn typed<T: Term>(
    product: &Product,
    scale: f32,
    factors: [&View<'_>; 2],
    addend: Option<(Addend, &View<'_>)>,
    dims: &[usize],
) -> Result<Tensor, OpError> {
    let mismatch = |input: usize, got: DType| OpError::Type { input, expected: T::DTYPE.name(), got };
    for (input, view) in factors.iter().copied().chain(addend.map(|(_, view)| view)).enumerate() {
        if view.dtype != T::DTYPE {
            return Err(mismatch(input, view.dtype));
        }
    }
    let (a, b) = (factors[0].slice::<T>(), factors[1].slice::<T>());
    let c = addend.map_or(&[][..], |(_, view)| view.slice::<T>());
    let short = OpError::Internal("a factor smaller than its dimensions");
    let mut values = Vec::new();
    let len = crate::ir::tensor::element_count(dims).ok_or(OpError::Size)?;
    values.try_reserve_exact(len).map_err(|_| OpError::Size)?;
    for index in 0..product.count() {
        let (a_start, b_start) = product.offsets(index);
        for row in 0..product.rows {
            for column in 0..product.columns {
                let mut sum = T::ZERO;
                for k in 0..product.depth {
                    let a = a.get(a_start + row * product.a.0 + k * product.a.1).ok_or(short.clone())?;
                    let b = b.get(b_start + k * product.b.0 + column * product.b.1).ok_or(short.clone())?;
                    sum = T::add_product(sum, *a, *b);
                }
                sum = T::scale(sum, scale);
                if let Some((addend, _)) = addend {
                    let at = row * addend.row_stride + column * addend.column_stride;
                    sum = T::add_scaled(sum, *c.get(at).ok_or(short.clone())?, addend.factor);
                }
                values.push(T::from_sum(sum));
            }
        }
    }
    Ok(Tensor::from_vec(dims, values)?)
}
