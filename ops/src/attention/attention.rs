//! [Attention](https://onnx.ai/onnx/operators/onnx__Attention.html).

use std::sync::Arc;

use super::scaled::{self, Attended, Masks, Offset, Plain, Sizes, Weighing, Window};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::graph::ValueId;
use crate::ir::numbers::{filled, float_tensor, floats, integers};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Expansion, Operator};
use crate::sketch::{self, Given, Sketch};

const MASK: usize = 3;
const PAST: [usize; 2] = [4, 5];
const COUNTS: usize = 6;

/// Attention of queries to keys and values, inputs 0 to 2. Inputs 3 to 6 are a mask, cached keys and values, and for
/// each batch how many keys count.
#[derive(Clone, PartialEq, Debug)]
pub struct Attention {
    scale: Option<f32>,
    softcap: f32,
    precision: Option<DType>,
    window: Window,
    /// The heads of queries and of keys, for inputs that hold them in the last dimension.
    heads: [Option<usize>; 2],
    /// Which scores output 3 has.
    mode: usize,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, 7, "3 to 7")?;
    if spec.has_input(PAST[0]) != spec.has_input(PAST[1]) {
        return Err(OpError::constraint("cached keys and values", "both or none", "one"));
    }
    if spec.has_input(PAST[0]) && spec.has_input(COUNTS) {
        return Err(OpError::constraint("numbers of keys", "no cached keys besides", "both"));
    }
    let attributes = spec.attributes;
    let side = |name| match attributes.int_or(name, -1)? {
        -1 => Ok(None),
        n if n >= 0 => Ok(Some(n)),
        _ => Err(OpError::Attribute { name, expected: "-1 or more" }),
    };
    let (left, mut right) = (side("left_window_size")?, side("right_window_size")?);
    if attributes.flag("is_causal", false)? {
        right = Some(0);
    }
    let precision = match attributes.int("softmax_precision")? {
        None | Some(0) => None,
        Some(&number) => Some(
            DType::from_onnx(number)
                .filter(|dtype| matches!(dtype, DType::F32 | DType::F16 | DType::F64 | DType::BF16))
                .ok_or(OpError::Attribute { name: "softmax_precision", expected: "a float type" })?,
        ),
    };
    let heads = |name| match attributes.int(name)? {
        None | Some(0) => Ok(None),
        Some(&n) => {
            usize::try_from(n).map(Some).map_err(|_| OpError::Attribute { name, expected: "positive" })
        }
    };
    let mode = attributes.int_or("qk_matmul_output_mode", 0)?;
    let expected = OpError::Attribute { name: "qk_matmul_output_mode", expected: "0 to 3" };
    Ok(Arc::new(Attention {
        scale: attributes.float("scale")?.copied(),
        softcap: attributes.float_or("softcap", 0.0)?,
        precision,
        window: Window { left, right },
        heads: [heads("q_num_heads")?, heads("kv_num_heads")?],
        mode: usize::try_from(mode).ok().filter(|&mode| mode < 4).ok_or(expected)?,
    }))
}

impl Attention {
    /// The heads that input `index` holds in its last dimension.
    fn packed_heads(&self, index: usize) -> Result<usize, OpError> {
        let name = if index == 0 { "q_num_heads" } else { "kv_num_heads" };
        self.heads[index.min(1)].ok_or(OpError::Attribute { name, expected: "given for 3 dimensions" })
    }

    /// The dimensions of input `index` with a dimension for heads, in the order `[batch, heads, length, size]`.
    fn unpacked(&self, index: usize, dims: &[Dim]) -> Result<Vec<Dim>, OpError> {
        match dims {
            [batch, length, hidden] => {
                let heads = self.packed_heads(index)?;
                let exact = hidden.known().is_none_or(|n| n % heads == 0);
                if !exact {
                    return Err(OpError::constraint("hidden size", format!("a multiple of {heads}"), hidden));
                }
                Ok(vec![batch.clone(), heads.into(), length.clone(), hidden.div_floor(heads)?])
            }
            [_, heads, _, _] => match (self.heads[index.min(1)], heads.known()) {
                (Some(given), Some(heads)) if given != heads => {
                    Err(OpError::constraint("heads", given, heads))
                }
                _ => Ok(dims.to_vec()),
            },
            _ => Err(OpError::constraint("dimensions of queries, keys and values", "3 or 4", dims.len())),
        }
    }

