//! Products of quantized matrices on the CPU.

use rayon::prelude::*;

use super::ends::{Bounds, Numbers, Places, Requantized, Rounding, fits, zeros};
use crate::cpu::integer::{
    AsSums, COLUMNS, End, Rows, Weight, interleave, multiply, narrowed, panel_len, row_stride, widen,
};
use crate::cpu::tiles::{Grid, share_out};
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::view::{View, ViewMut};
use crate::matmul::product::Product;
use crate::movement::sizes::{optional, view};
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::Problem;

/// The most elements that a factor is held in again, as 16-bit integers.
const LARGEST: usize = 1 << 28;

/// What the results are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Output {
    /// The sums.
    Sums,
    /// Quantized again, the scales times a factor.
    Bytes(f32),
    /// Numbers, the scales times a factor.
    Numbers(f32, Rounding),
}

/// The panels of a constant factor.
enum Panels {
    /// In 8 bits, where they fit.
    Narrow(Vec<i8>),
    /// In 16 bits.
    Wide(Vec<i16>),
}

/// A product of quantized matrices.
pub(super) struct ProductKernel {
    product: Product,
    places: Places,
    result: Output,
    bounds: Bounds,
    /// The panels of the second factor, when it is constant.
    packed: Option<Panels>,
    /// Elements of scratch memory.
    scratch: usize,
}

impl ProductKernel {
    /// The kernel for a problem; `None` when zero points or scales lie along other axes than the columns.
    pub fn prepare(
        problem: &Problem<'_>,
        product: Product,
        places: Places,
        result: Output,
        bounds: Bounds,
    ) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let (Some(a), Some(b), Some(output)) =
            (problem.input(places.x), problem.input(places.w), problem.outputs.first())
        else {
            return Ok(None);
        };
        let expected = match result {
            Output::Sums => output.dtype == DType::I32,
            Output::Bytes(_) => super::ends::is_byte(output.dtype),
            Output::Numbers(..) => output.dtype == DType::F32,
        };
        if product.depth == 0 || !expected || !fits(problem, &places, product.columns) {
            return Ok(None);
        }
        let mut kernel = ProductKernel { product, places, result, bounds, packed: None, scratch: 0 };
        let sizes = [kernel.rows_len(a.len()), kernel.panels_len()];
        if sizes.iter().any(|size| size.is_none_or(|size| size > LARGEST)) {
            return Ok(None);
        }
        let zero = problem.input(places.w_zero);
        if let (Some(value), None | Some(Some(_))) = (b.value, zero.map(|zero| zero.value)) {
            let zeros = zeros(zero.and_then(|zero| zero.value).map(crate::Tensor::view))?;
            let mut panels = vec![0; kernel.panels_len().unwrap_or(0)];
            kernel.pack(&value.view(), &zeros, &mut panels);
            kernel.packed = Some(narrowed(&panels).map_or(Panels::Wide(panels), Panels::Narrow));
        }
        let panels = if kernel.packed.is_some() { None } else { kernel.panels_len() };
        kernel.scratch = kernel.rows_len(a.len()).unwrap_or(0) + panels.unwrap_or(0);
        Ok(Some(Box::new(kernel)))
    }

    /// Matrices among the second factor, one behind the other.
    fn matrices(&self) -> usize {
        if self.product.b_batch.iter().all(|&stride| stride == 0) { 1 } else { self.product.count() }
    }

    /// Elements of the panels of one of them.
    fn matrix_len(&self) -> Option<usize> {
        self.product.columns.div_ceil(COLUMNS).checked_mul(panel_len(self.product.depth))
    }

    fn panels_len(&self) -> Option<usize> {
        self.matrix_len()?.checked_mul(self.matrices())
    }

    /// Elements of the rows of the first factor of so many elements.
    fn rows_len(&self, len: usize) -> Option<usize> {
        len.checked_div(self.product.depth)?.checked_mul(row_stride(self.product.depth))
    }

    /// Packs the second factor.
    fn pack(&self, b: &View<'_>, zeros: &[i16], panels: &mut [i16]) {
        let Product { columns, depth, b: (row_stride, column_stride), .. } = self.product;
        let (signed, panel) = (b.dtype == DType::I8, panel_len(depth));
        let matrices = panels.par_chunks_mut(self.matrix_len().unwrap_or(1).max(1)).enumerate();
        matrices.for_each(|(index, panels)| {
            let start = if self.matrices() == 1 { 0 } else { self.product.offsets(index).1 };
            let bytes = b.bytes.get(start..).unwrap_or(&[]);
            panels.par_chunks_mut(panel).enumerate().for_each(|(index, target)| {
                let mut pair = [[0i16; COLUMNS]; 2];
                let at = index * COLUMNS;
                let width = COLUMNS.min(columns - at);
                for k in (0..depth).step_by(2) {
                    for (half, row) in pair.iter_mut().enumerate() {
                        *row = [0; COLUMNS];
                        if k + half >= depth {
                            continue;
                        }
                        let from = (k + half) * row_stride + at * column_stride;
                        for (j, slot) in row.iter_mut().enumerate().take(width) {
                            let byte = bytes.get(from + j * column_stride).copied().unwrap_or(0);
                            let zero = if zeros.len() == 1 { zeros.first() } else { zeros.get(at + j) };
                            let zero = zero.copied().unwrap_or(0);
                            widen(&[byte], signed, zero, std::slice::from_mut(slot));
                        }
                    }
                    interleave(&pair[0], &pair[1], target, panel, k * COLUMNS);
                }
            });
        });
    }

    /// Widens the first factor, its rows one behind the other.
    fn widen_rows(&self, a: &View<'_>, zero: i16, out: &mut [i16]) {
        let Product { rows, depth, a: (stride, step), .. } = self.product;
        let signed = a.dtype == DType::I8;
        out.par_chunks_mut(row_stride(depth)).enumerate().with_min_len(16).for_each(|(index, target)| {
            let (target, rest) = target.split_at_mut(depth);
            rest.fill(0);
            if step == 1 {
                widen(a.bytes.get(index * depth..).unwrap_or(&[]), signed, zero, target);
                return;
            }
            // Matrices follow each other; within one, columns do.
            let from = index / rows.max(1) * rows * depth + index % rows.max(1) * stride;
            let column = a.bytes.get(from..).unwrap_or(&[]).iter().step_by(step);
            for (slot, byte) in target.iter_mut().zip(column) {
                widen(&[*byte], signed, zero, std::slice::from_mut(slot));
            }
        });
    }

    fn fill<T: Copy + Send, W: Weight>(
        &self,
        out: &mut [T],
        rows: &[i16],
        panels: &[W],
        end: &impl End<T>,
    ) -> Result<(), OpError> {
        let product = &self.product;
        let mut grid = Grid::balanced(product.count(), product.rows, product.columns, product.flops());
        grid.tile_columns = grid.tile_columns.next_multiple_of(COLUMNS);
        let (stride, depth) = (row_stride(product.depth), product.depth);
        let each = self.matrix_len().unwrap_or(0);
        share_out(
            out,
            0,
            &grid,
            (&mut [0u8; 0], 0),
            || Ok(()),
            |tile, _, ()| {
                let first = product.offsets(tile.plane).0 / depth + tile.row;
                let rows = Rows { data: rows.get(first * stride..).unwrap_or(&[]), stride };
                let matrix = if self.matrices() == 1 { 0 } else { tile.plane };
                let start = matrix * each + tile.column / COLUMNS * panel_len(depth);
                multiply(tile, tile.row, rows, panels.get(start..).unwrap_or(&[]), depth, end)
            },
        )
    }
}

