//! Matrix products of f32, with every index checked before the kernels run.

#![allow(unsafe_code, reason = "the matrix kernels take pointers")]

use super::tiles::Tile;
use crate::error::OpError;

/// A matrix in a slice: element (i, j) at `i * row_stride + j * column_stride`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    /// The elements, from (0, 0) on.
    pub data: &'a [f32],
    /// Elements between rows.
    pub row_stride: usize,
    /// Elements between columns.
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// The matrix from this row and column on.
    pub fn from(self, row: usize, column: usize) -> Matrix<'a> {
        let start = row * self.row_stride + column * self.column_stride;
        Matrix { data: self.data.get(start..).unwrap_or(&[]), ..self }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        let last = |count: usize, stride: usize| count.checked_sub(1)?.checked_mul(stride);
        let end = last(rows, self.row_stride)
            .zip(last(columns, self.column_stride))
            .and_then(|(row, column)| row.checked_add(column));
        rows == 0 || columns == 0 || end.is_some_and(|end| end < self.data.len())
    }
}

/// What a product does to its destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Store {
    /// Replaces what is there.
    Replace,
    /// Adds to what is there.
    Add,
}

/// Stores `scale * a · b` in a tile; `a` has the tile's rows and `depth` columns. On the calling thread alone.
///
/// # Errors
/// When a matrix does not hold that many rows and columns.
pub(crate) fn multiply(
    tile: &mut Tile<'_>,
    a: Matrix<'_>,
    b: Matrix<'_>,
    depth: usize,
    scale: f32,
    store: Store,
) -> Result<(), OpError> {
    let (rows, columns) = (tile.rows, tile.columns);
    if !a.holds(rows, depth) || !b.holds(depth, columns) {
        return Err(OpError::Internal("a matrix smaller than the product reads"));
    }
    let (first, stride) = tile.destination();
    // SAFETY: `a` and `b` hold every element read (checked above), and the tile every element written.
    unsafe { product(rows, columns, depth, first, stride, a, b, scale, store) }
    Ok(())
}

/// Stores `a · b` in `out`, whose rows follow each other without gaps. On the calling thread alone.
///
/// # Errors
/// When a matrix does not hold that many rows and columns.
pub(crate) fn multiply_into(
    out: &mut [f32],
    rows: usize,
    columns: usize,
    depth: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
) -> Result<(), OpError> {
    let fits = rows.checked_mul(columns).is_some_and(|size| size <= out.len());
    if !fits || !a.holds(rows, depth) || !b.holds(depth, columns) {
        return Err(OpError::Internal("a matrix smaller than the product reads"));
    }
    // SAFETY: `a` and `b` hold every element read and `out` every element written (checked above).
    unsafe { product(rows, columns, depth, out.as_mut_ptr(), columns, a, b, 1.0, Store::Replace) }
    Ok(())
}

/// # Safety
/// `a` must hold rows × depth elements, `b` depth × columns, and `first` must point at rows × columns elements that
/// nobody else uses, `stride` apart by rows, `stride` being at least `columns`.
#[allow(clippy::too_many_arguments, reason = "three sizes and three matrices")]
unsafe fn product(
    rows: usize,
    columns: usize,
    depth: usize,
    first: *mut f32,
    stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    store: Store,
) {
    // Several rows of `a` against a `b` whose columns are contiguous: one row at a time is three times as fast as the
    // blocked kernels, which would first gather all of `b`.
    const FEW: usize = 8;
    let gathers = b.row_stride == 1 && b.column_stride != 1;
    let step = if (2..=FEW).contains(&rows) && gathers && a.column_stride == 1 { 1 } else { rows.max(1) };
    for row in (0..rows).step_by(step) {
        // A slice holds at most isize::MAX bytes, so strides inside it fit isize; those of dimensions of size 1 are
        // never multiplied by more than zero.
        let a = a.from(row, 0);
        // SAFETY: the caller's promise, for these rows.
        unsafe {
            gemm::gemm(
                step.min(rows - row),
                columns,
                depth,
                first.add(row * stride),
                1,
                stride as isize,
                store == Store::Add,
                a.data.as_ptr(),
                a.column_stride as isize,
                a.row_stride as isize,
                b.data.as_ptr(),
                b.column_stride as isize,
                b.row_stride as isize,
                1.0,
                scale,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tiles::{Grid, for_each_tile};
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    #[test]
    fn products_in_every_layout() {
        let sizes = [1usize, 2, 3, 8, 17, 65, 127];
        for (i, &m) in sizes.iter().enumerate() {
            for &n in &sizes {
                let k = sizes[(i + n) % sizes.len()];
                for transposed in 0..4 {
                    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
                    let a_strides = if transposed & 1 == 0 { (k, 1) } else { (1, m) };
                    let b_strides = if transposed & 2 == 0 { (n, 1) } else { (1, k) };
                    let left = Matrix { data: &a, row_stride: a_strides.0, column_stride: a_strides.1 };
                    let right = Matrix { data: &b, row_stride: b_strides.0, column_stride: b_strides.1 };
                    let grid = Grid { planes: 1, rows: m, columns: n, tile_rows: 7, tile_columns: 33 };
                    // What is replaced must not be read: NaN would survive.
                    let mut out = vec![f32::NAN; m * n];
                    for_each_tile(&mut out, 0, &grid, (&mut [], 0), None, |tile, _| {
                        let (a, b) = (left.from(tile.row, 0), right.from(0, tile.column));
                        multiply(tile, a, b, k, 2.0, Store::Replace)?;
                        multiply(tile, a, b, k, 1.0, Store::Add)
                    })
                    .unwrap();
                    for r in 0..m {
                        for c in 0..n {
                            let exact: f64 = (0..k)
                                .map(|x| {
                                    f64::from(a[r * a_strides.0 + x * a_strides.1])
                                        * f64::from(b[x * b_strides.0 + c * b_strides.1])
                                })
                                .sum::<f64>()
                                * 3.0;
                            let got = f64::from(out[r * n + c]);
                            assert!((got - exact).abs() < 1e-4, "{m}x{n}x{k} {transposed}: {got} {exact}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn matrices_that_are_too_small_are_refused() {
        let data = [1.0f32; 5];
        let small = Matrix { data: &data, row_stride: 3, column_stride: 1 };
        let mut out = [0.0; 4];
        assert!(multiply_into(&mut out, 2, 2, 3, small, small).is_err());
        assert!(multiply_into(&mut out, 2, 3, 1, small, small).is_err());
        assert!(multiply_into(&mut out, 2, 2, 1, small, small).is_ok());
        assert_eq!(out, [1.0; 4]);
    }

    #[test]
    fn an_empty_depth_gives_zeros() {
        let nothing = Matrix { data: &[], row_stride: 0, column_stride: 1 };
        let mut out = [f32::NAN; 6];
        multiply_into(&mut out, 2, 3, 0, nothing, nothing).unwrap();
        assert_eq!(out, [0.0; 6]);
    }
}
