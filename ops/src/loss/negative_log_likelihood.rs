//! [NegativeLogLikelihoodLoss](https://onnx.ai/onnx/operators/onnx__NegativeLogLikelihoodLoss.html): the loss of
//! logarithms of probabilities.

use std::sync::Arc;

use super::likelihood::Likelihood;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::numbers::{float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{optional, view};
use crate::operator::Operator;

/// The loss of logarithms of probabilities; inputs: these, targets, weights of classes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NegativeLogLikelihoodLoss(pub Likelihood);

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    Ok(Arc::new(NegativeLogLikelihoodLoss(Likelihood::build(spec)?)))
}

impl Operator for NegativeLogLikelihoodLoss {
    fn name(&self) -> &'static str {
        "NegativeLogLikelihoodLoss"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        Ok(vec![self.0.infer(inputs)?])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (logs, target, weight) = (view(inputs, 0)?, view(inputs, 1)?, optional(inputs, 2));
        let (dims, loss) = self.0.loss(&floats(&logs)?, logs.dims, &target, weight.as_ref())?;
        Ok(vec![float_tensor(logs.dtype, &dims, &loss)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::Reduction;

    fn run(reduction: Reduction, ignored: Option<i64>, targets: [i64; 4]) -> Result<Vec<f32>, OpError> {
        // Two samples of three classes at two places: the example of the specification.
        let logs = [1.0f32, 2.0, 2.0, 2.0, 3.0, 2.0, 0.0, 1.0, 2.0, 2.0, 1.0, 2.0];
        let logs = Tensor::from_slice(&[2, 3, 2], &logs).unwrap();
        let targets = Tensor::from_slice(&[2, 2], &targets).unwrap();
        let weight = Tensor::from_slice(&[3], &[0.2f32, 0.3, 0.1]).unwrap();
        let op = NegativeLogLikelihoodLoss(Likelihood { reduction, ignored });
        let y = op.reference(&[Some(logs.view()), Some(targets.view()), Some(weight.view())], 1)?;
        Ok(y[0].to_vec().unwrap())
    }

    fn close(got: &[f32], expected: &[f32]) {
        assert_eq!(got.len(), expected.len());
        got.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "{got:?} {expected:?}"));
    }

    #[test]
    fn losses_are_weighted_and_reduced() {
        let targets = [2, 1, 0, 2];
        close(&run(Reduction::None, None, targets).unwrap(), &[-0.3, -0.6, -0.0, -0.2]);
        close(&run(Reduction::Sum, None, targets).unwrap(), &[-1.1]);
        close(&run(Reduction::Mean, None, targets).unwrap(), &[-1.1 / 0.7]);
    }

    #[test]
    fn ignored_targets_count_nothing_and_others_must_be_classes() {
        close(&run(Reduction::Mean, Some(-5), [2, -5, -5, 2]).unwrap(), &[-0.5 / 0.2]);
        close(&run(Reduction::None, Some(9), [9, 1, 0, 9]).unwrap(), &[0.0, -0.6, 0.0, 0.0]);
        assert!(run(Reduction::Sum, None, [2, 1, 3, 2]).is_err());
        assert!(run(Reduction::Sum, None, [2, -1, 0, 2]).is_err());
        assert!(run(Reduction::Mean, Some(0), [0; 4]).unwrap()[0].is_nan());
    }

    #[test]
    fn shapes_are_inferred() {
        use crate::DType;
        use crate::ir::dim::Dim;
        let n = Dim::named("n");
        let scores = Fact::new(DType::F32, vec![n.clone(), Dim::Known(3), Dim::Known(5)]);
        let target = Fact::new(DType::I64, vec![n.clone(), Dim::Known(5)]);
        let mut op = NegativeLogLikelihoodLoss(Likelihood { reduction: Reduction::None, ignored: None });
        let shape = |op: NegativeLogLikelihoodLoss, target: &Fact| {
            Ok::<_, OpError>(op.infer(&[Some(&scores), Some(target)], 1)?.remove(0).shape.unwrap())
        };
        assert_eq!(shape(op, &target).unwrap(), [n, Dim::Known(5)]);
        assert!(shape(op, &Fact::known(DType::I64, &[2])).is_err());
        op.0.reduction = Reduction::Mean;
        assert_eq!(shape(op, &target).unwrap(), []);
    }
}
