//! [`MaxPool`](https://onnx.ai/onnx/operators/onnx__MaxPool.html): the largest element of each window.

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

/// `MaxPool`, with the positions of the largest elements if wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MaxPool {
    /// The windows.
    pub window: Window,
    /// Positions are wanted.
    pub indices: bool,
    /// Positions count the spatial dimensions first dimension fastest.
    pub column_major: bool,
}

/// Builds [`MaxPool`].
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(MaxPool {
        window: Window::from_spec(spec)?,
        indices: spec.outputs.get(1).copied().unwrap_or(false),
        column_major: spec.attributes.flag("storage_order", false)?,
    }))
}

impl MaxPool {
    /// Largest elements and their positions, starting from `least`; elements that compare with nothing are passed over.
    fn pool<T: Element>(&self, x: &View<'_>, least: T) -> Result<Vec<Tensor>, OpError> {
        let (planes, data) = (Planes::new(&self.window, x.dims)?, x.slice::<T>());
        let len: usize = planes.dims.iter().product();
        let (mut y, mut at) = (Vec::new(), Vec::new());
        y.try_reserve_exact(len).map_err(|_| OpError::Size)?;
        at.try_reserve_exact(if self.indices { len } else { 0 }).map_err(|_| OpError::Size)?;
        planes.each_window(|_, _, elements| {
            let (mut best, mut position) = (least, None);
            for element in elements {
                let value = data[element];
                if value > best || (position.is_none() && value == best) {
                    (best, position) = (value, Some(element));
                }
            }
            y.push(best);
            if self.indices {
                at.push(position.map_or(-1, |position| self.position(position, x.dims)));
            }
        });
        let mut all = vec![Tensor::from_vec(&planes.dims, y)?];
        if self.indices {
            all.push(Tensor::from_vec(&planes.dims, at)?);
        }
        Ok(all)
    }

    /// The position of an element as the output says it.
    fn position(&self, element: usize, dims: &[usize]) -> i64 {
        if !self.column_major {
            return i64::try_from(element).unwrap_or(i64::MAX);
        }
        let spatial = &dims[2..];
        let plane: usize = spatial.iter().product();
        let (mut within, mut position, mut stride) = (element % plane, 0, plane);
        for &dim in spatial.iter().rev() {
            stride /= dim;
            position += within % dim * stride;
            within /= dim;
        }
        i64::try_from(element / plane * plane + position).unwrap_or(i64::MAX)
    }
}

impl Operator for MaxPool {
    fn name(&self) -> &'static str {
        "MaxPool"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        let shape = planes::infer(&self.window, x)?;
        let all = [Fact::new(x.dtype, shape.clone()), Fact::new(DType::I64, shape)];
        Ok(all.into_iter().take(outputs.max(1)).collect())
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        match x.dtype {
            DType::F32 => self.pool(&x, f32::NEG_INFINITY),
            DType::F64 => self.pool(&x, f64::NEG_INFINITY),
            DType::F16 => self.pool(&x, f16::NEG_INFINITY),
            DType::BF16 => self.pool(&x, bf16::NEG_INFINITY),
            DType::I8 => self.pool(&x, i8::MIN),
            DType::U8 => self.pool(&x, u8::MIN),
            got => Err(OpError::Type { input: 0, expected: "a float type, i8 or u8", got }),
        }
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        if self.indices {
            return Ok(None);
        }
        Ok(PoolKernel::prepare(&self.window, Kind::Max, problem))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        if self.indices {
            return Lowering::refused("MaxPool", "positions of the largest elements are found on the CPU");
        }
        Lowering::from_result(planes::candidate(&self.window, Kind::Max, problem, caps))
    }

    fn role(&self) -> Role {
        if self.indices { Role::Opaque } else { Role::Anchor }
    }

    fn blocked(&self, problem: &Problem<'_>, block: usize, blocked: &[bool]) -> Option<Blocking> {
        if self.indices {
            return None;
        }
        super::blocked::blocking(Arc::new(self.clone()), &self.window, Kind::Max, problem, block, blocked)
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        planes::cost(&self.window, problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::tests::{fast, random};
    use crate::pool::window::AutoPad;

    fn op(kernel: [usize; 2], strides: [usize; 2], pads: [usize; 4], ceil: bool) -> MaxPool {
        let window = Window {
            kernel: kernel.to_vec(),
            strides: strides.to_vec(),
            dilations: vec![1, 1],
            pads: pads.to_vec(),
            auto_pad: AutoPad::NotSet,
            ceil,
        };
        MaxPool { window, indices: false, column_major: false }
    }

    #[test]
    fn a_window_that_reaches_outside() {
        let data: Vec<f32> = (1..=16).map(|i| i as f32).collect();
        let x = Tensor::from_slice(&[1, 1, 4, 4], &data).unwrap();
        let y = op([3, 3], [2, 2], [0; 4], true).reference(&[Some(x.view())], 1).unwrap();
        assert_eq!(y[0].dims(), [1, 1, 2, 2]);
        assert_eq!(y[0].to_vec::<f32>().unwrap(), [11.0, 12.0, 15.0, 16.0]);
    }

    #[test]
    fn positions_in_both_orders() {
        let data: Vec<f32> = (1..=25).map(|i| i as f32).collect();
        let x = Tensor::from_slice(&[1, 1, 5, 5], &data).unwrap();
        let mut op = MaxPool { indices: true, ..op([2, 2], [2, 2], [0; 4], false) };
        let y = op.reference(&[Some(x.view())], 2).unwrap();
        assert_eq!(y[0].to_vec::<f32>().unwrap(), [7.0, 9.0, 17.0, 19.0]);
        assert_eq!(y[1].to_vec::<i64>().unwrap(), [6, 8, 16, 18]);
        op.column_major = true;
        let y = op.reference(&[Some(x.view())], 2).unwrap();
        assert_eq!(y[1].to_vec::<i64>().unwrap(), [6, 16, 8, 18]);
    }

    #[test]
    fn negative_elements_beat_the_padding() {
        let x = Tensor::from_slice(&[1, 1, 1, 2], &[-3i8, -4]).unwrap();
        let y = op([1, 2], [1, 1], [0, 1, 0, 1], false).reference(&[Some(x.view())], 1).unwrap();
        assert_eq!(y[0].to_vec::<i8>().unwrap(), [-3, -3, -4]);
    }

    #[test]
    fn the_fast_path_agrees() {
        for (dims, kernel, strides, pads) in [
            ([2, 3, 17, 65], [3, 3], [2, 2], [1, 1, 1, 1]),
            ([1, 2, 7, 33], [5, 2], [1, 3], [2, 0, 1, 1]),
            ([1, 1, 1, 1], [1, 1], [1, 1], [0, 0, 0, 0]),
        ] {
            for ceil in [false, true] {
                let op = op(kernel, strides, pads, ceil);
                let x = random(&dims);
                let slow = op.reference(&[Some(x.view())], 1).unwrap();
                assert_eq!(fast(&op, &x), slow[0].to_vec::<f32>().unwrap(), "{dims:?}");
            }
        }
    }
}
