//! Host tensors: an element type, dimensions, and bytes that may be borrowed from a mapped file.

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;

use super::dtype::{DType, Element};

/// Why bytes and dimensions do not make a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The product of the dimensions, or its size in bytes, does not fit the address space.
    #[error("a tensor of {dtype} with dimensions {dims:?} is too large")]
    TooLarge {
        /// Element type asked for.
        dtype: DType,
        /// Dimensions asked for.
        dims: Vec<usize>,
    },
    /// The data has another length than the dimensions say.
    #[error("dimensions {dims:?} of {dtype} need {expected} bytes, got {got}")]
    Length {
        /// Element type asked for.
        dtype: DType,
        /// Dimensions asked for.
        dims: Vec<usize>,
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// The tensor holds another type than was asked for.
    #[error("the tensor holds {got}, not {expected}")]
    Type {
        /// Type asked for.
        expected: DType,
        /// Type held.
        got: DType,
    },
}

/// The number of elements of a shape, or `None` when it overflows. A scalar (no dimensions) has one.
pub fn element_count(dims: &[usize]) -> Option<usize> {
    // Zero anywhere wins over overflow elsewhere: such a tensor is empty.
    if dims.contains(&0) {
        return Some(0);
    }
    dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))
}

#[derive(Clone)]
enum Data {
    Bytes(Bytes),
    Strings(Arc<[String]>),
}

/// A tensor in host memory: row-major, densely packed, little-endian; cheap to clone.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    dims: Vec<usize>,
    data: Data,
}

/// A `Vec` of plain elements as the owner of shared bytes: keeps the elements' alignment.
struct Elements<T>(Vec<T>);

impl<T: Element> AsRef<[u8]> for Elements<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl Tensor {
    /// A tensor over shared bytes, which may be unaligned (a mapped file).
    ///
    /// # Errors
    /// When the byte length is not what `dtype` and `dims` need.
    pub fn from_bytes(dtype: DType, dims: &[usize], data: Bytes) -> Result<Tensor, TensorError> {
        let expected = byte_length(dtype, dims)?;
        if data.len() != expected {
            return Err(TensorError::Length { dtype, dims: dims.to_vec(), expected, got: data.len() });
        }
        Ok(Tensor { dtype, dims: dims.to_vec(), data: Data::Bytes(data) })
    }

    /// A tensor that takes over a vector of elements.
    ///
    /// # Errors
    /// When the number of elements is not the product of `dims`.
    pub fn from_vec<T: Element>(dims: &[usize], data: Vec<T>) -> Result<Tensor, TensorError> {
        Tensor::from_bytes(T::DTYPE, dims, Bytes::from_owner(Elements(data)))
    }

    /// A tensor with a copy of the elements.
    ///
    /// # Errors
    /// When the number of elements is not the product of `dims`.
    pub fn from_slice<T: Element>(dims: &[usize], data: &[T]) -> Result<Tensor, TensorError> {
        Tensor::from_vec(dims, data.to_vec())
    }

    /// A tensor of truth values.
    ///
    /// # Errors
    /// When the number of elements is not the product of `dims`.
    pub fn from_bools(dims: &[usize], data: &[bool]) -> Result<Tensor, TensorError> {
        let bytes: Vec<u8> = data.iter().map(|&b| u8::from(b)).collect();
        Tensor::from_bytes(DType::Bool, dims, Bytes::from_owner(Elements(bytes)))
    }

    /// A tensor of strings.
    ///
    /// # Errors
    /// When the number of strings is not the product of `dims`.
    pub fn from_strings(dims: &[usize], data: Vec<String>) -> Result<Tensor, TensorError> {
        let too_large = || TensorError::TooLarge { dtype: DType::Str, dims: dims.to_vec() };
        let expected = element_count(dims).ok_or_else(too_large)?;
        if data.len() != expected {
            return Err(TensorError::Length {
                dtype: DType::Str,
                dims: dims.to_vec(),
                expected,
                got: data.len(),
            });
        }
        Ok(Tensor { dtype: DType::Str, dims: dims.to_vec(), data: Data::Strings(data.into()) })
    }

    /// A tensor of zero bytes (false, 0, 0.0), aligned for any element type.
    ///
    /// # Errors
    /// When the size overflows, or the memory cannot be had.
    pub fn zeroed(dtype: DType, dims: &[usize]) -> Result<Tensor, TensorError> {
        let length = byte_length(dtype, dims)?;
        let mut words: Vec<u64> = Vec::new();
        words
            .try_reserve_exact(length.div_ceil(8))
            .map_err(|_| TensorError::TooLarge { dtype, dims: dims.to_vec() })?;
        words.resize(length.div_ceil(8), 0);
        let data = Bytes::from_owner(Elements(words)).slice(..length);
        Ok(Tensor { dtype, dims: dims.to_vec(), data: Data::Bytes(data) })
    }

