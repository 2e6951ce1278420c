//! [Bernoulli](https://onnx.ai/onnx/operators/onnx__Bernoulli.html): 1 with the probability that the input says, else
//! 0.

use std::sync::Arc;

use super::distribution::dtype_of;
use super::generator::Seed;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{float_tensor, floats, integer_tensor};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{required, view};
use crate::operator::Operator;

/// Zeros and ones by probability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bernoulli {
    /// Element type of the output; the input's when absent.
    pub dtype: Option<DType>,
    /// Where the numbers begin.
    pub seed: Seed,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(Bernoulli { dtype: dtype_of(spec)?, seed: Seed::of_float(spec)? }))
}

impl Operator for Bernoulli {
    fn name(&self) -> &'static str {
        "Bernoulli"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        if !x.dtype.is_float() {
            return Err(OpError::Type { input: 0, expected: "a float", got: x.dtype });
        }
        let dtype = self.dtype.unwrap_or(x.dtype);
        Ok(vec![Fact { dtype, shape: x.shape.clone(), value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let mut generator = self.seed.generator();
        let drawn = floats(&x)?.into_iter().map(|p| generator.uniform() < p);
        let dtype = self.dtype.unwrap_or(x.dtype);
        Ok(vec![if dtype.is_float() {
            let all: Vec<f64> = drawn.map(|one| f64::from(u8::from(one))).collect();
            float_tensor(dtype, x.dims, &all)?
        } else {
            integer_tensor(dtype, x.dims, &drawn.map(i128::from).collect::<Vec<_>>())?
        }])
    }

    fn folds(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_come_with_their_probability() {
        let x = Tensor::from_slice(&[4], &[0.0f32, 1.0, 0.6, 0.7]).unwrap();
        // The generator's first numbers for seed 0 are 0.549, 0.715, 0.603 and 0.545.
        let op = Bernoulli { dtype: Some(DType::Bool), seed: Seed(Some(0)) };
        let y = op.reference(&[Some(x.view())], 1).unwrap().remove(0);
        assert_eq!((y.dtype(), y.bytes()), (DType::Bool, &[0, 1, 0, 1][..]));
        let op = Bernoulli { dtype: None, seed: Seed(None) };
        let half = Tensor::from_slice(&[10_000], &[0.25f32; 10_000]).unwrap();
        let y = op.reference(&[Some(half.view())], 1).unwrap().remove(0);
        let ones: f32 = y.to_vec::<f32>().unwrap().iter().sum();
        assert!((2200.0..2800.0).contains(&ones), "{ones}");
    }
}
