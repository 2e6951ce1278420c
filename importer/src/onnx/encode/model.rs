//! Models as files: what `decode` reads, written. Field numbers are those of `onnx.proto`.

use bytes::Bytes;

use super::super::attribute::{AttributeProto, AttributeValue};
use super::super::limits::LoadLimits;
use super::super::model::{
    Dim, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorType, TypeProto, ValueInfoProto,
};
use super::super::tensor::{TensorData, TensorProto, to_tensor};
use super::{length_field, varint, varint_field};
use crate::error::{ImportError, InvalidFault};

type Result<T> = std::result::Result<T, ImportError>;

/// External data begins at multiples of this, so that it can be mapped.
const ALIGNMENT: usize = 4096;

/// Initializers of fewer bytes stay in the model file.
const SMALLEST_EXTERNAL: usize = 1024;

/// A model as pieces of files. Weights are the caller's own bytes, not copies.
#[derive(Debug, Clone, Default)]
pub struct Encoded {
    /// The model file.
    pub model: Vec<Bytes>,
    /// The file of external data; empty when the model file holds everything.
    pub external: Vec<Bytes>,
}

impl Encoded {
    /// The bytes of both files together.
    pub fn len(&self) -> u64 {
        let sizes = self.model.iter().chain(&self.external).map(|piece| piece.len() as u64);
        sizes.fold(0, u64::saturating_add)
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Writes a model. When its initializers take more than `most_bytes`, they go to a file of external data called
/// `data_file`, beside the model. Local functions are not written: a decoded model has them inlined.
///
/// # Errors
/// As [`to_tensor`] for lists of numbers, which are written as raw data; [`ImportError::Invalid`] for tensors that are
/// in other files already: these must be loaded before.
pub fn encode_model(
    model: &ModelProto,
    data_file: &str,
    most_bytes: u64,
    limits: &LoadLimits,
) -> Result<Encoded> {
    let raw = model.graph.initializers.iter().map(|tensor| match &tensor.data {
        TensorData::Raw(bytes) => bytes.len() as u64,
        _ => 0,
    });
    let outside = raw.fold(0, u64::saturating_add) > most_bytes;
    let mut writer = Writer { limits, data_file, outside, external: Vec::new(), offset: 0 };
    let mut message = Message::default();
    message.int(1, model.ir_version);
    message.text(2, &model.producer_name);
    message.text(3, &model.producer_version);
    message.text(4, &model.domain);
    message.int(5, model.model_version);
    message.message(7, writer.graph(&model.graph, true)?);
    for import in &model.opset_imports {
        let mut id = Message::default();
        id.text(1, &import.domain);
        id.int(2, import.version);
        message.message(8, id);
    }
    for (key, value) in &model.metadata {
        message.message(14, entry(key, value));
    }
    Ok(Encoded { model: message.pieces(), external: writer.external })
}

/// A message of which large parts are shared, not copied.
#[derive(Default)]
struct Message {
    done: Vec<Bytes>,
    open: Vec<u8>,
}

impl Message {
    fn int(&mut self, number: u32, value: i64) {
        varint_field(&mut self.open, number, value.cast_unsigned());
    }

    fn float(&mut self, number: u32, value: f32) {
        varint(&mut self.open, u64::from(number) << 3 | 5);
        self.open.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, number: u32, text: &str) {
        if !text.is_empty() {
            length_field(&mut self.open, number, text.as_bytes());
        }
    }

    fn head(&mut self, number: u32, length: u64) {
        varint(&mut self.open, u64::from(number) << 3 | 2);
        varint(&mut self.open, length);
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(Bytes::from(std::mem::take(&mut self.open)));
        }
    }

    fn shared(&mut self, number: u32, bytes: &Bytes) {
        if bytes.len() < SMALLEST_EXTERNAL {
            return length_field(&mut self.open, number, bytes);
        }
        self.head(number, bytes.len() as u64);
        self.close();
        self.done.push(bytes.clone());
    }

    fn message(&mut self, number: u32, inner: Message) {
        let done = inner.done.iter().map(|piece| piece.len() as u64).fold(0, u64::saturating_add);
        self.head(number, done.saturating_add(inner.open.len() as u64));
        if !inner.done.is_empty() {
            self.close();
            self.done.extend(inner.done);
        }
        self.open.extend_from_slice(&inner.open);
    }

    fn pieces(mut self) -> Vec<Bytes> {
        self.close();
        self.done
    }
}

fn entry(key: &str, value: &str) -> Message {
    let mut message = Message::default();
    message.text(1, key);
    message.text(2, value);
    message
}

struct Writer<'w> {
    limits: &'w LoadLimits,
    data_file: &'w str,
    outside: bool,
    external: Vec<Bytes>,
    /// The bytes of `external`.
    offset: u64,
}

