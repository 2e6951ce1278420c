//! Reductions of f32 on the CPU: rows in vector lanes, columns side by side, long reductions in segments on all threads.

use rayon::prelude::*;

use super::kind::{Combine, Complete, Kind, Prepare, Steps, larger, smaller};
use super::lines::blocks;
use crate::cpu::math;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::Problem;

/// Elements that are worth a task of their own.
const TASK: usize = 1 << 15;
/// Elements folded into one set of accumulators before these are merged, so that long sums stay exact.
const RUN: usize = 4096;
/// Accumulators of a run.
const LANES: usize = 16;
/// Columns reduced side by side.
const COLUMNS: usize = 256;

/// One pass over [outer, len, inner], to [outer, segments, inner].
#[derive(Clone, Copy, Debug)]
struct Stage {
    steps: Steps,
    len: usize,
    inner: usize,
    segment: usize,
    segments: usize,
    /// What a mean divides by.
    scale: f32,
    /// Elements of the result.
    outputs: usize,
}

struct ReduceF32 {
    stages: Vec<Stage>,
}

/// The kernel for one problem; `None` when it is not over f32 or there is nothing to reduce.
pub(super) fn kernel(kind: Kind, mask: &[bool], problem: &Problem<'_>) -> Option<Box<dyn CpuKernel>> {
    let data = problem.input(0)?;
    if data.dtype != DType::F32 || data.is_empty() || data.dims.len() != mask.len() {
        return None;
    }
    Some(Box::new(ReduceF32 { stages: stages(kind, data.dims, mask) }))
}

fn stages(kind: Kind, dims: &[usize], mask: &[bool]) -> Vec<Stage> {
    let scale = dims.iter().zip(mask).filter(|(_, mark)| **mark).map(|(&dim, _)| dim as f32).product();
    let mut shapes = Vec::new();
    for lines in blocks(dims, mask) {
        // As many tasks as keep the threads of any machine busy, and no smaller than is worth one.
        let wanted = (64 / lines.count().max(1)).min(lines.len * lines.count() / TASK).clamp(1, lines.len);
        let segment = lines.len.div_ceil(wanted);
        let segments = lines.len.div_ceil(segment);
        shapes.push((lines.outer, lines.len, lines.inner, segment, segments));
        if segments > 1 {
            shapes.push((lines.outer, segments, lines.inner, segments, 1));
        }
    }
    let count = shapes.len();
    let stage =
        |(index, (outer, len, inner, segment, segments)): (usize, (usize, usize, usize, usize, usize))| {
            let steps = kind.stage(index, count);
            Stage { steps, len, inner, segment, segments, scale, outputs: outer * segments * inner }
        };
    shapes.into_iter().enumerate().map(stage).collect()
}

impl CpuKernel for ReduceF32 {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let data = run.inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("an output is missing"))?;
        let Some((last, before)) = self.stages.split_last() else { return Ok(()) };
        let mut scratch = bytemuck::try_cast_slice_mut::<u8, f32>(run.scratch)
            .map_err(|_| OpError::Internal("scratch memory is not aligned"))?;
        let mut input: &[f32] = data.slice();
        for stage in before {
            let (result, rest) = std::mem::take(&mut scratch)
                .split_at_mut_checked(stage.outputs)
                .ok_or(OpError::Internal("scratch memory is short"))?;
            stage.run(input, result);
            input = result;
            scratch = rest;
        }
        last.run(input, output.slice());
        Ok(())
    }

    fn scratch(&self) -> usize {
        let before = self.stages.len().saturating_sub(1);
        self.stages[..before].iter().map(|stage| stage.outputs * size_of::<f32>()).sum()
    }
}

impl Stage {
    fn run(&self, input: &[f32], output: &mut [f32]) {
        let sum = |a: f32, b: f32| a + b;
        let magnitude = |sum: f32, x: f32| sum + x.abs();
        let square = |sum: f32, x: f32| sum + x * x;
        let product = |a: f32, b: f32| a * b;
        match (self.steps.prepare, self.steps.combine) {
            (Prepare::Exponential, _) => self.log_sum_exp(input, output),
            (Prepare::None, Combine::Sum) => self.fold(input, output, 0.0, math::sum, sum, sum),
            (Prepare::Magnitude, _) => {
                self.fold(input, output, 0.0, |run| in_lanes(run, 0.0, magnitude, sum), magnitude, sum);
            }
            (Prepare::Square, _) => self.fold(input, output, 0.0, |run| math::dot(run, run), square, sum),
            (_, Combine::Product) => {
                self.fold(input, output, 1.0, |run| in_lanes(run, 1.0, product, product), product, product);
            }
            (_, Combine::Largest) => {
                self.fold(input, output, f32::NEG_INFINITY, math::max, larger, larger);
            }
            (_, Combine::Smallest) => {
                let lanes = |run: &[f32]| in_lanes(run, f32::INFINITY, smaller, smaller);
                self.fold(input, output, f32::INFINITY, lanes, smaller, smaller);
            }
        }
        match self.steps.complete {
            Complete::Divide => output.iter_mut().for_each(|x| *x /= self.scale),
            Complete::Root => output.iter_mut().for_each(|x| *x = x.sqrt()),
            Complete::Logarithm if self.steps.prepare != Prepare::Exponential => {
                output.iter_mut().for_each(|x| *x = x.ln());
            }
            _ => {}
        }
    }

