//! Matrix products of floats on the CPU, by tiles of the output.

use std::borrow::Cow;
use std::sync::Arc;

use rayon::prelude::*;

use super::product::Product;
use super::reference::Addend;
use crate::cpu::gemm::{Matrix, Store, multiply};
use crate::cpu::micro::{self, COLUMNS, Right, Rows};
use crate::cpu::packed::{self, Packed};
use crate::cpu::tiles::{Grid, for_each_tile};
use crate::cpu::{fill_floats, floats, is_float, scratch_floats, widened};
use crate::error::OpError;
use crate::ir::numbers::filled;
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::{Operand, Problem};

/// `scale · a · b`, plus input 2 where there is an addend.
pub(super) struct ProductKernel {
    product: Product,
    scale: f32,
    addend: Option<Addend>,
    /// Input 1 in another form, when it is constant.
    constant: Option<Constant>,
    /// Input 1 is put in panels by each run: so many matrices.
    packs: Option<usize>,
}

enum Constant {
    /// In panels, with the scale in it.
    Panels(Arc<Packed>),
    /// Converted to f32.
    Wide(Vec<f32>),
}

impl ProductKernel {
    /// The kernel for a problem; `None` when it is not over floats of 16 or 32 bits.
    pub fn prepare(
        problem: &Problem<'_>,
        product: Product,
        scale: f32,
        addend: Option<Addend>,
    ) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let (Some(b), Some(output)) = (problem.input(1), problem.outputs.first()) else { return Ok(None) };
        let operands = problem.inputs.iter().flatten();
        if !is_float(output.dtype) || operands.into_iter().any(|operand| operand.dtype != output.dtype) {
            return Ok(None);
        }
        let constant = match panels(b, &product, scale)? {
            Some(panels) => Some(Constant::Panels(panels)),
            None => widened(b)?.map(Constant::Wide),
        };
        let packs = if constant.is_none() { packs(&product) } else { None };
        Ok(Some(Box::new(ProductKernel { product, scale, addend, constant, packs })))
    }
}

/// The rows of both factors, or of the right one's transpose, are contiguous, as panels need them.
fn has_rows(product: &Product) -> bool {
    product.depth > 0 && product.a.1 == 1 && (product.b.0 == 1 || product.b.1 == 1)
}

/// How many right factors a run puts in panels first; `None` where that does not pay: with few rows on the left, and for
/// large ones, which other kernels put in order piece by piece.
fn packs(product: &Product) -> Option<usize> {
    const FEW: usize = 8;
    const LARGEST: usize = 4 << 10;
    let same = product.b_batch.iter().all(|&stride| stride == 0);
    let matrices = if same { product.count().min(1) } else { product.count() };
    let len = micro::packed_len(product.depth, product.columns)?.checked_mul(matrices)?;
    (has_rows(product) && product.rows >= FEW && len <= LARGEST).then_some(matrices)
}

/// Puts right factors in panels, one behind the other, with the scale in them.
fn pack(product: &Product, scale: f32, data: &[f32], panels: &mut [f32]) {
    let Product { depth, columns, b: (down, across), .. } = *product;
    let each = columns.div_ceil(COLUMNS).max(1);
    let fill = |(index, panel): (usize, &mut [f32])| {
        let (matrix, first) = (index / each, index % each * COLUMNS);
        let data = data.get(product.offsets(matrix).1 + first * across..).unwrap_or(&[]);
        let columns = COLUMNS.min(columns - first);
        if across == 1 {
            micro::pack(panel, depth, columns, |row, _| data.get(row * down..).unwrap_or(&[]));
        } else {
            micro::pack_transposed(panel, depth, columns, Rows { data, stride: across });
        }
        if scale != 1.0 {
            panel.iter_mut().for_each(|x| *x *= scale);
        }
    };
    // Below this a thread's wake-up costs more than it saves.
    const PARALLEL: usize = 1 << 16;
    if panels.len() < PARALLEL {
        panels.chunks_exact_mut((depth * COLUMNS).max(1)).enumerate().for_each(fill);
    } else {
        panels.par_chunks_exact_mut((depth * COLUMNS).max(1)).enumerate().for_each(fill);
    }
}