    fn unpacked_known(&self, index: usize, dims: &[usize]) -> Result<[usize; 4], OpError> {
        let all: Vec<Dim> = dims.iter().map(|&n| n.into()).collect();
        let known: Vec<usize> = self.unpacked(index, &all)?.iter().filter_map(Dim::known).collect();
        known.try_into().map_err(|_| OpError::Internal("a dimension lost"))
    }

    fn weighing(&self, size: usize) -> Weighing {
        Weighing {
            scale: self.scale.map_or_else(|| 1.0 / (size.max(1) as f64).sqrt(), f64::from),
            softcap: self.softcap,
            precision: self.precision,
            window: self.window,
        }
    }

    fn draw(&self, sketch: &mut Sketch, given: &Given) -> Result<Vec<ValueId>, OpError> {
        let mut parts =
            [self.split(sketch, given, 0)?, self.split(sketch, given, 1)?, self.split(sketch, given, 2)?];
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
        if let Some(mask) = optional(given, MASK) {
            let truth = sketch.dtype(mask)? == DType::Bool;
            let mask = if truth { mask } else { sketch.cast(mask, sketch.dtype(q)?)? };
            let mask = pad(sketch, mask, sizes.keys)?;
            check_mask(&sketch.dims(mask)?, &sizes)?;
            masks.blind = true;
            if truth {
                masks.restrict(sketch, mask)?;
            } else {
                masks.added = Some(mask);
            }
        }
        let offset = match optional(given, COUNTS) {
            Some(counts) => {
                check_counts(&sketch.dims(counts)?, sketch.dtype(counts)?, sizes.batch)?;
                let counts = sketch.reshape(counts, &[sizes.batch, 1, 1, 1])?;
                masks.restrict_count(sketch, counts, &sizes)?;
                let queries = i64::try_from(sizes.queries).map_err(|_| OpError::Size)?;
                let queries = sketch.constant(Tensor::scalar(queries));
                Offset::Batch(sketch.call("Sub", &[], &[counts, queries])?)
            }
            None => Offset::Known(i64::try_from(past).map_err(|_| OpError::Size)?),
        };
        masks.restrict_to(sketch, self.window, offset, &sizes)?;
        let Attended { mut result, scores } =
            scaled::draw(sketch, parts, &masks, &self.weighing(sizes.size))?;
        if required_dims(sketch, given)?.len() == 3 {
            result = merge(sketch, result)?;
        }
        Ok(vec![result, k, v, scores[self.mode]])
    }

    /// Input `index` with a dimension for heads.
    fn split(&self, sketch: &mut Sketch, given: &Given, index: usize) -> Result<ValueId, OpError> {
        let value = optional(given, index).ok_or(OpError::Internal("an input is missing"))?;
        let dims = sketch.dims(value)?;
        let [batch, heads, length, size] = self.unpacked_known(index, &dims)?;
        if dims.len() == 4 {
            return Ok(value);
        }
        let value = sketch.reshape(value, &[batch, length, heads, size])?;
        sketch.transpose(value, &[0, 2, 1, 3])
    }
}

fn required_dims(sketch: &Sketch, given: &Given) -> Result<Vec<usize>, OpError> {
    sketch.dims(optional(given, 0).ok_or(OpError::Internal("an input is missing"))?)
}

/// The heads side by side in the last dimension.
pub(super) fn merge(sketch: &mut Sketch, value: ValueId) -> Result<ValueId, OpError> {
    let &[batch, heads, length, size] = sketch.dims(value)?.as_slice() else {
        return Err(OpError::Internal("no dimension for heads"));
    };
    let value = sketch.transpose(value, &[0, 2, 1, 3])?;
    sketch.reshape(value, &[batch, length, heads.checked_mul(size).ok_or(OpError::Size)?])
}

/// A mask whose last dimension is that of the keys: what it does not cover is not seen.
pub(super) fn pad(sketch: &mut Sketch, mask: ValueId, keys: usize) -> Result<ValueId, OpError> {
    let mut dims = sketch.dims(mask)?;
    let Some(last) = dims.last_mut().filter(|last| **last < keys) else { return Ok(mask) };
    *last = keys - *last;
    let dtype = sketch.dtype(mask)?;
    let never = match dtype {
        DType::Bool => sketch.constant(Tensor::from_bools(&[], &[false])?),
        _ => sketch.number(dtype, f64::NEG_INFINITY)?,
    };
    let rest = sketch.stretch(never, &dims)?;
    sketch.concat(-1, &[mask, rest])
}

