//! The innermost loops of quantized convolutions over blocks: sums of a few pixels and blocks of output channels, all in
//! registers. A vector of weights has two input channels of each of eight output channels, which one instruction multiplies
//! by those of a pixel and adds up in 32 bits.

#![allow(unsafe_code, reason = "pointers into checked slices, and code for instructions that were detected")]

use crate::cpu::integer::{End, Weight};
use crate::cpu::vector::{Isa, LANES};
use crate::quantize::ends::Requantized;

/// Elements of a vector of weights.
pub(super) const PAIRS: usize = 2 * LANES;

/// What one call computes, as pointers.
#[derive(Clone, Copy)]
pub(super) struct Sums<'a, W> {
    /// The rows of the input.
    pub x: *const i16,
    /// Where each pixel's window begins there.
    pub places: *const i32,
    /// Where each group's window elements lie from there.
    pub steps: *const i32,
    /// How many these are.
    pub count: usize,
    /// Pairs of channels of a group.
    pub pairs: usize,
    /// Weights of the first block: for each step and pair a vector.
    pub weights: *const W,
    /// Weights of a block.
    pub block_weights: usize,
    /// What becomes of the sums.
    pub end: &'a Requantized<false>,
    /// The first channel of the first block.
    pub channel: usize,
    /// Where the first pixel of the first block goes; the next pixel follows.
    pub out: *mut u8,
    /// Bytes between blocks there.
    pub block_out: usize,
}

/// Computes the results of `pixels` pixels, at most as many as are computed at once for so many blocks, and `blocks` blocks.
///
/// # Safety
/// `sums` holds what its fields say, for so many pixels and blocks; all steps from all places are inside the rows, with
/// `pairs` pairs behind them; the output has a vector for each pixel of each block; and the processor has the instructions
/// of `isa`.
pub(super) unsafe fn run<W: Weight>(isa: Isa, blocks: usize, pixels: usize, sums: &Sums<'_, W>) {
    // SAFETY: the caller's promise.
    unsafe {
        match isa {
            Isa::Plain => plain(blocks, pixels, sums),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => match (blocks, pixels) {
                (1, 1) => avx2::sums::<1, 1, W>(sums),
                (1, 2) => avx2::sums::<2, 1, W>(sums),
                (1, 3) => avx2::sums::<3, 1, W>(sums),
                (1, 4) => avx2::sums::<4, 1, W>(sums),
                (1, 5) => avx2::sums::<5, 1, W>(sums),
                (1, 6) => avx2::sums::<6, 1, W>(sums),
                (1, 7) => avx2::sums::<7, 1, W>(sums),
                (1, _) => avx2::sums::<8, 1, W>(sums),
                (2, 1) => avx2::sums::<1, 2, W>(sums),
                (2, 2) => avx2::sums::<2, 2, W>(sums),
                (2, 3) => avx2::sums::<3, 2, W>(sums),
                (2, 4) => avx2::sums::<4, 2, W>(sums),
                (2, 5) => avx2::sums::<5, 2, W>(sums),
                (2, _) => avx2::sums::<6, 2, W>(sums),
                (_, 1) => avx2::sums::<1, 3, W>(sums),
                (_, 2) => avx2::sums::<2, 3, W>(sums),
                (_, _) => avx2::sums::<3, 3, W>(sums),
            },
        }
    }
}

/// # Safety
/// As for [`run`].
unsafe fn plain<W: Weight>(blocks: usize, pixels: usize, sums: &Sums<'_, W>) {
    for (block, pixel) in (0..blocks).flat_map(|block| (0..pixels).map(move |pixel| (block, pixel))) {
        let mut totals = [0i32; LANES];
        // SAFETY: the caller's promise.
        unsafe {
            let from = sums.x.offset(*sums.places.add(pixel) as isize);
            let mut weights = sums.weights.add(block * sums.block_weights);
            for index in 0..sums.count {
                let x = from.offset(*sums.steps.add(index) as isize);
                for pair in 0..sums.pairs {
                    let (a, b) = (i32::from(*x.add(2 * pair)), i32::from(*x.add(2 * pair + 1)));
                    for (lane, total) in totals.iter_mut().enumerate() {
                        let (v, w) = (*weights.add(2 * lane), *weights.add(2 * lane + 1));
                        *total = total.wrapping_add(a * i32::from(v.wide()) + b * i32::from(w.wide()));
                    }
                    weights = weights.add(PAIRS);
                }
            }
        }
        let results = sums.end.eight(0, sums.channel + block * LANES, totals);
        // SAFETY: the caller's promise.
        unsafe { sums.out.add(block * sums.block_out + pixel * LANES).cast::<[u8; LANES]>().write(results) };
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::super::ending::{Channels, Ending};
    use super::{LANES, PAIRS, Sums, Weight};

    /// # Safety
    /// As for [`super::run`], for `P` pixels and `B` blocks; the processor has AVX2.
    #[target_feature(enable = "avx2")]
    pub unsafe fn sums<const P: usize, const B: usize, W: Weight>(sums: &Sums<'_, W>) {
        let mut all = [[_mm256_setzero_si256(); B]; P];
        // SAFETY: the caller's promise: every pair of every step from every place is inside the rows, and each block has a
        // vector of weights for each of them. The output has P vectors in each of B blocks.
        unsafe {
            let mut from = [sums.x; P];
            for (p, pointer) in from.iter_mut().enumerate() {
                *pointer = pointer.offset(*sums.places.add(p) as isize);
            }
            let mut weights = sums.weights;
            for index in 0..sums.count {
                let step = *sums.steps.add(index) as isize;
                for pair in 0..sums.pairs {
                    let mut w = [_mm256_setzero_si256(); B];
                    for (b, w) in w.iter_mut().enumerate() {
                        *w = W::load(weights.add(b * sums.block_weights));
                    }
                    for (pixel, from) in all.iter_mut().zip(from) {
                        let x = from.offset(step).add(2 * pair).cast::<i32>().read_unaligned();
                        let x = _mm256_set1_epi32(x);
                        for (sum, w) in pixel.iter_mut().zip(w) {
                            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, w));
                        }
                    }
                    weights = weights.add(PAIRS);
                }
            }
            let ending = Ending::new(sums.end);
            for b in 0..B {
                let channels = Channels::of(sums.end, sums.channel + b * LANES);
                for (p, pixel) in all.iter().enumerate() {
                    ending.store(pixel[b], channels, sums.out.add(b * sums.block_out + p * LANES));
                }
            }
        }
    }
}
