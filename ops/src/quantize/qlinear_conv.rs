//! [`QLinearConv`](https://onnx.ai/onnx/operators/onnx__QLinearConv.html): convolution of quantized integers, quantized.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::centred::{Scale, centred, expect_bytes, requantized};
use super::ends::{Bounds, Places};
use super::{conv_cpu, conv_gpu};
use crate::build::NodeSpec;
use crate::conv::conv::Conv;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::layout::Blocking;
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Cost, CpuKernel, Operator};
use crate::problem::Problem;

/// Input, scale and zero point; weights, scale and zero point, which may be one for each output channel; scale and zero
/// point of the output; and optionally a bias in i32, whose scale is the product of the first two.
#[derive(Clone, PartialEq, Debug)]
pub struct QLinearConv {
    /// Window and groups.
    pub conv: Conv,
    /// What results are held to.
    pub bounds: Bounds,
}

/// Where its inputs are.
pub(super) const PLACES: Places =
    Places { x: 0, w: 3, x_zero: 2, w_zero: 5, scales: Some([1, 4]), output: Some([6, 7]), bias: Some(8) };

/// Builds [`QLinearConv`].
///
/// # Errors
/// When there are not eight or nine inputs, or an attribute is out of range.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(8, 9, "8 or 9")?;
    Ok(Arc::new(QLinearConv { conv: Conv::read(spec)?, bounds: Bounds::NONE }))
}

impl Operator for QLinearConv {
    fn name(&self) -> &'static str {
        "QLinearConv"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, w, zero_point) = (required(inputs, 0)?, required(inputs, 3)?, required(inputs, 7)?);
        for (input, fact) in [(0, x), (3, w), (7, zero_point)] {
            expect_bytes(fact.dtype, input)?;
        }
        let bias = optional(inputs, 8);
        if let Some(got) = bias.map(|bias| bias.dtype).filter(|&dtype| dtype != DType::I32) {
            return Err(OpError::Type { input: 8, expected: "i32", got });
        }
        let shape = match (&x.shape, &w.shape) {
            (Some(x), Some(w)) => Some(self.conv.shape(x, w, bias.and_then(|bias| bias.shape.as_deref()))?),
            _ => None,
        };
        Ok(vec![Fact { dtype: zero_point.dtype, shape, value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, w, zero_point) = (view(inputs, 0)?, view(inputs, 3)?, view(inputs, 7)?);
        for (input, view) in [(0, x), (3, w), (7, zero_point)] {
            expect_bytes(view.dtype, input)?;
        }
        let x = centred(&x, Some(view(inputs, 2)?), 0)?;
        let w = centred(&w, Some(view(inputs, 5)?), 0)?;
        let sums = self.conv.reference(&[Some(x.view()), Some(w.view()), optional(inputs, 8)], 1)?;
        let sums = sums.first().ok_or(OpError::Internal("a convolution without a result"))?;
        let x_scale = Scale::new(&view(inputs, 1)?, sums.dims(), 0)?;
        let w_scale = Scale::new(&view(inputs, 4)?, sums.dims(), 1)?;
        Ok(vec![requantized(sums, [&x_scale, &w_scale], &view(inputs, 6)?, &zero_point, self.bounds)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let (Some(x), Some(w)) = (problem.input(0), problem.input(3)) else { return Ok(None) };
        let sizes = self.conv.sizes(x.dims, w.dims, problem.input(8).map(|bias| bias.dims))?;
        conv_cpu::prepare(problem, sizes, PLACES, self.bounds)
    }

    fn blocked(&self, problem: &Problem<'_>, block: usize, blocked: &[bool]) -> Option<Blocking> {
        let (x, w) = (problem.input(0)?, problem.input(3)?);
        let sizes = self.conv.sizes(x.dims, w.dims, problem.input(8).map(|bias| bias.dims)).ok()?;
        super::blocked::blocking(self, sizes, problem, block, blocked)
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let sizes = match (problem.input(0), problem.input(3)) {
            (Some(x), Some(w)) => self.conv.sizes(x.dims, w.dims, None).ok(),
            _ => None,
        };
        problem.cost_with(sizes.map_or(0, |sizes| sizes.flops(false)))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        let (Some(x), Some(w)) = (problem.input(0), problem.input(3)) else {
            return Lowering::refused("QLinearConv", "an operand is missing");
        };
        match self.conv.sizes(x.dims, w.dims, problem.input(8).map(|bias| bias.dims)) {
            Ok(sizes) => conv_gpu::lower(problem, caps, &sizes, PLACES, self.bounds),
            Err(error) => Lowering::refused("QLinearConv", error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::window::Window;

    #[test]
    fn channels_have_scales_and_biases() {
        let op = QLinearConv { conv: Conv { window: Window::default(), groups: 1 }, bounds: Bounds::NONE };
        let x = Tensor::from_slice(&[1, 1, 1, 2], &[255u8, 174]).unwrap();
        let w = Tensor::from_slice(&[2, 1, 1, 1], &[0u8, 200]).unwrap();
        let bias = Tensor::from_slice(&[2], &[0i32, 1000]).unwrap();
        let (x_scale, x_zero) = (Tensor::scalar(0.5f32), Tensor::scalar(132u8));
        let w_scale = Tensor::from_slice(&[2], &[0.01f32, 0.02]).unwrap();
        let w_zero = Tensor::from_slice(&[2], &[255u8, 100]).unwrap();
        let (y_scale, y_zero) = (Tensor::scalar(1f32), Tensor::scalar(123u8));
        let inputs = [&x, &x_scale, &x_zero, &w, &w_scale, &w_zero, &y_scale, &y_zero, &bias];
        let y = op.reference(&inputs.map(|x| Some(x.view())), 1).unwrap().remove(0);
        // 123 · −255 · 0.005 + 123 = −33.8; 42 · −255 · 0.005 + 123 = 69.45; (123 · 100 + 1000) · 0.01 + 123 = 256;
        // (42 · 100 + 1000) · 0.01 + 123 = 175.
        assert_eq!(y.to_vec::<u8>().unwrap(), [0, 69, 255, 175]);
        let facts = inputs.map(|x| Fact::known(x.dtype(), x.dims()));
        let facts: Vec<_> = facts.iter().map(Some).collect();
        assert_eq!(op.infer(&facts, 1).unwrap()[0].dims(), Some(vec![1, 2, 1, 2]));
    }
}
