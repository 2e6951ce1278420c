//! [Softmax](https://onnx.ai/onnx/operators/onnx__Softmax.html),
//! [LogSoftmax](https://onnx.ai/onnx/operators/onnx__LogSoftmax.html) and
//! [Hardmax](https://onnx.ai/onnx/operators/onnx__Hardmax.html) along a dimension.

use std::sync::Arc;

use sardonyx_shaders::storage::{ValueType, Width};
use sardonyx_shaders::{Capabilities, Kernel, table};

use super::cpu;
use crate::build::NodeSpec;
use crate::compose::Composition;
use crate::cpu::{fill_floats, floats as wide, is_float};
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, linear_grid};
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::numbers::{float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Cost, CpuKernel, CpuRun, Expansion, Operator, Role};
use crate::problem::Problem;
use crate::reduce::argmax::{ArgMax, lines_params};
use crate::reduce::gpu::{LONG, SHORT, check_len};
use crate::reduce::lines::{Lines, axis_index};

/// What becomes of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// exp(x) / Σ exp(x)
    Soft,
    /// Its logarithm.
    Log,
    /// 1 at the first of the largest elements, else 0.
    Hard,
}

/// A softmax or its kin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Softmax {
    /// What becomes of a line.
    pub form: Form,
    /// The dimension, counted from the end when negative.
    pub axis: i64,
    /// All dimensions from `axis` on make one line, as before opset 13.
    pub flatten: bool,
}

/// Longest line whose places are held as a constant.
const LONGEST_HARD: i64 = 1 << 20;

fn build(spec: &NodeSpec<'_>, form: Form) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let flatten = spec.opset < 13;
    let axis = spec.attributes.int_or("axis", if flatten { 1 } else { -1 })?;
    Ok(Arc::new(Softmax { form, axis, flatten }))
}

pub(super) fn soft(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    build(spec, Form::Soft)
}

pub(super) fn log(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    build(spec, Form::Log)
}

pub(super) fn hard(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    build(spec, Form::Hard)
}

impl Softmax {
    fn lines(&self, dims: &[usize]) -> Result<Lines, OpError> {
        if self.flatten {
            // A matrix may have no columns' dimensions: then each line is one element.
            let end = i64::try_from(dims.len()) == Ok(self.axis);
            let axis = if end { dims.len() } else { axis_index(self.axis, dims.len())? };
            return Ok(Lines::from(dims, axis));
        }
        Ok(Lines::along(dims, axis_index(self.axis, dims.len())?))
    }

