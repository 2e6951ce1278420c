//! What is done to a graph once, whatever the sizes of its inputs will be.

use sardonyx_ops::ir::dim::Dim;
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::ir::graph::Graph;
use sardonyx_ops::plan::Decision;

use crate::error::ImportError;
use crate::infer::infer;
use crate::passes;
use crate::plan::PlanOptions;

/// A graph after all work that does not depend on sizes.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The graph, with the inputs and outputs of the given one.
    pub graph: Graph,
    /// What the passes did and did not do.
    pub decisions: Vec<Decision>,
}

/// Folds constants and runs the passes that need no sizes. [`crate::plan()`] does the rest for each set of input sizes;
/// it is right without this as well, but then repeats the folding of weights.
///
/// # Errors
/// What inference finds wrong; [`ImportError::Input`] when a disabled name is not a pass.
pub fn prepare(graph: &Graph, options: &PlanOptions) -> Result<Prepared, ImportError> {
    let facts: Vec<Fact> = graph.inputs.iter().map(|(id, fact)| distinct(graph.name(*id), fact)).collect();
    let mut graph = graph.clone();
    let mut decisions = passes::run_early(&mut graph, &options.disabled_passes)?;
    let mut graph = infer(&graph, &facts, &options.fold)?.graph;
    decisions.append(&mut passes::run_on_graph(&mut graph, &options.disabled_passes)?);
    let read = graph.nodes.iter().flat_map(|node| node.inputs.iter().flatten());
    let read: std::collections::HashSet<_> = graph.tensors(read.chain(&graph.outputs)).collect();
    graph.constants.retain(|id, _| read.contains(id));
    Ok(Prepared { graph, decisions })
}

/// The fact with a name of its own for each open dimension: callers may give sizes that differ where the model declares
/// one name.
fn distinct(input: &str, fact: &Fact) -> Fact {
    let own = |(axis, dim): (usize, &Dim)| match dim {
        Dim::Known(number) => Dim::Known(*number),
        Dim::Symbolic(_) => Dim::named(&format!("{input}.dim{axis}")),
    };
    Fact {
        shape: fact.shape.as_ref().map(|shape| shape.iter().enumerate().map(own).collect()),
        ..fact.clone()
    }
}
