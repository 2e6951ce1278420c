//! Forward inference: element types, shapes and contents of all values, as far as the inputs determine them.
//!
//! A node whose inputs are all constant is computed once by its operator's reference and becomes a constant, within
//! [`FoldLimits`]. A node that stands for a nested graph is replaced by that graph's nodes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use sardonyx_ops::ir::dim::Dim;
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::ir::graph::{Graph, Node, ValueId};
use sardonyx_ops::ir::item::{Item, Part};
use sardonyx_ops::ir::tensor::element_count;
use sardonyx_ops::ir::view::View;
use sardonyx_ops::operator::all_tensors;
use sardonyx_ops::problem::{Operand, Problem};
use sardonyx_ops::{DType, Expansion, OpError, Role, Tensor};

use crate::error::{Budget, ImportError, Place};

type Result<T> = std::result::Result<T, ImportError>;

/// How much constant folding may do. What exceeds a limit is left in the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldLimits {
    /// Bytes of one result.
    pub result_bytes: u64,
    /// Bytes of all results beyond what the graph's own constants take.
    pub total_bytes: u64,
    /// Operations of all folded nodes.
    pub operations: u64,
}

impl Default for FoldLimits {
    fn default() -> FoldLimits {
        FoldLimits { result_bytes: 64 << 20, total_bytes: 64 << 20, operations: 1 << 30 }
    }
}

impl FoldLimits {
    /// Enough to compute shapes, too little to touch weights: what looking at a model needs.
    pub fn shapes_only() -> FoldLimits {
        FoldLimits { result_bytes: 64 << 10, total_bytes: 1 << 20, operations: 1 << 20 }
    }
}

/// What inference found.
#[derive(Debug, Clone)]
pub struct Inferred {
    /// The graph that remains: folded nodes have become constants, expanded ones the nodes they stand for, and nodes
    /// that no output needs are gone. Values keep their ids; expanded nodes bring new ones.
    pub graph: Graph,
    /// What is known about each value; `None` when not even the element type is.
    pub facts: Vec<Option<Fact>>,
}

impl Inferred {
    /// What is known about a value.
    pub fn fact(&self, value: ValueId) -> Option<&Fact> {
        self.facts.get(value.0)?.as_ref()
    }
}

/// Infers from what is known about the graph's inputs, in their order. Contents given there are taken as constant.
///
/// # Errors
/// What operators find wrong, with the node's name; [`ImportError::BudgetExceeded`] when expansion makes more than
/// 200,000 nodes.
pub fn infer(graph: &Graph, inputs: &[Fact], limits: &FoldLimits) -> Result<Inferred> {
    let nodes: VecDeque<Node> = live_nodes(graph).into();
    let mut state = State {
        facts: vec![None; graph.names.len()],
        renamed: HashMap::new(),
        seen: nodes.len() as u64,
        limits: limits.clone(),
        graph: Graph { nodes: Vec::new(), ..graph.clone() },
    };
    let owned: u64 = graph.constants.values().map(|tensor| tensor.bytes().len() as u64).sum();
    state.limits.total_bytes = state.limits.total_bytes.saturating_add(owned);
    for (id, tensor) in &graph.constants {
        state.set(*id, Fact::constant(tensor.clone()));
    }
    for ((id, _), fact) in graph.inputs.iter().zip(inputs) {
        if let Some(value) = &fact.value {
            state.graph.constants.insert(*id, value.clone());
        }
        if !state.graph.items.contains_key(id) {
            state.set(*id, fact.clone());
        }
    }
    state.run(nodes)?;
    let State { mut graph, facts, .. } = state;
    graph.nodes = live_nodes(&graph);
    Ok(Inferred { graph, facts })
}

/// The nodes that some output of the graph needs.
pub(crate) fn live_nodes(graph: &Graph) -> Vec<Node> {
    let mut needed: HashSet<ValueId> = graph.tensors(&graph.outputs).collect();
    let mut live = Vec::new();
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().flatten().any(|output| needed.contains(output)) {
            needed.extend(node.inputs.iter().flatten());
            needed.extend(graph.tensors(node.inputs.iter().flatten()));
            live.push(node.clone());
        }
    }
    live.reverse();
    live
}

