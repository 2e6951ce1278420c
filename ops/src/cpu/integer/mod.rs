//! Products of matrices of bytes on the CPU, exact: no step saturates, and sums wrap in 32 bits as those of the references
//! do. (The instruction that multiplies bytes and adds up in 16 bits saturates where both factors are large.)
//!
//! [`words`] widens bytes without their zero points to 16 bits, which serves every pairing on every processor. [`bytes`]
//! leaves them as they are, for processors that add up four products of bytes in 32 bits.

#![allow(
    unsafe_code,
    reason = "vector instructions that were just detected, and pointers checked before the loops"
)]

pub(crate) mod bytes;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use super::tiles::Tile;
use crate::error::OpError;

/// Columns of a panel.
pub(crate) const COLUMNS: usize = 16;

/// The most rows that a kernel computes at once.
const MOST_ROWS: usize = 12;

/// Sums of one kernel.
type Sums = [[i32; COLUMNS]; MOST_ROWS];

/// The left factor: rows of `stride` elements.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, X> {
    /// The elements, from the first row on.
    pub data: &'a [X],
    /// Elements between rows.
    pub stride: usize,
}

/// What becomes of sums before they are stored.
pub(crate) trait End<T>: Sync {
    /// The results for eight sums of a row, from a column on. Past the end of a row anything may come back.
    fn eight(&self, row: usize, column: usize, sums: [i32; 8]) -> [T; 8];
}

/// Sums as they are.
pub(crate) struct AsSums;

impl End<i32> for AsSums {
    #[inline(always)]
    fn eight(&self, _row: usize, _column: usize, sums: [i32; 8]) -> [i32; 8] {
        sums
    }
}

/// Stores the results for a run of a row.
#[inline(always)]
pub(crate) fn store<T: Copy>(end: &impl End<T>, row: usize, column: usize, sums: &[i32], out: &mut [T]) {
    let (whole, rest) = sums.as_chunks::<8>();
    let (slots, tail) = out.as_chunks_mut::<8>();
    for (index, (slot, sums)) in slots.iter_mut().zip(whole).enumerate() {
        *slot = end.eight(row, column + 8 * index, *sums);
    }
    if !tail.is_empty() {
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(slot, &sum)| *slot = sum);
        let results = end.eight(row, column + 8 * whole.len(), last);
        tail.iter_mut().zip(results).for_each(|(slot, result)| *slot = result);
    }
}

/// What factors are made of, and how they are multiplied.
pub(crate) trait Arithmetic: Send + Sync + Sized + 'static {
    /// An element of the left factor, whose rows have whole steps.
    type Left: bytemuck::Pod + Send + Sync;
    /// An element of the right factor, which lies in panels: for each step of the depth and each of the panel's columns
    /// [`STEP`](Arithmetic::STEP) elements next to each other.
    type Right: Copy + Send + Sync + 'static;
    /// Elements of the depth that one instruction multiplies and adds up for each column.
    const STEP: usize;
    /// Rows that a kernel computes at once, at most [`MOST_ROWS`].
    const ROWS: usize;

    /// The product of two elements.
    fn product(left: Self::Left, right: Self::Right) -> i32;

    /// Fills a tile as [`multiply`] does, which has checked that the factors are there.
    ///
    /// # Safety
    /// Each row of the tile has `steps` steps, and each of its panels.
    unsafe fn fill<T: Copy, E: End<T>>(
        tile: &mut Tile<'_, T>,
        first: usize,
        rows: Rows<'_, Self::Left>,
        panels: &[Self::Right],
        steps: usize,
        end: &E,
    );

    /// Elements of a row whose `depth` elements are followed by zeros: whole steps, and not a multiple of a page, which
    /// would map all rows to the same lines of the cache.
    fn row_stride(depth: usize) -> usize {
        let (whole, size) = (depth.next_multiple_of(Self::STEP), size_of::<Self::Left>());
        if (whole * size).is_multiple_of(2048) { whole + 64 / size } else { whole }
    }

    /// Elements of a panel over so many elements of depth.
    fn panel_len(depth: usize) -> usize {
        depth.next_multiple_of(Self::STEP) * COLUMNS
    }
}

