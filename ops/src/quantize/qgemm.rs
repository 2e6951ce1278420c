//! [`com.microsoft.QGemm`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QGemm):
//! a product of two quantized matrices plus a bias, quantized or as numbers.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::centred::{Scale, centred, expect_bytes, requantized, stretched};
use super::ends::{Bounds, Places, Rounding};
use super::product_cpu::{Output, ProductKernel};
use super::product_gpu;
use crate::broadcast::Strides;
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::matmul::matmul::MatMul;
use crate::matmul::product::{self, Product};
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Cost, CpuKernel, Operator};
use crate::problem::Problem;

/// `alpha · (a · b + c) · both scales`. Inputs: `a`, its scale and zero point; `b`, its scale and zero point; `c`, in i32;
/// scale and zero point of the output, without which it is f32.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct QGemm {
    /// `a` is transposed.
    pub trans_a: bool,
    /// `b` is transposed.
    pub trans_b: bool,
    /// Factor of every result.
    pub alpha: f32,
    /// What quantized results are held to.
    pub bounds: Bounds,
}

/// Without an output scale, whose place is not filled then.
const PLACES: Places =
    Places { x: 0, w: 3, x_zero: 2, w_zero: 5, scales: Some([1, 4]), output: None, bias: Some(6) };

/// Builds [`QGemm`].
///
/// # Errors
/// When there are not six to nine inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(6, 9, "6 to 9")?;
    if spec.has_input(7) != spec.has_input(8) {
        let expected = "scale and zero point of the output, or neither";
        return Err(OpError::Arity { what: "inputs", expected, got: spec.inputs.len() });
    }
    Ok(Arc::new(QGemm {
        trans_a: spec.attributes.flag("transA", false)?,
        trans_b: spec.attributes.flag("transB", false)?,
        alpha: spec.attributes.float_or("alpha", 1.0)?,
        bounds: Bounds::NONE,
    }))
}

impl QGemm {
    /// The results, and which inputs say what they are.
    fn output(&self, problem: &Problem<'_>) -> (Places, Output) {
        match problem.input(7) {
            Some(_) => (Places { output: Some([7, 8]), ..PLACES }, Output::Bytes(self.alpha)),
            None => (PLACES, Output::Numbers(self.alpha, Rounding::Product)),
        }
    }
}

