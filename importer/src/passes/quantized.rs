//! Gives groups of `DequantizeLinear`, an operator and `QuantizeLinear` to operators over the quantized integers.
//!
//! Three rewrites, tried at each `QuantizeLinear` whose scale is one constant:
//!
//! * **Products.** Conv, Gemm and MatMul between dequantized operands become QLinearConv, QGemm and QLinearMatMul, with
//!   `Relu` and `Clip` before the quantization as bounds of the result. The graph as written says `round(f / s)`, where
//!   `f` is the sum of products of dequantized floats; the integer operator computes the same sum of integers exactly and
//!   multiplies once. Both are equal where floats are exact; a float sum rounded across a tie gives the neighbour, so one
//!   step is the most that they differ by. The bias must be of integers whose scale is the product of the others', else
//!   the sum would be another.
//! * **Bounds.** `Relu` and `Clip` between a dequantization and a quantization with the same parameters only hold integers
//!   to bounds, found by trying all of them. The operator before does that in passing.
//! * **Movement.** Operators that only move elements, and maxima of windows, do so before the quantization as well as
//!   behind it. What is dequantized and quantized with the same parameters in between is not touched at all.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use sardonyx_ops::conv::conv::Conv;
use sardonyx_ops::ir::graph::{Graph, Node, ValueId};
use sardonyx_ops::ir::numbers::{floats, integers};
use sardonyx_ops::matmul::gemm::Gemm;
use sardonyx_ops::matmul::matmul::MatMul;
use sardonyx_ops::plan::Outcome;
use sardonyx_ops::quantize::dequantize_linear::DequantizeLinear;
use sardonyx_ops::quantize::ends::Bounds;
use sardonyx_ops::quantize::qgemm::QGemm;
use sardonyx_ops::quantize::qlinear_conv::QLinearConv;
use sardonyx_ops::quantize::qlinear_matmul::QLinearMatMul;
use sardonyx_ops::quantize::quantize_linear::QuantizeLinear;
use sardonyx_ops::{DType, Operator, Tensor};

use super::Report;

/// Operators that give elements of input 0 (of every input: `Concat`) at other places.
const MOVEMENT: [&str; 12] = [
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Identity",
    "MaxPool",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Movement behind one quantization, at most.
const DEEPEST: usize = 16;

pub(super) fn run(graph: &mut Graph, report: &mut Report) {
    if !graph.nodes.iter().any(|node| downcast::<QuantizeLinear>(node).is_some()) {
        return;
    }
    let mut readers: HashMap<ValueId, usize> = HashMap::new();
    let read = graph.nodes.iter().flat_map(|node| node.inputs.iter().flatten()).chain(&graph.outputs);
    for id in graph.tensors(read) {
        *readers.entry(id).or_default() += 1;
    }
    let nodes = std::mem::take(&mut graph.nodes);
    let mut state =
        State { graph, readers, nodes: Vec::new(), producers: HashMap::new(), same: HashMap::new() };
    for mut node in nodes {
        for input in node.inputs.iter_mut().flatten() {
            *input = state.same.get(input).copied().unwrap_or(*input);
        }
        state.quantization(node, report);
    }
    let State { graph, nodes, same, .. } = state;
    graph.nodes = nodes.into_iter().flatten().collect();
    let renamed = |id: &ValueId| same.get(id).copied().unwrap_or(*id);
    graph.outputs.iter_mut().for_each(|id| *id = renamed(id));
    graph.items.values_mut().flatten().for_each(|item| *item = item.map(&mut { renamed }));
}

fn downcast<T: Operator>(node: &Node) -> Option<&T> {
    (node.op.as_ref() as &dyn Any).downcast_ref()
}

/// The parameters of a quantization with one scale.
#[derive(Clone, Copy, PartialEq)]
struct Parameters {
    scale: f32,
    zero: i16,
    dtype: DType,
}

/// A dequantized operand of a product.
struct Operand {
    codes: ValueId,
    scale: ValueId,
    zero: ValueId,
    /// The scales; one is for everything.
    scales: Vec<f32>,
    /// The axis of several scales.
    axis: i64,
}

struct State<'g> {
    graph: &'g mut Graph,
    /// How many nodes read a value, outputs counted as one more.
    readers: HashMap<ValueId, usize>,
    /// Nodes so far; those that others do now are gone.
    nodes: Vec<Option<Node>>,
    producers: HashMap<ValueId, usize>,
    /// Values that turned out to be others.
    same: HashMap<ValueId, ValueId>,
}

