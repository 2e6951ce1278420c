//! Raw elements: little-endian, row-major, nothing else in the file.

use std::path::Path;

use bytes::Bytes;
use sardonyx_ops::{DType, Tensor};

use super::malformed;
use crate::failure::Failure;

/// Reads a file of exactly the bytes that type and dimensions need.
///
/// # Errors
/// When the length is another one.
pub fn read(bytes: Bytes, dtype: DType, dims: &[usize], path: &Path) -> Result<Tensor, Failure> {
    if dtype == DType::Bool && bytes.iter().any(|&byte| byte > 1) {
        return Err(malformed(path, "a truth value is neither 0 nor 1"));
    }
    Tensor::from_bytes(dtype, dims, bytes).map(Tensor::aligned).map_err(|error| malformed(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_must_fit() {
        let path = Path::new("a.bin");
        let bytes = Bytes::from_static(&[0, 0, 128, 63]);
        assert_eq!(read(bytes.clone(), DType::F32, &[1, 1], path).unwrap().to_vec::<f32>().unwrap(), [1.0]);
        assert!(read(bytes.clone(), DType::F32, &[2], path).is_err());
        assert!(read(bytes.clone(), DType::F32, &[usize::MAX, usize::MAX], path).is_err());
        assert!(read(bytes, DType::Bool, &[4], path).is_err());
    }
}