/// Fills a tile with what `end` makes of the products of its rows and `panels`, which hold its columns. The first of
/// the rows is row `first` for `end`. On the calling thread alone.
///
/// # Errors
/// When a factor is smaller than the tile.
pub(crate) fn multiply<A: Arithmetic, T: Copy, E: End<T>>(
    tile: &mut Tile<'_, T>,
    first: usize,
    rows: Rows<'_, A::Left>,
    panels: &[A::Right],
    depth: usize,
    end: &E,
) -> Result<(), OpError> {
    let steps = depth.div_ceil(A::STEP);
    let before = tile.rows.saturating_sub(1).checked_mul(rows.stride);
    let last = before.and_then(|before| before.checked_add(A::STEP * steps));
    let panel = tile.columns.div_ceil(COLUMNS).checked_mul(A::panel_len(depth));
    if last.is_none_or(|end| end > rows.data.len()) || panel.is_none_or(|end| end > panels.len()) {
        return Err(OpError::Internal("a matrix smaller than the product reads"));
    }
    // SAFETY: just checked.
    unsafe { A::fill(tile, first, rows, panels, steps, end) };
    Ok(())
}

/// A kernel: so many rows, at most [`Arithmetic::ROWS`], and one half of the panel or both, over so many steps.
type Kernel<A> =
    unsafe fn(usize, bool, Rows<'_, <A as Arithmetic>::Left>, &[<A as Arithmetic>::Right], usize, &mut Sums);

/// Fills a tile kernel by kernel.
///
/// # Safety
/// As for [`Arithmetic::fill`]; the processor has the instructions of `kernel`.
#[inline(always)]
unsafe fn fill<A: Arithmetic, T: Copy, E: End<T>>(
    tile: &mut Tile<'_, T>,
    first: usize,
    rows: Rows<'_, A::Left>,
    panels: &[A::Right],
    steps: usize,
    end: &E,
    kernel: Kernel<A>,
) {
    let (height, width) = (tile.rows, tile.columns);
    let mut sums = [[0; COLUMNS]; MOST_ROWS];
    // What is larger is walked through once. Closures would lose the instructions that this function is inlined into.
    // SAFETY: the caller's promise.
    unsafe {
        if width > height {
            for at in (0..width).step_by(COLUMNS) {
                for row in (0..height).step_by(A::ROWS) {
                    one::<A, T, E>(tile, first, rows, panels, steps, end, kernel, (row, at), &mut sums);
                }
            }
        } else {
            for row in (0..height).step_by(A::ROWS) {
                for at in (0..width).step_by(COLUMNS) {
                    one::<A, T, E>(tile, first, rows, panels, steps, end, kernel, (row, at), &mut sums);
                }
            }
        }
    }
}

/// One kernel's part of a tile, from a row and a column on.
///
/// # Safety
/// As for [`fill`].
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "what `fill` takes, and the place")]
unsafe fn one<A: Arithmetic, T: Copy, E: End<T>>(
    tile: &mut Tile<'_, T>,
    first: usize,
    rows: Rows<'_, A::Left>,
    panels: &[A::Right],
    steps: usize,
    end: &E,
    kernel: Kernel<A>,
    (row, at): (usize, usize),
    sums: &mut Sums,
) {
    let (count, across) = (A::ROWS.min(tile.rows - row), COLUMNS.min(tile.columns - at));
    let left = Rows { data: rows.data.get(row * rows.stride..).unwrap_or(&[]), stride: rows.stride };
    let right = panels.get(at * A::STEP * steps..).unwrap_or(&[]);
    // SAFETY: the caller's promise.
    unsafe { kernel(count, across > COLUMNS / 2, left, right, steps, sums) };
    let column = tile.column + at;
    for (index, sums) in sums.iter().take(count).enumerate() {
        let out = tile.row_mut(row + index).get_mut(at..at + across).unwrap_or(&mut []);
        store(end, first + row + index, column, &sums[..across], out);
    }
}

/// The kernel for every processor.
///
/// # Safety
/// None: it is of the kernels' type.
#[inline(always)]
unsafe fn plain<A: Arithmetic>(
    count: usize,
    _both: bool,
    rows: Rows<'_, A::Left>,
    panel: &[A::Right],
    steps: usize,
    sums: &mut Sums,
) {
    for (row, sums) in sums.iter_mut().take(count).enumerate() {
        *sums = [0; COLUMNS];
        let left = rows.data.get(row * rows.stride..).unwrap_or(&[]);
        let steps = left.chunks_exact(A::STEP).zip(panel.chunks_exact(A::STEP * COLUMNS)).take(steps);
        for (a, b) in steps {
            for (sum, b) in sums.iter_mut().zip(b.chunks_exact(A::STEP)) {
                let products = a.iter().zip(b).map(|(&a, &b)| A::product(a, b));
                *sum = sum.wrapping_add(products.fold(0, i32::wrapping_add));
            }
        }
    }
}
