//! The quantized graph.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sardonyx_ops::Tensor;

use super::super::draft::{Draft, floats, int, int_of, made};
use super::super::range::{Range, missing};
use super::super::rounding::{signed_code, symmetric_scale};
use super::super::{Layer, Summary};
use super::choose::{Choice, Chosen};
use super::{Result, StaticOptions};
use crate::onnx::NodeProto;

/// Scale and zero point of a quantized value.
#[derive(Debug, Clone)]
struct Codes {
    scale: f32,
    /// As an unsigned code.
    zero: u8,
    scale_name: Arc<str>,
    zero_name: Arc<str>,
}

/// The name of a dequantized constant, and its scales.
type Dequantized = (Arc<str>, Vec<f32>);

/// Rewrites the graph.
pub(super) fn apply(
    draft: Draft,
    options: &StaticOptions,
    choice: &Choice,
    ranges: &HashMap<Arc<str>, Range>,
) -> Result<(Draft, Summary)> {
    let outputs = draft.model.graph.outputs.iter().map(|info| info.name.clone()).collect();
    let mut rewriter = Rewriter {
        draft,
        options: *options,
        choice,
        outputs,
        codes: HashMap::new(),
        back: HashMap::new(),
        constants: HashMap::new(),
        nodes: Vec::new(),
        summary: Summary::default(),
    };
    for name in choice.roots() {
        let range = ranges.get(&name).ok_or_else(|| missing(&name))?;
        rewriter.scale(&name, *range)?;
    }
    rewriter.graph()?;
    rewriter.layers();
    let Rewriter { mut draft, nodes, summary, .. } = rewriter;
    draft.model.graph.nodes = nodes;
    draft.model.graph.value_info.clear();
    draft.sweep();
    Ok((draft, summary))
}

struct Rewriter<'c> {
    draft: Draft,
    options: StaticOptions,
    choice: &'c Choice,
    outputs: HashSet<Arc<str>>,
    /// By the name of the value that has them.
    codes: HashMap<Arc<str>, Codes>,
    /// The dequantized version of each quantized value that has been made.
    back: HashMap<Arc<str>, Arc<str>>,
    /// The dequantized version of constants, by name and the axis of their scales.
    constants: HashMap<(Arc<str>, Option<usize>), Dequantized>,
    nodes: Vec<NodeProto>,
    summary: Summary,
}

