//! Results that take the memory of an operand: less memory, and the same bytes as without.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "test code")]

use sardonyx::{Capabilities, Device, Model, Precision, Select, Session, Tensor};
use sardonyx_tests::onnx::{model, node};
use sardonyx_tests::{Random, gpu_turn, gpus};

const BLOCKS: usize = 6;

/// `x + sin(x w)` and `x + softmax(x w)`, a few times over: each sum is an addition to a residual that nobody reads afterwards.
fn residual(size: usize) -> Model {
    let mut nodes = vec![node("Relu", &["x"], "r0")];
    for block in 0..BLOCKS {
        let [x, a, b, y] =
            [format!("r{block}"), format!("a{block}"), format!("b{block}"), format!("r{}", block + 1)];
        let between = ["Sin", "Softmax"][block % 2];
        nodes.extend([node("MatMul", &[&x, "w"], &a), node(between, &[&a], &b), node("Add", &[&b, &x], &y)]);
    }
    let last = format!("r{BLOCKS}");
    nodes.push(node("Tanh", &[&last], "y"));
    let dim = u8::try_from(size).unwrap();
    model(&nodes, &[dim, dim], &["x", "w"], &["y"])
}

fn outputs(
    device: &Device,
    model: &Model,
    precision: Precision,
    taps: bool,
    inputs: [&Tensor; 2],
) -> (Vec<u8>, u64) {
    let builder = Session::builder().device(device.clone()).precision(precision);
    let builder = if taps { builder.taps() } else { builder };
    let session = builder.build(model).unwrap();
    let outputs = session.run([("x", inputs[0]), ("w", inputs[1])]).unwrap();
    (outputs["y"].bytes().to_vec(), session.memory().device_activations)
}

fn announce() {
    if gpus().is_empty() {
        eprintln!("*** NO GPU ADAPTER: nothing is replaced in this test. ***");
    }
}

#[test]
fn residuals_are_added_in_place() {
    announce();
    for device in gpus() {
        let _turn = gpu_turn();
        for size in [1, 3, 17, 65, 127] {
            let model = residual(size);
            let mut random = Random(size as u64);
            let (x, w) = (random.tensor(&[size, size]), random.tensor(&[size, size]));
            for precision in [Precision::Model, Precision::F16] {
                // Where all results are wanted, nothing is replaced.
                let (want, _) = outputs(device, &model, precision, true, [&x, &w]);
                let (got, bytes) = outputs(device, &model, precision, false, [&x, &w]);
                assert_eq!(got, want, "{} {size} {precision:?}", device.info().id);
                // The inputs, and what is added to.
                let each = ((size * size * 4 + 31) as u64).next_multiple_of(256);
                assert!(bytes <= 3 * each, "{} {size}: {bytes} bytes, {each} for each", device.info().id);
            }
        }
    }
}

#[test]
fn in_pieces_too() {
    announce();
    for gpu in gpus() {
        let _turn = gpu_turn();
        // 32 x 32 floats, and the group behind them, are bound in two pieces.
        let caps = Capabilities { binding_bytes: 4096, ..gpu.capabilities().unwrap().clone() };
        let device = Device::open_narrowed(Select::Name(&gpu.info().id), &caps).unwrap();
        let (size, model) = (32, residual(32));
        let mut random = Random(1);
        let (x, w) = (random.tensor(&[size, size]), random.tensor(&[size, size]));
        let (want, _) = outputs(&device, &model, Precision::Model, true, [&x, &w]);
        let (got, bytes) = outputs(&device, &model, Precision::Model, false, [&x, &w]);
        assert_eq!(got, want, "{}", gpu.info().id);
        assert!(bytes <= 3 * 4352, "{}: {bytes} bytes", gpu.info().id);
    }
}