/// What is known of a node's inputs; `None` when one has not even an element type yet.
fn known<'f>(
    facts: &'f [Option<Fact>],
    graph: &Graph,
    renamed: &HashMap<ValueId, ValueId>,
    node: &Node,
) -> Option<Vec<Option<Item<&'f Fact>>>> {
    let fact = |id: &ValueId| facts.get(resolve(renamed, *id).0).and_then(Option::as_ref).ok_or(());
    let item = |id: ValueId| match graph.items.get(&id) {
        None => fact(&id).map(Item::Tensor).ok(),
        Some(item) => item.as_ref()?.try_map(&mut { fact }).ok(),
    };
    node.inputs.iter().map(|input| input.map_or(Some(None), |id| item(id).map(Some))).collect()
}

/// The value under whose id an output of an expanded node is found.
fn resolve(renamed: &HashMap<ValueId, ValueId>, mut id: ValueId) -> ValueId {
    // Each renaming leads to a value that was there before the renamed one was met, so this ends.
    while let Some(&source) = renamed.get(&id) {
        id = source;
    }
    id
}

struct State {
    graph: Graph,
    facts: Vec<Option<Fact>>,
    /// Outputs of expanded nodes that are values of another name.
    renamed: HashMap<ValueId, ValueId>,
    /// Nodes met so far, those of expansions included.
    seen: u64,
    /// What is left of the folding budget.
    limits: FoldLimits,
}

impl State {
    fn run(&mut self, mut nodes: VecDeque<Node>) -> Result<()> {
        const MOST_NODES: u64 = 200_000;
        while let Some(mut node) = nodes.pop_front() {
            for input in node.inputs.iter_mut().flatten() {
                *input = self.resolve(*input);
            }
            let place =
                || Place { node: Some(node.name.clone()), op: node.op.name().into(), ..Place::default() };
            let Some(items) = known(&self.facts, &self.graph, &self.renamed, &node) else {
                self.graph.nodes.push(node);
                continue;
            };
            match node.op.expand_items(&items).map_err(|error| ImportError::operator(place(), &error))? {
                Expansion::Stays => {}
                Expansion::Values(values) => {
                    self.set_values(&node, &values)?;
                    continue;
                }
                Expansion::Waits => {
                    self.graph.nodes.push(node);
                    continue;
                }
                Expansion::Graph { graph, inputs } => {
                    self.seen = self.seen.saturating_add(graph.nodes.len() as u64);
                    if self.seen > MOST_NODES {
                        return Err(ImportError::budget(place(), Budget::Nodes, self.seen, MOST_NODES));
                    }
                    let inner = self.splice(&node, &graph, &inputs)?;
                    inner.into_iter().rev().for_each(|node| nodes.push_front(node));
                    continue;
                }
            }
            let wrong = |error: OpError| ImportError::operator(place(), &error);
            let facts = all_tensors(&items).map_err(wrong)?;
            let mut results = node.op.infer(&facts, node.outputs.len()).map_err(wrong)?;
            for fact in &mut results {
                settle(fact).map_err(wrong)?;
            }
            if results.iter().any(|fact| fact.value.is_none())
                && let Some(folded) = fold(&node, &facts, &results, &mut self.limits).map_err(wrong)?
            {
                results = folded.into_iter().map(Fact::constant).collect();
            }
            if results.len() < node.outputs.len() {
                return Err(ImportError::internal(place(), "an output was not inferred"));
            }
            let mut computed = true;
            for (output, fact) in node.outputs.iter().zip(results) {
                let Some(id) = *output else { continue };
                match &fact.value {
                    Some(value) => {
                        self.graph.constants.insert(id, value.clone());
                    }
                    None => computed = false,
                }
                self.set(id, fact);
            }
            if !computed {
                self.graph.nodes.push(node);
            }
        }
        self.graph.outputs = self.graph.outputs.iter().map(|&id| self.resolve(id)).collect();
        let items = std::mem::take(&mut self.graph.items);
        let resolved = items
            .iter()
            .map(|(id, item)| (*id, item.as_ref().map(|item| item.map(&mut |id| self.resolve(*id)))));
        self.graph.items = resolved.collect();
        Ok(())
    }

