//! The names of a graph: one definition each, defined before read, read from outer graphs where a subgraph
//! does (`docs/IR.md`, "Names Within a Graph" and "Nodes").
//!
//! Nodes may stand in any order in a file and leave in a topological one; a sorted graph keeps its order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt, HashSet};

use super::model::{GraphProto, NodeProto};
use crate::error::{ImportError, InvalidFault, Place};

type Result<T> = std::result::Result<T, ImportError>;

/// Checks all names of the main graph and its subgraphs, sorts their nodes, and notes what subgraphs capture.
pub(super) fn settle(graph: &mut GraphProto) -> Result<()> {
    if graph.outputs.is_empty() {
        return Err(ImportError::invalid(Place::model(), InvalidFault::Missing, "the graph has no outputs"));
    }
    settle_graph(graph, true)?;
    if graph.nodes.iter().any(|node| node.subgraphs().next().is_some()) {
        check_shadowing(graph, &mut HashSet::default())?;
    }
    Ok(())
}

/// A name that a subgraph reads and does not define.
struct Capture {
    name: Arc<str>,
    /// The innermost node that reads it.
    reader: Place,
}

/// Who defines a name.
#[derive(Clone, Copy)]
enum Definition {
    Input,
    Initializer,
    Node(usize),
}

/// Settles one graph after the graphs within it. Recursion is bounded: decoding and inlining refuse deeper
/// graphs than the limit.
fn settle_graph(graph: &mut GraphProto, main: bool) -> Result<Vec<Capture>> {
    let mut inner: Vec<(usize, Capture)> = Vec::new();
    for (i, node) in graph.nodes.iter_mut().enumerate() {
        if node.subgraphs().next().is_none() {
            continue;
        }
        let place = node.place();
        for subgraph in node.subgraphs_mut() {
            let captures = settle_graph(subgraph, false).map_err(|error| error.within(|| place.clone()))?;
            subgraph.captures = captures.iter().map(|capture| capture.name.clone()).collect();
            for mut capture in captures {
                if capture.reader.node.is_none() {
                    capture.reader = Place { value: capture.reader.value, ..place.clone() };
                }
                inner.push((i, capture));
            }
        }
    }
    let (edges, captures) = connect(graph, &inner, main)?;
    if edges.iter().any(|(writer, reader)| writer >= reader) {
        let order = sort(graph.nodes.len(), &edges).map_err(|node| cycle_error(graph.nodes.get(node)))?;
        let mut nodes: Vec<Option<NodeProto>> =
            std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
        graph.nodes = order.into_iter().filter_map(|i| nodes.get_mut(i)?.take()).collect();
    }
    Ok(captures)
}

fn cycle_error(node: Option<&NodeProto>) -> ImportError {
    let place = node.map(NodeProto::place).unwrap_or_default();
    ImportError::invalid(place, InvalidFault::Cycle, "the node depends on its own output")
}

/// A node that writes a value, and a node that reads it.
type Edge = (usize, usize);

/// The edges of a graph, and what it reads from outside. `inner` are the captures of its nodes' subgraphs.
fn connect(graph: &GraphProto, inner: &[(usize, Capture)], main: bool) -> Result<(Vec<Edge>, Vec<Capture>)> {
    let definitions = define(graph)?;
    let mut edges = Vec::with_capacity(graph.nodes.len());
    let mut captures: Vec<Capture> = Vec::new();
    let mut captured: HashSet<&str> = HashSet::default();
    let mut inner = inner.iter().peekable();
    for (i, node) in graph.nodes.iter().enumerate() {
        let own = node.inputs.iter().filter(|name| !name.is_empty()).map(|name| (name, None));
        let nested = std::iter::from_fn(|| inner.next_if(|(node, _)| *node == i))
            .map(|(_, capture)| (&capture.name, Some(&capture.reader)));
        for (name, reader) in own.chain(nested) {
            match definitions.get(&**name) {
                Some(Definition::Node(writer)) => edges.push((*writer, i)),
                Some(Definition::Input | Definition::Initializer) => {}
                None => {
                    let reader = || reader.cloned().unwrap_or_else(|| node.place()).with_value(name);
                    if main {
                        return Err(missing_value(reader()));
                    }
                    if captured.insert(name) {
                        captures.push(Capture { name: name.clone(), reader: reader() });
                    }
                }
            }
        }
    }
    let mut outputs: HashSet<&str> = HashSet::default();
    for output in &graph.outputs {
        if output.name.is_empty() {
            return Err(ImportError::invalid(
                Place::model(),
                InvalidFault::Missing,
                "name of a graph output",
            ));
        }
        // A subgraph's outputs go by position, so that one value may leave twice.
        if !outputs.insert(&output.name) && main {
            let detail = "two graph outputs have this name";
            return Err(ImportError::invalid(
                Place::value(&output.name),
                InvalidFault::DuplicateName,
                detail,
            ));
        }
        if !definitions.contains_key(&*output.name) {
            if main {
                return Err(missing_value(Place::value(&output.name)));
            }
            if captured.insert(&output.name) {
                captures.push(Capture { name: output.name.clone(), reader: Place::value(&output.name) });
            }
        }
    }
    Ok((edges, captures))
}

