//! Bytes as they are: unsigned ones times signed ones, four products at once added up in 32 bits (AVX-512 VNNI).
//!
//! Signed bytes of the left factor become unsigned by 128 more, and so does their zero point, which stays in the products.
//! What it adds, the zero point times the sum of a column's weights, is taken off the sums at the end: everything wraps in
//! 32 bits, so the results are the same.

use super::words::Words;
use super::{Arithmetic, COLUMNS, End, Rows, Sums};
use crate::cpu::tiles::Tile;

/// The arithmetic.
pub(crate) struct Bytes;

/// Elements of a step.
const STEP: usize = 4;

/// Whether the processor has the instructions that make this faster than words.
pub(crate) fn is_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Bytes made unsigned.
#[inline(always)]
pub(crate) fn unsign(bytes: &[u8], signed: bool, out: &mut [u8]) {
    let flip = flip(signed);
    out.iter_mut().zip(bytes).for_each(|(slot, &byte)| *slot = byte ^ flip);
}

/// The zero point of bytes that were made unsigned.
pub(crate) fn unsigned_zero(zero: i16, signed: bool) -> u8 {
    // The bits of a byte.
    zero as u8 ^ flip(signed)
}

fn flip(signed: bool) -> u8 {
    if signed { 0x80 } else { 0 }
}

/// Sums without what the zero point of the left factor has added to them, and then `end`.
pub(crate) struct Less<'a, E> {
    /// The zero point.
    pub zero: i32,
    /// The sum of each column's weights, in whole panels; none where there is nothing to take off.
    pub sums: &'a [i32],
    /// What becomes of the sums then.
    pub end: &'a E,
}

impl<T, E: End<T>> End<T> for Less<'_, E> {
    #[inline(always)]
    fn eight(&self, row: usize, column: usize, mut sums: [i32; 8]) -> [T; 8] {
        let weights = self.sums.get(column..).and_then(<[i32]>::first_chunk::<8>).copied();
        let weights = weights.unwrap_or_default();
        for i in 0..8 {
            sums[i] = sums[i].wrapping_sub(self.zero.wrapping_mul(weights[i]));
        }
        self.end.eight(row, column, sums)
    }
}

/// Panels of words as panels of bytes, and the sum of each of their columns.
pub(crate) fn regrouped(panels: &[i8], depth: usize) -> (Vec<i8>, Vec<i32>) {
    const PAIR: usize = Words::<i8>::STEP;
    let (from, to) = (Words::<i8>::panel_len(depth), Bytes::panel_len(depth));
    let mut all = vec![0; panels.len() / from.max(1) * to];
    let mut sums = Vec::with_capacity(panels.len() / from.max(1) * COLUMNS);
    for (from, to) in panels.chunks_exact(from.max(1)).zip(all.chunks_exact_mut(to.max(1))) {
        let mut own = [0i32; COLUMNS];
        for (index, columns) in from.chunks_exact(PAIR * COLUMNS).enumerate() {
            for (column, pair) in columns.chunks_exact(PAIR).enumerate() {
                let at = (index * PAIR / STEP * COLUMNS + column) * STEP + index * PAIR % STEP;
                to[at..at + PAIR].copy_from_slice(pair);
                own[column] += pair.iter().map(|&weight| i32::from(weight)).sum::<i32>();
            }
        }
        sums.extend(own);
    }
    (all, sums)
}

impl Arithmetic for Bytes {
    type Left = u8;
    type Right = i8;
    const STEP: usize = STEP;
    const ROWS: usize = 12;

    #[inline(always)]
    fn product(left: u8, right: i8) -> i32 {
        i32::from(left) * i32::from(right)
    }

