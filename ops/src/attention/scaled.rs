//! Scaled dot-product attention as a graph of simpler operators, and as plain loops.

use std::sync::Arc;

use super::attend::{Attend, Spot};
use crate::broadcast::{self, Strides};
use crate::error::OpError;
use crate::ir::attributes::Attribute;
use crate::ir::dtype::DType;
use crate::ir::graph::ValueId;
use crate::ir::numbers::filled;
use crate::ir::tensor::Tensor;
use crate::sketch::Sketch;

/// How keys are weighed, apart from masks that are tensors.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Weighing {
    /// Factor of the products of queries and keys.
    pub scale: f64,
    /// Scores beyond this are bent back by a hyperbolic tangent; none when not positive.
    pub softcap: f32,
    /// What the softmax is computed in, when not in the queries' type.
    pub precision: Option<DType>,
    /// How far a query sees.
    pub window: Window,
}

/// A query at position `p` sees keys from `p - left` to `p + right`.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Window {
    pub left: Option<i64>,
    pub right: Option<i64>,
}

/// The position of the first query among the keys.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Offset {
    /// A number.
    Known(i64),
    /// For each batch, from the 64-bit integers of this value in `[batch, 1, 1, 1]`.
    Batch(ValueId),
}

/// Sizes of one problem.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Independent attentions.
    pub batch: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values: each is shared by as many heads of queries.
    pub key_heads: usize,
    /// Queries of a head.
    pub queries: usize,
    /// All keys of a head, cached ones included.
    pub keys: usize,
    /// Elements of a query and of a key.
    pub size: usize,
    /// Elements of a value.
    pub value_size: usize,
}

impl Sizes {
    /// The sizes of queries, keys and values with four dimensions each.
    pub(super) fn new(q: &[usize], k: &[usize], v: &[usize]) -> Result<Sizes, OpError> {
        let (&[batch, heads, queries, size], &[_, key_heads, keys, _], &[_, _, _, value_size]) = (q, k, v)
        else {
            return Err(OpError::constraint(
                "queries, keys and values",
                "4 dimensions",
                format!("{q:?}, {k:?}, {v:?}"),
            ));
        };
        let expect = |what: &'static str, got: &[usize], expected: [usize; 4]| {
            if got == expected {
                Ok(())
            } else {
                Err(OpError::constraint(what, format!("{expected:?}"), format!("{got:?}")))
            }
        };
        expect("keys", k, [batch, key_heads, keys, size])?;
        expect("values", v, [batch, key_heads, keys, value_size])?;
        if key_heads == 0 || heads % key_heads != 0 {
            return Err(OpError::constraint("heads of queries", format!("a multiple of {key_heads}"), heads));
        }
        Ok(Sizes { batch, heads, key_heads, queries, keys, size, value_size })
    }

    /// The dimensions of the scores.
    pub fn scores(&self) -> [usize; 4] {
        [self.batch, self.heads, self.queries, self.keys]
    }

    /// The dimensions of the result.
    pub fn result(&self) -> [usize; 4] {
        [self.batch, self.heads, self.queries, self.value_size]
    }

    /// There are no scores.
    fn is_empty(&self) -> bool {
        self.scores().contains(&0)
    }

    /// The heads that share keys as one, with so many columns.
    fn shared(&self, columns: usize) -> Result<[usize; 4], OpError> {
        let rows = (self.heads / self.key_heads.max(1)).checked_mul(self.queries).ok_or(OpError::Size)?;
        Ok([self.batch, self.key_heads, rows, columns])
    }
}

impl Window {
    /// The first and last key that a query at `position` sees, as numbers that may lie outside.
    fn bounds(&self, position: i64) -> (i64, i64) {
        let low = self.left.map_or(i64::MIN, |left| position.saturating_sub(left));
        (low, self.right.map_or(i64::MAX, |right| position.saturating_add(right)))
    }

    fn is_open(&self) -> bool {
        self.left.is_none() && self.right.is_none()
    }
}

/// What masks do to the scores.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Masks {
    /// A value added to the scores, of their type.
    pub added: Option<ValueId>,
    /// Truth values: which keys are seen.
    pub allowed: Option<ValueId>,
    /// Some query may see no key at all.
    pub blind: bool,
}