    /// The outputs of a node are made of its inputs.
    fn set_values(&mut self, node: &Node, values: &[Item<Part>]) -> Result<()> {
        let place = || Place { node: Some(node.name.clone()), op: node.op.name().into(), ..Place::default() };
        let lost = || ImportError::internal(place(), "a value is made of nothing");
        let given: Vec<Vec<ValueId>> = node
            .inputs
            .iter()
            .map(|id| self.graph.tensors(id).map(|id| self.resolve(id)).collect())
            .collect();
        let find = |part: &Part| {
            given.get(part.input).and_then(|all| all.get(part.tensor)).copied().ok_or_else(lost)
        };
        let items: Vec<Item<ValueId>> =
            values.iter().map(|item| item.try_map(&mut { find })).collect::<Result<_>>()?;
        if items.len() < node.outputs.len() {
            return Err(ImportError::internal(place(), "an output was not inferred"));
        }
        for (output, item) in node.outputs.iter().zip(items) {
            match (output, item) {
                (None, _) => {}
                (Some(output), Item::Tensor(id)) => {
                    self.renamed.insert(*output, id);
                }
                (Some(output), item) => {
                    self.graph.items.insert(*output, Some(item));
                }
            }
        }
        Ok(())
    }

    /// The value under whose id an output of an expanded node is found.
    fn resolve(&self, id: ValueId) -> ValueId {
        resolve(&self.renamed, id)
    }

    fn set(&mut self, id: ValueId, fact: Fact) {
        if self.facts.len() <= id.0 {
            self.facts.resize(id.0.saturating_add(1), None);
        }
        if let Some(slot) = self.facts.get_mut(id.0) {
            *slot = Some(fact);
        }
    }

    /// The nodes of `inner` in place of `node`, over values of this graph.
    fn splice(&mut self, node: &Node, inner: &Graph, inputs: &[usize]) -> Result<Vec<Node>> {
        let place = || Place { node: Some(node.name.clone()), op: node.op.name().into(), ..Place::default() };
        let misfit = || ImportError::internal(place(), "a nested graph does not fit its node");
        let mut here: HashMap<ValueId, ValueId> = HashMap::new();
        let taken = inner.inputs.iter().map(|(id, _)| id).chain(inner.captures.iter().map(|(_, id)| id));
        for (&id, &input) in taken.zip(inputs) {
            here.insert(id, node.inputs.get(input).copied().flatten().ok_or_else(misfit)?);
        }
        let produced: HashSet<ValueId> =
            inner.nodes.iter().flat_map(|node| node.outputs.iter().flatten().copied()).collect();
        for (&id, output) in inner.outputs.iter().zip(&node.outputs) {
            if let Some(output) = *output
                && produced.contains(&id)
            {
                here.entry(id).or_insert(output);
            }
        }
        for (index, name) in inner.names.iter().enumerate() {
            let id = ValueId(index);
            if !here.contains_key(&id) && (produced.contains(&id) || inner.constants.contains_key(&id)) {
                here.insert(id, self.graph.add_value(format!("{}/{name}", node.name)));
            }
        }
        for (id, tensor) in &inner.constants {
            let id = here.get(id).copied().ok_or_else(misfit)?;
            self.graph.constants.insert(id, tensor.clone());
            self.set(id, Fact::constant(tensor.clone()));
        }
        for (id, output) in inner.outputs.iter().zip(&node.outputs) {
            let source = here.get(id).copied().ok_or_else(misfit)?;
            if let Some(output) = *output
                && source != output
            {
                self.renamed.insert(output, source);
            }
        }
        let place_all = |ids: &[Option<ValueId>]| -> Result<Vec<Option<ValueId>>> {
            ids.iter().map(|id| id.map(|id| here.get(&id).copied().ok_or_else(misfit)).transpose()).collect()
        };
        let nodes = inner.nodes.iter().map(|inside| {
            Ok(Node {
                name: format!("{}/{}", node.name, inside.name).into(),
                op: Arc::clone(&inside.op),
                inputs: place_all(&inside.inputs)?,
                outputs: place_all(&inside.outputs)?,
            })
        });
        nodes.collect()
    }
}

