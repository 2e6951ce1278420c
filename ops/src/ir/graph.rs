//! The dataflow graph of a model: operators over named values, no shapes yet.

use std::collections::HashMap;
use std::sync::Arc;

use super::fact::Fact;
use super::tensor::Tensor;
use crate::operator::Operator;

/// Index of a value in its graph or plan.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ValueId(pub usize);

/// One use of an operator.
#[derive(Clone, Debug)]
pub struct Node {
    /// The node's name in the model, or one made from its operator and position.
    pub name: Arc<str>,
    /// What it computes.
    pub op: Arc<dyn Operator>,
    /// Values read; `None` where an optional input is absent.
    pub inputs: Vec<Option<ValueId>>,
    /// Values written; `None` where an optional output is not wanted.
    pub outputs: Vec<Option<ValueId>>,
}

/// A graph in topological order, single assignment.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The name of each value, as the model has it.
    pub names: Vec<Arc<str>>,
    /// Nodes, each after those it reads from.
    pub nodes: Vec<Node>,
    /// Values a caller gives, in the model's order, with what the model declares about them.
    pub inputs: Vec<(ValueId, Fact)>,
    /// Values a caller gets, in the model's order.
    pub outputs: Vec<ValueId>,
    /// Constants of the model.
    pub constants: HashMap<ValueId, Tensor>,
    /// For a nested graph: values taken from the graph around it, by their name there, and the value here. They are
    /// appended to the inputs that the owning node has in the model, graph after graph in the order of their
    /// attributes' names; [`crate::build::NodeSpec::inputs`] does not count them.
    pub captures: Vec<(Arc<str>, ValueId)>,
}

impl Graph {
    /// Adds a value.
    pub fn add_value(&mut self, name: impl Into<Arc<str>>) -> ValueId {
        self.names.push(name.into());
        ValueId(self.names.len() - 1)
    }

    /// The name of a value.
    pub fn name(&self, value: ValueId) -> &str {
        self.names.get(value.0).map_or("?", |name| name)
    }
}
