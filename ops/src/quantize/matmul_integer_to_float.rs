//! [`com.microsoft.MatMulIntegerToFloat`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulIntegerToFloat)
//! and [`com.microsoft.DynamicQuantizeMatMul`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.DynamicQuantizeMatMul),
//! which quantizes its first factor itself: products of quantized matrices, as numbers.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::centred::{Scale, expect_bytes, stretched};
use super::dynamic_quantize_linear::DynamicQuantizeLinear;
use super::ends::{Bounds, Places, Rounding};
use super::matmul_integer::{multiply, shape};
use super::product_cpu::{Output, ProductKernel};
use super::product_gpu;
use crate::broadcast::Strides;
use crate::build::NodeSpec;
use crate::compose::Composition;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::matmul::product::Product;
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Cost, CpuKernel, Expansion, Operator, Role};
use crate::problem::Problem;

/// `(a − its zero point) · (b − its zero point) · both scales + bias`. Inputs: `a`, `b`, their scales, their zero points,
/// bias.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MatMulIntegerToFloat {
    /// Sums, products and results are rounded to f32 one after the other, as separate operators would; else once.
    pub stepwise: bool,
}

const PLAIN: MatMulIntegerToFloat = MatMulIntegerToFloat { stepwise: false };

const PLACES: Places =
    Places { x: 0, w: 1, x_zero: 4, w_zero: 5, scales: Some([2, 3]), output: None, bias: Some(6) };

/// Builds [`MatMulIntegerToFloat`].
///
/// # Errors
/// When there are not four to seven inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(4, 7, "4 to 7")?;
    Ok(Arc::new(MatMulIntegerToFloat { stepwise: false }))
}

impl MatMulIntegerToFloat {
    fn rounding(self) -> Rounding {
        if self.stepwise { Rounding::Steps } else { Rounding::Once }
    }
}

