//! [GroupQueryAttention](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftgroupqueryattention).

use std::sync::Arc;

use super::attention::{merge, pad};
use super::padding::{self, part, refuse_inputs, scale_of, split};
use super::rotary::turn;
use super::scaled::{self, Masks, Offset, Sizes, Weighing, Window};
use super::tensor_scatter::write;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::graph::ValueId;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{optional, required};
use crate::operator::{Expansion, Operator};
use crate::sketch::{self, Given, Sketch};

const PAST: [usize; 2] = [3, 4];
const LAST: usize = 5;
const TOTAL: usize = 6;
const ANGLES: [usize; 2] = [7, 8];
const POSITIONS: usize = 9;
const SCORE_BIAS: usize = 10;

/// Attention of heads of queries that share heads of keys and values, which are appended to a cache. Input 5 is the
/// position of each batch's last key, input 6 the largest number of keys.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GroupQueryAttention {
    heads: usize,
    key_heads: usize,
    scale: Option<f32>,
    softcap: f32,
    window: Window,
    rotates: bool,
    interleaved: bool,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 17, "7 to 17")?;
    if !spec.has_input(LAST) || !spec.has_input(TOTAL) {
        return Err(OpError::constraint("inputs", "seqlens_k and total_sequence_length", "none"));
    }
    refuse_inputs(
        spec,
        &[
            (11, "a sink of attention"),
            (12, "a quantized cache"),
            (13, "a quantized cache"),
            (14, "a normalization inside an attention"),
            (15, "a normalization inside an attention"),
            (16, "padded queries"),
        ],
    )?;
    if spec.outputs.get(3).copied().unwrap_or(false) {
        return Err(OpError::unsupported("an output of scores"));
    }
    for (one, other) in [(1, 2), (PAST[0], PAST[1]), (ANGLES[0], ANGLES[1])] {
        if spec.has_input(one) != spec.has_input(other) {
            return Err(OpError::constraint("inputs", format!("both {one} and {other}, or none"), "one"));
        }
    }
    let attributes = spec.attributes;
    for (name, what) in [
        ("sliding_window_cache", "a cache that slides"),
        ("smooth_softmax", "a smooth softmax"),
        ("qk_output", "an output of scores"),
    ] {
        if attributes.flag(name, false)? {
            return Err(OpError::unsupported(what));
        }
    }
    for name in ["k_quant_type", "v_quant_type"] {
        if attributes.str(name)?.is_some_and(|kind| kind != "NONE") {
            return Err(OpError::unsupported("a quantized cache"));
        }
    }
    attributes.int("kv_cache_bit_width")?;
    for name in ["qk_norm_epsilon", "q_norm_epsilon", "k_norm_epsilon"] {
        attributes.float(name)?;
    }
    // The window counts the query's own key.
    let left = attributes.int_or("local_window_size", -1)?.saturating_sub(1);
    let right = attributes.flag("causal", true)?.then_some(0);
    let rotates = attributes.flag("do_rotary", false)?;
    if rotates && !spec.has_input(ANGLES[0]) {
        return Err(OpError::constraint("inputs", "cosines and sines", "none"));
    }
    let (heads, key_heads) = (padding::heads(spec, "num_heads")?, padding::heads(spec, "kv_num_heads")?);
    if heads % key_heads != 0 {
        return Err(OpError::constraint("heads of queries", format!("a multiple of {key_heads}"), heads));
    }
    Ok(Arc::new(GroupQueryAttention {
        heads,
        key_heads,
        scale: padding::scale(spec)?,
        softcap: attributes.float_or("softcap", 0.0)?,
        window: Window { left: (left >= 0).then_some(left), right },
        rotates,
        interleaved: attributes.flag("rotary_interleaved", false)?,
    }))
}

/// The one integer of a constant.
fn single(fact: &Fact) -> Option<usize> {
    let value = fact.value.as_ref().filter(|value| value.len() == 1)?;
    let value = value.reshaped(&[1]).ok()?;
    let all = Fact::constant(value).integers()?;
    usize::try_from(*all.first()?).ok()
}

