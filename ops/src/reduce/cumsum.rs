//! [CumSum](https://onnx.ai/onnx/operators/onnx__CumSum.html): running sums along a dimension.

use std::sync::Arc;

use half::{bf16, f16};
use rayon::prelude::*;
use sardonyx_shaders::storage::Width;
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

/// Running sums along the dimension that input 1 names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CumSum {
    /// Without the element itself.
    pub exclusive: bool,
    /// From the end.
    pub reverse: bool,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(Arc::new(CumSum {
        exclusive: spec.attributes.flag("exclusive", false)?,
        reverse: spec.attributes.flag("reverse", false)?,
    }))
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

    fn sums<T: Copy>(&self, values: &mut [T], lines: Lines, zero: T, add: impl Fn(T, T) -> T) {
        for line in 0..lines.count() {
            let first = lines.first(line);
            let mut total = zero;
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
        "CumSum"
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
            self.sums(&mut values, lines, 0.0, |a, b| a + b);
            float_tensor(data.dtype, data.dims, &values)?
        } else {
            let mut values = integers(data)?;
            self.sums(&mut values, lines, 0, i128::wrapping_add);
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
        // Floats add up in f64, as in the reference: the sums of one line depend on each other.
        match data.dtype {
            DType::F32 => self.blocks(output.slice::<f32>(), 0.0, f64::from, |x: f64| x as f32, |a, b| a + b),
            DType::F16 => self.blocks(output.slice::<f16>(), 0.0, f16::to_f64, f16::from_f64, |a, b| a + b),
            DType::BF16 => {
                self.blocks(output.slice::<bf16>(), 0.0, bf16::to_f64, bf16::from_f64, |a, b| a + b);
            }
            DType::F64 => self.blocks(output.slice::<f64>(), 0.0, |x| x, |x: f64| x, |a, b| a + b),
            DType::I32 => self.blocks(output.slice::<i32>(), 0, |x| x, |x| x, i32::wrapping_add),
            DType::I64 => self.blocks(output.slice::<i64>(), 0, |x| x, |x| x, i64::wrapping_add),
            DType::U32 => self.blocks(output.slice::<u32>(), 0, |x| x, |x| x, u32::wrapping_add),
            DType::U64 => self.blocks(output.slice::<u64>(), 0, |x| x, |x| x, u64::wrapping_add),
            _ => return Err(OpError::Internal("a kernel for another type")),
        }
        Ok(())
    }
}

impl CumSumKernel {
    /// Sums in place, in blocks of [len, inner] and stretches of neighbouring lines.
    fn blocks<T: Copy + Send, S: Copy + Send + Sync>(
        &self,
        values: &mut [T],
        zero: S,
        widen: impl Fn(T) -> S + Sync,
        narrow: impl Fn(S) -> T + Sync,
        add: impl Fn(S, S) -> S + Sync,
    ) {
        const COLUMNS: usize = 64;
        let Lines { len, inner, .. } = self.lines;
        values.par_chunks_mut(len * inner).for_each(|block| {
            for start in (0..inner).step_by(COLUMNS) {
                let width = COLUMNS.min(inner - start);
                let mut totals = [zero; COLUMNS];
                for step in 0..len {
                    let k = if self.operator.reverse { len - 1 - step } else { step };
                    let row = &mut block[k * inner + start..][..width];
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
        let run = |exclusive, reverse, axis: i64| {
            let axis = Tensor::scalar(axis);
            let op = CumSum { exclusive, reverse };
            let got = op.reference(&[Some(data.view()), Some(axis.view())], 1).unwrap().remove(0);
            got.to_vec::<i32>().unwrap()
        };
        assert_eq!(run(false, false, 1), [1, 3, 6, 4, 9, 15]);
        assert_eq!(run(true, false, -1), [0, 1, 3, 0, 4, 9]);
        assert_eq!(run(false, true, 1), [6, 5, 3, 15, 11, 6]);
        assert_eq!(run(true, true, 1), [5, 3, 0, 11, 6, 0]);
        assert_eq!(run(false, false, 0), [1, 2, 3, 5, 7, 9]);
    }
}
