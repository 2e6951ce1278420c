//! Matrix products of f32 from registers: strips of up to six rows by sixteen columns, one text for every instruction set.

#![allow(
    unsafe_code,
    reason = "kernels over strided rows, and code compiled for instructions that were just detected"
)]

use super::tiles::Tile;
#[cfg(target_arch = "x86_64")]
use super::vector::Avx2;
use super::vector::{Isa, LANES, Plain, Vector};

/// Columns of a strip, and of a panel.
pub(crate) const COLUMNS: usize = 16;
/// Most rows of a strip.
const ROWS: usize = 6;
/// Steps of depth after which partial sums are stored, so that a panel's part stays in the first cache.
const DEPTH: usize = 384;

/// Rows of elements: element (i, j) at `i * stride + j`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    /// The elements, from (0, 0) on.
    pub data: &'a [f32],
    /// Elements between rows.
    pub stride: usize,
}

impl<'a> Rows<'a> {
    /// Whether the slice has so many rows of so many elements.
    pub fn holds(&self, rows: usize, columns: usize) -> bool {
        let last = rows.checked_sub(1).map_or(Some(0), |last| last.checked_mul(self.stride));
        let end = last.and_then(|last| last.checked_add(columns));
        rows == 0 || columns == 0 || end.is_some_and(|end| end <= self.data.len())
    }

    /// The rows from this element on.
    pub fn from(self, row: usize, column: usize) -> Rows<'a> {
        Rows { data: self.data.get(row * self.stride + column..).unwrap_or(&[]), ..self }
    }
}

/// The right factor of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Right<'a> {
    /// Panels as [`pack`] makes them, of so many rows each.
    Panels(&'a [f32], usize),
    /// Rows; columns come in whole strips.
    Rows(Rows<'a>),
}

/// Elements of a matrix of `depth` rows and `columns` columns in panels.
pub(crate) fn packed_len(depth: usize, columns: usize) -> Option<usize> {
    columns.checked_next_multiple_of(COLUMNS)?.checked_mul(depth)
}

/// Fills `panels` with a matrix: sixteen columns after another, row by row, zeros past the last column. `at(row, column)`
/// gives the elements of a row from this column on, one after another.
pub(crate) fn pack<'a>(
    panels: &mut [f32],
    depth: usize,
    columns: usize,
    at: impl Fn(usize, usize) -> &'a [f32] + Sync,
) {
    if depth == 0 {
        return;
    }
    for (panel, first) in panels.chunks_exact_mut(depth * COLUMNS).zip((0..columns).step_by(COLUMNS)) {
        let width = COLUMNS.min(columns - first);
        for (row, slots) in panel.chunks_exact_mut(COLUMNS).enumerate() {
            let from = at(row, first);
            // A plain size makes it two moves of vectors.
            if let (true, Some(whole)) = (width == COLUMNS, from.first_chunk::<COLUMNS>()) {
                slots.copy_from_slice(whole);
                continue;
            }
            let (own, rest) = slots.split_at_mut(width);
            own.iter_mut().zip(from).for_each(|(slot, &x)| *slot = x);
            rest.fill(0.0);
        }
    }
}

/// Fills `panels` with the transpose of a matrix of `columns` rows and `depth` columns.
pub(crate) fn pack_transposed(panels: &mut [f32], depth: usize, columns: usize, matrix: Rows<'_>) {
    if depth == 0 || !matrix.holds(columns, depth) {
        return;
    }
    for (panel, first) in panels.chunks_exact_mut(depth * COLUMNS).zip((0..columns).step_by(COLUMNS)) {
        let width = COLUMNS.min(columns - first);
        if width < COLUMNS {
            panel.fill(0.0);
        }
        // A few rows at a time, so that what is written stays in the first cache.
        for start in (0..depth).step_by(COLUMNS) {
            let steps = COLUMNS.min(depth - start);
            for column in 0..width {
                let row = &matrix.data[(first + column) * matrix.stride + start..][..steps];
                let slots = panel[start * COLUMNS + column..].iter_mut().step_by(COLUMNS);
                slots.zip(row).for_each(|(slot, &x)| *slot = x);
            }
        }
    }
}

/// What a product is stored in: rows of `columns` elements, `stride` apart.
struct Destination {
    /// Points at element (0, 0).
    first: *mut f32,
    /// Elements between rows.
    stride: usize,
    /// Rows.
    rows: usize,
    /// Columns.
    columns: usize,
}

