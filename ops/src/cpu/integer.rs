//! Products of matrices of bytes without their zero points, on the CPU.
//!
//! Such bytes fit 16 bits, signed or not, so one kernel serves every pairing. Two products of them, at most 2 · 255 · 255,
//! fit 32 bits: no step saturates, and sums wrap in 32 bits as those of the references do. (The shorter way over
//! products of bytes in 16 bits saturates where both factors are large.)

#![allow(
    unsafe_code,
    reason = "vector instructions that were just detected, and pointers checked before the loops"
)]

use super::tiles::Tile;
use crate::error::OpError;

/// Rows that a kernel computes at once.
const ROWS: usize = 6;

/// Columns of a panel.
pub(crate) const COLUMNS: usize = 16;

/// Sums of one kernel.
type Sums = [[i32; COLUMNS]; ROWS];

/// The left factor: rows of `stride` elements, of which the first two for each pair of the depth count.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// The elements, from the first row on.
    pub data: &'a [i16],
    /// Elements between rows.
    pub stride: usize,
}

/// Elements of a right factor: those of 8 bits take half the memory, and are widened when they are loaded.
pub(crate) trait Weight: Copy + Send + Sync + 'static {
    /// 0.
    const ZERO: Self;

    /// From 16 bits; `None` where it does not fit.
    fn of(wide: i16) -> Option<Self>;

    /// As 16 bits.
    fn wide(self) -> i16;

    /// Sixteen of them.
    ///
    /// # Safety
    /// They are there, and the processor has AVX2.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load(from: *const Self) -> std::arch::x86_64::__m256i;
}

impl Weight for i16 {
    const ZERO: i16 = 0;

    fn of(wide: i16) -> Option<i16> {
        Some(wide)
    }

    #[inline(always)]
    fn wide(self) -> i16 {
        self
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load(from: *const i16) -> std::arch::x86_64::__m256i {
        // SAFETY: the caller's promise.
        unsafe { std::arch::x86_64::_mm256_loadu_si256(from.cast()) }
    }
}

impl Weight for i8 {
    const ZERO: i8 = 0;

    fn of(wide: i16) -> Option<i8> {
        i8::try_from(wide).ok()
    }

    #[inline(always)]
    fn wide(self) -> i16 {
        i16::from(self)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load(from: *const i8) -> std::arch::x86_64::__m256i {
        use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtepi8_epi16};
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())) }
    }
}

