//! [CumSum](https://onnx.ai/onnx/operators/onnx__CumSum.html) and
//! [CumProd](https://onnx.ai/onnx/operators/onnx__CumProd.html): running sums and products along a dimension.

use std::sync::Arc;

use half::{bf16, f16};
use rayon::prelude::*;
use sardonyx_shaders::storage::{Storage, Width};
use sardonyx_shaders::{Capabilities, Kernel, table};

use super::argmax::lines_params;
use super::gpu::check_len;
use super::lines::{Lines, axis_index};
use crate::build::NodeSpec;
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, linear_grid};
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{float_tensor, floats, integer_tensor, integers};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{CpuKernel, CpuRun, Operator, Role};
use crate::problem::Problem;

/// Running sums or products along the dimension that input 1 names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CumSum {
    /// Products rather than sums.
    pub product: bool,
    /// Without the element itself.
    pub exclusive: bool,
    /// From the end.
    pub reverse: bool,
}

fn build(spec: &NodeSpec<'_>, product: bool) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(Arc::new(CumSum {
        product,
        exclusive: spec.attributes.flag("exclusive", false)?,
        reverse: spec.attributes.flag("reverse", false)?,
    }))
}

pub(super) fn build_sum(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    build(spec, false)
}

pub(super) fn build_product(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    build(spec, true)
}

/// Longest line that one invocation sums up without keeping the device too long.
const LONGEST: usize = 1 << 16;

impl CumSum {
    fn check_types(data: DType, axis: DType) -> Result<(), OpError> {
        use DType::*;
        if !matches!(data, F32 | F64 | F16 | BF16 | I32 | I64 | U32 | U64) {
            let expected = "a float, or an integer of 32 or 64 bits";
            return Err(OpError::Type { input: 0, expected, got: data });
        }
        if !matches!(axis, I32 | I64) {
            return Err(OpError::Type { input: 1, expected: "i32 or i64", got: axis });
        }
        Ok(())
    }

    fn lines(dims: &[usize], axis: &Tensor) -> Result<Lines, OpError> {
        let axis = Fact::constant(axis.clone()).integers();
        match axis.as_deref() {
            Some(&[axis]) => Ok(Lines::along(dims, axis_index(axis, dims.len())?)),
            _ => Err(OpError::constraint("axis", "one integer", "another tensor")),
        }
    }

    fn accumulate<T: Copy>(&self, values: &mut [T], lines: Lines, start: T, add: impl Fn(T, T) -> T) {
        for line in 0..lines.count() {
            let first = lines.first(line);
            let mut total = start;
            for step in 0..lines.len {
                let k = if self.reverse { lines.len - 1 - step } else { step };
                let slot = &mut values[first + k * lines.inner];
                let before = total;
                total = add(total, *slot);
                *slot = if self.exclusive { before } else { total };
            }
        }
    }

    fn lower_one(&self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let kernel = table::CUMSUM.name;
        let refuse = |reason: String| Refusal { kernel, reason };
        let missing = || refuse("an input is missing".to_owned());
        let data = problem.input(0).ok_or_else(missing)?;
        let axis = problem.input(1).ok_or_else(missing)?;
        let axis = axis.value.ok_or_else(|| refuse("its axis is not constant".to_owned()))?;
        check_len(kernel, data.len())?;
        let storage = problem.stored(kernel, Some(data))?;
        if self.product && storage == Storage::I64 {
            return Err(refuse(format!("it multiplies no {}", data.dtype)));
        }
        let lines = CumSum::lines(data.dims, axis).map_err(|error| refuse(error.to_string()))?;
        if lines.len > LONGEST {
            return Err(refuse(format!("a line of {} elements is summed by one invocation", lines.len)));
        }
        let vector = lines.inner.is_multiple_of(4);
        let width = if vector { Width::Four } else { Width::One };
        let ending = problem.ending(kernel, storage.value(), width)?;
        let lanes = if vector { 4 } else { 1 };
        let mut reads = vec![Binding::Input(0)];
        reads.extend(ending.reads);
        Ok(Candidate {
            dispatches: vec![Dispatch {
                kernel: Kernel {
                    variant: &table::CUMSUM,
                    inputs: vec![(storage, width)],
                    knobs: vec![
                        ("PRODUCT", u32::from(self.product)),
                        ("EXCLUSIVE", u32::from(self.exclusive)),
                        ("REVERSE", u32::from(self.reverse)),
                        ("VECTOR", u32::from(vector)),
                    ],
                    expression: ending.expression,
                },
                reads,
                writes: vec![Binding::Output(0)],
                params: bytemuck::bytes_of(&lines_params(kernel, lines)?).to_vec(),
                operands: ending.operands,
                grid: linear_grid(kernel, lines.count().div_ceil(lanes * 64), caps)?,
            }],
            ..Candidate::default()
        })
    }
}

