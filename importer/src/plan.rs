//! From a graph and the sizes of its inputs to plans.
//!
//! A graph whose shapes follow from the sizes of its inputs is one plan. Where shapes depend on data (`NonZero`,
//! `Reshape` to a computed shape), [`plan`] returns a first [`Stage`] and the [`Rest`] of the graph; the caller runs the
//! stage and calls [`plan`] again on the rest, whose inputs have become concrete. Every stage consumes at least one
//! node or asks for contents that were not known, so the loop ends:
//!
//! ```text
//! let mut stage = plan(graph, facts)?;
//! loop {
//!     let outputs = run(stage, inputs);
//!     let Some(rest) = stage.rest else { return outputs };
//!     inputs = rest.takes.map(|take| take.source of inputs or outputs);
//!     facts = inputs.map(|tensor| take.value ? Fact::constant(tensor) : Fact::known(dtype, dims));
//!     stage = plan(&rest.graph, facts)?;
//! }
//! ```
//!
//! The outputs of the last stage are the model's outputs, in order.

use std::collections::{HashMap, HashSet};

use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::ir::graph::{Graph, Node, ValueId};
use sardonyx_ops::ir::item::Item;
use sardonyx_ops::plan::{Plan, PlanStep, PlanValue};
use sardonyx_ops::{DType, Tensor};

use crate::error::{ImportError, Place, UnsupportedFault};
use crate::infer::{FoldLimits, Inferred, infer};
use crate::passes;

type Result<T> = std::result::Result<T, ImportError>;

/// Integers and truth values of at most this many elements can be asked for to plan the rest of a graph.
pub const KNOWN_ELEMENTS: usize = 1024;

/// The same for other types: scales and limits, but not data.
pub const KNOWN_FLOATS: usize = 16;

/// What a caller may choose about planning.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PlanOptions {
    /// Names of passes that do not run; see [`passes::names`].
    pub disabled_passes: Vec<String>,
    /// How much constant folding may do.
    pub fold: FoldLimits,
}

/// A part of a model that can run now.
#[derive(Debug, Clone)]
pub struct Stage {
    /// What to run.
    pub work: Work,
    /// What remains after it.
    pub rest: Option<Rest>,
    /// Of the last stage: what the model's outputs are made of, by index of the stage's outputs.
    pub gives: Vec<Item<usize>>,
}

/// What a stage runs.
#[derive(Debug, Clone)]
pub enum Work {
    /// A plan; its inputs are the graph's inputs, in order. An output may be an input or a constant.
    Compiled(Plan),
    /// One node that no plan can hold: its outputs have sizes that only its reference finds out, say. It runs on the
    /// host.
    Evaluate {
        /// The node.
        node: Node,
        /// What it reads.
        inputs: Vec<Option<HostInput>>,
        /// Why no plan holds it.
        reason: &'static str,
    },
}

/// What a node on the host reads.
#[derive(Debug, Clone)]
pub enum HostInput {
    /// The stage's input of this index.
    Input(usize),
    /// A constant.
    Constant(Tensor),
}

/// The part of a graph that waits for a stage's results.
#[derive(Debug, Clone)]
pub struct Rest {
    /// The remaining nodes. It has the outputs of the whole; those computed already are among its inputs.
    pub graph: Graph,
    /// Where each input of `graph` comes from.
    pub takes: Vec<Take>,
}

/// An input of the rest of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Take {
    /// Where it comes from.
    pub source: Source,
    /// Whether planning the rest wants its contents, not only its size. It must get them then, or it asks again.
    pub value: bool,
}

/// A value that is there when a stage has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The stage's input of this index.
    Input(usize),
    /// The stage's output of this index: of the plan, or of the evaluated node.
    Output(usize),
}

