//! [Binarizer](https://onnx.ai/onnx/operators/onnx_aionnxml_Binarizer.html): 1 above a threshold, else 0.

use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::number::{Number, by_number};
use crate::movement::sizes::{required, view};
use crate::operator::Operator;

/// Whether numbers are above a threshold, as numbers of the same type.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Binarizer {
    /// The threshold.
    pub threshold: f32,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(Binarizer { threshold: spec.attributes.float_or("threshold", 0.0)? }))
}

fn binarize<T: Number>(x: &View<'_>, threshold: f64) -> Result<Tensor, OpError> {
    let one = |x: &T| T::from_f64(if x.to_f64() > threshold { 1.0 } else { 0.0 });
    Ok(Tensor::from_vec(x.dims, x.slice::<T>().iter().map(one).collect())?)
}

impl Operator for Binarizer {
    fn name(&self) -> &'static str {
        "Binarizer"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        if !x.dtype.is_float() && !x.dtype.is_integer() {
            return Err(OpError::Type { input: 0, expected: "a number type", got: x.dtype });
        }
        Ok(vec![Fact { dtype: x.dtype, shape: x.shape.clone(), value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        Ok(vec![by_number!(x.dtype, binarize(&x, f64::from(self.threshold)))?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_above_the_threshold_are_ones() {
        let op = Binarizer { threshold: 1.5 };
        let x = Tensor::from_slice(&[4], &[1.5f32, 1.6, f32::NAN, -2.0]).unwrap();
        let y = op.reference(&[Some(x.view())], 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<f32>().unwrap(), [0.0, 1.0, 0.0, 0.0]);
        let x = Tensor::from_slice(&[2], &[1i64, 2]).unwrap();
        let y = op.reference(&[Some(x.view())], 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<i64>().unwrap(), [0, 1]);
    }
}
