//! [`ConvInteger`](https://onnx.ai/onnx/operators/onnx__ConvInteger.html): convolution of quantized integers, as i32.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::centred::{centred, expect_bytes};
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
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Cost, CpuKernel, Operator};
use crate::problem::Problem;

/// A convolution of `x − its zero point` with `w − its zero point`; what pads has the value of the zero point.
#[derive(Clone, PartialEq, Debug)]
pub struct ConvInteger {
    /// Window and groups.
    pub conv: Conv,
}

const PLACES: Places = Places { x: 0, w: 1, x_zero: 2, w_zero: 3, scales: None, output: None, bias: None };

/// Builds [`ConvInteger`].
///
/// # Errors
/// When there are not two to four inputs, or an attribute is out of range.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 4, "2 to 4")?;
    Ok(Arc::new(ConvInteger { conv: Conv::read(spec)? }))
}

impl Operator for ConvInteger {
    fn name(&self) -> &'static str {
        "ConvInteger"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, w) = (required(inputs, 0)?, required(inputs, 1)?);
        expect_bytes(x.dtype, 0)?;
        expect_bytes(w.dtype, 1)?;
        let shape = match (&x.shape, &w.shape) {
            (Some(x), Some(w)) => Some(self.conv.shape(x, w, None)?),
            _ => None,
        };
        Ok(vec![Fact { dtype: DType::I32, shape, value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, w) = (view(inputs, 0)?, view(inputs, 1)?);
        expect_bytes(x.dtype, 0)?;
        expect_bytes(w.dtype, 1)?;
        let x = centred(&x, optional(inputs, 2), 0)?;
        let w = centred(&w, optional(inputs, 3), 0)?;
        self.conv.reference(&[Some(x.view()), Some(w.view())], 1)
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let (Some(x), Some(w)) = (problem.input(0), problem.input(1)) else { return Ok(None) };
        conv_cpu::prepare(problem, self.conv.sizes(x.dims, w.dims, None)?, PLACES, Bounds::NONE)
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let sizes = match (problem.input(0), problem.input(1)) {
            (Some(x), Some(w)) => self.conv.sizes(x.dims, w.dims, None).ok(),
            _ => None,
        };
        problem.cost_with(sizes.map_or(0, |sizes| sizes.flops(false)))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        let (Some(x), Some(w)) = (problem.input(0), problem.input(1)) else {
            return Lowering::refused("ConvInteger", "an operand is missing");
        };
        match self.conv.sizes(x.dims, w.dims, None) {
            Ok(sizes) => conv_gpu::lower(problem, caps, &sizes, PLACES, Bounds::NONE),
            Err(error) => Lowering::refused("ConvInteger", error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::window::{Padding, Window};

    #[test]
    fn the_official_case_with_padding() {
        let window = Window { padding: Padding::Explicit(vec![1; 4]), ..Window::default() };
        let op = ConvInteger { conv: Conv { window, groups: 1 } };
        let x = Tensor::from_slice(&[1, 1, 3, 3], &[2u8, 3, 4, 5, 6, 7, 8, 9, 10]).unwrap();
        let w = Tensor::from_slice(&[2, 1, 2, 2], &[1u8; 8]).unwrap();
        let (x_zero, w_zero) = (Tensor::scalar(1u8), Tensor::from_slice(&[2], &[0u8, 1]).unwrap());
        let inputs = [&x, &w, &x_zero, &w_zero].map(|x| Some(x.view()));
        let y = op.reference(&inputs, 1).unwrap().remove(0);
        assert_eq!(y.dims(), [1, 2, 4, 4]);
        let first = [1, 3, 5, 3, 5, 12, 16, 9, 11, 24, 28, 15, 7, 15, 17, 9];
        assert_eq!(y.to_vec::<i32>().unwrap(), [&first[..], &[0; 16]].concat());
        let facts = [Fact::known(DType::U8, &[1, 1, 3, 3]), Fact::known(DType::U8, &[2, 1, 2, 2])];
        let y = op.infer(&[Some(&facts[0]), Some(&facts[1])], 1).unwrap().remove(0);
        assert_eq!((y.dtype, y.dims()), (DType::I32, Some(vec![1, 2, 4, 4])));
    }
}
