//! Resizing on the CPU: one axis after the other.

use rayon::prelude::*;

use super::resize::{Resize, Tables};
use super::table::{Mode, Table};
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::assemble::{by_size, coordinates, elements, elements_mut, row_major, select};
use crate::movement::constant_of_shape::filled;
use crate::movement::number::{Number, by_number};
use crate::movement::sizes::view;
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::{Operand, Problem};

/// The oracle: nearest elements as they are, others as sums in f64.
pub(super) fn reference(
    op: &Resize,
    x: &View<'_>,
    dims: &[usize],
    tables: &[(usize, Table)],
) -> Result<Tensor, OpError> {
    if !matches!(op.method.mode, Mode::Nearest(_)) {
        return by_number!(x.dtype, sums(op, x, dims, tables));
    }
    let strides = row_major(x.dims);
    let outside = tables.iter().any(|(_, table)| table.index.contains(&-1));
    let fill = outside.then(|| filled(x.dtype, &[], f64::from(op.extrapolation))).transpose()?;
    select(x, dims, fill.as_ref().map(Tensor::view).as_ref(), |i| {
        let mut at = coordinates(i, dims);
        for (axis, table) in tables {
            at[*axis] = usize::try_from(table.index[at[*axis]]).ok()?;
        }
        Some(at.iter().zip(&strides).map(|(c, stride)| c * stride).sum())
    })
}

fn sums<T: Number>(
    op: &Resize,
    x: &View<'_>,
    dims: &[usize],
    tables: &[(usize, Table)],
) -> Result<Tensor, OpError> {
    let mut data: Vec<f64> = x.slice::<T>().iter().map(|&x| x.to_f64()).collect();
    let mut shape = x.dims.to_vec();
    for (axis, table) in tables {
        let (outer, inner): (usize, usize) =
            (shape[..*axis].iter().product(), shape[axis + 1..].iter().product());
        let (input, output) = (shape[*axis], table.index.len() / table.taps);
        let mut next = Vec::new();
        next.try_reserve_exact(outer * output * inner).map_err(|_| OpError::Size)?;
        for row in 0..outer * output {
            let taps = row % output * table.taps..(row % output + 1) * table.taps;
            let (index, weight) = (&table.index[taps.clone()], &table.weight[taps]);
            for c in 0..inner {
                let mut sum = 0.0;
                for (&index, &weight) in index.iter().zip(weight) {
                    sum = match usize::try_from(index) {
                        Ok(index) => sum + weight * data[(row / output * input + index) * inner + c],
                        Err(_) => f64::from(op.extrapolation),
                    };
                }
                next.push(sum);
            }
        }
        shape[*axis] = output;
        data = next;
    }
    Ok(Tensor::from_vec(dims, data.into_iter().map(T::from_f64).collect())?)
}

/// One pass along one axis, as `outer × axis × inner`.
#[derive(Clone, Copy)]
struct Pass {
    table: usize,
    input: usize,
    output: usize,
    inner: usize,
    /// Elements of its result.
    len: usize,
}

/// Resizes by passes over axes, the most shrinking one first.
pub struct ResizeKernel {
    op: Resize,
    /// Bytes of an element.
    size: usize,
    /// Elements between passes.
    between: usize,
    /// Tables made when the kernel was.
    tables: Option<Tables>,
}

impl ResizeKernel {
    /// A kernel for f32, and for nearest elements of any size in bytes; `None` for others.
    pub fn prepare(op: &Resize, problem: &Problem<'_>) -> Option<Box<dyn CpuKernel>> {
        let (x, y) = (problem.input(0)?, problem.outputs.first()?);
        let nearest = matches!(op.method.mode, Mode::Nearest(_));
        if x.dtype != DType::F32 && !(nearest && x.dtype.bits() >= 8) {
            return None;
        }
        if x.dims.len() != y.dims.len() {
            return None;
        }
        let changed = x.dims.iter().zip(y.dims).filter(|(a, b)| a != b);
        // Cropping resizes axes that keep their extent: room for as many passes as there are axes.
        let passes = x.dims.len().max(changed.count());
        let most = x.dims.iter().zip(y.dims).try_fold(1usize, |n, (&a, &b)| n.checked_mul(a.max(b)))?;
        let between = if passes > 1 { most } else { 0 };
        let tables = op.tables_of_problem(problem).ok();
        let passes = tables.as_ref().map(|(_, tables)| tables.len());
        let between = match (passes, &tables) {
            (Some(0 | 1), _) => 0,
            (Some(_), Some((_, tables))) => longest(x.dims, tables),
            _ => between,
        };
        Some(Box::new(ResizeKernel { op: op.clone(), size: x.dtype.bits() / 8, between, tables }))
    }

    /// A kernel for f32 with the output's dimensions and tables.
    pub(super) fn with_tables(op: &Resize, x: &Operand<'_>, tables: Tables) -> ResizeKernel {
        let between = longest(x.dims, &tables.1);
        ResizeKernel { op: op.clone(), size: x.dtype.bits() / 8, between, tables: Some(tables) }
    }
}

/// Elements of the largest result between passes.
fn longest(dims: &[usize], tables: &[(usize, Table)]) -> usize {
    let passes = order(dims, tables);
    let before = passes.len().saturating_sub(1);
    passes.iter().take(before).map(|pass| pass.len).max().unwrap_or(0)
}

