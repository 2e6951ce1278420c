//! Graphs made by hand.

use std::sync::Arc;

use sardonyx_importer::table;
use sardonyx_ops::build::NodeSpec;
use sardonyx_ops::ir::attributes::{Attribute, Attributes};
use sardonyx_ops::ir::dim::Dim;
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::ir::graph::{Graph, Node, ValueId};
use sardonyx_ops::{DType, Operator, Tensor};

/// Builds graphs in one line per node.
#[derive(Default)]
pub struct Sketch(pub Graph);

impl Sketch {
    /// An input of the graph.
    pub fn input(&mut self, name: &str, dtype: DType, shape: &[Dim]) -> ValueId {
        let id = self.0.add_value(name);
        self.0.inputs.push((id, Fact::new(dtype, shape.to_vec())));
        id
    }

    /// A constant.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        let id = self.0.add_value(format!("constant{}", self.0.names.len()));
        self.0.constants.insert(id, tensor);
        id
    }

    /// The output of a node.
    pub fn node(&mut self, name: &str, op: impl Operator, inputs: &[ValueId]) -> ValueId {
        self.node_of(name, Arc::new(op), inputs)
    }

    /// The same of a shared operator.
    pub fn node_of(&mut self, name: &str, op: Arc<dyn Operator>, inputs: &[ValueId]) -> ValueId {
        let output = self.0.add_value(name);
        let inputs = inputs.iter().copied().map(Some).collect();
        self.0.nodes.push(Node { name: name.into(), op, inputs, outputs: vec![Some(output)] });
        output
    }

    /// The graph.
    pub fn output(mut self, outputs: &[ValueId]) -> Graph {
        self.0.outputs = outputs.to_vec();
        self.0
    }
}

/// An operator of opset 15 by its ONNX name, without attributes but one.
pub fn made(name: &str, attribute: Option<(&str, i64)>, inputs: usize) -> Arc<dyn Operator> {
    let mut attributes = Attributes::default();
    if let Some((name, value)) = attribute {
        attributes.insert(name, Attribute::Int(value));
    }
    let row = table::lookup("", name, 15).unwrap();
    let inputs = vec![true; inputs];
    let spec =
        NodeSpec { op_type: name, opset: 15, inputs: &inputs, outputs: &[true], attributes: &attributes };
    (row.build)(&spec).unwrap()
}

/// The same with lists of integers as attributes.
pub fn made_with(name: &str, lists: &[(&str, &[i64])], inputs: usize) -> Arc<dyn Operator> {
    let mut attributes = Attributes::default();
    lists.iter().for_each(|(name, list)| attributes.insert(*name, Attribute::Ints(list.to_vec())));
    let row = table::lookup("", name, 15).unwrap();
    let inputs = vec![true; inputs];
    let spec =
        NodeSpec { op_type: name, opset: 15, inputs: &inputs, outputs: &[true], attributes: &attributes };
    (row.build)(&spec).unwrap()
}