    /// Calls `work(input of the group, its outputs)` for every segment of every outer index: [count, inner] to [inner].
    fn groups(&self, input: &[f32], output: &mut [f32], work: impl Fn(&[f32], &mut [f32]) + Sync) {
        let Stage { len, inner, segment, segments, .. } = *self;
        let per_task = (TASK / (segment * inner)).max(1);
        output.par_chunks_mut(inner * per_task).enumerate().for_each(|(task, chunk)| {
            for (index, out) in chunk.chunks_mut(inner).enumerate() {
                let group = task * per_task + index;
                let start = group % segments * segment;
                let first = (group / segments * len + start) * inner;
                work(&input[first..first + segment.min(len - start) * inner], out);
            }
        });
    }

    /// Folds lines: `run` a piece of a row at a time, `step` one element, `merge` what pieces gave.
    fn fold(
        &self,
        input: &[f32],
        output: &mut [f32],
        start: f32,
        run: impl Fn(&[f32]) -> f32 + Sync,
        step: impl Fn(f32, f32) -> f32 + Sync,
        merge: impl Fn(f32, f32) -> f32 + Sync,
    ) {
        if self.inner == 1 {
            return self.groups(input, output, |row, out| {
                out.fill(row.chunks(RUN).fold(start, |total, piece| merge(total, run(piece))));
            });
        }
        self.groups(input, output, |rows, out| {
            let wide = out.len() > COLUMNS && rows.len() > TASK;
            let columns = |(index, out): (usize, &mut [f32])| {
                out.fill(start);
                for row in rows.chunks(self.inner) {
                    for (slot, &x) in out.iter_mut().zip(&row[index * COLUMNS..]) {
                        *slot = step(*slot, x);
                    }
                }
            };
            if wide {
                out.par_chunks_mut(COLUMNS).enumerate().for_each(columns);
            } else {
                out.chunks_mut(COLUMNS).enumerate().for_each(columns);
            }
        });
    }

    fn log_sum_exp(&self, input: &[f32], output: &mut [f32]) {
        self.groups(input, output, |rows, out| {
            if self.inner == 1 {
                let shift = finite(rows.chunks(RUN).map(math::max).fold(f32::NEG_INFINITY, larger));
                let mut terms = [0.0; COLUMNS];
                let sums = rows.chunks(COLUMNS).map(|piece| {
                    let terms = &mut terms[..piece.len()];
                    terms.copy_from_slice(piece);
                    math::exp_sum(terms, shift)
                });
                let sum: f32 = sums.sum();
                out.fill(sum.ln() + shift);
                return;
            }
            for (index, out) in out.chunks_mut(COLUMNS).enumerate() {
                let rows = || rows.chunks(self.inner).map(|row| &row[index * COLUMNS..][..out.len()]);
                let mut shifts = [f32::NEG_INFINITY; COLUMNS];
                let (mut terms, mut powers, mut sums) = ([0.0; COLUMNS], [0.0; COLUMNS], [0.0; COLUMNS]);
                for row in rows() {
                    shifts.iter_mut().zip(row).for_each(|(slot, &x)| *slot = larger(*slot, x));
                }
                shifts.iter_mut().for_each(|shift| *shift = finite(*shift));
                for row in rows() {
                    terms.iter_mut().zip(row).zip(&shifts).for_each(|((t, &x), shift)| *t = x - shift);
                    math::exp(&terms, &mut powers[..row.len()]);
                    sums.iter_mut().zip(&powers).for_each(|(sum, power)| *sum += power);
                }
                out.iter_mut().zip(&sums).zip(&shifts).for_each(|((y, sum), shift)| *y = sum.ln() + shift);
            }
        });
    }
}

/// An infinite largest value is no shift: inf - inf would be NaN.
fn finite(shift: f32) -> f32 {
    if shift.is_infinite() { 0.0 } else { shift }
}

/// Folds a run in several accumulators, which do not wait for each other.
fn in_lanes(run: &[f32], start: f32, step: impl Fn(f32, f32) -> f32, merge: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (whole, rest) = run.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = step(*lane, x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, x);
    }
    lanes.into_iter().fold(start, merge)
}
