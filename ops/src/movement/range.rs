//! [`Range`](https://onnx.ai/onnx/operators/onnx__Range.html): numbers at equal distances.

use std::sync::Arc;

use super::number::{Number, by_number};
use super::sizes::{self, required, view};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::Operator;

/// `Range` from input 0 up to input 1 in steps of input 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range;

/// Builds [`Range`].
///
/// # Errors
/// When there are not three inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, 3, "3")?;
    Ok(Arc::new(Range))
}

/// The one number of a tensor.
fn number<T: Number>(view: &View<'_>) -> Result<T, OpError> {
    match view.slice::<T>() {
        &[one] => Ok(one),
        all => Err(OpError::constraint("start, limit and delta", "one number of one type", all.len())),
    }
}

/// How many numbers there are.
fn count(start: f64, limit: f64, delta: f64) -> Result<usize, OpError> {
    let count = ((limit - start) / delta).ceil();
    if delta == 0.0 || !count.is_finite() {
        return Err(OpError::constraint("delta", "not 0", delta));
    }
    if count > 1e12 { Err(OpError::Size) } else { Ok(count.max(0.0) as usize) }
}

/// The same for integers, exactly.
fn count_integers(start: i128, limit: i128, delta: i128) -> Result<usize, OpError> {
    let room = if delta > 0 { limit - start } else { start - limit };
    match delta {
        0 => Err(OpError::constraint("delta", "not 0", 0)),
        _ if room <= 0 => Ok(0),
        _ => usize::try_from((room - 1) / delta.abs() + 1).map_err(|_| OpError::Size),
    }
}

/// How many numbers a range of type `T` has.
fn extent<T: Number>(start: &View<'_>, limit: &View<'_>, delta: &View<'_>) -> Result<usize, OpError> {
    let (start, limit, delta): (T, T, T) = (number(start)?, number(limit)?, number(delta)?);
    count(start.to_f64(), limit.to_f64(), delta.to_f64())
}

/// How many numbers a range has. Integers are counted exactly, which floats cannot beyond 2^53.
fn extent_of(start: &View<'_>, limit: &View<'_>, delta: &View<'_>) -> Result<usize, OpError> {
    match start.dtype {
        DType::I64 => {
            let all: [i64; 3] = [number(start)?, number(limit)?, number(delta)?];
            let [start, limit, delta] = all.map(i128::from);
            count_integers(start, limit, delta)
        }
        dtype => by_number!(dtype, extent(start, limit, delta)),
    }
}

fn numbers<T: Number>(start: &View<'_>, delta: &View<'_>, count: usize) -> Result<Tensor, OpError> {
    let (start, delta) = (number::<T>(start)?.to_f64(), number::<T>(delta)?.to_f64());
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|_| OpError::Size)?;
    // Each from the start: repeated addition would drift.
    all.extend((0..count).map(|i| T::from_f64(start + i as f64 * delta)));
    Ok(Tensor::from_vec(&[count], all)?)
}

fn range(start: &View<'_>, limit: &View<'_>, delta: &View<'_>) -> Result<Tensor, OpError> {
    let count = extent_of(start, limit, delta)?;
    if start.dtype != DType::I64 {
        return by_number!(start.dtype, numbers(start, delta, count));
    }
    let (start, delta): (i64, i64) = (number(start)?, number(delta)?);
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|_| OpError::Size)?;
    // All lie between start and limit, so nothing wraps.
    all.extend((0..count).map(|i| start.wrapping_add(delta.wrapping_mul(i as i64))));
    Ok(Tensor::from_vec(&[count], all)?)
}

impl Operator for Range {
    fn name(&self) -> &'static str {
        "Range"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (start, limit, delta) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        for (input, fact) in [(1, limit), (2, delta)] {
            if fact.dtype != start.dtype {
                return Err(OpError::Type { input, expected: "the type of start", got: fact.dtype });
            }
        }
        if let (Some(a), Some(b), Some(c)) = (&start.value, &limit.value, &delta.value) {
            let [a, b, c] = [a, b, c].map(|tensor| tensor.clone().aligned());
            return Ok(vec![Fact::known(start.dtype, &[extent_of(&a.view(), &b.view(), &c.view())?])]);
        }
        // `Range(0, n, 1)` has n elements.
        let named =
            match (sizes::of(start).as_deref(), sizes::of(limit).as_deref(), sizes::of(delta).as_deref()) {
                (Some([start]), Some([limit]), Some([step])) if step.is(1) => {
                    start.known().and_then(|start| limit.offset(-i64::try_from(start).ok()?).ok())
                }
                _ => None,
            };
        let count = named.unwrap_or_else(|| Dim::named("Range.count"));
        Ok(vec![Fact::new(start.dtype, vec![count])])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![range(&view(inputs, 0)?, &view(inputs, 1)?, &view(inputs, 2)?)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T: Number>(start: T, limit: T, delta: T) -> Result<Tensor, OpError> {
        let all = [start, limit, delta].map(Tensor::scalar);
        let inputs = [Some(all[0].view()), Some(all[1].view()), Some(all[2].view())];
        Ok(Range.reference(&inputs, 1)?.remove(0))
    }

    #[test]
    fn both_directions() {
        assert_eq!(run(1f32, 5.0, 2.0).unwrap().to_vec::<f32>().unwrap(), [1.0, 3.0]);
        assert_eq!(run(10i32, 6, -3).unwrap().to_vec::<i32>().unwrap(), [10, 7]);
        assert_eq!(run(3i64, 3, 1).unwrap().dims(), [0]);
        assert_eq!(run(5i64, 3, 1).unwrap().dims(), [0]);
        assert!(run(1i64, 3, 0).is_err());
        assert!(run(1f32, 3.0, f32::NAN).is_err());
        assert!(run(i64::MIN, i64::MAX, 1).is_err());
        let far = run(i64::MAX - 3, i64::MAX, 2).unwrap();
        assert_eq!(far.to_vec::<i64>().unwrap(), [i64::MAX - 3, i64::MAX - 1]);
    }

    #[test]
    fn a_named_limit_is_the_count() {
        let sizes = Some(vec![Dim::named("n")]);
        let limit = Fact { dtype: DType::I64, shape: Some(Vec::new()), value: None, sizes };
        let (zero, one) = (Fact::constant(Tensor::scalar(0i64)), Fact::constant(Tensor::scalar(1i64)));
        let y = Range.infer(&[Some(&zero), Some(&limit), Some(&one)], 1).unwrap();
        assert_eq!(y[0].shape.as_ref().unwrap(), &[Dim::named("n")]);
    }
}
