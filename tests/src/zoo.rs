//! The model zoo of the shared folder: its inputs, made again from their descriptions, and what right answers are.

use std::path::{Path, PathBuf};

use sardonyx_ops::Tensor;
use serde_json::Value;

/// One model of `zoo.json`.
pub struct ZooModel {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    entry: Value,
    folder: PathBuf,
}

/// What `zoo.json` says about one output of one case.
#[derive(Debug)]
pub struct Statistics {
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Mean, standard deviation, smallest and largest element.
    pub moments: [f64; 4],
}

/// The models with trained weights: files that run as they are.
pub fn real(shared: &Path) -> Vec<ZooModel> {
    let folder = shared.join("models");
    let zoo: Value = serde_json::from_slice(&std::fs::read(folder.join("zoo.json")).unwrap()).unwrap();
    let models = zoo["models"].as_array().unwrap().iter();
    models
        .filter(|entry| entry["file"].as_str().is_some_and(|file| file.starts_with("real/")))
        .map(|entry| ZooModel {
            name: entry["name"].as_str().unwrap().to_owned(),
            file: folder.join(entry["file"].as_str().unwrap()),
            entry: entry.clone(),
            folder: folder.clone(),
        })
        .collect()
}

impl ZooModel {
    /// The number of test cases.
    pub fn cases(&self) -> usize {
        self.entry["cases"].as_array().unwrap().len()
    }

    /// What the model should say about case 0, if the zoo knows.
    pub fn expect(&self) -> &Value {
        &self.entry["expect"]
    }

    /// The inputs of a case by name.
    pub fn inputs(&self, case: usize) -> Vec<(String, Tensor)> {
        let inputs = self.entry["cases"][case]["inputs"].as_object().unwrap();
        inputs.iter().map(|(name, spec)| (name.clone(), self.make(spec))).collect()
    }

    /// What is known about the outputs of a case.
    pub fn reference(&self, case: usize) -> Vec<Statistics> {
        let outputs = self.entry["reference"][case].as_array().unwrap().iter();
        outputs
            .map(|output| Statistics {
                shape: dims(&output["shape"]),
                moments: ["mean", "std", "min", "max"].map(|key| output[key].as_f64().unwrap()),
            })
            .collect()
    }

    fn make(&self, spec: &Value) -> Tensor {
        let shape = dims(&spec["shape"]);
        let len: usize = shape.iter().product();
        let number = |key: &str, default: f64| spec[key].as_f64().unwrap_or(default);
        let file = || std::fs::read(self.folder.join(spec["file"].as_str().unwrap())).unwrap();
        let seed = spec["seed"].as_str().unwrap_or_default();
        let values: Vec<f64> = match spec["dist"].as_str().unwrap() {
            "normal" => normal(seed, len, number("std", 1.0) as f32)
                .into_iter()
                .map(|x| f64::from(x + number("mean", 0.0) as f32))
                .collect(),
            "uniform" => {
                let (low, high) = (number("low", 0.0) as f32, number("high", 1.0) as f32);
                let unit = words(seed).take(len).map(|w| (w >> 40) as f32 * (-24f32).exp2());
                unit.map(|u| f64::from(low + u * (high - low))).collect()
            }
            "int" => {
                let (low, high) = (number("low", 0.0) as i64, number("high", 1.0) as i64);
                words(seed).take(len).map(|w| ((w % (high - low) as u64) as i64 + low) as f64).collect()
            }
            "const" => vec![number("value", 0.0); len],
            "range" => {
                let last = *shape.last().unwrap();
                (0..len).map(|i| (i % last) as f64 + number("start", 0.0)).collect()
            }
            "image" => image(&file(), spec),
            "audio" => {
                let raw = &file()[44 + 2 * number("offset", 0.0) as usize..];
                let samples = raw.chunks_exact(2).take(len).map(|b| i16::from_le_bytes([b[0], b[1]]));
                samples.map(|s| f64::from(f32::from(s) / 32768.0)).collect()
            }
            "bytes" => {
                let mut all: Vec<f64> = file().into_iter().take(len).map(f64::from).collect();
                all.resize(len, number("pad", 0.0));
                all
            }
            other => panic!("unknown distribution {other}"),
        };
        match spec["dtype"].as_str().unwrap() {
            "float32" => Tensor::from_vec(&shape, values.iter().map(|&x| x as f32).collect()),
            "int64" => Tensor::from_vec(&shape, values.iter().map(|&x| x as i64).collect()),
            "int32" => Tensor::from_vec(&shape, values.iter().map(|&x| x as i32).collect()),
            other => panic!("unknown type {other}"),
        }
        .unwrap()
    }
}

fn dims(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

/// 64-bit words: splitmix64 seeded by FNV-1a of the text.
fn words(text: &str) -> impl Iterator<Item = u64> {
    let seed = text.bytes().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    let mut random = crate::Random(seed);
    std::iter::repeat_with(move || random.bits())
}

/// Near-normal floats: the centred sum of a word's four 16-bit lanes.
fn normal(text: &str, len: usize, std: f32) -> Vec<f32> {
    let scale = (f64::from(std) / 37837.227) as f32;
    let lanes = |w: u64| (0..4).map(|i| (w >> (16 * i) & 0xFFFF) as i32).sum::<i32>() - 131_070;
    words(text).take(len).map(|w| lanes(w) as f32 * scale).collect()
}

/// An 8-bit binary PGM or PPM as `(pixel - mean) * scale`, channels first.
fn image(raw: &[u8], spec: &Value) -> Vec<f64> {
    let header: Vec<&[u8]> = raw.split(|b| b.is_ascii_whitespace()).take(3).collect();
    let number = |text: &[u8]| std::str::from_utf8(text).unwrap().parse::<usize>().unwrap();
    let channels = if header[0] == b"P6" { 3 } else { 1 };
    let (width, height) = (number(header[1]), number(header[2]));
    let pixels = &raw[raw.len() - width * height * channels..];
    let (mean, scale) = (spec["mean"].as_f64().unwrap() as f32, spec["scale"].as_f64().unwrap() as f32);
    let mut all = Vec::with_capacity(pixels.len());
    for channel in 0..channels {
        let source = if spec["bgr"].as_bool().unwrap_or(false) { channels - 1 - channel } else { channel };
        all.extend(
            pixels.iter().skip(source).step_by(channels).map(|&p| f64::from((f32::from(p) - mean) * scale)),
        );
    }
    all
}

/// Whether numbers have these statistics, to a thousandth of their spread.
pub fn has_statistics(numbers: &[f64], want: &Statistics) -> Result<(), String> {
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let std = (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
    let (low, high) = numbers.iter().fold((f64::MAX, f64::MIN), |(l, h), &x| (l.min(x), h.max(x)));
    let got = [mean, std, low, high];
    let tolerance = 1e-3 * want.moments[1] + 1e-6 * want.moments[3].abs().max(1.0);
    match got.iter().zip(&want.moments).all(|(g, w)| (g - w).abs() <= tolerance) {
        true => Ok(()),
        false => Err(format!("got {got:?}, want {:?}", want.moments)),
    }
}
