//! Pooling of values whose channels lie in blocks: a vector is a pixel's block.

#![allow(unsafe_code, reason = "calling code compiled for vector instructions that were just detected")]

use std::sync::Arc;

use rayon::prelude::*;

use super::planes::{Kind, Planes};
use super::window::{Axis, Window};
use crate::cpu::vector::{Isa, LANES};
use crate::error::OpError;
use crate::ir::dim::from_known;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::layout::{Blocking, Reorder, blockable, blocked_dims};
use crate::movement::sizes::{required, view};
use crate::operator::{CpuKernel, CpuRun, Operator, Role};
use crate::problem::Problem;

/// A pooling over values in blocks.
#[derive(Clone, Debug)]
struct BlockedPool {
    plain: Arc<dyn Operator>,
    kind: Kind,
    axes: [Axis; 2],
    /// Dimensions of the input when it is not in blocks.
    input: Vec<usize>,
    /// Dimensions of the output when it is not in blocks.
    output: Vec<usize>,
}

/// How a pooling works in blocks, where its input is in blocks.
pub(super) fn blocking(
    plain: Arc<dyn Operator>,
    window: &Window,
    kind: Kind,
    problem: &Problem<'_>,
    block: usize,
    blocked: &[bool],
) -> Option<Blocking> {
    let (x, [output]) = (problem.input(0)?, problem.outputs.as_slice()) else { return None };
    let there = blocked.first().copied().unwrap_or(false) && block == LANES;
    let typed = x.dtype == DType::F32 || kind == Kind::Max && blockable(x.dtype);
    if !there || !typed || x.is_empty() || output.is_empty() {
        return None;
    }
    blocked_dims(x.dims, block)?;
    let planes = Planes::new(window, x.dims).ok()?;
    let axes = *planes.axes.first_chunk::<2>()?;
    if matches!(kind, Kind::Lp(_)) {
        return None;
    }
    let op = BlockedPool { plain, kind, axes, input: x.dims.to_vec(), output: output.dims.to_vec() };
    Some(Blocking::of_all(Arc::new(op), 1))
}

impl BlockedPool {
    fn output_dims(&self) -> Vec<usize> {
        blocked_dims(&self.output, LANES).unwrap_or_default()
    }

    /// The windows along an axis.
    fn spans(&self, axis: &Axis) -> Vec<Span> {
        let each = |o: usize| {
            let taps = axis.taps(o);
            let divisor = match self.kind {
                Kind::Average { include_pad: true } => axis.padded_taps(o),
                _ => taps.len(),
            };
            let first = if taps.is_empty() { 0 } else { axis.position(o, taps.start) };
            Span { first, taps: taps.len(), divisor: divisor.max(1) as f32 }
        };
        (0..axis.output).map(each).collect()
    }
}

/// A window along an axis.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// The input element of the first tap inside.
    first: usize,
    /// Taps inside.
    taps: usize,
    /// The number of taps that a mean divides by.
    divisor: f32,
}

/// How blocks of a window become one.
struct Fold<T, C, E> {
    start: T,
    /// Of two blocks.
    combine: C,
    /// From what was combined, and the number of elements that it counts as.
    end: E,
}

/// The same for each element of two blocks.
fn elementwise(combine: impl Fn(f32, f32) -> f32) -> impl Fn([f32; LANES], [f32; LANES]) -> [f32; LANES] {
    #[inline(always)]
    move |y, x| std::array::from_fn(|i| combine(y[i], x[i]))
}

/// The larger bytes of two blocks, all at once.
#[inline(always)]
fn larger<const SIGNED: bool, T: bytemuck::Pod + Ord>(a: [T; LANES], b: [T; LANES]) -> [T; LANES] {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_max_epu8};
        // The order of signed bytes is that of unsigned ones whose highest bit is flipped.
        let flip = if SIGNED { 0x8080_8080_8080_8080u64 as i64 } else { 0 };
        let [a, b] = [a, b].map(|block| bytemuck::cast::<_, i64>(block) ^ flip);
        // SAFETY: every x86-64 has these instructions.
        let most = unsafe { _mm_cvtsi128_si64(_mm_max_epu8(_mm_cvtsi64_si128(a), _mm_cvtsi64_si128(b))) };
        bytemuck::cast(most ^ flip)
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::array::from_fn(|i| a[i].max(b[i]))
}

