//! [SoftmaxCrossEntropyLoss](https://onnx.ai/onnx/operators/onnx__SoftmaxCrossEntropyLoss.html): the loss of scores
//! whose softmax over the classes are probabilities.

use std::sync::Arc;

use super::likelihood::Likelihood;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::numbers::{float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{optional, required, view};
use crate::norm::{Form, Softmax};
use crate::operator::Operator;

/// The loss of scores; inputs: these, targets, weights of classes. Output 1 is the logarithm of the softmax.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SoftmaxCrossEntropyLoss(pub Likelihood);

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    Ok(Arc::new(SoftmaxCrossEntropyLoss(Likelihood::build(spec)?)))
}

impl Operator for SoftmaxCrossEntropyLoss {
    fn name(&self) -> &'static str {
        "SoftmaxCrossEntropyLoss"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let scores = required(inputs, 0)?;
        let logs = Fact { dtype: scores.dtype, shape: scores.shape.clone(), value: None, sizes: None };
        Ok([self.0.infer(inputs)?, logs].into_iter().take(outputs.max(1)).collect())
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (scores, target, weight) = (view(inputs, 0)?, view(inputs, 1)?, optional(inputs, 2));
        let mut logs = floats(&scores)?;
        Softmax { form: Form::Log, axis: 1, flatten: false }.transform(&mut logs, scores.dims)?;
        let (dims, loss) = self.0.loss(&logs, scores.dims, &target, weight.as_ref())?;
        let mut all = vec![float_tensor(scores.dtype, &dims, &loss)?];
        if outputs > 1 {
            all.push(float_tensor(scores.dtype, scores.dims, &logs)?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::Reduction;

    #[test]
    fn scores_become_probabilities_first() {
        // Differences of ln 3 and ln 2: probabilities 3/4, 1/4 and 1/3, 2/3.
        let scores = [5.0 + 3f32.ln(), 5.0, -1.0, -1.0 + 2f32.ln()];
        let scores = Tensor::from_slice(&[2, 2], &scores).unwrap();
        let targets = Tensor::from_slice(&[2], &[0i32, 0]).unwrap();
        let inputs = [Some(scores.view()), Some(targets.view())];
        let op = SoftmaxCrossEntropyLoss(Likelihood { reduction: Reduction::Mean, ignored: None });
        let y = op.reference(&inputs, 2).unwrap();
        let (loss, logs) = (y[0].to_vec::<f32>().unwrap(), y[1].to_vec::<f32>().unwrap());
        assert!((loss[0] - 4f32.ln() / 2.0).abs() < 1e-6 && y[0].dims().is_empty(), "{loss:?}");
        for (log, p) in logs.iter().zip([0.75f32, 0.25, 1.0 / 3.0, 2.0 / 3.0]) {
            assert!((log - p.ln()).abs() < 1e-6, "{logs:?}");
        }
        let flat = Tensor::from_slice(&[2], &[1.0f32, 2.0]).unwrap();
        assert!(op.reference(&[Some(flat.view()), Some(targets.view())], 1).is_err());
    }
}
