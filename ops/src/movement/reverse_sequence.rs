//! [`ReverseSequence`](https://onnx.ai/onnx/operators/onnx__ReverseSequence.html): the beginnings of sequences turned
//! round.

use std::sync::Arc;

use super::assemble::{coordinates, row_major, select};
use super::sizes::{self, required, view};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::Operator;

/// `ReverseSequence`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReverseSequence {
    /// The axis of sequences: 0 or 1.
    pub batch: usize,
    /// The axis within a sequence: the other one.
    pub time: usize,
}

/// Builds [`ReverseSequence`].
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    let (batch, time) = (spec.attributes.int_or("batch_axis", 1)?, spec.attributes.int_or("time_axis", 0)?);
    match (batch, time) {
        (0, 1) => Ok(Arc::new(ReverseSequence { batch: 0, time: 1 })),
        (1, 0) => Ok(Arc::new(ReverseSequence { batch: 1, time: 0 })),
        _ => Err(OpError::constraint("batch_axis and time_axis", "0 and 1", format!("{batch} and {time}"))),
    }
}

impl Operator for ReverseSequence {
    fn name(&self) -> &'static str {
        "ReverseSequence"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        if let Some(rank) = x.rank().filter(|&rank| rank < 2) {
            return Err(OpError::constraint("rank", "2 or more", rank));
        }
        sizes::expect_indices(required(inputs, 1)?.dtype, 1)?;
        Ok(vec![Fact { value: None, sizes: None, ..x.clone() }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, lengths) = (view(inputs, 0)?, view(inputs, 1)?);
        let lengths = sizes::integers(&lengths, 1)?;
        let (&[a, b], true) = (x.dims.get(..2).unwrap_or_default(), x.dims.len() >= 2) else {
            return Err(OpError::constraint("rank", "2 or more", x.dims.len()));
        };
        let (sequences, time) = if self.batch == 0 { (a, b) } else { (b, a) };
        let fits = |&n: &i64| usize::try_from(n).ok().filter(|&n| n <= time);
        let all: Option<Vec<usize>> = lengths.iter().map(fits).collect();
        let all = all.filter(|all| all.len() == sequences).ok_or_else(|| {
            let expected = format!("{sequences} lengths up to {time}");
            OpError::constraint("sequence_lens", expected, format!("{} lengths", lengths.len()))
        })?;
        let strides = row_major(x.dims);
        let y = select(&x, x.dims, None, |i| {
            let at = coordinates(i, x.dims);
            let (length, t) = (all[at[self.batch]], at[self.time]);
            Some(if t < length {
                i - t * strides[self.time] + (length - 1 - t) * strides[self.time]
            } else {
                i
            })
        })?;
        Ok(vec![y])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_turn_round() {
        let x = Tensor::from_slice(&[2, 3], &[0f32, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let lengths = Tensor::from_slice(&[2], &[3i64, 2]).unwrap();
        let op = ReverseSequence { batch: 0, time: 1 };
        let y = op.reference(&[Some(x.view()), Some(lengths.view())], 1).unwrap();
        assert_eq!(y[0].to_vec::<f32>().unwrap(), [2.0, 1.0, 0.0, 4.0, 3.0, 5.0]);
        let wrong = Tensor::from_slice(&[2], &[4i64, 2]).unwrap();
        assert!(op.reference(&[Some(x.view()), Some(wrong.view())], 1).is_err());
        let flat = Tensor::from_slice(&[2], &[1f32, 2.0]).unwrap();
        assert!(op.reference(&[Some(flat.view()), Some(lengths.view())], 1).is_err());
    }
}