impl Operator for MatMulIntegerToFloat {
    fn name(&self) -> &'static str {
        "MatMulIntegerToFloat"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (a, b, scale) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        expect_bytes(a.dtype, 0)?;
        expect_bytes(b.dtype, 1)?;
        Ok(vec![Fact { dtype: scale.dtype, shape: shape(a, b)?, value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (a, b) = (view(inputs, 0)?, view(inputs, 1)?);
        expect_bytes(a.dtype, 0)?;
        expect_bytes(b.dtype, 1)?;
        let sums = multiply([&a, &b], [optional(inputs, 4), optional(inputs, 5)])?;
        let dims = sums.dims();
        let (a_scale, b_scale) = (view(inputs, 2)?, view(inputs, 3)?);
        let dtype = a_scale.dtype;
        let (rows, columns) = (dims.len().saturating_sub(2), dims.len().saturating_sub(1));
        let scales = [Scale::new(&a_scale, dims, rows)?, Scale::new(&b_scale, dims, columns)?];
        let mut values = Vec::with_capacity(sums.len());
        for (i, &sum) in sums.elements::<i32>()?.iter().enumerate() {
            let factor = scales[0].at(i)? * scales[1].at(i)?;
            values.push(match self.stepwise {
                true => f64::from(sum as f32 * factor),
                false => f64::from(sum) * f64::from(factor),
            });
        }
        if let Some(bias) = optional(inputs, 6) {
            let strides = Strides::new(&stretched(bias.dims, dims, columns)?, dims);
            let bias = numbers::floats(&bias)?;
            for (i, value) in values.iter_mut().enumerate() {
                // A sum of two f32 is rounded once, here as f64 or when it becomes f32.
                *value += bias.get(strides.offset(i)).ok_or(OpError::Internal("a bias that is too short"))?;
            }
        }
        Ok(vec![numbers::float_tensor(dtype, dims, &values)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let (Some(a), Some(b)) = (problem.input(0), problem.input(1)) else { return Ok(None) };
        let product = Product::new(a.dims, b.dims, false, false)?;
        let output = Output::Numbers(1.0, self.rounding());
        ProductKernel::prepare(problem, product, PLACES, output, Bounds::NONE)
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
            return Lowering::refused("MatMulIntegerToFloat", "a factor is missing");
        };
        match Product::new(a.dims, b.dims, false, false) {
            Ok(product) => product_gpu::lower(
                problem,
                caps,
                &product,
                PLACES,
                Output::Numbers(1.0, self.rounding()),
                Bounds::NONE,
            ),
            Err(error) => Lowering::refused("MatMulIntegerToFloat", error.to_string()),
        }
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

/// [`MatMulIntegerToFloat`] of an f32 matrix, as bytes with the scale and the zero point that suit it. Inputs: `a`, `b`,
/// scale and zero point of `b`, bias.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DynamicQuantizeMatMul;

/// Builds [`DynamicQuantizeMatMul`].
///
/// # Errors
/// When there are not three to five inputs.
pub fn build_dynamic(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, 5, "3 to 5")?;
    Ok(Arc::new(DynamicQuantizeMatMul))
}

impl Operator for DynamicQuantizeMatMul {
    fn name(&self) -> &'static str {
        "DynamicQuantizeMatMul"
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        let mut graph = Composition::default();
        let a = graph.input(0, required(inputs, 0)?);
        let [bytes, scale, zero_point] = graph.node_of(Arc::new(DynamicQuantizeLinear), &[a]);
        let b_fact = required(inputs, 1)?;
        let (b, b_scale) = (graph.input(1, b_fact), graph.input(2, required(inputs, 2)?));
        let mut operands = vec![bytes, b, scale, b_scale, zero_point];
        let bias = optional(inputs, 4);
        operands.extend(match optional(inputs, 3) {
            Some(fact) => Some(graph.input(3, fact)),
            None if bias.is_some() => Some(graph.constant(Tensor::zeroed(b_fact.dtype, &[])?)),
            None => None,
        });
        operands.extend(bias.map(|fact| graph.input(4, fact)));
        let y = graph.node(Arc::new(PLAIN), &operands);
        Ok(graph.finish(&[y]))
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 1)?);
        if a.dtype != DType::F32 {
            return Err(OpError::Type { input: 0, expected: "f32", got: a.dtype });
        }
        expect_bytes(b.dtype, 1)?;
        Ok(vec![Fact { dtype: DType::F32, shape: shape(a, b)?, value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let a = DynamicQuantizeLinear.reference(&[Some(view(inputs, 0)?)], 3)?;
        let [bytes, scale, zero_point] = a.as_slice() else {
            return Err(OpError::Internal("a quantized tensor without its scale"));
        };
        let (b, b_scale) = (view(inputs, 1)?, view(inputs, 2)?);
        let all = [Some(bytes.view()), Some(b), Some(scale.view()), Some(b_scale), Some(zero_point.view())];
        let rest = [optional(inputs, 3), optional(inputs, 4)];
        PLAIN.reference(&[&all[..], &rest].concat(), 1)
    }

    fn lower(&self, _problem: &Problem<'_>, _caps: &Capabilities) -> Lowering {
        Lowering::refused("DynamicQuantizeMatMul", "products of integers stay on the CPU")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: &Tensor, expected: &[f32]) {
        let got = got.to_vec::<f32>().unwrap();
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b.abs();
        assert!(got.len() == expected.len() && got.iter().zip(expected).all(close), "{got:?}");
    }

    // The numbers are those of ONNX Runtime 1.32.
    #[test]
    fn products_as_numbers() {
        let a = Tensor::from_slice(&[2, 3], &[1u8, 50, 255, 7, 8, 9]).unwrap();
        let b = Tensor::from_slice(&[3, 2], &[1i8, -2, 30, 40, -5, 127]).unwrap();
        let scales = [Tensor::scalar(0.1f32), Tensor::from_slice(&[2], &[0.02f32, 0.03]).unwrap()];
        let zeros = [Tensor::scalar(5u8), Tensor::from_slice(&[2], &[3i8, 1]).unwrap()];
        let bias = Tensor::from_slice(&[2], &[1f32, 2.0]).unwrap();
        let all = [&a, &b, &scales[0], &scales[1], &zeros[0], &zeros[1], &bias].map(|x| Some(x.view()));
        let y = PLAIN.reference(&all, 1).unwrap().remove(0);
        close(&y, &[-0.554, 101.801, 1.09, 3.845]);
        let a = Tensor::from_slice(&[2, 3], &[1f32, 2.0, -3.0, 0.5, 0.25, 4.0]).unwrap();
        let (scale, zero) = (Tensor::scalar(0.02f32), Tensor::scalar(3i8));
        let all = [&a, &b, &scale, &zero, &bias].map(|x| Some(x.view()));
        let y = DynamicQuantizeMatMul.reference(&all, 1).unwrap().remove(0);
        close(&y, &[2.521_333_2, -4.036_470_4, 0.472_392_14, 12.072_863]);
        let facts =
            [Fact::known(DType::F32, &[2, 3]), Fact::known(DType::I8, &[3, 2]), Fact::known(DType::F32, &[])];
        let fact = DynamicQuantizeMatMul.infer(&facts.each_ref().map(Some), 1).unwrap().remove(0);
        assert_eq!(fact.dims(), Some(vec![2, 2]));
    }
}
