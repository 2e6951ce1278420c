//! The contents of tensors as wide numbers, for references that compute one way for many element types.

use half::{bf16, f16};

use super::dtype::DType;
use super::narrow;
use super::tensor::{Tensor, element_count};
use super::view::View;
use crate::error::OpError;

/// The elements of a tensor of floats, exactly.
///
/// # Errors
/// When the type is another.
pub fn floats(view: &View<'_>) -> Result<Vec<f64>, OpError> {
    let all: Vec<f64> = match view.dtype {
        DType::F32 => elements::<f32>(view).map(f64::from).collect(),
        DType::F64 => elements(view).collect(),
        DType::F16 => elements::<f16>(view).map(f16::to_f64).collect(),
        DType::BF16 => elements::<bf16>(view).map(bf16::to_f64).collect(),
        _ => narrow::floats(view)?,
    };
    complete(all, view)
}

/// The elements of a tensor of bool or of integers, exactly.
///
/// # Errors
/// When the type is another.
pub fn integers(view: &View<'_>) -> Result<Vec<i128>, OpError> {
    macro_rules! widen {
        ($rust:ty) => {
            elements::<$rust>(view).map(i128::from).collect()
        };
    }
    let all: Vec<i128> = match view.dtype {
        DType::Bool => view.bytes.iter().map(|&x| i128::from(x != 0)).collect(),
        DType::I8 => widen!(i8),
        DType::I16 => widen!(i16),
        DType::I32 => widen!(i32),
        DType::I64 => widen!(i64),
        DType::U8 => widen!(u8),
        DType::U16 => widen!(u16),
        DType::U32 => widen!(u32),
        DType::U64 => widen!(u64),
        _ => narrow::integers(view)?,
    };
    complete(all, view)
}

/// The elements one by one, wherever they lie: a constant in a mapped file need not be aligned.
fn elements<'a, T: bytemuck::AnyBitPattern>(view: &View<'a>) -> impl Iterator<Item = T> + use<'a, T> {
    view.bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

fn complete<T>(all: Vec<T>, view: &View<'_>) -> Result<Vec<T>, OpError> {
    if all.len() != view.len() {
        return Err(OpError::Internal("a view whose bytes do not match its dimensions"));
    }
    Ok(all)
}

/// A tensor of f32, f64, f16 or bf16; each value is rounded once. For narrower floats there is [`narrow::float_tensor`].
///
/// # Errors
/// When the type is another, or the number of values is not the product of `dims`.
pub fn float_tensor(dtype: DType, dims: &[usize], values: &[f64]) -> Result<Tensor, OpError> {
    Ok(match dtype {
        DType::F32 => Tensor::from_vec(dims, values.iter().map(|&x| x as f32).collect())?,
        DType::F64 => Tensor::from_slice(dims, values)?,
        DType::F16 => Tensor::from_vec(dims, values.iter().map(|&x| f16::from_f64(x)).collect())?,
        DType::BF16 => Tensor::from_vec(dims, values.iter().map(|&x| bf16::from_f64(x)).collect())?,
        other => return Err(OpError::unsupported(format!("{other} as a float"))),
    })
}

/// A tensor of bool or of integers; values out of range wrap.
///
/// # Errors
/// When the type is another, or the number of values is not the product of `dims`.
pub fn integer_tensor(dtype: DType, dims: &[usize], values: &[i128]) -> Result<Tensor, OpError> {
    macro_rules! narrow {
        ($rust:ty) => {
            Tensor::from_vec(dims, values.iter().map(|&x| x as $rust).collect())?
        };
    }
    Ok(match dtype {
        DType::Bool => Tensor::from_bools(dims, &values.iter().map(|&x| x != 0).collect::<Vec<_>>())?,
        DType::I8 => narrow!(i8),
        DType::I16 => narrow!(i16),
        DType::I32 => narrow!(i32),
        DType::I64 => narrow!(i64),
        DType::U8 => narrow!(u8),
        DType::U16 => narrow!(u16),
        DType::U32 => narrow!(u32),
        DType::U64 => narrow!(u64),
        _ if narrow::is_narrow_integer(dtype) => {
            narrow::from_codes(dtype, dims, &values.iter().map(|&x| x as u8).collect::<Vec<_>>())?
        }
        other => return Err(OpError::unsupported(format!("{other} as an integer"))),
    })
}

/// As many copies of a value as a shape has elements.
///
/// # Errors
/// When there is no memory for them.
pub fn filled<T: Clone>(dims: &[usize], value: T) -> Result<Vec<T>, OpError> {
    let count = element_count(dims).ok_or(OpError::Size)?;
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|_| OpError::Size)?;
    all.resize(count, value);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_both_ways() {
        use DType::*;
        for dtype in [F32, F64, F16, BF16] {
            let tensor = float_tensor(dtype, &[3], &[1.5, -2.0, 0.0]).unwrap();
            assert_eq!(floats(&tensor.view()).unwrap(), [1.5, -2.0, 0.0]);
        }
        for dtype in [I8, I16, I32, I64, U8, U16, U32, U64] {
            let tensor = integer_tensor(dtype, &[2], &[7, 1]).unwrap();
            assert_eq!(integers(&tensor.view()).unwrap(), [7, 1]);
        }
        let wrapped = integer_tensor(U8, &[2], &[-1, 257]).unwrap();
        assert_eq!(integers(&wrapped.view()).unwrap(), [255, 1]);
        assert!(floats(&wrapped.view()).is_err() && integer_tensor(F32, &[1], &[0]).is_err());
    }
}