impl Writer<'_> {
    /// The depth of subgraphs is bounded by the decoder's limit.
    fn graph(&mut self, graph: &GraphProto, main: bool) -> Result<Message> {
        let mut message = Message::default();
        for node in &graph.nodes {
            message.message(1, self.node(node)?);
        }
        message.text(2, &graph.name);
        for tensor in &graph.initializers {
            message.message(5, self.tensor(tensor, main && self.outside)?);
        }
        for (number, list) in [(11, &graph.inputs), (12, &graph.outputs), (13, &graph.value_info)] {
            list.iter().for_each(|info| message.message(number, value_info(info)));
        }
        for sparse in &graph.sparse_initializers {
            message.message(15, self.sparse(sparse)?);
        }
        Ok(message)
    }

    fn node(&mut self, node: &NodeProto) -> Result<Message> {
        let mut message = Message::default();
        // Empty names hold the place of absent inputs and outputs.
        node.inputs.iter().for_each(|name| length_field(&mut message.open, 1, name.as_bytes()));
        node.outputs.iter().for_each(|name| length_field(&mut message.open, 2, name.as_bytes()));
        message.text(3, &node.name);
        message.text(4, &node.op_type);
        for attribute in &node.attributes {
            message.message(5, self.attribute(attribute)?);
        }
        message.text(7, &node.domain);
        message.text(8, &node.overload);
        Ok(message)
    }

    fn attribute(&mut self, attribute: &AttributeProto) -> Result<Message> {
        let mut message = Message::default();
        message.text(1, &attribute.name);
        match &attribute.value {
            AttributeValue::Float(value) => {
                message.float(2, *value);
            }
            AttributeValue::Int(value) => {
                message.int(3, *value);
            }
            AttributeValue::String(value) => {
                message.shared(4, value);
            }
            AttributeValue::Tensor(tensor) => {
                message.message(5, self.tensor(tensor, false)?);
            }
            AttributeValue::Graph(graph) => {
                message.message(6, self.graph(graph, false)?);
            }
            AttributeValue::SparseTensor(sparse) => {
                message.message(22, self.sparse(sparse)?);
            }
            AttributeValue::TypeProto(ty) => {
                message.message(14, type_proto(ty));
            }
            AttributeValue::Floats(values) => {
                values.iter().for_each(|value| message.float(7, *value));
            }
            AttributeValue::Ints(values) => {
                values.iter().for_each(|value| message.int(8, *value));
            }
            AttributeValue::Strings(values) => {
                values.iter().for_each(|value| message.shared(9, value));
            }
            AttributeValue::Tensors(tensors) => {
                for tensor in tensors {
                    message.message(10, self.tensor(tensor, false)?);
                }
            }
            AttributeValue::Graphs(graphs) => {
                for graph in graphs {
                    message.message(11, self.graph(graph, false)?);
                }
            }
            AttributeValue::SparseTensors(list) => {
                for sparse in list {
                    message.message(23, self.sparse(sparse)?);
                }
            }
            AttributeValue::TypeProtos(types) => {
                types.iter().for_each(|ty| message.message(15, type_proto(ty)));
            }
            AttributeValue::Reference { name, .. } => message.text(21, name),
        }
        if let Some(kind) = attribute.value.kind() {
            message.int(20, kind.number());
        }
        Ok(message)
    }

    fn tensor(&mut self, tensor: &TensorProto, outside: bool) -> Result<Message> {
        const EXTERNAL: i64 = 1;
        let mut message = Message::default();
        tensor.dims.iter().for_each(|dim| message.int(1, *dim));
        message.int(2, tensor.data_type);
        message.text(8, &tensor.name);
        match &tensor.data {
            TensorData::Absent => {}
            TensorData::Raw(bytes) if outside && bytes.len() >= SMALLEST_EXTERNAL => {
                let begin = self.append(bytes);
                message.message(13, entry("location", self.data_file));
                message.message(13, entry("offset", &begin.to_string()));
                message.message(13, entry("length", &bytes.len().to_string()));
                message.int(14, EXTERNAL);
            }
            TensorData::Raw(bytes) => message.shared(9, bytes),
            TensorData::Typed(_) => {
                let values = to_tensor(tensor, self.limits)?;
                match values.strings() {
                    Some(strings) => {
                        strings.iter().for_each(|s| length_field(&mut message.open, 6, s.as_bytes()));
                    }
                    None => message.shared(9, &values.shared_bytes()),
                }
            }
            TensorData::External(_) => {
                let detail = "external data must be loaded before the model is written";
                return Err(ImportError::invalid(tensor.place(), InvalidFault::ExternalData, detail));
            }
        }
        Ok(message)
    }

    /// Appends to the external data, and gives where it begins there.
    fn append(&mut self, bytes: &Bytes) -> u64 {
        static ZEROS: [u8; ALIGNMENT] = [0; ALIGNMENT];
        let begin = self.offset.next_multiple_of(ALIGNMENT as u64);
        let gap = usize::try_from(begin.saturating_sub(self.offset)).unwrap_or_default();
        if let Some(zeros @ [_, ..]) = ZEROS.get(..gap) {
            self.external.push(Bytes::from_static(zeros));
        }
        self.external.push(bytes.clone());
        self.offset = begin.saturating_add(bytes.len() as u64);
        begin
    }

    fn sparse(&mut self, sparse: &SparseTensorProto) -> Result<Message> {
        let mut message = Message::default();
        message.message(1, self.tensor(&sparse.values, false)?);
        message.message(2, self.tensor(&sparse.indices, false)?);
        sparse.dims.iter().for_each(|dim| message.int(3, *dim));
        Ok(message)
    }
}

