//! What is done to a model before it is quantized.

use std::sync::Arc;

use sardonyx_ops::Tensor;

use super::super::draft::{Draft, float_of, floats, int, int_of, made};
use super::Result;
use crate::error::{ImportError, UnsupportedFault};
use crate::onnx::{AttributeValue, NodeProto};

/// The first operator set with scales by channel.
const WANTED: i64 = 13;

/// Operators that changed between sets 7 and 13 in ways that are not rewritten here.
const REFUSED: [&str; 8] = ["Dropout", "Pad", "Resize", "Scatter", "Split", "TopK", "Upsample", "Hardmax"];

/// Rewrites a model of operator sets 7 to 12 as one of set 13.
pub(super) fn upgrade(draft: &mut Draft) -> Result<()> {
    let Some(version) = draft.version("").filter(|version| *version < WANTED) else { return Ok(()) };
    let facts = draft.facts()?;
    let mut nodes = std::mem::take(&mut draft.model.graph.nodes);
    for node in &mut nodes {
        if !node.domain.is_empty() {
            continue;
        }
        let refuse = |node: &NodeProto, why: &str| {
            let detail = format!("{why}; export the model with operator set {WANTED} or newer");
            Err(ImportError::unsupported(node.place(), UnsupportedFault::Operator, detail))
        };
        let rank =
            node.inputs.first().and_then(|x| facts.get(x)).and_then(|fact| fact.shape.as_ref()).map(Vec::len);
        match &*node.op_type {
            _ if node.subgraphs().next().is_some() => {
                return refuse(node, "it has a nested graph of an old set");
            }
            "Squeeze" | "Unsqueeze" | "ReduceSum" => to_inputs(draft, node, &[("axes", 1)])?,
            "Slice" if version < 10 => {
                to_inputs(draft, node, &[("starts", 1), ("ends", 2), ("axes", 3)])?;
            }
            "Clip" if version < 11 => {
                let bounds = [float_of(node, "min", f32::MIN), float_of(node, "max", f32::MAX)];
                for bound in bounds {
                    let name = draft.add("clip_bound", Tensor::scalar(bound));
                    node.inputs.push(name);
                }
                node.attributes.clear();
            }
            // Older ones flatten the axes from this one on; of the last axis that is the same.
            "Softmax" | "LogSoftmax" => {
                let axis = int_of(node, "axis", 1);
                match rank {
                    Some(rank) if axis == -1 || usize::try_from(axis) == Ok(rank.saturating_sub(1)) => {
                        node.attributes = vec![int("axis", axis)];
                    }
                    _ => return refuse(node, "it flattens axes"),
                }
            }
            "BatchNormalization" if version < 9 => node.attributes.retain(|a| &*a.name != "spatial"),
            op if REFUSED.contains(&op) => return refuse(node, "its form changed since"),
            _ => {}
        }
        node.opset = WANTED;
    }
    draft.model.graph.nodes = nodes;
    for import in &mut draft.model.opset_imports {
        if import.domain.is_empty() {
            import.version = WANTED;
        }
    }
    // The version of the format that came with operator set 13.
    draft.model.ir_version = draft.model.ir_version.max(7);
    Ok(())
}

/// Makes inputs of attributes that are lists of integers.
fn to_inputs(draft: &mut Draft, node: &mut NodeProto, moved: &[(&str, usize)]) -> Result<()> {
    for (name, index) in moved {
        let Some(AttributeValue::Ints(values)) = node.attribute(name) else { continue };
        let tensor = made(Tensor::from_slice(&[values.len()], values))?;
        let input = draft.add(name, tensor);
        node.attributes.retain(|attribute| &*attribute.name != *name);
        node.inputs.resize((*index).max(node.inputs.len()), Arc::from(""));
        node.inputs.push(input);
    }
    Ok(())
}