/// Adds `a · b` to what is in `c`, or puts it there. `a` has the rows of `c` and `depth` columns; the columns of `b` from
/// `column` on, a multiple of sixteen, are used. `false` and nothing done when a factor is too small for that.
///
/// # Safety
/// `c` describes elements that are there and that nobody else uses.
#[must_use]
unsafe fn multiply(
    c: &Destination,
    a: Rows<'_>,
    b: Right<'_>,
    column: usize,
    depth: usize,
    add: bool,
) -> bool {
    let end = column + c.columns;
    let fits = match b {
        Right::Panels(panels, rows) => {
            rows >= depth
                && column.is_multiple_of(COLUMNS)
                && packed_len(rows, end).is_some_and(|len| len <= panels.len())
        }
        Right::Rows(rows) => c.columns.is_multiple_of(COLUMNS) && rows.holds(depth, end),
    };
    if !fits || !a.holds(c.rows, depth) {
        return false;
    }
    if depth == 0 {
        for row in 0..if add { 0 } else { c.rows } {
            // SAFETY: the rows of `c` are there.
            unsafe { std::slice::from_raw_parts_mut(c.first.add(row * c.stride), c.columns).fill(0.0) };
        }
        return true;
    }
    // Strips of about equal heights.
    let strips = c.rows.div_ceil(ROWS);
    for start in (0..depth).step_by(DEPTH) {
        let steps = DEPTH.min(depth - start);
        for first in (0..c.columns).step_by(COLUMNS) {
            let (b, b_row) = match b {
                Right::Panels(panels, rows) => {
                    (&panels[(column + first) * rows + start * COLUMNS..], COLUMNS)
                }
                Right::Rows(rows) => (&rows.data[start * rows.stride + column + first..], rows.stride),
            };
            for strip in 0..strips {
                let (top, bottom) = (strip * c.rows / strips, (strip + 1) * c.rows / strips);
                let strip = Strip {
                    rows: bottom - top,
                    columns: COLUMNS.min(c.columns - first),
                    depth: steps,
                    a: a.from(top, start),
                    b,
                    b_row,
                    // SAFETY: row `top` and column `first` are in `c`.
                    c: unsafe { c.first.add(top * c.stride + first) },
                    c_row: c.stride,
                    add: add || start > 0,
                };
                // SAFETY: `a` and `b` hold what the strip reads (checked above), and `c` what it writes.
                unsafe { strip.run() };
            }
        }
    }
    true
}

/// The same in a slice: rows of `stride` elements, of which the first `columns` are used.
#[must_use]
pub(crate) fn multiply_into(
    c: &mut [f32],
    (rows, stride, columns): (usize, usize, usize),
    a: Rows<'_>,
    b: Right<'_>,
    depth: usize,
    add: bool,
) -> bool {
    if columns > stride || rows.checked_mul(stride).is_none_or(|len| len > c.len()) {
        return false;
    }
    let c = Destination { first: c.as_mut_ptr(), stride, rows, columns };
    // SAFETY: the slice has that many rows, and is borrowed until the end.
    unsafe { multiply(&c, a, b, 0, depth, add) }
}

/// The same in a tile of an output, of whose columns `b` holds all.
#[must_use]
pub(crate) fn multiply_tile(tile: &mut Tile<'_>, a: Rows<'_>, b: Right<'_>, depth: usize, add: bool) -> bool {
    let (rows, columns, column) = (tile.rows, tile.columns, tile.column);
    let (first, stride) = tile.destination();
    // SAFETY: the tile's elements are there and its own.
    unsafe { multiply(&Destination { first, stride, rows, columns }, a, b, column, depth, add) }
}

/// A product of few rows and columns.
struct Strip<'a> {
    rows: usize,
    columns: usize,
    depth: usize,
    a: Rows<'a>,
    b: &'a [f32],
    b_row: usize,
    c: *mut f32,
    c_row: usize,
    add: bool,
}

