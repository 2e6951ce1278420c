//! Bytes without their zero points as 16 bits, signed or not: one kernel serves every pairing. Two products of them, at
//! most 2 · 255 · 255, fit 32 bits.

use super::{Arithmetic, COLUMNS, End, Rows, Sums};
use crate::cpu::tiles::Tile;

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

/// The arithmetic over weights of one size.
pub(crate) struct Words<W>(std::marker::PhantomData<W>);

/// The arithmetic of any pairing.
pub(crate) type Wide = Words<i16>;

/// Rows that a kernel computes at once.
const ROWS: usize = 6;

impl<W: Weight> Arithmetic for Words<W> {
    type Left = i16;
    type Right = W;
    const STEP: usize = 2;
    const ROWS: usize = ROWS;

    #[inline(always)]
    fn product(left: i16, right: W) -> i32 {
        i32::from(left) * i32::from(right.wide())
    }

    unsafe fn fill<T: Copy, E: End<T>>(
        tile: &mut Tile<'_, T>,
        first: usize,
        rows: Rows<'_, i16>,
        panels: &[W],
        pairs: usize,
        end: &E,
    ) {
        #[cfg(target_arch = "x86_64")]
        {
            /// # Safety
            /// As for [`Arithmetic::fill`].
            #[target_feature(enable = "avx2")]
            unsafe fn wide<T: Copy, E: End<T>, W: Weight>(
                tile: &mut Tile<'_, T>,
                first: usize,
                rows: Rows<'_, i16>,
                panels: &[W],
                pairs: usize,
                end: &E,
            ) {
                // SAFETY: the caller's promise.
                unsafe {
                    super::fill::<Words<W>, T, E>(tile, first, rows, panels, pairs, end, avx2::multiply);
                }
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has the instructions, and the caller's promise.
                unsafe { wide(tile, first, rows, panels, pairs, end) };
                return;
            }
        }
        // SAFETY: the caller's promise.
        unsafe {
            super::fill::<Words<W>, T, E>(tile, first, rows, panels, pairs, end, super::plain::<Words<W>>)
        };
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
        rows: Rows<'_, i16>,
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
