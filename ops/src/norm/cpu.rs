//! Normalisation and softmax of f32 on the CPU: line by line where lines are rows of memory, side by side where not.

use rayon::prelude::*;

use super::statistic::Statistic;
use crate::cpu::math;
use crate::error::OpError;
use crate::finish::Finish;
use crate::reduce::lines::Lines;

/// Elements that are worth a task of their own.
const TASK: usize = 1 << 14;
/// Elements summed at a time, so that long sums stay exact.
const RUN: usize = 4096;
/// Lines side by side in one task.
const COLUMNS: usize = 256;

/// Fills rows of `len` elements on all threads: `work(index of the row's first element, row)`.
pub(super) fn rows(
    output: &mut [f32],
    len: usize,
    finish: Option<&Finish<'_>>,
    work: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<(), OpError> {
    let chunk = len * (TASK / len).max(1);
    output.par_chunks_mut(chunk).enumerate().try_for_each(|(task, rows)| {
        for (index, row) in rows.chunks_mut(len).enumerate() {
            work(task * chunk + index * len, row);
        }
        finish.map_or(Ok(()), |finish| finish.apply(rows, task * chunk))
    })
}

/// Fills lines that lie side by side. `measure(block, inner, first column, a, b)` finds two numbers for each of some
/// neighbouring lines of a block [len, inner]; `write(inputs, a, b, outputs)` computes neighbouring elements from those
/// of their lines. `scratch` holds two numbers per line.
pub(super) fn columns(
    input: &[f32],
    output: &mut [f32],
    lines: Lines,
    scratch: &mut [f32],
    finish: Option<&Finish<'_>>,
    measure: impl Fn(&[f32], usize, usize, &mut [f32], &mut [f32]) + Sync,
    write: impl Fn(&[f32], &[f32], &[f32], &mut [f32]) + Sync,
) -> Result<(), OpError> {
    let Lines { len, inner, .. } = lines;
    let (a, b) = scratch
        .get_mut(..2 * lines.count())
        .ok_or(OpError::Internal("scratch memory is short"))?
        .split_at_mut(lines.count());
    let blocks = input.par_chunks(len * inner).zip(a.par_chunks_mut(inner)).zip(b.par_chunks_mut(inner));
    blocks.for_each(|((block, a), b)| {
        let pieces = a.par_chunks_mut(COLUMNS).zip(b.par_chunks_mut(COLUMNS)).enumerate();
        pieces.for_each(|(index, (a, b))| measure(block, inner, index * COLUMNS, a, b));
    });
    let (a, b) = (&*a, &*b);
    rows(output, inner, finish, |start, row| {
        let first = start / (len * inner) * inner;
        let lines = first..first + inner;
        write(&input[start..start + inner], &a[lines.clone()], &b[lines], row);
    })
}

/// The bytes of scratch that [`columns`] wants.
pub(super) fn columns_scratch(lines: Lines) -> usize {
    2 * lines.count() * size_of::<f32>()
}

/// The scratch memory of a kernel as floats.
pub(super) fn floats_of(scratch: &mut [u8]) -> Result<&mut [f32], OpError> {
    bytemuck::try_cast_slice_mut(scratch).map_err(|_| OpError::Internal("scratch memory is not aligned"))
}

/// Normalises one row in place.
pub(super) fn normalize_row(statistic: Statistic, epsilon: f32, row: &mut [f32]) {
    let total = |row: &[f32], run: fn(&[f32]) -> f32| row.chunks(RUN).map(|x| f64::from(run(x))).sum::<f64>();
    if statistic.centred() {
        let mean = (total(row, math::sum) / row.len() as f64) as f32;
        row.iter_mut().for_each(|x| *x -= mean);
    }
    let sum = match statistic {
        Statistic::L1 => total(row, |x| x.iter().map(|x| x.abs()).sum()),
        _ => total(row, |x| math::dot(x, x)),
    };
    let factor = statistic.factor(sum, row.len(), f64::from(epsilon)) as f32;
    row.iter_mut().for_each(|x| *x *= factor);
}

/// The means of neighbouring lines, and the factors that normalise what is left.
pub(super) fn normalize_columns(
    (statistic, epsilon): (Statistic, f32),
    (block, inner, first): (&[f32], usize, usize),
    means: &mut [f32],
    factors: &mut [f32],
) {
    let width = means.len();
    let rows = || block.chunks(inner).map(|row| &row[first..first + width]);
    let len = block.len() / inner;
    means.fill(0.0);
    if statistic.centred() {
        for row in rows() {
            means.iter_mut().zip(row).for_each(|(mean, x)| *mean += x);
        }
        means.iter_mut().for_each(|mean| *mean /= len as f32);
    }
    factors.fill(0.0);
    for row in rows() {
        let each = factors.iter_mut().zip(row).zip(&*means);
        if statistic == Statistic::L1 {
            each.for_each(|((sum, x), _)| *sum += x.abs());
        } else {
            each.for_each(|((sum, x), mean)| *sum += (x - mean) * (x - mean));
        }
    }
    for factor in factors {
        *factor = statistic.factor(f64::from(*factor), len, f64::from(epsilon)) as f32;
    }
}

/// The softmax of one row, or its logarithm.
pub(super) fn softmax_row(log: bool, x: &[f32], y: &mut [f32]) {
    let largest = math::max(x);
    if !log {
        y.copy_from_slice(x);
        let sum = math::exp_sum(y, largest);
        let factor = 1.0 / sum;
        y.iter_mut().for_each(|y| *y *= factor);
        return;
    }
    let mut terms = [0.0; COLUMNS];
    let sums = x.chunks(COLUMNS).map(|x| {
        let terms = &mut terms[..x.len()];
        terms.copy_from_slice(x);
        math::exp_sum(terms, largest)
    });
    let logarithm = sums.sum::<f32>().ln();
    y.iter_mut().zip(x).for_each(|(y, x)| *y = (x - largest) - logarithm);
}

/// The largest elements of neighbouring lines, and the sums of the exponentials relative to them: their logarithms, or
/// their inverses.
pub(super) fn softmax_columns(
    log: bool,
    (block, inner, first): (&[f32], usize, usize),
    largest: &mut [f32],
    sums: &mut [f32],
) {
    let width = largest.len();
    let rows = || block.chunks(inner).map(|row| &row[first..first + width]);
    let mut terms = [0.0; COLUMNS];
    let mut powers = [0.0; COLUMNS];
    largest.fill(f32::NEG_INFINITY);
    for row in rows() {
        largest
            .iter_mut()
            .zip(row)
            .for_each(|(max, &x)| *max = if *max >= x || max.is_nan() { *max } else { x });
    }
    sums.fill(0.0);
    for row in rows() {
        terms.iter_mut().zip(row).zip(&*largest).for_each(|((term, x), max)| *term = x - max);
        math::exp(&terms[..width], &mut powers[..width]);
        sums.iter_mut().zip(&powers).for_each(|(sum, power)| *sum += power);
    }
    sums.iter_mut().for_each(|sum| *sum = if log { sum.ln() } else { 1.0 / *sum });
}

/// The elements of [`softmax_columns`]' lines.
pub(super) fn softmax_write(log: bool, x: &[f32], largest: &[f32], sums: &[f32], y: &mut [f32]) {
    let each = |y: &mut [f32], work: fn(f32, f32, f32) -> f32| {
        for (((y, &x), &max), &sum) in y.iter_mut().zip(x).zip(largest).zip(sums) {
            *y = work(x, max, sum);
        }
    };
    if log {
        return each(y, |x, max, sum| (x - max) - sum);
    }
    let mut terms = [0.0; COLUMNS];
    let pieces =
        y.chunks_mut(COLUMNS).zip(x.chunks(COLUMNS)).zip(largest.chunks(COLUMNS)).zip(sums.chunks(COLUMNS));
    for (((y, x), largest), sums) in pieces {
        terms.iter_mut().zip(x).zip(largest).for_each(|((term, x), max)| *term = x - max);
        math::exp(&terms[..y.len()], y);
        y.iter_mut().zip(sums).for_each(|(y, sum)| *y *= sum);
    }
}