/// Plans as much of a graph as the sizes of its inputs determine. Each fact must have known dimensions; one with a
/// value makes that input a constant, and the plan right for that value only.
///
/// # Errors
/// [`ImportError::Input`] when the inputs do not fit the graph, and what inference finds wrong.
pub fn plan(graph: &Graph, inputs: &[Fact], options: &PlanOptions) -> Result<Stage> {
    check_inputs(graph, inputs)?;
    let inferred = infer(graph, inputs, &options.fold)?;
    let graph = &inferred.graph;
    let mut available: HashSet<ValueId> = graph.inputs.iter().map(|(id, _)| *id).collect();
    available.extend(graph.constants.keys());
    let given = available.clone();
    let (mut ready, mut waiting) = (Vec::new(), Vec::new());
    for node in &graph.nodes {
        if node.inputs.iter().flatten().all(|id| available.contains(id))
            && obstacle(&inferred, node).is_none()
            && unplanned(node, &inferred).is_empty()
        {
            available.extend(node.outputs.iter().flatten());
            ready.push(node.clone());
        } else {
            waiting.push(node.clone());
        }
    }
    if waiting.is_empty() {
        let outputs: Vec<ValueId> = graph.tensors(&graph.outputs).collect();
        let work = Work::Compiled(compile(&inferred, &ready, outputs, options)?);
        let mut index = 0..;
        let mut next = |_: &ValueId| index.next().unwrap_or_default();
        let gives = graph.outputs.iter().map(|id| graph.item(*id).map(&mut next)).collect();
        return Ok(Stage { work, rest: None, gives });
    }
    let (rest, outputs) = remaining(&inferred, &waiting, &available, None)?;
    // Contents that were not known may be all that is missing.
    let unasked = |(take, (id, _)): (&Take, &(ValueId, Fact))| {
        take.value && inferred.fact(*id).is_some_and(|fact| fact.value.is_none())
    };
    if ready.is_empty() && !rest.takes.iter().zip(&rest.graph.inputs).any(unasked) {
        // The first node in topological order reads only what is given.
        let node = waiting.remove(0);
        if let Some(id) = node.inputs.iter().flatten().find(|id| graph.items.contains_key(*id)) {
            let place =
                Place { node: Some(node.name.clone()), op: node.op.name().into(), ..Place::default() };
            let detail = format!("{} that a run on the host reads", graph.item(*id).kind());
            return Err(ImportError::unsupported(place, UnsupportedFault::ValueKind, detail));
        }
        let after: HashSet<ValueId> = given.iter().chain(node.outputs.iter().flatten()).copied().collect();
        let (rest, _) = remaining(&inferred, &waiting, &after, Some(&node))?;
        let inputs = node.inputs.iter().map(|id| id.map(|id| host_input(graph, id, &node)).transpose());
        let inputs = inputs.collect::<Result<_>>()?;
        let reason = obstacle(&inferred, &node).unwrap_or("it comes after such nodes");
        let work = Work::Evaluate { node, inputs, reason };
        return Ok(Stage { work, rest: Some(rest), gives: Vec::new() });
    }
    let work = Work::Compiled(compile(&inferred, &ready, outputs, options)?);
    Ok(Stage { work, rest: Some(rest), gives: Vec::new() })
}

/// Why a plan cannot hold a node whose inputs are there.
fn obstacle(inferred: &Inferred, node: &Node) -> Option<&'static str> {
    let fact = |id: &ValueId| inferred.fact(*id);
    let is_text = |id: &ValueId| fact(id).is_some_and(|fact| fact.dtype == DType::Str);
    if node.inputs.iter().chain(&node.outputs).flatten().any(is_text) {
        return Some("it handles text");
    }
    let mut outputs = node.outputs.iter().flatten();
    if outputs.clone().any(|id| fact(id).is_none()) {
        return Some("how its nested graph runs depends on data");
    }
    outputs
        .any(|id| fact(id).is_none_or(|fact| fact.dims().is_none()))
        .then_some("the size of its result depends on data")
}

fn check_inputs(graph: &Graph, inputs: &[Fact]) -> Result<()> {
    if inputs.len() != graph.inputs.len() {
        let detail = format!("the model takes {} inputs, {} are given", graph.inputs.len(), inputs.len());
        return Err(ImportError::Input { name: "".into(), detail });
    }
    for ((id, declared), given) in graph.inputs.iter().zip(inputs) {
        let fail = |detail: String| Err(ImportError::Input { name: graph.name(*id).into(), detail });
        // Without a shape the type may be a guess: of a nested graph's input, of a result that only a run finds out.
        if declared.dtype != given.dtype && declared.shape.is_some() {
            return fail(format!("the model declares {}, {} is given", declared.dtype, given.dtype));
        }
        let Some(dims) = given.dims() else {
            return fail(format!("its dimensions are not all known: {:?}", given.shape));
        };
        let Some(shape) = &declared.shape else { continue };
        let fits = shape.len() == dims.len()
            && shape.iter().zip(&dims).all(|(declared, got)| declared.known().is_none_or(|n| n == *got));
        if !fits {
            return fail(format!("the model declares {shape:?}, {dims:?} is given"));
        }
    }
    Ok(())
}

fn host_input(graph: &Graph, id: ValueId, node: &Node) -> Result<HostInput> {
    if let Some(tensor) = graph.constants.get(&id) {
        return Ok(HostInput::Constant(tensor.clone()));
    }
    let index = graph.inputs.iter().position(|(input, _)| *input == id);
    index.map(HostInput::Input).ok_or_else(|| {
        let place = Place { node: Some(node.name.clone()), op: node.op.name().into(), ..Place::default() };
        ImportError::internal(place, "no stage provides an input")
    })
}

/// The values whose contents a node is planned by and that are not known yet, but can be asked for.
fn unplanned(node: &Node, inferred: &Inferred) -> Vec<ValueId> {
    let unknown = |id: &ValueId| {
        inferred.fact(*id).is_some_and(|fact| {
            fact.value.is_none() && fact.dims().is_some_and(|dims| is_small(fact.dtype, &dims))
        })
    };
    let indices = node.op.planned_by().iter();
    indices.filter_map(|&index| node.inputs.get(index).copied().flatten()).filter(unknown).collect()
}

