//! What the attentions of com.microsoft share: heads, biases and masks of padding.

use super::scaled::{Masks, Sizes};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::graph::ValueId;
use crate::ir::tensor::Tensor;
use crate::sketch::Sketch;

/// A positive number of heads.
pub(super) fn heads(spec: &NodeSpec<'_>, name: &'static str) -> Result<usize, OpError> {
    let number = spec.attributes.int_or(name, 0)?;
    let positive = usize::try_from(number).ok().filter(|&n| n > 0);
    positive.ok_or(OpError::Attribute { name, expected: "positive" })
}

/// A scale; the default is by the size of heads, also when 0 is given.
pub(super) fn scale(spec: &NodeSpec<'_>) -> Result<Option<f32>, OpError> {
    Ok(spec.attributes.float("scale")?.copied().filter(|&scale| scale != 0.0))
}

/// The scale of heads of one size.
pub(super) fn scale_of(scale: Option<f32>, size: usize) -> f64 {
    scale.map_or_else(|| 1.0 / (size.max(1) as f64).sqrt(), f64::from)
}

/// Inputs from `first` on that are not done here.
pub(super) fn refuse_inputs(spec: &NodeSpec<'_>, inputs: &[(usize, &str)]) -> Result<(), OpError> {
    match inputs.iter().find(|(index, _)| spec.has_input(*index)) {
        Some((_, what)) => Err(OpError::unsupported(*what)),
        None => Ok(()),
    }
}

/// `[batch, length, heads · size]` as `[batch, heads, length, size]`, the same part of a bias added.
pub(super) fn split(
    sketch: &mut Sketch,
    value: ValueId,
    heads: usize,
    bias: Option<(ValueId, usize)>,
) -> Result<ValueId, OpError> {
    let &[batch, length, hidden] = sketch.dims(value)?.as_slice() else {
        return Err(OpError::constraint("queries, keys or values", "3 dimensions", "others"));
    };
    if hidden % heads != 0 {
        return Err(OpError::constraint("hidden size", format!("a multiple of {heads}"), hidden));
    }
    let mut value = value;
    if let Some((bias, start)) = bias {
        let bias = part(sketch, bias, start, hidden)?;
        value = sketch.call("Add", &[], &[value, bias])?;
    }
    let value = sketch.reshape(value, &[batch, length, heads, hidden / heads])?;
    sketch.transpose(value, &[0, 2, 1, 3])
}

/// `size` elements of the last dimension, from `start` on.
pub(super) fn part(
    sketch: &mut Sketch,
    value: ValueId,
    start: usize,
    size: usize,
) -> Result<ValueId, OpError> {
    let end = start.checked_add(size).ok_or(OpError::Size)?;
    let own = sketch.dims(value)?.last().copied().unwrap_or(0);
    if end > own {
        return Err(OpError::constraint("last dimension", format!("at least {end}"), own));
    }
    if (start, end) == (0, own) {
        return Ok(value);
    }
    sketch.slice(value, -1, [start, end], 1)
}

/// Adds what a mask of padding says to the scores: `filter` where there is padding. A mask is the number of keys of
/// each batch, these and then where they start, or truth values as integers in two to four dimensions.
pub(super) fn mask(
    sketch: &mut Sketch,
    mask: ValueId,
    filter: f32,
    like: ValueId,
    sizes: &Sizes,
) -> Result<ValueId, OpError> {
    let Sizes { batch, queries, keys, .. } = *sizes;
    let dims = sketch.dims(mask)?;
    let dtype = sketch.dtype(like)?;
    let wrong = || OpError::unsupported(format!("a mask of dimensions {dims:?}"));
    let mask = sketch.cast(mask, crate::ir::dtype::DType::I64)?;
    let allowed = match *dims {
        [count] if count == batch || Some(count) == batch.checked_mul(2) => {
            let at = sketch.range(&[keys])?;
            let mut bound = |start: usize, comparison: &str| {
                let bound = sketch.slice(mask, 0, [start, start + batch], 1)?;
                let bound = sketch.reshape(bound, &[batch, 1, 1, 1])?;
                sketch.call(comparison, &[], &[at, bound])
            };
            let mut allowed = bound(0, "Less")?;
            if count != batch {
                let after = bound(batch, "GreaterOrEqual")?;
                allowed = sketch.call("And", &[], &[allowed, after])?;
            }
            allowed
        }
        _ => {
            let mask = match *dims {
                [own, last] if (own, last) == (batch, keys) => sketch.reshape(mask, &[batch, 1, 1, keys])?,
                [own, rows, last] if (own, rows, last) == (batch, queries, keys) => {
                    sketch.reshape(mask, &[batch, 1, queries, keys])?
                }
                // One for all positions; these queries are the last.
                [own, 1, rows, last] if own == batch && rows == last && rows >= keys && keys >= queries => {
                    let rows = sketch.slice(mask, 2, [keys - queries, keys], 1)?;
                    part(sketch, rows, 0, keys)?
                }
                _ => return Err(wrong()),
            };
            let zero = sketch.constant(Tensor::scalar(0i64));
            sketch.call("Greater", &[], &[mask, zero])?
        }
    };
    let (zero, filter) = (sketch.number(dtype, 0.0)?, sketch.number(dtype, filter.into())?);
    sketch.call("Where", &[], &[allowed, zero, filter])
}

/// One more value added to the scores.
pub(super) fn add(
    sketch: &mut Sketch,
    masks: &mut Masks,
    value: ValueId,
    sizes: &Sizes,
) -> Result<(), OpError> {
    let (dims, scores) = (sketch.dims(value)?, sizes.scores());
    if crate::broadcast::dims(&[&dims, &scores])? != scores {
        return Err(OpError::constraint("attention bias", format!("within {scores:?}"), format!("{dims:?}")));
    }
    masks.added = Some(match masks.added {
        Some(other) => sketch.call("Add", &[], &[other, value])?,
        None => value,
    });
    Ok(())
}
