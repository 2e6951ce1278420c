//! A loop whose number of iterations is known, as one graph.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::graph::{Graph, Node, ValueId};
use crate::ir::tensor::Tensor;
use crate::movement::axes::Axes;
use crate::movement::{concat::Concat, unsqueeze::Unsqueeze};
use crate::operator::{Expansion, Operator};

/// The most nodes that a loop may become.
const MOST_NODES: usize = 4096;

/// Whether a body may be repeated that often.
pub(super) fn fits(body: &Graph, times: usize) -> bool {
    times.saturating_mul(body.nodes.len().max(1)) <= MOST_NODES
}

/// A graph in the making: its inputs are inputs of the looping node.
pub(super) struct Unrolled<'a> {
    body: &'a Graph,
    graph: Graph,
    /// For each input of the graph: which input of the node it is.
    inputs: Vec<usize>,
    /// Captures and constants of the body, the same for all iterations.
    shared: HashMap<ValueId, ValueId>,
}

impl<'a> Unrolled<'a> {
    /// Begins with nothing. The body's captures are the node's inputs from `captures` on.
    pub fn new(body: &'a Graph, captures: usize) -> Unrolled<'a> {
        let mut this = Unrolled { body, graph: Graph::default(), inputs: Vec::new(), shared: HashMap::new() };
        for (index, (name, inside)) in body.captures.iter().enumerate() {
            let id = this.input(name, captures + index);
            this.shared.insert(*inside, id);
        }
        for (inside, tensor) in &body.constants {
            let id = this.constant(body.name(*inside), tensor.clone());
            this.shared.insert(*inside, id);
        }
        this
    }

    /// An input of the node.
    pub fn input(&mut self, name: &str, index: usize) -> ValueId {
        let id = self.graph.add_value(name);
        // What is known about it is known where the graph is put.
        self.graph.inputs.push((id, Fact::unranked(crate::DType::F32)));
        self.inputs.push(index);
        id
    }

    /// A constant.
    pub fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let id = self.graph.add_value(name);
        self.graph.constants.insert(id, tensor);
        id
    }

    /// The result of an operator.
    pub fn apply(&mut self, name: String, op: Arc<dyn Operator>, inputs: &[ValueId]) -> ValueId {
        let id = self.graph.add_value(name.as_str());
        let inputs = inputs.iter().copied().map(Some).collect();
        self.graph.nodes.push(Node { name: name.into(), op, inputs, outputs: vec![Some(id)] });
        id
    }

    /// The body once more, for these inputs. Returns its outputs.
    pub fn iterate(&mut self, iteration: usize, inputs: &[ValueId]) -> Result<Vec<ValueId>, OpError> {
        let body = self.body;
        let mut here = self.shared.clone();
        here.extend(body.inputs.iter().map(|(id, _)| *id).zip(inputs.iter().copied()));
        let missing = OpError::Internal("a nested graph reads a value that nothing writes");
        for node in &body.nodes {
            let inputs = node
                .inputs
                .iter()
                .map(|id| id.map(|id| here.get(&id).copied().ok_or_else(|| missing.clone())).transpose())
                .collect::<Result<Vec<_>, _>>()?;
            let mut outputs = Vec::with_capacity(node.outputs.len());
            for id in &node.outputs {
                outputs.push(id.map(|id| {
                    let new = self.graph.add_value(format!("{}.{iteration}", body.name(id)));
                    here.insert(id, new);
                    new
                }));
            }
            let name = format!("{}.{iteration}", node.name).into();
            self.graph.nodes.push(Node { name, op: Arc::clone(&node.op), inputs, outputs });
        }
        body.outputs.iter().map(|id| here.get(id).copied().ok_or_else(|| missing.clone())).collect()
    }

    /// Values of all iterations along a new axis.
    pub fn stack(&mut self, name: &str, axis: i64, values: &[ValueId]) -> ValueId {
        let unsqueeze: Arc<dyn Operator> = Arc::new(Unsqueeze { axes: Axes::Attribute(Some(vec![axis])) });
        let mut all = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            all.push(self.apply(format!("{name}.{index}"), Arc::clone(&unsqueeze), &[*value]));
        }
        self.apply(name.to_owned(), Arc::new(Concat { axis }), &all)
    }

    /// The finished graph.
    pub fn finish(mut self, outputs: Vec<ValueId>) -> Expansion {
        self.graph.outputs = outputs;
        Expansion::Graph { graph: Arc::new(self.graph), inputs: self.inputs }
    }
}
