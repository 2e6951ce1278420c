//! [LpNormalization](https://onnx.ai/onnx/operators/onnx__LpNormalization.html): lines of unit norm, and
//! [MeanVarianceNormalization](https://onnx.ai/onnx/operators/onnx__MeanVarianceNormalization.html): elements of mean 0
//! and variance 1 over some dimensions.

use std::sync::Arc;

use super::normalize::{Normalize, Span};
use super::statistic::Statistic;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::operator::Operator;

pub(super) fn lp(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let statistic = match spec.attributes.int_or("p", 2)? {
        1 => Statistic::L1,
        2 => Statistic::L2,
        other => return Err(OpError::constraint("p", "1 or 2", other)),
    };
    let span = Span::Along(spec.attributes.int_or("axis", -1)?);
    Ok(Arc::new(Normalize::new("LpNormalization", statistic, 0.0, span)))
}

pub(super) fn mean_variance(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let span = Span::Axes(spec.attributes.ints_or("axes", vec![0, 2, 3])?);
    // The definition's function body adds this to the deviation, against division by zero.
    Ok(Arc::new(Normalize::new("MeanVarianceNormalization", Statistic::Deviation, 1e-9, span)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::tensor::Tensor;

    fn run(op: &Normalize, dims: &[usize], data: Vec<f32>) -> Vec<f32> {
        let x = Tensor::from_vec(dims, data).unwrap();
        op.reference(&[Some(x.view())], 1).unwrap().remove(0).to_vec().unwrap()
    }

    #[test]
    fn norms_become_one_and_zeros_stay() {
        let l1 = Normalize::new("", Statistic::L1, 0.0, Span::Along(-1));
        assert_eq!(run(&l1, &[2, 2], vec![1.0, -3.0, 0.0, 0.0]), [0.25, -0.75, 0.0, 0.0]);
        let l2 = Normalize::new("", Statistic::L2, 0.0, Span::Along(0));
        assert_eq!(run(&l2, &[2, 2], vec![3.0, 0.0, -4.0, 2.0]), [0.6, 0.0, -0.8, 1.0]);
    }

    #[test]
    fn dimensions_apart_share_their_statistics() {
        let op = Normalize::new("", Statistic::Deviation, 0.0, Span::Axes(vec![0, 2]));
        let got = run(&op, &[2, 2, 2], vec![1.0, 1.0, 0.0, 4.0, 3.0, 3.0, 4.0, 0.0]);
        assert_eq!(got, [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0, -1.0]);
    }
}
