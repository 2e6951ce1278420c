//! [ArgMax](https://onnx.ai/onnx/operators/onnx__ArgMax.html) and
//! [ArgMin](https://onnx.ai/onnx/operators/onnx__ArgMin.html): where along a dimension the extreme element is.

use std::sync::Arc;

use rayon::prelude::*;
use sardonyx_shaders::params;
use sardonyx_shaders::storage::{ValueType, Width};
use sardonyx_shaders::{Capabilities, Kernel, table};

use super::gpu::{LONG, SHORT, check_len};
use super::lines::{Lines, axis_index};
use crate::build::NodeSpec;
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, linear_grid, word};
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, floats, integers};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Cost, CpuKernel, CpuRun, Operator};
use crate::problem::Problem;

/// The position of the extreme element along a dimension.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArgMax {
    /// The smallest rather than the largest.
    pub smallest: bool,
    /// The dimension, counted from the end when negative.
    pub axis: i64,
    /// The dimension stays, with extent 1.
    pub keepdims: bool,
    /// The last of equal elements rather than the first.
    pub select_last_index: bool,
}

fn build(spec: &NodeSpec<'_>, smallest: bool) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(ArgMax {
        smallest,
        axis: spec.attributes.int_or("axis", 0)?,
        keepdims: spec.attributes.flag("keepdims", true)?,
        select_last_index: spec.opset >= 12 && spec.attributes.flag("select_last_index", false)?,
    }))
}

pub(super) fn build_max(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    build(spec, false)
}

pub(super) fn build_min(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    build(spec, true)
}

impl ArgMax {
    fn check_type(dtype: DType) -> Result<(), OpError> {
        use DType::*;
        match dtype {
            F32 | F64 | F16 | BF16 | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64 => Ok(()),
            got => Err(OpError::Type { input: 0, expected: "a float or an integer", got }),
        }
    }

    fn remaining<T: Clone>(&self, dims: &[T], axis: usize, one: T) -> Vec<T> {
        let mut dims = dims.to_vec();
        if self.keepdims {
            dims[axis] = one;
        } else {
            dims.remove(axis);
        }
        dims
    }

    /// The lines along the dimension.
    fn lines(&self, dims: &[usize]) -> Result<Lines, OpError> {
        Ok(Lines::along(dims, axis_index(self.axis, dims.len())?))
    }

    /// Whether a later element goes before the best so far. NaN goes before every number, the first NaN before others.
    fn better<T: PartialOrd>(&self, v: &T, best: &T) -> bool {
        // Only NaN is not equal to itself.
        #[allow(clippy::eq_op, reason = "it is how NaN is told in generic code")]
        let (v_nan, best_nan) = (v != v, best != best);
        if v_nan || best_nan {
            return v_nan && (!best_nan || self.select_last_index);
        }
        let ahead = if self.smallest { v < best } else { v > best };
        ahead || (self.select_last_index && v == best)
    }

    fn position<T: PartialOrd>(&self, mut line: impl Iterator<Item = T>) -> i64 {
        let Some(mut best) = line.next() else { return 0 };
        let mut place = 0;
        for (k, v) in (1..).zip(line) {
            if self.better(&v, &best) {
                (best, place) = (v, k);
            }
        }
        place
    }

    fn positions<T: PartialOrd + Copy>(&self, values: &[T], lines: Lines) -> Vec<i64> {
        let line = |line| {
            let first = lines.first(line);
            self.position((0..lines.len).map(|k| values[first + k * lines.inner]))
        };
        (0..lines.count()).map(line).collect()
    }

    fn lower_one(&self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let kernel = table::ARGMAX.name;
        let refuse = |reason: String| Refusal { kernel, reason };
        let data = problem.input(0).ok_or_else(|| refuse("an input is missing".to_owned()))?;
        check_len(kernel, data.len())?;
        let storage = problem.stored(kernel, Some(data))?;
        if matches!(storage.value(), ValueType::I64 | ValueType::Bool) {
            return Err(refuse(format!("it compares no {}", data.dtype)));
        }
        let lines = self.lines(data.dims).map_err(|error| refuse(error.to_string()))?;
        let row = lines.len > SHORT && (lines.inner == 1 || lines.count() < 1024);
        let vector = !row && lines.inner.is_multiple_of(4);
        let width = if row { Width::One } else { Width::Four };
        let ending = problem.ending(kernel, ValueType::I64, width)?;
        let mut knobs =
            vec![("SMALLEST", u32::from(self.smallest)), ("LAST", u32::from(self.select_last_index))];
        if !row {
            knobs.push(("VECTOR", u32::from(vector)));
        } else if lines.len > LONG {
            knobs.push(("WORKGROUP", 256));
        }
        let groups = if row { lines.count() } else { lines.count().div_ceil(4 * 64) };
        let mut reads = vec![Binding::Input(0)];
        reads.extend(ending.reads);
        Ok(Candidate {
            dispatches: vec![Dispatch {
                kernel: Kernel {
                    variant: if row { &table::ARGMAX_ROW } else { &table::ARGMAX },
                    inputs: vec![(storage, if vector { Width::Four } else { Width::One })],
                    knobs,
                    expression: ending.expression,
                },
                reads,
                writes: vec![Binding::Output(0)],
                params: bytemuck::bytes_of(&lines_params(kernel, lines)?).to_vec(),
                operands: ending.operands,
                grid: linear_grid(kernel, groups, caps)?,
            }],
            ..Candidate::default()
        })
    }
}

