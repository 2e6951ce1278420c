//! A language model that decodes with a cache of keys and values says what it says to the whole text at once.
//!
//! `SARDONYX_ZOO` names a folder that holds `qwen2_25m_kv.onnx` with its weights, as `models/materialize.py` of the
//! shared files makes it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "test code"
)]

use std::path::PathBuf;

use sardonyx::{Device, Fallback, Model, Outputs, Session, Tensor};
use sardonyx_tests::{Random, difference, gpu_turn, gpus};

/// Tokens one by one.
const STEPS: usize = 32;

fn model() -> Option<Model> {
    let file = std::env::var_os("SARDONYX_ZOO").map(|folder| PathBuf::from(folder).join("qwen2_25m_kv.onnx"));
    let Some(file) = file.filter(|file| file.is_file()) else {
        eprintln!("*** SKIPPED: SARDONYX_ZOO names no folder with qwen2_25m_kv.onnx: no decoder ran. ***");
        return None;
    };
    Some(Model::open(file).unwrap())
}

/// Runs tokens after a past, which is empty at first. The names of the past are those of the outputs of the run before.
fn run(session: &Session, model: &Model, tokens: &[i64], past: Option<&Outputs>, start: usize) -> Outputs {
    let count = tokens.len();
    let mut inputs: Vec<(&str, Tensor)> = Vec::new();
    for spec in model.inputs() {
        let name: &str = &spec.name;
        let tensor = match name {
            "input_ids" => Tensor::from_slice(&[1, count], tokens).unwrap(),
            "attention_mask" => Tensor::from_slice(&[1, start + count], &vec![1i64; start + count]).unwrap(),
            "position_ids" => {
                let places: Vec<i64> = (start..start + count).map(|at| at as i64).collect();
                Tensor::from_slice(&[1, count], &places).unwrap()
            }
            _ => match past {
                Some(outputs) => outputs[name.replace("past_key_values", "present").as_str()].clone(),
                None => {
                    let shape = spec.shape.as_ref().unwrap();
                    let (heads, size) = (shape[1].known().unwrap(), shape[3].known().unwrap());
                    Tensor::zeroed(spec.dtype.unwrap(), &[1, heads, 0, size]).unwrap()
                }
            },
        };
        inputs.push((name, tensor));
    }
    let named: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (*name, tensor)).collect();
    session.run(named).unwrap()
}

fn check(model: &Model, device: &Device) {
    let builder = Session::builder().device(device.clone()).fallback(Fallback::Allow).threads(2);
    let session = builder.build(model).unwrap();
    let mut random = Random(7);
    let tokens: Vec<i64> = (0..=STEPS).map(|_| random.below(32_000) as i64).collect();
    let whole = run(&session, model, &tokens, None, 0);
    let words = whole["logits"].dims()[2];
    let all = whole["logits"].to_vec::<f32>().unwrap();
    let mut past = run(&session, model, &tokens[..1], None, 0);
    for at in 1..=STEPS {
        past = run(&session, model, &tokens[at..=at], Some(&past), at);
        let want = Tensor::from_slice(&[1, 1, words], &all[at * words..(at + 1) * words]).unwrap();
        let off = difference(&past["logits"], &want);
        // Sums over the past are taken in another order.
        assert!(off < 1e-4, "step {at} on {} is off by {off:e}", device.info().id);
    }
    let (on_device, operators) = session.placement().on_device();
    println!("{}: {STEPS} steps, {on_device} of {operators} operators on the device", device.info().id);
}

#[test]
fn steps_with_a_cache_equal_the_whole_text() {
    let Some(model) = model() else { return };
    let _turn = gpu_turn();
    check(&model, &Device::cpu());
    // One adapter is enough for what depends on sizes; the kernels have tests of their own.
    for gpu in gpus().iter().take(1) {
        check(&model, gpu);
    }
}
