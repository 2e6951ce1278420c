//! Makes one product of those that read the same value and have constant factors, where heads of attention are split off their
//! results: the projections to queries, keys and values.
//!
//! What follows each of them, up to a `Reshape` before a `Transpose`, may be a constant bias and a constant scale, which go into
//! the factors.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use sardonyx_ops::expr::Expr;
use sardonyx_ops::ir::graph::{Graph, Node, ValueId};
use sardonyx_ops::ir::numbers::{float_tensor, floats};
use sardonyx_ops::matmul::matmul::MatMul;
use sardonyx_ops::movement::reshape::Reshape;
use sardonyx_ops::movement::split::{Lengths, Split};
use sardonyx_ops::movement::transpose::Transpose;
use sardonyx_ops::plan::Outcome;
use sardonyx_ops::pointwise::{Pointwise, functions};
use sardonyx_ops::{OpError, Operator, Tensor};

use super::Report;

/// Most elements of the factors of one product: more is not worth another copy.
const MOST: usize = 1 << 24;

/// A product with what follows it.
struct Branch {
    /// The nodes, the product first.
    nodes: Vec<usize>,
    /// The constant factor.
    factor: ValueId,
    bias: Option<ValueId>,
    scale: f64,
    /// What the last of the nodes writes.
    result: ValueId,
}

pub(super) fn run(graph: &mut Graph, report: &mut Report) {
    let mut readers: HashMap<ValueId, Vec<usize>> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().flatten().for_each(|id| readers.entry(*id).or_default().push(index));
    }
    // Being given away is being read by a node that is not there.
    graph.outputs.iter().for_each(|id| readers.entry(*id).or_default().push(usize::MAX));
    let mut groups: HashMap<ValueId, Vec<Branch>> = HashMap::new();
    let mut order = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if let (Some(branch), Some(Some(x))) = (branch(graph, &readers, index), node.inputs.first()) {
            let group = groups.entry(*x).or_default();
            if group.is_empty() {
                order.push(*x);
            }
            group.push(branch);
        }
    }
    let mut instead: HashMap<usize, Vec<Node>> = HashMap::new();
    for x in order {
        let Some(group) = groups.remove(&x).filter(|group| group.len() > 1) else { continue };
        let Some(&first) = group.first().and_then(|branch| branch.nodes.first()) else { continue };
        let Some(name) = graph.nodes.get(first).map(|node| Arc::clone(&node.name)) else { continue };
        match merged(graph, &name, x, &group) {
            Ok(nodes) => {
                report.add(&name, Outcome::Fused);
                group.iter().flat_map(|branch| &branch.nodes).for_each(|&at| {
                    instead.insert(at, Vec::new());
                });
                instead.insert(first, nodes);
            }
            Err(reason) => report.add(&name, Outcome::Declined(reason)),
        }
    }
    let nodes = std::mem::take(&mut graph.nodes).into_iter().enumerate();
    graph.nodes = nodes.flat_map(|(at, node)| instead.remove(&at).unwrap_or_else(|| vec![node])).collect();
}

fn downcast<T: Operator>(node: &Node) -> Option<&T> {
    (node.op.as_ref() as &dyn Any).downcast_ref()
}

/// The only node that reads a value.
fn reader<'a>(
    graph: &'a Graph,
    readers: &HashMap<ValueId, Vec<usize>>,
    id: ValueId,
) -> Option<(usize, &'a Node)> {
    match readers.get(&id)?.as_slice() {
        &[only] => Some((only, graph.nodes.get(only)?)),
        _ => None,
    }
}

fn branch(graph: &Graph, readers: &HashMap<ValueId, Vec<usize>>, index: usize) -> Option<Branch> {
    let node = graph.nodes.get(index)?;
    let op = downcast::<MatMul>(node)?;
    let (&[Some(_), Some(factor)], &[Some(result)]) = (node.inputs.as_slice(), node.outputs.as_slice())
    else {
        return None;
    };
    let constant = graph.constants.get(&factor).filter(|tensor| tensor.dtype().is_float())?;
    if op.trans_a || op.trans_b || constant.dims().len() != 2 {
        return None;
    }
    let columns = *constant.dims().last()?;
    let mut branch = Branch { nodes: vec![index], factor, bias: None, scale: f64::from(op.alpha), result };
    loop {
        let (at, next) = reader(graph, readers, branch.result)?;
        if downcast::<Reshape>(next).is_some() && next.inputs.first() == Some(&Some(branch.result)) {
            let split = next.outputs.first().copied().flatten()?;
            let (_, after) = reader(graph, readers, split)?;
            return downcast::<Transpose>(after).is_some().then_some(branch);
        }
        let [Some(a), Some(b)] = next.inputs.as_slice() else { return None };
        let other = if *a == branch.result { *b } else { *a };
        let tensor = graph.constants.get(&other).filter(|other| other.dtype() == constant.dtype())?;
        let call = downcast::<Pointwise>(next).map(|op| &op.expr);
        let is = |function| call == Some(&Expr::call(function, 2, Vec::new()));
        let number = || floats(&tensor.clone().aligned().view()).ok()?.first().copied();
        if is(&functions::ADD) && tensor.dims() == [columns] && branch.bias.is_none() && branch.scale == 1.0 {
            branch.bias = Some(other);
        } else if is(&functions::MUL) && tensor.len() == 1 && tensor.dims().len() < 2 {
            branch.scale *= number()?;
        } else if is(&functions::DIV) && tensor.len() == 1 && tensor.dims().len() < 2 && *b == other {
            branch.scale /= number()?;
        } else {
            return None;
        }
        branch.nodes.push(at);
        branch.result = next.outputs.first().copied().flatten()?;
    }
}

