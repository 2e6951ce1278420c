//! [Attention of com.microsoft](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftattention).

use std::sync::Arc;

use super::attention::merge;
use super::padding::{self, part, refuse_inputs, scale_of, split};
use super::scaled::{self, Masks, Offset, Sizes, Weighing, Window};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::graph::ValueId;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{optional, required};
use crate::operator::{Expansion, Operator};
use crate::sketch::{self, Given, Sketch};

const BIAS: usize = 2;
const PADDING: usize = 3;
const PAST: usize = 4;
const SCORE_BIAS: usize = 5;

/// Self-attention of input 0, whose queries, keys and values are its product with input 1 and their sum with input 2.
#[derive(Clone, PartialEq, Debug)]
pub struct PackedAttention {
    heads: usize,
    scale: Option<f32>,
    /// What is added to scores of padding.
    filter: f32,
    causal: bool,
    /// How many columns queries, keys and values have; a third each when absent.
    columns: Option<[usize; 3]>,
    /// Output 1, the keys and values for the next run, is wanted.
    present: bool,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 7, "2 to 7")?;
    refuse_inputs(spec, &[(6, "a cache shared by past and present")])?;
    let attributes = spec.attributes;
    for (name, what) in [
        ("do_rotary", "rotary embedding inside an attention"),
        ("past_present_share_buffer", "a cache shared by past and present"),
    ] {
        if attributes.flag(name, false)? {
            return Err(OpError::unsupported(what));
        }
    }
    attributes.int("rotary_embedding_dim")?;
    let columns = match attributes.ints("qkv_hidden_sizes")? {
        None => None,
        Some(all) => {
            let sizes: Vec<usize> = all.iter().filter_map(|&n| usize::try_from(n).ok()).collect();
            let expected = OpError::Attribute { name: "qkv_hidden_sizes", expected: "three sizes" };
            Some(<[usize; 3]>::try_from(sizes).map_err(|_| expected)?)
        }
    };
    Ok(Arc::new(PackedAttention {
        heads: padding::heads(spec, "num_heads")?,
        scale: padding::scale(spec)?,
        filter: attributes.float_or("mask_filter_value", -10000.0)?,
        causal: attributes.flag("unidirectional", false)?,
        columns,
        present: spec.outputs.get(1).copied().unwrap_or(false),
    }))
}

impl PackedAttention {
    fn draw(&self, sketch: &mut Sketch, given: &Given) -> Result<Vec<ValueId>, OpError> {
        let input = |index: usize| optional(given, index).ok_or(OpError::Internal("an input is missing"));
        let mut all = sketch.call("MatMul", &[], &[input(0)?, input(1)?])?;
        if let Some(bias) = optional(given, BIAS) {
            all = sketch.call("Add", &[], &[all, bias])?;
        }
        let whole = sketch.dims(all)?.last().copied().unwrap_or(0);
        let columns = self.columns.unwrap_or([whole / 3; 3]);
        if columns.iter().try_fold(0usize, |sum, &n| sum.checked_add(n)) != Some(whole) {
            return Err(OpError::constraint("columns of the weights", format!("{columns:?}"), whole));
        }
        let mut start = 0;
        let mut parts = [all; 3];
        for (slot, size) in parts.iter_mut().zip(columns) {
            let own = part(sketch, all, start, size)?;
            *slot = split(sketch, own, self.heads, None)?;
            start += size;
        }
        let mut past = 0;
        if let Some(cache) = optional(given, PAST) {
            let dims = sketch.dims(cache)?;
            let &[2, batch, heads, length, size] = dims.as_slice() else {
                return Err(OpError::constraint(
                    "cache",
                    "[2, batch, heads, length, size]",
                    format!("{dims:?}"),
                ));
            };
            past = length;
            for (index, slot) in parts.iter_mut().skip(1).enumerate() {
                let own = sketch.slice(cache, 0, [index, index + 1], 1)?;
                let own = sketch.reshape(own, &[batch, heads, length, size])?;
                *slot = sketch.concat(2, &[own, *slot])?;
            }
        }
        let [q, k, v] = parts;
        let sizes = Sizes::new(&sketch.dims(q)?, &sketch.dims(k)?, &sketch.dims(v)?)?;
        let mut masks = Masks::default();
        if let Some(mask) = optional(given, PADDING) {
            let mask = padding::mask(sketch, mask, self.filter, q, &sizes)?;
            padding::add(sketch, &mut masks, mask, &sizes)?;
        }
        if let Some(bias) = optional(given, SCORE_BIAS) {
            padding::add(sketch, &mut masks, bias, &sizes)?;
        }
        let window = Window { left: None, right: self.causal.then_some(0) };
        let offset = Offset::Known(i64::try_from(past).map_err(|_| OpError::Size)?);
        masks.restrict_to(sketch, window, offset, &sizes)?;
        let scale = scale_of(self.scale, sizes.size);
        let weighing = Weighing { scale, softcap: 0.0, precision: None, window };
        let result = scaled::draw(sketch, parts, &masks, &weighing)?.result;
        let result = merge(sketch, result)?;
        if !self.present {
            return Ok(vec![result]);
        }
        let dims = [1, sizes.batch, sizes.heads, sizes.keys, sizes.size];
        let present = [sketch.reshape(k, &dims)?, sketch.reshape(v, &dims)?];
        Ok(vec![result, sketch.concat(0, &present)?])
    }
}

