//! A nested graph computed node by node with the operators' references.

use std::collections::HashMap;

use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::graph::{Graph, ValueId};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::concat::Concat;
use crate::movement::sizes;
use crate::operator::{Expansion, Operator};

/// The outputs of a graph for these inputs and, after them, captures.
///
/// # Errors
/// What an operator finds wrong; or when `given` has another length than the graph's inputs and captures.
pub fn evaluate(graph: &Graph, given: Vec<Tensor>) -> Result<Vec<Tensor>, OpError> {
    let got = given.len();
    if got != graph.inputs.len() + graph.captures.len() {
        return Err(OpError::Arity { what: "inputs of a nested graph", expected: "as many as it has", got });
    }
    let ids = graph.inputs.iter().map(|(id, _)| *id).chain(graph.captures.iter().map(|(_, id)| *id));
    let mut values: HashMap<ValueId, Tensor> = ids.zip(given).collect();
    let missing = OpError::Internal("a nested graph reads a value that nothing writes");
    let last = last_uses(graph);
    for (index, node) in graph.nodes.iter().enumerate() {
        let find = |id: &ValueId| values.get(id).or_else(|| graph.constants.get(id)).cloned();
        let inputs: Vec<Option<Tensor>> = node
            .inputs
            .iter()
            .map(|id| match id {
                Some(id) => find(id).map(|tensor| Some(tensor.aligned())).ok_or_else(|| missing.clone()),
                None => Ok(None),
            })
            .collect::<Result<_, _>>()?;
        // References rely on what inference checks.
        let facts: Vec<Option<Fact>> =
            inputs.iter().map(|tensor| tensor.clone().map(Fact::constant)).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        if matches!(node.op.expand(&facts)?, Expansion::Stays) {
            node.op.infer(&facts, node.outputs.len())?;
        }
        let views: Vec<Option<View<'_>>> =
            inputs.iter().map(|tensor| tensor.as_ref().map(Tensor::view)).collect();
        let outputs = node.op.reference(&views, node.outputs.len())?;
        for (id, tensor) in node.outputs.iter().zip(outputs) {
            if let Some(id) = id {
                values.insert(*id, tensor);
            }
        }
        for id in node.inputs.iter().flatten().filter(|id| last.get(id) == Some(&index)) {
            values.remove(id);
        }
    }
    let find = |id: &ValueId| values.get(id).or_else(|| graph.constants.get(id)).cloned();
    graph.outputs.iter().map(|id| find(id).ok_or_else(|| missing.clone())).collect()
}

/// For each value that is no output: the last node that reads it.
fn last_uses(graph: &Graph) -> HashMap<ValueId, usize> {
    let mut last = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().flatten().for_each(|id| {
            last.insert(*id, index);
        });
    }
    graph.outputs.iter().for_each(|id| {
        last.remove(id);
    });
    last
}

/// Copies of all inputs given; absent ones end the list.
pub(super) fn tensors(views: &[Option<View<'_>>]) -> Result<Vec<Tensor>, OpError> {
    let given = |view: &Option<View<'_>>| view.map(|view| view.to_tensor());
    views.iter().map(given).collect::<Option<_>>().ok_or(OpError::Internal("an input is missing"))
}

/// The truth value of a tensor of one element.
///
/// # Errors
/// When it is not a bool, or not one element.
pub(super) fn truth(tensor: &View<'_>, input: usize) -> Result<bool, OpError> {
    if tensor.dtype != crate::DType::Bool {
        return Err(OpError::Type { input, expected: "bool", got: tensor.dtype });
    }
    match tensor.bytes {
        [byte] => Ok(*byte != 0),
        _ => Err(OpError::constraint("condition", "one element", tensor.len())),
    }
}

/// Tensors of one shape along a new axis.
///
/// # Errors
/// When their shapes differ, or there are none.
pub(super) fn stacked(all: &[Tensor], axis: i64) -> Result<Tensor, OpError> {
    let rank = all.first().map_or(0, |tensor| tensor.dims().len());
    let at = sizes::axis(axis, rank + 1)?;
    let rows = all.iter().map(|tensor| {
        let mut dims = tensor.dims().to_vec();
        if at > dims.len() {
            return Err(OpError::constraint("rank of what a body yields", rank, dims.len()));
        }
        dims.insert(at, 1);
        Ok(tensor.reshaped(&dims)?)
    });
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let views: Vec<Option<View<'_>>> = rows.iter().map(|tensor| Some(tensor.view())).collect();
    let joined = Concat { axis }.reference(&views, 1)?;
    joined.into_iter().next().ok_or(OpError::Internal("Concat gave nothing"))
}

/// What no iteration yields, given what one would have.
pub(super) fn nothing_of(tensor: &Tensor) -> Result<Tensor, OpError> {
    let dims: Vec<usize> = [0].into_iter().chain(tensor.dims().iter().copied()).collect();
    Ok(match tensor.dtype() {
        crate::DType::Str => Tensor::from_strings(&dims, Vec::new())?,
        dtype => Tensor::zeroed(dtype, &dims)?,
    })
}
