//! Putting tensors of any element type together, element by element: what references of operators that move data use.

use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;

/// A tensor under construction: bytes, packed elements below a byte, or strings.
pub struct Assembly {
    dtype: DType,
    dims: Vec<usize>,
    len: usize,
    words: Vec<u64>,
    strings: Vec<String>,
}

impl Assembly {
    /// A tensor of zeros (false, empty strings).
    ///
    /// # Errors
    /// When the size overflows, or the memory cannot be had.
    pub fn zeroed(dtype: DType, dims: &[usize]) -> Result<Assembly, OpError> {
        let len = element_count(dims).ok_or(OpError::Size)?;
        let mut assembly =
            Assembly { dtype, dims: dims.to_vec(), len, words: Vec::new(), strings: Vec::new() };
        if dtype == DType::Str {
            assembly.strings.try_reserve_exact(len).map_err(|_| OpError::Size)?;
            assembly.strings.resize(len, String::new());
        } else {
            let words = dtype.bytes_for(len).ok_or(OpError::Size)?.div_ceil(8);
            assembly.words.try_reserve_exact(words).map_err(|_| OpError::Size)?;
            assembly.words.resize(words, 0);
        }
        Ok(assembly)
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No elements at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies element `index` of `from`, which has the same element type, to element `at`.
    ///
    /// # Errors
    /// When an index is out of bounds or the types differ.
    pub fn copy(&mut self, at: usize, from: &View<'_>, index: usize) -> Result<(), OpError> {
        const OUTSIDE: OpError = OpError::Internal("an element out of bounds");
        if from.dtype != self.dtype || at >= self.len || index >= from.len() {
            return Err(OUTSIDE);
        }
        if let Some(strings) = from.strings {
            let slot = self.strings.get_mut(at).ok_or(OUTSIDE)?;
            slot.clone_from(strings.get(index).ok_or(OUTSIDE)?);
            return Ok(());
        }
        let bits = self.dtype.bits();
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        if bits < 8 {
            let mask = (1u8 << bits) - 1;
            let (source, shift) = (from.bytes.get(index * bits / 8).ok_or(OUTSIDE)?, index * bits % 8);
            let value = source >> shift & mask;
            let (slot, shift) = (bytes.get_mut(at * bits / 8).ok_or(OUTSIDE)?, at * bits % 8);
            *slot = *slot & !(mask << shift) | value << shift;
            return Ok(());
        }
        let size = bits / 8;
        let source = from.bytes.get(index * size..(index + 1) * size).ok_or(OUTSIDE)?;
        bytes.get_mut(at * size..(at + 1) * size).ok_or(OUTSIDE)?.copy_from_slice(source);
        Ok(())
    }

    /// The finished tensor.
    ///
    /// # Errors
    /// Never for a tensor made by [`Assembly::zeroed`].
    pub fn finish(self) -> Result<Tensor, OpError> {
        if self.dtype == DType::Str {
            return Ok(Tensor::from_strings(&self.dims, self.strings)?);
        }
        let length = self.dtype.bytes_for(self.len).ok_or(OpError::Size)?;
        let bytes = match Tensor::from_vec(&[self.words.len()], self.words)?.shared_bytes() {
            bytes if bytes.len() > length => bytes.slice(..length),
            bytes => bytes,
        };
        Ok(Tensor::from_bytes(self.dtype, &self.dims, bytes)?)
    }
}

/// A tensor whose element `i` is element `source(i)` of `x`, or element 0 of `fill` (zero without one) where that is
/// `None`.
///
/// # Errors
/// When a source is out of bounds, or the memory cannot be had.
pub fn select(
    x: &View<'_>,
    dims: &[usize],
    fill: Option<&View<'_>>,
    mut source: impl FnMut(usize) -> Option<usize>,
) -> Result<Tensor, OpError> {
    let mut result = Assembly::zeroed(x.dtype, dims)?;
    for i in 0..result.len() {
        match (source(i), fill) {
            (Some(from), _) => result.copy(i, x, from)?,
            (None, Some(fill)) => result.copy(i, fill, 0)?,
            (None, None) => {}
        }
    }
    result.finish()
}

/// The coordinates of flat index `i` in a row-major tensor.
pub fn coordinates(mut i: usize, dims: &[usize]) -> Vec<usize> {
    let mut at = vec![0; dims.len()];
    for (slot, &dim) in at.iter_mut().zip(dims).rev() {
        *slot = i % dim.max(1);
        i /= dim.max(1);
    }
    at
}

/// The strides of a row-major tensor, in elements.
pub fn row_major(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(dims[axis]);
    }
    strides
}

/// A view's bytes as elements of `N` bytes each, whatever their type.
pub fn elements<const N: usize>(bytes: &[u8]) -> &[[u8; N]] {
    bytes.as_chunks::<N>().0
}

/// The same to write.
pub fn elements_mut<const N: usize>(bytes: &mut [u8]) -> &mut [[u8; N]] {
    bytes.as_chunks_mut::<N>().0
}

/// Calls a function that is generic over the size of an element in bytes: 1, 2, 4, 8 or 16.
macro_rules! by_size {
    ($size:expr, $function:ident($($arg:expr),* $(,)?)) => {
        match $size {
            1 => $function::<1>($($arg),*),
            2 => $function::<2>($($arg),*),
            4 => $function::<4>($($arg),*),
            8 => $function::<8>($($arg),*),
            16 => $function::<16>($($arg),*),
            _ => Err($crate::error::OpError::Internal("elements of this size are not moved by bytes")),
        }
    };
}
pub(crate) use by_size;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_every_width_move() {
        let text = Tensor::from_strings(&[2], vec!["a".into(), "b".into()]).unwrap();
        let flipped = select(&text.view(), &[3], None, |i| [Some(1), None, Some(0)][i]).unwrap();
        assert_eq!(flipped.strings().unwrap(), ["b", "", "a"]);
        let nibbles = Tensor::from_bytes(DType::I4, &[3], vec![0x21u8, 0x0f].into()).unwrap();
        let flipped = select(&nibbles.view(), &[3], None, |i| Some(2 - i)).unwrap();
        assert_eq!(flipped.bytes(), [0x2f, 0x01]);
        let long = Tensor::from_slice(&[2], &[-1i64, 7]).unwrap();
        let flipped = select(&long.view(), &[2], None, |i| Some(1 - i)).unwrap();
        assert_eq!(flipped.to_vec::<i64>().unwrap(), [7, -1]);
        assert!(select(&long.view(), &[1], None, |_| Some(2)).is_err());
    }

    #[test]
    fn coordinates_follow_row_major_order() {
        assert_eq!(coordinates(17, &[2, 3, 4]), [1, 1, 1]);
        assert_eq!(row_major(&[2, 3, 4]), [12, 4, 1]);
    }
}
