//! Recurrent networks.

use sardonyx_ops::DType;
use sardonyx_ops::ir::attributes::Attribute;

use crate::driver::{Generator, onnx};
use crate::node::{Draw, Node};

pub const GENERATORS: &[Generator] =
    &[onnx("GRU", recurrent), onnx("LSTM", recurrent), onnx("RNN", recurrent)];

fn recurrent(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F16, DType::F64]);
    let (gates, functions) = match node.name {
        "LSTM" => (4, 3),
        "GRU" => (3, 2),
        _ => (1, 1),
    };
    let (length, batch) = (draw.extent().min(9), draw.between(1, 4) as usize);
    let (input, hidden) = (draw.extent().min(33), draw.extent().min(33));
    let direction = draw.pick(&["forward", "reverse", "bidirectional"]);
    let ways = if direction == "bidirectional" { 2 } else { 1 };
    let layout = draw.flag();
    let node = node.text("direction", direction).int("hidden_size", hidden as i64).flag("layout", layout);
    let node = if draw.one_in(4) { node.float("clip", 1.5) } else { node };
    let node = match draw.one_in(4) {
        true => {
            // Bounded ones: what grows from step to step is compared with nothing but its own rounding.
            let names = ["Sigmoid", "Tanh", "HardSigmoid", "Softsign", "ScaledTanh"];
            let all = (0..functions * ways).map(|_| draw.pick(&names).to_owned()).collect();
            node.attribute("activations", Attribute::Strs(all))
        }
        false => node,
    };
    let node = match node.name {
        "GRU" if draw.flag() => node.flag("linear_before_reset", true),
        "LSTM" if draw.one_in(4) => node.flag("input_forget", true),
        _ => node,
    };
    let lstm = node.name == "LSTM";
    let state = if layout { [batch, ways, hidden] } else { [ways, batch, hidden] };
    let x = draw.data(dtype, &if layout { [batch, length, input] } else { [length, batch, input] });
    let w = draw.floats_within(dtype, &[ways, gates * hidden, input], -0.5, 0.5);
    let r = draw.floats_within(dtype, &[ways, gates * hidden, hidden], -0.5, 0.5);
    let bias = draw.flag().then(|| draw.data(dtype, &[ways, 2 * gates * hidden]));
    let lengths = draw.one_in(3).then(|| draw.numbers(DType::I32, &[batch], 0, length as i64));
    let first = draw.flag().then(|| draw.data(dtype, &state));
    let cell = (lstm && draw.flag()).then(|| draw.data(dtype, &state));
    let peepholes = (lstm && draw.one_in(3)).then(|| draw.data(dtype, &[ways, 3 * hidden]));
    let node = node.input(draw, x).setting(draw, w).setting(draw, r);
    let node = node.optional(draw, bias).optional(draw, lengths).optional(draw, first);
    let node = if lstm { node.optional(draw, cell).optional(draw, peepholes) } else { node };
    let count = if lstm { 3 } else { 2 };
    // Errors add up from step to step.
    node.some_outputs(draw, count, 0).tolerance(5e-5, 2e-2)
}
