//! [`Size`](https://onnx.ai/onnx/operators/onnx__Size.html): the number of elements of a tensor.

use std::sync::Arc;

use super::sizes::{self, required, view};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::Operator;

/// `Size`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size;

/// Builds [`Size`].
///
/// # Errors
/// When there is not one input.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(Size))
}

impl Operator for Size {
    fn name(&self) -> &'static str {
        "Size"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        match &required(inputs, 0)?.shape {
            Some(dims) => Ok(vec![sizes::fact(DType::I64, Vec::new(), vec![dim::product(dims)?])?]),
            None => Ok(vec![Fact::new(DType::I64, Vec::new())]),
        }
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let count = i64::try_from(view(inputs, 0)?.len()).map_err(|_| OpError::Size)?;
        Ok(vec![Tensor::scalar(count)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::dim::Dim;

    #[test]
    fn elements_are_counted() {
        let x = Tensor::zeroed(DType::F32, &[3, 5]).unwrap();
        assert_eq!(Size.reference(&[Some(x.view())], 1).unwrap()[0].to_vec::<i64>().unwrap(), [15]);
        let x = Fact::new(DType::F32, vec![Dim::named("n"), Dim::Known(5)]);
        let count = Size.infer(&[Some(&x)], 1).unwrap();
        assert_eq!(count[0].sizes.as_ref().unwrap()[0].to_string(), "5*n");
    }
}
