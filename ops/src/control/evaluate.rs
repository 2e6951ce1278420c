//! A nested graph computed node by node with the operators' references.

use std::collections::HashMap;

use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::graph::{Graph, Node, ValueId};
use crate::ir::item::{Item, Part};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::concat::Concat;
use crate::movement::sizes;
use crate::operator::{Expansion, Operator, all_tensors};

/// The outputs of a graph for these inputs and, after them, captures.
///
/// # Errors
/// What an operator finds wrong; or when `given` has another length than the graph's inputs and captures.
pub fn evaluate(graph: &Graph, given: Vec<Tensor>) -> Result<Vec<Tensor>, OpError> {
    let items = evaluate_items(graph, given.into_iter().map(Item::Tensor).collect())?;
    let tensor = |item: Item<Tensor>| match item {
        Item::Tensor(tensor) => Ok(tensor),
        other => Err(OpError::unsupported(format!("{} that a run on the host gives", other.kind()))),
    };
    items.into_iter().map(tensor).collect()
}

/// The same where values may be sequences and optionals.
fn evaluate_items(graph: &Graph, given: Vec<Item<Tensor>>) -> Result<Vec<Item<Tensor>>, OpError> {
    let got = given.len();
    if got != graph.inputs.len() + graph.captures.len() {
        return Err(OpError::Arity { what: "inputs of a nested graph", expected: "as many as it has", got });
    }
    let ids = graph.inputs.iter().map(|(id, _)| *id).chain(graph.captures.iter().map(|(_, id)| *id));
    let mut values: HashMap<ValueId, Item<Tensor>> = ids.zip(given).collect();
    values.extend(graph.constants.iter().map(|(id, tensor)| (*id, Item::Tensor(tensor.clone()))));
    let missing = OpError::Internal("a nested graph reads a value that nothing writes");
    let last = last_uses(graph);
    for (index, node) in graph.nodes.iter().enumerate() {
        let find = |id: &ValueId| values.get(id).cloned().ok_or_else(|| missing.clone());
        let inputs = node.inputs.iter().map(|id| id.as_ref().map(find).transpose());
        let outputs = apply(node, &inputs.collect::<Result<Vec<_>, _>>()?)?;
        for (id, item) in node.outputs.iter().zip(outputs) {
            if let Some(id) = id {
                values.insert(*id, item);
            }
        }
        for id in node.inputs.iter().flatten().filter(|id| last.get(id) == Some(&index)) {
            values.remove(id);
        }
    }
    graph.outputs.iter().map(|id| values.get(id).cloned().ok_or_else(|| missing.clone())).collect()
}

/// The outputs of a node.
fn apply(node: &Node, inputs: &[Option<Item<Tensor>>]) -> Result<Vec<Item<Tensor>>, OpError> {
    let constant = |tensor: &Tensor| Fact::constant(tensor.clone().aligned());
    let facts: Vec<Option<Item<Fact>>> =
        inputs.iter().map(|item| Some(item.as_ref()?.map(&mut { constant }))).collect();
    let known: Vec<Option<Item<&Fact>>> =
        facts.iter().map(|item| Some(item.as_ref()?.map(&mut |fact| fact))).collect();
    let all_tensors = all_tensors(&known);
    match node.op.expand_items(&known)? {
        Expansion::Values(values) => {
            let lost = OpError::Internal("a value is made of nothing");
            let tensors: Vec<Vec<&Tensor>> =
                inputs.iter().map(|item| item.as_ref().map_or(Vec::new(), Item::tensors)).collect();
            let find = |part: &Part| {
                let tensor = tensors.get(part.input).and_then(|all| all.get(part.tensor));
                tensor.map(|tensor| (*tensor).clone()).ok_or_else(|| lost.clone())
            };
            values.iter().map(|item| item.try_map(&mut { find })).collect()
        }
        Expansion::Graph { graph, inputs: from } if node.op.gives_items() || all_tensors.is_err() => {
            let given = from.iter().map(|&index| inputs.get(index).cloned().flatten());
            let given = given.collect::<Option<_>>().ok_or(OpError::Internal("an input is missing"))?;
            evaluate_items(&graph, given)
        }
        expansion => {
            let facts = all_tensors?;
            // References rely on what inference checks.
            if matches!(expansion, Expansion::Stays) {
                node.op.infer(&facts, node.outputs.len())?;
            }
            let views: Vec<Option<View<'_>>> =
                facts.iter().map(|fact| Some((*fact)?.value.as_ref()?.view())).collect();
            let outputs = node.op.reference(&views, node.outputs.len())?;
            Ok(outputs.into_iter().map(Item::Tensor).collect())
        }
    }
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
