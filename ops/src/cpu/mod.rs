//! What CPU kernels share: outputs that several threads fill tile by tile, matrix products, and 16-bit floats widened.

#[cfg(test)]
pub(crate) mod check;
pub(crate) mod dots;
pub(crate) mod gemm;
pub(crate) mod integer;
pub mod math;
pub(crate) mod micro;
pub(crate) mod packed;
pub mod roof;
pub(crate) mod tiles;
pub(crate) mod vector;

use std::borrow::Cow;

use half::{bf16, f16};
use rayon::prelude::*;

use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::view::{View, ViewMut};
use crate::problem::Operand;

/// The elements of a tensor of 16- or 32-bit floats as f32: borrowed where they are.
///
/// # Errors
/// When the tensor holds another type.
pub(crate) fn floats<'a>(view: &View<'a>) -> Result<Cow<'a, [f32]>, OpError> {
    Ok(match view.dtype {
        DType::F32 => Cow::Borrowed(view.slice::<f32>()),
        DType::F16 => Cow::Owned(view.slice::<f16>().par_iter().map(|x| x.to_f32()).collect()),
        DType::BF16 => Cow::Owned(view.slice::<bf16>().par_iter().map(|x| x.to_f32()).collect()),
        _ => return Err(OpError::Internal("a kernel for floats over another type")),
    })
}

/// Whether [`floats`] and [`fill_floats`] take this type.
pub(crate) fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// Lets `fill` compute an output as f32, and rounds the results to the output's type.
///
/// # Errors
/// When the output holds another type than 16- or 32-bit floats, or `fill` fails.
pub(crate) fn fill_floats(
    output: &mut ViewMut<'_>,
    fill: impl FnOnce(&mut [f32]) -> Result<(), OpError>,
) -> Result<(), OpError> {
    if output.dtype == DType::F32 {
        return fill(output.slice::<f32>());
    }
    let mut wide = vec![0.0; output.as_view().len()];
    fill(&mut wide)?;
    match output.dtype {
        DType::F16 => {
            let narrow = output.slice::<f16>().par_iter_mut().zip(&wide);
            narrow.for_each(|(slot, &x)| *slot = f16::from_f32(x));
        }
        DType::BF16 => {
            let narrow = output.slice::<bf16>().par_iter_mut().zip(&wide);
            narrow.for_each(|(slot, &x)| *slot = bf16::from_f32(x));
        }
        _ => return Err(OpError::Internal("a kernel for floats over another type")),
    }
    Ok(())
}

/// A constant operand of 16-bit floats as f32; `None` when it is not constant, or f32 already.
///
/// # Errors
/// When it holds another type.
pub(crate) fn widened(operand: &Operand<'_>) -> Result<Option<Vec<f32>>, OpError> {
    match operand.value.filter(|value| value.dtype() != DType::F32) {
        Some(value) => Ok(Some(floats(&value.clone().aligned().view())?.into_owned())),
        None => Ok(None),
    }
}

/// Scratch memory of a run as f32.
pub(crate) fn scratch_floats(scratch: &mut [u8]) -> &mut [f32] {
    let whole = scratch.len() / 4 * 4;
    bytemuck::try_cast_slice_mut(&mut scratch[..whole]).unwrap_or(&mut [])
}