    fn lower_one(&self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let kernel = table::SOFTMAX.name;
        let refuse = |reason: String| Refusal { kernel, reason };
        if self.form == Form::Hard {
            return Err(refuse(
                "Hardmax of lines of 2^20 elements or fewer is a comparison with ArgMax".to_owned(),
            ));
        }
        let data = problem.input(0).ok_or_else(|| refuse("an input is missing".to_owned()))?;
        check_len(kernel, data.len())?;
        let storage = problem.stored(kernel, Some(data))?;
        let lines = self.lines(data.dims).map_err(|error| refuse(error.to_string()))?;
        let row = lines.len > SHORT && (lines.inner == 1 || lines.count() < 256);
        let vector = match row {
            true => lines.inner == 1 && lines.len.is_multiple_of(4),
            false => lines.inner.is_multiple_of(4),
        };
        let width = if vector { Width::Four } else { Width::One };
        let ending = problem.ending(kernel, ValueType::F32, width)?;
        let mut knobs = vec![("LOG", u32::from(self.form == Form::Log)), ("VECTOR", u32::from(vector))];
        if row && lines.len > LONG {
            knobs.push(("WORKGROUP", 256));
        }
        let lanes = if vector { 4 } else { 1 };
        let groups = if row { lines.count() } else { lines.count().div_ceil(lanes * 64) };
        let mut reads = vec![Binding::Input(0)];
        reads.extend(ending.reads);
        Ok(Candidate {
            dispatches: vec![Dispatch {
                kernel: Kernel {
                    variant: if row { &table::SOFTMAX_ROW } else { &table::SOFTMAX },
                    inputs: vec![(storage, width)],
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

    /// All lines of a tensor of dimensions `dims` in place.
    ///
    /// # Errors
    /// When there is no such axis.
    pub fn transform(&self, values: &mut [f64], dims: &[usize]) -> Result<(), OpError> {
        let lines = self.lines(dims)?;
        let mut line = vec![0.0; if values.is_empty() { 0 } else { lines.len }];
        for index in 0..if values.is_empty() { 0 } else { lines.count() } {
            let first = lines.first(index);
            line.iter_mut().enumerate().for_each(|(k, x)| *x = values[first + k * lines.inner]);
            self.apply(&mut line);
            line.iter().enumerate().for_each(|(k, x)| values[first + k * lines.inner] = *x);
        }
        Ok(())
    }

    /// Hardmax as the comparison of each place in a line with that of the line's largest element.
    fn expand_hard(&self, data: &Fact) -> Result<Expansion, OpError> {
        let Some(dims) = data.dims().filter(|dims| !dims.contains(&0)) else { return Ok(Expansion::Stays) };
        let lines = self.lines(&dims)?;
        let Some(places) = i64::try_from(lines.len).ok().filter(|&len| len <= LONGEST_HARD) else {
            return Ok(Expansion::Stays);
        };
        let mut graph = Composition::default();
        let input = graph.input(0, data);
        // Lines that span several dimensions are rows of a matrix meanwhile.
        let matrix = [lines.count(), lines.len];
        let (x, axis, inner) = if self.flatten {
            (graph.reshape(input, &matrix)?, 1, 0)
        } else {
            let axis = axis_index(self.axis, dims.len())?;
            (input, axis, dims.len() - 1 - axis)
        };
        let axis = i64::try_from(axis).map_err(|_| OpError::Size)?;
        let largest = ArgMax { smallest: false, axis, keepdims: true, select_last_index: false };
        let largest = graph.node(Arc::new(largest), &[x]);
        let own = [vec![lines.len], vec![1; inner]].concat();
        let own = graph.constant(Tensor::from_vec(&own, (0..places).collect())?);
        let [zero, one] = [0.0, 1.0].map(|number| float_tensor(data.dtype, &[], &[number]));
        let (zero, one) = (graph.constant(zero?), graph.constant(one?));
        let equal = graph.pointwise("Equal", &[own, largest])?;
        let mut y = graph.pointwise("Where", &[equal, one, zero])?;
        if self.flatten {
            y = graph.reshape(y, &dims)?;
        }
        Ok(graph.finish(&[y]))
    }

    /// One line in place.
    fn apply(&self, line: &mut [f64]) {
        let larger = |a: f64, &b: &f64| if a >= b || a.is_nan() { a } else { b };
        let largest = line.iter().fold(f64::NEG_INFINITY, larger);
        let sum: f64 = line.iter().map(|x| (x - largest).exp()).sum();
        match self.form {
            Form::Soft => line.iter_mut().for_each(|x| *x = (*x - largest).exp() / sum),
            Form::Log => line.iter_mut().for_each(|x| *x = (*x - largest) - sum.ln()),
            Form::Hard => {
                let at = line.iter().position(|x| *x == largest || x.is_nan());
                line.iter_mut().enumerate().for_each(|(i, x)| *x = f64::from(u8::from(Some(i) == at)));
            }
        }
    }
}

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        match self.form {
            Form::Soft => "Softmax",
            Form::Log => "LogSoftmax",
            Form::Hard => "Hardmax",
        }
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let data = inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        if !data.dtype.is_float() {
            return Err(OpError::Type { input: 0, expected: "a float", got: data.dtype });
        }
        if let Some(rank) = data.rank() {
            self.lines(&vec![1; rank])?;
        }
        Ok(vec![Fact { dtype: data.dtype, shape: data.shape.clone(), value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let data = inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        let mut values = floats(&data)?;
        self.transform(&mut values, data.dims)?;
        Ok(vec![float_tensor(data.dtype, data.dims, &values)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let Some(data) = problem.input(0) else { return Ok(None) };
        if self.form == Form::Hard || !is_float(data.dtype) || data.is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(SoftmaxKernel { log: self.form == Form::Log, lines: self.lines(data.dims)? })))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.lower_one(problem, caps))
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        match inputs.first().copied().flatten() {
            Some(data) if self.form == Form::Hard => self.expand_hard(data),
            _ => Ok(Expansion::Stays),
        }
    }

    fn role(&self) -> Role {
        Role::Anchor
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let cost = problem.default_cost();
        // Largest, difference, exponential, sum, quotient.
        Cost { flops: cost.flops.saturating_mul(5), ..cost }
    }
}

struct SoftmaxKernel {
    log: bool,
    lines: Lines,
}

impl CpuKernel for SoftmaxKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let data = run.inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("an output is missing"))?;
        let x = wide(&data)?;
        let SoftmaxKernel { log, lines } = *self;
        fill_floats(output, |y| {
            if lines.inner == 1 {
                return cpu::rows(y, lines.len, run.finish, |start, row| {
                    cpu::softmax_row(log, &x[start..start + row.len()], row);
                });
            }
            cpu::columns(
                &x,
                y,
                lines,
                cpu::floats_of(run.scratch)?,
                run.finish,
                |block, inner, first, a, b| cpu::softmax_columns(log, (block, inner, first), a, b),
                |x, a, b, y| cpu::softmax_write(log, x, a, b, y),
            )
        })
    }

    fn scratch(&self) -> usize {
        if self.lines.inner == 1 { 0 } else { cpu::columns_scratch(self.lines) }
    }

    fn finishes(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::dtype::DType;

    fn run(form: Form, axis: i64, flatten: bool, dims: &[usize], data: Vec<f32>) -> Vec<f32> {
        let data = Tensor::from_vec(dims, data).unwrap();
        let op = Softmax { form, axis, flatten };
        op.reference(&[Some(data.view())], 1).unwrap().remove(0).to_vec().unwrap()
    }

    #[test]
    fn the_numbers_of_the_specification() {
        assert_eq!(
            run(Form::Soft, -1, false, &[1, 3], vec![-1.0, 0.0, 1.0]),
            [0.090_030_57, 0.244_728_48, 0.665_240_94]
        );
        assert_eq!(
            run(Form::Log, 1, false, &[1, 3], vec![-1.0, 0.0, 1.0]),
            [-2.407_606, -1.407_606, -0.407_605_98]
        );
        let large = vec![0.0, 1.0, 2.0, 3.0, 10_000.0, 10_001.0, 10_002.0, 10_003.0];
        let row = [0.032_058_604, 0.087_144_315, 0.236_882_82, 0.643_914_3];
        assert_eq!(run(Form::Soft, 1, false, &[2, 4], large), [row, row].concat());
        assert_eq!(run(Form::Hard, 0, false, &[2, 2], vec![3.0, 1.0, 3.0, 2.0]), [1.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn older_models_flatten_to_a_matrix() {
        let uniform = vec![5.0; 8];
        assert_eq!(run(Form::Soft, 1, true, &[2, 2, 2], uniform.clone()), [0.25; 8]);
        assert_eq!(run(Form::Soft, 1, false, &[2, 2, 2], uniform.clone()), [0.5; 8]);
        assert_eq!(run(Form::Soft, 3, true, &[2, 2, 2], uniform), [1.0; 8]);
    }

    #[test]
    fn masked_lines_are_not_a_number() {
        let masked = run(Form::Soft, 0, false, &[2], vec![f32::NEG_INFINITY; 2]);
        assert!(masked.iter().all(|x| x.is_nan()));
        let half = run(Form::Soft, 0, false, &[3], vec![f32::NEG_INFINITY, 2.0, 2.0]);
        assert_eq!(half, [0.0, 0.5, 0.5]);
    }

    #[test]
    fn axes_beyond_the_rank_are_refused() {
        let op = Softmax { form: Form::Soft, axis: 2, flatten: false };
        assert!(op.infer(&[Some(&Fact::known(DType::F32, &[2, 2]))], 1).is_err());
        assert!(op.infer(&[Some(&Fact::known(DType::I32, &[2, 2, 2]))], 1).is_err());
    }
}