impl GroupQueryAttention {
    /// Queries, keys and values in `[batch, heads, length, size]`.
    fn parts(&self, sketch: &mut Sketch, given: &Given) -> Result<[ValueId; 3], OpError> {
        let query = optional(given, 0).ok_or(OpError::Internal("an input is missing"))?;
        let mut parts = match (optional(given, 1), optional(given, 2)) {
            (Some(key), Some(value)) => [query, key, value],
            _ => {
                let hidden = sketch.dims(query)?.last().copied().unwrap_or(0);
                let all = self.key_heads.checked_mul(2).and_then(|n| n.checked_add(self.heads));
                let size = hidden / all.ok_or(OpError::Size)?;
                let (q, k) = (self.heads * size, self.key_heads * size);
                [part(sketch, query, 0, q)?, part(sketch, query, q, k)?, part(sketch, query, q + k, k)?]
            }
        };
        for (slot, heads) in parts.iter_mut().zip([self.heads, self.key_heads, self.key_heads]) {
            *slot = split(sketch, *slot, heads, None)?;
        }
        Ok(parts)
    }

    /// Queries and keys turned by the angles of their positions; `starts` is that of the first one of each batch.
    fn rotate(
        &self,
        sketch: &mut Sketch,
        given: &Given,
        parts: &mut [ValueId; 3],
        starts: Option<ValueId>,
    ) -> Result<(), OpError> {
        let &[batch, _, length, _] = sketch.dims(parts[0])?.as_slice() else { return Ok(()) };
        let positions = match optional(given, POSITIONS) {
            Some(positions) => positions,
            None => {
                let steps = sketch.range(&[1, length])?;
                match starts {
                    Some(starts) => {
                        let starts = sketch.reshape(starts, &[batch, 1])?;
                        sketch.call("Add", &[], &[starts, steps])?
                    }
                    None => steps,
                }
            }
        };
        let mut angles = parts.map(|_| None);
        for (slot, index) in angles.iter_mut().zip(ANGLES) {
            let all = optional(given, index).ok_or(OpError::Internal("an input is missing"))?;
            let own = sketch.call("Gather", &[], &[all, positions])?;
            let &[rows, length, half] = sketch.dims(own)?.as_slice() else {
                return Err(OpError::constraint("angles and positions", "2 dimensions each", "others"));
            };
            *slot = Some(sketch.reshape(own, &[rows, 1, length, half])?);
        }
        if let [Some(cosines), Some(sines), _] = angles {
            for slot in parts.iter_mut().take(2) {
                *slot = turn(sketch, *slot, [cosines, sines], self.interleaved)?;
            }
        }
        Ok(())
    }

