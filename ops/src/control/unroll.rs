//! A loop whose number of iterations is known, as one graph.

use std::collections::HashMap;
use std::sync::Arc;

use crate::compose::Composition;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::graph::{Graph, ValueId};
use crate::movement::axes::Axes;
use crate::movement::{concat::Concat, unsqueeze::Unsqueeze};
use crate::operator::Operator;

/// The most nodes that a loop may become.
const MOST_NODES: usize = 4096;

/// Whether a body may be repeated that often.
pub(crate) fn fits(body: &Graph, times: usize) -> bool {
    times.saturating_mul(body.nodes.len().max(1)) <= MOST_NODES
}

/// The iterations so far.
pub(crate) struct Unrolled<'a> {
    body: &'a Graph,
    /// The graph in the making.
    pub graph: Composition,
    /// Captures and constants of the body, the same for all iterations.
    shared: HashMap<ValueId, ValueId>,
}

impl<'a> Unrolled<'a> {
    /// Begins with nothing. The body's captures are the inputs of the looping node from `captures` on.
    pub fn new(body: &'a Graph, captures: usize) -> Unrolled<'a> {
        let mut this = Unrolled { body, graph: Composition::default(), shared: HashMap::new() };
        for (index, (_, inside)) in body.captures.iter().enumerate() {
            let id = this.input(captures + index);
            this.shared.insert(*inside, id);
        }
        for (inside, tensor) in &body.constants {
            let id = this.graph.constant(tensor.clone());
            this.shared.insert(*inside, id);
        }
        this
    }

    /// An input of the node, whatever it is.
    pub fn input(&mut self, index: usize) -> ValueId {
        self.graph.input(index, &Fact::unranked(crate::DType::F32))
    }

    /// The body once more, for these inputs. Returns its outputs.
    pub fn iterate(&mut self, iteration: usize, inputs: &[ValueId]) -> Result<Vec<ValueId>, OpError> {
        let body = self.body;
        let mut here = self.shared.clone();
        here.extend(body.inputs.iter().map(|(id, _)| *id).zip(inputs.iter().copied()));
        for node in &body.nodes {
            self.graph.copy(node, &format!(".{iteration}"), &mut here)?;
        }
        let missing = OpError::Internal("a nested graph gives a value that nothing writes");
        body.outputs.iter().map(|id| here.get(id).copied().ok_or_else(|| missing.clone())).collect()
    }

    /// Values of all iterations along a new axis.
    pub fn stack(&mut self, axis: i64, values: &[ValueId]) -> ValueId {
        let unsqueeze: Arc<dyn Operator> = Arc::new(Unsqueeze { axes: Axes::Attribute(Some(vec![axis])) });
        let all: Vec<ValueId> =
            values.iter().map(|value| self.graph.node(Arc::clone(&unsqueeze), &[*value])).collect();
        self.graph.node(Arc::new(Concat { axis }), &all)
    }
}