/// Pools one block's plane.
#[inline(always)]
fn plane<T: Copy, C: Fn([T; LANES], [T; LANES]) -> [T; LANES], E: Fn(T, f32) -> T>(
    kernel: &BlockedPoolKernel,
    x: &[[T; LANES]],
    y: &mut [[T; LANES]],
    fold: &Fold<T, C, E>,
) {
    let [height, width] = &kernel.op.axes;
    for (rows, line) in kernel.rows.iter().zip(y.chunks_exact_mut(kernel.columns.len().max(1))) {
        for (columns, pixel) in kernel.columns.iter().zip(line) {
            let mut all = [fold.start; LANES];
            let mut row = rows.first * width.input + columns.first;
            for _ in 0..rows.taps {
                let mut at = row;
                for _ in 0..columns.taps {
                    all = (fold.combine)(all, x[at]);
                    at += width.dilation;
                }
                row += height.dilation * width.input;
            }
            *pixel = all.map(|y| (fold.end)(y, rows.divisor * columns.divisor));
        }
    }
}

impl BlockedPoolKernel {
    fn plane<T: Copy, C: Fn([T; LANES], [T; LANES]) -> [T; LANES], E: Fn(T, f32) -> T>(
        &self,
        x: &[[T; LANES]],
        y: &mut [[T; LANES]],
        fold: &Fold<T, C, E>,
    ) {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2,fma")]
            fn wide<T: Copy, C: Fn([T; LANES], [T; LANES]) -> [T; LANES], E: Fn(T, f32) -> T>(
                kernel: &BlockedPoolKernel,
                x: &[[T; LANES]],
                y: &mut [[T; LANES]],
                fold: &Fold<T, C, E>,
            ) {
                plane(kernel, x, y, fold);
            }
            if self.isa == Isa::Avx2 {
                // SAFETY: `isa` was detected.
                return unsafe { wide(self, x, y, fold) };
            }
        }
        plane(self, x, y, fold);
    }

    /// Pools all blocks; `finish` gets each, and where it begins.
    fn pool<
        T: Copy + Send + Sync,
        C: Fn([T; LANES], [T; LANES]) -> [T; LANES] + Sync,
        E: Fn(T, f32) -> T + Sync,
    >(
        &self,
        x: &[T],
        y: &mut [T],
        fold: &Fold<T, C, E>,
        finish: impl Fn(&mut [T], usize) -> Result<(), OpError> + Sync,
    ) -> Result<(), OpError> {
        let [height, width] = &self.op.axes;
        let (from, to) = (height.input * width.input * LANES, height.output * width.output * LANES);
        if x.len() / from != y.len() / to || !x.len().is_multiple_of(from) {
            return Err(OpError::Internal("a pooling kernel for other sizes"));
        }
        let blocks = x.par_chunks_exact(from).zip(y.par_chunks_exact_mut(to));
        blocks.enumerate().try_for_each(|(block, (x, y))| {
            self.plane(x.as_chunks().0, y.as_chunks_mut().0, fold);
            finish(y, block * to)
        })
    }
}

impl Operator for BlockedPool {
    fn name(&self) -> &'static str {
        self.plain.name()
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::new(required(inputs, 0)?.dtype, from_known(&self.output_dims()))])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = Reorder::out_of_blocks(&self.input).reference(&[Some(view(inputs, 0)?)], 1)?.remove(0);
        let y = self.plain.reference(&[Some(x.view())], 1)?;
        let y = y.first().map(Tensor::view);
        Reorder::into_blocks(&self.output, self.output_dims()).reference(&[y], 1)
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let [rows, columns] = self.axes.each_ref().map(|axis| self.spans(axis));
        let floats = problem.input(0).is_some_and(|x| x.dtype == DType::F32);
        Ok(Some(Box::new(BlockedPoolKernel { op: self.clone(), isa: Isa::detect(), floats, rows, columns })))
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

struct BlockedPoolKernel {
    op: BlockedPool,
    isa: Isa,
    /// It pools floats, and finishes them.
    floats: bool,
    rows: Vec<Span>,
    columns: Vec<Span>,
}

