//! Small ONNX models, written byte by byte, where a test or a bench wants one of its own.

use sardonyx::Model;

/// A length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = content.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(content);
    out
}

/// A node without attributes.
pub fn node(op: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    node_of(op, inputs, &[output], &[])
}

/// A node with small integers as attributes.
pub fn node_of(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, u8)]) -> Vec<u8> {
    let names = |number: u8, names: &[&str]| -> Vec<u8> {
        names.iter().flat_map(|name| field(number, name.as_bytes())).collect()
    };
    // The number in field 3, the type, 2 for an integer, in field 20.
    let attribute = |&(name, value): &(&str, u8)| {
        field(5, &[field(1, name.as_bytes()), vec![3 << 3, value, 0xA0, 1, 2]].concat())
    };
    let attributes = attributes.iter().flat_map(attribute).collect();
    [names(1, inputs), names(2, outputs), field(4, op.as_bytes()), attributes].concat()
}

/// A model of nodes over f32 tensors of the same dimensions, each below 128.
///
/// # Panics
/// When it is no sound model.
pub fn model(nodes: &[Vec<u8>], dims: &[u8], inputs: &[&str], outputs: &[&str]) -> Model {
    let shape: Vec<u8> = dims.iter().flat_map(|&dim| field(1, &[8, dim])).collect();
    let tensor = [vec![8, 1], field(2, &shape)].concat();
    let value = |name: &str| [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat();
    let values = |number: u8, names: &[&str]| -> Vec<u8> {
        names.iter().flat_map(|name| field(number, &value(name))).collect()
    };
    let graph: Vec<u8> = [
        nodes.iter().flat_map(|node| field(1, node)).collect(),
        field(2, b"g"),
        values(11, inputs),
        values(12, outputs),
    ]
    .concat();
    // IR version 8, operator set 17.
    Model::from_bytes([vec![8, 8], field(7, &graph), field(8, &[16, 17])].concat()).unwrap()
}
