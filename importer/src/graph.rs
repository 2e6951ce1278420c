//! From a decoded model to a graph of operators.

use std::collections::HashMap;
use std::sync::Arc;

use sardonyx_ops::build::NodeSpec;
use sardonyx_ops::ir::attributes::{Attribute, Attributes};
use sardonyx_ops::ir::dim::Dim;
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::ir::graph::{Graph, Node, ValueId};
use sardonyx_ops::{DType, Tensor};

use crate::error::{ImportError, InvalidFault, Place, UnsupportedFault};
use crate::onnx::{self, AttributeValue, GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto};
use crate::table;

type Result<T> = std::result::Result<T, ImportError>;

/// Attributes that old exporters write and that have no meaning for inference.
const IGNORED: &[&str] = &["consumed_inputs"];

/// Makes a graph of a model as [`onnx::read`] leaves it: sorted, every value defined once, functions inlined.
/// `tensor` decodes a constant.
///
/// Initializers and `Constant` nodes become constants. An initializer that is also an input is a constant: its default
/// cannot be overridden. Unnamed nodes are called after their operator and position. Graph attributes become graphs of
/// their own, whose captures are appended to the inputs of their node (see [`Graph::captures`]).
///
/// # Errors
/// [`ImportError::Unsupported`] for unknown operators, before any constant is decoded; what a constructor finds wrong;
/// [`ImportError::Invalid`] for attributes that the operator does not have.
pub fn build(graph: &GraphProto, tensor: &dyn Fn(&TensorProto) -> Result<Tensor>) -> Result<Graph> {
    check_operators(graph)?;
    Builder { tensor }.graph(graph, false)
}

/// Looks every operator up. Recursion is bounded by the depth limit of decoding.
fn check_operators(graph: &GraphProto) -> Result<()> {
    for node in &graph.nodes {
        if !is_constant(node) {
            table::row(node)?;
        }
        node.subgraphs().try_for_each(check_operators)?;
    }
    Ok(())
}

fn is_constant(node: &NodeProto) -> bool {
    &*node.op_type == "Constant" && node.domain.is_empty()
}

/// Every node whose operator is not in the table, those of nested graphs included, with the reason: all that
/// [`build`] would stumble over, one after the other.
pub fn unknown_operators(graph: &GraphProto) -> Vec<ImportError> {
    let mut all = Vec::new();
    // Nesting is bounded by the depth limit of decoding.
    for node in &graph.nodes {
        if !is_constant(node) {
            all.extend(table::row(node).err());
        }
        all.extend(node.subgraphs().flat_map(unknown_operators));
    }
    all
}

struct Builder<'a> {
    tensor: &'a dyn Fn(&TensorProto) -> Result<Tensor>,
}

