//! Tensors written on the command line as nested lists: `[[1, 2], [3, 4]]`, `0.5`, `["a", "b"]`, `[true, false]`.
//!
//! The text is JSON. `"nan"`, `"inf"` and `"-inf"` stand for the floats that JSON cannot write.

use sardonyx_ops::{DType, Element, Tensor};
use serde_json::Value;

use crate::elements;
use crate::failure::{Failure, Fault};

/// Reads a literal as a tensor of `dtype`; its dimensions are those of the nesting.
///
/// # Errors
/// When the text is no literal, its lists have different lengths, or a value does not fit the type.
pub fn read(text: &str, dtype: DType) -> Result<Tensor, Failure> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        Failure::new(Fault::Source, format!("{text:?} is neither a file nor a literal: {error}"))
            .help("literals are nested lists: \"[[1,2],[3,4]]\"; quote them for the shell")
    })?;
    let mut dims = Vec::new();
    let mut inner = &value;
    while let Value::Array(items) = inner {
        dims.push(items.len());
        match items.first() {
            Some(first) => inner = first,
            None => break,
        }
    }
    let mut leaves = Vec::new();
    collect(&value, &dims, &mut leaves)?;
    tensor(dtype, &dims, &leaves)
}

fn collect<'v>(value: &'v Value, dims: &[usize], leaves: &mut Vec<&'v Value>) -> Result<(), Failure> {
    match (value, dims.split_first()) {
        (Value::Array(items), Some((&length, inner))) if items.len() == length => {
            items.iter().try_for_each(|item| collect(item, inner, leaves))
        }
        (Value::Array(_), _) | (_, Some(_)) => {
            Err(Failure::new(Fault::Source, "the lists of a literal have different lengths"))
        }
        (leaf, None) => {
            leaves.push(leaf);
            Ok(())
        }
    }
}

fn tensor(dtype: DType, dims: &[usize], leaves: &[&Value]) -> Result<Tensor, Failure> {
    let misfit =
        |leaf: &Value| Failure::new(Fault::ElementType, format!("{leaf} in a literal is no {dtype}"));
    fn each<T>(
        leaves: &[&Value],
        read: impl Fn(&Value) -> Option<T>,
        misfit: impl Fn(&Value) -> Failure,
    ) -> Result<Vec<T>, Failure> {
        leaves.iter().map(|leaf| read(leaf).ok_or_else(|| misfit(leaf))).collect()
    }
    fn whole<T: Element + TryFrom<i128>>(
        dims: &[usize],
        leaves: &[&Value],
        misfit: impl Fn(&Value) -> Failure,
    ) -> Result<Tensor, Failure> {
        let read = |leaf: &Value| T::try_from(integer(leaf)?).ok();
        Tensor::from_vec(dims, each(leaves, read, misfit)?).map_err(|error| inconsistent(&error))
    }
    match dtype {
        DType::I8 => whole::<i8>(dims, leaves, misfit),
        DType::I16 => whole::<i16>(dims, leaves, misfit),
        DType::I32 => whole::<i32>(dims, leaves, misfit),
        DType::I64 => whole::<i64>(dims, leaves, misfit),
        DType::U8 => whole::<u8>(dims, leaves, misfit),
        DType::U16 => whole::<u16>(dims, leaves, misfit),
        DType::U32 => whole::<u32>(dims, leaves, misfit),
        DType::U64 => whole::<u64>(dims, leaves, misfit),
        DType::Str => {
            let texts = each(leaves, |leaf| leaf.as_str().map(str::to_owned), misfit)?;
            Tensor::from_strings(dims, texts).map_err(|error| inconsistent(&error))
        }
        DType::Bool => {
            let read = |leaf: &Value| match leaf.as_u64() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => leaf.as_bool(),
            };
            let truth = each(leaves, read, misfit)?;
            Tensor::from_bools(dims, &truth).map_err(|error| inconsistent(&error))
        }
        _ => {
            let values = each(leaves, real, misfit)?;
            elements::from_f64(dtype, dims, &values)
                .ok_or_else(|| {
                    Failure::new(Fault::Source, format!("literals of type {dtype} cannot be written"))
                })?
                .map_err(|error| inconsistent(&error))
        }
    }
}

fn integer(leaf: &Value) -> Option<i128> {
    leaf.as_i64().map(i128::from).or_else(|| leaf.as_u64().map(i128::from))
}

fn real(leaf: &Value) -> Option<f64> {
    match leaf.as_str() {
        Some("nan") => Some(f64::NAN),
        Some("inf") => Some(f64::INFINITY),
        Some("-inf") => Some(f64::NEG_INFINITY),
        _ => leaf.as_f64(),
    }
}

fn inconsistent(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Fault::Defect, format!("a literal does not fit its own dimensions: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_gives_the_dimensions() {
        let tensor = read("[[1, 2], [3.5, \"nan\"]]", DType::F32).unwrap();
        assert_eq!(tensor.dims(), [2, 2]);
        let values = tensor.to_vec::<f32>().unwrap();
        assert_eq!(values[..3], [1.0, 2.0, 3.5]);
        assert!(values[3].is_nan());
        assert_eq!(read("16000", DType::I64).unwrap().dims(), [0usize; 0]);
        assert_eq!(read("9223372036854775807", DType::I64).unwrap().to_vec::<i64>().unwrap(), [i64::MAX]);
        assert_eq!(read("[true, 0]", DType::Bool).unwrap().bytes(), [1, 0]);
        assert_eq!(read("[[\"a\"]]", DType::Str).unwrap().strings().unwrap(), ["a"]);
        assert_eq!(read("[[], []]", DType::F32).unwrap().dims(), [2, 0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (text, dtype) in [
            ("face.jpg", DType::F32),
            ("[[1, 2], [3]]", DType::F32),
            ("[1, [2]]", DType::F32),
            ("[[1], 2]", DType::F32),
            ("[256]", DType::U8),
            ("[1.5]", DType::I64),
            ("[2]", DType::Bool),
            ("[\"x\"]", DType::F32),
            ("{\"a\": 1}", DType::F32),
            (&"[".repeat(100_000), DType::F32),
        ] {
            assert!(read(text, dtype).is_err(), "{text:.20}");
        }
    }
}