/// The parameters of kernels over lines.
pub(crate) fn lines_params(kernel: &'static str, lines: Lines) -> Result<params::reduce::Lines, Refusal> {
    Ok(params::reduce::Lines {
        lines: word(kernel, lines.count())?,
        len: word(kernel, lines.len)?,
        inner: word(kernel, lines.inner)?,
        pad: 0,
    })
}

impl Operator for ArgMax {
    fn name(&self) -> &'static str {
        if self.smallest { "ArgMin" } else { "ArgMax" }
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let data = inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        ArgMax::check_type(data.dtype)?;
        let Some(shape) = &data.shape else { return Ok(vec![Fact::unranked(DType::I64)]) };
        let axis = axis_index(self.axis, shape.len())?;
        Ok(vec![Fact::new(DType::I64, self.remaining(shape, axis, Dim::Known(1)))])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let data = inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        ArgMax::check_type(data.dtype)?;
        let axis = axis_index(self.axis, data.dims.len())?;
        let dims = self.remaining(data.dims, axis, 1);
        let lines = self.lines(data.dims)?;
        if lines.len == 0 && !filled(&dims, ())?.is_empty() {
            return Err(OpError::constraint("elements to choose from", "at least one", 0));
        }
        if data.is_empty() {
            return Ok(vec![Tensor::zeroed(DType::I64, &dims)?]);
        }
        let places = if data.dtype.is_float() {
            self.positions(&floats(&data)?, lines)
        } else {
            self.positions(&integers(&data)?, lines)
        };
        Ok(vec![Tensor::from_vec(&dims, places)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let Some(data) = problem.input(0) else { return Ok(None) };
        let narrow = matches!(data.dtype, DType::F32 | DType::I32 | DType::I64 | DType::U8);
        if !narrow || data.is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(ArgMaxKernel { operator: self.clone(), lines: self.lines(data.dims)? })))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.lower_one(problem, caps))
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let read = problem.input(0).map_or(0, |data| data.len() as u64);
        let cost = problem.default_cost();
        Cost { flops: cost.flops.saturating_add(read), ..cost }
    }
}

/// Lines on all threads; where lines lie side by side, a task keeps the best of many while it walks down the rows.
struct ArgMaxKernel {
    operator: ArgMax,
    lines: Lines,
}

impl CpuKernel for ArgMaxKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let data = run.inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("an output is missing"))?;
        let output = output.slice::<i64>();
        match data.dtype {
            DType::F32 => self.compute(data.slice::<f32>(), output),
            DType::I32 => self.compute(data.slice::<i32>(), output),
            DType::I64 => self.compute(data.slice::<i64>(), output),
            DType::U8 => self.compute(data.slice::<u8>(), output),
            _ => return Err(OpError::Internal("a kernel for another type")),
        }
        Ok(())
    }
}

impl ArgMaxKernel {
    fn compute<T: PartialOrd + Copy + Send + Sync>(&self, data: &[T], output: &mut [i64]) {
        const COLUMNS: usize = 64;
        let Lines { len, inner, .. } = self.lines;
        output.par_chunks_mut(inner).zip(data.par_chunks(len * inner)).for_each(|(out, block)| {
            if inner == 1 {
                out.fill(self.operator.position(block.iter().copied()));
                return;
            }
            for (index, places) in out.chunks_mut(COLUMNS).enumerate() {
                let start = index * COLUMNS;
                places.fill(0);
                let mut best = [block[start]; COLUMNS];
                best[..places.len()].copy_from_slice(&block[start..start + places.len()]);
                for (k, row) in (0..).zip(block.chunks(inner)).skip(1) {
                    for ((place, best), v) in places.iter_mut().zip(&mut best).zip(&row[start..]) {
                        if self.operator.better(v, best) {
                            (*best, *place) = (*v, k);
                        }
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
    fn ties_go_to_the_first_or_the_last() {
        let data = Tensor::from_vec(&[2, 3], vec![2.0f32, 2.0, 1.0, 3.0, 10.0, 10.0]).unwrap();
        let run = |smallest, select_last_index, axis| {
            let op = ArgMax { smallest, axis, keepdims: false, select_last_index };
            let got = op.reference(&[Some(data.view())], 1).unwrap().remove(0);
            got.to_vec::<i64>().unwrap()
        };
        assert_eq!(run(false, false, 1), [0, 1]);
        assert_eq!(run(false, true, 1), [1, 2]);
        assert_eq!(run(true, false, -1), [2, 0]);
        assert_eq!(run(false, false, 0), [1, 1, 1]);
    }

    #[test]
    fn not_a_number_is_the_extreme() {
        let data = Tensor::from_vec(&[3], vec![1.0f32, f32::NAN, f32::NAN]).unwrap();
        for smallest in [false, true] {
            let op = ArgMax { smallest, axis: 0, keepdims: true, select_last_index: false };
            let got = op.reference(&[Some(data.view())], 1).unwrap().remove(0);
            assert_eq!((got.dims(), got.to_vec::<i64>().unwrap()), (&[1][..], vec![1]));
        }
        let none = Tensor::zeroed(DType::F32, &[2, 0]).unwrap();
        let op = ArgMax { smallest: false, axis: 1, keepdims: true, select_last_index: false };
        assert!(op.reference(&[Some(none.view())], 1).is_err());
    }
}