    fn draw(&self, sketch: &mut Sketch, given: &Given) -> Result<Vec<ValueId>, OpError> {
        let input = |index: usize| optional(given, index).ok_or(OpError::Internal("an input is missing"));
        let mut parts = self.parts(sketch, given)?;
        let dims = sketch.dims(parts[1])?;
        let &[batch, heads, length, _] = dims.as_slice() else {
            return Err(OpError::Internal("no dimension for heads"));
        };
        let total = single(sketch.fact(input(TOTAL)?)?);
        let total = total.ok_or_else(|| OpError::unsupported("a number of keys that depends on data"))?;
        if total < length {
            return Err(OpError::constraint("total sequence length", format!("{length} or more"), total));
        }
        let last = sketch.cast(input(LAST)?, DType::I64)?;
        let last = sketch.reshape(last, &[batch, 1, 1, 1])?;
        let one = sketch.constant(Tensor::scalar(1i64));
        let counts = sketch.call("Add", &[], &[last, one])?;
        // A first prompt begins at 0, also for batches that are shorter than it.
        let starts = if total == length {
            None
        } else {
            let length = sketch.constant(Tensor::scalar(i64::try_from(length).map_err(|_| OpError::Size)?));
            Some(sketch.call("Sub", &[], &[counts, length])?)
        };
        if self.rotates {
            self.rotate(sketch, given, &mut parts, starts)?;
        }
        // With one batch, whose cache is full, positions are known.
        let mut known = (total == length).then_some(0);
        let mut whole = total;
        for (part, index) in parts.iter_mut().skip(1).zip(PAST) {
            let Some(past) = optional(given, index) else { continue };
            let size = sketch.dims(*part)?.last().copied().unwrap_or(0);
            let cached = sketch.dims(past)?.get(2).copied().unwrap_or(0);
            let expected = [batch, heads, cached, size];
            if sketch.dims(past)? != expected {
                let got = format!("{:?}", sketch.dims(past)?);
                return Err(OpError::constraint("cache", format!("{expected:?}"), got));
            }
            let room = cached.checked_add(length).ok_or(OpError::Size)?;
            if total > room {
                return Err(OpError::constraint("total sequence length", format!("at most {room}"), total));
            }
            whole = total.max(cached);
            if batch == 1 && room == total {
                known = Some(cached);
                *part = if cached == 0 { *part } else { sketch.concat(2, &[past, *part])? };
                continue;
            }
            let cache = extend(sketch, past, &[batch, heads, whole - cached, size])?;
            let starts = starts.map(|starts| sketch.reshape(starts, &[batch])).transpose()?;
            *part = write(sketch, cache, *part, starts, 2, false)?;
        }
        let [q, k, v] = parts;
        let sizes = Sizes::new(&sketch.dims(q)?, &sketch.dims(k)?, &sketch.dims(v)?)?;
        if sizes.keys != whole {
            return Err(OpError::constraint("keys", format!("{whole} with those of a cache"), sizes.keys));
        }
        let mut masks = Masks::default();
        if let Some(bias) = optional(given, SCORE_BIAS) {
            let bias = pad(sketch, bias, sizes.keys)?;
            padding::add(sketch, &mut masks, bias, &sizes)?;
        }
        if batch != 1 || whole != total || self.window.right.is_none() {
            masks.restrict_count(sketch, counts, &sizes)?;
        }
        let offset = match (known, starts) {
            (None, Some(starts)) => Offset::Batch(starts),
            (known, _) => Offset::Known(i64::try_from(known.unwrap_or(0)).map_err(|_| OpError::Size)?),
        };
        masks.restrict_to(sketch, self.window, offset, &sizes)?;
        let weighing = Weighing {
            scale: scale_of(self.scale, sizes.size),
            softcap: self.softcap,
            precision: None,
            window: self.window,
        };
        let result = scaled::draw(sketch, parts, &masks, &weighing)?.result;
        Ok(vec![merge(sketch, result)?, k, v])
    }
}

/// A cache with zeros of these dimensions after it.
fn extend(sketch: &mut Sketch, cache: ValueId, zeros: &[usize; 4]) -> Result<ValueId, OpError> {
    if zeros[2] == 0 {
        return Ok(cache);
    }
    let zero = sketch.number(sketch.dtype(cache)?, 0.0)?;
    let zeros = sketch.stretch(zero, zeros)?;
    sketch.concat(2, &[cache, zeros])
}

