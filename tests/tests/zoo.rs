//! Real models with trained weights give the right answers on every device.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::time::Instant;

use sardonyx::{Device, Fallback, Model, Precision, Session, Tensor};
use sardonyx_tests::zoo::{self, ZooModel, has_statistics};
use sardonyx_tests::{gpu_turn, gpus, numbers, shared};

/// Models that use recurrent operators or `If`, which come with the coverage of all operators.
const WAITING: &[&str] = &["dtln_1", "silero_vad", "silero_vad_16k_op15"];

fn run(entry: &ZooModel, model: &Model, device: &Device, precision: Precision) {
    for case in 0..entry.cases() {
        let inputs = entry.inputs(case);
        let mut builder = Session::builder()
            .device(device.clone())
            .fallback(Fallback::Allow)
            .precision(precision)
            .threads(2);
        for (name, tensor) in &inputs {
            builder = builder.shape(name, tensor.dims());
        }
        let label = format!("{} case {case} on {} {precision:?}", entry.name, device.info().id);
        let session = builder.build(model).unwrap_or_else(|error| panic!("{label}: {error}"));
        let named: Vec<(&str, &Tensor)> =
            inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let start = Instant::now();
        let outputs = session.run(named).unwrap_or_else(|error| panic!("{label}: {error}"));
        let took = start.elapsed();
        for ((name, tensor), want) in outputs.iter().zip(entry.reference(case)) {
            assert_eq!(tensor.dims(), want.shape, "{label}: {name}");
            // f16 has eleven bits: only the answer is checked below.
            if precision != Precision::F16 {
                has_statistics(&numbers(tensor), &want)
                    .unwrap_or_else(|off| panic!("{label}: {name}: {off}"));
            }
        }
        let expect = entry.expect();
        if case == expect["case"].as_u64().unwrap_or(0) as usize {
            if let Some(argmax) = expect["argmax"].as_u64() {
                let scores = numbers(&outputs[expect["output"].as_u64().unwrap_or(0) as usize]);
                let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
                assert_eq!(best as u64, argmax, "{label}");
            }
            if let Some(score) = expect["best_score"].as_f64()
                && outputs.len() == 2
            {
                let scores = numbers(&outputs[0]);
                let best = scores.iter().skip(1).step_by(2).fold(0.0, |m: f64, &s| m.max(s));
                assert!((best - score).abs() < 5e-3, "{label}: best score {best}, want {score}");
            }
        }
        let (on_device, all) = session.placement().on_device();
        println!("{label}: {on_device} of {all} operators on the device, run {took:.1?}");
    }
}

#[test]
fn real_models_answer_right_on_every_device() {
    let Some(shared) = shared() else { return };
    let _turn = gpu_turn();
    let mut ran = 0;
    for entry in zoo::real(&shared) {
        let model = match Model::open(&entry.file) {
            Err(error) if WAITING.contains(&entry.name.as_str()) => {
                println!("*** {} WAITS for its operators: {error}", entry.name);
                continue;
            }
            other => other.unwrap_or_else(|error| panic!("{}: {error}", entry.name)),
        };
        run(&entry, &model, &Device::cpu(), Precision::Model);
        for gpu in gpus() {
            run(&entry, &model, gpu, Precision::Model);
            if gpu.capabilities().unwrap().f16 {
                run(&entry, &model, gpu, Precision::F16);
            }
        }
        ran += 1;
    }
    assert!(ran >= 6, "only {ran} models ran");
}