impl Strip<'_> {
    /// # Safety
    /// Both factors hold what is read, sixteen columns of `b`, and `c` what is written.
    #[inline]
    unsafe fn run(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2,fma")]
            unsafe fn wide(strip: &Strip<'_>) {
                // SAFETY: the caller's promise.
                unsafe { strip.by_rows::<Avx2>() }
            }
            if Isa::detect() == Isa::Avx2 {
                // SAFETY: the caller's promise, and the processor has the instructions.
                return unsafe { wide(self) };
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.by_rows::<Plain>() }
    }

    #[inline(always)]
    unsafe fn by_rows<V: Vector>(&self) {
        if self.columns == COLUMNS {
            // SAFETY: the caller's promise.
            return unsafe { self.whole::<V>(self.c, self.c_row, self.add) };
        }
        // The columns that are there go through the very same sums, so that equal columns give equal results.
        let mut wide = [0.0f32; ROWS * COLUMNS];
        for (row, sums) in wide.chunks_exact_mut(COLUMNS).take(self.rows).enumerate() {
            // SAFETY: the caller's promise.
            let slots = unsafe { std::slice::from_raw_parts(self.c.add(row * self.c_row), self.columns) };
            if self.add {
                sums[..self.columns].copy_from_slice(slots);
            }
        }
        // SAFETY: the caller's promise, and `wide` holds six rows.
        unsafe { self.whole::<V>(wide.as_mut_ptr(), COLUMNS, self.add) };
        for (row, sums) in wide.chunks_exact(COLUMNS).take(self.rows).enumerate() {
            // SAFETY: the caller's promise.
            let slots = unsafe { std::slice::from_raw_parts_mut(self.c.add(row * self.c_row), self.columns) };
            slots.copy_from_slice(&sums[..self.columns]);
        }
    }

    /// The sums of sixteen columns.
    #[inline(always)]
    unsafe fn whole<V: Vector>(&self, c: *mut f32, c_row: usize, add: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.rows {
                1 => self.one::<V>(c, add),
                2 => self.sums::<V, 2>(c, c_row, add),
                3 => self.sums::<V, 3>(c, c_row, add),
                4 => self.sums::<V, 4>(c, c_row, add),
                5 => self.sums::<V, 5>(c, c_row, add),
                _ => self.sums::<V, ROWS>(c, c_row, add),
            }
        }
    }

    #[inline(always)]
    unsafe fn sums<V: Vector, const R: usize>(&self, c: *mut f32, c_row: usize, add: bool) {
        let (mut a, mut b) = (self.a.data.as_ptr(), self.b.as_ptr());
        // SAFETY: the caller's promise; the pointers stay within the slices while they are read. Plain counts keep the
        // sums in registers.
        unsafe {
            let mut sums = [[V::splat(0.0); 2]; R];
            if add {
                for (r, sums) in sums.iter_mut().enumerate() {
                    let c = c.add(r * c_row);
                    *sums = [V::load(c), V::load(c.add(LANES))];
                }
            }
            for _ in 0..self.depth {
                let right = [V::load(b), V::load(b.add(LANES))];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let left = V::splat(*a.add(r * self.a.stride));
                    *sums = [left.fma(right[0], sums[0]), left.fma(right[1], sums[1])];
                }
                a = a.wrapping_add(1);
                b = b.wrapping_add(self.b_row);
            }
            for (r, sums) in sums.into_iter().enumerate() {
                let c = c.add(r * c_row);
                sums[0].store(c);
                sums[1].store(c.add(LANES));
            }
        }
    }

    /// One row: four steps of depth side by side, so that no sum waits for the one before.
    #[inline(always)]
    unsafe fn one<V: Vector>(&self, c: *mut f32, add: bool) {
        const SIDE: usize = 4;
        let (mut a, mut b) = (self.a.data.as_ptr(), self.b.as_ptr());
        // SAFETY: the caller's promise; the pointers stay within the slices while they are read.
        unsafe {
            let mut sums = [[V::splat(0.0); 2]; SIDE];
            if add {
                sums[0] = [V::load(c), V::load(c.add(LANES))];
            }
            for _ in 0..self.depth / SIDE {
                for (side, sums) in sums.iter_mut().enumerate() {
                    let (left, right) = (V::splat(*a.add(side)), b.add(side * self.b_row));
                    *sums = [left.fma(V::load(right), sums[0]), left.fma(V::load(right.add(LANES)), sums[1])];
                }
                a = a.wrapping_add(SIDE);
                b = b.wrapping_add(SIDE * self.b_row);
            }
            for _ in 0..self.depth % SIDE {
                let left = V::splat(*a);
                sums[0] = [left.fma(V::load(b), sums[0][0]), left.fma(V::load(b.add(LANES)), sums[0][1])];
                a = a.wrapping_add(1);
                b = b.wrapping_add(self.b_row);
            }
            let [first, second, third, fourth] = sums;
            first[0].add(second[0]).add(third[0].add(fourth[0])).store(c);
            first[1].add(second[1]).add(third[1].add(fourth[1])).store(c.add(LANES));
        }
    }
}

