//! What is quantized.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sardonyx_ops::DType;

use super::super::Excluded;
use super::super::draft::{Draft, float_of, label};
use crate::error::ImportError;
use crate::onnx::NodeProto;

type Result<T> = std::result::Result<T, ImportError>;

/// Operators worth integers of their own.
const ANCHORS: [&str; 4] = ["Conv", "ConvTranspose", "Gemm", "MatMul"];

/// Operators between them, all of whose inputs are values.
const JOINS: [&str; 3] = ["Add", "Concat", "Mul"];

/// Operators between them, of whose inputs the first is the value.
const BETWEEN: [&str; 7] =
    ["AveragePool", "Clip", "GlobalAveragePool", "LeakyRelu", "Relu", "Resize", "Sigmoid"];

/// Operators that give elements of their first input.
const MOVES: [&str; 9] = [
    "DepthToSpace",
    "Flatten",
    "MaxPool",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// A node that works on quantized values.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    /// The inputs that are values, constants among them; for anchors, the bias is not one.
    pub values: Vec<usize>,
    /// The `Relu` or `Clip` behind it, by position.
    pub end: Option<usize>,
    /// The name of the result that is quantized: that of `end`, if there is one.
    pub result: Arc<str>,
    /// Name and operator of the node.
    pub node: (Arc<str>, Arc<str>),
    /// It only moves elements.
    pub moves: bool,
    /// It has weights, and is worth a line of its own.
    pub anchor: bool,
}

/// Which nodes and values are quantized.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    /// By position.
    pub nodes: HashMap<usize, Chosen>,
    /// Activations, in order of the graph.
    pub values: Vec<Arc<str>>,
    /// The value that an activation has its scale from, when it is not its own.
    pub same: HashMap<Arc<str>, Arc<str>>,
    /// The bounds of `Relu` and `Clip` nodes behind chosen ones, by position.
    pub bounds: HashMap<usize, (f32, f32)>,
}

impl Choice {
    pub fn new(draft: &Draft, excluded: &Excluded) -> Result<Choice> {
        let facts = draft.facts()?;
        let readers = draft.readers();
        let mut first_reader: HashMap<&str, usize> = HashMap::new();
        for (i, node) in draft.nodes().iter().enumerate() {
            node.inputs.iter().for_each(|name| {
                first_reader.entry(name).or_insert(i);
            });
        }
        let is_single = |name: &str| match draft.constant(name) {
            Some(tensor) => tensor.dtype() == DType::F32,
            None => facts.get(name).is_some_and(|fact| fact.dtype == DType::F32),
        };
        let mut choice = Choice::default();
        let mut known: HashSet<Arc<str>> = HashSet::new();
        let mut ends: HashSet<usize> = HashSet::new();
        for (i, node) in draft.nodes().iter().enumerate() {
            let Some(output) = node.outputs.first() else { continue };
            if ends.contains(&i) || excluded.contains(&label(node)) {
                continue;
            }
            let Some(mut chosen) = candidate(draft, node, output) else { continue };
            let inputs: Vec<&Arc<str>> =
                chosen.values.iter().filter_map(|&index| node.inputs.get(index)).collect();
            let active: Vec<&Arc<str>> =
                inputs.iter().copied().filter(|name| draft.constant(name).is_none()).collect();
            let fits = if chosen.anchor {
                inputs.iter().all(|name| is_single(name))
            } else {
                inputs
                    .iter()
                    .all(|name| known.contains(*name) || (draft.constant(name).is_some() && is_single(name)))
            };
            // Only MatMul has both factors measured; weights that are computed stay in float with their operator.
            let varying = chosen.anchor
                && &*node.op_type != "MatMul"
                && inputs.get(1).is_none_or(|name| draft.constant(name).is_none());
            if active.is_empty() || !fits || varying {
                continue;
            }
            for name in active {
                if known.insert(name.clone()) {
                    choice.values.push(name.clone());
                }
            }
            // What is bounded right behind an operator is quantized once, behind the bound.
            let end = first_reader.get(&**output).copied().filter(|_| readers.get(output) == Some(&1));
            let end = end.and_then(|j| Some((j, draft.nodes().get(j)?)));
            if let Some((j, bound)) =
                end.filter(|(_, bound)| !chosen.moves && !excluded.contains(&label(bound)))
                && let (Some(result), Some(limits)) = (bound.outputs.first(), bounds(draft, bound))
            {
                ends.insert(j);
                choice.bounds.insert(j, limits);
                chosen.end = Some(j);
                chosen.result = result.clone();
            }
            if known.insert(chosen.result.clone()) {
                choice.values.push(chosen.result.clone());
            }
            if let (true, Some(from)) = (chosen.moves, node.inputs.first()) {
                let root = choice.root(from).clone();
                choice.same.insert(chosen.result.clone(), root);
            }
            choice.nodes.insert(i, chosen);
        }
        Ok(choice)
    }

    /// The value that has the scale of a value.
    pub fn root<'v>(&'v self, name: &'v Arc<str>) -> &'v Arc<str> {
        self.same.get(name).unwrap_or(name)
    }

    /// The values with scales of their own.
    pub fn roots(&self) -> Vec<Arc<str>> {
        self.values.iter().filter(|name| !self.same.contains_key(*name)).cloned().collect()
    }
}

/// What a node would be if its values were quantized.
fn candidate(draft: &Draft, node: &NodeProto, output: &Arc<str>) -> Option<Chosen> {
    let op = &*node.op_type;
    let present = node.inputs.iter().filter(|name| !name.is_empty()).count();
    let (anchor, moves) = (ANCHORS.contains(&op), MOVES.contains(&op));
    let values = match op {
        _ if !node.domain.is_empty() || node.outputs.iter().skip(1).any(|name| !name.is_empty()) => {
            return None;
        }
        "Gemm" if float_of(node, "alpha", 1.0) != 1.0 || float_of(node, "beta", 1.0) != 1.0 => return None,
        _ if anchor => vec![0, 1],
        _ if JOINS.contains(&op) => (0..present).collect(),
        "Clip" => bounds(draft, node).map(|_| vec![0])?,
        _ if moves || BETWEEN.contains(&op) => vec![0],
        _ => return None,
    };
    let node = (label(node), node.op_type.clone());
    Some(Chosen { values, end: None, result: output.clone(), node, moves, anchor })
}

/// The bounds of a `Relu` or of a `Clip` with constant bounds.
pub(super) fn bounds(draft: &Draft, node: &NodeProto) -> Option<(f32, f32)> {
    let bound = |index: usize, default: f32| match node.inputs.get(index).filter(|name| !name.is_empty()) {
        None => Some(default),
        Some(name) => draft.constant(name)?.to_vec::<f32>().ok()?.first().copied(),
    };
    match &*node.op_type {
        _ if !node.domain.is_empty() => None,
        "Relu" => Some((0.0, f32::INFINITY)),
        "Clip" => Some((bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?)),
        _ => None,
    }
}
