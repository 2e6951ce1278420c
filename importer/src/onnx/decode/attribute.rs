//! Attributes: many fields in the file, one value in the model.

use std::sync::Arc;

use bytes::Bytes;

use super::{Decoder, Message, Result, read_type};
use crate::error::{ImportError, InvalidFault, ParseFault, Place};
use crate::onnx::attribute::{AttributeKind, AttributeProto, AttributeValue};
use crate::onnx::model::{GraphProto, SparseTensorProto, TypeProto};
use crate::onnx::tensor::{RawTensor, TensorProto};
use crate::onnx::wire::Field;

/// The fields of an `AttributeProto`, before its kind is settled.
#[derive(Default)]
pub(super) struct RawAttribute {
    name: Arc<str>,
    reference: Arc<str>,
    /// `AttributeProto.type`; 0 when not given.
    kind: i64,
    float: Option<f32>,
    int: Option<i64>,
    string: Option<Bytes>,
    tensor: Option<AttributeValue>,
    graph: Option<AttributeValue>,
    sparse_tensor: Option<AttributeValue>,
    type_proto: Option<AttributeValue>,
    floats: Vec<f32>,
    ints: Vec<i64>,
    strings: Vec<Bytes>,
    tensors: Vec<TensorProto>,
    graphs: Vec<GraphProto>,
    sparse_tensors: Vec<SparseTensorProto>,
    type_protos: Vec<TypeProto>,
}

fn set_once<T>(slot: &mut Option<T>, value: T, field: &Field<'_>) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(field.error(ParseFault::Repeated)),
    }
}

