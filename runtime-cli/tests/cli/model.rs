//! Small ONNX models, written byte by byte.

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn int(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn bytes(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// A dimension: a number, or a name.
pub enum Dim {
    N(u64),
    Name(&'static str),
}

/// `ValueInfoProto` of a float tensor.
fn value(name: &str, dims: &[Dim]) -> Vec<u8> {
    let dims: Vec<u8> = dims
        .iter()
        .flat_map(|dim| match dim {
            Dim::N(n) => bytes(1, &int(1, *n)),
            Dim::Name(name) => bytes(1, &bytes(2, name.as_bytes())),
        })
        .collect();
    let tensor = [int(1, 1), bytes(2, &dims)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

/// `NodeProto`.
fn node(op: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| bytes(1, name.as_bytes())).collect();
    [inputs, bytes(2, output.as_bytes()), bytes(3, format!("the {op}").as_bytes()), bytes(4, op.as_bytes())]
        .concat()
}

/// A model of one node; all inputs and the output have the same dimensions.
pub fn model(op: &str, inputs: &[&str], dims: &[Dim]) -> Vec<u8> {
    let values: Vec<u8> = inputs.iter().flat_map(|name| bytes(11, &value(name, dims))).collect();
    let graph =
        [bytes(1, &node(op, inputs, "y")), bytes(2, b"g"), values, bytes(12, &value("y", dims))].concat();
    [int(1, 8), bytes(7, &graph), bytes(8, &int(2, 17))].concat()
}

/// A model of several nodes `(operator, inputs, output)` over tensors of one size, from `x` to `y`.
pub fn chain(nodes: &[(&str, &[&str], &str)], dims: &[Dim]) -> Vec<u8> {
    let nodes: Vec<u8> =
        nodes.iter().flat_map(|(op, inputs, output)| bytes(1, &node(op, inputs, output))).collect();
    let graph = [nodes, bytes(2, b"g"), bytes(11, &value("x", dims)), bytes(12, &value("y", dims))].concat();
    [int(1, 8), bytes(7, &graph), bytes(8, &int(2, 17))].concat()
}

/// `y = Relu(x)` over `[batch, 3]`.
pub fn relu() -> Vec<u8> {
    model("Relu", &["x"], &[Dim::Name("batch"), Dim::N(3)])
}

/// `y = a + b` over `[2]`.
pub fn add() -> Vec<u8> {
    model("Add", &["a", "b"], &[Dim::N(2)])
}

/// `TensorProto` of floats.
pub fn tensor(dims: &[u64], values: &[f32]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&dim| int(1, dim)).collect();
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [dims, int(2, 1), bytes(9, &raw)].concat()
}

/// `y = Relu(x * w)` with x [2, 32] and a constant w [32, 3].
pub fn product() -> Vec<u8> {
    let values: Vec<f32> = (0..96).map(|i| ((i * 37) % 64) as f32 / 32.0 - 1.0).collect();
    let weight = [tensor(&[32, 3], &values), bytes(8, b"w")].concat();
    let nodes = [node("MatMul", &["x", "w"], "a"), node("Relu", &["a"], "y")];
    let graph = [
        bytes(1, &nodes[0]),
        bytes(1, &nodes[1]),
        bytes(2, b"g"),
        bytes(5, &weight),
        bytes(11, &value("x", &[Dim::N(2), Dim::N(32)])),
        bytes(12, &value("y", &[Dim::N(2), Dim::N(3)])),
    ];
    [int(1, 8), bytes(7, &graph.concat()), bytes(8, &int(2, 17))].concat()
}