impl State<'_> {
    fn push(&mut self, node: Node) {
        for &output in node.outputs.iter().flatten() {
            self.producers.insert(output, self.nodes.len());
        }
        self.nodes.push(Some(node));
    }

    fn producer(&self, id: ValueId) -> Option<&Node> {
        self.nodes.get(*self.producers.get(&id)?)?.as_ref()
    }

    fn is_read_once(&self, id: ValueId) -> bool {
        self.readers.get(&id) == Some(&1)
    }

    fn remove(&mut self, id: ValueId) {
        if let Some(slot) = self.producers.get(&id).and_then(|&index| self.nodes.get_mut(index)) {
            *slot = None;
        }
    }

    /// Adds a node, rewritten if it is a quantization that a rewrite fits.
    fn quantization(&mut self, node: Node, report: &mut Report) {
        let parameters = self.quantized(&node);
        let (Some(to), Some(Some(x)), [Some(y)]) = (parameters, node.inputs.first(), node.outputs.as_slice())
        else {
            return self.push(node);
        };
        let (x, y) = (*x, *y);
        let done = match self.product(&node, x, y, to) {
            Some(Ok(product)) => {
                self.push(product);
                Ok(())
            }
            Some(Err(reason)) => Err(Some(reason)),
            None if self.bounds(x, y, to) || self.movement(&node, x, y, to) => Ok(()),
            None => Err(None),
        };
        match done {
            Ok(()) => report.add(&node.name, Outcome::Fused),
            Err(reason) => {
                if let Some(reason) = reason {
                    report.add(&node.name, Outcome::Declined(reason.to_owned()));
                }
                self.push(node);
            }
        }
    }

    fn constant(&self, id: Option<ValueId>) -> Option<&Tensor> {
        self.graph.constants.get(&id?)
    }

    /// One constant number and the zero point that goes with it; `dtype` is the type where there is none.
    fn parameters(&self, scale: Option<ValueId>, zero: Option<ValueId>, dtype: DType) -> Option<Parameters> {
        let scale = self.constant(scale).filter(|scale| scale.dtype() == DType::F32 && scale.len() == 1)?;
        let scale = *floats(&scale.view()).ok()?.first()? as f32;
        let (zero, dtype) = match zero {
            None => (0, dtype),
            Some(_) => {
                let zero = self.constant(zero).filter(|zero| zero.len() == 1)?;
                (i16::try_from(*integers(&zero.view()).ok()?.first()?).ok()?, zero.dtype())
            }
        };
        let is_usable = scale.is_finite() && scale > 0.0 && matches!(dtype, DType::I8 | DType::U8);
        is_usable.then_some(Parameters { scale, zero, dtype })
    }

    /// The parameters of a `QuantizeLinear` to bytes.
    fn quantized(&self, node: &Node) -> Option<Parameters> {
        let op = downcast::<QuantizeLinear>(node)?;
        let input = |index: usize| node.inputs.get(index).copied().flatten();
        let plain = op.block == 0 && op.precision.is_none_or(|precision| precision == DType::F32);
        self.parameters(input(1), input(2), op.to.unwrap_or(DType::U8)).filter(|_| plain)
    }

    /// The codes and parameters of a `DequantizeLinear` to f32 with one scale.
    fn dequantized(&self, id: ValueId) -> Option<(ValueId, Parameters)> {
        let node = self.producer(id)?;
        let op = downcast::<DequantizeLinear>(node)?;
        let input = |index: usize| node.inputs.get(index).copied().flatten();
        let plain = op.block == 0 && op.to.is_none_or(|to| to == DType::F32);
        // Without a zero point the type is that of the codes, which only inference finds out.
        input(2).filter(|_| plain)?;
        Some((input(0)?, self.parameters(input(1), input(2), DType::U8)?))
    }

    /// A dequantized operand of a product.
    fn operand(&mut self, id: ValueId) -> Option<Operand> {
        let node = self.producer(id)?;
        let op = *downcast::<DequantizeLinear>(node)?;
        let input = |index: usize| node.inputs.get(index).copied().flatten();
        let (codes, scale, zero) = (input(0)?, input(1)?, input(2));
        let known = self.constant(Some(scale)).filter(|scale| {
            scale.dtype() == DType::F32
                && scale.dims().len() <= 1
                && op.block == 0
                && op.to.is_none_or(|to| to == DType::F32)
        })?;
        let scales: Vec<f32> = floats(&known.view()).ok()?.into_iter().map(|scale| scale as f32).collect();
        let zero = match zero {
            Some(zero) => zero,
            None => {
                let codes = self.constant(Some(codes))?;
                let zero = Tensor::zeroed(codes.dtype(), &[]).ok()?;
                self.add_constant(zero)
            }
        };
        let zeros = self.constant(Some(zero))?;
        let is_usable = matches!(zeros.dtype(), DType::I8 | DType::U8)
            && scales.iter().all(|scale| scale.is_finite() && *scale > 0.0);
        is_usable.then_some(Operand { codes, scale, zero, scales, axis: op.axis })
    }

    fn add_constant(&mut self, tensor: Tensor) -> ValueId {
        let id = self.graph.add_value(format!("quantized{}", self.graph.names.len()));
        self.graph.constants.insert(id, tensor);
        id
    }

    /// The integers of a dequantized bias, if its scale is the product of the others' and it has no zero point. `Ok(None)`
    /// where there is no bias.
    fn bias(&self, id: Option<ValueId>, x: &Operand, w: &Operand) -> Result<Option<ValueId>, &'static str> {
        let Some(id) = id else { return Ok(None) };
        let other = "the bias is not of integers with the product of both scales";
        let node =
            self.producer(id).filter(|node| downcast::<DequantizeLinear>(node).is_some()).ok_or(other)?;
        let input = |index: usize| node.inputs.get(index).copied().flatten();
        let codes = self.constant(input(0)).filter(|codes| codes.dtype() == DType::I32).ok_or(other)?;
        let scales = self.constant(input(1)).and_then(|scale| floats(&scale.view()).ok()).ok_or(other)?;
        if input(2).is_some() {
            let zeros = self.constant(input(2)).and_then(|zero| integers(&zero.view()).ok()).ok_or(other)?;
            if zeros.iter().any(|&zero| zero != 0) {
                return Err(other);
            }
        }
        let [own] = x.scales.as_slice() else { return Err("the first factor has several scales") };
        let count = codes.len();
        let each = |all: usize| all == 1 || all == count;
        if !each(scales.len()) || !each(w.scales.len()) || codes.dims().len() != 1 {
            return Err("the bias is not one number per channel");
        }
        for channel in 0..count {
            let pick = |len: usize| if len == 1 { 0 } else { channel };
            let product = w.scales.get(pick(w.scales.len())).map(|scale| own * scale);
            if product.map(f64::from) != scales.get(pick(scales.len())).copied() {
                return Err(other);
            }
        }
        Ok(input(0))
    }

    /// The quantized operator for the product whose result `x` is quantized; `None` where there is no such product.
    fn product(
        &mut self,
        q: &Node,
        x: ValueId,
        y: ValueId,
        to: Parameters,
    ) -> Option<Result<Node, &'static str>> {
        let (chain, result) = self.clamps(x);
        let anchor = self.producer(result)?.clone();
        let kind = Kind::of(&anchor)?;
        Some(self.integer(q, &anchor, kind, (&chain, result), y, to))
    }

    fn integer(
        &mut self,
        q: &Node,
        anchor: &Node,
        kind: Kind,
        (chain, result): (&[Node], ValueId),
        y: ValueId,
        to: Parameters,
    ) -> Result<Node, &'static str> {
        let input = |node: &Node, index: usize| node.inputs.get(index).copied().flatten();
        let (Some(a), Some(b)) = (input(anchor, 0), input(anchor, 1)) else {
            return Err("a factor is missing");
        };
        let x = self.operand(a).ok_or("the first factor is not dequantized")?;
        let w = self.operand(b).ok_or("the second factor is not dequantized")?;
        if x.scales.len() != 1 {
            return Err("the first factor has several scales");
        }
        let rank = self.constant(Some(w.codes)).map(|codes| codes.dims().len());
        if w.scales.len() != 1 && !rank.is_some_and(|rank| kind.scales_along(w.axis, rank)) {
            return Err("the scales of the second factor do not go along its output channels");
        }
        let bias = self.bias(input(anchor, 2), &x, &w)?;
        let inner = chain.iter().flat_map(|node| node.outputs.iter().flatten()).chain([&result]);
        if inner.into_iter().any(|id| !self.is_read_once(*id)) {
            return Err("a result in between has other readers");
        }
        let bounds = if chain.is_empty() { Some(Bounds::NONE) } else { self.held(chain, to) };
        let bounds = bounds.ok_or("an activation that does more than to hold to bounds")?;
        let (scale, zero) = (input(q, 1), Some(self.zero_of(q, to)));
        let first = [Some(x.codes), Some(x.scale), Some(x.zero), Some(w.codes), Some(w.scale), Some(w.zero)];
        let (op, rest): (Arc<dyn Operator>, Vec<Option<ValueId>>) = match kind {
            Kind::Conv(conv) => (Arc::new(QLinearConv { conv, bounds }), vec![scale, zero, bias]),
            Kind::Gemm(gemm) => {
                let op = QGemm { trans_a: gemm.trans_a, trans_b: gemm.trans_b, alpha: 1.0, bounds };
                (Arc::new(op), vec![bias, scale, zero])
            }
            Kind::MatMul => (Arc::new(QLinearMatMul { bounds }), vec![scale, zero]),
        };
        let mut inputs = first.to_vec();
        inputs.extend(rest);
        while inputs.last() == Some(&None) {
            inputs.pop();
        }
        chain.iter().flat_map(|node| node.outputs.iter().flatten()).for_each(|id| self.remove(*id));
        self.remove(result);
        Ok(Node { name: Arc::clone(&anchor.name), op, inputs, outputs: vec![Some(y)] })
    }

    /// The zero point of a quantization, made where it is not given.
    fn zero_of(&mut self, q: &Node, to: Parameters) -> ValueId {
        match q.inputs.get(2).copied().flatten() {
            Some(zero) => zero,
            None => self.add_constant(Tensor::zeroed(to.dtype, &[]).unwrap_or_else(|_| Tensor::scalar(0u8))),
        }
    }

    /// `Relu` and `Clip` with constant bounds that lead to a value, the last first, and what they begin with.
    fn clamps(&self, mut id: ValueId) -> (Vec<Node>, ValueId) {
        let mut chain = Vec::new();
        while let Some(node) = self.producer(id).filter(|node| matches!(node.op.name(), "Relu" | "Clip")) {
            let constant = |id: &ValueId| self.graph.constants.contains_key(id);
            let Some(Some(first)) =
                node.inputs.first().filter(|_| node.inputs.iter().skip(1).flatten().all(constant))
            else {
                break;
            };
            chain.push(node.clone());
            id = *first;
        }
        (chain, id)
    }

    /// What becomes of each code when it is dequantized, led through these nodes, and quantized with the same parameters.
    fn table(&self, chain: &[Node], to: Parameters) -> Option<Vec<i16>> {
        let all: Vec<i16> = codes(to.dtype).collect();
        let tensor = |values: &[i16]| match to.dtype {
            DType::I8 => Tensor::from_vec(&[values.len()], values.iter().map(|&x| x as i8).collect()),
            _ => Tensor::from_vec(&[values.len()], values.iter().map(|&x| x as u8).collect()),
        };
        let (scale, zero) = (Tensor::scalar(to.scale), tensor(&[to.zero]).ok()?.reshaped(&[]).ok()?);
        let inputs = |x: &'_ Tensor| [x.clone(), scale.clone(), zero.clone()];
        let run = |op: &dyn Operator, inputs: &[Tensor]| {
            let views: Vec<_> = inputs.iter().map(|x| Some(x.view())).collect();
            op.reference(&views, 1).ok()?.into_iter().next()
        };
        let mut x = run(&DequantizeLinear { axis: 1, block: 0, to: None }, &inputs(&tensor(&all).ok()?))?;
        for node in chain.iter().rev() {
            let mut given = vec![x];
            for id in node.inputs.iter().skip(1).flatten() {
                given.push(self.graph.constants.get(id)?.clone().aligned());
            }
            x = run(node.op.as_ref(), &given)?;
        }
        let quantize = QuantizeLinear { axis: 1, block: 0, saturate: true, to: None, precision: None };
        let y = run(&quantize, &inputs(&x))?;
        integers(&y.view()).ok()?.into_iter().map(|x| i16::try_from(x).ok()).collect()
    }

    /// The bounds that these nodes hold every code to, if they do nothing else.
    fn held(&self, chain: &[Node], to: Parameters) -> Option<Bounds> {
        let table = self.table(chain, to)?;
        let (&least, &greatest) = (table.first()?, table.last()?);
        let clamps = least <= greatest
            && codes(to.dtype).zip(&table).all(|(code, &held)| held == code.clamp(least, greatest));
        clamps.then_some(Bounds { least, greatest })
    }

    /// Lets the operator before hold its results to the bounds that follow it.
    fn bounds(&mut self, x: ValueId, y: ValueId, to: Parameters) -> bool {
        let (chain, first) = self.clamps(x);
        let Some((codes, from)) = self.dequantized(first) else { return false };
        let read_once = chain.iter().flat_map(|node| node.outputs.iter().flatten()).chain([&first, &codes]);
        if chain.is_empty() || from != to || read_once.into_iter().any(|id| !self.is_read_once(*id)) {
            return false;
        }
        let op = self.held(&chain, to).and_then(|bounds| bounded(self.producer(codes)?, bounds));
        let Some(&index) = self.producers.get(&codes) else { return false };
        let (Some(op), Some(Some(node))) = (op, self.nodes.get_mut(index)) else { return false };
        node.op = op;
        node.outputs = vec![Some(y)];
        self.producers.insert(y, index);
        chain.iter().flat_map(|node| node.outputs.iter().flatten()).for_each(|id| self.remove(*id));
        self.remove(first);
        true
    }

    /// Whether a value comes from dequantizations by movement alone.
    fn is_moved(&self, id: ValueId, depth: usize) -> bool {
        if self.dequantized(id).is_some() {
            return true;
        }
        let moves = |node: &&Node| {
            MOVEMENT.contains(&node.op.name())
                && node.outputs.len() == 1
                && depth > 0
                && self.is_read_once(id)
        };
        self.producer(id).filter(moves).is_some_and(|node| {
            moved(node).all(|index| {
                node.inputs.get(index).copied().flatten().is_some_and(|id| self.is_moved(id, depth - 1))
            })
        })
    }

    /// Quantizes before elements are moved rather than behind.
    fn movement(&mut self, q: &Node, x: ValueId, y: ValueId, to: Parameters) -> bool {
        let unchanged = self.table(&[], to).is_some_and(|table| table.into_iter().eq(codes(to.dtype)));
        let direct = self.dequantized(x).is_some_and(|(_, from)| from != to);
        if !unchanged || direct || !self.is_moved(x, DEEPEST) {
            return false;
        }
        let id = self.moved(q, x, Some(y), to);
        if id != y {
            self.same.insert(y, id);
        }
        true
    }

    /// The quantized `x`, of a name of its own unless it is there already.
    fn moved(&mut self, q: &Node, x: ValueId, y: Option<ValueId>, to: Parameters) -> ValueId {
        if let Some((codes, _)) = self.dequantized(x).filter(|(_, from)| *from == to) {
            return codes;
        }
        let name = self.producer(x).map_or_else(|| Arc::clone(&q.name), |node| Arc::clone(&node.name));
        let own = |state: &mut Self| y.unwrap_or_else(|| state.graph.add_value(format!("{name}/quantized")));
        if self.dequantized(x).is_some() {
            let id = own(self);
            let inputs = [&[Some(x)], q.inputs.get(1..).unwrap_or(&[])].concat();
            let node =
                Node { name: Arc::clone(&q.name), op: Arc::clone(&q.op), inputs, outputs: vec![Some(id)] };
            self.push(node);
            return id;
        }
        let Some(mut node) = self.producer(x).cloned() else { return x };
        for index in moved(&node) {
            let Some(Some(input)) = node.inputs.get(index).copied() else { continue };
            let input = self.moved(q, input, None, to);
            if let Some(slot) = node.inputs.get_mut(index) {
                *slot = Some(input);
            }
        }
        let id = own(self);
        node.outputs = vec![Some(id)];
        self.remove(x);
        self.push(node);
        id
    }
}