impl Operator for GroupQueryAttention {
    fn name(&self) -> &'static str {
        "GroupQueryAttention"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let query = required(inputs, 0)?;
        let mut all: Vec<Fact> = (0..outputs.clamp(1, 3)).map(|_| Fact::unranked(query.dtype)).collect();
        let Some([batch, length, hidden]) = query.shape.as_deref() else { return Ok(all) };
        let packed = optional(inputs, 1).is_none();
        let heads = self.heads.saturating_add(if packed { self.key_heads.saturating_mul(2) } else { 0 });
        let size = hidden.div_floor(heads)?;
        let cached = optional(inputs, PAST[0]).map(|past| past.shape.as_deref());
        let keys = match (single(required(inputs, TOTAL)?), cached) {
            (Some(total), None) => Dim::Known(total),
            (Some(total), Some(Some([_, _, Dim::Known(cached), _]))) => Dim::Known(total.max(*cached)),
            _ => Dim::named("GroupQueryAttention.keys"),
        };
        let cache = vec![batch.clone(), Dim::Known(self.key_heads), keys, size.clone()];
        let result = vec![batch.clone(), length.clone(), size.scale(self.heads)?];
        for (fact, shape) in all.iter_mut().zip([result, cache.clone(), cache]) {
            fact.shape = Some(shape);
        }
        Ok(all)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        sketch::evaluate(inputs, outputs, &|sketch, given| self.draw(sketch, given))
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        if single(required(inputs, TOTAL)?).is_none() {
            return Ok(Expansion::Stays);
        }
        sketch::expansion(inputs, &|sketch, given| self.draw(sketch, given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a scale so small that all keys weigh the same, results are means of the values seen.
    const EVEN: GroupQueryAttention = GroupQueryAttention {
        heads: 2,
        key_heads: 1,
        scale: Some(1e-12),
        softcap: 0.0,
        window: Window { left: None, right: Some(0) },
        rotates: false,
        interleaved: false,
    };

    fn tensor(dims: &[usize], all: &[f32]) -> Tensor {
        Tensor::from_slice(dims, all).unwrap()
    }

    fn run(op: GroupQueryAttention, inputs: &[Option<&Tensor>]) -> Vec<Vec<f32>> {
        let views: Vec<_> = inputs.iter().map(|x| x.map(Tensor::view)).collect();
        let all = op.reference(&views, 3).unwrap();
        let facts: Vec<_> = inputs.iter().map(|x| x.map(|x| Fact::constant(x.clone()))).collect();
        let facts: Vec<_> = facts.iter().map(Option::as_ref).collect();
        for (fact, tensor) in op.infer(&facts, 3).unwrap().iter().zip(&all) {
            assert_eq!(fact.dims().unwrap(), tensor.dims());
        }
        assert!(matches!(op.expand(&facts), Ok(Expansion::Graph { .. })));
        all.iter().map(|x| x.to_vec().unwrap()).collect()
    }

    #[test]
    fn caches_take_keys_where_each_batch_ends() {
        let q = tensor(&[2, 1, 2], &[0.0; 4]);
        let (k, v) = (tensor(&[2, 1, 1], &[1.0, 2.0]), tensor(&[2, 1, 1], &[8.0, 9.0]));
        let past = tensor(&[2, 1, 3, 1], &[1.0, 3.0, 70.0, 5.0, 70.0, 70.0]);
        let last = Tensor::from_slice(&[2], &[2i32, 1]).unwrap();
        let total = Tensor::from_slice(&[1], &[3i32]).unwrap();
        let inputs = [Some(&q), Some(&k), Some(&v), Some(&past), Some(&past), Some(&last), Some(&total)];
        let all = run(EVEN, &inputs);
        assert_eq!(all[0], [4.0, 4.0, 7.0, 7.0]);
        assert_eq!(all[1], [1.0, 3.0, 1.0, 5.0, 2.0, 70.0]);
        assert_eq!(all[2], [1.0, 3.0, 8.0, 5.0, 9.0, 70.0]);
        let near = GroupQueryAttention { window: Window { left: Some(0), right: Some(0) }, ..EVEN };
        assert_eq!(run(near, &inputs)[0], [8.0, 8.0, 9.0, 9.0]);
        // A total beyond the cache makes it longer.
        let total = Tensor::from_slice(&[1], &[4i32]).unwrap();
        let last = Tensor::from_slice(&[2], &[3i32, 1]).unwrap();
        let inputs = [Some(&q), Some(&k), Some(&v), Some(&past), Some(&past), Some(&last), Some(&total)];
        assert_eq!(run(EVEN, &inputs)[2], [1.0, 3.0, 70.0, 8.0, 5.0, 9.0, 70.0, 0.0]);
    }

    #[test]
    fn prompts_are_packed_and_turned() {
        // One token after another: two heads of queries, keys and values, two elements each.
        let packed = tensor(
            &[1, 2, 8],
            &[0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 4.0, 4.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 8.0, 6.0],
        );
        let (cosines, sines) = (tensor(&[2, 1], &[1.0, 0.0]), tensor(&[2, 1], &[0.0, 1.0]));
        let last = Tensor::from_slice(&[1], &[1i32]).unwrap();
        let total = Tensor::scalar(2i32);
        let inputs =
            [Some(&packed), None, None, None, None, Some(&last), Some(&total), Some(&cosines), Some(&sines)];
        let all = run(GroupQueryAttention { rotates: true, ..EVEN }, &inputs);
        assert_eq!(all[0], [4.0, 4.0, 4.0, 4.0, 6.0, 5.0, 6.0, 5.0]);
        assert_eq!(all[1], [1.0, 2.0, -4.0, 3.0]);
        assert_eq!(all[2], [4.0, 4.0, 8.0, 6.0]);
    }
}