/// A right factor in 8 bits; `None` where an element does not fit.
pub(crate) fn narrowed(panels: &[i16]) -> Option<Vec<i8>> {
    panels.iter().map(|&element| i8::of(element)).collect()
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

/// Elements of a row whose `depth` elements are followed by zeros: whole pairs, and not a multiple of a page, which would
/// map all rows to the same lines of the cache.
pub(crate) fn row_stride(depth: usize) -> usize {
    let whole = depth.next_multiple_of(2);
    if whole.is_multiple_of(1024) { whole + 32 } else { whole }
}

/// Elements of a panel over so many elements of depth.
pub(crate) fn panel_len(depth: usize) -> usize {
    depth.div_ceil(2) * 2 * COLUMNS
}

/// `byte − zero` for each byte.
#[inline(always)]
pub(crate) fn widen(bytes: &[u8], signed: bool, zero: i16, out: &mut [i16]) {
    if signed {
        out.iter_mut().zip(bytes).for_each(|(slot, &byte)| *slot = i16::from(byte as i8) - zero);
    } else {
        out.iter_mut().zip(bytes).for_each(|(slot, &byte)| *slot = i16::from(byte) - zero);
    }
}

/// Puts two rows of the right factor into place in panels of `panel` elements: `at` is where the first one begins.
#[inline(always)]
pub(crate) fn interleave(first: &[i16], second: &[i16], panels: &mut [i16], panel: usize, at: usize) {
    let (first, _) = first.as_chunks::<COLUMNS>();
    let (second, _) = second.as_chunks::<COLUMNS>();
    for (panel, (a, b)) in panels.chunks_mut(panel.max(1)).zip(first.iter().zip(second)) {
        let Some(target) = panel.get_mut(at..).and_then(<[i16]>::first_chunk_mut::<{ 2 * COLUMNS }>) else {
            return;
        };
        for i in 0..COLUMNS {
            target[2 * i] = a[i];
            target[2 * i + 1] = b[i];
        }
    }
}

/// The same for rows of bytes without their zero point; a row that is missing is zeros.
pub(crate) fn interleave_bytes(
    [first, second]: [&[u8]; 2],
    signed: bool,
    zero: i16,
    panels: &mut [i16],
    (panel, at): (usize, usize),
) {
    let missing = second.is_empty();
    for (index, panel) in panels.chunks_mut(panel.max(1)).enumerate() {
        let Some(target) = panel.get_mut(at..).and_then(<[i16]>::first_chunk_mut::<{ 2 * COLUMNS }>) else {
            return;
        };
        let start = index * COLUMNS;
        let bytes = |row: &[u8]| {
            let row = row.get(start..).unwrap_or(&[]);
            row.first_chunk::<COLUMNS>().copied().unwrap_or_else(|| {
                let mut bytes = [0; COLUMNS];
                bytes.iter_mut().zip(row).for_each(|(slot, &byte)| *slot = byte);
                bytes
            })
        };
        let (a, b) = (bytes(first), bytes(second));
        let wide = |byte: u8| if signed { i16::from(byte as i8) - zero } else { i16::from(byte) - zero };
        for i in 0..COLUMNS {
            target[2 * i] = wide(a[i]);
            target[2 * i + 1] = if missing { 0 } else { wide(b[i]) };
        }
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

/// Fills a tile with what `end` makes of the products of its rows and `panels`, which hold its columns. The first of
/// the rows is row `first` for `end`. On the calling thread alone.
///
/// # Errors
/// When a factor is smaller than the tile.
pub(crate) fn multiply<T: Copy, E: End<T>, W: Weight>(
    tile: &mut Tile<'_, T>,
    first: usize,
    rows: Rows<'_>,
    panels: &[W],
    depth: usize,
    end: &E,
) -> Result<(), OpError> {
    let pairs = depth.div_ceil(2);
    let last = tile.rows.saturating_sub(1).checked_mul(rows.stride).and_then(|n| n.checked_add(2 * pairs));
    let panel = tile.columns.div_ceil(COLUMNS).checked_mul(panel_len(depth));
    if last.is_none_or(|end| end > rows.data.len()) || panel.is_none_or(|end| end > panels.len()) {
        return Err(OpError::Internal("a matrix smaller than the product reads"));
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn wide<T: Copy, E: End<T>, W: Weight>(
            tile: &mut Tile<'_, T>,
            first: usize,
            rows: Rows<'_>,
            panels: &[W],
            pairs: usize,
            end: &E,
        ) {
            fill(tile, first, rows, panels, pairs, end, avx2::multiply);
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions; the factors hold what the kernels read (checked above).
            unsafe { wide(tile, first, rows, panels, pairs, end) };
            return Ok(());
        }
    }
    fill(tile, first, rows, panels, pairs, end, portable);
    Ok(())
}

/// A kernel: `rows` rows, and one half of the panel or both, over so many pairs.
type Kernel<W> = unsafe fn(usize, bool, Rows<'_>, &[W], usize, &mut Sums);

#[inline(always)]
fn fill<T: Copy, E: End<T>, W: Weight>(
    tile: &mut Tile<'_, T>,
    first: usize,
    rows: Rows<'_>,
    panels: &[W],
    pairs: usize,
    end: &E,
    kernel: Kernel<W>,
) {
    let (height, width) = (tile.rows, tile.columns);
    let mut sums = [[0; COLUMNS]; ROWS];
    // What is larger is walked through once. Closures would lose the instructions that this function is inlined into.
    if width > height {
        for at in (0..width).step_by(COLUMNS) {
            for row in (0..height).step_by(ROWS) {
                one(tile, first, rows, panels, pairs, end, kernel, (row, at), &mut sums);
            }
        }
    } else {
        for row in (0..height).step_by(ROWS) {
            for at in (0..width).step_by(COLUMNS) {
                one(tile, first, rows, panels, pairs, end, kernel, (row, at), &mut sums);
            }
        }
    }
}

/// One kernel's part of a tile, from a row and a column on.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "what `fill` takes, and the place")]
fn one<T: Copy, E: End<T>, W: Weight>(
    tile: &mut Tile<'_, T>,
    first: usize,
    rows: Rows<'_>,
    panels: &[W],
    pairs: usize,
    end: &E,
    kernel: Kernel<W>,
    (row, at): (usize, usize),
    sums: &mut Sums,
) {
    let (count, across) = (ROWS.min(tile.rows - row), COLUMNS.min(tile.columns - at));
    let left = Rows { data: rows.data.get(row * rows.stride..).unwrap_or(&[]), stride: rows.stride };
    let right = panels.get(at * 2 * pairs..).unwrap_or(&[]);
    // SAFETY: `multiply` has checked that the rows and the panel are there whole.
    unsafe { kernel(count, across > COLUMNS / 2, left, right, pairs, sums) };
    let column = tile.column + at;
    for (index, sums) in sums.iter().take(count).enumerate() {
        let out = tile.row_mut(row + index).get_mut(at..at + across).unwrap_or(&mut []);
        store(end, first + row + index, column, &sums[..across], out);
    }
}

/// # Safety
/// None: it is of the kernels' type.
unsafe fn portable<W: Weight>(
    count: usize,
    _both: bool,
    rows: Rows<'_>,
    panel: &[W],
    pairs: usize,
    sums: &mut Sums,
) {
    for (row, sums) in sums.iter_mut().take(count).enumerate() {
        *sums = [0; COLUMNS];
        let left = rows.data.get(row * rows.stride..).unwrap_or(&[]);
        let (left, _) = left.as_chunks::<2>();
        let (right, _) = panel.as_chunks::<{ 2 * COLUMNS }>();
        for (a, b) in left.iter().zip(right).take(pairs) {
            let a = a.map(i32::from);
            for (sum, b) in sums.iter_mut().zip(b.as_chunks::<2>().0) {
                let [b0, b1] = b.map(|b| i32::from(b.wide()));
                *sum = sum.wrapping_add(a[0] * b0 + a[1] * b1);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{COLUMNS, ROWS, Rows, Sums, Weight};

    /// # Safety
    /// The processor must have AVX2; `rows` must hold `count` rows of `pairs` pairs, `panel` so many pairs of columns.
    #[inline]
    pub unsafe fn multiply<W: Weight>(
        count: usize,
        both: bool,
        rows: Rows<'_>,
        panel: &[W],
        pairs: usize,
        sums: &mut Sums,
    ) {
        let (left, right, stride) = (rows.data.as_ptr(), panel.as_ptr(), rows.stride);
        // SAFETY: the caller's promise.
        unsafe {
            match (count, both) {
                (ROWS.., true) => block::<ROWS, 2, W>(left, stride, right, pairs, sums),
                (ROWS.., false) => block::<ROWS, 1, W>(left, stride, right, pairs, sums),
                (4..ROWS, true) => rest::<4, 2, W>(count, left, stride, right, pairs, sums),
                (4..ROWS, false) => rest::<4, 1, W>(count, left, stride, right, pairs, sums),
                (2..4, true) => rest::<2, 2, W>(count, left, stride, right, pairs, sums),
                (2..4, false) => rest::<2, 1, W>(count, left, stride, right, pairs, sums),
                (_, true) => block::<1, 2, W>(left, stride, right, pairs, sums),
                (_, false) => block::<1, 1, W>(left, stride, right, pairs, sums),
            }
        }
    }

    /// `R` rows, and those that are left of `count` one by one.
    ///
    /// # Safety
    /// As for [`multiply`].
    #[target_feature(enable = "avx2")]
    unsafe fn rest<const R: usize, const V: usize, W: Weight>(
        count: usize,
        left: *const i16,
        stride: usize,
        panel: *const W,
        pairs: usize,
        sums: &mut Sums,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            block::<R, V, W>(left, stride, panel, pairs, sums);
            for row in R..count.min(ROWS) {
                block::<1, V, W>(left.add(row * stride), stride, panel, pairs, &mut sums[row..]);
            }
        }
    }

    /// # Safety
    /// As for [`multiply`], for `R` rows and `V` halves of the panel. `sums` has `R` rows.
    #[target_feature(enable = "avx2")]
    unsafe fn block<const R: usize, const V: usize, W: Weight>(
        left: *const i16,
        stride: usize,
        panel: *const W,
        pairs: usize,
        sums: &mut [[i32; COLUMNS]],
    ) {
        let mut totals = [[_mm256_setzero_si256(); V]; R];
        for pair in 0..pairs {
            let mut right = [_mm256_setzero_si256(); V];
            for (half, slot) in right.iter_mut().enumerate() {
                // SAFETY: the panel holds 2 · COLUMNS elements for each pair.
                *slot = unsafe { W::load(panel.add(pair * 2 * COLUMNS + half * COLUMNS)) };
            }
            for (row, totals) in totals.iter_mut().enumerate() {
                // SAFETY: each row holds two elements for each pair.
                let both = unsafe { left.add(row * stride + 2 * pair).cast::<i32>().read_unaligned() };
                let both = _mm256_set1_epi32(both);
                for (total, right) in totals.iter_mut().zip(right) {
                    *total = _mm256_add_epi32(*total, _mm256_madd_epi16(both, right));
                }
            }
        }
        for (sums, totals) in sums.iter_mut().zip(totals) {
            for (half, total) in totals.into_iter().enumerate() {
                // SAFETY: a row of sums holds COLUMNS elements, and `half` is below 2.
                unsafe { _mm256_storeu_si256(sums.as_mut_ptr().add(half * COLUMNS / 2).cast(), total) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tiles::{Grid, share_out};
    use super::*;

    /// Extreme bytes without extreme zero points, and others.
    fn element(seed: usize) -> i16 {
        match seed.wrapping_mul(2_654_435_761) >> 7 & 7 {
            0 => 255,
            1 => -255,
            2 => -128,
            _ => (seed.wrapping_mul(40_503) >> 5 & 511) as i16 - 256,
        }
    }

    #[test]
    fn products_are_exact_at_every_size() {
        for m in [1usize, 2, 3, 4, 5, 6, 7, 13, 17] {
            for n in [1usize, 3, 8, 9, 16, 17, 40] {
                for k in [0usize, 1, 2, 3, 17, 64] {
                    let stride = row_stride(k);
                    let mut left = vec![0i16; m * stride];
                    for i in 0..m {
                        (0..k).for_each(|x| left[i * stride + x] = element(i * k + x));
                    }
                    let right = |x: usize, j: usize| if x < k { element(7 * x + j + 1000) } else { 0 };
                    let grid = Grid { planes: 1, rows: m, columns: n, tile_rows: 8, tile_columns: 32 };
                    let mut panels = vec![0; n.div_ceil(COLUMNS) * panel_len(k)];
                    let wide = n.next_multiple_of(COLUMNS);
                    for x in (0..k).step_by(2) {
                        let row = |x: usize| (0..wide).map(|j| right(x, j)).collect::<Vec<_>>();
                        interleave(&row(x), &row(x + 1), &mut panels, panel_len(k), x * COLUMNS);
                    }
                    let mut out = vec![i32::MIN; m * n];
                    share_out(
                        &mut out,
                        0,
                        &grid,
                        (&mut [0u8; 0], 0),
                        || Ok(()),
                        |tile, _, ()| {
                            let rows = Rows { data: &left[tile.row * stride..], stride };
                            let panels = &panels[tile.column / COLUMNS * panel_len(k)..];
                            multiply(tile, tile.row, rows, panels, k, &AsSums)
                        },
                    )
                    .unwrap();
                    for i in 0..m {
                        for j in 0..n {
                            let exact: i32 = (0..k)
                                .map(|x| i32::from(left[i * stride + x]) * i32::from(right(x, j)))
                                .sum();
                            assert_eq!(out[i * n + j], exact, "{m}x{n}x{k} at {i}, {j}");
                        }
                    }
                    let mut sums = [[0; COLUMNS]; ROWS];
                    let rows = Rows { data: &left, stride };
                    if let Some(narrow) = narrowed(&panels) {
                        let mut again = vec![i32::MIN; m * n];
                        let rows = |row: usize| Rows { data: &left[row * stride..], stride };
                        let result = share_out(
                            &mut again,
                            0,
                            &grid,
                            (&mut [0u8; 0], 0),
                            || Ok(()),
                            |tile, _, ()| {
                                let panels = &narrow[tile.column / COLUMNS * panel_len(k)..];
                                multiply(tile, tile.row, rows(tile.row), panels, k, &AsSums)
                            },
                        );
                        assert_eq!((result.is_ok(), again == out), (true, true), "{m}x{n}x{k} in 8 bits");
                    }
                    // SAFETY: the portable kernel asks for nothing.
                    unsafe { portable(m.min(ROWS), true, rows, &panels, k.div_ceil(2), &mut sums) };
                    for (i, sums) in sums.iter().take(m).enumerate() {
                        let across = n.min(COLUMNS);
                        assert_eq!(sums[..across], out[i * n..i * n + across]);
                    }
                }
            }
        }
    }

    #[test]
    fn factors_that_are_too_small_are_refused() {
        let grid = Grid { planes: 1, rows: 2, columns: 3, tile_rows: 2, tile_columns: 3 };
        for (rows, panels) in [(3, 32), (4, 31)] {
            let (left, right) = (vec![0i16; rows], vec![0i16; panels]);
            let mut out = [0i32; 6];
            let result = share_out(
                &mut out,
                0,
                &grid,
                (&mut [0u8; 0], 0),
                || Ok(()),
                |tile, _, ()| multiply(tile, 0, Rows { data: &left, stride: 2 }, &right, 2, &AsSums),
            );
            assert!(result.is_err());
        }
    }

    #[test]
    fn bytes_lose_their_zero_point() {
        let mut out = [0; 3];
        widen(&[0, 128, 255], false, 128, &mut out);
        assert_eq!(out, [-128, 0, 127]);
        widen(&[0, 128, 255], true, 127, &mut out);
        assert_eq!(out, [-127, -255, -128]);
    }
}