/// The passes in the order that keeps what lies between small.
fn order(dims: &[usize], tables: &[(usize, Table)]) -> Vec<Pass> {
    let mut order: Vec<usize> = (0..tables.len()).collect();
    let growth = |index: usize| {
        let (axis, table) = &tables[index];
        (table.index.len() / table.taps) as f64 / dims[*axis].max(1) as f64
    };
    order.sort_by(|&a, &b| growth(a).total_cmp(&growth(b)));
    let mut shape = dims.to_vec();
    let passes = order.into_iter().map(|index| {
        let (axis, table) = &tables[index];
        let (input, output) = (shape[*axis], table.index.len() / table.taps);
        shape[*axis] = output;
        let inner = shape[axis + 1..].iter().product();
        Pass { table: index, input, output, inner, len: shape.iter().product() }
    });
    passes.collect()
}

impl CpuKernel for ResizeKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let x = view(run.inputs, 0)?;
        let made;
        let (dims, tables) = match &self.tables {
            Some((dims, tables)) => (dims, tables),
            None => {
                made = self.op.tables_of_run(run.inputs)?;
                (&made.0, &made.1)
            }
        };
        let output = run.outputs.first_mut().ok_or(OpError::Internal("no output"))?;
        if output.dims != dims.as_slice() {
            return Err(OpError::Internal("an output of another size"));
        }
        if output.bytes.is_empty() {
            return Ok(());
        }
        let passes = order(x.dims, tables);
        let Some((last, before)) = passes.split_last() else {
            output.bytes.copy_from_slice(x.bytes);
            return Ok(());
        };
        let half = self.between * self.size;
        let (mut from, mut to) = run
            .scratch
            .get_mut(..2 * half)
            .ok_or(OpError::Internal("scratch of another size"))?
            .split_at_mut(half);
        let mut first = true;
        for pass in before {
            let bytes = pass.len * self.size;
            let source = if first { x.bytes } else { &*from };
            self.pass(pass, &tables[pass.table].1, source, &mut to[..bytes])?;
            std::mem::swap(&mut from, &mut to);
            first = false;
        }
        let source = if first { x.bytes } else { &*from };
        self.pass(last, &tables[last.table].1, source, output.bytes)
    }

    fn scratch(&self) -> usize {
        2 * self.between * self.size
    }
}

impl ResizeKernel {
    fn pass(&self, pass: &Pass, table: &Table, x: &[u8], y: &mut [u8]) -> Result<(), OpError> {
        if matches!(self.op.method.mode, Mode::Nearest(_)) && !table.index.contains(&-1) {
            return by_size!(self.size, nearest(pass, table, x, y));
        }
        let (Ok(x), Ok(y)) = (bytemuck::try_cast_slice(x), bytemuck::try_cast_slice_mut(y)) else {
            return Err(OpError::Internal("unaligned floats"));
        };
        if self.size != 4 {
            return Err(OpError::unsupported("an extrapolation value of this type"));
        }
        interpolate(pass, table, self.op.extrapolation, x, y);
        Ok(())
    }
}

/// Copies the nearest rows.
fn nearest<const N: usize>(pass: &Pass, table: &Table, x: &[u8], y: &mut [u8]) -> Result<(), OpError> {
    let (x, y) = (elements::<N>(x), elements_mut::<N>(y));
    let plane = pass.output * pass.inner;
    y.par_chunks_mut(plane).enumerate().with_min_len(1 + 4096 / plane).for_each(|(outer, y)| {
        let x = &x[outer * pass.input * pass.inner..(outer + 1) * pass.input * pass.inner];
        if pass.inner == 1 {
            for (slot, &index) in y.iter_mut().zip(&table.index) {
                *slot = x[index as usize];
            }
            return;
        }
        for (row, &index) in y.chunks_exact_mut(pass.inner).zip(&table.index) {
            row.copy_from_slice(&x[index as usize * pass.inner..(index as usize + 1) * pass.inner]);
        }
    });
    Ok(())
}

/// Sums weighted rows.
fn interpolate(pass: &Pass, table: &Table, extrapolation: f32, x: &[f32], y: &mut [f32]) {
    let weights: Vec<f32> = table.weight.iter().map(|&weight| weight as f32).collect();
    let plane = pass.output * pass.inner;
    let taps = table.taps;
    y.par_chunks_mut(plane).enumerate().with_min_len(1 + 4096 / plane).for_each(|(outer, y)| {
        let x = &x[outer * pass.input * pass.inner..(outer + 1) * pass.input * pass.inner];
        for (o, row) in y.chunks_exact_mut(pass.inner).enumerate() {
            let (index, weight) =
                (&table.index[o * taps..(o + 1) * taps], &weights[o * taps..(o + 1) * taps]);
            if index.contains(&-1) {
                row.fill(extrapolation);
                continue;
            }
            if pass.inner == 1 {
                row[0] = index.iter().zip(weight).map(|(&index, &weight)| weight * x[index as usize]).sum();
                continue;
            }
            let source = |index: i32| &x[index as usize * pass.inner..(index as usize + 1) * pass.inner];
            if let (&[a, b], &[u, v]) = (index, weight) {
                for ((slot, &a), &b) in row.iter_mut().zip(source(a)).zip(source(b)) {
                    *slot = u * a + v * b;
                }
                continue;
            }
            row.fill(0.0);
            for (&index, &weight) in index.iter().zip(weight) {
                for (slot, &x) in row.iter_mut().zip(source(index)) {
                    *slot += weight * x;
                }
            }
        }
    });
}
