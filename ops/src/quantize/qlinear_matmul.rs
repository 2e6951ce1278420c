//! [`QLinearMatMul`](https://onnx.ai/onnx/operators/onnx__QLinearMatMul.html): the product of quantized matrices, quantized.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::centred::{Scale, expect_bytes, requantized};
use super::ends::{Bounds, Places};
use super::matmul_integer::{multiply, shape};
use super::product_cpu::{Output, ProductKernel};
use super::product_gpu;
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::matmul::product::Product;
use crate::movement::sizes::{required, view};
use crate::operator::{Cost, CpuKernel, Operator};
use crate::problem::Problem;

/// Matrix, scale and zero point of `a` and of `b`, then scale and zero point of the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QLinearMatMul {
    /// What results are held to.
    pub bounds: Bounds,
}

const PLACES: Places =
    Places { x: 0, w: 3, x_zero: 2, w_zero: 5, scales: Some([1, 4]), output: Some([6, 7]), bias: None };

/// Builds [`QLinearMatMul`].
///
/// # Errors
/// When there are not eight inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(8, 8, "8")?;
    Ok(Arc::new(QLinearMatMul { bounds: Bounds::NONE }))
}

impl Operator for QLinearMatMul {
    fn name(&self) -> &'static str {
        "QLinearMatMul"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (a, b, zero_point) = (required(inputs, 0)?, required(inputs, 3)?, required(inputs, 7)?);
        for (input, fact) in [(0, a), (3, b), (7, zero_point)] {
            if fact.dtype.is_float() {
                return Err(OpError::unsupported(format!("QLinearMatMul of {}", fact.dtype)));
            }
            expect_bytes(fact.dtype, input)?;
        }
        Ok(vec![Fact { dtype: zero_point.dtype, shape: shape(a, b)?, value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (a, b, zero_point) = (view(inputs, 0)?, view(inputs, 3)?, view(inputs, 7)?);
        for (input, view) in [(0, a), (3, b), (7, zero_point)] {
            expect_bytes(view.dtype, input)?;
        }
        let sums = multiply([&a, &b], [Some(view(inputs, 2)?), Some(view(inputs, 5)?)])?;
        // A vector on the right leaves its column out.
        let rows = sums.dims().len().saturating_sub(if b.dims.len() > 1 { 2 } else { 1 });
        let columns = sums.dims().len().saturating_sub(1);
        let a_scale = Scale::new(&view(inputs, 1)?, sums.dims(), rows)?;
        let b_scale = Scale::new(&view(inputs, 4)?, sums.dims(), columns)?;
        Ok(vec![requantized(&sums, [&a_scale, &b_scale], &view(inputs, 6)?, &zero_point, self.bounds)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let (Some(a), Some(b)) = (problem.input(0), problem.input(3)) else { return Ok(None) };
        let product = Product::new(a.dims, b.dims, false, false)?;
        ProductKernel::prepare(problem, product, PLACES, Output::Bytes(1.0), self.bounds)
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let product = match (problem.input(0), problem.input(3)) {
            (Some(a), Some(b)) => Product::new(a.dims, b.dims, false, false).ok(),
            _ => None,
        };
        problem.cost_with(product.map_or(0, |product| product.flops()))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        let (Some(a), Some(b)) = (problem.input(0), problem.input(3)) else {
            return Lowering::refused("QLinearMatMul", "a factor is missing");
        };
        match Product::new(a.dims, b.dims, false, false) {
            Ok(product) => {
                product_gpu::lower(problem, caps, &product, PLACES, Output::Bytes(1.0), self.bounds)
            }
            Err(error) => Lowering::refused("QLinearMatMul", error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_case() {
        // test_qlinearmatmul_2D_uint8_float32.
        let a = Tensor::from_slice(&[2, 4], &[208u8, 236, 0, 238, 3, 214, 255, 29]).unwrap();
        let b = [152u8, 51, 244, 60, 26, 255, 0, 127, 246, 127, 254, 247];
        let b = Tensor::from_slice(&[4, 3], &b).unwrap();
        let one = |x: f32| Tensor::from_slice(&[1], &[x]).unwrap();
        let zero = |x: u8| Tensor::from_slice(&[1], &[x]).unwrap();
        let (a_scale, b_scale, y_scale) = (one(0.0066), one(0.00705), one(0.0107));
        let (a_zero, b_zero, y_zero) = (zero(113), zero(114), zero(118));
        let inputs =
            [&a, &a_scale, &a_zero, &b, &b_scale, &b_zero, &y_scale, &y_zero].map(|x| Some(x.view()));
        let y = QLinearMatMul { bounds: Bounds::NONE }.reference(&inputs, 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<u8>().unwrap(), [168, 115, 255, 1, 66, 151]);
    }

    #[test]
    fn rows_and_columns_have_scales() {
        let a = Tensor::from_slice(&[2, 1], &[10i8, 10]).unwrap();
        let b = Tensor::from_slice(&[1, 3], &[1i8, 2, 3]).unwrap();
        let a_scale = Tensor::from_slice(&[2], &[1f32, 2.0]).unwrap();
        let b_scale = Tensor::from_slice(&[3], &[1f32, 0.5, 0.1]).unwrap();
        let zeros =
            [Tensor::from_slice(&[2], &[0i8; 2]).unwrap(), Tensor::from_slice(&[3], &[0i8; 3]).unwrap()];
        let (y_scale, y_zero) = (Tensor::scalar(1f32), Tensor::scalar(-1i8));
        let inputs =
            [&a, &a_scale, &zeros[0], &b, &b_scale, &zeros[1], &y_scale, &y_zero].map(|x| Some(x.view()));
        let y = QLinearMatMul { bounds: Bounds::NONE }.reference(&inputs, 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<i8>().unwrap(), [9, 9, 2, 19, 19, 5]);
    }
}
