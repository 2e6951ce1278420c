//! Two window elements of eight channels of two pixels by two instructions, in 16 bits.

#![allow(unsafe_code, reason = "pointers into checked slices, and code for instructions that were detected")]

use super::Constants;
use super::depthwise::{Method, Run, tiles};
use crate::conv::window::Sizes;
use crate::cpu::integer::words::Wide;
use crate::cpu::integer::{Arithmetic, End};
use crate::cpu::vector::{Isa, LANES};

/// Pixels whose sums are kept in registers at once: an even number.
const PIXELS: usize = 4;
/// Elements of the weights of two window elements: each channel's two next to each other, and four channels twice, for
/// two pixels.
const PAIR: usize = 4 * LANES;

/// The method.
pub(super) struct Pairs {
    isa: Isa,
    /// For each block and pair of window elements.
    weights: Vec<i16>,
    /// Where the two window elements of each pair lie.
    steps: Vec<[usize; 2]>,
    /// Elements between pixels.
    stride: usize,
}

impl Pairs {
    /// Packs weights (C, 1, kh, kw).
    pub fn new(sizes: &Sizes, isa: Isa, constants: &Constants<'_>) -> Pairs {
        let (_, rows) = tiles(sizes, Wide::STEP);
        let taps = sizes.window();
        let steps = (0..taps).step_by(2).map(|tap| [tap, (tap + 1).min(taps - 1)].map(|tap| rows.tap(tap)));
        let steps: Vec<[usize; 2]> = steps.collect();
        let mut weights = vec![0; sizes.groups / LANES * steps.len() * PAIR];
        for channel in 0..sizes.groups {
            let all = constants.weights(channel, taps);
            let (block, lane) = (channel / LANES, channel % LANES);
            for (index, pair) in all.chunks(2).enumerate() {
                let at = (block * steps.len() + index) * PAIR + lane / 4 * 2 * LANES + lane % 4 * 2;
                for pixel in [0, LANES] {
                    // A window of an odd number of elements ends with one that is taken twice, the second time for nothing.
                    weights[at + pixel] = pair[0];
                    weights[at + pixel + 1] = pair.get(1).copied().unwrap_or(0);
                }
            }
        }
        Pairs { isa, weights, steps, stride: sizes.strides[2] * LANES }
    }

    /// The weights of a block.
    fn weights(&self, block: usize) -> *const i16 {
        self.weights.as_ptr().wrapping_add(block * self.steps.len() * PAIR)
    }

    /// # Safety
    /// As for [`Method::pixels`].
    unsafe fn plain(&self, run: &Run<'_, i16>) {
        for pixel in 0..PIXELS {
            let mut totals = [0i32; LANES];
            for (index, steps) in self.steps.iter().enumerate() {
                for (lane, total) in totals.iter_mut().enumerate() {
                    let at = index * PAIR + lane / 4 * 2 * LANES + lane % 4 * 2;
                    // SAFETY: the caller's promise.
                    let [(a, v), (b, w)] = [0, 1].map(|half| unsafe {
                        let x = *run.x.add(pixel * self.stride + steps[half] + lane);
                        (i32::from(x), i32::from(*self.weights(run.block).add(at + half)))
                    });
                    *total = total.wrapping_add(a * v + b * w);
                }
            }
            let results = run.end.eight(0, run.block * LANES, totals);
            // SAFETY: the caller's promise.
            unsafe { run.out.add(pixel * LANES).cast::<[u8; LANES]>().write(results) };
        }
    }

    /// `ADJACENT`: pixels follow each other.
    ///
    /// # Safety
    /// As for [`Method::pixels`]; the processor has AVX2.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn avx2<const ADJACENT: bool>(&self, run: &Run<'_, i16>) {
        use std::arch::x86_64::*;

        use super::ending::{Channels, Ending};
        // Of each two pixels, the lower four channels of both, and the upper four. Closures would lose the instructions.
        let mut all = [[_mm256_setzero_si256(); 2]; PIXELS / 2];
        let weights = self.weights(run.block);
        for (index, &[first, second]) in self.steps.iter().enumerate() {
            // SAFETY: the caller's promise: weights for each step, and a block at each of two pixels.
            unsafe {
                let weights = weights.add(index * PAIR);
                let low = _mm256_loadu_si256(weights.cast());
                let high = _mm256_loadu_si256(weights.add(2 * LANES).cast());
                for (two, sums) in all.iter_mut().enumerate() {
                    let from = run.x.add(2 * two * self.stride);
                    let a = two_blocks::<ADJACENT>(from.add(first), self.stride);
                    let b = two_blocks::<ADJACENT>(from.add(second), self.stride);
                    sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), low));
                    sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), high));
                }
            }
        }
        let (ending, channels) = (Ending::new(run.end), Channels::of(run.end, run.block * LANES));
        for (two, &[low, high]) in all.iter().enumerate() {
            let first = _mm256_permute2x128_si256::<0x20>(low, high);
            let second = _mm256_permute2x128_si256::<0x31>(low, high);
            // SAFETY: the output has a vector for each of two pixels.
            unsafe {
                let out = run.out.add(2 * two * LANES);
                ending.store(_mm256_add_epi32(first, channels.biases), channels.factors, out);
                ending.store(_mm256_add_epi32(second, channels.biases), channels.factors, out.add(LANES));
            }
        }
    }
}

impl Method for Pairs {
    type Arithmetic = Wide;
    const PIXELS: usize = PIXELS;
    const BEHIND: usize = 0;

    unsafe fn pixels(&self, run: &Run<'_, i16>) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.isa {
                Isa::Plain => self.plain(run),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 if self.stride == LANES => self.avx2::<true>(run),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => self.avx2::<false>(run),
            }
        }
    }
}

/// A block each at two pixels, `stride` elements apart; `ADJACENT`: the second follows the first.
///
/// # Safety
/// The blocks are there, and the processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn two_blocks<const ADJACENT: bool>(from: *const i16, stride: usize) -> std::arch::x86_64::__m256i {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise.
    unsafe {
        match ADJACENT {
            true => _mm256_loadu_si256(from.cast()),
            false => _mm256_inserti128_si256::<1>(
                _mm256_castsi128_si256(_mm_loadu_si128(from.cast())),
                _mm_loadu_si128(from.add(stride).cast()),
            ),
        }
    }
}
