//! Saving outputs: `.npz`, `.safetensors`, or a folder of `TensorProto` files.

use std::path::Path;

use sardonyx_importer::onnx::encode_tensor;
use sardonyx_ops::Tensor;

use super::atomic;
use crate::failure::{Failure, Fault};
use crate::formats::{npz, safetensors};

/// Writes named tensors to a file, or to `output_J.pb` in a folder (a path that ends in `/` or is a folder).
///
/// # Errors
/// When the ending is unknown, a format does not know a type, or writing fails.
pub fn save(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), Failure> {
    let named = || tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    match path.extension().and_then(|ending| ending.to_str()) {
        _ if is_folder(path) => folder(path, tensors),
        Some("npz") => atomic::write(path, &npz::write(named())?),
        Some("safetensors") => atomic::write(path, &safetensors::write(named())?),
        _ => Err(Failure::new(
            Fault::Usage,
            format!("{}: outputs are saved as .npz, .safetensors or a folder", path.display()),
        )
        .help("end a folder's name with /")),
    }
}

/// The path stands for a folder: it ends in `/`, or is one.
pub fn is_folder(path: &Path) -> bool {
    path.as_os_str().to_string_lossy().ends_with(['/', std::path::MAIN_SEPARATOR]) || path.is_dir()
}

fn folder(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), Failure> {
    std::fs::create_dir_all(path).map_err(|error| Failure::file(path, &error))?;
    for (j, (name, tensor)) in tensors.iter().enumerate() {
        atomic::write(&path.join(format!("output_{j}.pb")), &encode_tensor(tensor, name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::protobuf;
    use crate::testing::Scratch;

    #[test]
    fn every_form_of_saving() {
        let scratch = Scratch::new("save");
        let tensors = [
            ("scores/0".to_owned(), Tensor::from_vec(&[1, 2], vec![0.25f32, 0.75]).unwrap()),
            ("n".to_owned(), Tensor::scalar(3i64)),
        ];
        save(&scratch.path("o.npz"), &tensors).unwrap();
        save(&scratch.path("o.safetensors"), &tensors).unwrap();
        let folder = scratch.path("sets/");
        save(&folder, &tensors).unwrap();
        let (name, back) = protobuf::read(&folder.join("output_1.pb")).unwrap();
        assert_eq!((name.as_str(), back.dims(), back.to_vec::<i64>().unwrap()), ("n", &[][..], vec![3]));
        assert_eq!(save(&scratch.path("o.csv"), &tensors).unwrap_err().status(), 2);
    }
}
