//! What a model file holds.

use std::collections::BTreeMap;

use sardonyx_importer::onnx::{Dim, GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto};
use sardonyx_ops::DType;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::output::table::{Align, Table};
use crate::output::{Console, format};

type Document = Map<String, Value>;

/// Operator sets by domain.
pub fn opsets(proto: &ModelProto) -> Value {
    proto
        .opset_imports
        .iter()
        .map(|set| (domain(&set.domain).to_owned(), json!(set.version)))
        .collect::<Map<_, _>>()
        .into()
}

fn domain(domain: &str) -> &str {
    if domain.is_empty() { "ai.onnx" } else { domain }
}

/// Producer, versions, properties.
pub fn metadata(proto: &ModelProto, document: &mut Document, console: &Console) -> Result<(), Failure> {
    let sets: Vec<String> =
        proto.opset_imports.iter().map(|set| format!("{} {}", domain(&set.domain), set.version)).collect();
    let producer = format!("{} {}", proto.producer_name, proto.producer_version);
    console.line(format!(
        "format  IR {}, operators {}",
        proto.ir_version,
        format::name(&sets.join(", "), 120)
    ))?;
    if !producer.trim().is_empty() {
        console.line(format!("by      {}", format::name(producer.trim(), 72)))?;
    }
    if !proto.graph.name.is_empty() {
        console.line(format!("graph   {}", format::name(&proto.graph.name, 72)))?;
    }
    for (key, value) in &proto.metadata {
        console.line(format!("        {} = {}", format::name(key, 30), format::name(value, 100)))?;
    }
    let properties: Document =
        proto.metadata.iter().map(|(key, value)| (key.to_string(), json!(**value))).collect();
    document.insert(
        "metadata".to_owned(),
        json!({"producer": *proto.producer_name, "producer_version": *proto.producer_version,
               "graph": *proto.graph.name, "domain": *proto.domain, "model_version": proto.model_version,
               "properties": properties}),
    );
    Ok(())
}

/// Inputs that a caller gives, and outputs.
pub fn io(graph: &GraphProto, document: &mut Document, console: &Console) -> Result<(), Failure> {
    let has_default =
        |info: &&ValueInfoProto| graph.initializers.iter().any(|tensor| tensor.name == info.name);
    let inputs: Vec<&ValueInfoProto> = graph.inputs.iter().filter(|info| !has_default(info)).collect();
    let outputs: Vec<&ValueInfoProto> = graph.outputs.iter().collect();
    for (label, values) in [("input", &inputs), ("output", &outputs)] {
        for (i, info) in values.iter().enumerate() {
            let label = if i == 0 { label } else { "" };
            console.line(format!("{label:<7} {}  {}", format::name(&info.name, 40), signature(info)))?;
        }
    }
    let describe = |info: &&ValueInfoProto| json!({"name": *info.name, "type": signature(info)});
    document.insert(
        "io".to_owned(),
        json!({"inputs": inputs.iter().map(describe).collect::<Vec<_>>(),
               "outputs": outputs.iter().map(describe).collect::<Vec<_>>()}),
    );
    Ok(())
}

/// `f32[batch,3,224,224]`; other kinds of values by their word.
fn signature(info: &ValueInfoProto) -> String {
    match &info.ty {
        Some(TypeProto::Tensor(tensor)) => {
            let dtype = DType::from_onnx(tensor.elem_type).map_or("?", DType::name);
            match &tensor.dims {
                Some(dims) => {
                    let dims: Vec<String> = dims
                        .iter()
                        .map(|dim| match dim {
                            Dim::Value(n) => n.to_string(),
                            Dim::Param(name) => format::name(name, 30),
                            Dim::Unknown => "?".to_owned(),
                        })
                        .collect();
                    format::signature(dtype, &dims)
                }
                None => format!("{dtype}[...]"),
            }
        }
        Some(other) => other.kind().to_owned(),
        None => "unknown".to_owned(),
    }
}

/// Operators and how often they are used, subgraphs included.
pub fn operators(graph: &GraphProto, document: &mut Document, console: &Console) -> Result<(), Failure> {
    let mut counts: BTreeMap<(String, String, i64), usize> = BTreeMap::new();
    let mut total = 0;
    // The reader bounds the depth of subgraphs, but not so far that recursion here would be safe for every stack.
    let mut graphs = vec![graph];
    while let Some(graph) = graphs.pop() {
        for node in &graph.nodes {
            *counts.entry((node.domain.to_string(), node.op_type.to_string(), node.opset)).or_default() += 1;
            total += 1;
            graphs.extend(node.subgraphs());
        }
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let names: Vec<String> = rows
        .iter()
        .map(|((domain, op, _), count)| {
            let prefix =
                if domain.is_empty() { String::new() } else { format!("{}.", format::name(domain, 30)) };
            format!("{prefix}{} {count}", format::name(op, 40))
        })
        .collect();
    console.line(format!("nodes   {total}"))?;
    for line in fill(&names, 72) {
        console.line(format!("        {line}"))?;
    }
    let list: Vec<Value> = rows
        .iter()
        .map(|((name, op, opset), count)| json!({"domain": domain(name), "op": op, "opset": opset, "count": count}))
        .collect();
    document.insert("ops".to_owned(), Value::Array(list));
    Ok(())
}

/// Joins words with commas into lines of at most `width` characters.
fn fill(words: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() + 2 <= width => {
                line.push_str(", ");
                line.push_str(word);
            }
            _ => lines.push(word.clone()),
        }
    }
    lines
}

