//! The messages of `onnx.proto`, decoded. Weights and byte strings share the memory of the file, names are
//! shared among themselves; so everything here is cheap to clone and lives as long as it is wanted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::attribute::{AttributeProto, AttributeValue};
use super::tensor::TensorProto;
use crate::error::Place;

/// A model file (`ModelProto`).
#[derive(Debug, Clone, Default)]
pub struct ModelProto {
    /// Version of the format; 1 to [`ModelProto::MAX_IR_VERSION`].
    pub ir_version: i64,
    /// The exporter's name.
    pub producer_name: Arc<str>,
    /// The exporter's version.
    pub producer_version: Arc<str>,
    /// The model's name space, as its maker chose.
    pub domain: Arc<str>,
    /// The model's own version.
    pub model_version: i64,
    /// Operator sets of the main graph.
    pub opset_imports: Vec<OperatorSetId>,
    /// The main graph.
    pub graph: GraphProto,
    /// Local functions.
    pub functions: Vec<FunctionProto>,
    /// `metadata_props`; the last of equal keys wins.
    pub metadata: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) has_graph: bool,
}

impl ModelProto {
    /// The newest version of the format that this reader knows (ONNX 1.23).
    pub const MAX_IR_VERSION: i64 = 14;
}

/// An operator set of a model or function (`OperatorSetIdProto`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorSetId {
    /// Empty for ONNX's own (`ai.onnx` is read as empty).
    pub domain: Arc<str>,
    /// The version.
    pub version: i64,
}

/// A graph, or a subgraph in an attribute (`GraphProto`).
#[derive(Debug, Clone, Default)]
pub struct GraphProto {
    /// For people only.
    pub name: Arc<str>,
    /// The nodes.
    pub nodes: Vec<NodeProto>,
    /// Constants by name; one that is also an input is that input's default.
    pub initializers: Vec<TensorProto>,
    /// Constants in coordinate form, named by their values tensor.
    pub sparse_initializers: Vec<SparseTensorProto>,
    /// Inputs, in order.
    pub inputs: Vec<ValueInfoProto>,
    /// Outputs, in order.
    pub outputs: Vec<ValueInfoProto>,
    /// Types of values between, as far as the exporter wrote them.
    pub value_info: Vec<ValueInfoProto>,
    /// Of a subgraph: the names of outer graphs' values that it or a graph within it reads, in the order of
    /// their first use. Empty for the main graph.
    pub captures: Vec<Arc<str>>,
}

/// A use of an operator (`NodeProto`).
#[derive(Debug, Clone, Default)]
pub struct NodeProto {
    /// For people only; may be empty, need not be unique.
    pub name: Arc<str>,
    /// The operator.
    pub op_type: Arc<str>,
    /// The operator's domain; empty for ONNX's own.
    pub domain: Arc<str>,
    /// Which overload of a local function is called.
    pub overload: Arc<str>,
    /// Names of the inputs; an absent optional one is empty.
    pub inputs: Vec<Arc<str>>,
    /// Names of the outputs; an unwanted one is empty.
    pub outputs: Vec<Arc<str>>,
    /// The attributes; names are unique.
    pub attributes: Vec<AttributeProto>,
    /// Version of the operator set that applies, from the model's or the function's imports.
    pub opset: i64,
}

impl NodeProto {
    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        self.attributes.iter().find(|attribute| &*attribute.name == name).map(|attribute| &attribute.value)
    }

    /// The node in words of an error message.
    pub fn place(&self) -> Place {
        let name = if self.name.is_empty() {
            self.outputs.iter().find(|output| !output.is_empty()).unwrap_or(&self.name)
        } else {
            &self.name
        };
        Place {
            node: Some(name.clone()),
            op: self.op_type.clone(),
            domain: self.domain.clone(),
            opset: self.opset,
            value: None,
        }
    }

    /// The subgraphs in this node's attributes.
    pub fn subgraphs(&self) -> impl Iterator<Item = &GraphProto> {
        self.attributes.iter().flat_map(|attribute| match &attribute.value {
            AttributeValue::Graph(graph) => std::slice::from_ref(&**graph),
            AttributeValue::Graphs(graphs) => graphs,
            _ => &[],
        })
    }

    /// The subgraphs in this node's attributes, to change.
    pub fn subgraphs_mut(&mut self) -> impl Iterator<Item = &mut GraphProto> {
        self.attributes.iter_mut().flat_map(|attribute| match &mut attribute.value {
            AttributeValue::Graph(graph) => std::slice::from_mut(&mut **graph),
            AttributeValue::Graphs(graphs) => graphs,
            _ => &mut [],
        })
    }
}

/// A function that the model brings along (`FunctionProto`).
#[derive(Debug, Clone, Default)]
pub struct FunctionProto {
    /// Its name, called as an operator.
    pub name: Arc<str>,
    /// Its domain.
    pub domain: Arc<str>,
    /// Tells functions of one name and domain apart.
    pub overload: Arc<str>,
    /// Formal inputs.
    pub inputs: Vec<Arc<str>>,
    /// Formal outputs.
    pub outputs: Vec<Arc<str>>,
    /// Names of attributes without a default.
    pub attributes: Vec<Arc<str>>,
    /// Attributes with a default.
    pub attribute_defaults: Vec<AttributeProto>,
    /// The body.
    pub nodes: Vec<NodeProto>,
    /// Operator sets of the body.
    pub opset_imports: Vec<OperatorSetId>,
}

/// A constant in coordinate form (`SparseTensorProto`).
#[derive(Debug, Clone, Default)]
pub struct SparseTensorProto {
    /// The values that are not zero, in one dimension; its name is the constant's.
    pub values: TensorProto,
    /// Where they are: one linear index each, or one row of coordinates each.
    pub indices: TensorProto,
    /// The dimensions of the dense tensor.
    pub dims: Vec<i64>,
}

/// A name and its type (`ValueInfoProto`).
#[derive(Debug, Clone, Default)]
pub struct ValueInfoProto {
    /// The name.
    pub name: Arc<str>,
    /// The type, when one is given.
    pub ty: Option<TypeProto>,
}

/// The type of a value (`TypeProto`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TypeProto {
    /// No kind is given.
    Unspecified,
    /// A tensor.
    Tensor(TensorType),
    /// A tensor in coordinate form.
    SparseTensor(TensorType),
    /// A sequence of values of one type.
    Sequence(Box<TypeProto>),
    /// A value or none.
    Optional(Box<TypeProto>),
    /// A map; keys have the element type of this ONNX number.
    Map(i64, Box<TypeProto>),
    /// A type known only to its operators.
    Opaque,
}

impl TypeProto {
    /// The kind in one word, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            TypeProto::Unspecified => "untyped",
            TypeProto::Tensor(_) => "tensor",
            TypeProto::SparseTensor(_) => "sparse tensor",
            TypeProto::Sequence(_) => "sequence",
            TypeProto::Optional(_) => "optional",
            TypeProto::Map(..) => "map",
            TypeProto::Opaque => "opaque",
        }
    }
}

/// Element type and shape as a model declares them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TensorType {
    /// The ONNX number of the element type; 0 when it is not given.
    pub elem_type: i64,
    /// The dimensions; `None` when even the rank is unknown.
    pub dims: Option<Vec<Dim>>,
}

/// A declared dimension.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Dim {
    /// A number, as the file has it: not checked for its sign.
    Value(i64),
    /// A name; equal names mean equal numbers.
    Param(Arc<str>),
    /// Anything.
    #[default]
    Unknown,
}
