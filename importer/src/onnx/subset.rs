//! Writing a part of a model as a model of its own: the nodes between some values, copied byte for byte.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use sardonyx_ops::{DType, Tensor};

use super::encode::{encode_tensor, length_field, varint_field};
use super::wire::Reader;
use crate::error::ImportError;

type Result<T> = std::result::Result<T, ImportError>;

/// A value at the border of the part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Border {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub dims: Vec<usize>,
}

/// A part of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The model file.
    pub bytes: Vec<u8>,
    /// The names of its inputs.
    pub inputs: Vec<String>,
    /// The number of its nodes.
    pub nodes: usize,
}

/// A node with its bytes.
struct RawNode {
    bytes: Bytes,
    /// What it reads, nested graphs included.
    reads: Vec<String>,
    writes: Vec<String>,
}

/// The part of a model that computes `outputs`. It ends where a value is in `cuts`, which become its inputs, or is
/// constant: `constant` gives the contents of initializers. Nodes within local functions of the model have no names
/// here.
///
/// # Errors
/// When the bytes are no model. `Ok(None)` when a value is neither computed, cut, nor constant.
pub fn part(
    model: &Bytes,
    outputs: &[Border],
    cuts: &[Border],
    constant: &dyn Fn(&str) -> Option<Tensor>,
) -> Result<Option<Part>> {
    let mut nodes = Vec::new();
    let mut head = Vec::new();
    let mut tail = Vec::new();
    let mut reader = Reader::new(model, 0);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => varint_field(&mut head, 1, field.int()?.unsigned_abs()),
            7 => {
                let mut graph = field.inner()?;
                while let Some(field) = graph.next_field()? {
                    if field.number == 1 {
                        nodes.push(raw_node(field.bytes()?, field.inner()?)?);
                    }
                }
            }
            8 | 25 => length_field(&mut tail, field.number, &field.bytes()?),
            _ => {}
        }
    }
    let makers: HashMap<&str, usize> = nodes
        .iter()
        .enumerate()
        .flat_map(|(index, node)| node.writes.iter().map(move |name| (name.as_str(), index)))
        .collect();
    let borders: HashMap<&str, &Border> = cuts.iter().map(|cut| (cut.name.as_str(), cut)).collect();
    let (mut used, mut inputs, mut constants) = (HashSet::new(), Vec::new(), Vec::new());
    let mut met: HashSet<String> = HashSet::new();
    let mut open: VecDeque<(String, bool)> = outputs.iter().map(|o| (o.name.clone(), true)).collect();
    while let Some((name, is_output)) = open.pop_front() {
        if name.is_empty() || !met.insert(name.clone()) {
            continue;
        }
        let cut = if is_output { None } else { borders.get(name.as_str()) };
        if let Some(cut) = cut {
            inputs.push((*cut).clone());
        } else if let Some(tensor) = constant(&name) {
            constants.push(encode_tensor(&tensor, &name));
        } else if let Some((index, node)) = makers.get(name.as_str()).and_then(|&i| Some((i, nodes.get(i)?)))
        {
            if used.insert(index) {
                open.extend(node.reads.iter().map(|read| (read.clone(), false)));
            }
        } else {
            return Ok(None);
        }
    }
    let mut graph = Vec::new();
    for (_, node) in nodes.iter().enumerate().filter(|(index, _)| used.contains(index)) {
        length_field(&mut graph, 1, &node.bytes);
    }
    length_field(&mut graph, 2, b"part");
    constants.iter().for_each(|tensor| length_field(&mut graph, 5, tensor));
    inputs.iter().for_each(|border| length_field(&mut graph, 11, &value_info(border)));
    outputs.iter().for_each(|border| length_field(&mut graph, 12, &value_info(border)));
    length_field(&mut head, 7, &graph);
    head.extend(tail);
    let inputs = inputs.into_iter().map(|border| border.name).collect();
    Ok(Some(Part { bytes: head, inputs, nodes: used.len() }))
}

/// A node's names.
fn raw_node(bytes: Bytes, mut body: Reader<'_>) -> Result<RawNode> {
    let mut node = RawNode { bytes, reads: Vec::new(), writes: Vec::new() };
    while let Some(field) = body.next_field()? {
        match field.number {
            1 => node.reads.push(field.text()?.to_owned()),
            2 => node.writes.push(field.text()?.to_owned()),
            5 => captured(field.inner()?, &mut node.reads, 0)?,
            _ => {}
        }
    }
    Ok(node)
}