/// Refuses sizes beyond the address space, and turns known contents that were carried as sizes into a constant.
fn settle(fact: &mut Fact) -> std::result::Result<(), OpError> {
    let Some(dims) = fact.dims() else { return Ok(()) };
    let count = element_count(&dims).ok_or(OpError::Size)?;
    let bytes = if fact.dtype == DType::Str {
        count.checked_mul(size_of::<String>())
    } else {
        fact.dtype.bytes_for(count)
    };
    if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(OpError::Size);
    }
    if fact.value.is_some() || !matches!(fact.dtype, DType::I64 | DType::I32) {
        return Ok(());
    }
    let Some(sizes) = &fact.sizes else { return Ok(()) };
    let known = |dim: &Dim| dim.known().and_then(|n| i64::try_from(n).ok());
    let Some(numbers) = sizes.iter().map(known).collect::<Option<Vec<i64>>>() else { return Ok(()) };
    if numbers.len() != count {
        return Err(OpError::Internal("sizes and shape of a value differ"));
    }
    fact.value = Some(match fact.dtype {
        DType::I64 => Tensor::from_vec(&dims, numbers)?,
        _ => {
            let narrow: std::result::Result<Vec<i32>, _> = numbers.into_iter().map(i32::try_from).collect();
            Tensor::from_vec(&dims, narrow.map_err(|_| OpError::Size)?)?
        }
    });
    Ok(())
}

/// The outputs of a node whose inputs are all constant, if computing them stays within the limits.
fn fold(
    node: &Node,
    inputs: &[Option<&Fact>],
    results: &[Fact],
    limits: &mut FoldLimits,
) -> std::result::Result<Option<Vec<Tensor>>, OpError> {
    let values: Option<Vec<Option<&Tensor>>> =
        inputs.iter().map(|input| input.map_or(Some(None), |fact| fact.value.as_ref().map(Some))).collect();
    let Some(values) = values else { return Ok(None) };
    if !node.op.folds() {
        return Ok(None);
    }
    let dims: Option<Vec<Vec<usize>>> = results.iter().map(Fact::dims).collect();
    if let ([fact], Some([dims]), Some(Some(first))) = (results, dims.as_deref(), values.first())
        && node.op.role() == Role::View
        && fact.dtype == first.dtype()
    {
        return Ok(Some(vec![first.reshaped(dims)?]));
    }
    let bytes = |tensor: &Tensor| tensor_bytes(tensor.dtype(), tensor.len());
    let (bytes, operations) = match &dims {
        Some(all) => {
            let outputs: Vec<Operand<'_>> = results
                .iter()
                .zip(all)
                .map(|(fact, dims)| Operand { dtype: fact.dtype, dims, value: None, storage: None })
                .collect();
            let made = outputs
                .iter()
                .map(|output| tensor_bytes(output.dtype, output.len()))
                .fold(0, u64::saturating_add);
            let read = values.iter().map(|value| {
                value.map(|tensor| Operand {
                    dtype: tensor.dtype(),
                    dims: tensor.dims(),
                    value: Some(tensor),
                    storage: None,
                })
            });
            let problem = Problem { inputs: read.collect(), outputs, epilogue: None };
            (made, node.op.cost(&problem).flops)
        }
        // What depends on contents, such as the number of non-zeros, is bounded by the inputs' own size.
        None => {
            let read = values.iter().flatten().map(|tensor| bytes(tensor)).fold(0, u64::saturating_add);
            (read.saturating_mul(8), read)
        }
    };
    if bytes > limits.result_bytes || bytes > limits.total_bytes || operations > limits.operations {
        return Ok(None);
    }
    limits.operations = limits.operations.saturating_sub(operations);
    let aligned: Vec<Option<Tensor>> =
        values.into_iter().map(|value| value.cloned().map(Tensor::aligned)).collect();
    let views: Vec<Option<View<'_>>> = aligned.iter().map(|value| value.as_ref().map(Tensor::view)).collect();
    let tensors = node.op.reference(&views, node.outputs.len())?;
    let fits = tensors.len() >= results.len()
        && tensors.iter().zip(results).all(|(tensor, fact)| {
            tensor.dtype() == fact.dtype && fact.dims().is_none_or(|dims| dims == tensor.dims())
        });
    if !fits {
        return Err(OpError::Internal("the reference gives other types or dimensions than inference"));
    }
    let made =
        tensors.iter().map(|tensor| tensor_bytes(tensor.dtype(), tensor.len())).fold(0, u64::saturating_add);
    limits.total_bytes = limits.total_bytes.saturating_sub(made);
    Ok(Some(tensors))
}

fn tensor_bytes(dtype: DType, count: usize) -> u64 {
    match dtype {
        DType::Str => (count as u64).saturating_mul(size_of::<String>() as u64),
        dtype => dtype.bytes_for(count).map_or(u64::MAX, |bytes| bytes as u64),
    }
}