impl ProductKernel {
    /// What becomes of the sums of these factors.
    fn results<W: Weight>(
        &self,
        inputs: &[Option<View<'_>>],
        output: &mut ViewMut<'_>,
        rows: &[i16],
        panels: &[W],
    ) -> Result<(), OpError> {
        let (channels, places) = (self.product.columns, &self.places);
        match self.result {
            Output::Sums => self.fill(output.slice::<i32>(), rows, panels, &AsSums),
            Output::Bytes(factor) => {
                let end = Requantized::<false>::new(inputs, places, channels, factor, self.bounds)?;
                self.fill(output.bytes, rows, panels, &end)
            }
            Output::Numbers(factor, rounding) => {
                let end = Numbers::new(inputs, places, channels, factor, rounding)?;
                self.fill(output.slice::<f32>(), rows, panels, &end)
            }
        }
    }
}

impl CpuKernel for ProductKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (a, b) = (view(run.inputs, self.places.x)?, view(run.inputs, self.places.w)?);
        let output = run.outputs.first_mut().ok_or(OpError::Internal("a missing output"))?;
        let whole = run.scratch.len() / 2 * 2;
        let scratch: &mut [i16] = bytemuck::try_cast_slice_mut(&mut run.scratch[..whole]).unwrap_or(&mut []);
        let len = self.rows_len(a.bytes.len()).unwrap_or(usize::MAX);
        if scratch.len() < len {
            return Err(OpError::Internal("too little scratch memory"));
        }
        let (rows, rest) = scratch.split_at_mut(len);
        let zero = zeros(optional(run.inputs, self.places.x_zero))?.first().copied().unwrap_or(0);
        self.widen_rows(&a, zero, rows);
        match &self.packed {
            Some(Panels::Narrow(panels)) => self.results(run.inputs, output, rows, panels),
            Some(Panels::Wide(panels)) => self.results(run.inputs, output, rows, panels),
            None => {
                self.pack(&b, &zeros(optional(run.inputs, self.places.w_zero))?, rest);
                self.results(run.inputs, output, rows, rest)
            }
        }
    }

    fn scratch(&self) -> usize {
        self.scratch * size_of::<i16>()
    }
}