/// The nodes that stand for a group, or why there are none.
fn merged(graph: &mut Graph, name: &str, x: ValueId, group: &[Branch]) -> Result<Vec<Node>, String> {
    let tensor = |id: &ValueId| graph.constants.get(id).cloned();
    let factors: Option<Vec<Tensor>> = group.iter().map(|branch| tensor(&branch.factor)).collect();
    let factors = factors.ok_or("a factor is not constant")?;
    let first = factors.first().ok_or("there is nothing to merge")?;
    let (dtype, depth) = (first.dtype(), first.dims().first().copied().unwrap_or(0));
    if factors.iter().any(|factor| factor.dtype() != dtype || factor.dims().first() != Some(&depth)) {
        return Err("the factors have different types or depths".to_owned());
    }
    if group.iter().any(|branch| !branch.scale.is_finite() || branch.scale == 0.0) {
        return Err("a scale is not finite".to_owned());
    }
    if factors.iter().map(Tensor::len).sum::<usize>() > MOST || depth == 0 {
        return Err(format!("the factors have more than {MOST} elements, or none"));
    }
    let columns: Vec<usize> = factors.iter().filter_map(|factor| factor.dims().get(1).copied()).collect();
    let total: usize = columns.iter().sum();
    let text = |error: OpError| error.to_string();
    let factors: Result<Vec<Tensor>, _> =
        group.iter().zip(factors).map(|(branch, factor)| scaled(factor, branch.scale)).collect();
    let factor = side_by_side(&factors.map_err(text)?).ok_or("the factors are too large")?;
    let mut offsets = vec![0.0; total];
    let mut start = 0;
    for (branch, &width) in group.iter().zip(&columns) {
        if let Some(bias) = branch.bias.as_ref().and_then(tensor) {
            let values = floats(&bias.aligned().view()).map_err(text)?;
            offsets.iter_mut().skip(start).zip(values).for_each(|(slot, x)| *slot = x * branch.scale);
        }
        start += width;
    }
    let biased = group.iter().any(|branch| branch.bias.is_some());
    let bias = float_tensor(dtype, &[total], &offsets).map_err(text)?;
    let mut add = |suffix: &str, tensor: Option<Tensor>| {
        let id = graph.add_value(format!("{name}/{suffix}"));
        if let Some(tensor) = tensor {
            graph.constants.insert(id, tensor);
        }
        id
    };
    let node = |op: Arc<dyn Operator>, inputs: &[ValueId], outputs: Vec<Option<ValueId>>| Node {
        name: name.into(),
        op,
        inputs: inputs.iter().copied().map(Some).collect(),
        outputs,
    };
    let factor = add("factors", Some(factor));
    let mut result = add("product", None);
    let mut nodes = vec![node(Arc::new(MatMul::default()), &[x, factor], vec![Some(result)])];
    if biased {
        let bias = add("biases", Some(bias));
        let sum = add("sum", None);
        let op = Pointwise { name: "Add", expr: Expr::call(&functions::ADD, 2, Vec::new()) };
        nodes.push(node(Arc::new(op), &[result, bias], vec![Some(sum)]));
        result = sum;
    }
    let lengths = columns.iter().map(|&n| i64::try_from(n)).collect::<Result<_, _>>();
    let lengths = Lengths::Attribute(lengths.map_err(|_| "a factor is too wide")?);
    let op = Split { axis: -1, lengths, wanted: vec![true; group.len()] };
    let outputs = group.iter().map(|branch| Some(branch.result)).collect();
    nodes.push(node(Arc::new(op), &[result], outputs));
    Ok(nodes)
}

/// A factor times a number.
fn scaled(factor: Tensor, scale: f64) -> Result<Tensor, OpError> {
    if scale == 1.0 {
        return Ok(factor);
    }
    let values: Vec<f64> = floats(&factor.clone().aligned().view())?.iter().map(|x| x * scale).collect();
    float_tensor(factor.dtype(), factor.dims(), &values)
}

/// The columns of matrices with the same rows and types, one matrix after the other.
fn side_by_side(factors: &[Tensor]) -> Option<Tensor> {
    let first = factors.first()?;
    let (dtype, &[depth, _]) = (first.dtype(), first.dims()) else { return None };
    let columns: usize = factors.iter().filter_map(|factor| factor.dims().last()).sum();
    let mut all = Vec::new();
    all.try_reserve_exact(dtype.bytes_for(depth.checked_mul(columns)?)?).ok()?;
    for row in 0..depth {
        for factor in factors {
            let width = factor.bytes().len() / depth;
            all.extend_from_slice(factor.bytes().get(row * width..(row + 1) * width)?);
        }
    }
    Tensor::from_bytes(dtype, &[depth, columns], all.into()).ok()
}
