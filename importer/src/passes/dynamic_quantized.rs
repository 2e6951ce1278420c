//! Gives products of quantized matrices and what turns them into numbers to one operator: `MatMulInteger`, `Cast`, `Mul` by
//! the product of both scales, and where there is one, `Add` of a bias. It rounds where the separate operators do, so the
//! numbers are the same.

use std::collections::HashMap;
use std::sync::Arc;

use sardonyx_ops::DType;
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::ir::graph::{Graph, Node, ValueId};
use sardonyx_ops::plan::Outcome;
use sardonyx_ops::quantize::matmul_integer_to_float::MatMulIntegerToFloat;

use super::Report;

pub(super) fn run(graph: &mut Graph, report: &mut Report) {
    if !graph.nodes.iter().any(|node| node.op.name() == "MatMulInteger") {
        return;
    }
    let mut readers: HashMap<ValueId, Vec<usize>> = HashMap::new();
    let mut producers: HashMap<ValueId, usize> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        for id in node.inputs.iter().flatten() {
            readers.entry(*id).or_default().push(index);
        }
        node.outputs.iter().flatten().for_each(|id| {
            producers.insert(*id, index);
        });
    }
    for id in &graph.outputs {
        readers.entry(*id).or_default().push(usize::MAX);
    }
    let found = Found { graph, readers: &readers, producers: &producers };
    let all: Vec<Match> = (0..graph.nodes.len()).filter_map(|index| found.product(index)).collect();
    let mut nodes: Vec<Option<Node>> = graph.nodes.drain(..).map(Some).collect();
    for Match { node, last, others } in all {
        report.add(&node.name, Outcome::Fused);
        for index in others {
            if let Some(slot) = nodes.get_mut(index) {
                *slot = None;
            }
        }
        if let Some(slot) = nodes.get_mut(last) {
            *slot = Some(node);
        }
    }
    graph.nodes = nodes.into_iter().flatten().collect();
}

/// A product, the place of the last of its nodes, and the places of the others.
struct Match {
    node: Node,
    last: usize,
    others: Vec<usize>,
}

struct Found<'g> {
    graph: &'g Graph,
    readers: &'g HashMap<ValueId, Vec<usize>>,
    producers: &'g HashMap<ValueId, usize>,
}

impl Found<'_> {
    fn node(&self, index: usize) -> Option<&Node> {
        self.graph.nodes.get(index)
    }

    fn producer(&self, id: ValueId) -> Option<&Node> {
        self.node(*self.producers.get(&id)?)
    }

    /// The only reader of a node's only output, if it has this name.
    fn reader(&self, node: &Node, name: &str) -> Option<(usize, &Node)> {
        let [Some(output)] = node.outputs.as_slice() else { return None };
        let [index] = self.readers.get(output)?.as_slice() else { return None };
        Some((*index, self.node(*index).filter(|reader| reader.op.name() == name)?))
    }

    /// The other of the two inputs of a node.
    fn other(node: &Node, than: &Node) -> Option<ValueId> {
        match (node.inputs.as_slice(), than.outputs.as_slice()) {
            (&[Some(a), Some(b)], &[Some(own)]) if a != b => Some(if a == own { b } else { a }),
            _ => None,
        }
    }

    /// The dimensions of a constant of this type.
    fn constant(&self, id: ValueId, dtype: DType) -> Option<&[usize]> {
        self.graph.constants.get(&id).filter(|tensor| tensor.dtype() == dtype).map(|tensor| tensor.dims())
    }

    /// The product that begins with this node.
    fn product(&self, index: usize) -> Option<Match> {
        let product = self.node(index).filter(|node| node.op.name() == "MatMulInteger")?;
        let input = |at: usize| product.inputs.get(at).copied().flatten();
        let (a, b) = (input(0)?, input(1)?);
        let [_, columns] = self.graph.constants.get(&b)?.dims() else { return None };
        let (cast_at, cast) = self.reader(product, "Cast")?;
        let casts = cast.op.infer(&[Some(&Fact::unranked(DType::I32))], 1).ok()?;
        casts.first().filter(|fact| fact.dtype == DType::F32)?;
        let (scaled_at, scaled) = self.reader(cast, "Mul")?;
        let factor = self.producer(Self::other(scaled, cast)?).filter(|node| node.op.name() == "Mul")?;
        // One scale is that of the quantization of `a`, which is one number.
        let dynamic = self.producer(a).filter(|node| node.op.name() == "DynamicQuantizeLinear")?;
        let a_scale = dynamic.outputs.get(1).copied().flatten()?;
        let &[Some(left), Some(right)] = factor.inputs.as_slice() else { return None };
        let b_scale = if left == a_scale { right } else { left };
        if left != a_scale && right != a_scale {
            return None;
        }
        let fits = |dims: &[usize]| dims.is_empty() || dims == [1] || dims == [*columns];
        self.constant(b_scale, DType::F32).filter(|dims| fits(dims))?;
        let bias = self.reader(scaled, "Add").and_then(|(at, add)| {
            let bias = Self::other(add, scaled)?;
            self.constant(bias, DType::F32).filter(|dims| *dims == [*columns])?;
            Some((at, add, bias))
        });
        let (last, outputs) = match &bias {
            Some((at, add, _)) => (*at, add.outputs.clone()),
            None => (scaled_at, scaled.outputs.clone()),
        };
        let others = [index, cast_at].into_iter().chain(bias.as_ref().map(|_| scaled_at)).collect();
        let mut inputs = vec![Some(a), Some(b), Some(a_scale), Some(b_scale), input(2), input(3)];
        inputs.extend(bias.map(|(.., bias)| Some(bias)));
        while inputs.last() == Some(&None) {
            inputs.pop();
        }
        let op = Arc::new(MatMulIntegerToFloat { stepwise: true });
        Some(Match { node: Node { name: Arc::clone(&product.name), op, inputs, outputs }, last, others })
    }
}
