//! [MultiHeadAttention](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftmultiheadattention).

use std::sync::Arc;

use super::attention::merge;
use super::padding::{self, refuse_inputs, scale_of, split};
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

const BIAS: usize = 3;
const PADDING: usize = 4;
const SCORE_BIAS: usize = 5;
const PAST: [usize; 2] = [6, 7];

/// Attention between heads that lie side by side, or packed together in one input of five dimensions.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MultiHeadAttention {
    heads: usize,
    scale: Option<f32>,
    /// What is added to scores of padding.
    filter: f32,
    causal: bool,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 10, "1 to 10")?;
    refuse_inputs(spec, &[(8, "a cache shared by past and present"), (9, "beam search")])?;
    if spec.outputs.get(3).copied().unwrap_or(false) {
        return Err(OpError::unsupported("an output of scores"));
    }
    if spec.has_input(PAST[0]) != spec.has_input(PAST[1]) {
        return Err(OpError::constraint("cached keys and values", "both or none", "one"));
    }
    Ok(Arc::new(MultiHeadAttention {
        heads: padding::heads(spec, "num_heads")?,
        scale: padding::scale(spec)?,
        filter: spec.attributes.float_or("mask_filter_value", -10000.0)?,
        causal: spec.attributes.flag("unidirectional", false)?,
    }))
}

impl MultiHeadAttention {
    /// Queries, keys and values in `[batch, heads, length, size]`, without cached ones.
    fn parts(&self, sketch: &mut Sketch, given: &Given) -> Result<[ValueId; 3], OpError> {
        let query = optional(given, 0).ok_or(OpError::Internal("an input is missing"))?;
        let bias = optional(given, BIAS);
        if sketch.dims(query)?.len() == 5 {
            let q = self.unpack(sketch, query, 3, 0, bias.map(|bias| (bias, 0)))?;
            let hidden = self.hidden(sketch, q)?;
            let k = self.unpack(sketch, query, 3, 1, bias.map(|bias| (bias, hidden)))?;
            let v = self.unpack(sketch, query, 3, 2, bias.map(|bias| (bias, 2 * hidden)))?;
            return Ok([q, k, v]);
        }
        let q = split(sketch, query, self.heads, bias.map(|bias| (bias, 0)))?;
        let hidden = self.hidden(sketch, q)?;
        let missing = || OpError::constraint("inputs", "keys", "none");
        let key = optional(given, 1).ok_or_else(missing)?;
        let (after_q, after_k) = (bias.map(|bias| (bias, hidden)), bias.map(|bias| (bias, 2 * hidden)));
        if sketch.dims(key)?.len() == 5 {
            let k = self.unpack(sketch, key, 2, 0, after_q)?;
            return Ok([q, k, self.unpack(sketch, key, 2, 1, after_k)?]);
        }
        let value = optional(given, 2).ok_or_else(missing)?;
        if sketch.dims(key)?.len() == 4 {
            // Keys and values of another sequence, made once: their biases are in them.
            return Ok([q, key, value]);
        }
        let k = split(sketch, key, self.heads, after_q)?;
        Ok([q, k, split(sketch, value, self.heads, after_k)?])
    }

    fn hidden(&self, sketch: &Sketch, value: ValueId) -> Result<usize, OpError> {
        let size = sketch.dims(value)?.get(3).copied().unwrap_or(0);
        size.checked_mul(self.heads).filter(|n| n.checked_mul(2).is_some()).ok_or(OpError::Size)
    }

    /// Part `index` of `count` that lie together in `[batch, length, heads, count, size]`.
    fn unpack(
        &self,
        sketch: &mut Sketch,
        value: ValueId,
        count: usize,
        index: usize,
        bias: Option<(ValueId, usize)>,
    ) -> Result<ValueId, OpError> {
        let dims = sketch.dims(value)?;
        let &[batch, length, heads, parts, size] = dims.as_slice() else {
            return Err(OpError::constraint("packed heads", "5 dimensions", dims.len()));
        };
        if (heads, parts) != (self.heads, count) {
            let expected = format!("[batch, length, {}, {count}, size]", self.heads);
            return Err(OpError::constraint("packed heads", expected, format!("{dims:?}")));
        }
        let value = sketch.slice(value, 3, [index, index + 1], 1)?;
        let hidden = heads.checked_mul(size).ok_or(OpError::Size)?;
        let value = sketch.reshape(value, &[batch, length, hidden])?;
        split(sketch, value, heads, bias)
    }

