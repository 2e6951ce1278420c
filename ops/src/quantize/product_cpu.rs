//! Products of quantized matrices on the CPU.

use rayon::prelude::*;

use super::conv_cpu::words;
use super::ends::{Bounds, Numbers, Places, Requantized, Rounding, fits, zeros};
use crate::cpu::integer::bytes::{self, Bytes, Less, regrouped, unsign, unsigned_zero};
use crate::cpu::integer::words::{Wide, Words, interleave, narrowed, widen};
use crate::cpu::integer::{Arithmetic, AsSums, COLUMNS, End, Rows, multiply};
use crate::cpu::tiles::{Grid, share_out};
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::view::{View, ViewMut};
use crate::matmul::product::Product;
use crate::movement::sizes::{optional, view};
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::Problem;

/// The most elements that a factor is held in again.
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
    /// In 8 bits, where they fit and the processor multiplies bytes, and the sum of each column.
    Bytes(Vec<i8>, Vec<i32>),
    /// In 8 bits, where they fit.
    Narrow(Vec<i8>),
    /// In 16 bits.
    Wide(Vec<i16>),
}

/// Both factors as they are multiplied.
struct Factors<'a, A: Arithmetic> {
    rows: Rows<'a, A::Left>,
    panels: &'a [A::Right],
    /// The zero point that the rows still have.
    zero: i32,
    /// The sum of each column of the panels, where the rows have one.
    sums: &'a [i32],
}

impl<'a, A: Arithmetic> Factors<'a, A> {
    /// Rows without their zero point.
    fn wide(rows: Rows<'a, A::Left>, panels: &'a [A::Right]) -> Factors<'a, A> {
        Factors { rows, panels, zero: 0, sums: &[] }
    }
}

