//! What inlining takes of the budgets, reckoned before anything is copied.

use crate::onnx::attribute::{AttributeProto, AttributeValue};
use crate::onnx::model::{GraphProto, NodeProto, SparseTensorProto, ValueInfoProto};
use crate::onnx::tensor::{TensorData, TensorProto};

/// What a piece of a model takes of the budgets.
#[derive(Clone, Copy, Default)]
pub(super) struct Cost {
    pub nodes: u64,
    pub bytes: u64,
}

impl Cost {
    pub fn add(&mut self, other: Cost) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn sum(costs: impl Iterator<Item = Cost>) -> Cost {
        let mut total = Cost::default();
        costs.for_each(|cost| total.add(cost));
        total
    }

    fn of_bytes(bytes: usize) -> Cost {
        Cost { nodes: 0, bytes: bytes as u64 }
    }

    /// A list of things without insides.
    fn of_list<T>(list: &[T]) -> Cost {
        Cost::of_bytes(size_of_val(list))
    }

    /// A name that may be made anew, with a prefix.
    fn of_name(name: &str) -> Cost {
        Cost::of_bytes(name.len().saturating_add(64))
    }

    pub fn of_nodes(nodes: &[NodeProto]) -> Cost {
        Cost::sum(nodes.iter().map(|node| {
            let mut cost = Cost { nodes: 1, bytes: size_of::<NodeProto>() as u64 };
            let names = node.inputs.iter().chain(&node.outputs).chain([&node.name]);
            cost.add(Cost::sum(names.map(|name| Cost::of_name(name))));
            cost.add(Cost::sum(node.attributes.iter().map(Cost::of_attribute)));
            cost
        }))
    }

    pub fn of_graph(graph: &GraphProto) -> Cost {
        let values = graph.inputs.iter().chain(&graph.outputs).chain(&graph.value_info);
        let value = |value: &ValueInfoProto| {
            let mut cost = Cost::of_name(&value.name);
            // A type with dimensions.
            cost.add(Cost::of_bytes(256));
            cost
        };
        let tensor = |tensor: &TensorProto| {
            let mut cost = Cost::of_tensor(tensor);
            cost.add(Cost::of_name(&tensor.name));
            cost
        };
        let mut cost = Cost::of_nodes(&graph.nodes);
        cost.add(Cost::sum(values.map(value)));
        cost.add(Cost::sum(graph.initializers.iter().map(tensor)));
        cost.add(Cost::sum(graph.sparse_initializers.iter().map(Cost::of_sparse)));
        cost.add(Cost::of_bytes(size_of::<GraphProto>()));
        cost
    }

    fn of_tensor(tensor: &TensorProto) -> Cost {
        let mut cost = Cost::of_bytes(size_of::<TensorProto>());
        cost.add(Cost::of_list(&tensor.dims));
        if let TensorData::External(entries) = &tensor.data {
            cost.add(Cost::of_list(entries));
        }
        cost
    }

    fn of_sparse(sparse: &SparseTensorProto) -> Cost {
        let mut cost = Cost::of_list(&sparse.dims);
        cost.add(Cost::of_tensor(&sparse.values));
        cost.add(Cost::of_tensor(&sparse.indices));
        cost
    }

    pub fn of_attribute(attribute: &AttributeProto) -> Cost {
        let mut cost = match &attribute.value {
            AttributeValue::Floats(list) => Cost::of_list(list),
            AttributeValue::Ints(list) => Cost::of_list(list),
            AttributeValue::Strings(list) => Cost::of_list(list),
            AttributeValue::TypeProtos(list) => Cost::of_list(list),
            AttributeValue::Tensor(tensor) => Cost::of_tensor(tensor),
            AttributeValue::Tensors(list) => Cost::sum(list.iter().map(Cost::of_tensor)),
            AttributeValue::SparseTensor(tensor) => Cost::of_sparse(tensor),
            AttributeValue::SparseTensors(list) => Cost::sum(list.iter().map(Cost::of_sparse)),
            AttributeValue::Graph(graph) => Cost::of_graph(graph),
            AttributeValue::Graphs(list) => Cost::sum(list.iter().map(Cost::of_graph)),
            _ => Cost::default(),
        };
        cost.add(Cost::of_list(std::slice::from_ref(attribute)));
        cost
    }
}
