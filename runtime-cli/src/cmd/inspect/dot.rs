//! The graph in Graphviz' DOT language.

use std::collections::HashMap;
use std::fmt::Write;

use sardonyx_importer::onnx::GraphProto;

use crate::output::format;

/// The main graph: nodes as boxes, inputs and outputs as ellipses, values as edges; weights are left out.
pub fn graph(graph: &GraphProto) -> String {
    let mut text = String::from("digraph model {\n  rankdir=TB;\n  node [shape=box, fontsize=10];\n");
    let mut writers: HashMap<&str, String> = HashMap::new();
    let is_weight = |name: &str| graph.initializers.iter().any(|tensor| &*tensor.name == name);
    for (i, input) in graph.inputs.iter().enumerate().filter(|(_, input)| !is_weight(&input.name)) {
        let _ = writeln!(text, "  i{i} [label={}, shape=ellipse];", quoted(&input.name));
        writers.insert(&input.name, format!("i{i}"));
    }
    for (i, node) in graph.nodes.iter().enumerate() {
        let label = if node.name.is_empty() {
            node.op_type.to_string()
        } else {
            format!("{}\n{}", node.op_type, node.name)
        };
        let _ = writeln!(text, "  n{i} [label={}];", quoted(&label));
        for output in &node.outputs {
            writers.insert(output, format!("n{i}"));
        }
    }
    for (i, node) in graph.nodes.iter().enumerate() {
        for input in node.inputs.iter().filter(|name| !name.is_empty()) {
            if let Some(writer) = writers.get(&**input) {
                let _ = writeln!(text, "  {writer} -> n{i};");
            }
        }
    }
    for (i, output) in graph.outputs.iter().enumerate() {
        let _ = writeln!(text, "  o{i} [label={}, shape=ellipse];", quoted(&output.name));
        if let Some(writer) = writers.get(&*output.name) {
            let _ = writeln!(text, "  {writer} -> o{i};");
        }
    }
    text.push_str("}\n");
    text
}

/// A label in quotes; line breaks stay line breaks.
fn quoted(label: &str) -> String {
    let escape = |line: &str| format::name(line, 60).replace('\\', "\\\\").replace('"', "\\\"");
    let lines: Vec<String> = label.lines().map(escape).collect();
    format!("\"{}\"", lines.join("\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sardonyx_importer::onnx::{NodeProto, ValueInfoProto};

    #[test]
    fn edges_lead_from_writers_to_readers() {
        let value = |name: &str| ValueInfoProto { name: name.into(), ty: None };
        let node = |op: &str, input: &str, output: &str| NodeProto {
            op_type: op.into(),
            name: "a\"b".into(),
            inputs: vec![input.into()],
            outputs: vec![output.into()],
            ..NodeProto::default()
        };
        let model = GraphProto {
            inputs: vec![value("x")],
            outputs: vec![value("z")],
            nodes: vec![node("Relu", "x", "y"), node("Tanh", "y", "z")],
            ..GraphProto::default()
        };
        let text = graph(&model);
        for line in ["i0 -> n0;", "n0 -> n1;", "n1 -> o0;", "n0 [label=\"Relu\\na\\\"b\"];"] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