fn missing_value(place: Place) -> ImportError {
    ImportError::invalid(place, InvalidFault::MissingValue, "no input, initializer or node defines it")
}

/// All names that a graph defines.
fn define(graph: &GraphProto) -> Result<HashMap<&str, Definition>> {
    let constants = graph.initializers.len().saturating_add(graph.sparse_initializers.len());
    let names = graph.nodes.len().saturating_add(constants).saturating_add(graph.inputs.len());
    let mut definitions = HashMap::with_capacity(names);
    for input in &graph.inputs {
        if input.name.is_empty() {
            return Err(ImportError::invalid(Place::model(), InvalidFault::Missing, "name of a graph input"));
        }
        if definitions.insert(&*input.name, Definition::Input).is_some() {
            let detail = "two graph inputs have this name";
            return Err(ImportError::invalid(Place::value(&input.name), InvalidFault::DuplicateName, detail));
        }
    }
    let dense = graph.initializers.iter().map(|tensor| &tensor.name);
    let sparse = graph.sparse_initializers.iter().map(|tensor| &tensor.values.name);
    for name in dense.chain(sparse) {
        if name.is_empty() {
            return Err(ImportError::invalid(
                Place::model(),
                InvalidFault::Missing,
                "name of an initializer",
            ));
        }
        // An input of the same name takes the initializer as its default.
        if let Some(Definition::Initializer) = definitions.insert(name, Definition::Initializer) {
            let detail = "two initializers have this name";
            return Err(ImportError::invalid(Place::value(name), InvalidFault::DuplicateName, detail));
        }
    }
    for (i, node) in graph.nodes.iter().enumerate() {
        for output in node.outputs.iter().filter(|name| !name.is_empty()) {
            let detail = match definitions.insert(output, Definition::Node(i)) {
                None => continue,
                Some(Definition::Input) => "it is a graph input already",
                Some(Definition::Initializer) => "it is an initializer already",
                Some(Definition::Node(_)) => "another output has this name already",
            };
            let place = node.place().with_value(output);
            return Err(ImportError::invalid(place, InvalidFault::TwoWriters, detail));
        }
    }
    Ok(definitions)
}

/// The topological order that stays closest to the given one; a node on a cycle when there is none.
fn sort(count: usize, edges: &[Edge]) -> std::result::Result<Vec<usize>, usize> {
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut waiting: Vec<usize> = vec![0; count];
    for &(writer, reader) in edges {
        if let (Some(list), Some(waits)) = (readers.get_mut(writer), waiting.get_mut(reader)) {
            list.push(reader);
            *waits = waits.saturating_add(1);
        }
    }
    let ready = waiting.iter().enumerate().filter(|(_, waits)| **waits == 0);
    let mut ready: BinaryHeap<Reverse<usize>> = ready.map(|(i, _)| Reverse(i)).collect();
    let mut order = Vec::with_capacity(count);
    while let Some(Reverse(node)) = ready.pop() {
        order.push(node);
        for &reader in readers.get(node).into_iter().flatten() {
            if let Some(waits) = waiting.get_mut(reader) {
                *waits = waits.saturating_sub(1);
                if *waits == 0 {
                    ready.push(Reverse(reader));
                }
            }
        }
    }
    if order.len() == count { Ok(order) } else { Err(node_on_cycle(&waiting, edges)) }
}