/// A product of quantized matrices.
pub(super) struct ProductKernel {
    product: Product,
    places: Places,
    result: Output,
    bounds: Bounds,
    /// The panels of the second factor, when it is constant.
    packed: Option<Panels>,
    /// Bytes of scratch memory.
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
        let (rows, panels) = (kernel.rows_len::<Wide>(a.len()), kernel.panels_len());
        let (Some(rows), Some(panels)) = (rows, panels) else { return Ok(None) };
        if rows.max(panels) > LARGEST {
            return Ok(None);
        }
        let zero = problem.input(places.w_zero);
        if let (Some(value), None | Some(Some(_))) = (b.value, zero.map(|zero| zero.value)) {
            let zeros = zeros(zero.and_then(|zero| zero.value).map(crate::Tensor::view))?;
            let mut wide = vec![0; panels];
            kernel.pack(&value.view(), &zeros, &mut wide);
            kernel.packed = Some(kernel.held(wide, bytes::is_fast()));
        }
        kernel.scratch = match &kernel.packed {
            Some(Panels::Bytes(..)) if kernel.is_in_place(a.dtype) => 0,
            Some(Panels::Bytes(..)) => kernel.rows_len::<Bytes>(a.len()).unwrap_or(0),
            Some(_) => rows * size_of::<i16>(),
            None => (rows + panels) * size_of::<i16>(),
        };
        Ok(Some(Box::new(kernel)))
    }

    /// The way that a constant factor is held in.
    fn held(&self, wide: Vec<i16>, as_bytes: bool) -> Panels {
        match narrowed(&wide) {
            None => Panels::Wide(wide),
            Some(narrow) if as_bytes => {
                let (panels, sums) = regrouped(&narrow, self.product.depth);
                Panels::Bytes(panels, sums)
            }
            Some(narrow) => Panels::Narrow(narrow),
        }
    }

    /// Matrices among the second factor, one behind the other.
    fn matrices(&self) -> usize {
        if self.product.b_batch.iter().all(|&stride| stride == 0) { 1 } else { self.product.count() }
    }

    /// Panels of one of them.
    fn panels(&self) -> usize {
        self.product.columns.div_ceil(COLUMNS)
    }

    /// Elements of all panels.
    fn panels_len(&self) -> Option<usize> {
        self.panels().checked_mul(Wide::panel_len(self.product.depth))?.checked_mul(self.matrices())
    }

    /// Elements of the rows of the first factor of so many elements.
    fn rows_len<A: Arithmetic>(&self, len: usize) -> Option<usize> {
        len.checked_div(self.product.depth)?.checked_mul(A::row_stride(self.product.depth))
    }

    /// Bytes of the first factor are its rows as they are.
    fn is_in_place(&self, dtype: DType) -> bool {
        let Product { depth, a: (stride, step), .. } = self.product;
        dtype == DType::U8 && step == 1 && stride == depth && depth.is_multiple_of(Bytes::STEP)
    }

    /// Packs the second factor.
    fn pack(&self, b: &View<'_>, zeros: &[i16], panels: &mut [i16]) {
        let Product { columns, depth, b: (row_stride, column_stride), .. } = self.product;
        let (signed, panel) = (b.dtype == DType::I8, Wide::panel_len(depth));
        let matrices = panels.par_chunks_mut((self.panels() * panel).max(1)).enumerate();
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

    /// Fills the rows of the first factor, one behind the other, by `convert`.
    fn fill_rows<A: Arithmetic>(
        &self,
        a: &View<'_>,
        out: &mut [A::Left],
        convert: impl Fn(&[u8], &mut [A::Left]) + Sync,
    ) {
        let Product { rows, depth, a: (stride, step), .. } = self.product;
        out.par_chunks_mut(A::row_stride(depth)).enumerate().with_min_len(16).for_each(|(index, target)| {
            let (target, rest) = target.split_at_mut(depth);
            rest.fill(bytemuck::Zeroable::zeroed());
            if step == 1 {
                convert(a.bytes.get(index * depth..).unwrap_or(&[]), target);
                return;
            }
            // Matrices follow each other; within one, columns do.
            let from = index / rows.max(1) * rows * depth + index % rows.max(1) * stride;
            let column = a.bytes.get(from..).unwrap_or(&[]).iter().step_by(step);
            for (slot, byte) in target.iter_mut().zip(column) {
                convert(&[*byte], std::slice::from_mut(slot));
            }
        });
    }

    /// Fills the output with what `end` makes of the products, from whose sums goes what the first factor's zero point
    /// adds.
    fn fill<A: Arithmetic, T: Copy + Send, E: End<T>>(
        &self,
        out: &mut [T],
        factors: &Factors<'_, A>,
        end: &E,
    ) -> Result<(), OpError> {
        let product = &self.product;
        let mut grid = Grid::balanced(product.count(), product.rows, product.columns, product.flops());
        grid.tile_columns = grid.tile_columns.next_multiple_of(COLUMNS);
        let (stride, depth) = (factors.rows.stride, product.depth);
        share_out(
            out,
            0,
            &grid,
            (&mut [0u8; 0], 0),
            || Ok(()),
            |tile, _, ()| {
                let first = product.offsets(tile.plane).0 / depth + tile.row;
                let rows = Rows { data: factors.rows.data.get(first * stride..).unwrap_or(&[]), stride };
                let matrix = if self.matrices() == 1 { 0 } else { tile.plane * self.panels() };
                let start = (matrix + tile.column / COLUMNS) * A::panel_len(depth);
                let panels = factors.panels.get(start..).unwrap_or(&[]);
                let sums = factors.sums.get(matrix * COLUMNS..).unwrap_or(&[]);
                let end = Less { zero: factors.zero, sums, end };
                multiply::<A, T, _>(tile, tile.row, rows, panels, depth, &end)
            },
        )
    }

    /// What becomes of the sums of these factors.
    fn results<A: Arithmetic>(
        &self,
        inputs: &[Option<View<'_>>],
        output: &mut ViewMut<'_>,
        factors: &Factors<'_, A>,
    ) -> Result<(), OpError> {
        let (channels, places) = (self.product.columns, &self.places);
        match self.result {
            Output::Sums => self.fill(output.slice::<i32>(), factors, &AsSums),
            Output::Bytes(factor) => {
                let end = Requantized::<false>::new(inputs, places, channels, factor, self.bounds)?;
                self.fill(output.bytes, factors, &end)
            }
            Output::Numbers(factor, rounding) => {
                let end = Numbers::new(inputs, places, channels, factor, rounding)?;
                self.fill(output.slice::<f32>(), factors, &end)
            }
        }
    }
}

impl CpuKernel for ProductKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (a, b) = (view(run.inputs, self.places.x)?, view(run.inputs, self.places.w)?);
        let output = run.outputs.first_mut().ok_or(OpError::Internal("a missing output"))?;
        let zero = zeros(optional(run.inputs, self.places.x_zero))?.first().copied().unwrap_or(0);
        let (signed, short) = (a.dtype == DType::I8, OpError::Internal("too little scratch memory"));
        if let Some(Panels::Bytes(panels, sums)) = &self.packed {
            let zero = unsigned_zero(zero, signed).into();
            let rows = if self.is_in_place(a.dtype) {
                Rows { data: a.bytes, stride: self.product.depth }
            } else {
                let len = self.rows_len::<Bytes>(a.bytes.len()).unwrap_or(usize::MAX);
                let rows = run.scratch.get_mut(..len).ok_or(short)?;
                self.fill_rows::<Bytes>(&a, rows, |bytes, out| unsign(bytes, signed, out));
                Rows { data: &*rows, stride: Bytes::row_stride(self.product.depth) }
            };
            return self.results::<Bytes>(run.inputs, output, &Factors { rows, panels, zero, sums });
        }
        let len = self.rows_len::<Wide>(a.bytes.len()).unwrap_or(usize::MAX);
        let (rows, rest) = words(run.scratch).split_at_mut_checked(len).ok_or(short)?;
        self.fill_rows::<Wide>(&a, rows, |bytes, out| widen(bytes, signed, zero, out));
        let rows = Rows { data: &*rows, stride: Wide::row_stride(self.product.depth) };
        match &self.packed {
            Some(Panels::Narrow(panels)) => {
                self.results(run.inputs, output, &Factors::<Words<i8>>::wide(rows, panels))
            }
            Some(Panels::Wide(panels)) => {
                self.results(run.inputs, output, &Factors::<Wide>::wide(rows, panels))
            }
            Some(Panels::Bytes(..)) | None => {
                self.pack(&b, &zeros(optional(run.inputs, self.places.w_zero))?, rest);
                self.results(run.inputs, output, &Factors::<Wide>::wide(rows, rest))
            }
        }
    }

    fn scratch(&self) -> usize {
        self.scratch
    }
}
