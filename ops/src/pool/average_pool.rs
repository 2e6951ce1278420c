//! [`AveragePool`](https://onnx.ai/onnx/operators/onnx__AveragePool.html): the mean of each window.

use std::sync::Arc;

use half::{bf16, f16};
use sardonyx_shaders::Capabilities;

use super::planes::{self, Kind, Planes, PoolKernel};
use super::window::Window;
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dtype::{DType, Element};
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::layout::Blocking;
use crate::movement::sizes::{required, view};
use crate::operator::{Cost, CpuKernel, Operator, Role};
use crate::problem::Problem;

/// `AveragePool`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AveragePool {
    /// The windows.
    pub window: Window,
    /// Padding counts as zeros; elements behind it, which a window may reach with `ceil_mode`, never count.
    pub include_pad: bool,
}

/// Builds [`AveragePool`].
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(AveragePool {
        window: Window::from_spec(spec)?,
        include_pad: spec.attributes.flag("count_include_pad", false)?,
    }))
}

impl AveragePool {
    fn kind(&self) -> Kind {
        Kind::Average { include_pad: self.include_pad }
    }

    fn pool<T: Element>(
        &self,
        x: &View<'_>,
        wide: impl Fn(T) -> f64,
        narrow: impl Fn(f64) -> T,
    ) -> Result<Vec<Tensor>, OpError> {
        let (planes, data) = (Planes::new(&self.window, x.dims)?, x.slice::<T>());
        let mut y = Vec::new();
        y.try_reserve_exact(planes.dims.iter().product()).map_err(|_| OpError::Size)?;
        planes.each_window(|_, at, elements| {
            let sum: f64 = elements.map(|element| wide(data[element])).sum();
            y.push(narrow(sum / planes.divisor(at, self.include_pad).max(1) as f64));
        });
        Ok(vec![Tensor::from_vec(&planes.dims, y)?])
    }
}

impl Operator for AveragePool {
    fn name(&self) -> &'static str {
        "AveragePool"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        Ok(vec![Fact::new(x.dtype, planes::infer(&self.window, x)?)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        match x.dtype {
            DType::F32 => self.pool(&x, |x: f32| f64::from(x), |y| y as f32),
            DType::F64 => self.pool(&x, |x: f64| x, |y| y),
            DType::F16 => self.pool(&x, f16::to_f64, f16::from_f64),
            DType::BF16 => self.pool(&x, bf16::to_f64, bf16::from_f64),
            got => Err(OpError::Type { input: 0, expected: "a float type", got }),
        }
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        Ok(PoolKernel::prepare(&self.window, self.kind(), problem))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(planes::candidate(&self.window, self.kind(), problem, caps))
    }

    fn role(&self) -> Role {
        Role::Anchor
    }

    fn blocked(&self, problem: &Problem<'_>, block: usize, blocked: &[bool]) -> Option<Blocking> {
        super::blocked::blocking(Arc::new(self.clone()), &self.window, self.kind(), problem, block, blocked)
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        planes::cost(&self.window, problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::tests::{assert_close, fast, random};
    use crate::pool::window::AutoPad;

    fn op(kernel: usize, stride: usize, pads: [usize; 2], ceil: bool, include_pad: bool) -> AveragePool {
        let window = Window {
            kernel: vec![kernel; 2],
            strides: vec![stride; 2],
            dilations: vec![1, 1],
            pads: vec![pads[0], pads[0], pads[1], pads[1]],
            auto_pad: AutoPad::NotSet,
            ceil,
        };
        AveragePool { window, include_pad }
    }

    #[test]
    fn padding_counts_or_not() {
        let x = Tensor::from_slice(&[1, 1, 2, 2], &[1.0f32, 2.0, 3.0, 6.0]).unwrap();
        let mean = |include| {
            let y = op(2, 2, [1, 1], false, include).reference(&[Some(x.view())], 1).unwrap();
            y[0].to_vec::<f32>().unwrap()
        };
        assert_eq!(mean(false), [1.0, 2.0, 3.0, 6.0]);
        assert_eq!(mean(true), [0.25, 0.5, 0.75, 1.5]);
    }

    #[test]
    fn what_lies_behind_the_padding_never_counts() {
        // Windows at 0 and 2 of a row of 4 with padding on one side: the second reaches one beyond.
        let x = Tensor::from_slice(&[1, 1, 4, 4], &[3.0f32; 16]).unwrap();
        let y = op(3, 2, [0, 0], true, true).reference(&[Some(x.view())], 1).unwrap();
        assert_eq!(y[0].to_vec::<f32>().unwrap(), [3.0; 4]);
    }

    #[test]
    fn the_fast_path_agrees() {
        for include in [false, true] {
            for (kernel, stride, pads, ceil) in
                [(3, 2, [1, 0], true), (2, 1, [1, 1], false), (5, 3, [0, 4], true), (1, 1, [0, 0], false)]
            {
                let op = op(kernel, stride, pads, ceil, include);
                let x = random(&[2, 3, 17, 33]);
                let slow = op.reference(&[Some(x.view())], 1).unwrap();
                assert_close(&fast(&op, &x), &slow[0].to_vec::<f32>().unwrap());
            }
        }
    }
}