impl Operator for PackedAttention {
    fn name(&self) -> &'static str {
        "Attention"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, weights) = (required(inputs, 0)?, required(inputs, 1)?);
        let mut all: Vec<Fact> = (0..outputs.clamp(1, 2)).map(|_| Fact::unranked(x.dtype)).collect();
        let (Some([batch, length, _]), Some([_, columns])) = (x.shape.as_deref(), weights.shape.as_deref())
        else {
            return Ok(all);
        };
        let hidden =
            self.columns.map_or_else(|| columns.div_floor(3), |columns| Ok(Dim::Known(columns[2])))?;
        all[0].shape = Some(vec![batch.clone(), length.clone(), hidden.clone()]);
        let keys = match optional(inputs, PAST).map(|past| past.shape.as_deref()) {
            None => length.clone(),
            Some(Some([_, _, _, cached, _])) => cached.add(length)?,
            Some(_) => return Ok(all),
        };
        if let Some(present) = all.get_mut(1) {
            let size = hidden.div_floor(self.heads)?;
            present.shape = Some(vec![Dim::Known(2), batch.clone(), Dim::Known(self.heads), keys, size]);
        }
        Ok(all)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        sketch::evaluate(inputs, outputs, &|sketch, given| self.draw(sketch, given))
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        sketch::expansion(inputs, &|sketch, given| self.draw(sketch, given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(dims: &[usize], step: f32) -> Tensor {
        let count: usize = dims.iter().product();
        Tensor::from_vec(dims, (0..count).map(|i| ((i * 7 % 11) as f32 - 5.0) * step).collect()).unwrap()
    }

    /// The numbers are those of ONNX Runtime 1.32 on the CPU.
    #[test]
    fn masks_and_caches() {
        let op = |causal: bool, present: bool| PackedAttention {
            heads: 2,
            scale: None,
            filter: -10000.0,
            causal,
            columns: None,
            present,
        };
        let (x, w, b) = (ramp(&[2, 2, 3], 0.3), ramp(&[3, 12], 0.2), ramp(&[12], 0.1));
        let check = |op: &PackedAttention, mask: Tensor, past: Option<&Tensor>, expected: &[f32]| {
            let inputs = [Some(&x), Some(&w), Some(&b), Some(&mask), past];
            let views = inputs.map(|x| x.map(Tensor::view));
            let all = op.reference(&views, 2).unwrap();
            let got = all[0].to_vec::<f32>().unwrap();
            assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-5), "{got:?}");
            let facts = inputs.map(|x| x.map(|x| Fact::known(x.dtype(), x.dims())));
            let facts: Vec<_> = facts.iter().map(Option::as_ref).collect();
            for (fact, tensor) in op.infer(&facts, all.len()).unwrap().iter().zip(&all) {
                assert_eq!(fact.dims().unwrap(), tensor.dims());
            }
        };
        let ends = Tensor::from_slice(&[4], &[2i32, 1, 1, 0]).unwrap();
        let expected = [-1.24, 2.04, -1.06, -1.52, -1.24, 2.04, -1.06, -1.52, -1.12, 2.22, -0.82, -1.22];
        check(&op(false, false), ends, None, &expected);
        let lengths = Tensor::from_slice(&[2], &[2i32, 1]).unwrap();
        let expected =
            [1.28, -0.12, -0.64, 1.48, 0.18477, 0.81877, -0.74031, 0.7635, -1.12, 2.22, -0.82, -1.22];
        check(&op(true, false), lengths, None, &expected);
        let mask = Tensor::from_slice(&[2, 3], &[1i32, 1, 1, 0, 1, 1]).unwrap();
        let expected = [
            0.07752, 0.37457, -0.55086, 0.69869, -0.50721, 0.85936, -0.30674, -1.46534, -1.12, 2.22, -0.82,
            -1.22,
        ];
        check(&op(true, true), mask, Some(&ramp(&[2, 2, 2, 1, 2], 0.3)), &expected);
    }
}