fn check_mask(mask: &[usize], sizes: &Sizes) -> Result<(), OpError> {
    let scores = sizes.scores();
    if crate::broadcast::dims(&[mask, &scores])? == scores {
        return Ok(());
    }
    Err(OpError::constraint("mask", format!("within {scores:?}"), format!("{mask:?}")))
}

fn check_counts(dims: &[usize], dtype: DType, batch: usize) -> Result<(), OpError> {
    if dtype != DType::I64 {
        return Err(OpError::Type { input: COUNTS, expected: "i64", got: dtype });
    }
    if dims != [batch] {
        return Err(OpError::constraint("numbers of keys", format!("[{batch}]"), format!("{dims:?}")));
    }
    Ok(())
}

/// The values of a cache and of what is appended to it along dimension 2.
fn append(past: Option<View<'_>>, own: (Vec<f64>, [usize; 4])) -> Result<(Vec<f64>, [usize; 4]), OpError> {
    let (values, [batch, heads, length, size]) = own;
    let Some(past) = past else { return Ok((values, [batch, heads, length, size])) };
    let &[_, _, cached, _] = past.dims else {
        return Err(OpError::constraint("dimensions of a cache", 4, past.dims.len()));
    };
    if past.dims != [batch, heads, cached, size] {
        let expected = format!("[{batch}, {heads}, {cached}, {size}]");
        return Err(OpError::constraint("a cache", expected, format!("{:?}", past.dims)));
    }
    let dims = [batch, heads, cached.checked_add(length).ok_or(OpError::Size)?, size];
    let past = floats(&past)?;
    let (old, new) = (cached.saturating_mul(size), length.saturating_mul(size));
    let mut all = Vec::with_capacity(past.len() + values.len());
    if !past.is_empty() || !values.is_empty() {
        for block in 0..batch * heads {
            all.extend_from_slice(&past[block * old..(block + 1) * old]);
            all.extend_from_slice(&values[block * new..(block + 1) * new]);
        }
    }
    Ok((all, dims))
}

/// Values in the order `[batch, heads, length, size]`, from `[batch, length, heads, size]`.
fn swap(values: &[f64], [batch, heads, length, size]: [usize; 4]) -> Vec<f64> {
    let mut all = Vec::with_capacity(values.len());
    if !values.is_empty() {
        for line in 0..batch * heads * length {
            let (b, head, at) = (line / (heads * length), line / length % heads, line % length);
            all.extend_from_slice(&values[((b * length + at) * heads + head) * size..][..size]);
        }
    }
    all
}