impl Masks {
    /// Only what this allows as well is seen.
    pub(super) fn restrict(&mut self, sketch: &mut Sketch, allowed: ValueId) -> Result<(), OpError> {
        self.allowed = Some(match self.allowed {
            Some(other) => sketch.call("And", &[], &[other, allowed])?,
            None => allowed,
        });
        Ok(())
    }

    /// Only keys within the window are seen.
    pub(super) fn restrict_to(
        &mut self,
        sketch: &mut Sketch,
        window: Window,
        offset: Offset,
        sizes: &Sizes,
    ) -> Result<(), OpError> {
        if window.is_open() || sizes.is_empty() {
            return Ok(());
        }
        let keys = i64::try_from(sizes.keys).map_err(|_| OpError::Size)?;
        let mut bounds = [filled(&[sizes.queries], 0i64)?, filled(&[sizes.queries], 0i64)?];
        let [lows, highs] = &mut bounds;
        let mut open = true;
        for (query, (low, high)) in (0i64..).zip(lows.iter_mut().zip(highs)) {
            match offset {
                Offset::Known(offset) => {
                    let (first, last) = window.bounds(offset.saturating_add(query));
                    (*low, *high) = (first.clamp(0, keys), last.clamp(-1, keys));
                    open &= *low == 0 && *high >= keys - 1;
                    self.blind |= low > high;
                }
                // Relative to the offset, which is added on the device; far bounds are clamped against overflow.
                Offset::Batch(_) => {
                    let far = i64::MAX / 4;
                    let (first, last) = window.bounds(query);
                    (*low, *high) = (first.clamp(-far, far), last.clamp(-far, far));
                    (open, self.blind) = (false, true);
                }
            }
        }
        if open {
            return Ok(());
        }
        let at = sketch.range(&[sizes.keys])?;
        let ends = [(window.left.is_some(), "GreaterOrEqual"), (window.right.is_some(), "LessOrEqual")];
        for (bounds, (given, comparison)) in bounds.into_iter().zip(ends) {
            if !given {
                continue;
            }
            let mut bounds = sketch.constant(Tensor::from_vec(&[sizes.queries, 1], bounds)?);
            if let Offset::Batch(offset) = offset {
                bounds = sketch.call("Add", &[], &[bounds, offset])?;
            }
            let allowed = sketch.call(comparison, &[], &[at, bounds])?;
            self.restrict(sketch, allowed)?;
        }
        Ok(())
    }

    /// Only the first keys of each batch are seen: as many as `counts` says, in `[batch, 1, 1, 1]`.
    pub(super) fn restrict_count(
        &mut self,
        sketch: &mut Sketch,
        counts: ValueId,
        sizes: &Sizes,
    ) -> Result<(), OpError> {
        if sizes.is_empty() {
            return Ok(());
        }
        let at = sketch.range(&[sizes.keys])?;
        let allowed = sketch.call("Less", &[], &[at, counts])?;
        self.blind = true;
        self.restrict(sketch, allowed)
    }
}

/// The result in four dimensions, and the scores: as they are, capped, masked, and as probabilities.
pub(super) struct Attended {
    pub result: ValueId,
    pub scores: [ValueId; 4],
}