impl Message for RawAttribute {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        match field.number {
            1 => self.name = decoder.name(field)?,
            2 => self.float = Some(field.float()?),
            3 => self.int = Some(field.int()?),
            4 => self.string = Some(field.bytes()?),
            5 => {
                decoder.charge(size_of::<TensorProto>())?;
                let tensor = decoder.message::<RawTensor>(field)?.finish(&field.inner()?)?;
                set_once(&mut self.tensor, AttributeValue::Tensor(Box::new(tensor)), field)?;
            }
            6 => {
                decoder.charge(size_of::<GraphProto>())?;
                let graph = decoder.subgraph(field)?;
                set_once(&mut self.graph, AttributeValue::Graph(Box::new(graph)), field)?;
            }
            7 => {
                for chunk in field.run_of_4()?.as_bytes().as_chunks().0 {
                    decoder.push(&mut self.floats, f32::from_le_bytes(*chunk))?;
                }
            }
            8 => field.each_int(|value| decoder.push(&mut self.ints, value.cast_signed()))?,
            9 => decoder.push(&mut self.strings, field.bytes()?)?,
            10 => {
                let tensor = decoder.message::<RawTensor>(field)?.finish(&field.inner()?)?;
                decoder.push(&mut self.tensors, tensor)?;
            }
            11 => {
                let graph = decoder.subgraph(field)?;
                decoder.push(&mut self.graphs, graph)?;
            }
            14 => {
                let ty = read_type(field, decoder)?;
                set_once(&mut self.type_proto, AttributeValue::TypeProto(Box::new(ty)), field)?;
            }
            15 => {
                let ty = read_type(field, decoder)?;
                decoder.push(&mut self.type_protos, ty)?;
            }
            20 => self.kind = field.int()?,
            21 => self.reference = decoder.name(field)?,
            22 => {
                decoder.charge(size_of::<SparseTensorProto>())?;
                let sparse = decoder.message(field)?;
                set_once(&mut self.sparse_tensor, AttributeValue::SparseTensor(Box::new(sparse)), field)?;
            }
            23 => {
                let sparse = decoder.message(field)?;
                decoder.push(&mut self.sparse_tensors, sparse)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl RawAttribute {
    /// Settles the kind. A missing `type` is legal in IR version 1, where the one field that is set tells;
    /// fields that hold their default say nothing, because some writers write them all.
    pub fn finish(self) -> Result<AttributeProto> {
        let fail =
            |detail: String| Err(ImportError::invalid(Place::model(), InvalidFault::Attribute, detail));
        let name = self.name.clone();
        if name.is_empty() {
            return fail("an attribute has no name".into());
        }
        let declared = match (self.kind, AttributeKind::from_onnx(self.kind)) {
            (0, _) => None,
            (_, Some(kind)) => Some(kind),
            (number, None) => return fail(format!("{name:?} has the unknown type number {number}")),
        };
        let mut filled = self.filled();
        let filled = (filled.next(), filled.next());
        if !self.reference.is_empty() {
            if filled.0.is_some() {
                return fail(format!("{name:?} has both a value and a reference"));
            }
            let value = AttributeValue::Reference { name: self.reference, kind: declared };
            return Ok(AttributeProto { name, value });
        }
        let kind = match (declared, filled) {
            (Some(kind), (None, _)) => kind,
            (Some(kind), (Some(only), None)) if kind == only => kind,
            (Some(kind), (Some(first), second)) => {
                let other = second.filter(|_| first == kind).unwrap_or(first);
                let (kind, other) = (kind.name(), other.name());
                return fail(format!("{name:?} says it is of type {kind} and holds another type, {other}"));
            }
            (None, (Some(only), None)) => only,
            (None, (Some(_), Some(_))) => return fail(format!("{name:?} has several values and no type")),
            (None, (None, _)) => match self.scalar_given() {
                Some(kind) => kind,
                None => return fail(format!("{name:?} has neither a value nor a type")),
            },
        };
        match self.take(kind) {
            Some(value) => Ok(AttributeProto { name, value }),
            None => fail(format!("{name:?} is of type {} and has no value", kind.name())),
        }
    }

    /// The kinds of the fields that hold more than their default.
    fn filled(&self) -> impl Iterator<Item = AttributeKind> + use<> {
        [
            (self.float.is_some_and(|value| value.to_bits() != 0), AttributeKind::Float),
            (self.int.is_some_and(|value| value != 0), AttributeKind::Int),
            (self.string.as_ref().is_some_and(|value| !value.is_empty()), AttributeKind::String),
            (self.tensor.is_some(), AttributeKind::Tensor),
            (self.graph.is_some(), AttributeKind::Graph),
            (self.sparse_tensor.is_some(), AttributeKind::SparseTensor),
            (self.type_proto.is_some(), AttributeKind::TypeProto),
            (!self.floats.is_empty(), AttributeKind::Floats),
            (!self.ints.is_empty(), AttributeKind::Ints),
            (!self.strings.is_empty(), AttributeKind::Strings),
            (!self.tensors.is_empty(), AttributeKind::Tensors),
            (!self.graphs.is_empty(), AttributeKind::Graphs),
            (!self.sparse_tensors.is_empty(), AttributeKind::SparseTensors),
            (!self.type_protos.is_empty(), AttributeKind::TypeProtos),
        ]
        .into_iter()
        .filter_map(|(filled, kind)| filled.then_some(kind))
    }

    /// The kind of the only scalar field that stands in the file, though it holds its default.
    fn scalar_given(&self) -> Option<AttributeKind> {
        match (self.float, self.int, &self.string) {
            (Some(_), None, None) => Some(AttributeKind::Float),
            (None, Some(_), None) => Some(AttributeKind::Int),
            (None, None, Some(_)) => Some(AttributeKind::String),
            _ => None,
        }
    }

    fn take(self, kind: AttributeKind) -> Option<AttributeValue> {
        Some(match kind {
            AttributeKind::Float => AttributeValue::Float(self.float.unwrap_or_default()),
            AttributeKind::Int => AttributeValue::Int(self.int.unwrap_or_default()),
            AttributeKind::String => AttributeValue::String(self.string.unwrap_or_default()),
            AttributeKind::Tensor => return self.tensor,
            AttributeKind::Graph => return self.graph,
            AttributeKind::SparseTensor => return self.sparse_tensor,
            AttributeKind::TypeProto => return self.type_proto,
            AttributeKind::Floats => AttributeValue::Floats(self.floats),
            AttributeKind::Ints => AttributeValue::Ints(self.ints),
            AttributeKind::Strings => AttributeValue::Strings(self.strings),
            AttributeKind::Tensors => AttributeValue::Tensors(self.tensors),
            AttributeKind::Graphs => AttributeValue::Graphs(self.graphs),
            AttributeKind::SparseTensors => AttributeValue::SparseTensors(self.sparse_tensors),
            AttributeKind::TypeProtos => AttributeValue::TypeProtos(self.type_protos),
        })
    }
}
