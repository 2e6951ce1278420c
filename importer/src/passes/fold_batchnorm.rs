//! Folds a `BatchNormalization` with constant statistics into the weights of the convolution or `Gemm` before it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use sardonyx_ops::conv::conv::Conv;
use sardonyx_ops::conv::conv_transpose::ConvTranspose;
use sardonyx_ops::ir::graph::{Graph, Node, ValueId};
use sardonyx_ops::ir::numbers::{float_tensor, floats};
use sardonyx_ops::matmul::gemm::Gemm;
use sardonyx_ops::norm::BatchNormalization;
use sardonyx_ops::plan::Outcome;
use sardonyx_ops::{Operator, Tensor};

use super::Report;

pub(super) fn run(graph: &mut Graph, report: &mut Report) {
    let mut readers: HashMap<ValueId, usize> = HashMap::new();
    let read = graph.nodes.iter().flat_map(|node| node.inputs.iter().flatten()).chain(&graph.outputs);
    for id in graph.tensors(read) {
        *readers.entry(id).or_default() += 1;
    }
    let mut producers: HashMap<ValueId, usize> = HashMap::new();
    let mut nodes: Vec<Option<Node>> = std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
    for index in 0..nodes.len() {
        let Some(node) = nodes.get(index).and_then(Option::as_ref) else { continue };
        let name = Arc::clone(&node.name);
        let found = downcast::<BatchNormalization>(node.op.as_ref())
            .and_then(|norm| Some((norm, node.inputs.first().copied().flatten()?)))
            .and_then(|(norm, x)| Some((norm, x, *producers.get(&x)?)));
        let folded = found.and_then(|(norm, x, place)| {
            let before = nodes.get(place)?.as_ref()?;
            let layout = Layout::of(before)?;
            Some(match readers.get(&x) {
                Some(1) => fold(graph, norm, node, before, &layout).map(|folded| (place, folded)),
                _ => Err(format!("the result of {} has other readers", before.name)),
            })
        });
        match folded {
            Some(Ok((place, folded))) => {
                report.add(&name, Outcome::Fused);
                for (place, content) in [(index, None), (place, Some(folded))] {
                    if let Some(slot) = nodes.get_mut(place) {
                        *slot = content;
                    }
                }
            }
            Some(Err(reason)) => report.add(&name, Outcome::Declined(reason)),
            None => {
                if let [Some(output)] = node.outputs.as_slice() {
                    producers.insert(*output, index);
                }
            }
        }
    }
    graph.nodes = nodes.into_iter().flatten().collect();
}

fn downcast<T: Operator>(op: &dyn Operator) -> Option<&T> {
    (op as &dyn Any).downcast_ref()
}

/// How the weights of an operator lie along its output channels.
enum Layout {
    /// Channels first.
    Conv,
    /// (inputs, channels of a group, window…), inputs group by group.
    ConvTranspose { groups: usize },
    /// A matrix whose columns, or rows when transposed, are the channels.
    Gemm(Gemm),
}

impl Layout {
    fn of(node: &Node) -> Option<Layout> {
        let op = node.op.as_ref();
        if downcast::<Conv>(op).is_some() {
            return Some(Layout::Conv);
        }
        if let Some(op) = downcast::<ConvTranspose>(op) {
            return Some(Layout::ConvTranspose { groups: op.groups });
        }
        downcast::<Gemm>(op).map(|gemm| Layout::Gemm(*gemm))
    }