    fn draw(&self, sketch: &mut Sketch, given: &Given) -> Result<Vec<ValueId>, OpError> {
        let mut parts = self.parts(sketch, given)?;
        let mut past = 0;
        for (part, index) in parts.iter_mut().skip(1).zip(PAST) {
            if let Some(cached) = optional(given, index) {
                past = sketch.dims(cached)?.get(2).copied().unwrap_or(0);
                *part = sketch.concat(2, &[cached, *part])?;
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
        Ok(vec![merge(sketch, result)?, k, v])
    }
}

impl Operator for MultiHeadAttention {
    fn name(&self) -> &'static str {
        "MultiHeadAttention"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let query = required(inputs, 0)?;
        let shape = |index: usize| optional(inputs, index).and_then(|fact| fact.shape.as_deref());
        let mut all: Vec<Fact> = (0..outputs.clamp(1, 3)).map(|_| Fact::unranked(query.dtype)).collect();
        let heads = Dim::Known(self.heads);
        // The length of the keys, and the size of the heads of values.
        let (keys, size) = match (query.shape.as_deref(), shape(1), shape(2)) {
            (Some([_, length, _, _, size]), ..) | (_, Some([_, length, _, _, size]), _) => {
                (length.clone(), size.clone())
            }
            (_, Some([_, _, length, _]), Some([_, _, _, size])) => (length.clone(), size.clone()),
            (_, Some([_, length, _]), Some([_, _, hidden])) => {
                (length.clone(), hidden.div_floor(self.heads)?)
            }
            _ => return Ok(all),
        };
        let Some([batch, length, rest @ ..]) = query.shape.as_deref() else { return Ok(all) };
        let key_size = match rest {
            [hidden] => hidden.div_floor(self.heads)?,
            _ => size.clone(),
        };
        let keys = match (optional(inputs, PAST[0]), shape(PAST[0])) {
            (None, _) => keys,
            (_, Some([_, _, cached, _])) => keys.add(cached)?,
            _ => Dim::named("MultiHeadAttention.keys"),
        };
        let result = vec![batch.clone(), length.clone(), size.scale(self.heads)?];
        let cache = |size: Dim| vec![batch.clone(), heads.clone(), keys.clone(), size];
        for (fact, shape) in all.iter_mut().zip([result, cache(key_size), cache(size)]) {
            fact.shape = Some(shape);
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

    const PLAIN: MultiHeadAttention =
        MultiHeadAttention { heads: 2, scale: None, filter: -10000.0, causal: false };

    fn run(op: MultiHeadAttention, inputs: &[Option<&Tensor>], outputs: usize) -> Vec<Tensor> {
        let views: Vec<_> = inputs.iter().map(|x| x.map(Tensor::view)).collect();
        let all = op.reference(&views, outputs).unwrap();
        let facts: Vec<_> = inputs.iter().map(|x| x.map(|x| Fact::known(x.dtype(), x.dims()))).collect();
        let facts: Vec<_> = facts.iter().map(Option::as_ref).collect();
        for (fact, tensor) in op.infer(&facts, outputs).unwrap().iter().zip(&all) {
            assert_eq!(fact.dims().unwrap(), tensor.dims());
        }
        all
    }

    fn check(tensor: &Tensor, expected: &[f32]) {
        let got = tensor.to_vec::<f32>().unwrap();
        assert_eq!(got.len(), expected.len());
        assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-5), "{got:?}");
    }

    /// The numbers are those of ONNX Runtime 1.32 on the CPU.
    #[test]
    fn masks_biases_and_caches() {
        let (q, k, v) = (ramp(&[2, 2, 4], 0.3), ramp(&[2, 3, 4], 0.2), ramp(&[2, 3, 4], 1.0));
        let (bias, mask) = (ramp(&[12], 0.1), Tensor::from_slice(&[2, 3], &[1i32, 1, 0, 1, 1, 1]).unwrap());
        let all = run(PLAIN, &[Some(&q), Some(&k), Some(&v), Some(&bias), Some(&mask)], 3);
        check(
            &all[0],
            &[
                -4.83446, 1.82872, -1.44135, 3.95112, -1.91635, -0.60304, 1.62767, 1.39361, -2.38726,
                3.27942, -0.77327, -1.7448, 0.70017, 0.18399, 2.82563, -0.17953,
            ],
        );
        let (lengths, scores) = (Tensor::from_slice(&[2], &[2i32, 3]).unwrap(), ramp(&[1, 2, 2, 3], 0.5));
        let op = MultiHeadAttention { scale: Some(0.4), ..PLAIN };
        let all = run(op, &[Some(&q), Some(&k), Some(&v), None, Some(&lengths), Some(&scores)], 1);
        check(
            &all[0],
            &[
                0.56139, -2.63449, -1.6835, 4.73625, -3.90186, 1.08489, -0.83579, 4.02982, -2.64409, 3.68253,
                3.77053, -0.05455, 1.65325, -1.54721, 4.63988, 0.69789,
            ],
        );
        let (v, past_k, past_v) = (ramp(&[2, 2, 4], 1.0), ramp(&[2, 2, 2, 2], 0.3), ramp(&[2, 2, 2, 2], 0.7));
        let op = MultiHeadAttention { causal: true, ..PLAIN };
        let inputs = [Some(&q), Some(&q), Some(&v), None, None, None, Some(&past_k), Some(&past_v)];
        let all = run(op, &inputs, 3);
        check(
            &all[0],
            &[
                -3.62312, 2.09593, -1.4774, 4.25576, -0.87086, -0.86732, 2.49415, 0.0399, -3.27001, 2.25872,
                -0.14138, -3.78691, -0.15111, -1.70163, 3.65577, 0.30956,
            ],
        );
    }

    #[test]
    fn packed_heads_are_those_apart() {
        let (q, k, v) = (ramp(&[1, 3, 4], 0.3), ramp(&[1, 3, 4], 0.2), ramp(&[1, 3, 4], 1.0));
        let parts = [&q, &k, &v].map(|x| x.to_vec::<f32>().unwrap());
        let pack = |parts: &[Vec<f32>]| {
            // For each token and head, two elements of each part.
            let all =
                (0..6).flat_map(|head| parts.iter().flat_map(move |part| part[head * 2..][..2].to_vec()));
            Tensor::from_vec(&[1, 3, 2, parts.len(), 2], all.collect::<Vec<f32>>()).unwrap()
        };
        let bias = ramp(&[12], 0.1);
        let apart = run(PLAIN, &[Some(&q), Some(&k), Some(&v), Some(&bias)], 1);
        let expected = apart[0].to_vec::<f32>().unwrap();
        check(&run(PLAIN, &[Some(&pack(&parts)), None, None, Some(&bias)], 1)[0], &expected);
        check(&run(PLAIN, &[Some(&q), Some(&pack(&parts[1..])), None, Some(&bias)], 1)[0], &expected);
    }
}