/// A constant right factor in panels; `None` where it is not worth it, or the left factor's rows are not contiguous.
fn panels(b: &Operand<'_>, product: &Product, scale: f32) -> Result<Option<Arc<Packed>>, OpError> {
    // More is not worth holding the constant twice.
    const MOST: usize = 64 << 20;
    let Product { depth, columns, b: (down, across), .. } = *product;
    let Some(value) = b.value.filter(|value| value.len() <= MOST && value.len() == depth * columns) else {
        return Ok(None);
    };
    if !has_rows(product) || columns < COLUMNS {
        return Ok(None);
    }
    let len = micro::packed_len(depth, columns).ok_or(OpError::Size)?;
    let form = ("panels", [depth, columns, down, across, scale.to_bits() as usize, value.dtype() as usize]);
    let make = || {
        let value = value.clone().aligned();
        let data = floats(&value.view())?;
        let mut panels = filled(&[len], 0.0)?;
        pack(product, scale, &data, &mut panels);
        Ok(panels)
    };
    Ok(Some(packed::shared(value, form, make)?))
}

/// The right factor of a run.
enum Factor<'a> {
    /// So many elements for each product; 0 where all have the same.
    Panels(&'a [f32], usize),
    Plain(Cow<'a, [f32]>),
}

impl CpuKernel for ProductKernel {
    fn reads_elements(&self, index: usize) -> bool {
        index != 1 || self.constant.is_none()
    }

    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (Some(Some(a)), Some(Some(b)), Some(output)) =
            (run.inputs.first(), run.inputs.get(1), run.outputs.first_mut())
        else {
            return Err(OpError::Internal("a missing factor"));
        };
        let product = &self.product;
        let a = floats(a)?;
        let b = match (&self.constant, self.packs) {
            (Some(Constant::Panels(panels)), _) => Factor::Panels(panels.value(), 0),
            (Some(Constant::Wide(wide)), _) => Factor::Plain(wide.into()),
            (None, Some(matrices)) => {
                let panels = scratch_floats(run.scratch);
                pack(product, self.scale, &floats(b)?, panels);
                let each = if matrices > 1 { panels.len() / matrices } else { 0 };
                Factor::Panels(panels, each)
            }
            (None, None) => Factor::Plain(floats(b)?),
        };
        let c = match (self.addend, run.inputs.get(2)) {
            (Some(addend), Some(Some(c))) => Some((addend, floats(c)?)),
            (Some(_), _) => return Err(OpError::Internal("a missing addend")),
            (None, _) => None,
        };
        let grid = Grid::balanced(product.count(), product.rows, product.columns, product.flops());
        fill_floats(output, |output| {
            for_each_tile(output, 0, &grid, (&mut [], 0), run.finish, |tile, _| {
                let (a_start, b_start) = product.offsets(tile.plane);
                let a = Matrix {
                    data: a.get(a_start..).unwrap_or(&[]),
                    row_stride: product.a.0,
                    column_stride: product.a.1,
                };
                let mut store = Store::Replace;
                if let Some((addend, c)) = &c {
                    store = Store::Add;
                    let (row, column) = (tile.row, tile.column);
                    for r in 0..tile.rows {
                        let start = (row + r) * addend.row_stride + column * addend.column_stride;
                        let c = c.get(start..).unwrap_or(&[]);
                        let slots = tile.row_mut(r).iter_mut();
                        match addend.column_stride {
                            0 => {
                                let value = c.first().copied().unwrap_or(0.0) * addend.factor;
                                slots.for_each(|slot| *slot = value);
                            }
                            _ => slots.zip(c).for_each(|(slot, &x)| *slot = x * addend.factor),
                        }
                    }
                }
                let (a, depth) = (a.from(tile.row, 0), product.depth);
                match &b {
                    Factor::Panels(panels, each) => {
                        let panels = panels.get(tile.plane * each..).unwrap_or(&[]);
                        let a = Rows { data: a.data, stride: a.row_stride };
                        let right = Right::Panels(panels, depth);
                        let done = micro::multiply_tile(tile, a, right, depth, store == Store::Add);
                        done.then_some(()).ok_or(OpError::Internal("a matrix smaller than the product reads"))
                    }
                    Factor::Plain(data) => {
                        let b = Matrix {
                            data: data.get(b_start..).unwrap_or(&[]),
                            row_stride: product.b.0,
                            column_stride: product.b.1,
                        };
                        multiply(tile, a, b.from(0, tile.column), depth, self.scale, store)
                    }
                }
            })
        })
    }

    fn scratch(&self) -> usize {
        let each = micro::packed_len(self.product.depth, self.product.columns).unwrap_or(0);
        self.packs.map_or(0, |matrices| matrices * each * size_of::<f32>())
    }

    fn finishes(&self) -> bool {
        true
    }
}
