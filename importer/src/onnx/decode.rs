//! From protobuf fields to the structures of [`super::model`].
//!
//! Field numbers are those of `onnx.proto` (IR version 14). Fields that nothing reads (documentation strings,
//! quantization annotations, training and device configurations) are skipped unread.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::attribute::{AttributeKind, AttributeProto, AttributeValue};
use super::limits::LoadLimits;
use super::model::{
    Dim, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetId, SparseTensorProto, TensorType,
    TypeProto, ValueInfoProto,
};
use super::tensor::RawTensor;
use super::wire::{Field, Reader};
use crate::error::{Budget, ImportError, InvalidFault, ParseFault, Place};

type Result<T> = std::result::Result<T, ImportError>;

/// A message that takes its fields one at a time. Reading twice into one message merges, as protobuf has it.
pub(super) trait Message {
    /// Takes one field; unknown ones are ignored.
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()>;
}

/// What the decoding of one file shares: interned names, and what has been used of the limits.
pub(super) struct Decoder<'l> {
    limits: &'l LoadLimits,
    names: HashSet<Arc<str>>,
    depth: u32,
    subgraphs: u32,
    nodes: u64,
    structure_bytes: u64,
}

/// Decodes a whole file.
pub(super) fn model(bytes: &Bytes, limits: &LoadLimits) -> Result<ModelProto> {
    let mut model = ModelProto::default();
    Decoder::new(limits).read(&mut model, Reader::new(bytes, 0))?;
    Ok(model)
}