fn value_info(info: &ValueInfoProto) -> Message {
    let mut message = Message::default();
    message.text(1, &info.name);
    if let Some(ty) = &info.ty {
        message.message(2, type_proto(ty));
    }
    message
}

fn type_proto(ty: &TypeProto) -> Message {
    let mut message = Message::default();
    let element = |number: u32, inner: &TypeProto| {
        let mut wrapped = Message::default();
        wrapped.message(number, type_proto(inner));
        wrapped
    };
    match ty {
        TypeProto::Unspecified => {}
        TypeProto::Tensor(tensor) => message.message(1, tensor_type(tensor)),
        TypeProto::SparseTensor(tensor) => message.message(8, tensor_type(tensor)),
        TypeProto::Sequence(inner) => message.message(4, element(1, inner)),
        TypeProto::Optional(inner) => message.message(9, element(1, inner)),
        TypeProto::Map(key, value) => {
            let mut map = Message::default();
            map.int(1, *key);
            map.message(2, type_proto(value));
            message.message(5, map);
        }
        TypeProto::Opaque => message.message(7, Message::default()),
    }
    message
}

fn tensor_type(tensor: &TensorType) -> Message {
    let mut message = Message::default();
    message.int(1, tensor.elem_type);
    if let Some(dims) = &tensor.dims {
        let mut shape = Message::default();
        for dim in dims {
            let mut size = Message::default();
            match dim {
                Dim::Value(number) => size.int(1, *number),
                Dim::Param(name) => size.text(2, name),
                Dim::Unknown => {}
            }
            shape.message(1, size);
        }
        message.message(2, shape);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Graph, bytes, int, node, packed, read, subgraph_attribute};
    use super::*;

    /// A model with every kind of field that is kept, written by hand.
    fn file() -> Vec<u8> {
        let ints = [bytes(1, b"axes"), packed(8, &[1, u64::MAX]), int(20, 7)].concat();
        let text = [bytes(1, b"mode"), bytes(4, b"linear"), int(20, 3)].concat();
        let inner =
            subgraph_attribute("body", &Graph::new(&[], vec![node("Relu", &["x"], &["j"], &[])], &["j"]));
        let nodes =
            [node("Clip", &["x", "", "w"], &["a"], &[ints]), node("If", &["a"], &["y", ""], &[text, inner])];
        let weight = [int(1, 300), int(2, 1), bytes(8, b"w"), bytes(9, &[7; 1200])].concat();
        let typed = [packed(1, &[2]), int(2, 7), bytes(8, b"i"), packed(7, &[5, u64::MAX])].concat();
        let dim = [bytes(1, &int(1, 2)), bytes(1, &bytes(2, b"N")), bytes(1, &[])].concat();
        let ty = bytes(1, &[int(1, 1), bytes(2, &dim)].concat());
        let value = |name: &[u8]| [bytes(1, name), bytes(2, &ty)].concat();
        let sequence = [bytes(1, b"s"), bytes(2, &bytes(4, &bytes(1, &ty)))].concat();
        let graph = [
            bytes(1, &nodes[0]),
            bytes(1, &nodes[1]),
            bytes(2, b"g"),
            bytes(5, &weight),
            bytes(5, &typed),
            bytes(11, &value(b"x")),
            bytes(11, &sequence),
            bytes(12, &value(b"y")),
        ];
        let imports = [bytes(8, &int(2, 17)), bytes(8, &[bytes(1, b"com.microsoft"), int(2, 1)].concat())];
        let metadata = bytes(14, &[bytes(1, b"key"), bytes(2, b"value")].concat());
        [int(1, 8), bytes(2, b"me"), bytes(7, &graph.concat()), imports.concat(), metadata].concat()
    }

    #[test]
    fn what_is_read_is_written() {
        let limits = LoadLimits::default();
        let first = read(file()).unwrap();
        let written = encode_model(&first, "", u64::MAX, &limits).unwrap();
        assert!(written.external.is_empty() && !written.is_empty());
        let again = read(written.model.concat()).unwrap();
        assert_eq!(format!("{:?}", first.graph.nodes), format!("{:?}", again.graph.nodes));
        assert_eq!(format!("{:?}", first.graph.inputs), format!("{:?}", again.graph.inputs));
        assert_eq!((first.metadata, first.opset_imports), (again.metadata, again.opset_imports));
        for (a, b) in first.graph.initializers.iter().zip(&again.graph.initializers) {
            let (x, y) = (to_tensor(a, &limits).unwrap(), to_tensor(b, &limits).unwrap());
            assert_eq!((&a.name, x.dims(), x.bytes()), (&b.name, y.dims(), y.bytes()));
        }
    }

    #[test]
    fn large_weights_go_outside() {
        let limits = LoadLimits::default();
        let model = read(file()).unwrap();
        let written = encode_model(&model, "m.onnx.data", 1000, &limits).unwrap();
        assert_eq!(written.external.concat(), [7; 1200]);
        let again = read(written.model.concat()).unwrap();
        let TensorData::External(entries) = &again.graph.initializers[0].data else { panic!() };
        let texts: Vec<(&str, &str)> = entries.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(texts, [("location", "m.onnx.data"), ("offset", "0"), ("length", "1200")]);
        // What is outside already has no bytes to write.
        assert!(encode_model(&again, "", u64::MAX, &limits).is_err());
    }
}