impl CpuKernel for BlockedPoolKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let x = view(run.inputs, 0)?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("no output"))?;
        match x.dtype {
            DType::I8 => {
                let fold = Fold { start: i8::MIN, combine: larger::<true, i8>, end: |y, _| y };
                self.pool(x.slice::<i8>(), output.slice::<i8>(), &fold, |_, _| Ok(()))
            }
            DType::U8 => {
                let fold = Fold { start: u8::MIN, combine: larger::<false, u8>, end: |y, _| y };
                self.pool(x.bytes, output.bytes, &fold, |_, _| Ok(()))
            }
            _ => {
                let finish =
                    |y: &mut [f32], at: usize| run.finish.map_or(Ok(()), |finish| finish.apply(y, at));
                let (x, y) = (x.slice::<f32>(), output.slice::<f32>());
                match self.op.kind {
                    Kind::Max => {
                        let combine = elementwise(|y, x| if x > y { x } else { y });
                        self.pool(x, y, &Fold { start: f32::NEG_INFINITY, combine, end: |y, _| y }, finish)
                    }
                    _ => {
                        let combine = elementwise(|y, x| y + x);
                        self.pool(x, y, &Fold { start: 0.0, combine, end: |y, count| y / count }, finish)
                    }
                }
            }
        }
    }

    fn finishes(&self) -> bool {
        self.floats
    }
}

#[cfg(test)]
mod tests {
    use super::super::average_pool::AveragePool;
    use super::super::max_pool::MaxPool;
    use super::super::window::AutoPad;
    use super::*;
    use crate::cpu::check::{agrees, random, run_cpu, with_problem};

    #[test]
    fn pooling_in_blocks_agrees() {
        for (kernel, stride, pads, ceil) in
            [(3, 2, [1, 0], true), (2, 1, [1, 1], false), (5, 3, [0, 4], true), (1, 1, [0, 0], false)]
        {
            let window = Window {
                kernel: vec![kernel; 2],
                strides: vec![stride; 2],
                dilations: vec![1, 1],
                pads: vec![pads[0], pads[0], pads[1], pads[1]],
                auto_pad: AutoPad::NotSet,
                ceil,
            };
            let all: [Arc<dyn Operator>; 3] = [
                Arc::new(MaxPool { window: window.clone(), indices: false, column_major: false }),
                Arc::new(AveragePool { window: window.clone(), include_pad: false }),
                Arc::new(AveragePool { window: window.clone(), include_pad: true }),
            ];
            for op in all {
                let dims = [2, 24, 17, 33];
                let x = random(&dims, 3);
                let blocking = with_problem(&*op, &[Some(x.clone())], &[], |problem, _| {
                    assert!(op.blocked(problem, LANES, &[false]).is_none());
                    op.blocked(problem, LANES, &[true]).unwrap()
                });
                let into = Reorder::into_blocks(&dims, blocked_dims(&dims, LANES).unwrap());
                let x = into.reference(&[Some(x.view())], 1).unwrap().remove(0);
                agrees(&*blocking.op, &[Some(x)], &[], 1e-5);
            }
            for dtype in [DType::I8, DType::U8] {
                let op = MaxPool { window: window.clone(), indices: false, column_major: false };
                let dims = [2, 3, 17, 33, LANES];
                let bytes = (0..dims.iter().product::<usize>()).map(|i| ((i * i * 7) >> 3) as u8);
                let x = Tensor::from_bytes(dtype, &dims, bytes.collect::<Vec<u8>>().into()).unwrap();
                let plain = Tensor::from_bytes(dtype, &[2, 24, 17, 33], x.bytes().to_vec().into()).unwrap();
                let blocking = with_problem(&op, &[Some(plain)], &[], |problem, _| {
                    op.blocked(problem, LANES, &[true]).unwrap()
                });
                let exact = blocking.op.reference(&[Some(x.view())], 1).unwrap().remove(0);
                let got = run_cpu(&*blocking.op, &[Some(x)], &[], None).unwrap();
                assert_eq!(got.bytes(), exact.bytes());
            }
        }
    }
}
