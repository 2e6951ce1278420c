//! Borrowed tensors: what kernels read and write.

use super::dtype::{DType, Element};
use super::tensor::Tensor;

/// A tensor to read: row-major, densely packed.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub dims: &'a [usize],
    /// Packed bytes, aligned for the element type; empty for strings.
    pub bytes: &'a [u8],
    /// The strings of a string tensor.
    pub strings: Option<&'a [String]>,
}

/// A tensor to write: row-major, densely packed.
#[derive(Debug)]
pub struct ViewMut<'a> {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub dims: &'a [usize],
    /// Packed bytes, aligned for the element type.
    pub bytes: &'a mut [u8],
}

impl<'a> View<'a> {
    /// The elements as `T`; empty when the view holds another type or is not aligned.
    ///
    /// Kernels ask for the type that inference has checked; an empty slice for a wrong type
    /// turns a defect into an index error that is caught, never into foreign memory.
    pub fn slice<T: Element>(&self) -> &'a [T] {
        if self.dtype != T::DTYPE {
            return &[];
        }
        bytemuck::try_cast_slice(self.bytes).unwrap_or(&[])
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// No elements at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An owned copy.
    pub fn to_tensor(&self) -> Tensor {
        let copy = match self.strings {
            Some(strings) => Tensor::from_strings(self.dims, strings.to_vec()),
            None => Tensor::zeroed(self.dtype, self.dims).and_then(|_| {
                Tensor::from_bytes(self.dtype, self.dims, bytes::Bytes::copy_from_slice(self.bytes))
            }),
        };
        // A view's bytes match its type and dimensions, so the copy cannot fail.
        copy.map(Tensor::aligned).unwrap_or_else(|_| Tensor::scalar(0u8))
    }
}

impl ViewMut<'_> {
    /// The elements as `T`; empty when the view holds another type or is not aligned.
    pub fn slice<T: Element>(&mut self) -> &mut [T] {
        if self.dtype != T::DTYPE {
            return &mut [];
        }
        bytemuck::try_cast_slice_mut(self.bytes).unwrap_or(&mut [])
    }

    /// The same tensor to read.
    pub fn as_view(&self) -> View<'_> {
        View { dtype: self.dtype, dims: self.dims, bytes: self.bytes, strings: None }
    }
}

impl Tensor {
    /// The tensor as a view. Its bytes may be unaligned when they lie in a mapped file: see [`Tensor::aligned`].
    pub fn view(&self) -> View<'_> {
        View { dtype: self.dtype(), dims: self.dims(), bytes: self.bytes(), strings: self.strings() }
    }
}
