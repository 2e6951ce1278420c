//! From protobuf fields to the structures of [`super::model`].
//!
//! Field numbers are those of `onnx.proto` (IR version 14). Fields that nothing reads (documentation strings,
//! quantization annotations, training and device configurations) are skipped unread.

mod attribute;

use std::sync::Arc;

use attribute::RawAttribute;
use bytes::Bytes;
use foldhash::HashSet;

use super::limits::LoadLimits;
use super::model::{
    Dim, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetId, SparseTensorProto, TensorType,
    TypeProto, ValueInfoProto,
};
use super::tensor::RawTensor;
use super::wire::{Field, Reader};
use crate::error::{Budget, ImportError, ParseFault, Place};

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

/// Decodes a whole file: the model, and what it has used of [`LoadLimits::structure_bytes`].
pub(super) fn model(bytes: &Bytes, limits: &LoadLimits) -> Result<(ModelProto, u64)> {
    let mut model = ModelProto::default();
    let mut decoder = Decoder::new(limits);
    decoder.read(&mut model, Reader::new(bytes, 0))?;
    Ok((model, decoder.structure_bytes))
}

impl<'l> Decoder<'l> {
    pub fn new(limits: &'l LoadLimits) -> Decoder<'l> {
        Decoder { limits, names: HashSet::default(), depth: 0, subgraphs: 0, nodes: 0, structure_bytes: 0 }
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
            3 => field.each_int(|dim| decoder.push(&mut self.dims, dim.cast_signed()))?,
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
            let (asked, allowed) = ((self.0.len() as u64).saturating_add(1), decoder.limits.rank);
            if asked > allowed {
                return Err(ImportError::budget(Place::model(), Budget::Rank, asked, allowed));
            }
            let dim = decoder.message(field)?;
            decoder.push(&mut self.0, dim)?;
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