impl Builder<'_> {
    fn graph(&self, proto: &GraphProto, nested: bool) -> Result<Graph> {
        let mut graph = Graph::default();
        let mut ids: HashMap<Arc<str>, ValueId> = HashMap::new();
        if !proto.sparse_initializers.is_empty() {
            let detail = "sparse initializers";
            return Err(ImportError::unsupported(Place::model(), UnsupportedFault::ValueKind, detail));
        }
        for tensor in &proto.initializers {
            let id = graph.add_value(tensor.name.clone());
            ids.insert(tensor.name.clone(), id);
            graph.constants.insert(id, (self.tensor)(tensor)?);
        }
        for input in &proto.inputs {
            match ids.get(&input.name) {
                // The owner of a nested graph passes its inputs by position, default or not.
                Some(&id) if nested => {
                    graph.constants.remove(&id);
                    graph.inputs.push((id, declared(input, nested)?));
                }
                Some(_) => continue,
                None => {
                    let id = graph.add_value(input.name.clone());
                    ids.insert(input.name.clone(), id);
                    graph.inputs.push((id, declared(input, nested)?));
                }
            }
            if let (Some(TypeProto::Sequence(_) | TypeProto::Optional(_)), Some(id)) =
                (&input.ty, ids.get(&input.name))
            {
                graph.items.insert(*id, None);
            }
        }
        for name in &proto.captures {
            let id = graph.add_value(name.clone());
            ids.insert(name.clone(), id);
            graph.captures.push((name.clone(), id));
        }
        for (index, node) in proto.nodes.iter().enumerate() {
            let node_place = || named(node, index);
            if is_constant(node) {
                let value = self.constant(node).map_err(|error| error.within(node_place))?;
                if let Some(name) = node.outputs.first().filter(|name| !name.is_empty()) {
                    let id = graph.add_value(name.clone());
                    ids.insert(name.clone(), id);
                    graph.constants.insert(id, value);
                }
                continue;
            }
            let node = self.node(node, &node_place(), &mut graph, &mut ids)?;
            graph.nodes.push(node);
        }
        for output in &proto.outputs {
            graph.outputs.push(defined(&ids, &output.name, Place::model())?);
        }
        Ok(graph)
    }

    fn node(
        &self,
        proto: &NodeProto,
        place: &Place,
        graph: &mut Graph,
        ids: &mut HashMap<Arc<str>, ValueId>,
    ) -> Result<Node> {
        let row = table::row(proto)?;
        let mut attributes = Attributes::default();
        let mut nested: Vec<(Arc<str>, Arc<Graph>)> = Vec::new();
        for attribute in &proto.attributes {
            let value = self
                .attribute(&attribute.name, &attribute.value)
                .map_err(|error| error.within(|| place.clone()))?;
            if let Attribute::Graph(graph) = &value {
                nested.push((attribute.name.clone(), Arc::clone(graph)));
            }
            attributes.insert(&*attribute.name, value);
        }
        let spec = NodeSpec {
            op_type: row.name,
            opset: proto.opset,
            inputs: &proto.inputs.iter().map(|name| !name.is_empty()).collect::<Vec<_>>(),
            outputs: &proto.outputs.iter().map(|name| !name.is_empty()).collect::<Vec<_>>(),
            attributes: &attributes,
        };
        let op = (row.build)(&spec).map_err(|error| ImportError::operator(place.clone(), &error))?;
        if let Some(unread) = attributes.unread().into_iter().find(|name| !IGNORED.contains(name)) {
            let detail = format!("the operator has no attribute {unread:?}");
            return Err(ImportError::invalid(place.clone(), InvalidFault::Attribute, detail));
        }
        let read = |name: &Arc<str>| match name.is_empty() {
            true => Ok(None),
            false => defined(ids, name, place.clone()).map(Some),
        };
        let mut inputs = proto.inputs.iter().map(read).collect::<Result<Vec<_>>>()?;
        nested.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, _) in nested.iter().flat_map(|(_, graph)| &graph.captures) {
            inputs.push(read(name)?);
        }
        let mut outputs = Vec::with_capacity(proto.outputs.len());
        for name in &proto.outputs {
            outputs.push((!name.is_empty()).then(|| {
                let id = graph.add_value(name.clone());
                ids.insert(name.clone(), id);
                id
            }));
        }
        Ok(Node { name: place.node.clone().unwrap_or_default(), op, inputs, outputs })
    }

    fn attribute(&self, name: &str, value: &AttributeValue) -> Result<Attribute> {
        Ok(match value {
            AttributeValue::Int(value) => Attribute::Int(*value),
            AttributeValue::Float(value) => Attribute::Float(*value),
            AttributeValue::String(value) => Attribute::Str(text(name, value)?),
            AttributeValue::Ints(values) => Attribute::Ints(values.clone()),
            AttributeValue::Floats(values) => Attribute::Floats(values.clone()),
            AttributeValue::Strings(values) => {
                Attribute::Strs(values.iter().map(|value| text(name, value)).collect::<Result<_>>()?)
            }
            AttributeValue::Tensor(tensor) => Attribute::Tensor((self.tensor)(tensor)?),
            AttributeValue::TypeProto(_) => Attribute::Type,
            AttributeValue::Graph(graph) => Attribute::Graph(Arc::new(self.graph(graph, true)?)),
            other => {
                let kind = other.kind().map_or("reference", onnx::AttributeKind::name);
                let detail = format!("attribute {name:?} of kind {kind}");
                return Err(ImportError::unsupported(Place::model(), UnsupportedFault::Variant, detail));
            }
        })
    }

    /// The value of a `Constant` node (<https://onnx.ai/onnx/operators/onnx__Constant.html>).
    fn constant(&self, node: &NodeProto) -> Result<Tensor> {
        let bad = |detail: String| ImportError::invalid(Place::model(), InvalidFault::Attribute, detail);
        let [attribute] = node.attributes.as_slice() else {
            return Err(bad(format!("Constant has one attribute, got {}", node.attributes.len())));
        };
        let list = |length: usize| [length];
        let tensor = match (&*attribute.name, &attribute.value) {
            ("value", AttributeValue::Tensor(tensor)) => return (self.tensor)(tensor),
            ("value_int", AttributeValue::Int(value)) => Ok(Tensor::scalar(*value)),
            ("value_float", AttributeValue::Float(value)) => Ok(Tensor::scalar(*value)),
            ("value_ints", AttributeValue::Ints(values)) => Tensor::from_slice(&list(values.len()), values),
            ("value_floats", AttributeValue::Floats(values)) => {
                Tensor::from_slice(&list(values.len()), values)
            }
            ("value_string", AttributeValue::String(value)) => {
                Tensor::from_strings(&[], vec![text("value_string", value)?])
            }
            ("value_strings", AttributeValue::Strings(values)) => {
                let texts = values.iter().map(|value| text("value_strings", value));
                Tensor::from_strings(&list(values.len()), texts.collect::<Result<_>>()?)
            }
            ("sparse_value", AttributeValue::SparseTensor(_)) => {
                let detail = "sparse constants";
                return Err(ImportError::unsupported(Place::model(), UnsupportedFault::ValueKind, detail));
            }
            (name, _) => {
                return Err(bad(format!("{name:?} is no attribute of Constant, or of another kind")));
            }
        };
        tensor.map_err(|error| bad(error.to_string()))
    }
}

