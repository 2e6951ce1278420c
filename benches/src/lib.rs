//! The worker protocol: how a comparison of engines drives one of them.
//!
//! Command line: `--model FILE --threads N --out DIR --input NAME:DTYPE:SHAPE:FILE ...`; standard input has one command a
//! line (`first`, `run K`, `quit`), standard output one JSON object a line (`ready`, `first`, `run`, `error`).

use std::path::PathBuf;

use sardonyx::{DType, Tensor};

/// The arguments of a worker.
#[derive(Debug)]
pub struct Arguments {
    /// The ONNX file.
    pub model: PathBuf,
    /// Threads of the CPU path.
    pub threads: usize,
    /// Where outputs are written, raw.
    pub out: PathBuf,
    /// The device, as `sardonyx --device` takes it.
    pub device: String,
    /// Floats stored as f16 on a GPU.
    pub f16: bool,
    /// Inputs by name.
    pub inputs: Vec<(String, Tensor)>,
}

/// numpy's names of element types.
const DTYPES: &[(&str, DType)] = &[
    ("float32", DType::F32),
    ("float64", DType::F64),
    ("float16", DType::F16),
    ("int8", DType::I8),
    ("int16", DType::I16),
    ("int32", DType::I32),
    ("int64", DType::I64),
    ("uint8", DType::U8),
    ("uint16", DType::U16),
    ("uint32", DType::U32),
    ("uint64", DType::U64),
    ("bool", DType::Bool),
];

/// numpy's name of an element type.
pub fn numpy_name(dtype: DType) -> &'static str {
    DTYPES.iter().find(|(_, d)| *d == dtype).map_or("other", |(name, _)| name)
}

impl Arguments {
    /// Reads a command line, the program's name left out.
    ///
    /// # Errors
    /// When an argument is unknown, incomplete or names an unreadable file.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Arguments, String> {
        let mut parsed = Arguments {
            model: PathBuf::new(),
            threads: 1,
            out: PathBuf::from("."),
            device: "cpu".to_owned(),
            f16: false,
            inputs: Vec::new(),
        };
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{flag} wants a value"));
            match flag.as_str() {
                "--model" => parsed.model = value()?.into(),
                "--threads" => parsed.threads = value()?.parse().map_err(|e| format!("--threads: {e}"))?,
                "--out" => parsed.out = value()?.into(),
                "--device" => parsed.device = value()?,
                "--f16" => parsed.f16 = true,
                "--input" => parsed.inputs.push(input(&value()?)?),
                other => return Err(format!("unknown argument {other}")),
            }
        }
        Ok(parsed)
    }
}

/// Reads `NAME:DTYPE:SHAPE:FILE`; the name may hold colons, a scalar has an empty shape.
fn input(text: &str) -> Result<(String, Tensor), String> {
    let mut parts: Vec<&str> = text.rsplitn(4, ':').collect();
    parts.reverse();
    let [name, dtype, shape, file] = parts[..] else {
        return Err(format!("--input {text}: expected NAME:DTYPE:SHAPE:FILE"));
    };
    let (_, dtype) = DTYPES.iter().find(|(n, _)| *n == dtype).ok_or(format!("unknown type {dtype}"))?;
    let dims: Result<Vec<usize>, _> = shape.split('x').filter(|s| !s.is_empty()).map(str::parse).collect();
    let dims = dims.map_err(|e| format!("shape {shape}: {e}"))?;
    let data = std::fs::read(file).map_err(|e| format!("{file}: {e}"))?;
    let tensor = Tensor::from_bytes(*dtype, &dims, data.into()).map_err(|e| e.to_string())?;
    Ok((name.to_owned(), tensor.aligned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_parse() {
        let file = std::env::temp_dir().join(format!("sardonyx-worker-{}", std::process::id()));
        std::fs::write(&file, [0u8; 24]).unwrap();
        let text = format!("a:b:float32:2x3:{}", file.display());
        let (name, tensor) = input(&text).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!((name.as_str(), tensor.dims()), ("a:b", &[2, 3][..]));
        assert!(input("x:float32:3").is_err());
        assert!(Arguments::parse(["--nonsense".to_owned()].into_iter()).is_err());
    }
}