/// Draws the attention of queries to keys and values, of four dimensions each.
pub(super) fn draw(
    sketch: &mut Sketch,
    [q, k, v]: [ValueId; 3],
    masks: &Masks,
    weighing: &Weighing,
) -> Result<Attended, OpError> {
    let sizes = Sizes::new(&sketch.dims(q)?, &sketch.dims(k)?, &sketch.dims(v)?)?;
    let dtype = sketch.dtype(q)?;
    let raw = products(sketch, [q, k], weighing.scale, &sizes)?;
    let mut capped = raw;
    if weighing.softcap > 0.0 {
        let cap = sketch.number(dtype, weighing.softcap.into())?;
        for name in ["Div", "Tanh", "Mul"] {
            let operands = [capped, cap];
            let given = if name == "Tanh" { &operands[..1] } else { &operands };
            capped = sketch.call(name, &[], given)?;
        }
    }
    let mut masked = capped;
    if let Some(added) = masks.added {
        masked = sketch.call("Add", &[], &[masked, added])?;
    }
    let never = sketch.number(dtype, f64::NEG_INFINITY)?;
    if let Some(allowed) = masks.allowed {
        masked = sketch.call("Where", &[], &[allowed, masked, never])?;
    }
    let precise = sketch.cast(masked, weighing.precision.unwrap_or(dtype))?;
    let weights = sketch.call("Softmax", &[("axis", Attribute::Int(-1))], &[precise])?;
    let mut weights = sketch.cast(weights, dtype)?;
    if masks.blind
        && let Some(bias) = bias(sketch, masks, never)?
    {
        let axis = sketch.constant(Tensor::from_slice(&[1], &[-1i64])?);
        let most = sketch.call("ReduceMax", &[], &[bias, axis])?;
        let blind = sketch.call("Equal", &[], &[most, never])?;
        let zero = sketch.number(dtype, 0.0)?;
        weights = sketch.call("Where", &[], &[blind, zero, weights])?;
    }
    let values = sketch.cast(v, dtype)?;
    // Scores that nobody asks for are not computed.
    let result = match attend(sketch, [q, k, values], masks, weighing, &sizes)? {
        Some(result) => result,
        None => gather(sketch, weights, values, &sizes)?,
    };
    Ok(Attended { result, scores: [raw, capped, masked, weights] })
}

/// Draws the result as one step, which keeps no scores; `None` for types and sizes that it does not do.
fn attend(
    sketch: &mut Sketch,
    [q, k, v]: [ValueId; 3],
    masks: &Masks,
    weighing: &Weighing,
    sizes: &Sizes,
) -> Result<Option<ValueId>, OpError> {
    let dtype = sketch.dtype(q)?;
    let narrow = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    let exact = weighing.precision == Some(DType::F64);
    if !narrow || exact || sketch.dtype(k)? != dtype || sizes.is_empty() || sizes.result().contains(&0) {
        return Ok(None);
    }
    let mut op = Attend::dense(*sizes, weighing.scale as f32);
    op.softcap = weighing.softcap;
    let mut inputs = vec![q, k, v];
    let mask = match (masks.added, masks.allowed) {
        (Some(_), Some(_)) => {
            let never = sketch.number(dtype, f64::NEG_INFINITY)?;
            bias(sketch, masks, never)?
        }
        (added, allowed) => added.or(allowed),
    };
    if let Some(mask) = mask {
        op.mask = Spot::stretched(&sketch.dims(mask)?);
        inputs.push(mask);
    }
    sketch.node(Arc::new(op), &inputs).map(Some)
}

/// Draws the scaled products of queries and keys.
pub(super) fn products(
    sketch: &mut Sketch,
    [q, k]: [ValueId; 2],
    scale: f64,
    sizes: &Sizes,
) -> Result<ValueId, OpError> {
    let dtype = sketch.dtype(q)?;
    // Half-precision products are scaled beforehand, against overflow; others where they are stored.
    let before = matches!(dtype, DType::F16 | DType::BF16) && scale > 0.0;
    let factor = if before { scale.sqrt() } else { scale };
    let factor = sketch.number(dtype, factor)?;
    let (mut queries, mut keys) = (q, k);
    if before {
        queries = sketch.call("Mul", &[], &[q, factor])?;
        keys = sketch.call("Mul", &[], &[k, factor])?;
    }
    let queries = sketch.reshape(queries, &sizes.shared(sizes.size)?)?;
    let keys = sketch.transpose(keys, &[0, 1, 3, 2])?;
    let mut raw = sketch.call("MatMul", &[], &[queries, keys])?;
    if !before {
        raw = sketch.call("Mul", &[], &[raw, factor])?;
    }
    sketch.reshape(raw, &sizes.scores())
}

