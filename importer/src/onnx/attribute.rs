//! Attributes of nodes (`AttributeProto`).

use std::sync::Arc;

use bytes::Bytes;

use super::model::{GraphProto, SparseTensorProto, TypeProto};
use super::tensor::TensorProto;

/// A named constant of a node.
#[derive(Debug, Clone)]
pub struct AttributeProto {
    /// The name.
    pub name: Arc<str>,
    /// The value.
    pub value: AttributeValue,
}

/// The value of an attribute. Strings are bytes: the format does not promise UTF-8.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AttributeValue {
    /// One 32-bit float.
    Float(f32),
    /// One integer.
    Int(i64),
    /// One string.
    String(Bytes),
    /// One tensor.
    Tensor(Box<TensorProto>),
    /// One subgraph.
    Graph(Box<GraphProto>),
    /// One sparse tensor.
    SparseTensor(Box<SparseTensorProto>),
    /// One type.
    TypeProto(Box<TypeProto>),
    /// A list of floats.
    Floats(Vec<f32>),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A list of strings.
    Strings(Vec<Bytes>),
    /// A list of tensors.
    Tensors(Vec<TensorProto>),
    /// A list of subgraphs.
    Graphs(Vec<GraphProto>),
    /// A list of sparse tensors.
    SparseTensors(Vec<SparseTensorProto>),
    /// A list of types.
    TypeProtos(Vec<TypeProto>),
    /// In a function's body only: the value of the calling node's attribute of this name.
    Reference {
        /// The calling node's attribute.
        name: Arc<str>,
        /// The kind it must have; `None` when the file does not say.
        kind: Option<AttributeKind>,
    },
}

/// The kind of an attribute (`AttributeProto.AttributeType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttributeKind {
    /// One 32-bit float.
    Float,
    /// One integer.
    Int,
    /// One string.
    String,
    /// One tensor.
    Tensor,
    /// One subgraph.
    Graph,
    /// A list of floats.
    Floats,
    /// A list of integers.
    Ints,
    /// A list of strings.
    Strings,
    /// A list of tensors.
    Tensors,
    /// A list of subgraphs.
    Graphs,
    /// One sparse tensor.
    SparseTensor,
    /// A list of sparse tensors.
    SparseTensors,
    /// One type.
    TypeProto,
    /// A list of types.
    TypeProtos,
}

/// `(kind, number, name)`, in the order of the numbers, which start at 1.
const KINDS: [(AttributeKind, i64, &str); 14] = [
    (AttributeKind::Float, 1, "float"),
    (AttributeKind::Int, 2, "int"),
    (AttributeKind::String, 3, "string"),
    (AttributeKind::Tensor, 4, "tensor"),
    (AttributeKind::Graph, 5, "graph"),
    (AttributeKind::Floats, 6, "floats"),
    (AttributeKind::Ints, 7, "ints"),
    (AttributeKind::Strings, 8, "strings"),
    (AttributeKind::Tensors, 9, "tensors"),
    (AttributeKind::Graphs, 10, "graphs"),
    (AttributeKind::SparseTensor, 11, "sparse_tensor"),
    (AttributeKind::SparseTensors, 12, "sparse_tensors"),
    (AttributeKind::TypeProto, 13, "type_proto"),
    (AttributeKind::TypeProtos, 14, "type_protos"),
];

impl AttributeKind {
    /// The kind with this number in `AttributeProto.AttributeType`.
    pub fn from_onnx(number: i64) -> Option<AttributeKind> {
        KINDS.iter().find(|row| row.1 == number).map(|row| row.0)
    }

    /// The number in `AttributeProto.AttributeType`.
    pub fn number(self) -> i64 {
        KINDS.iter().find(|row| row.0 == self).map_or(0, |row| row.1)
    }

    /// The name, as ONNX spells it in lower case.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|row| row.0 == self).map_or("", |row| row.2)
    }
}

impl AttributeValue {
    /// The kind of the value; of a reference, the kind it declares.
    pub fn kind(&self) -> Option<AttributeKind> {
        Some(match self {
            AttributeValue::Float(_) => AttributeKind::Float,
            AttributeValue::Int(_) => AttributeKind::Int,
            AttributeValue::String(_) => AttributeKind::String,
            AttributeValue::Tensor(_) => AttributeKind::Tensor,
            AttributeValue::Graph(_) => AttributeKind::Graph,
            AttributeValue::SparseTensor(_) => AttributeKind::SparseTensor,
            AttributeValue::TypeProto(_) => AttributeKind::TypeProto,
            AttributeValue::Floats(_) => AttributeKind::Floats,
            AttributeValue::Ints(_) => AttributeKind::Ints,
            AttributeValue::Strings(_) => AttributeKind::Strings,
            AttributeValue::Tensors(_) => AttributeKind::Tensors,
            AttributeValue::Graphs(_) => AttributeKind::Graphs,
            AttributeValue::SparseTensors(_) => AttributeKind::SparseTensors,
            AttributeValue::TypeProtos(_) => AttributeKind::TypeProtos,
            AttributeValue::Reference { kind, .. } => return *kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::testing::{Model, bytes, error, fixed32, int, node, read};

    /// A model with one attribute `a` of these fields.
    fn with(fields: &[Vec<u8>]) -> Vec<u8> {
        let attribute = [bytes(1, b"a"), fields.concat()].concat();
        Model::new(&["x"], vec![node("Op", &["x"], &["y"], &[attribute])], &["y"]).encode()
    }

    #[test]
    fn the_kind_is_declared_or_plain_to_see() {
        let value =
            |fields: &[Vec<u8>]| read(with(fields)).unwrap().graph.nodes[0].attribute("a").unwrap().clone();
        assert!(matches!(value(&[int(20, 2)]), AttributeValue::Int(0)));
        assert!(matches!(value(&[int(20, 7)]), AttributeValue::Ints(list) if list.is_empty()));
        assert!(matches!(value(&[int(20, 2), int(3, 4), bytes(4, b"")]), AttributeValue::Int(4)));
        assert!(matches!(value(&[int(3, 0)]), AttributeValue::Int(0)));
        assert!(matches!(value(&[int(3, 4), bytes(4, b"")]), AttributeValue::Int(4)));
        assert!(matches!(value(&[fixed32(2, 1f32.to_bits())]), AttributeValue::Float(1.0)));
        assert!(matches!(value(&[int(8, u64::MAX)]), AttributeValue::Ints(list) if list == [-1]));
    }

    #[test]
    fn other_kinds_are_refused() {
        for fields in [
            &[int(20, 2), fixed32(2, 1f32.to_bits())][..],
            &[int(20, 2), int(3, 1), int(8, 1)],
            &[int(20, 15), int(3, 1)],
            &[int(20, 4)],
            &[int(3, 1), int(8, 1)],
            &[int(3, 0), bytes(4, b"")],
            &[],
            &[bytes(21, b"b"), int(3, 1), int(20, 2)],
            &[bytes(1, b""), int(3, 1)],
        ] {
            let error = error(with(fields));
            assert_eq!((error.code(), error.node()), ("SDX-0207", Some("y")), "{fields:?}");
        }
    }

    #[test]
    fn kinds_stand_in_order() {
        for (i, row) in KINDS.iter().enumerate() {
            assert_eq!(row.1, i as i64 + 1);
            assert_eq!(AttributeKind::from_onnx(row.1), Some(row.0));
            assert_eq!(row.0.name(), row.2);
        }
        assert_eq!(AttributeKind::from_onnx(0), None);
        assert_eq!(AttributeKind::from_onnx(15), None);
    }
}
