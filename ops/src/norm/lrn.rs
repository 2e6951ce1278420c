//! [LRN](https://onnx.ai/onnx/operators/onnx__LRN.html): local response normalisation across channels.
//!
//! The window of an even size reaches further after the channel than before it, as the specification's text says.

use std::sync::Arc;

use sardonyx_shaders::storage::{ValueType, Width};
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::cpu;
use crate::build::NodeSpec;
use crate::cpu::{fill_floats, floats as wide, is_float, math};
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, linear_grid, word};
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::numbers::{float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Cost, CpuKernel, CpuRun, Operator, Role};
use crate::problem::Problem;
use crate::reduce::gpu::check_len;
use crate::reduce::lines::Lines;

/// `x / (bias + alpha / size · Σ squares of the channels around)^beta`
#[derive(Clone, PartialEq, Debug)]
pub struct Lrn {
    /// Channels that count.
    pub size: usize,
    /// Factor of their mean square.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Added to the scaled sum.
    pub bias: f32,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let size = spec.attributes.int("size")?.and_then(|&size| u32::try_from(size).ok());
    let size = size.filter(|&size| size > 0);
    Ok(Arc::new(Lrn {
        size: size.ok_or(OpError::Attribute { name: "size", expected: "a positive integer" })? as usize,
        alpha: spec.attributes.float_or("alpha", 1e-4)?,
        beta: spec.attributes.float_or("beta", 0.75)?,
        bias: spec.attributes.float_or("bias", 1.0)?,
    }))
}

impl Lrn {
    fn before(&self) -> usize {
        (self.size - 1) / 2
    }

    fn after(&self) -> usize {
        self.size / 2
    }

    /// The first and the last channel that count for channel `c`.
    fn window(&self, c: usize, channels: usize) -> (usize, usize) {
        (c.saturating_sub(self.before()), c.saturating_add(self.after()).min(channels - 1))
    }

    fn lower_one(&self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let kernel = table::LRN.name;
        let refuse = |reason: &str| Refusal { kernel, reason: reason.to_owned() };
        let data = problem.input(0).ok_or_else(|| refuse("an input is missing"))?;
        check_len(kernel, data.len())?;
        let storage = problem.stored(kernel, Some(data))?;
        let lines = Lines::along(data.dims, 1);
        let vector = lines.inner.is_multiple_of(4);
        let ending = problem.ending(kernel, ValueType::F32, Width::Four)?;
        let params = params::norm::Lrn {
            len: word(kernel, data.len())?,
            channels: word(kernel, lines.len)?,
            inner: word(kernel, lines.inner)?,
            before: word(kernel, self.before())?,
            after: word(kernel, self.after())?,
            alpha: self.alpha / self.size as f32,
            beta: self.beta,
            bias: self.bias,
        };
        let mut reads = vec![Binding::Input(0)];
        reads.extend(ending.reads);
        Ok(Candidate {
            dispatches: vec![Dispatch {
                kernel: Kernel {
                    variant: &table::LRN,
                    inputs: vec![(storage, if vector { Width::Four } else { Width::One })],
                    knobs: vec![("VECTOR", u32::from(vector))],
                    expression: ending.expression,
                },
                reads,
                writes: vec![Binding::Output(0)],
                params: bytemuck::bytes_of(&params).to_vec(),
                operands: ending.operands,
                grid: linear_grid(kernel, data.len().div_ceil(4 * 64), caps)?,
            }],
            ..Candidate::default()
        })
    }
}

impl Operator for Lrn {
    fn name(&self) -> &'static str {
        "LRN"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let data = inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        if !data.dtype.is_float() {
            return Err(OpError::Type { input: 0, expected: "a float", got: data.dtype });
        }
        if data.rank().is_some_and(|rank| rank < 2) {
            return Err(OpError::constraint("rank of the input", "2 or more", data.rank().unwrap_or(0)));
        }
        Ok(vec![Fact { dtype: data.dtype, shape: data.shape.clone(), value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let data = inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        let values = floats(&data)?;
        let Lines { len, inner, .. } = Lines::along(data.dims, 1);
        let scale = f64::from(self.alpha) / self.size as f64;
        let results: Vec<f64> = (0..values.len())
            .map(|i| {
                let c = i / inner % len;
                let (first, last) = self.window(c, len);
                let start = i - (c - first) * inner;
                let squares = (0..=last - first).map(|k| values[start + k * inner].powi(2));
                values[i] / (f64::from(self.bias) + scale * squares.sum::<f64>()).powf(f64::from(self.beta))
            })
            .collect();
        Ok(vec![float_tensor(data.dtype, data.dims, &results)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let Some(data) = problem.input(0) else { return Ok(None) };
        if !is_float(data.dtype) || data.is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(LrnKernel { operator: self.clone(), lines: Lines::along(data.dims, 1) })))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.lower_one(problem, caps))
    }

    fn role(&self) -> Role {
        Role::Anchor
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let cost = problem.default_cost();
        // A multiply-add per channel of the window, then a power and a quotient.
        let each = 2u64.saturating_mul(self.size as u64).saturating_add(3);
        Cost { flops: cost.flops.saturating_mul(each), ..cost }
    }
}

struct LrnKernel {
    operator: Lrn,
    lines: Lines,
}

impl CpuKernel for LrnKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        const PIECE: usize = 256;
        let data = run.inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("an output is missing"))?;
        let x = wide(&data)?;
        let Lines { len, inner, .. } = self.lines;
        let Lrn { size, alpha, beta, bias } = self.operator;
        let scale = alpha / size as f32;
        fill_floats(output, |y| {
            cpu::rows(y, inner, run.finish, |start, row| {
                let c = start / inner % len;
                let (first, last) = self.operator.window(c, len);
                let (mut sums, mut terms) = ([0.0f32; PIECE], [0.0f32; PIECE]);
                for (index, y) in row.chunks_mut(PIECE).enumerate() {
                    let at = start + index * PIECE;
                    let (sums, terms) = (&mut sums[..y.len()], &mut terms[..y.len()]);
                    sums.fill(0.0);
                    for k in first..=last {
                        let channel = &x[at + k * inner - c * inner..];
                        sums.iter_mut().zip(channel).for_each(|(sum, x)| *sum += x * x);
                    }
                    // s^-beta = e^(-beta · ln s)
                    sums.iter_mut().for_each(|sum| *sum = bias + scale * *sum);
                    math::log(sums, terms);
                    terms.iter_mut().for_each(|term| *term *= -beta);
                    math::exp(terms, sums);
                    y.iter_mut().zip(&x[at..]).zip(&*sums).for_each(|((y, x), power)| *y = x * power);
                }
            })
        })
    }

    fn finishes(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_window_reaches_further_ahead() {
        let op = Lrn { size: 2, alpha: 2.0, beta: 1.0, bias: 1.0 };
        let x = Tensor::from_vec(&[1, 3, 1], vec![1.0f32, 2.0, 3.0]).unwrap();
        let y = op.reference(&[Some(x.view())], 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<f32>().unwrap(), [1.0 / 6.0, 2.0 / 14.0, 3.0 / 10.0]);
        let wide = Lrn { size: usize::MAX, ..op };
        let y = wide.reference(&[Some(x.view())], 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0]);
    }
}