/// Weights by element type, and the largest of them.
pub fn weights(graph: &GraphProto, document: &mut Document, console: &Console) -> Result<(), Failure> {
    const LARGEST: usize = 5;
    struct Weight<'a> {
        name: &'a str,
        dtype: Option<DType>,
        dims: &'a [i64],
        elements: u64,
        bytes: u64,
    }
    let mut weights: Vec<Weight<'_>> = graph
        .initializers
        .iter()
        .map(|tensor| {
            let dtype = DType::from_onnx(tensor.data_type);
            let count = |product: u64, dim: &i64| product.saturating_mul(u64::try_from(*dim).unwrap_or(0));
            let elements = tensor.dims.iter().fold(1, count);
            let bits = dtype.map_or(0, DType::bits) as u64;
            Weight {
                name: &tensor.name,
                dtype,
                dims: &tensor.dims,
                elements,
                bytes: elements.saturating_mul(bits).div_ceil(8),
            }
        })
        .collect();
    let sum = |select: fn(&Weight<'_>) -> u64, list: &[Weight<'_>]| {
        list.iter().map(select).fold(0, u64::saturating_add)
    };
    let (parameters, bytes) = (sum(|w| w.elements, &weights), sum(|w| w.bytes, &weights));
    console.line(format!(
        "weights {} tensors, {parameters} elements, {}",
        weights.len(),
        format::bytes(bytes)
    ))?;
    let mut by_type: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for weight in &weights {
        let entry = by_type.entry(weight.dtype.map_or("?", DType::name)).or_default();
        entry.0 = entry.0.saturating_add(weight.elements);
        entry.1 = entry.1.saturating_add(weight.bytes);
    }
    for (dtype, (elements, bytes)) in &by_type {
        console.line(format!("        {dtype} {elements} elements, {}", format::bytes(*bytes)))?;
    }
    weights.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(b.name)));
    weights.truncate(LARGEST);
    for weight in &weights {
        let signature = format::signature(weight.dtype.map_or("?", DType::name), weight.dims);
        console.line(format!("        {}  {signature}", format::name(weight.name, 48)))?;
    }
    let largest: Vec<Value> = weights
        .iter()
        .map(|weight| {
            json!({"name": weight.name, "dtype": weight.dtype.map(DType::name), "dims": weight.dims,
                   "bytes": weight.bytes})
        })
        .collect();
    let types: Document = by_type
        .into_iter()
        .map(|(dtype, (elements, bytes))| (dtype.to_owned(), json!({"elements": elements, "bytes": bytes})))
        .collect();
    document.insert(
        "weights".to_owned(),
        json!({"tensors": graph.initializers.len(), "elements": parameters, "bytes": bytes, "by_type": types,
               "largest": largest}),
    );
    Ok(())
}

/// All nodes of the main graph.
pub fn nodes(graph: &GraphProto, document: &mut Document, console: &Console) -> Result<(), Failure> {
    let mut table =
        Table::new(&[("node", Align::Left), ("operator", Align::Left), ("inputs -> outputs", Align::Left)]);
    let names = |list: &[std::sync::Arc<str>]| {
        list.iter().map(|name| format::name(name, 40)).collect::<Vec<_>>().join(",")
    };
    for node in &graph.nodes {
        let flow = format!("{} -> {}", names(&node.inputs), names(&node.outputs));
        table.row([format::name(&node.name, 40), format::name(&node.op_type, 30), flow]);
    }
    if !table.is_empty() {
        console.line(table.render())?;
    }
    let describe = |node: &NodeProto| {
        json!({"name": *node.name, "op": *node.op_type, "domain": domain(&node.domain), "opset": node.opset,
               "inputs": node.inputs.iter().map(|name| &**name).collect::<Vec<_>>(),
               "outputs": node.outputs.iter().map(|name| &**name).collect::<Vec<_>>()})
    };
    document.insert("nodes".to_owned(), graph.nodes.iter().map(describe).collect());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_fill_lines() {
        let words: Vec<String> = (0..30).map(|i| format!("Operator{i} 1")).collect();
        let lines = fill(&words, 72);
        assert!(lines.len() > 1 && lines.iter().all(|line| line.len() <= 72));
        assert_eq!(lines.join(", "), words.join(", "));
    }
}
