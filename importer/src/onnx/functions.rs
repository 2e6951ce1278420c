//! Local functions: every call is replaced by the function's body (`docs/IR.md`, "Functions").
//!
//! A body's names get a prefix of their own per call, `fn3.Gelu/`, so that they meet no other name; its
//! references to attributes become the values of the call, or defaults, or vanish.

mod cost;

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt, HashSet};

use super::attribute::{AttributeKind, AttributeProto, AttributeValue};
use super::limits::LoadLimits;
use super::model::{FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, ValueInfoProto};
use super::tensor::TensorProto;
use super::versions::FunctionKey;
use crate::error::{Budget, ImportError, InvalidFault, Place};

use cost::Cost;

type Result<T> = std::result::Result<T, ImportError>;

/// Replaces all calls in the main graph and its subgraphs, and drops the functions. The model has used
/// `structure_bytes` of its limit already.
pub(super) fn inline(model: &mut ModelProto, limits: &LoadLimits, structure_bytes: u64) -> Result<()> {
    if model.functions.is_empty() {
        return Ok(());
    }
    let functions = std::mem::take(&mut model.functions);
    let table = Table::new(&functions)?;
    table.refuse_recursion()?;
    let mut names = HashSet::default();
    collect_names(&model.graph, &mut names);
    let spent = Cost { bytes: structure_bytes, ..Cost::of_graph(&model.graph) };
    let mut inliner = Inliner { limits, table, stem: free_stem(&names), calls: 0, spent };
    inliner.graph(&mut model.graph, 0)
}

/// A function with what is the same for all its calls.
struct Callee<'f> {
    function: &'f FunctionProto,
    cost: Cost,
    /// Positions in the table of the functions that the body calls.
    calls: Vec<usize>,
    /// The version of ONNX's own operators in the body.
    onnx_opset: i64,
}

struct Table<'f> {
    callees: Vec<Callee<'f>>,
    positions: HashMap<FunctionKey, usize>,
}