impl Rewriter<'_> {
    /// Makes the scale and zero point of a range.
    fn scale(&mut self, name: &Arc<str>, range: Range) -> Result<()> {
        let (scale, zero) = range.codes();
        let zero_tensor = match self.options.signed_activations {
            // The same codes, 128 lower.
            true => Tensor::scalar((i16::from(zero) - 128) as i8),
            false => Tensor::scalar(zero),
        };
        let scale_name = self.draft.add(&format!("{name}_scale"), Tensor::scalar(scale));
        let zero_name = self.draft.add(&format!("{name}_zero_point"), zero_tensor);
        self.codes.insert(name.clone(), Codes { scale, zero, scale_name, zero_name });
        Ok(())
    }

    fn codes_of(&self, name: &Arc<str>) -> Result<Codes> {
        let root = self.choice.root(name);
        self.codes.get(root).cloned().ok_or_else(|| missing(root))
    }

    fn graph(&mut self) -> Result<()> {
        let quantized: HashSet<Arc<str>> = self.choice.values.iter().cloned().collect();
        for input in self.draft.model.graph.inputs.clone() {
            if quantized.contains(&input.name) {
                let back = self.draft.fresh(&format!("{}_dequantized", input.name));
                self.pair(&input.name, &input.name, &back)?;
            }
        }
        let mut dropped = HashSet::new();
        for (i, mut node) in std::mem::take(&mut self.draft.model.graph.nodes).into_iter().enumerate() {
            if dropped.contains(&i) {
                continue;
            }
            let chosen = self.choice.nodes.get(&i);
            if let Some(chosen) = chosen {
                self.operands(&mut node, chosen)?;
            }
            for input in &mut node.inputs {
                if let Some(back) = self.back.get(input) {
                    *input = back.clone();
                }
            }
            if let Some(chosen) = chosen
                && let Some(end) = chosen.end
                && self.is_bounded(end, &chosen.result)?
            {
                dropped.insert(end);
                if let Some(output) = node.outputs.first_mut() {
                    *output = chosen.result.clone();
                }
            }
            self.push(node, &quantized)?;
        }
        Ok(())
    }

    /// Adds a node, and the pair behind each of its results that is quantized.
    fn push(&mut self, mut node: NodeProto, quantized: &HashSet<Arc<str>>) -> Result<()> {
        let mut pairs = Vec::new();
        for output in &mut node.outputs {
            if !quantized.contains(output) {
                continue;
            }
            let named = output.clone();
            // An output of the model keeps its name, for the dequantized value.
            let back = match self.outputs.contains(&named) {
                true => {
                    *output = self.draft.fresh(&format!("{named}_float"));
                    named.clone()
                }
                false => self.draft.fresh(&format!("{named}_dequantized")),
            };
            pairs.push((named, output.clone(), back));
        }
        self.nodes.push(node);
        pairs.iter().try_for_each(|(named, float, back)| self.pair(named, float, back))
    }

    /// `back = Dequantize(Quantize(float))`, with the codes of the value called `named`.
    fn pair(&mut self, named: &Arc<str>, float: &Arc<str>, back: &Arc<str>) -> Result<()> {
        let codes = self.codes_of(named)?;
        let quantized = self.draft.fresh(&format!("{named}_quantized"));
        let (scale, zero) = (&codes.scale_name, &codes.zero_name);
        let name = format!("{named}_QuantizeLinear");
        self.nodes.push(self.draft.node("QuantizeLinear", &name, &[float, scale, zero], &[&quantized]));
        let name = format!("{named}_DequantizeLinear");
        self.nodes.push(self.draft.node("DequantizeLinear", &name, &[&quantized, scale, zero], &[back]));
        self.back.insert(named.clone(), back.clone());
        Ok(())
    }

    /// Whether the codes of a value cannot leave the bounds of the node at a position.
    fn is_bounded(&self, end: usize, result: &Arc<str>) -> Result<bool> {
        let codes = self.codes_of(result)?;
        let Some((low, high)) = self.choice.bounds.get(&end) else { return Ok(false) };
        let lowest = -f32::from(codes.zero) * codes.scale;
        let highest = (255.0 - f32::from(codes.zero)) * codes.scale;
        // Rounding of the scale may carry the highest code a little over the bound that it stands for.
        let slack = codes.scale * 1e-3;
        Ok(lowest >= *low - slack && highest <= *high + slack)
    }

    /// Quantizes what a chosen node reads: constants, and the bias of an anchor.
    fn operands(&mut self, node: &mut NodeProto, chosen: &Chosen) -> Result<()> {
        let activation = node.inputs.first().cloned();
        let mut scales = Vec::new();
        for &index in &chosen.values {
            let Some(name) = node.inputs.get(index).cloned() else { continue };
            let Some(tensor) = self.draft.constant(&name).cloned() else { continue };
            let back = if chosen.anchor && index == 1 {
                let axis = channel_axis(node, tensor.dims().len()).filter(|_| self.options.per_channel);
                let bias = self.bias(node).map(|(_, tensor)| tensor);
                let step = activation.as_ref().and_then(|x| self.codes_of(x).ok()).map_or(1.0, |x| x.scale);
                let (back, made) = self.weight(&name, &tensor, axis, bias.as_ref(), step)?;
                scales = made;
                back
            } else {
                self.constant(&name, &tensor)?
            };
            if let Some(place) = node.inputs.get_mut(index) {
                *place = back;
            }
        }
        let (Some((bias, tensor)), Some(x)) = (self.bias(node).filter(|_| chosen.anchor), activation) else {
            return Ok(());
        };
        let step = self.codes_of(&x)?.scale;
        let steps: Vec<f32> = scales.iter().map(|scale| scale * step).collect();
        let values = floats(&tensor).unwrap_or_default();
        if tensor.dims().len() != 1 || !(steps.len() == 1 || steps.len() == values.len()) {
            return Ok(());
        }
        let codes: Vec<i32> = values
            .iter()
            .zip(steps.iter().cycle())
            .map(|(value, step)| (f64::from(*value) / f64::from(*step)).round_ties_even() as i32)
            .collect();
        let dims: &[usize] = if steps.len() == 1 { &[] } else { &[steps.len()] };
        let zeros = made(Tensor::from_vec(dims, vec![0i32; steps.len()]))?;
        let codes = made(Tensor::from_vec(tensor.dims(), codes))?;
        let steps = made(Tensor::from_vec(dims, steps))?;
        let axis = (!dims.is_empty()).then_some(0);
        // Not shared: other readers of the same bias may have other steps.
        let back = self.dequantized(&bias, (codes, steps, zeros), axis)?;
        if let Some(place) = node.inputs.get_mut(2) {
            *place = back;
        }
        Ok(())
    }

    /// The constant bias of a node.
    fn bias(&self, node: &NodeProto) -> Option<(Arc<str>, Tensor)> {
        let name = node.inputs.get(2)?;
        Some((name.clone(), self.draft.constant(name).filter(|tensor| floats(tensor).is_some())?.clone()))
    }

    /// A weight in signed codes: its dequantized version, and its scales.
    fn weight(
        &mut self,
        name: &Arc<str>,
        tensor: &Tensor,
        axis: Option<usize>,
        bias: Option<&Tensor>,
        step: f32,
    ) -> Result<Dequantized> {
        let key = (name.clone(), axis);
        if let Some(known) = self.constants.get(&key) {
            return Ok(known.clone());
        }
        let values = floats(tensor).unwrap_or_default();
        let dims = tensor.dims();
        let channels = axis.and_then(|axis| dims.get(axis)).copied().unwrap_or(1).max(1);
        let inner: usize = axis.map_or(1, |axis| dims.iter().skip(axis + 1).product::<usize>().max(1));
        let channel = |i: usize| if axis.is_some() { i / inner % channels } else { 0 };
        let mut farthest = vec![0f32; channels];
        for (i, value) in values.iter().enumerate().filter(|(_, v)| v.is_finite()) {
            if let Some(most) = farthest.get_mut(channel(i)) {
                *most = most.max(value.abs());
            }
        }
        let mut scales: Vec<f32> = farthest.iter().map(|most| symmetric_scale([*most].into_iter())).collect();
        // The bias must fit 32 bits in steps of both scales, with room for the sum beside it.
        const MOST: f32 = (1u32 << 30) as f32;
        if let Some(bias) = bias.and_then(floats) {
            let largest = bias.iter().fold(0f32, |most, v| most.max(v.abs()));
            let of = |c: usize| {
                if bias.len() == channels { bias.get(c).map_or(0.0, |v| v.abs()) } else { largest }
            };
            scales.iter_mut().enumerate().for_each(|(c, scale)| *scale = scale.max(of(c) / step / MOST));
        }
        let scale = |i: usize| scales.get(channel(i)).copied().unwrap_or(1.0);
        let codes: Vec<i8> = values.iter().enumerate().map(|(i, v)| signed_code(*v, scale(i))).collect();
        let shape: &[usize] = if axis.is_some() { &[channels] } else { &[] };
        let zeros = made(Tensor::from_vec(shape, vec![0i8; scales.len()]))?;
        let (codes, steps) =
            (made(Tensor::from_vec(dims, codes))?, made(Tensor::from_vec(shape, scales.clone()))?);
        let back = self.dequantized(name, (codes, steps, zeros), axis)?;
        self.constants.insert(key, (back.clone(), scales.clone()));
        Ok((back, scales))
    }

    /// A constant among activations, in their codes.
    fn constant(&mut self, name: &Arc<str>, tensor: &Tensor) -> Result<Arc<str>> {
        let key = (name.clone(), Some(usize::MAX));
        if let Some((back, _)) = self.constants.get(&key) {
            return Ok(back.clone());
        }
        let values = floats(tensor).unwrap_or_default();
        let (scale, zero) = Range::EMPTY.with(&values).codes();
        let code = |v: &f32| ((v / scale).round_ties_even() + f32::from(zero)).clamp(0.0, 255.0) as u8;
        let codes: Vec<u8> = values.iter().map(code).collect();
        let lower = |code: u8| (i16::from(code) - 128) as i8;
        let (codes, zero) = match self.options.signed_activations {
            true => (
                made(Tensor::from_vec(tensor.dims(), codes.into_iter().map(lower).collect::<Vec<i8>>()))?,
                Tensor::scalar(lower(zero)),
            ),
            false => (made(Tensor::from_vec(tensor.dims(), codes))?, Tensor::scalar(zero)),
        };
        let back = self.dequantized(name, (codes, Tensor::scalar(scale), zero), None)?;
        self.constants.insert(key, (back.clone(), Vec::new()));
        Ok(back)
    }

    /// Adds codes, scale and zero point of a constant, and the node that dequantizes them; gives its result's name.
    fn dequantized(
        &mut self,
        name: &Arc<str>,
        (codes, scale, zero): (Tensor, Tensor, Tensor),
        axis: Option<usize>,
    ) -> Result<Arc<str>> {
        let codes = self.draft.add(&format!("{name}_quantized"), codes);
        let scale = self.draft.add(&format!("{name}_scale"), scale);
        let zero = self.draft.add(&format!("{name}_zero_point"), zero);
        let back = self.draft.fresh(&format!("{name}_dequantized"));
        let mut node =
            self.draft.node("DequantizeLinear", &format!("{back}_node"), &[&codes, &scale, &zero], &[&back]);
        if let Some(axis) = axis {
            node.attributes = vec![int("axis", axis as i64)];
        }
        self.nodes.push(node);
        Ok(back)
    }

    /// What was quantized, when all has been.
    fn layers(&mut self) {
        let mut anchors: Vec<(&usize, &Chosen)> =
            self.choice.nodes.iter().filter(|(_, c)| c.anchor).collect();
        anchors.sort_by_key(|(position, _)| **position);
        for (_, chosen) in anchors {
            let Some(quantized) = self.back.get(&chosen.result) else { continue };
            let ((node, op), float) = (chosen.node.clone(), chosen.result.clone());
            self.summary.layers.push(Layer { node, op, float, quantized: quantized.clone() });
        }
    }
}

/// Where the output channels of an anchor's constant are.
fn channel_axis(node: &NodeProto, rank: usize) -> Option<usize> {
    match &*node.op_type {
        "Conv" => Some(0),
        "ConvTranspose" if int_of(node, "group", 1) == 1 => Some(1),
        "Gemm" => Some(if int_of(node, "transB", 0) != 0 { 0 } else { 1 }),
        // A scale for each matrix and column is more than DequantizeLinear can say.
        "MatMul" if rank == 2 => Some(1),
        _ => None,
    }
}