impl Operator for Attention {
    fn name(&self) -> &'static str {
        "Attention"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let facts = [required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?];
        for (input, fact) in facts.iter().enumerate() {
            if !matches!(fact.dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
                return Err(OpError::Type { input, expected: "a float", got: fact.dtype });
            }
        }
        let [q, k, v] = facts;
        let dtypes = [q.dtype, k.dtype, v.dtype, q.dtype];
        let mut all: Vec<Fact> = dtypes.into_iter().map(Fact::unranked).collect();
        all.truncate(outputs.max(1));
        let (Some(queries), Some(keys), Some(values)) = (&q.shape, &k.shape, &v.shape) else {
            return Ok(all);
        };
        let [queries_4, mut keys, mut values] =
            [self.unpacked(0, queries)?, self.unpacked(1, keys)?, self.unpacked(2, values)?];
        for (part, index) in [&mut keys, &mut values].into_iter().zip(PAST) {
            if let Some(past) = optional(inputs, index) {
                let Some([_, _, cached, _]) = past.shape.as_deref() else { return Ok(all) };
                part[2] = part[2].add(cached)?;
            }
        }
        let [batch, heads, length, _] = [0, 1, 2, 3].map(|axis| queries_4[axis].clone());
        let result = match queries.len() {
            3 => vec![batch.clone(), length.clone(), heads.mul(&values[3])?],
            _ => vec![batch.clone(), heads.clone(), length.clone(), values[3].clone()],
        };
        let scores = vec![batch, heads, length, keys[2].clone()];
        for (fact, shape) in all.iter_mut().zip([result, keys, values, scores]) {
            fact.shape = Some(shape);
        }
        Ok(all)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let own = |index: usize| {
            let view = view(inputs, index)?;
            let dims = self.unpacked_known(index, view.dims)?;
            let values = floats(&view)?;
            Ok::<_, OpError>((if view.dims.len() == 3 { swap(&values, dims) } else { values }, dims))
        };
        let query = view(inputs, 0)?;
        let (q, q_dims) = own(0)?;
        let (k, k_dims) = append(optional(inputs, PAST[0]), own(1)?)?;
        let (v, v_dims) = append(optional(inputs, PAST[1]), own(2)?)?;
        let sizes = Sizes::new(&q_dims, &k_dims, &v_dims)?;
        let past = optional(inputs, PAST[0]).map_or(0, |past| past.dims[2]) as i64;
        let mut batches = filled(&[sizes.batch], (past, i64::MAX))?;
        if let Some(counts) = optional(inputs, COUNTS) {
            check_counts(counts.dims, counts.dtype, sizes.batch)?;
            for (slot, &count) in batches.iter_mut().zip(counts.slice::<i64>()) {
                *slot = (count.saturating_sub(sizes.queries as i64), count);
            }
        }
        let mask = optional(inputs, MASK).map(|mask| plain_mask(&mask, &sizes)).transpose()?;
        let plain = Plain {
            q: &q,
            k: &k,
            v: &v,
            added: mask.as_ref().map(|(dims, values)| (dims.as_slice(), values.as_slice())),
            batches: &batches,
        };
        let (mut result, scores) = scaled::compute(&plain, &sizes, &self.weighing(sizes.size), self.mode)?;
        let mut dims = sizes.result().to_vec();
        if query.dims.len() == 3 {
            let [batch, heads, length, size] = sizes.result();
            result = swap(&result, [batch, length, heads, size]);
            dims = vec![batch, length, heads.checked_mul(size).ok_or(OpError::Size)?];
        }
        let key_type = view(inputs, 1)?.dtype;
        let value_type = view(inputs, 2)?.dtype;
        let mut all = vec![
            float_tensor(query.dtype, &dims, &result)?,
            float_tensor(key_type, &k_dims, &k)?,
            float_tensor(value_type, &v_dims, &v)?,
            float_tensor(query.dtype, &sizes.scores(), &scores)?,
        ];
        all.truncate(outputs.max(1));
        Ok(all)
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        sketch::expansion(inputs, &|sketch, given| self.draw(sketch, given))
    }
}