impl Operator for CumSum {
    fn name(&self) -> &'static str {
        if self.product { "CumProd" } else { "CumSum" }
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let [Some(data), Some(axis)] = inputs else { return Err(OpError::Internal("an input is missing")) };
        CumSum::check_types(data.dtype, axis.dtype)?;
        Ok(vec![Fact { dtype: data.dtype, shape: data.shape.clone(), value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let [Some(data), Some(axis)] = inputs else { return Err(OpError::Internal("an input is missing")) };
        CumSum::check_types(data.dtype, axis.dtype)?;
        let lines = CumSum::lines(data.dims, &axis.to_tensor())?;
        if data.is_empty() {
            return Ok(vec![data.to_tensor()]);
        }
        Ok(vec![if data.dtype.is_float() {
            let mut values = floats(data)?;
            match self.product {
                true => self.accumulate(&mut values, lines, 1.0, |a, b| a * b),
                false => self.accumulate(&mut values, lines, 0.0, |a, b| a + b),
            }
            float_tensor(data.dtype, data.dims, &values)?
        } else {
            let mut values = integers(data)?;
            match self.product {
                true => self.accumulate(&mut values, lines, 1, i128::wrapping_mul),
                false => self.accumulate(&mut values, lines, 0, i128::wrapping_add),
            }
            integer_tensor(data.dtype, data.dims, &values)?
        }])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let (Some(data), Some(axis)) = (problem.input(0), problem.input(1)) else { return Ok(None) };
        let (Some(axis), false) = (axis.value, data.is_empty()) else { return Ok(None) };
        let lines = CumSum::lines(data.dims, axis)?;
        Ok(Some(Box::new(CumSumKernel { operator: self.clone(), lines })))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.lower_one(problem, caps))
    }

    fn planned_by(&self) -> &'static [usize] {
        &[1]
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

struct CumSumKernel {
    operator: CumSum,
    lines: Lines,
}

impl CpuKernel for CumSumKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let data = run.inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("an output is missing"))?;
        output.bytes.copy_from_slice(data.bytes);
        macro_rules! blocks {
            ($rust:ty, $start:expr, $zero:expr, $widen:expr, $narrow:expr, $mul:expr, $add:expr) => {{
                let values = output.slice::<$rust>();
                match self.operator.product {
                    true => self.blocks(values, $start, $widen, $narrow, $mul),
                    false => self.blocks(values, $zero, $widen, $narrow, $add),
                }
            }};
        }
        // Floats are accumulated in f64, as in the reference: the results of one line depend on each other.
        macro_rules! floats {
            ($rust:ty, $widen:expr, $narrow:expr) => {
                blocks!($rust, 1.0, 0.0, $widen, $narrow, |a: f64, b| a * b, |a: f64, b| a + b)
            };
        }
        macro_rules! integers {
            ($rust:ty) => {
                blocks!($rust, 1, 0, |x| x, |x| x, <$rust>::wrapping_mul, <$rust>::wrapping_add)
            };
        }
        match data.dtype {
            DType::F32 => floats!(f32, f64::from, |x| x as f32),
            DType::F16 => floats!(f16, f16::to_f64, f16::from_f64),
            DType::BF16 => floats!(bf16, bf16::to_f64, bf16::from_f64),
            DType::F64 => floats!(f64, |x| x, |x| x),
            DType::I32 => integers!(i32),
            DType::I64 => integers!(i64),
            DType::U32 => integers!(u32),
            DType::U64 => integers!(u64),
            _ => return Err(OpError::Internal("a kernel for another type")),
        }
        Ok(())
    }
}

impl CumSumKernel {
    /// Accumulates in place, in blocks of [len, inner] and stretches of neighbouring lines.
    fn blocks<T: Copy + Send, S: Copy + Send + Sync>(
        &self,
        values: &mut [T],
        start: S,
        widen: impl Fn(T) -> S + Sync,
        narrow: impl Fn(S) -> T + Sync,
        add: impl Fn(S, S) -> S + Sync,
    ) {
        const COLUMNS: usize = 64;
        let Lines { len, inner, .. } = self.lines;
        values.par_chunks_mut(len * inner).for_each(|block| {
            for first in (0..inner).step_by(COLUMNS) {
                let width = COLUMNS.min(inner - first);
                let mut totals = [start; COLUMNS];
                for step in 0..len {
                    let k = if self.operator.reverse { len - 1 - step } else { step };
                    let row = &mut block[k * inner + first..][..width];
                    for (slot, total) in row.iter_mut().zip(&mut totals) {
                        let before = *total;
                        *total = add(before, widen(*slot));
                        *slot = narrow(if self.operator.exclusive { before } else { *total });
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_run_both_ways() {
        let data = Tensor::from_vec(&[2, 3], vec![1i32, 2, 3, 4, 5, 6]).unwrap();
        let run = |product, exclusive, reverse, axis: i64| {
            let axis = Tensor::scalar(axis);
            let op = CumSum { product, exclusive, reverse };
            let got = op.reference(&[Some(data.view()), Some(axis.view())], 1).unwrap().remove(0);
            got.to_vec::<i32>().unwrap()
        };
        assert_eq!(run(false, false, false, 1), [1, 3, 6, 4, 9, 15]);
        assert_eq!(run(false, true, false, -1), [0, 1, 3, 0, 4, 9]);
        assert_eq!(run(false, false, true, 1), [6, 5, 3, 15, 11, 6]);
        assert_eq!(run(false, true, true, 1), [5, 3, 0, 11, 6, 0]);
        assert_eq!(run(false, false, false, 0), [1, 2, 3, 5, 7, 9]);
        assert_eq!(run(true, false, false, 1), [1, 2, 6, 4, 20, 120]);
        assert_eq!(run(true, true, true, 1), [6, 3, 1, 30, 6, 1]);
    }
}