/// Walks from a node that never became ready to what it waits for, until it must have met a cycle.
fn node_on_cycle(waiting: &[usize], edges: &[Edge]) -> usize {
    let stuck = |node: usize| waiting.get(node).is_some_and(|waits| *waits > 0);
    let waits_for: HashMap<usize, usize> = edges
        .iter()
        .filter(|(writer, reader)| stuck(*writer) && stuck(*reader))
        .map(|&(writer, reader)| (reader, writer))
        .collect();
    let mut node = waits_for.keys().copied().min().unwrap_or_default();
    for _ in 0..waits_for.len() {
        node = waits_for.get(&node).copied().unwrap_or(node);
    }
    node
}

/// Refuses a node in a subgraph that writes a name which the subgraph can see from outside; inputs and
/// initializers of a subgraph may hide outer names.
fn check_shadowing(graph: &GraphProto, visible: &mut HashSet<Arc<str>>) -> Result<()> {
    let mut added: Vec<Arc<str>> = Vec::new();
    let mut add = |visible: &mut HashSet<Arc<str>>, name: &Arc<str>| {
        if visible.insert(name.clone()) {
            added.push(name.clone());
        }
    };
    let inputs = graph.inputs.iter().map(|input| &input.name);
    for name in inputs.chain(graph.initializers.iter().map(|tensor| &tensor.name)) {
        add(visible, name);
    }
    for node in &graph.nodes {
        for subgraph in node.subgraphs() {
            check_shadowing(subgraph, visible)?;
        }
        for output in node.outputs.iter().filter(|name| !name.is_empty()) {
            if visible.contains(output) {
                let place = node.place().with_value(output);
                let detail = "a graph around this one defines it already";
                return Err(ImportError::invalid(place, InvalidFault::TwoWriters, detail));
            }
            add(visible, output);
        }
    }
    for name in added {
        visible.remove(&name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::onnx::testing::{Graph, Model, bytes, code, error, node, read, subgraph_attribute};

    fn model(nodes: Vec<Vec<u8>>) -> Vec<u8> {
        Model::new(&["x"], nodes, &["y"]).encode()
    }

    fn relu(input: &str, output: &str) -> Vec<u8> {
        node("Relu", &[input], &[output], &[])
    }

    #[test]
    fn unsorted_nodes_are_sorted_stably() {
        let names = |file: Vec<u8>| -> Vec<String> {
            read(file).unwrap().graph.nodes.iter().map(|n| n.outputs[0].to_string()).collect()
        };
        let sorted = vec![relu("x", "a"), relu("x", "b"), relu("a", "c"), relu("b", "y")];
        assert_eq!(names(model(sorted)), ["a", "b", "c", "y"]);
        let unsorted = vec![relu("c", "y"), relu("x", "b"), relu("a", "c"), relu("x", "a")];
        assert_eq!(names(model(unsorted)), ["b", "a", "c", "y"]);
    }

    #[test]
    fn a_long_reversed_chain_sorts() {
        let mut nodes: Vec<_> = (0..50_000).map(|i| relu(&format!("v{i}"), &format!("v{}", i + 1))).collect();
        nodes.insert(0, relu("x", "v0"));
        nodes.push(relu("v50000", "y"));
        nodes.reverse();
        assert_eq!(&*read(model(nodes)).unwrap().graph.nodes[50_001].outputs[0], "y");
    }

    #[test]
    fn cycles_name_a_node_on_them() {
        let nodes = vec![relu("x", "y"), relu("c", "after"), relu("c", "b"), relu("b", "c"), relu("x", "d")];
        let cycle = error(model(nodes));
        assert_eq!(cycle.code(), "SDX-0205");
        assert!(matches!(cycle.node(), Some("b" | "c")), "{cycle}");
        let own = error(model(vec![relu("y", "y")]));
        assert_eq!((own.code(), own.node()), ("SDX-0205", Some("y")));
    }

    #[test]
    fn missing_values_name_node_and_value() {
        let missing = error(model(vec![relu("x", "y"), relu("nowhere", "z")]));
        assert_eq!(missing.code(), "SDX-0204");
        assert_eq!((missing.node(), missing.value()), (Some("z"), Some("nowhere")));
        let output = error(Model::new(&["x"], vec![relu("x", "z")], &["y"]).encode());
        assert_eq!((output.code(), output.value()), ("SDX-0204", Some("y")));
    }

    #[test]
    fn one_definition_each() {
        assert_eq!(code(model(vec![relu("x", "y"), relu("x", "y")])), "SDX-0203");
        assert_eq!(code(model(vec![relu("x", "y"), relu("y", "x")])), "SDX-0203");
        assert_eq!(code(model(vec![node("Split", &["x"], &["y", "y"], &[])])), "SDX-0203");
        assert_eq!(code(Model::new(&["x", "x"], vec![relu("x", "y")], &["y"]).encode()), "SDX-0202");
        assert_eq!(code(Model::new(&["x"], vec![relu("x", "y")], &["y", "y"]).encode()), "SDX-0202");
        assert_eq!(code(Model::new(&[""], vec![relu("x", "y")], &["y"]).encode()), "SDX-0201");
        assert_eq!(code(Model::new(&["x"], vec![relu("x", "y")], &[]).encode()), "SDX-0201");
        let mut twice = Model::new(&["x"], vec![relu("x", "y")], &["y"]);
        twice.graph.initializers = vec!["w".into(), "w".into()];
        assert_eq!(code(twice.encode()), "SDX-0202");
    }

    #[test]
    fn legal_and_unusual() {
        // Empty optional inputs, unwanted outputs, unused values, an input with a default, an input that is
        // an output.
        let nodes = vec![
            node("Clip", &["x", "", "w"], &["y"], &[]),
            node("Dropout", &["x"], &["unused", ""], &[]),
            node("Dropout", &["x"], &["unused2", ""], &[]),
        ];
        let mut unusual = Model::new(&["x", "w"], nodes, &["y", "x"]);
        unusual.graph.initializers = vec!["w".into()];
        assert_eq!(read(unusual.encode()).unwrap().graph.nodes.len(), 3);
    }

    fn branch(nodes: Vec<Vec<u8>>, output: &str) -> Vec<u8> {
        subgraph_attribute("then_branch", &Graph::new(&[], nodes, &[output]))
    }

    #[test]
    fn subgraphs_capture_outer_values() {
        // The outer node that the innermost graph needs stands behind the node that holds the graph.
        let inner = node("If", &["x"], &["i"], &[branch(vec![relu("late", "j")], "j")]);
        let outer = node("If", &["x"], &["y"], &[branch(vec![inner, relu("x", "k")], "i")]);
        let model = read(model(vec![outer, relu("x", "late")])).unwrap();
        let nodes = &model.graph.nodes;
        assert_eq!(&*nodes[0].outputs[0], "late");
        let subgraph = nodes[1].subgraphs().next().unwrap();
        assert_eq!(subgraph.captures, ["x".into(), "late".into()]);
        let innermost = subgraph.nodes[0].subgraphs().next().unwrap();
        assert_eq!(innermost.captures, ["late".into()]);
        assert!(model.graph.captures.is_empty());
    }

    #[test]
    fn bad_subgraphs_are_refused() {
        let with = |nodes, output| model(vec![node("If", &["x"], &["y"], &[branch(nodes, output)])]);
        let missing = error(with(vec![relu("nowhere", "j")], "j"));
        assert_eq!(
            (missing.code(), missing.node(), missing.value()),
            ("SDX-0204", Some("j"), Some("nowhere"))
        );
        let output = error(with(vec![relu("x", "j")], "k"));
        assert_eq!((output.code(), output.node(), output.value()), ("SDX-0204", Some("y"), Some("k")));
        let hiding = vec![node("Constant", &[], &["x"], &[]), relu("x", "j")];
        assert_eq!(code(with(hiding, "j")), "SDX-0203", "hides an outer value");
        assert_eq!(code(with(vec![relu("b", "a"), relu("a", "b")], "a")), "SDX-0205");
        let own = error(with(vec![relu("y", "j")], "j"));
        assert_eq!((own.code(), own.node()), ("SDX-0205", Some("y")), "reads what it helps to make");
        // A name that the outer graph defines later only is free, and so is a sibling's.
        let twins = [branch(vec![relu("x", "y")], "y"), {
            subgraph_attribute("else_branch", &Graph::new(&[], vec![relu("x", "y")], &["y"]))
        }];
        assert!(read(model(vec![node("If", &["x"], &["y"], &twins)])).is_ok());
        assert_eq!(code(model(vec![node("If", &["x"], &["y"], &[bytes(1, b"g")])])), "SDX-0207");
    }
}
