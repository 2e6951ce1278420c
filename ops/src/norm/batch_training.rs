//! [BatchNormalization](https://onnx.ai/onnx/operators/onnx__BatchNormalization.html) in training: with the statistics
//! of its own input, which it adds to the running ones.

use super::parameter::Stretch;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::numbers::{float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::Operator;
use crate::reduce::lines::Lines;

/// `(x - mean(x)) / √(variance(x) + ε) · scale + bias` per channel; inputs X, scale, bias, running mean, running
/// variance. Outputs 1 and 2 are the running statistics after it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BatchTraining {
    /// Added to the variance.
    pub epsilon: f32,
    /// The share of the running statistics that stays.
    pub momentum: f32,
}

impl Operator for BatchTraining {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let [Some(data), Some(scale), Some(bias), Some(mean), Some(variance)] = inputs else {
            return Err(OpError::Internal("an input is missing"));
        };
        for (input, fact) in [data, scale, bias, mean, variance].into_iter().enumerate() {
            if !fact.dtype.is_float() {
                return Err(OpError::Type { input, expected: "a float", got: fact.dtype });
            }
        }
        if let Some(dims) = data.dims() {
            for parameter in [scale, bias, mean, variance].iter().filter_map(|fact| fact.dims()) {
                Stretch::Channels.views(&parameter, &dims)?;
            }
        }
        let fact = |of: &Fact| Fact { dtype: of.dtype, shape: of.shape.clone(), value: None, sizes: None };
        Ok([fact(data), fact(mean), fact(variance)].into_iter().take(outputs.max(1)).collect())
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let [Some(x), Some(scale), Some(bias), Some(mean), Some(variance)] = inputs else {
            return Err(OpError::Internal("an input is missing"));
        };
        for parameter in [scale, bias, mean, variance] {
            Stretch::Channels.views(parameter.dims, x.dims)?;
        }
        let mut values = floats(x)?;
        let (scale, bias) = (floats(scale)?, floats(bias)?);
        let (mut means, mut variances) = (floats(mean)?, floats(variance)?);
        let lines = Lines::along(x.dims, 1);
        let count = (lines.outer * lines.inner) as f64;
        let momentum = f64::from(self.momentum);
        for c in 0..lines.len.min(scale.len()) {
            let places = || {
                (0..lines.outer).flat_map(|outer| {
                    let first = (outer * lines.len + c) * lines.inner;
                    first..first + lines.inner
                })
            };
            let mean = places().map(|i| values[i]).sum::<f64>() / count;
            let variance = places().map(|i| (values[i] - mean).powi(2)).sum::<f64>() / count;
            let deviation = (variance + f64::from(self.epsilon)).sqrt();
            for i in places() {
                values[i] = (values[i] - mean) / deviation * scale[c] + bias[c];
            }
            means[c] = means[c] * momentum + mean * (1.0 - momentum);
            variances[c] = variances[c] * momentum + variance * (1.0 - momentum);
        }
        let all = [
            float_tensor(x.dtype, x.dims, &values)?,
            float_tensor(mean.dtype, mean.dims, &means)?,
            float_tensor(variance.dtype, variance.dims, &variances)?,
        ];
        Ok(all.into_iter().take(outputs.max(1)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_those_of_each_channel() {
        // Channel 0 holds 1 and 3: mean 2, variance 1. Channel 1 holds 2 and 8: mean 5, variance 9.
        let x = Tensor::from_slice(&[2, 2, 1], &[1.0f32, 2.0, 3.0, 8.0]).unwrap();
        let two = |a: f32, b: f32| Tensor::from_slice(&[2], &[a, b]).unwrap();
        let parameters = [two(1.0, 2.0), two(10.0, 0.0), two(4.0, 1.0), two(2.0, 5.0)];
        let mut inputs = vec![Some(x.view())];
        inputs.extend(parameters.iter().map(|tensor| Some(tensor.view())));
        let op = BatchTraining { epsilon: 0.0, momentum: 0.75 };
        let y = op.reference(&inputs, 3).unwrap();
        assert_eq!(y[0].to_vec::<f32>().unwrap(), [9.0, -2.0, 11.0, 2.0]);
        assert_eq!(y[1].to_vec::<f32>().unwrap(), [3.5, 2.0]);
        assert_eq!(y[2].to_vec::<f32>().unwrap(), [1.75, 6.0]);
        let three = Tensor::from_slice(&[3], &[1f32; 3]).unwrap();
        inputs[1] = Some(three.view());
        assert!(op.reference(&inputs, 3).is_err());
    }
}
