//! Small models of the tests of schemes.

use sardonyx_ops::Tensor;

use super::Draft;
use crate::Model;
use crate::onnx::encode_tensor;
use crate::onnx::testing::{bytes, fixed32, int, node};

/// `ValueInfoProto` of a tensor of f32 with these sizes.
pub fn value(name: &str, dims: &[u64]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| bytes(1, &int(1, *dim))).collect();
    let tensor = bytes(1, &[int(1, 1), bytes(2, &dims)].concat());
    [bytes(1, name.as_bytes()), bytes(2, &tensor)].concat()
}

/// An initializer of f32.
pub fn weight(name: &str, dims: &[usize], values: impl Fn(usize) -> f32) -> Vec<u8> {
    let values: Vec<f32> = (0..dims.iter().product()).map(values).collect();
    encode_tensor(&Tensor::from_slice(dims, &values).unwrap(), name)
}

/// A float attribute.
pub fn float(name: &str, value: f32) -> Vec<u8> {
    [bytes(1, name.as_bytes()), fixed32(2, value.to_bits()), int(20, 1)].concat()
}

/// An integer attribute.
pub fn number(name: &str, value: u64) -> Vec<u8> {
    [bytes(1, name.as_bytes()), int(3, value), int(20, 2)].concat()
}

/// A model file.
pub fn file(
    opset: u64,
    nodes: &[Vec<u8>],
    weights: &[Vec<u8>],
    inputs: &[Vec<u8>],
    outputs: &[Vec<u8>],
) -> Vec<u8> {
    let list =
        |number: u32, all: &[Vec<u8>]| all.iter().flat_map(|one| bytes(number, one)).collect::<Vec<u8>>();
    let graph =
        [list(1, nodes), bytes(2, b"g"), list(5, weights), list(11, inputs), list(12, outputs)].concat();
    [int(1, 8), bytes(7, &graph), bytes(8, &int(2, opset))].concat()
}

/// `y = Gemm(Relu(x * w), v, b)` with x [2, 40], w [40, 3], v [4, 3] transposed.
pub fn products() -> Vec<u8> {
    let nodes = [
        node("MatMul", &["x", "w"], &["a"], &[]),
        node("Relu", &["a"], &["r"], &[]),
        node("Gemm", &["r", "v", "b"], &["y"], &[number("transB", 1)]),
    ];
    let weights = [
        weight("w", &[40, 3], |i| ((i * 7) % 23) as f32 / 11.0 - 1.0),
        weight("v", &[4, 3], |i| i as f32 - 5.5),
        weight("b", &[4], |i| i as f32),
    ];
    file(17, &nodes, &weights, &[value("x", &[2, 40])], &[value("y", &[2, 4])])
}

/// Writes a draft and reads it as the engine does.
pub fn written(draft: &Draft) -> Model {
    Model::from_bytes(draft.encode("").unwrap().model.concat()).unwrap()
}

/// The operators of a draft, in order.
pub fn ops(draft: &Draft) -> Vec<String> {
    draft.nodes().iter().map(|node| node.op_type.to_string()).collect()
}