impl<'l> Decoder<'l> {
    pub fn new(limits: &'l LoadLimits) -> Decoder<'l> {
        Decoder { limits, names: HashSet::new(), depth: 0, subgraphs: 0, nodes: 0, structure_bytes: 0 }
    }

    /// Reads all fields of a message.
    pub fn read<M: Message>(&mut self, into: &mut M, mut reader: Reader<'_>) -> Result<()> {
        let allowed = self.limits.message_depth();
        if self.depth >= allowed {
            let asked = u64::from(self.depth).saturating_add(1);
            return Err(ImportError::budget(Place::model(), Budget::MessageDepth, asked, allowed.into()));
        }
        self.depth = self.depth.saturating_add(1);
        while let Some(field) = reader.next_field()? {
            into.field(&field, self)?;
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    /// Reads a nested message of its own.
    pub fn message<M: Message + Default>(&mut self, field: &Field<'_>) -> Result<M> {
        let mut message = M::default();
        self.read(&mut message, field.inner()?)?;
        Ok(message)
    }

    /// Accounts for memory before it is taken. Twice the size covers the spare room of growing vectors.
    pub fn charge(&mut self, bytes: usize) -> Result<()> {
        self.structure_bytes = self.structure_bytes.saturating_add((bytes as u64).saturating_mul(2));
        let allowed = self.limits.structure_bytes;
        if self.structure_bytes > allowed {
            let asked = self.structure_bytes;
            return Err(ImportError::budget(Place::model(), Budget::StructureBytes, asked, allowed));
        }
        Ok(())
    }

    /// Appends to a list, within the budget.
    pub fn push<T>(&mut self, list: &mut Vec<T>, item: T) -> Result<()> {
        self.charge(size_of::<T>())?;
        list.push(item);
        Ok(())
    }

    /// Appends a dimension, within the budget of ranks.
    pub fn push_dim<T>(&mut self, dims: &mut Vec<T>, dim: T) -> Result<()> {
        let asked = (dims.len() as u64).saturating_add(1);
        if asked > self.limits.rank {
            return Err(ImportError::budget(Place::model(), Budget::Rank, asked, self.limits.rank));
        }
        self.push(dims, dim)
    }

    /// A name: equal ones share their memory.
    pub fn name(&mut self, field: &Field<'_>) -> Result<Arc<str>> {
        let text = field.text()?;
        if let Some(name) = self.names.get(text) {
            return Ok(name.clone());
        }
        if text.len() as u64 > self.limits.name_bytes {
            let asked = text.len() as u64;
            return Err(ImportError::budget(
                Place::model(),
                Budget::NameBytes,
                asked,
                self.limits.name_bytes,
            ));
        }
        // Two counters before the text, and the entry in the table.
        self.charge(text.len().saturating_add(32))?;
        let name: Arc<str> = text.into();
        self.names.insert(name.clone());
        Ok(name)
    }

    /// Text for people, or a file's name: of any length, invalid UTF-8 replaced.
    pub fn text(&mut self, field: &Field<'_>) -> Result<Arc<str>> {
        let bytes = field.inner()?;
        self.charge(bytes.rest().len().saturating_add(32))?;
        Ok(String::from_utf8_lossy(bytes.rest()).into())
    }

    /// A domain: ONNX's own has two spellings.
    fn domain(&mut self, field: &Field<'_>) -> Result<Arc<str>> {
        let domain = self.name(field)?;
        Ok(if &*domain == "ai.onnx" { Arc::default() } else { domain })
    }

    fn node(&mut self, field: &Field<'_>) -> Result<NodeProto> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > self.limits.nodes {
            return Err(ImportError::budget(Place::model(), Budget::Nodes, self.nodes, self.limits.nodes));
        }
        self.message(field)
    }

    fn subgraph(&mut self, field: &Field<'_>) -> Result<GraphProto> {
        let allowed = self.limits.bounded_subgraph_depth();
        if self.subgraphs >= allowed {
            let asked = u64::from(self.subgraphs).saturating_add(1);
            return Err(ImportError::budget(Place::model(), Budget::SubgraphDepth, asked, allowed.into()));
        }
        self.subgraphs = self.subgraphs.saturating_add(1);
        let graph = self.message(field)?;
        self.subgraphs = self.subgraphs.saturating_sub(1);
        Ok(graph)
    }
}

impl Message for ModelProto {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        match field.number {
            1 => self.ir_version = field.int()?,
            2 => self.producer_name = decoder.text(field)?,
            3 => self.producer_version = decoder.text(field)?,
            4 => self.domain = decoder.text(field)?,
            5 => self.model_version = field.int()?,
            7 => {
                self.has_graph = true;
                decoder.read(&mut self.graph, field.inner()?)?;
            }
            8 => {
                let import = decoder.message(field)?;
                decoder.push(&mut self.opset_imports, import)?;
            }
            14 => {
                let Entry(key, value) = decoder.message(field)?;
                decoder.charge(64)?;
                self.metadata.insert(key, value);
            }
            25 => {
                let function = decoder.message(field)?;
                decoder.push(&mut self.functions, function)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Message for OperatorSetId {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        match field.number {
            1 => self.domain = decoder.domain(field)?,
            2 => self.version = field.int()?,
            _ => {}
        }
        Ok(())
    }
}

/// A key and its value (`StringStringEntryProto`).
#[derive(Default)]
pub(super) struct Entry(pub Arc<str>, pub Arc<str>);

impl Message for Entry {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        match field.number {
            1 => self.0 = decoder.text(field)?,
            2 => self.1 = decoder.text(field)?,
            _ => {}
        }
        Ok(())
    }
}

impl Message for GraphProto {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        match field.number {
            1 => {
                let node = decoder.node(field)?;
                decoder.push(&mut self.nodes, node)?;
            }
            2 => self.name = decoder.name(field)?,
            5 => {
                let raw: RawTensor = decoder.message(field)?;
                let tensor = raw.finish(&field.inner()?)?;
                decoder.push(&mut self.initializers, tensor)?;
            }
            11 => {
                let value = decoder.message(field)?;
                decoder.push(&mut self.inputs, value)?;
            }
            12 => {
                let value = decoder.message(field)?;
                decoder.push(&mut self.outputs, value)?;
            }
            13 => {
                let value = decoder.message(field)?;
                decoder.push(&mut self.value_info, value)?;
            }
            15 => {
                let sparse = decoder.message(field)?;
                decoder.push(&mut self.sparse_initializers, sparse)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Message for NodeProto {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        match field.number {
            1 => {
                let name = decoder.name(field)?;
                decoder.push(&mut self.inputs, name)?;
            }
            2 => {
                let name = decoder.name(field)?;
                decoder.push(&mut self.outputs, name)?;
            }
            3 => self.name = decoder.name(field)?,
            4 => self.op_type = decoder.name(field)?,
            5 => {
                let attribute = decoder
                    .message::<RawAttribute>(field)
                    .and_then(RawAttribute::finish)
                    .map_err(|error| error.within(|| self.place()))?;
                decoder.push(&mut self.attributes, attribute)?;
            }
            7 => self.domain = decoder.domain(field)?,
            8 => self.overload = decoder.name(field)?,
            _ => {}
        }
        Ok(())
    }
}

impl Message for FunctionProto {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        match field.number {
            1 => self.name = decoder.name(field)?,
            4 => {
                let name = decoder.name(field)?;
                decoder.push(&mut self.inputs, name)?;
            }
            5 => {
                let name = decoder.name(field)?;
                decoder.push(&mut self.outputs, name)?;
            }
            6 => {
                let name = decoder.name(field)?;
                decoder.push(&mut self.attributes, name)?;
            }
            7 => {
                let node = decoder.node(field)?;
                decoder.push(&mut self.nodes, node)?;
            }
            9 => {
                let import = decoder.message(field)?;
                decoder.push(&mut self.opset_imports, import)?;
            }
            10 => self.domain = decoder.domain(field)?,
            11 => {
                let attribute = decoder.message::<RawAttribute>(field)?.finish()?;
                decoder.push(&mut self.attribute_defaults, attribute)?;
            }
            13 => self.overload = decoder.name(field)?,
            _ => {}
        }
        Ok(())
    }
}

impl Message for SparseTensorProto {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        match field.number {
            1 => self.values = decoder.message::<RawTensor>(field)?.finish(&field.inner()?)?,
            2 => self.indices = decoder.message::<RawTensor>(field)?.finish(&field.inner()?)?,
            3 => field.each_int(|dim| decoder.push_dim(&mut self.dims, dim.cast_signed()))?,
            _ => {}
        }
        Ok(())
    }
}

impl Message for ValueInfoProto {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        match field.number {
            1 => self.name = decoder.name(field)?,
            2 if self.ty.is_some() => return Err(field.error(ParseFault::Repeated)),
            2 => {
                self.ty = Some(read_type(field, decoder).map_err(|e| e.within(|| Place::value(&self.name)))?)
            }
            _ => {}
        }
        Ok(())
    }
}

/// The fields of a `TypeProto`, of which at most one holds.
#[derive(Default)]
struct RawType(Option<TypeProto>);

fn read_type(field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<TypeProto> {
    let RawType(ty) = decoder.message(field)?;
    Ok(ty.unwrap_or(TypeProto::Unspecified))
}

impl Message for RawType {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        if !matches!(field.number, 1 | 4 | 5 | 7 | 8 | 9) {
            return Ok(());
        }
        if self.0.is_some() {
            return Err(field.error(ParseFault::Repeated));
        }
        decoder.charge(size_of::<TypeProto>())?;
        let element = |value: ElementType| Box::new(value.value.unwrap_or(TypeProto::Unspecified));
        self.0 = Some(match field.number {
            1 => TypeProto::Tensor(decoder.message(field)?),
            4 => TypeProto::Sequence(element(decoder.message(field)?)),
            5 => {
                let map: MapType = decoder.message(field)?;
                TypeProto::Map(map.key, Box::new(map.value.unwrap_or(TypeProto::Unspecified)))
            }
            7 => TypeProto::Opaque,
            8 => TypeProto::SparseTensor(decoder.message(field)?),
            _ => TypeProto::Optional(element(decoder.message(field)?)),
        });
        Ok(())
    }
}

/// `TypeProto.Sequence` and `TypeProto.Optional`: field 1 is the type inside.
#[derive(Default)]
struct ElementType {
    value: Option<TypeProto>,
}

impl Message for ElementType {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        match field.number {
            1 if self.value.is_some() => return Err(field.error(ParseFault::Repeated)),
            1 => self.value = Some(read_type(field, decoder)?),
            _ => {}
        }
        Ok(())
    }
}

/// `TypeProto.Map`.
#[derive(Default)]
struct MapType {
    key: i64,
    value: Option<TypeProto>,
}

impl Message for MapType {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        match field.number {
            1 => self.key = field.int()?,
            2 if self.value.is_some() => return Err(field.error(ParseFault::Repeated)),
            2 => self.value = Some(read_type(field, decoder)?),
            _ => {}
        }
        Ok(())
    }
}