#[cfg(test)]
mod tests {
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

    fn destination(c: &mut [f32], rows: usize, columns: usize) -> Destination {
        assert_eq!(c.len(), rows * columns);
        Destination { first: c.as_mut_ptr(), stride: columns, rows, columns }
    }

    #[test]
    fn strips_agree_with_plain_sums() {
        let sizes = [1usize, 2, 3, 5, 6, 7, 17, 33, 65];
        for (i, &m) in sizes.iter().enumerate() {
            for (j, &n) in sizes.iter().enumerate() {
                let k = [1usize, 3, 17, 127, 385, 800][(i + j) % 6];
                let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
                let mut panels = vec![f32::NAN; packed_len(k, n).unwrap()];
                if j % 2 == 0 {
                    pack(&mut panels, k, n, |row, column| &b[row * n + column..(row + 1) * n]);
                } else {
                    let turned: Vec<f32> = (0..n * k).map(|x| b[x % k * n + x / k]).collect();
                    pack_transposed(&mut panels, k, n, Rows { data: &turned, stride: k });
                }
                let mut c = vec![f32::NAN; m * n];
                let left = Rows { data: &a, stride: k };
                let right = Right::Panels(&panels, k);
                // SAFETY: `c` has m · n elements.
                assert!(unsafe { multiply(&destination(&mut c, m, n), left, right, 0, k, false) });
                // SAFETY: as above.
                assert!(unsafe { multiply(&destination(&mut c, m, n), left, right, 0, k, true) });
                for (at, &got) in c.iter().enumerate() {
                    let exact: f64 =
                        (0..k).map(|x| f64::from(a[at / n * k + x]) * f64::from(b[x * n + at % n])).sum();
                    assert!((f64::from(got) - 2.0 * exact).abs() < 2e-4, "{m} {n} {k}: {got} {exact}");
                }
            }
        }
    }

    #[test]
    fn unpacked_rows_and_parts_of_panels() {
        let (m, n, k) = (7, 64, 40);
        let (a, b) = (numbers(m * k, 3), numbers(k * 100, 4));
        let rows = Rows { data: &b, stride: 100 };
        let mut panels = vec![0.0; packed_len(k, 100).unwrap()];
        pack(&mut panels, k, 100, |row, column| &b[row * 100 + column..(row + 1) * 100]);
        let (mut one, mut other) = (vec![0.0; m * n], vec![0.0; m * n]);
        let left = Rows { data: &a, stride: k };
        // SAFETY: both have m · n elements.
        unsafe {
            assert!(multiply(&destination(&mut one, m, n), left, Right::Rows(rows), 16, k, false));
            assert!(multiply(&destination(&mut other, m, n), left, Right::Panels(&panels, k), 16, k, false));
            assert!(!multiply(&destination(&mut one, m, n), left, Right::Rows(rows), 48, k, false));
            assert!(!multiply(&destination(&mut one, m, n), left, Right::Panels(&panels, k), 64, k, false));
            assert!(!multiply(&destination(&mut one, m, n), left, Right::Panels(&panels, k), 8, k, false));
        }
        assert_eq!(one, other);
    }

    #[test]
    fn equal_columns_give_equal_sums() {
        let (k, n) = (800, 33);
        let column = numbers(k, 5);
        let b: Vec<f32> = (0..k * n).map(|at| column[at / n]).collect();
        let mut panels = vec![0.0; packed_len(k, n).unwrap()];
        pack(&mut panels, k, n, |row, column| &b[row * n + column..(row + 1) * n]);
        for m in [1, 5] {
            let (a, mut c) = (numbers(m * k, 6), vec![0.5; m * n]);
            let left = Rows { data: &a, stride: k };
            // SAFETY: `c` has m · n elements.
            let done =
                unsafe { multiply(&destination(&mut c, m, n), left, Right::Panels(&panels, k), 0, k, true) };
            assert!(done);
            for row in c.chunks_exact(n) {
                assert!(row.iter().all(|x| x.to_bits() == row[0].to_bits()), "{row:?}");
            }
        }
    }

    #[test]
    fn an_empty_depth_gives_zeros() {
        let mut c = vec![f32::NAN; 6];
        let nothing = Rows { data: &[], stride: 0 };
        // SAFETY: `c` has six elements.
        assert!(unsafe { multiply(&destination(&mut c, 2, 3), nothing, Right::Panels(&[], 0), 0, 0, false) });
        assert_eq!(c, [0.0; 6]);
    }
}