    /// The number of channels, and the channel of each weight.
    fn channels(&self, dims: &[usize]) -> Option<(usize, impl Fn(usize) -> usize)> {
        let (count, period, group, inner) = match (self, dims) {
            (Layout::Conv, [outputs, rest @ ..]) => (*outputs, *outputs, usize::MAX, rest.iter().product()),
            (Layout::ConvTranspose { groups }, [inputs, outputs, window @ ..]) => {
                let inner: usize = window.iter().product();
                let group = inputs.checked_div(*groups)?.checked_mul(*outputs)?.checked_mul(inner)?;
                (outputs.checked_mul(*groups)?, *outputs, group, inner)
            }
            (Layout::Gemm(gemm), [rows, columns]) if gemm.trans_b => (*rows, *rows, usize::MAX, *columns),
            (Layout::Gemm(_), [_, columns]) => (*columns, *columns, usize::MAX, 1),
            _ => return None,
        };
        if count == 0 || period == 0 || group == 0 || inner == 0 {
            return None;
        }
        Some((count, move |index: usize| index / group * period + index / inner % period))
    }
}

/// The node `before` with the normalisation in its weights, or why not.
fn fold(
    graph: &mut Graph,
    norm: &BatchNormalization,
    node: &Node,
    before: &Node,
    layout: &Layout,
) -> Result<Node, String> {
    let constant = |id: Option<&Option<ValueId>>| {
        id.copied().flatten().and_then(|id| graph.constants.get(&id)).map(|tensor| tensor.clone().aligned())
    };
    let statistics: Option<Vec<Tensor>> = (1..5).map(|index| constant(node.inputs.get(index))).collect();
    let statistics = statistics.ok_or("the statistics are not constant")?;
    let weights = constant(before.inputs.get(1)).ok_or("the weights are not constant")?;
    let bias = match before.inputs.get(2).copied().flatten() {
        None => None,
        given => Some(constant(Some(&given)).ok_or("the bias is not constant")?),
    };
    let [scale, shift, mean, variance] = statistics.as_slice() else {
        return Err("statistics are missing".into());
    };
    let views = [&scale.view(), &shift.view(), &mean.view(), &variance.view()];
    let (factors, summands) = norm.folded(views).map_err(|error| error.to_string())?;
    let (channels, channel) = layout.channels(weights.dims()).ok_or("the weights are empty")?;
    if factors.len() != channels {
        return Err(format!("{} statistics for {channels} channels", factors.len()));
    }
    if !factors.iter().chain(&summands).all(|number| number.is_finite()) {
        return Err("the statistics are not finite".into());
    }
    let values = floats(&weights.view()).map_err(|error| error.to_string())?;
    let scaled =
        values.iter().enumerate().map(|(index, value)| value * factors.get(channel(index)).unwrap_or(&1.0));
    let scaled = float_tensor(weights.dtype(), weights.dims(), &scaled.collect::<Vec<f64>>());
    let beta = match layout {
        Layout::Gemm(gemm) => f64::from(gemm.beta),
        _ => 1.0,
    };
    let own = match &bias {
        None => vec![0.0; channels],
        Some(bias) => floats(&bias.view()).map_err(|error| error.to_string())?,
    };
    // The bias of Gemm may stretch; a vector or one row is what exporters write.
    let row = bias.as_ref().is_none_or(|bias| bias.dims().last() == Some(&channels));
    if own.len() != channels || !row {
        return Err("the bias is not one number per channel".into());
    }
    let shifted =
        own.iter().zip(&factors).zip(&summands).map(|((own, factor), summand)| own * beta * factor + summand);
    let shifted = float_tensor(weights.dtype(), &[channels], &shifted.collect::<Vec<f64>>());
    let (scaled, shifted) =
        scaled.and_then(|scaled| Ok((scaled, shifted?))).map_err(|error| error.to_string())?;
    let mut add = |suffix: &str, tensor: Tensor| {
        let id = graph.add_value(format!("{}/{suffix}", node.name));
        graph.constants.insert(id, tensor);
        Some(id)
    };
    let op: Arc<dyn Operator> = match layout {
        Layout::Gemm(gemm) => Arc::new(Gemm { beta: 1.0, ..*gemm }),
        _ => Arc::clone(&before.op),
    };
    Ok(Node {
        name: Arc::clone(&before.name),
        op,
        inputs: vec![before.inputs.first().copied().flatten(), add("weights", scaled), add("bias", shifted)],
        outputs: node.outputs.clone(),
    })
}
