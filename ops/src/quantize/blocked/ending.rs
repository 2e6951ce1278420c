//! Sums as bytes again, a pixel's block at a time, in vectors: what [`Requantized`] does.

#![allow(unsafe_code, reason = "loads through pointers into whole vectors")]

use std::arch::x86_64::*;

use crate::cpu::math::ROUND;
use crate::cpu::vector::LANES;
use crate::quantize::ends::Requantized;

/// What belongs to the channels of a block.
#[derive(Clone, Copy)]
pub(super) struct Channels {
    /// Sums are multiplied by it.
    pub factors: __m256,
    /// What sums begin with.
    pub biases: __m256i,
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

/// Operation by operation, with AVX2.
#[derive(Clone, Copy)]
pub(super) struct Ending {
    zero: __m256,
    low: __m256,
    high: __m256,
    round: __m256,
    byte: __m256i,
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

    /// Stores the bytes of eight sums that began with their biases.
    ///
    /// # Safety
    /// `out` has room for them.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub unsafe fn store(&self, sums: __m256i, factors: __m256, out: *mut u8) {
        let value = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), factors);
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

/// With AVX-512, where every factor is a number: then all values are, and conversion to integers rounds them as the longer
/// way does, halves to even.
#[derive(Clone, Copy)]
pub(super) struct FiniteEnding {
    zero: __m512i,
    low: __m512,
    high: __m512,
}

impl FiniteEnding {
    /// For these results.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn new(end: &Requantized<false>) -> FiniteEnding {
        let [zero, least, greatest] = end.range();
        FiniteEnding {
            // A byte's zero point is an integer.
            zero: _mm512_set1_epi32(zero as i32),
            low: _mm512_set1_ps(least - zero),
            high: _mm512_set1_ps(greatest - zero),
        }
    }

    /// Stores the bytes of the sums of one block that began with their biases.
    ///
    /// # Safety
    /// `out` has room for them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    pub unsafe fn store(&self, sums: __m256i, factors: __m256, out: *mut u8) {
        let value = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), factors);
        let value = _mm256_max_ps(_mm512_castps512_ps256(self.low), value);
        let value = _mm256_min_ps(_mm512_castps512_ps256(self.high), value);
        let integers = _mm256_add_epi32(_mm256_cvtps_epi32(value), _mm512_castsi512_si256(self.zero));
        // SAFETY: the caller's promise.
        unsafe { _mm_storel_epi64(out.cast(), _mm256_cvtepi32_epi8(integers)) };
    }

    /// The same for two blocks.
    ///
    /// # Safety
    /// `out` has room for them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    pub unsafe fn store_two(&self, sums: __m512i, factors: __m512, out: *mut u8) {
        let value = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), factors);
        let value = _mm512_min_ps(self.high, _mm512_max_ps(self.low, value));
        let integers = _mm512_add_epi32(_mm512_cvtps_epi32(value), self.zero);
        // SAFETY: the caller's promise.
        unsafe { _mm_storeu_si128(out.cast(), _mm512_cvtepi32_epi8(integers)) };
    }
}