    unsafe fn fill<T: Copy, E: End<T>>(
        tile: &mut Tile<'_, T>,
        first: usize,
        rows: Rows<'_, u8>,
        panels: &[i8],
        steps: usize,
        end: &E,
    ) {
        #[cfg(target_arch = "x86_64")]
        {
            /// # Safety
            /// As for [`Arithmetic::fill`].
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512vnni")]
            unsafe fn wide<T: Copy, E: End<T>>(
                tile: &mut Tile<'_, T>,
                first: usize,
                rows: Rows<'_, u8>,
                panels: &[i8],
                steps: usize,
                end: &E,
            ) {
                // SAFETY: the caller's promise.
                unsafe { super::fill::<Bytes, T, E>(tile, first, rows, panels, steps, end, vnni::multiply) };
            }
            if is_fast() {
                // SAFETY: the processor has the instructions, and the caller's promise.
                unsafe { wide(tile, first, rows, panels, steps, end) };
                return;
            }
        }
        // SAFETY: the caller's promise.
        unsafe { super::fill::<Bytes, T, E>(tile, first, rows, panels, steps, end, super::plain::<Bytes>) };
    }
}

#[cfg(target_arch = "x86_64")]
mod vnni {
    use std::arch::x86_64::*;

    use super::{COLUMNS, Rows, STEP, Sums};

    /// # Safety
    /// The processor must have the instructions of [`super::is_fast`]; `rows` must hold `count` rows of `steps` steps,
    /// `panel` so many steps of all columns.
    #[inline]
    pub unsafe fn multiply(
        count: usize,
        _both: bool,
        rows: Rows<'_, u8>,
        panel: &[i8],
        steps: usize,
        sums: &mut Sums,
    ) {
        let (left, right, stride) = (rows.data.as_ptr(), panel.as_ptr(), rows.stride);
        // SAFETY: the caller's promise.
        unsafe {
            match count {
                12.. => block::<12>(left, stride, right, steps, sums),
                8..12 => {
                    block::<8>(left, stride, right, steps, sums);
                    let rest = Rows { data: rows.data.get(8 * stride..).unwrap_or(&[]), stride };
                    few(count - 8, rest, right, steps, &mut sums[8..]);
                }
                _ => few(count, rows, right, steps, sums),
            }
        }
    }

    /// Fewer than eight rows.
    ///
    /// # Safety
    /// As for [`multiply`]. `sums` has so many rows.
    #[inline]
    unsafe fn few(
        count: usize,
        rows: Rows<'_, u8>,
        right: *const i8,
        steps: usize,
        sums: &mut [[i32; COLUMNS]],
    ) {
        let (left, stride) = (rows.data.as_ptr(), rows.stride);
        // SAFETY: the caller's promise.
        unsafe {
            match count {
                0 => {}
                1 => block::<1>(left, stride, right, steps, sums),
                2 => block::<2>(left, stride, right, steps, sums),
                3 => block::<3>(left, stride, right, steps, sums),
                4 => block::<4>(left, stride, right, steps, sums),
                5 => block::<5>(left, stride, right, steps, sums),
                6 => block::<6>(left, stride, right, steps, sums),
                _ => block::<7>(left, stride, right, steps, sums),
            }
        }
    }

    /// # Safety
    /// As for [`multiply`], for `R` rows. `sums` has `R` rows.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512vnni")]
    unsafe fn block<const R: usize>(
        left: *const u8,
        stride: usize,
        panel: *const i8,
        steps: usize,
        sums: &mut [[i32; COLUMNS]],
    ) {
        let mut totals = [_mm512_setzero_si512(); R];
        for step in 0..steps {
            // SAFETY: the panel holds STEP · COLUMNS bytes for each step.
            let right = unsafe { _mm512_loadu_si512(panel.add(step * STEP * COLUMNS).cast()) };
            for (row, total) in totals.iter_mut().enumerate() {
                // SAFETY: each row holds STEP bytes for each step.
                let four = unsafe { left.add(row * stride + STEP * step).cast::<i32>().read_unaligned() };
                *total = _mm512_dpbusd_epi32(*total, _mm512_set1_epi32(four), right);
            }
        }
        for (sums, total) in sums.iter_mut().zip(totals) {
            // SAFETY: a row of sums holds COLUMNS elements.
            unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), total) };
        }
    }
}