impl Message for TensorType {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        match field.number {
            1 => self.elem_type = field.int()?,
            2 => {
                let mut shape = Shape(self.dims.take().unwrap_or_default());
                decoder.read(&mut shape, field.inner()?)?;
                self.dims = Some(shape.0);
            }
            _ => {}
        }
        Ok(())
    }
}

/// `TensorShapeProto`.
struct Shape(Vec<Dim>);

impl Message for Shape {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        if field.number == 1 {
            let dim = decoder.message(field)?;
            decoder.push_dim(&mut self.0, dim)?;
        }
        Ok(())
    }
}

impl Message for Dim {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        match field.number {
            1 => *self = Dim::Value(field.int()?),
            2 => {
                let name = decoder.name(field)?;
                // An empty name says nothing: two of them are not the same dimension.
                *self = if name.is_empty() { Dim::Unknown } else { Dim::Param(name) };
            }
            _ => {}
        }
        Ok(())
    }
}

/// The fields of an `AttributeProto`, before its kind is settled.
#[derive(Default)]
struct RawAttribute {
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
    tensors: Vec<super::TensorProto>,
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
                decoder.charge(size_of::<super::TensorProto>())?;
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
    fn finish(self) -> Result<AttributeProto> {
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
        let filled = self.filled();
        if !self.reference.is_empty() {
            if !filled.is_empty() {
                return fail(format!("{name:?} has both a value and a reference"));
            }
            let value = AttributeValue::Reference { name: self.reference, kind: declared };
            return Ok(AttributeProto { name, value });
        }
        let kind = match (declared, filled.as_slice()) {
            (Some(kind), []) => kind,
            (Some(kind), &[only]) if kind == only => kind,
            (Some(kind), &[other, ..]) => {
                let (kind, other) = (kind.name(), other.name());
                return fail(format!("{name:?} says it is of type {kind} and holds another type, {other}"));
            }
            (None, &[only]) => only,
            (None, [_, _, ..]) => return fail(format!("{name:?} has several values and no type")),
            (None, []) => match self.scalar_given() {
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
    fn filled(&self) -> Vec<AttributeKind> {
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
        .collect()
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
