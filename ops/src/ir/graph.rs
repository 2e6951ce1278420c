//! The dataflow graph of a model: operators over named values, no shapes yet.

use std::collections::HashMap;
use std::sync::Arc;

use super::fact::Fact;
use super::item::Item;
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
    /// Values that are sequences or optionals, and of which others they are made; `None` for an input, where the caller
    /// knows.
    pub items: HashMap<ValueId, Option<Item<ValueId>>>,
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

    /// What a value is made of: itself, where it is a tensor.
    pub fn item(&self, value: ValueId) -> Item<ValueId> {
        self.items.get(&value).cloned().flatten().unwrap_or(Item::Tensor(value))
    }

    /// The tensors that these values are made of.
    pub fn tensors<'a>(
        &'a self,
        values: impl IntoIterator<Item = &'a ValueId> + 'a,
    ) -> impl Iterator<Item = ValueId> + 'a {
        values.into_iter().flat_map(|id| match self.items.get(id) {
            Some(Some(item)) => item.tensors().into_iter().copied().collect(),
            _ => vec![*id],
        })
    }

    /// The same graph for inputs of these forms: a sequence or optional among them becomes the tensors that it is made
    /// of.
    pub fn taken_apart(&self, inputs: &[Item<()>]) -> Graph {
        let mut graph = Graph { inputs: Vec::new(), ..self.clone() };
        for ((id, fact), form) in self.inputs.iter().zip(inputs) {
            if let Item::Tensor(()) = form {
                graph.items.remove(id);
                graph.inputs.push((*id, fact.clone()));
                continue;
            }
            let mut made = Vec::new();
            let item = form.map(&mut |()| {
                let name = format!("{}[{}]", self.name(*id), made.len());
                made.push(graph.add_value(name));
                made[made.len() - 1]
            });
            graph.inputs.extend(made.into_iter().map(|id| (id, fact.clone())));
            graph.items.insert(*id, Some(item));
        }
        graph
    }

    /// The name of a value.
    pub fn name(&self, value: ValueId) -> &str {
        self.names.get(value.0).map_or("?", |name| name)
    }
}
