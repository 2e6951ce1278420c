//! [`LpPool`](https://onnx.ai/onnx/operators/onnx__LpPool.html): the p-norm of each window.

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
use crate::movement::sizes::{required, view};
use crate::operator::{Cost, CpuKernel, Operator, Role};
use crate::problem::Problem;

/// `LpPool`.
#[derive(Clone, PartialEq, Debug)]
pub struct LpPool {
    /// The windows.
    pub window: Window,
    /// The norm's exponent, at least 1.
    pub p: f32,
}

/// Builds [`LpPool`].
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let p = spec.attributes.int_or("p", 2)?;
    if !(1..1 << 20).contains(&p) {
        return Err(OpError::constraint("p", "1 or more", p));
    }
    Ok(Arc::new(LpPool { window: Window::from_spec(spec)?, p: p as f32 }))
}

impl LpPool {
    fn pool<T: Element>(
        &self,
        x: &View<'_>,
        wide: impl Fn(T) -> f64,
        narrow: impl Fn(f64) -> T,
    ) -> Result<Vec<Tensor>, OpError> {
        let (planes, data) = (Planes::new(&self.window, x.dims)?, x.slice::<T>());
        let p = f64::from(self.p);
        let mut y = Vec::new();
        y.try_reserve_exact(planes.dims.iter().product()).map_err(|_| OpError::Size)?;
        planes.each_window(|_, _, elements| {
            let sum: f64 = elements.map(|element| wide(data[element]).abs().powf(p)).sum();
            y.push(narrow(sum.powf(1.0 / p)));
        });
        Ok(vec![Tensor::from_vec(&planes.dims, y)?])
    }
}

impl Operator for LpPool {
    fn name(&self) -> &'static str {
        "LpPool"
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
        Ok(PoolKernel::prepare(&self.window, Kind::Lp(self.p), problem))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(planes::candidate(&self.window, Kind::Lp(self.p), problem, caps))
    }

    fn role(&self) -> Role {
        Role::Anchor
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

    #[test]
    fn norms_of_a_row() {
        let window = Window {
            kernel: vec![2],
            strides: vec![1],
            dilations: vec![1],
            pads: vec![0, 1],
            auto_pad: AutoPad::NotSet,
            ceil: false,
        };
        let x = Tensor::from_slice(&[1, 1, 3], &[3.0f32, -4.0, 5.0]).unwrap();
        let of = |p| LpPool { window: window.clone(), p }.reference(&[Some(x.view())], 1).unwrap();
        assert_eq!(of(1.0)[0].to_vec::<f32>().unwrap(), [7.0, 9.0, 5.0]);
        assert_close(&of(2.0)[0].to_vec::<f32>().unwrap(), &[5.0, 41f32.sqrt(), 5.0]);
        let x = random(&[2, 3, 65]);
        for p in [1.0, 2.0, 3.0] {
            let op = LpPool { window: window.clone(), p };
            let slow = op.reference(&[Some(x.view())], 1).unwrap();
            assert_close(&fast(&op, &x), &slow[0].to_vec::<f32>().unwrap());
        }
    }
}