/// Draws the sums of values by their weights.
pub(super) fn gather(
    sketch: &mut Sketch,
    weights: ValueId,
    values: ValueId,
    sizes: &Sizes,
) -> Result<ValueId, OpError> {
    let shared = sketch.reshape(weights, &sizes.shared(sizes.keys)?)?;
    let result = sketch.call("MatMul", &[], &[shared, values])?;
    sketch.reshape(result, &sizes.result())
}

/// All masks as one value added to the scores.
fn bias(sketch: &mut Sketch, masks: &Masks, never: ValueId) -> Result<Option<ValueId>, OpError> {
    let Some(allowed) = masks.allowed else { return Ok(masks.added) };
    let added = match masks.added {
        Some(added) => added,
        None => sketch.number(sketch.dtype(never)?, 0.0)?,
    };
    sketch.call("Where", &[], &[allowed, added, never]).map(Some)
}

/// The operands of the plain loops.
pub(super) struct Plain<'a> {
    pub q: &'a [f64],
    pub k: &'a [f64],
    pub v: &'a [f64],
    /// What masks add to the scores, with its dimensions.
    pub added: Option<(&'a [usize], &'a [f64])>,
    /// For each batch: the position of the first query, and how many keys count.
    pub batches: &'a [(i64, i64)],
}

/// The result, and the scores as `mode` says: raw, capped, masked or as probabilities.
pub(super) fn compute(
    plain: &Plain<'_>,
    sizes: &Sizes,
    weighing: &Weighing,
    mode: usize,
) -> Result<(Vec<f64>, Vec<f64>), OpError> {
    let Sizes { batch, heads, key_heads, queries, keys, size, value_size } = *sizes;
    let mut result = filled(&sizes.result(), 0.0)?;
    let mut shown = filled(&sizes.scores(), 0.0)?;
    let mut row = filled(&[keys], 0.0)?;
    let added = match plain.added {
        Some((dims, values)) if broadcast::dims(&[dims, &sizes.scores()])? == sizes.scores() => {
            Some((Strides::new(dims, &sizes.scores()), values))
        }
        Some(_) => return Err(OpError::Internal("a mask beyond the scores")),
        None => None,
    };
    if result.is_empty() && shown.is_empty() {
        return Ok((result, shown));
    }
    for line in 0..batch * heads * queries {
        let (block, query) = (line / queries, line % queries);
        let (b, head) = (block / heads, block % heads);
        let key_block = b * key_heads + head / (heads / key_heads);
        let &(offset, count) = plain.batches.get(b).ok_or(OpError::Internal("a batch is missing"))?;
        let (low, high) = weighing.window.bounds(offset.saturating_add_unsigned(query as u64));
        let q = &plain.q[line * size..(line + 1) * size];
        let mut blind = true;
        for (key, slot) in row.iter_mut().enumerate() {
            let k = &plain.k[(key_block * keys + key) * size..][..size];
            let mut score = q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() * weighing.scale;
            let place = line * keys + key;
            if mode == 0 {
                shown[place] = score;
            }
            if weighing.softcap > 0.0 {
                let cap = f64::from(weighing.softcap);
                score = (score / cap).tanh() * cap;
            }
            if mode == 1 {
                shown[place] = score;
            }
            let bias = added.as_ref().map_or(0.0, |(strides, values)| values[strides.offset(place)]);
            let seen = (low..=high).contains(&(key as i64)) && (key as i64) < count;
            *slot = if seen { score + bias } else { f64::NEG_INFINITY };
            blind &= !seen || bias == f64::NEG_INFINITY;
            if mode == 2 {
                shown[place] = *slot;
            }
        }
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.iter_mut().for_each(|x| *x = if blind { 0.0 } else { (*x - most).exp() });
        let sum: f64 = if blind { 1.0 } else { row.iter().sum() };
        for (key, weight) in row.iter().enumerate() {
            let weight = weight / sum;
            if mode == 3 {
                shown[line * keys + key] = weight;
            }
            let v = &plain.v[(key_block * keys + key) * value_size..][..value_size];
            let out = &mut result[line * value_size..(line + 1) * value_size];
            out.iter_mut().zip(v).for_each(|(sum, v)| *sum += weight * v);
        }
    }
    Ok((result, shown))
}
