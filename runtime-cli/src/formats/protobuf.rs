//! Values as ONNX test sets keep them: `input_J.pb` and `output_J.pb` in the order of the graph's inputs and
//! outputs, each a `TensorProto`, or a `SequenceProto` or `OptionalProto` where the graph says so.

use std::path::{Path, PathBuf};

use sardonyx::Value;
use sardonyx_importer::ImportError;
use sardonyx_importer::onnx::{LoadLimits, TypeProto, decode_tensor, decode_value};
use sardonyx_ops::Tensor;

use super::{MOST_BYTES, read_file};
use crate::failure::{Exit, Failure};

/// Reads a `TensorProto` file: the name in it, which may be empty, and the tensor.
///
/// # Errors
/// When the file cannot be read or is no tensor.
pub fn read(path: &Path) -> Result<(String, Tensor), Failure> {
    let bytes = read_file(path, MOST_BYTES)?;
    decode_tensor(bytes, &LoadLimits::default())
        .map(|(name, tensor)| (name.to_string(), tensor.aligned()))
        .map_err(|error| {
            unreadable(path, &error).help("a .pb file holds one TensorProto, as in ONNX test sets")
        })
}

/// Reads the file of a value of a declared type.
///
/// # Errors
/// When the file cannot be read or holds another value.
pub fn read_value(path: &Path, declared: &TypeProto) -> Result<Value, Failure> {
    let bytes = read_file(path, MOST_BYTES)?;
    decode_value(bytes, declared, &LoadLimits::default()).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &ImportError) -> Failure {
    Failure::with_code(Exit::Input, error.code(), format!("{}: {error}", path.display()))
}

/// The numbered files of one kind (`input`, `output`) in a folder, `KIND_0.pb` first, up to the first gap.
pub fn numbered(folder: &Path, kind: &str) -> Vec<PathBuf> {
    (0..).map(|j| folder.join(format!("{kind}_{j}.pb"))).take_while(|path| path.is_file()).collect()
}

/// A folder with numbered inputs or outputs.
pub fn is_test_set(folder: &Path) -> bool {
    folder.join("input_0.pb").is_file() || folder.join("output_0.pb").is_file()
}

/// The folders `test_data_set_K` beneath a folder, in the order of K; or the folder itself when it is a test set.
pub fn test_sets(folder: &Path) -> Vec<PathBuf> {
    if is_test_set(folder) {
        return vec![folder.to_owned()];
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut sets: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix("test_data_set_")?.parse().ok()?;
            entry.path().is_dir().then(|| (number, entry.path()))
        })
        .collect();
    sets.sort();
    sets.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;
    use sardonyx_importer::onnx::encode_tensor;

    #[test]
    fn sets_in_the_order_of_their_numbers() {
        let scratch = Scratch::new("testset");
        let tensor = Tensor::from_vec(&[2], vec![1i32, -2]).unwrap();
        for set in ["test_data_set_10", "test_data_set_2", "other"] {
            std::fs::create_dir(scratch.path(set)).unwrap();
            scratch.write(&format!("{set}/input_0.pb"), &encode_tensor(&tensor, "x"));
            scratch.write(&format!("{set}/input_2.pb"), b"");
        }
        let sets = test_sets(&scratch.path(""));
        assert_eq!(sets, [scratch.path("test_data_set_2"), scratch.path("test_data_set_10")]);
        assert_eq!(test_sets(&sets[0]), [sets[0].clone()]);
        assert_eq!(numbered(&sets[0], "input").len(), 1);
        let (name, back) = read(&sets[0].join("input_0.pb")).unwrap();
        assert_eq!((name.as_str(), back.to_vec::<i32>().unwrap()), ("x", vec![1, -2]));
        let failure = read(&scratch.write("bad.pb", b"\xff\xff")).unwrap_err();
        assert_eq!(failure.status(), 4);
    }
}