    /// One element without dimensions.
    pub fn scalar<T: Element>(value: T) -> Tensor {
        Tensor {
            dtype: T::DTYPE,
            dims: Vec::new(),
            data: Data::Bytes(Bytes::from_owner(Elements(vec![value]))),
        }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        // Checked to fit when the tensor was made.
        self.dims.iter().product()
    }

    /// No elements at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The packed bytes; empty for strings.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Bytes(bytes) => bytes,
            Data::Strings(_) => &[],
        }
    }

    /// The packed bytes as a shared handle; empty for strings.
    pub fn shared_bytes(&self) -> Bytes {
        match &self.data {
            Data::Bytes(bytes) => bytes.clone(),
            Data::Strings(_) => Bytes::new(),
        }
    }

    /// The strings of a string tensor.
    pub fn strings(&self) -> Option<&[String]> {
        match &self.data {
            Data::Bytes(_) => None,
            Data::Strings(strings) => Some(strings),
        }
    }

    /// The elements as `T`: borrowed when the bytes are aligned, else copied.
    ///
    /// # Errors
    /// When the tensor holds another type.
    pub fn elements<T: Element>(&self) -> Result<Cow<'_, [T]>, TensorError> {
        if self.dtype != T::DTYPE {
            return Err(TensorError::Type { expected: T::DTYPE, got: self.dtype });
        }
        let bytes = self.bytes();
        Ok(match bytemuck::try_cast_slice(bytes) {
            Ok(elements) => Cow::Borrowed(elements),
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(bytes)),
        })
    }

    /// A copy of the elements as `T`.
    ///
    /// # Errors
    /// When the tensor holds another type.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, TensorError> {
        Ok(self.elements::<T>()?.into_owned())
    }

    /// The same elements under other dimensions.
    ///
    /// # Errors
    /// When the number of elements differs.
    pub fn reshaped(&self, dims: &[usize]) -> Result<Tensor, TensorError> {
        if element_count(dims) != Some(self.len()) {
            return Err(TensorError::Length {
                dtype: self.dtype,
                dims: dims.to_vec(),
                expected: element_count(dims).and_then(|n| self.dtype.bytes_for(n)).unwrap_or(usize::MAX),
                got: self.bytes().len(),
            });
        }
        Ok(Tensor { dtype: self.dtype, dims: dims.to_vec(), data: self.data.clone() })
    }

    /// The same tensor with its bytes aligned to 8, copied if they were not.
    pub fn aligned(self) -> Tensor {
        match &self.data {
            Data::Bytes(bytes) if !(bytes.as_ptr() as usize).is_multiple_of(8) => {
                let mut words = vec![0u64; bytes.len().div_ceil(8)];
                let raw: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
                raw[..bytes.len()].copy_from_slice(bytes);
                let data = Bytes::from_owner(Elements(words)).slice(..bytes.len());
                Tensor { data: Data::Bytes(data), ..self }
            }
            _ => self,
        }
    }
}

fn byte_length(dtype: DType, dims: &[usize]) -> Result<usize, TensorError> {
    element_count(dims)
        .and_then(|count| dtype.bytes_for(count))
        .filter(|&bytes| bytes <= isize::MAX as usize)
        .ok_or_else(|| TensorError::TooLarge { dtype, dims: dims.to_vec() })
}

impl fmt::Debug for Tensor {
    /// Type, dimensions and a digest of the contents, so that different constants print differently.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hasher = DefaultHasher::new();
        match &self.data {
            Data::Bytes(bytes) => bytes.hash(&mut hasher),
            Data::Strings(strings) => strings.hash(&mut hasher),
        }
        write!(f, "{}{:?}#{:016x}", self.dtype, self.dims, hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unaligned_bytes_still_read() {
        let mut raw = vec![9u8];
        raw.extend_from_slice(bytemuck::cast_slice(&[1.5f32, -2.0]));
        let bytes = Bytes::from(raw).slice(1..);
        let tensor = Tensor::from_bytes(DType::F32, &[2], bytes).unwrap();
        assert_eq!(tensor.to_vec::<f32>().unwrap(), [1.5, -2.0]);
        assert_eq!(tensor.aligned().elements::<f32>().unwrap().as_ref(), [1.5, -2.0]);
    }

    #[test]
    fn printing_tells_contents_apart() {
        let print = |x: f32| format!("{:?}", Tensor::scalar(x));
        assert!(print(1.0).starts_with("f32[]#"));
        assert_eq!(print(1.0), print(1.0));
        assert_ne!(print(1.0), print(2.0));
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert!(matches!(Tensor::from_vec(&[3], vec![1i64]), Err(TensorError::Length { .. })));
        assert!(matches!(Tensor::zeroed(DType::F32, &[usize::MAX, 2]), Err(TensorError::TooLarge { .. })));
        assert_eq!(Tensor::zeroed(DType::F32, &[usize::MAX, 0]).unwrap().len(), 0);
    }
}