/// Whether the contents of a value can be asked for.
fn is_small(dtype: DType, dims: &[usize]) -> bool {
    let integer = matches!(dtype, DType::I64 | DType::I32 | DType::Bool);
    let most = if integer { KNOWN_ELEMENTS } else { KNOWN_FLOATS };
    dims.iter().product::<usize>() <= most
}

/// The graph of the waiting nodes, and the values that a plan must give for it. `evaluated` is the node that runs
/// instead of a plan.
fn remaining(
    inferred: &Inferred,
    waiting: &[Node],
    available: &HashSet<ValueId>,
    evaluated: Option<&Node>,
) -> Result<(Rest, Vec<ValueId>)> {
    let whole = &inferred.graph;
    let mut rest = Graph {
        names: whole.names.clone(),
        outputs: whole.outputs.clone(),
        items: whole.items.clone(),
        ..Graph::default()
    };
    // Contents matter for nodes that wait although all they read is there.
    let stuck = |node: &&Node| whole.tensors(node.inputs.iter().flatten()).all(|id| available.contains(&id));
    let wants = |node: &Node| -> Vec<ValueId> {
        let unplanned = unplanned(node, inferred);
        if !unplanned.is_empty() {
            return unplanned;
        }
        let inputs = node.inputs.iter().enumerate().filter(|(index, _)| node.op.wants_value(*index));
        inputs.filter_map(|(_, id)| *id).collect()
    };
    let wanted: HashSet<ValueId> = waiting.iter().filter(stuck).flat_map(wants).collect();
    let mut takes = Vec::new();
    let mut outputs = Vec::new();
    let mut met = HashSet::new();
    let read = waiting.iter().flat_map(|node| node.inputs.iter().flatten()).chain(&whole.outputs);
    for id in whole.tensors(read).filter(|id| available.contains(id)) {
        if !met.insert(id) {
            continue;
        }
        if let Some(tensor) = whole.constants.get(&id) {
            rest.constants.insert(id, tensor.clone());
            continue;
        }
        let source = match whole.inputs.iter().position(|(input, _)| *input == id) {
            Some(index) => Source::Input(index),
            None => match evaluated {
                Some(node) => match node.outputs.iter().position(|output| *output == Some(id)) {
                    Some(index) => Source::Output(index),
                    None => return Err(ImportError::internal(Place::model(), "no stage provides a value")),
                },
                None => {
                    outputs.push(id);
                    Source::Output(outputs.len() - 1)
                }
            },
        };
        let fact = inferred.fact(id);
        let small = |fact: &Fact| fact.dims().is_some_and(|dims| is_small(fact.dtype, &dims));
        takes.push(Take { source, value: wanted.contains(&id) && fact.is_some_and(small) });
        // An evaluated node may not even say its types beforehand.
        rest.inputs.push((id, fact.cloned().unwrap_or_else(|| Fact::unranked(DType::F32))));
    }
    rest.nodes = waiting.to_vec();
    Ok((Rest { graph: rest, takes }, outputs))
}

/// A plan of these nodes, after all passes.
fn compile(
    inferred: &Inferred,
    nodes: &[Node],
    outputs: Vec<ValueId>,
    options: &PlanOptions,
) -> Result<Plan> {
    let graph = &inferred.graph;
    let mut plan = Plan::default();
    let mut ids: HashMap<ValueId, ValueId> = HashMap::new();
    let mut place = |id: ValueId, plan: &mut Plan| -> Result<ValueId> {
        if let Some(&known) = ids.get(&id) {
            return Ok(known);
        }
        let fact = inferred.fact(id);
        let (Some(fact), Some(dims)) = (fact, fact.and_then(Fact::dims)) else {
            let place = Place { value: Some(graph.name(id).into()), ..Place::default() };
            return Err(ImportError::internal(place, "a planned value has no size"));
        };
        plan.values.push(PlanValue {
            name: graph.names.get(id.0).cloned().unwrap_or_default(),
            dtype: fact.dtype,
            dims,
            constant: graph.constants.get(&id).cloned(),
        });
        let placed = ValueId(plan.values.len() - 1);
        ids.insert(id, placed);
        Ok(placed)
    };
    for (id, _) in &graph.inputs {
        let id = place(*id, &mut plan)?;
        plan.inputs.push(id);
    }
    for node in nodes {
        let mut step = PlanStep {
            op: node.op.clone(),
            inputs: Vec::with_capacity(node.inputs.len()),
            outputs: Vec::with_capacity(node.outputs.len()),
            epilogue: None,
            nodes: vec![node.name.clone()],
        };
        for id in &node.inputs {
            step.inputs.push(id.map(|id| place(id, &mut plan)).transpose()?);
        }
        for id in &node.outputs {
            step.outputs.push(id.map(|id| place(id, &mut plan)).transpose()?);
        }
        plan.steps.push(step);
    }
    for id in outputs {
        let id = place(id, &mut plan)?;
        plan.outputs.push(id);
    }
    passes::run(&mut plan, &options.disabled_passes)?;
    Ok(plan)
}
