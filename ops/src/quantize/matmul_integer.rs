//! [`MatMulInteger`](https://onnx.ai/onnx/operators/onnx__MatMulInteger.html): the product of quantized matrices, as i32.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::centred::{centred, expect_bytes};
use super::ends::{Bounds, Places};
use super::product_cpu::{Output, ProductKernel};
use super::product_gpu;
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::matmul::matmul::MatMul;
use crate::matmul::product::{self, Product};
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Cost, CpuKernel, Operator};
use crate::problem::Problem;

/// `(a − its zero point) · (b − its zero point)`; sums wrap in 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MatMulInteger;

const PLACES: Places = Places { x: 0, w: 1, x_zero: 2, w_zero: 3, scales: None, output: None, bias: None };

/// Builds [`MatMulInteger`].
///
/// # Errors
/// When there are not two to four inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 4, "2 to 4")?;
    Ok(Arc::new(MatMulInteger))
}

/// The shape of a product of two facts.
pub(super) fn shape(a: &Fact, b: &Fact) -> Result<Option<Vec<Dim>>, OpError> {
    match (&a.shape, &b.shape) {
        (Some(a), Some(b)) => Ok(Some(product::shape(a, b, false, false)?)),
        _ => Ok(None),
    }
}

/// The sums of products. Zero points of `a` go along its rows, those of `b` along its columns.
pub(super) fn multiply(
    [a, b]: [&View<'_>; 2],
    [a_zero_point, b_zero_point]: [Option<View<'_>>; 2],
) -> Result<Tensor, OpError> {
    let a = centred(a, a_zero_point, a.dims.len().saturating_sub(2))?;
    let b = centred(b, b_zero_point, b.dims.len().saturating_sub(1))?;
    let mut products = MatMul::default().reference(&[Some(a.view()), Some(b.view())], 1)?;
    products.pop().ok_or(OpError::Internal("a product without a result"))
}

impl Operator for MatMulInteger {
    fn name(&self) -> &'static str {
        "MatMulInteger"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 1)?);
        expect_bytes(a.dtype, 0)?;
        expect_bytes(b.dtype, 1)?;
        Ok(vec![Fact { dtype: DType::I32, shape: shape(a, b)?, value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (a, b) = (view(inputs, 0)?, view(inputs, 1)?);
        expect_bytes(a.dtype, 0)?;
        expect_bytes(b.dtype, 1)?;
        Ok(vec![multiply([&a, &b], [optional(inputs, 2), optional(inputs, 3)])?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let (Some(a), Some(b)) = (problem.input(0), problem.input(1)) else { return Ok(None) };
        let product = Product::new(a.dims, b.dims, false, false)?;
        ProductKernel::prepare(problem, product, PLACES, Output::Sums, Bounds::NONE)
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let product = match (problem.input(0), problem.input(1)) {
            (Some(a), Some(b)) => Product::new(a.dims, b.dims, false, false).ok(),
            _ => None,
        };
        problem.cost_with(product.map_or(0, |product| product.flops()))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        let (Some(a), Some(b)) = (problem.input(0), problem.input(1)) else {
            return Lowering::refused("MatMulInteger", "a factor is missing");
        };
        match Product::new(a.dims, b.dims, false, false) {
            Ok(product) => product_gpu::lower(problem, caps, &product, PLACES, Output::Sums, Bounds::NONE),
            Err(error) => Lowering::refused("MatMulInteger", error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_case() {
        let a = [11u8, 7, 3, 10, 6, 2, 9, 5, 1, 8, 4, 0];
        let a = Tensor::from_slice(&[4, 3], &a).unwrap();
        let b = Tensor::from_slice(&[3, 2], &[1u8, 4, 2, 5, 3, 6]).unwrap();
        let (a_zero, b_zero) =
            (Tensor::from_slice(&[1], &[12u8]).unwrap(), Tensor::from_slice(&[1], &[0u8]).unwrap());
        let inputs = [&a, &b, &a_zero, &b_zero].map(|x| Some(x.view()));
        let y = MatMulInteger.reference(&inputs, 1).unwrap().remove(0);
        assert_eq!(y.dims(), [4, 2]);
        assert_eq!(y.to_vec::<i32>().unwrap(), [-38, -83, -44, -98, -50, -113, -56, -128]);
        let shape =
            [Fact::known(DType::U8, &[4, 3]), Fact::new(DType::I8, vec![Dim::Known(3), Dim::named("n")])];
        let y = MatMulInteger.infer(&[Some(&shape[0]), Some(&shape[1])], 1).unwrap().remove(0);
        assert_eq!(y.shape, Some(vec![Dim::Known(4), Dim::named("n")]));
        assert!(MatMulInteger.infer(&[Some(&shape[0]), Some(&y)], 1).is_err());
    }
}