/// What a mask adds to the scores, as long as the keys.
fn plain_mask(mask: &View<'_>, sizes: &Sizes) -> Result<(Vec<usize>, Vec<f64>), OpError> {
    let never = f64::NEG_INFINITY;
    let values: Vec<f64> = match mask.dtype {
        DType::Bool => integers(mask)?.into_iter().map(|x| if x != 0 { 0.0 } else { never }).collect(),
        dtype if dtype.is_float() => floats(mask)?,
        _ => integers(mask)?.into_iter().map(|x| x as f64).collect(),
    };
    let mut dims = mask.dims.to_vec();
    let own = match dims.last_mut() {
        Some(last) if *last < sizes.keys => std::mem::replace(last, sizes.keys),
        _ => return check_mask(&dims, sizes).map(|()| (dims, values)),
    };
    check_mask(&dims, sizes)?;
    let mut all = filled(&dims, never)?;
    if own > 0 {
        for (to, from) in all.chunks_exact_mut(sizes.keys).zip(values.chunks_exact(own)) {
            to[..own].copy_from_slice(from);
        }
    }
    Ok((dims, all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    fn attention(inputs: &[bool], attributes: &[(&str, Attribute)]) -> Attention {
        let mut all = Attributes::default();
        for (name, value) in attributes {
            all.insert(*name, value.clone());
        }
        let spec =
            NodeSpec { op_type: "Attention", opset: 25, inputs, outputs: &[true; 4], attributes: &all };
        let op: Arc<dyn std::any::Any + Send + Sync> = build(&spec).unwrap();
        Arc::unwrap_or_clone(op.downcast().unwrap())
    }

    /// The plain loops, and the graph run node by node, which must agree.
    fn both(op: &Attention, inputs: &[Option<&Tensor>]) -> Vec<Tensor> {
        let views: Vec<_> = inputs.iter().map(|x| x.map(Tensor::view)).collect();
        let plain = op.reference(&views, 4).unwrap();
        let drawn = sketch::evaluate(&views, 4, &|sketch, given| op.draw(sketch, given)).unwrap();
        for (a, b) in plain.iter().zip(&drawn) {
            assert_eq!((a.dims(), a.dtype()), (b.dims(), b.dtype()));
            for (a, b) in floats(&a.view()).unwrap().into_iter().zip(floats(&b.view()).unwrap()) {
                assert!(a == b || (a - b).abs() < 1e-5, "{a} {b}");
            }
        }
        let facts: Vec<_> = inputs.iter().map(|x| x.map(|x| Fact::known(x.dtype(), x.dims()))).collect();
        let facts: Vec<_> = facts.iter().map(Option::as_ref).collect();
        for (fact, tensor) in op.infer(&facts, 4).unwrap().iter().zip(&plain) {
            assert_eq!(fact.dims().unwrap(), tensor.dims());
        }
        plain
    }

    fn ramp(dims: &[usize], step: f32) -> Tensor {
        let count: usize = dims.iter().product();
        Tensor::from_vec(dims, (0..count).map(|i| ((i * 7 % 11) as f32 - 5.0) * step).collect()).unwrap()
    }

    #[test]
    fn a_query_takes_the_value_of_the_key_it_matches() {
        let op = attention(&[true; 3], &[("scale", Attribute::Float(1.0)), ("is_causal", Attribute::Int(1))]);
        let one = |all: &[f32]| Tensor::from_slice(&[1, 1, 2, 1], all).unwrap();
        // exp(ln 3) : exp(0) = 3 : 1 for the second query; the first sees only the first key.
        let all =
            both(&op, &[Some(&one(&[1.0, 3f32.ln()])), Some(&one(&[1.0, 0.0])), Some(&one(&[4.0, 8.0]))]);
        let result = all[0].to_vec::<f32>().unwrap();
        assert!((result[0] - 4.0).abs() < 1e-6 && (result[1] - 5.0).abs() < 1e-6, "{result:?}");
    }

    #[test]
    fn loops_and_graph_agree() {
        let (q, k, v) = (ramp(&[2, 4, 3, 2], 0.3), ramp(&[2, 2, 5, 2], 0.2), ramp(&[2, 2, 5, 3], 1.0));
        let int = Attribute::Int;
        for mode in 0..4 {
            let op = attention(
                &[true; 4],
                &[
                    ("softcap", Attribute::Float(0.7)),
                    ("qk_matmul_output_mode", int(mode)),
                    ("left_window_size", int(1)),
                    ("right_window_size", int(1)),
                ],
            );
            let mask = Tensor::from_bools(&[3, 4], &[true, false, true, true].repeat(3)).unwrap();
            both(&op, &[Some(&q), Some(&k), Some(&v), Some(&mask)]);
            both(&op, &[Some(&q), Some(&k), Some(&v), Some(&ramp(&[4, 1, 5], 0.5))]);
            let counts = Tensor::from_slice(&[2], &[2i64, 4]).unwrap();
            let all = both(&op, &[Some(&q), Some(&k), Some(&v), None, None, None, Some(&counts)]);
            // Its position is -1, its window ends before key 1, and two keys count: it sees key 0 alone.
            let rows = v.to_vec::<f32>().unwrap();
            assert!((all[0].to_vec::<f32>().unwrap()[0] - rows[0]).abs() < 1e-6);
        }
    }

    #[test]
    fn caches_are_extended_and_heads_packed() {
        let int = Attribute::Int;
        let op = attention(
            &[true; 6],
            &[("q_num_heads", int(2)), ("kv_num_heads", int(1)), ("is_causal", int(1))],
        );
        let (q, k, v) = (ramp(&[1, 2, 4], 0.3), ramp(&[1, 2, 2], 0.2), ramp(&[1, 2, 3], 1.0));
        let (past_k, past_v) = (ramp(&[1, 1, 3, 2], 0.1), ramp(&[1, 1, 3, 3], 0.4));
        let all = both(&op, &[Some(&q), Some(&k), Some(&v), None, Some(&past_k), Some(&past_v)]);
        assert_eq!((all[0].dims(), all[1].dims()), (&[1, 2, 6][..], &[1, 1, 5, 2][..]));
        let wrong = Tensor::from_slice(&[1, 1, 1], &[0.0f32]).unwrap();
        let views = [&q, &wrong, &v].map(|x| Some(x.view()));
        assert!(op.reference(&views, 1).is_err());
    }
}
