//! Files in the safetensors format: a JSON header and the elements of all tensors.

use std::path::Path;

use bytes::Bytes;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sardonyx_ops::{DType, Tensor};

use super::malformed;
use crate::failure::{Failure, Fault};

/// `(their type, ours)`.
const TYPES: &[(Dtype, DType)] = &[
    (Dtype::BOOL, DType::Bool),
    (Dtype::U8, DType::U8),
    (Dtype::I8, DType::I8),
    (Dtype::U16, DType::U16),
    (Dtype::I16, DType::I16),
    (Dtype::U32, DType::U32),
    (Dtype::I32, DType::I32),
    (Dtype::U64, DType::U64),
    (Dtype::I64, DType::I64),
    (Dtype::F16, DType::F16),
    (Dtype::BF16, DType::BF16),
    (Dtype::F32, DType::F32),
    (Dtype::F64, DType::F64),
    (Dtype::F8_E4M3, DType::F8E4M3FN),
    (Dtype::F8_E5M2, DType::F8E5M2),
    (Dtype::F8_E8M0, DType::F8E8M0),
];

/// Reads the tensors of a file, in the file's order; `key` limits it to one.
///
/// # Errors
/// When the bytes are no such file, the key is not there, or a type has no counterpart.
pub fn read(bytes: &Bytes, key: Option<&str>, path: &Path) -> Result<Vec<(String, Tensor)>, Failure> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| malformed(path, error))?;
    let mut views = match key {
        Some(key) => {
            let view =
                file.tensor(key).map_err(|error| malformed(path, format!("tensor {key:?}: {error}")))?;
            vec![(key.to_owned(), view)]
        }
        None => file.tensors(),
    };
    views.sort_by_key(|(_, view)| view.data().as_ptr());
    views.into_iter().map(|(name, view)| convert(bytes, &view, path).map(|tensor| (name, tensor))).collect()
}

fn convert(bytes: &Bytes, view: &TensorView<'_>, path: &Path) -> Result<Tensor, Failure> {
    let dtype = TYPES.iter().find(|row| row.0 == view.dtype()).map(|row| row.1);
    let dtype = dtype.ok_or_else(|| malformed(path, format!("type {:?} is not supported", view.dtype())))?;
    let data = bytes.slice_ref(view.data());
    let tensor = match dtype {
        DType::Bool => {
            let truth: Vec<bool> = data.iter().map(|&byte| byte != 0).collect();
            Tensor::from_bools(view.shape(), &truth)
        }
        dtype => Tensor::from_bytes(dtype, view.shape(), data),
    };
    tensor.map(Tensor::aligned).map_err(|error| malformed(path, error))
}

/// Writes a file.
///
/// # Errors
/// When a tensor has a type that the format does not know (text, 4-bit integers, complex numbers).
pub fn write<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<Vec<u8>, Failure> {
    let views: Vec<(&str, TensorView<'_>)> = tensors
        .into_iter()
        .map(|(name, tensor)| {
            let dtype =
                TYPES.iter().find(|row| row.1 == tensor.dtype()).map(|row| row.0).ok_or_else(|| {
                    let message = format!("tensor {name:?}: safetensors has no type {}", tensor.dtype());
                    Failure::new(Fault::File, message).help("save to a .npz file or a folder instead")
                })?;
            let view = TensorView::new(dtype, tensor.dims().to_vec(), tensor.bytes());
            view.map(|view| (name, view)).map_err(|error| Failure::new(Fault::Defect, error.to_string()))
        })
        .collect::<Result<_, Failure>>()?;
    safetensors::serialize(views, None).map_err(|error| Failure::new(Fault::File, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_there_and_back_and_damage() {
        let a = Tensor::from_vec(&[3], vec![1f32, 2.0, 3.0]).unwrap();
        let b = Tensor::from_bools(&[1, 1], &[true]).unwrap();
        let path = Path::new("a.safetensors");
        let bytes = Bytes::from(write([("a", &a), ("b", &b)]).unwrap());
        let all = read(&bytes, None, path).unwrap();
        assert_eq!(all.len(), 2);
        let one = read(&bytes, Some("a"), path).unwrap();
        assert_eq!((one.len(), one[0].1.to_vec::<f32>().unwrap()), (1, vec![1.0, 2.0, 3.0]));
        assert_eq!(read(&bytes, Some("b"), path).unwrap()[0].1.bytes(), [1]);
        assert!(read(&bytes, Some("c"), path).is_err());
        for cut in 0..bytes.len() {
            assert!(read(&bytes.slice(..cut), None, path).is_err());
        }
        let text = Tensor::from_strings(&[1], vec!["t".into()]).unwrap();
        assert!(write([("t", &text)]).is_err());
    }
}
