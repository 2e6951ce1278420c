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

/// A node with a name of its own and, where wanted, the attribute `axis`.
fn named(op: &str, inputs: &[&str], output: &str, name: &str, axis: Option<u64>) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| bytes(1, name.as_bytes())).collect();
    let axis = axis.map(|axis| bytes(5, &[bytes(1, b"axis"), int(3, axis), int(20, 2)].concat()));
    let mut node = [inputs, bytes(2, output.as_bytes()), bytes(3, name.as_bytes())].concat();
    node.extend(bytes(4, op.as_bytes()));
    node.extend(axis.unwrap_or_default());
    node
}

/// A model of `blocks` times six nodes, `block_N/OP`, over [16, 16]. Block `wide` has nine: its `Softmax`, and no other, is
/// over lines of 32.
pub fn deep(blocks: usize, wide: usize) -> Vec<u8> {
    let mut nodes = Vec::new();
    let mut last = "x".to_owned();
    for block in 0..blocks {
        let mut add = |op: &str, inputs: &[&str], axis: Option<u64>| {
            let count = nodes.len();
            let output = format!("v{count}");
            nodes.push(named(op, inputs, &output, &format!("block_{block}/{op}"), axis));
            output
        };
        let product = add("MatMul", &[&last, "x"], None);
        let softmax = if block == wide {
            let both = add("Concat", &[&product, &last], Some(1));
            let softmax = add("Softmax", &[&both], None);
            let turned = add("Transpose", &[&softmax], None);
            add("MatMul", &[&softmax, &turned], None)
        } else {
            add("Softmax", &[&product], None)
        };
        let sum = add("Add", &[&softmax, &last], None);
        let tanh = add("Tanh", &[&sum], None);
        let lowest = add("ReduceMin", &[&tanh], None);
        last = add("Sub", &[&tanh, &lowest], None);
    }
    nodes.push(named("Identity", &[&last], "y", "end", None));
    let nodes: Vec<u8> = nodes.iter().flat_map(|node| bytes(1, node)).collect();
    let size = [Dim::N(16), Dim::N(16)];
    let graph =
        [nodes, bytes(2, b"g"), bytes(11, &value("x", &size)), bytes(12, &value("y", &size))].concat();
    [int(1, 8), bytes(7, &graph), bytes(8, &int(2, 17))].concat()
}