/// Folds a batch normalization behind a convolution with constant weights into these.
pub(super) fn fold_normalization(draft: &mut Draft) -> Result<()> {
    let readers = draft.readers();
    let mut nodes = std::mem::take(&mut draft.model.graph.nodes);
    let mut gone = Vec::new();
    for j in 0..nodes.len() {
        let Some(norm) = nodes.get(j).filter(|node| is_plain_normalization(node)).cloned() else { continue };
        let Some(x) = norm.inputs.first().filter(|x| readers.get(*x) == Some(&1)) else { continue };
        let conv = nodes.iter().position(|node| &*node.op_type == "Conv" && node.outputs.first() == Some(x));
        let Some((i, conv)) = conv.and_then(|i| Some((i, nodes.get(i)?.clone()))) else { continue };
        let Some(folded) = fold(draft, &conv, &norm)? else { continue };
        if let Some(place) = nodes.get_mut(i) {
            *place = folded;
            gone.push(j);
        }
    }
    let kept = nodes.into_iter().enumerate().filter(|(j, _)| !gone.contains(j));
    draft.model.graph.nodes = kept.map(|(_, node)| node).collect();
    draft.sweep();
    Ok(())
}

fn is_plain_normalization(node: &NodeProto) -> bool {
    &*node.op_type == "BatchNormalization"
        && node.domain.is_empty()
        && int_of(node, "training_mode", 0) == 0
        && node.outputs.iter().skip(1).all(|output| output.is_empty())
}

/// The convolution that does both; `None` when something is not constant or does not fit.
fn fold(draft: &mut Draft, conv: &NodeProto, norm: &NodeProto) -> Result<Option<NodeProto>> {
    let constant =
        |name: Option<&Arc<str>>| -> Option<Vec<f32>> { draft.constant(name?)?.to_vec::<f32>().ok() };
    let part = |index: usize| constant(norm.inputs.get(index));
    let (Some(gamma), Some(beta), Some(mean), Some(variance)) = (part(1), part(2), part(3), part(4)) else {
        return Ok(None);
    };
    let Some(name) = conv.inputs.get(1) else { return Ok(None) };
    let Some((dims, weights)) =
        draft.constant(name).and_then(|w| Some((w.dims().to_vec(), floats(w)?.into_owned())))
    else {
        return Ok(None);
    };
    let given = conv.inputs.get(2).filter(|bias| !bias.is_empty());
    let bias = match given {
        Some(_) => constant(given),
        None => Some(vec![0.0; gamma.len()]),
    };
    let Some(bias) = bias else { return Ok(None) };
    let channels = dims.first().copied().unwrap_or(0);
    if channels == 0 || [&gamma, &beta, &mean, &variance, &bias].iter().any(|list| list.len() != channels) {
        return Ok(None);
    }
    let epsilon = f64::from(float_of(norm, "epsilon", 1e-5));
    let factors: Vec<f64> =
        gamma.iter().zip(&variance).map(|(g, v)| f64::from(*g) / (f64::from(*v) + epsilon).sqrt()).collect();
    let rows = weights.chunks((weights.len() / channels).max(1)).zip(&factors);
    let scaled: Vec<f32> =
        rows.flat_map(|(row, factor)| row.iter().map(move |w| (f64::from(*w) * factor) as f32)).collect();
    let shifted = bias.iter().zip(&mean).zip(&beta).zip(&factors).map(|(((bias, mean), beta), factor)| {
        ((f64::from(*bias) - f64::from(*mean)) * factor + f64::from(*beta)) as f32
    });
    let shifted: Vec<f32> = shifted.collect();
    let stem = name.clone();
    let (scaled, shifted) =
        (made(Tensor::from_vec(&dims, scaled))?, made(Tensor::from_vec(&[channels], shifted))?);
    let x = conv.inputs.first().cloned().unwrap_or_default();
    let inputs = vec![
        x,
        draft.add(&format!("{stem}_folded"), scaled),
        draft.add(&format!("{stem}_folded_bias"), shifted),
    ];
    Ok(Some(NodeProto { inputs, outputs: norm.outputs.clone(), ..conv.clone() }))
}