/// The place of a node under the name it has in the graph.
fn named(node: &NodeProto, index: usize) -> Place {
    let mut place = node.place();
    if node.name.is_empty() {
        place.node = Some(format!("{}_{index}", node.op_type).into());
    }
    place
}

fn defined(ids: &HashMap<Arc<str>, ValueId>, name: &Arc<str>, place: Place) -> Result<ValueId> {
    ids.get(name).copied().ok_or_else(|| {
        ImportError::invalid(
            place.with_value(name),
            InvalidFault::MissingValue,
            "nothing before it writes it",
        )
    })
}

fn text(name: &str, value: &[u8]) -> Result<String> {
    String::from_utf8(value.to_vec()).map_err(|_| {
        let detail = format!("attribute {name:?} is not UTF-8");
        ImportError::invalid(Place::model(), InvalidFault::Attribute, detail)
    })
}

/// What an input's declaration says; of a sequence or optional only the type of its tensors. A nested graph may leave its inputs untyped: its owner knows what it passes.
fn declared(input: &ValueInfoProto, nested: bool) -> Result<Fact> {
    let place = || Place::value(&input.name);
    let tensor = match &input.ty {
        Some(TypeProto::Tensor(tensor)) => tensor,
        Some(TypeProto::Sequence(inner) | TypeProto::Optional(inner)) => {
            let element = ValueInfoProto { name: input.name.clone(), ty: Some((**inner).clone()) };
            return Ok(Fact::unranked(declared(&element, nested)?.dtype));
        }
        None | Some(TypeProto::Unspecified) if nested => return Ok(Fact::unranked(DType::F32)),
        other => {
            let kind = other.as_ref().map_or("untyped", TypeProto::kind);
            return Err(ImportError::unsupported(
                place(),
                UnsupportedFault::ValueKind,
                format!("{kind} input"),
            ));
        }
    };
    let dtype = match DType::from_onnx(tensor.elem_type) {
        Some(dtype) => dtype,
        None if nested && tensor.elem_type == 0 => return Ok(Fact::unranked(DType::F32)),
        None => {
            let detail = format!("element type number {}", tensor.elem_type);
            return Err(ImportError::unsupported(place(), UnsupportedFault::ElementType, detail));
        }
    };
    let Some(dims) = &tensor.dims else { return Ok(Fact::unranked(dtype)) };
    let shape = dims.iter().enumerate().map(|(axis, dim)| declared_dim(&input.name, axis, dim));
    Ok(Fact::new(dtype, shape.collect::<Result<_>>()?))
}

/// A declared dimension; one without number and name is called `VALUE.dimK`.
pub(crate) fn declared_dim(value: &Arc<str>, axis: usize, dim: &onnx::Dim) -> Result<Dim> {
    Ok(match dim {
        onnx::Dim::Value(number) => Dim::Known(usize::try_from(*number).map_err(|_| {
            let detail = format!("dimension {number}");
            ImportError::invalid(Place::value(value), InvalidFault::Shape, detail)
        })?),
        onnx::Dim::Param(name) if !name.is_empty() => Dim::named(name),
        onnx::Dim::Param(_) | onnx::Dim::Unknown => Dim::named(&format!("{value}.dim{axis}")),
    })
}