impl Operator for QGemm {
    fn name(&self) -> &'static str {
        "QGemm"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 3)?);
        let zero_point = optional(inputs, 8);
        for (input, fact) in [(0, Some(a)), (3, Some(b)), (8, zero_point)] {
            fact.map_or(Ok(()), |fact| expect_bytes(fact.dtype, input))?;
        }
        let shape = match (&a.shape, &b.shape) {
            (Some(a), Some(b)) if a.len() == 2 && b.len() == 2 => {
                Some(product::shape(a, b, self.trans_a, self.trans_b)?)
            }
            (Some(a), Some(b)) => {
                return Err(OpError::constraint(
                    "ranks of the factors",
                    "2",
                    format!("{} and {}", a.len(), b.len()),
                ));
            }
            _ => None,
        };
        let dtype = zero_point.map_or(DType::F32, |fact| fact.dtype);
        Ok(vec![Fact { dtype, shape, value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (a, b) = (view(inputs, 0)?, view(inputs, 3)?);
        expect_bytes(a.dtype, 0)?;
        expect_bytes(b.dtype, 3)?;
        let a = centred(&a, Some(view(inputs, 2)?), usize::from(self.trans_a))?;
        let b = centred(&b, Some(view(inputs, 5)?), usize::from(!self.trans_b))?;
        let multiply = MatMul { trans_a: self.trans_a, trans_b: self.trans_b, alpha: 1.0 };
        let sums = multiply.reference(&[Some(a.view()), Some(b.view())], 1)?;
        let sums = sums.first().ok_or(OpError::Internal("a product without a result"))?;
        let dims = sums.dims();
        let mut values = sums.to_vec::<i32>()?;
        if let Some(c) = optional(inputs, 6) {
            if c.dtype != DType::I32 {
                return Err(OpError::Type { input: 6, expected: "i32", got: c.dtype });
            }
            let strides = Strides::new(&stretched(c.dims, dims, 1)?, dims);
            let c = numbers::integers(&c)?;
            for (i, value) in values.iter_mut().enumerate() {
                let c = c.get(strides.offset(i)).ok_or(OpError::Internal("a bias that is too short"))?;
                *value = value.wrapping_add(*c as i32);
            }
        }
        let sums = Tensor::from_vec(dims, values)?;
        let a_scale = Scale::new(&view(inputs, 1)?, dims, 0)?.times(self.alpha);
        let b_scale = Scale::new(&view(inputs, 4)?, dims, 1)?;
        if let (Some(scale), Some(zero_point)) = (optional(inputs, 7), optional(inputs, 8)) {
            expect_bytes(zero_point.dtype, 8)?;
            return Ok(vec![requantized(&sums, [&a_scale, &b_scale], &scale, &zero_point, self.bounds)?]);
        }
        let mut values = Vec::with_capacity(sums.len());
        for (i, &sum) in sums.elements::<i32>()?.iter().enumerate() {
            values.push(sum as f32 * (a_scale.at(i)? * b_scale.at(i)?));
        }
        Ok(vec![Tensor::from_vec(dims, values)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let (Some(a), Some(b)) = (problem.input(0), problem.input(3)) else { return Ok(None) };
        let product = Product::new(a.dims, b.dims, self.trans_a, self.trans_b)?;
        let (places, output) = self.output(problem);
        ProductKernel::prepare(problem, product, places, output, self.bounds)
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let product = match (problem.input(0), problem.input(3)) {
            (Some(a), Some(b)) => Product::new(a.dims, b.dims, self.trans_a, self.trans_b).ok(),
            _ => None,
        };
        problem.cost_with(product.map_or(0, |product| product.flops()))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        let (Some(a), Some(b)) = (problem.input(0), problem.input(3)) else {
            return Lowering::refused("QGemm", "a factor is missing");
        };
        let (places, output) = self.output(problem);
        match Product::new(a.dims, b.dims, self.trans_a, self.trans_b) {
            Ok(product) => product_gpu::lower(problem, caps, &product, places, output, self.bounds),
            Err(error) => Lowering::refused("QGemm", error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The numbers are those of ONNX Runtime 1.32.
    #[test]
    fn quantized_and_as_numbers() {
        let a = Tensor::from_slice(&[2, 3], &[1u8, 50, 255, 7, 8, 9]).unwrap();
        let b = Tensor::from_slice(&[3, 2], &[1i8, -2, 30, 40, -5, 127]).unwrap();
        let (a_scale, a_zero) = (Tensor::scalar(0.1f32), Tensor::scalar(5u8));
        let (b_scale, b_zero) = (Tensor::scalar(0.02f32), Tensor::scalar(3i8));
        let c = Tensor::from_slice(&[2], &[100i32, -2000]).unwrap();
        let (scale, zero) = (Tensor::scalar(0.5f32), Tensor::scalar(20u8));
        let all = [&a, &a_scale, &a_zero, &b, &b_scale, &b_zero, &c, &scale, &zero].map(|x| Some(x.view()));
        let op = QGemm { trans_a: false, trans_b: false, alpha: 1.0, bounds: Bounds::NONE };
        assert_eq!(op.reference(&all, 1).unwrap()[0].to_vec::<u8>().unwrap(), [17, 143, 21, 14]);
        let double = QGemm { alpha: 2.0, ..op };
        let y = double.reference(&all[..7], 1).unwrap()[0].to_vec::<f32>().unwrap();
        let expected = [-2.708f32, 122.74, 0.58, -5.612];
        assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs()), "{y:?}");
        let facts = [Fact::known(DType::U8, &[2, 3]), Fact::known(DType::I8, &[3, 2])];
        let inputs = [Some(&facts[0]), None, None, Some(&facts[1])];
        assert_eq!(op.infer(&inputs, 1).unwrap()[0].dims(), Some(vec![2, 2]));
    }
}