/// The values that the graphs in an attribute read and do not make.
fn captured(mut attribute: Reader<'_>, reads: &mut Vec<String>, depth: usize) -> Result<()> {
    /// The reader of models allows less; this only keeps the stack from overflowing.
    const DEEPEST: usize = 64;
    while let Some(field) = attribute.next_field()? {
        if !matches!(field.number, 6 | 11) || depth > DEEPEST {
            continue;
        }
        let (mut own, mut read) = (HashSet::new(), Vec::new());
        let mut graph = field.inner()?;
        while let Some(field) = graph.next_field()? {
            // A value or tensor begins with its name, or has it in field 8.
            let name_field = if field.number == 5 { 8 } else { 1 };
            match field.number {
                1 => {
                    let mut node = field.inner()?;
                    while let Some(field) = node.next_field()? {
                        match field.number {
                            1 => read.push(field.text()?.to_owned()),
                            2 => drop(own.insert(field.text()?.to_owned())),
                            5 => captured(field.inner()?, &mut read, depth.saturating_add(1))?,
                            _ => {}
                        }
                    }
                }
                5 | 11 | 12 => {
                    let mut value = field.inner()?;
                    while let Some(inner) = value.next_field()? {
                        if inner.number == name_field {
                            match field.number {
                                12 => read.push(inner.text()?.to_owned()),
                                _ => drop(own.insert(inner.text()?.to_owned())),
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        reads.extend(read.into_iter().filter(|name| !own.contains(name)));
    }
    Ok(())
}

/// `ValueInfoProto` of a tensor.
fn value_info(border: &Border) -> Vec<u8> {
    let (mut shape, mut tensor, mut value_type, mut info) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for &dim in &border.dims {
        let mut size = Vec::new();
        varint_field(&mut size, 1, dim as u64);
        length_field(&mut shape, 1, &size);
    }
    varint_field(&mut tensor, 1, border.dtype.to_onnx().unsigned_abs().into());
    length_field(&mut tensor, 2, &shape);
    length_field(&mut value_type, 1, &tensor);
    length_field(&mut info, 1, border.name.as_bytes());
    length_field(&mut info, 2, &value_type);
    info
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, int, node};
    use super::*;
    use crate::Model;

    fn border(name: &str) -> Border {
        Border { name: name.into(), dtype: DType::F32, dims: vec![2, 3] }
    }

    fn model() -> Bytes {
        let graph = Graph {
            inputs: vec!["x".into()],
            outputs: vec!["d".into()],
            initializers: vec!["w".into()],
            nodes: vec![
                node("Relu", &["x"], &["a"], &[]),
                node("Add", &["a", "w"], &["b"], &[]),
                node("Neg", &["b"], &["c"], &[]),
                node("Mul", &["c", "a"], &["d"], &[]),
            ],
        };
        let mut bytes = int(1, 8);
        length_field(&mut bytes, 7, &graph.encode());
        length_field(&mut bytes, 8, &int(2, 17));
        bytes.into()
    }

    #[test]
    fn the_nodes_between_two_values() {
        let bytes = model();
        let whole = Model::from_bytes(bytes.clone()).unwrap();
        let constant = |name: &str| {
            let graph = whole.graph();
            graph.constants.iter().find(|(id, _)| graph.name(**id) == name).map(|(_, tensor)| tensor.clone())
        };
        let made = part(&bytes, &[border("c")], &[border("a")], &constant).unwrap().unwrap();
        assert_eq!((made.nodes, made.inputs.clone()), (2, vec!["a".to_owned()]));
        let small = Model::from_bytes(made.bytes).unwrap();
        let ops: Vec<&str> = small.graph().nodes.iter().map(|node| node.op.name()).collect();
        assert_eq!(
            (ops, &*small.inputs()[0].name, &*small.outputs()[0].name),
            (vec!["Add", "Neg"], "a", "c")
        );
        // Without the cut the part goes back to the input, which nothing computes.
        assert_eq!(part(&bytes, &[border("c")], &[], &constant).unwrap(), None);
        let all = part(&bytes, &[border("d")], &[border("x")], &constant).unwrap().unwrap();
        assert_eq!(all.nodes, 4);
        for cut in 0..bytes.len() {
            // Damage gives an error or less of the model, never a panic.
            let _ = part(&bytes.slice(..cut), &[border("c")], &[border("a")], &constant);
        }
    }
}