/// The inputs whose elements an operator moves.
fn moved(node: &Node) -> std::ops::Range<usize> {
    if node.op.name() == "Concat" { 0..node.inputs.len() } else { 0..1 }
}

/// All integers of a type, least first.
fn codes(dtype: DType) -> std::ops::RangeInclusive<i16> {
    if dtype == DType::I8 { -128..=127 } else { 0..=255 }
}

/// The operator with its results held to further bounds; `None` when it has none.
fn bounded(node: &Node, bounds: Bounds) -> Option<Arc<dyn Operator>> {
    let within = |own: Bounds| {
        let held = |bound: i16| bound.clamp(bounds.least, bounds.greatest.max(bounds.least));
        Bounds { least: held(own.least), greatest: held(own.greatest) }
    };
    if let Some(op) = downcast::<QLinearConv>(node) {
        return Some(Arc::new(QLinearConv { bounds: within(op.bounds), ..op.clone() }));
    }
    if let Some(op) = downcast::<QLinearMatMul>(node) {
        return Some(Arc::new(QLinearMatMul { bounds: within(op.bounds) }));
    }
    let op = downcast::<QGemm>(node).filter(|_| node.inputs.len() == 9)?;
    Some(Arc::new(QGemm { bounds: within(op.bounds), ..*op }))
}

/// A product of floats.
enum Kind {
    Conv(Conv),
    Gemm(Gemm),
    MatMul,
}

impl Kind {
    fn of(node: &Node) -> Option<Kind> {
        if let Some(conv) = downcast::<Conv>(node) {
            return Some(Kind::Conv(conv.clone()));
        }
        if let Some(gemm) = downcast::<Gemm>(node) {
            return (gemm.alpha == 1.0 && gemm.beta == 1.0).then_some(Kind::Gemm(*gemm));
        }
        (downcast::<MatMul>(node)? == &MatMul::default()).then_some(Kind::MatMul)
    }

    /// Whether scales along `axis` of the second factor are one for each output channel.
    fn scales_along(&self, axis: i64, rank: usize) -> bool {
        let Ok(whole) = i64::try_from(rank) else { return false };
        let axis = if axis < 0 { axis + whole } else { axis };
        match self {
            Kind::Conv(_) => axis == 0,
            Kind::Gemm(gemm) => axis == i64::from(!gemm.trans_b),
            Kind::MatMul => rank == 2 && axis == 1,
        }
    }
}
