//! Just enough of a protobuf writer to make models by hand.

use sardonyx_ops::Tensor;

use super::encode::{length_field, varint_field};
use super::{LoadLimits, ModelProto, encode_tensor};
use crate::error::ImportError;

/// An integer field.
pub fn int(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint_field(&mut out, number, value);
    out
}

/// A bytes, string or message field.
pub fn bytes(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    length_field(&mut out, number, content);
    out
}

/// A 4-byte field.
pub fn fixed32(number: u32, bits: u32) -> Vec<u8> {
    let mut out = int(number, 0);
    out.pop();
    // The wire type is in the first byte of the tag.
    out[0] |= 5;
    out.extend(bits.to_le_bytes());
    out
}

/// A packed list of integers.
pub fn packed(number: u32, values: &[u64]) -> Vec<u8> {
    let run: Vec<u8> = values.iter().flat_map(|value| int(1, *value).split_off(1)).collect();
    bytes(number, &run)
}

/// A node without a name.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    call("", op, inputs, outputs, attributes)
}

/// A node of some domain.
pub fn call(domain: &str, op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    inputs.iter().for_each(|name| length_field(&mut out, 1, name.as_bytes()));
    outputs.iter().for_each(|name| length_field(&mut out, 2, name.as_bytes()));
    length_field(&mut out, 4, op.as_bytes());
    attributes.iter().for_each(|attribute| length_field(&mut out, 5, attribute));
    if !domain.is_empty() {
        length_field(&mut out, 7, domain.as_bytes());
    }
    out
}

/// An attribute that holds a graph.
pub fn subgraph_attribute(name: &str, graph: &Graph) -> Vec<u8> {
    [bytes(1, name.as_bytes()), bytes(6, &graph.encode()), int(20, 5)].concat()
}

/// An `f32[2, N]` tensor type.
pub fn tensor_type() -> Vec<u8> {
    let shape = [bytes(1, &int(1, 2)), bytes(1, &bytes(2, b"N"))].concat();
    bytes(1, &[int(1, 1), bytes(2, &shape)].concat())
}

fn value_info(name: &str) -> Vec<u8> {
    [bytes(1, name.as_bytes()), bytes(2, &tensor_type())].concat()
}

/// A graph to encode; initializers are `f32[2, 1]`.
pub struct Graph {
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub initializers: Vec<String>,
    pub nodes: Vec<Vec<u8>>,
}

impl Graph {
    pub fn new(inputs: &[&str], nodes: Vec<Vec<u8>>, outputs: &[&str]) -> Graph {
        let strings = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        Graph { inputs: strings(inputs), outputs: strings(outputs), initializers: vec![], nodes }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.nodes.iter().for_each(|node| length_field(&mut out, 1, node));
        length_field(&mut out, 2, b"graph");
        let weight = Tensor::from_slice(&[2, 1], &[0.5f32, -1.0]).unwrap();
        self.initializers.iter().for_each(|name| length_field(&mut out, 5, &encode_tensor(&weight, name)));
        self.inputs.iter().for_each(|name| length_field(&mut out, 11, &value_info(name)));
        self.outputs.iter().for_each(|name| length_field(&mut out, 12, &value_info(name)));
        out
    }
}

/// A model to encode.
pub struct Model {
    pub ir_version: u64,
    pub imports: Vec<(String, u64)>,
    pub graph: Graph,
    pub functions: Vec<Vec<u8>>,
}

impl Model {
    pub fn new(inputs: &[&str], nodes: Vec<Vec<u8>>, outputs: &[&str]) -> Model {
        let graph = Graph::new(inputs, nodes, outputs);
        Model { ir_version: 8, imports: vec![(String::new(), 17)], graph, functions: vec![] }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.ir_version != 0 {
            varint_field(&mut out, 1, self.ir_version);
        }
        length_field(&mut out, 2, b"test");
        length_field(&mut out, 7, &self.graph.encode());
        for (domain, version) in &self.imports {
            length_field(&mut out, 8, &[bytes(1, domain.as_bytes()), int(2, *version)].concat());
        }
        self.functions.iter().for_each(|function| length_field(&mut out, 25, function));
        out
    }
}

/// Reads a model with the default limits.
pub fn read(file: Vec<u8>) -> Result<ModelProto, ImportError> {
    super::read(file.into(), &LoadLimits::default())
}

/// The error that a model gives.
pub fn error(file: Vec<u8>) -> ImportError {
    read(file).unwrap_err()
}

/// The code of the error that a model gives.
pub fn code(file: Vec<u8>) -> &'static str {
    error(file).code()
}