impl<'f> Table<'f> {
    fn new(functions: &'f [FunctionProto]) -> Result<Table<'f>> {
        let mut positions = HashMap::with_capacity(functions.len());
        for (i, function) in functions.iter().enumerate() {
            if positions.insert(function.key(), i).is_some() {
                let detail = "two functions of one name";
                return Err(ImportError::invalid(function.place(), InvalidFault::DuplicateName, detail));
            }
        }
        let mut callees = Vec::with_capacity(functions.len());
        for function in functions {
            check_signature(function)?;
            let mut calls = Vec::new();
            collect_calls(&function.nodes, &positions, &mut calls);
            for default in &function.attribute_defaults {
                graphs_of(default).for_each(|graph| collect_calls(&graph.nodes, &positions, &mut calls));
            }
            calls.sort_unstable();
            calls.dedup();
            let onnx = function.opset_imports.iter().find(|import| import.domain.is_empty());
            let mut cost = Cost::of_nodes(&function.nodes);
            // The call itself counts, so that empty functions are not free.
            cost.add(Cost { nodes: 1, bytes: 0 });
            callees.push(Callee {
                function,
                cost,
                calls,
                onnx_opset: onnx.map_or(1, |import| import.version),
            });
        }
        Ok(Table { callees, positions })
    }

    /// Depth-first over who calls whom, without recursion.
    fn refuse_recursion(&self) -> Result<()> {
        #[derive(Clone, Copy, PartialEq)]
        enum State {
            New,
            Open,
            Done,
        }
        let mut states = vec![State::New; self.callees.len()];
        for root in 0..self.callees.len() {
            // A function, and how many of its calls have been followed.
            let mut path: Vec<(usize, usize)> = vec![(root, 0)];
            while let Some((at, next)) = path.last_mut() {
                let (Some(state), Some(callee)) = (states.get_mut(*at), self.callees.get(*at)) else { break };
                if *state == State::Done {
                    path.pop();
                    continue;
                }
                *state = State::Open;
                let Some(&called) = callee.calls.get(*next) else {
                    *state = State::Done;
                    path.pop();
                    continue;
                };
                *next = next.saturating_add(1);
                match states.get(called) {
                    Some(State::New) => path.push((called, 0)),
                    Some(State::Open) => {
                        let detail = "the function calls itself, perhaps through others";
                        let place = callee.function.place();
                        return Err(ImportError::invalid(place, InvalidFault::Function, detail));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Formal names are distinct, the body assigns each name once, and every output comes from somewhere.
fn check_signature(function: &FunctionProto) -> Result<()> {
    let fail = |value: &Arc<str>, detail: &'static str| {
        let place = function.place().with_value(value);
        Err(ImportError::invalid(place, InvalidFault::Function, detail))
    };
    let mut defined: HashSet<&str> = HashSet::default();
    for input in &function.inputs {
        if input.is_empty() || !defined.insert(input) {
            return fail(input, "formal inputs need distinct names");
        }
    }
    for output in function.nodes.iter().flat_map(|node| &node.outputs) {
        if !output.is_empty() && !defined.insert(output) {
            return fail(output, "the body writes this name twice, or writes an input");
        }
    }
    for output in &function.outputs {
        if !defined.contains(&**output) {
            return fail(output, "nothing in the body writes this output");
        }
    }
    let mut parameters: HashSet<&str> = HashSet::default();
    let defaults = function.attribute_defaults.iter().map(|attribute| &attribute.name);
    for name in function.attributes.iter().chain(defaults) {
        if !parameters.insert(name) {
            return fail(name, "two attribute parameters have this name");
        }
    }
    let reference = |attribute: &&AttributeProto| matches!(attribute.value, AttributeValue::Reference { .. });
    match function.attribute_defaults.iter().find(reference) {
        Some(default) => fail(&default.name, "a default cannot be a reference"),
        None => Ok(()),
    }
}

fn graphs_of(attribute: &AttributeProto) -> impl Iterator<Item = &GraphProto> {
    match &attribute.value {
        AttributeValue::Graph(graph) => std::slice::from_ref(&**graph).iter(),
        AttributeValue::Graphs(graphs) => graphs.iter(),
        _ => [].iter(),
    }
}

/// Recursion here and below is bounded by the depth limit of decoding.
fn collect_calls(nodes: &[NodeProto], positions: &HashMap<FunctionKey, usize>, calls: &mut Vec<usize>) {
    for node in nodes {
        calls.extend(positions.get(&node.key()));
        node.subgraphs().for_each(|graph| collect_calls(&graph.nodes, positions, calls));
    }
}

fn collect_names<'g>(graph: &'g GraphProto, names: &mut HashSet<&'g str>) {
    names.extend(graph.inputs.iter().map(|value| &*value.name));
    names.extend(graph.initializers.iter().map(|tensor| &*tensor.name));
    for node in &graph.nodes {
        names.extend(node.inputs.iter().chain(&node.outputs).map(|name| &**name));
        node.subgraphs().for_each(|graph| collect_names(graph, names));
    }
}

/// `fn`, or as many underscores behind it as keep every `STEM<number>.` free of the model's own names.
fn free_stem(names: &HashSet<&str>) -> String {
    let longest = names
        .iter()
        .filter_map(|name| {
            let rest = name.strip_prefix("fn")?;
            let underscores = rest.len().saturating_sub(rest.trim_start_matches('_').len());
            Some(underscores.saturating_add(1))
        })
        .max();
    format!("fn{}", "_".repeat(longest.unwrap_or(0)))
}

struct Inliner<'f> {
    limits: &'f LoadLimits,
    table: Table<'f>,
    stem: String,
    /// Calls replaced so far; numbers the prefixes.
    calls: u64,
    spent: Cost,
}

impl Inliner<'_> {
    fn graph(&mut self, graph: &mut GraphProto, depth: u32) -> Result<()> {
        let allowed = self.limits.bounded_subgraph_depth();
        if depth > allowed {
            return Err(ImportError::budget(
                Place::model(),
                Budget::SubgraphDepth,
                depth.into(),
                allowed.into(),
            ));
        }
        let nodes = std::mem::take(&mut graph.nodes);
        graph.nodes = Vec::with_capacity(nodes.len());
        // The next node is the last; bodies are pushed in place of their calls, however deep they nest.
        let mut pending: Vec<NodeProto> = nodes;
        pending.reverse();
        while let Some(mut node) = pending.pop() {
            match self.table.positions.get(&node.key()) {
                Some(&position) => {
                    let start = pending.len();
                    self.expand(&node, position, &mut pending)?;
                    if let Some(body) = pending.get_mut(start..) {
                        body.reverse();
                    }
                }
                None => {
                    let place = node.place();
                    for subgraph in node.subgraphs_mut() {
                        self.graph(subgraph, depth.saturating_add(1))
                            .map_err(|error| error.within(|| place.clone()))?;
                    }
                    graph.nodes.push(node);
                }
            }
        }
        Ok(())
    }

    fn charge(&mut self, cost: Cost, place: impl FnOnce() -> Place) -> Result<()> {
        self.spent.add(cost);
        let Cost { nodes, bytes } = self.spent;
        let LoadLimits { nodes: nodes_allowed, structure_bytes: bytes_allowed, .. } = *self.limits;
        if nodes > nodes_allowed {
            return Err(ImportError::budget(place(), Budget::Nodes, nodes, nodes_allowed));
        }
        if bytes > bytes_allowed {
            return Err(ImportError::budget(place(), Budget::StructureBytes, bytes, bytes_allowed));
        }
        Ok(())
    }

    /// Appends the body of a function to `out`, in order, as `call` wants it.
    fn expand(&mut self, call: &NodeProto, position: usize, out: &mut Vec<NodeProto>) -> Result<()> {
        let Some(callee) = self.table.callees.get(position) else { return Ok(()) };
        let (function, onnx_opset, cost) = (callee.function, callee.onnx_opset, callee.cost);
        self.charge(cost, || call.place())?;
        check_call(call, function)?;
        self.calls = self.calls.saturating_add(1);
        let mut renamer = Renamer {
            prefix: format!("{}{}.{}/", self.stem, self.calls, function.name),
            formals: HashMap::new(),
            made: HashMap::new(),
            hidden: Vec::new(),
        };
        let actual_inputs = call.inputs.iter().cloned().chain(std::iter::repeat(Arc::default()));
        for (formal, actual) in function.inputs.iter().zip(actual_inputs) {
            renamer.formals.insert(formal, actual);
        }
        // An output that is an input, or that leaves twice, needs a node to carry its value over.
        let mut carried: Vec<(&Arc<str>, &Arc<str>)> = Vec::new();
        for (formal, actual) in function.outputs.iter().zip(&call.outputs) {
            if actual.is_empty() {
                continue;
            }
            if renamer.formals.contains_key(&**formal) {
                carried.push((formal, actual));
            } else {
                renamer.formals.insert(formal, actual.clone());
            }
        }
        for node in &function.nodes {
            let node = self.body_node(node, call, function, &mut renamer)?;
            out.push(node);
        }
        for (formal, actual) in carried {
            let source = renamer.rename(formal);
            if source.is_empty() {
                let place = call.place().with_value(actual);
                let detail = "the output is an input that the call leaves out";
                return Err(ImportError::invalid(place, InvalidFault::Function, detail));
            }
            out.push(NodeProto {
                op_type: "Identity".into(),
                inputs: vec![source],
                outputs: vec![actual.clone()],
                opset: onnx_opset,
                ..NodeProto::default()
            });
        }
        Ok(())
    }

    fn body_node(
        &mut self,
        node: &NodeProto,
        call: &NodeProto,
        function: &FunctionProto,
        renamer: &mut Renamer<'_>,
    ) -> Result<NodeProto> {
        let mut attributes = Vec::with_capacity(node.attributes.len());
        for AttributeProto { name, value } in &node.attributes {
            let value = match value {
                AttributeValue::Reference { name: wanted, kind } => {
                    match self.actual_attribute(wanted, *kind, call, function)? {
                        Some(value) => value,
                        None => continue,
                    }
                }
                AttributeValue::Graph(graph) => {
                    AttributeValue::Graph(Box::new(self.body_graph(graph, call, function, renamer)?))
                }
                AttributeValue::Graphs(graphs) => AttributeValue::Graphs(
                    graphs
                        .iter()
                        .map(|graph| self.body_graph(graph, call, function, renamer))
                        .collect::<Result<_>>()?,
                ),
                value => value.clone(),
            };
            attributes.push(AttributeProto { name: name.clone(), value });
        }
        Ok(NodeProto {
            name: renamer.prefixed(&node.name),
            op_type: node.op_type.clone(),
            domain: node.domain.clone(),
            overload: node.overload.clone(),
            inputs: node.inputs.iter().map(|name| renamer.rename(name)).collect(),
            outputs: node.outputs.iter().map(|name| renamer.rename(name)).collect(),
            attributes,
            opset: node.opset,
        })
    }

    /// The value that a reference stands for: of the call, of the default, or none.
    fn actual_attribute(
        &mut self,
        wanted: &str,
        kind: Option<AttributeKind>,
        call: &NodeProto,
        function: &FunctionProto,
    ) -> Result<Option<AttributeValue>> {
        let given = call.attributes.iter().chain(&function.attribute_defaults);
        let Some(found) = given.into_iter().find(|attribute| &*attribute.name == wanted) else {
            return Ok(None);
        };
        if let (Some(kind), Some(got)) = (kind, found.value.kind())
            && kind != got
        {
            let detail = format!("{wanted:?} must be of type {}, not {}", kind.name(), got.name());
            return Err(ImportError::invalid(call.place(), InvalidFault::Attribute, detail));
        }
        self.charge(Cost::of_attribute(found), || call.place())?;
        Ok(Some(found.value.clone()))
    }

    fn body_graph(
        &mut self,
        graph: &GraphProto,
        call: &NodeProto,
        function: &FunctionProto,
        renamer: &mut Renamer<'_>,
    ) -> Result<GraphProto> {
        let sparse_names = graph.sparse_initializers.iter().map(|sparse| &sparse.values.name);
        let names = graph.inputs.iter().map(|value| &value.name);
        let names = names.chain(graph.initializers.iter().map(|tensor| &tensor.name)).chain(sparse_names);
        let names = names.chain(graph.nodes.iter().flat_map(|node| &node.outputs));
        renamer.hidden.push(names.cloned().collect());
        let nodes = graph
            .nodes
            .iter()
            .map(|node| self.body_node(node, call, function, renamer))
            .collect::<Result<_>>()?;
        let tensor = |renamer: &mut Renamer<'_>, tensor: &TensorProto| TensorProto {
            name: renamer.rename(&tensor.name),
            ..tensor.clone()
        };
        let values = |renamer: &mut Renamer<'_>, values: &[ValueInfoProto]| -> Vec<ValueInfoProto> {
            let value = |value: &ValueInfoProto| ValueInfoProto {
                name: renamer.rename(&value.name),
                ty: value.ty.clone(),
            };
            values.iter().map(value).collect()
        };
        let renamed = GraphProto {
            name: graph.name.clone(),
            nodes,
            initializers: graph.initializers.iter().map(|t| tensor(renamer, t)).collect(),
            sparse_initializers: graph
                .sparse_initializers
                .iter()
                .map(|sparse| SparseTensorProto { values: tensor(renamer, &sparse.values), ..sparse.clone() })
                .collect(),
            inputs: values(renamer, &graph.inputs),
            outputs: values(renamer, &graph.outputs),
            value_info: values(renamer, &graph.value_info),
            captures: Vec::new(),
        };
        renamer.hidden.pop();
        Ok(renamed)
    }
}

/// A call gives no more than the function takes, and no attribute that it does not know.
fn check_call(call: &NodeProto, function: &FunctionProto) -> Result<()> {
    for (what, given, formal) in [
        ("inputs", call.inputs.len(), function.inputs.len()),
        ("outputs", call.outputs.len(), function.outputs.len()),
    ] {
        if given > formal {
            let detail = format!("{given} {what} are given, the local function has {formal}");
            return Err(ImportError::invalid(call.place(), InvalidFault::Arity, detail));
        }
    }
    let defaults = function.attribute_defaults.iter().map(|attribute| &attribute.name);
    let known: HashSet<&str> = function.attributes.iter().chain(defaults).map(|name| &**name).collect();
    match call.attributes.iter().find(|attribute| !known.contains(&*attribute.name)) {
        Some(unknown) => {
            let detail = format!("the local function has no attribute {:?}", unknown.name);
            Err(ImportError::invalid(call.place(), InvalidFault::Attribute, detail))
        }
        None => Ok(()),
    }
}

/// From a body's names to names of the graph that calls.
struct Renamer<'f> {
    prefix: String,
    /// Formal inputs and outputs, and what the call gives for them.
    formals: HashMap<&'f str, Arc<str>>,
    /// Prefixed names made so far.
    made: HashMap<Arc<str>, Arc<str>>,
    /// Per open subgraph, the names it defines itself, which may hide formal ones.
    hidden: Vec<HashSet<Arc<str>>>,
}

impl Renamer<'_> {
    fn rename(&mut self, name: &Arc<str>) -> Arc<str> {
        match self.formals.get(&**name) {
            Some(actual) if !self.hidden.iter().any(|names| names.contains(name)) => actual.clone(),
            _ => self.prefixed(name),
        }
    }

    fn prefixed(&mut self, name: &Arc<str>) -> Arc<str> {
        if name.is_empty() {
            return name.clone();
        }
        let Renamer { prefix, made, .. } = self;
        made.entry(name.clone()).or_insert_with(|| format!("{prefix}{name}").into()).clone()
    }
}

#[cfg(test)]
mod tests;
