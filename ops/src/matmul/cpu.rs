//! Matrix products of floats on the CPU, by tiles of the output.

use super::product::Product;
use super::reference::Addend;
use crate::cpu::gemm::{Matrix, Store, multiply};
use crate::cpu::tiles::{Grid, for_each_tile};
use crate::cpu::{fill_floats, floats, is_float, widened};
use crate::error::OpError;
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::Problem;

/// `scale · a · b`, plus input 2 where there is an addend.
pub(super) struct ProductKernel {
    product: Product,
    scale: f32,
    addend: Option<Addend>,
    /// Input 1 with contiguous rows, when it is constant and lies otherwise.
    packed: Option<Vec<f32>>,
}

impl ProductKernel {
    /// The kernel for a problem; `None` when it is not over floats of 16 or 32 bits.
    pub fn prepare(
        problem: &Problem<'_>,
        mut product: Product,
        scale: f32,
        addend: Option<Addend>,
    ) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        // More is not worth holding the constant twice.
        const MOST: usize = 16 << 20;
        let (Some(b), Some(output)) = (problem.input(1), problem.outputs.first()) else { return Ok(None) };
        let operands = problem.inputs.iter().flatten();
        if !is_float(output.dtype) || operands.into_iter().any(|operand| operand.dtype != output.dtype) {
            return Ok(None);
        }
        let constant = b.value.filter(|value| value.len() <= MOST);
        // A single row reads each element once, in whichever order.
        let packed = match constant {
            Some(value) if product.b.0 == 1 && product.b.1 != 1 && product.rows > 1 => {
                let value = value.clone().aligned();
                let packed = transpose(&floats(&value.view())?, product.columns, product.depth);
                product.b = (product.columns, 1);
                Some(packed)
            }
            _ => widened(b)?,
        };
        Ok(Some(Box::new(ProductKernel { product, scale, addend, packed })))
    }
}

/// Matrices of `rows` rows and `columns` columns, one behind the other, each transposed.
pub(crate) fn transpose<T: Copy>(data: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut result = Vec::with_capacity(data.len());
    for matrix in data.chunks_exact((rows * columns).max(1)) {
        for column in 0..columns {
            result.extend(matrix.iter().skip(column).step_by(columns));
        }
    }
    result
}

impl CpuKernel for ProductKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (Some(Some(a)), Some(Some(b)), Some(output)) =
            (run.inputs.first(), run.inputs.get(1), run.outputs.first_mut())
        else {
            return Err(OpError::Internal("a missing factor"));
        };
        let product = &self.product;
        let a = floats(a)?;
        let wide = if self.packed.is_none() { floats(b)? } else { Default::default() };
        let b: &[f32] = self.packed.as_deref().unwrap_or(&wide);
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
                let b = Matrix {
                    data: b.get(b_start..).unwrap_or(&[]),
                    row_stride: product.b.0,
                    column_stride: product.b.1,
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
                let (a, b) = (a.from(tile.row, 0), b.from(0, tile.column));
                multiply(tile, a, b, product.depth, self.scale, store)
            })
        })
    }

    fn finishes(&self) -> bool {
        true
    }
}
