//! Sums as bytes again, a pixel's block at a time, in vectors: what [`Requantized`] does, operation by operation.

#![allow(unsafe_code, reason = "loads through pointers into whole vectors")]

use std::arch::x86_64::*;

use super::micro::Sums;
use crate::cpu::integer::Arithmetic;
use crate::cpu::math::ROUND;
use crate::cpu::vector::LANES;
use crate::quantize::ends::Requantized;

/// Stores the results of `P` pixels and `B` blocks.
///
/// # Safety
/// The output has `P` vectors in each of `B` blocks.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn store<const P: usize, const B: usize, A: Arithmetic>(
    all: [[__m256i; B]; P],
    sums: &Sums<'_, A>,
) {
    let ending = Ending::new(sums.end);
    for b in 0..B {
        let channels = Channels::of(sums.end, sums.channel + b * LANES);
        for (p, pixel) in all.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { ending.store(pixel[b], channels, sums.out.add(b * sums.block_out + p * LANES)) };
        }
    }
}

/// What is the same for all sums.
#[derive(Clone, Copy)]
pub(super) struct Ending {
    zero: __m256,
    low: __m256,
    high: __m256,
    round: __m256,
    byte: __m256i,
}

/// What belongs to the channels of a block.
#[derive(Clone, Copy)]
pub(super) struct Channels {
    factors: __m256,
    biases: __m256i,
}

impl Ending {
    /// For these results.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn new(end: &Requantized<false>) -> Ending {
        let [zero, least, greatest] = end.range();
        Ending {
            zero: _mm256_set1_ps(zero),
            low: _mm256_set1_ps(least - zero),
            high: _mm256_set1_ps(greatest - zero),
            round: _mm256_set1_ps(ROUND),
            byte: _mm256_set1_epi32(0xFF),
        }
    }

    /// Stores the bytes of eight sums.
    ///
    /// # Safety
    /// `out` has room for them.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub unsafe fn store(&self, sums: __m256i, channels: Channels, out: *mut u8) {
        let value = _mm256_cvtepi32_ps(_mm256_add_epi32(sums, channels.biases));
        let value = _mm256_mul_ps(value, channels.factors);
        // Of an operand that is no number, the second is taken: what is none stays none.
        let value = _mm256_min_ps(self.high, _mm256_max_ps(self.low, value));
        let rounded = _mm256_sub_ps(_mm256_add_ps(value, self.round), self.round);
        let bits = _mm256_castps_si256(_mm256_add_ps(_mm256_add_ps(rounded, self.zero), self.round));
        let bits = _mm256_and_si256(bits, self.byte);
        let words = _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256::<1>(bits));
        // SAFETY: the caller's promise.
        unsafe { _mm_storel_epi64(out.cast(), _mm_packus_epi16(words, words)) };
    }
}

impl Channels {
    /// Those from `channel` on; all zeros past the last.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn of(end: &Requantized<false>, channel: usize) -> Channels {
        let (factors, biases) = end.eight_at(channel);
        let (factors, biases): (&[f32; LANES], &[i32; LANES]) = (&factors, &biases);
        // SAFETY: both have eight elements.
        unsafe {
            Channels {
                factors: _mm256_loadu_ps(factors.as_ptr()),
                biases: _mm256_loadu_si256(biases.as_ptr().cast()),
            }
        }
    }
}
