//! Four window elements of eight channels of two pixels by one instruction, in bytes, which another one has put in order: all
//! of them lie in the 64 bytes from where the first pixel's window begins (AVX-512 VNNI and VBMI).

#![allow(unsafe_code, reason = "pointers into checked slices, and code for instructions that were detected")]

use super::Constants;
use super::depthwise::{Method, Run, tiles};
use crate::conv::window::Sizes;
use crate::cpu::integer::bytes::Bytes;
use crate::cpu::integer::{Arithmetic, End};
use crate::cpu::vector::{Isa, LANES};

/// Pixels whose sums are kept in registers at once: an even number.
const PIXELS: usize = 8;
/// Window elements of a row that one instruction multiplies.
const FOUR: usize = Bytes::STEP;
/// Bytes of a vector: four window elements of the channels of two pixels.
const VECTOR: usize = 2 * LANES * FOUR;

/// The method.
pub(super) struct Fours {
    isa: Isa,
    /// For each block and group of window elements a vector: each channel's next to each other, twice, for two pixels.
    weights: Vec<i8>,
    /// Where the window elements of each group lie.
    steps: Vec<usize>,
    /// Where the bytes of a vector come from.
    order: [u8; VECTOR],
    /// Elements between pixels.
    stride: usize,
}

/// The processor puts bytes of a whole vector in any order, and multiplies them.
fn is_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    return crate::cpu::integer::bytes::is_fast() && is_x86_feature_detected!("avx512vbmi");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

impl Fours {
    /// Packs weights (C, 1, kh, kw), which fit eight bits; `None` where the window elements of two pixels lie further apart
    /// than one vector, or the processor has no such instructions.
    pub fn new(sizes: &Sizes, isa: Isa, constants: &Constants<'_>) -> Option<Fours> {
        let (_, rows) = tiles(sizes, Bytes::STEP);
        let ([_, tall, wide], stride, dilation) = (sizes.kernel, sizes.strides[2], sizes.dilations[2]);
        let most = wide.min(FOUR);
        if (stride + (most - 1) * dilation + 1) * LANES > VECTOR || (isa != Isa::Plain && !is_fast()) {
            return None;
        }
        let across = wide.div_ceil(FOUR);
        let steps = (0..tall).flat_map(|y| (0..across).map(move |four| y * wide + four * FOUR));
        let steps: Vec<usize> = steps.map(|tap| rows.tap(tap)).collect();
        let mut weights = vec![0; sizes.groups / LANES * steps.len() * VECTOR];
        for channel in 0..sizes.groups {
            let (block, lane) = (channel / LANES, channel % LANES);
            for (tap, weight) in constants.weights(channel, tall * wide).into_iter().enumerate() {
                let (y, x) = (tap / wide, tap % wide);
                let at = (block * steps.len() + y * across + x / FOUR) * VECTOR + lane * FOUR + x % FOUR;
                let weight = i8::try_from(weight).ok()?;
                weights[at] = weight;
                weights[at + VECTOR / 2] = weight;
            }
        }
        let order = std::array::from_fn(|at| {
            let (pixel, lane, tap) = (at / (VECTOR / 2), at / FOUR % LANES, at % FOUR);
            // What has no weight may be any byte.
            ((pixel * stride + tap.min(most - 1) * dilation) * LANES + lane) as u8
        });
        Some(Fours { isa, weights, steps, order, stride: stride * LANES })
    }

    /// The weights of a block.
    fn weights(&self, block: usize) -> *const i8 {
        self.weights.as_ptr().wrapping_add(block * self.steps.len() * VECTOR)
    }

    /// # Safety
    /// As for [`Method::pixels`].
    unsafe fn plain(&self, run: &Run<'_, u8>) {
        for two in 0..PIXELS / 2 {
            let mut totals = [0i32; 2 * LANES];
            for (index, step) in self.steps.iter().enumerate() {
                for (at, &from) in self.order.iter().enumerate() {
                    // SAFETY: the caller's promise.
                    let (x, w) = unsafe {
                        let x = *run.x.add(2 * two * self.stride + step + usize::from(from));
                        (x, *self.weights(run.block).add(index * VECTOR + at))
                    };
                    totals[at / FOUR] = totals[at / FOUR].wrapping_add(Bytes::product(x, w));
                }
            }
            for (pixel, totals) in totals.as_chunks::<LANES>().0.iter().enumerate() {
                let results = run.end.eight(0, run.block * LANES, *totals);
                // SAFETY: the caller's promise.
                unsafe { run.out.add((2 * two + pixel) * LANES).cast::<[u8; LANES]>().write(results) };
            }
        }
    }

    /// # Safety
    /// As for [`Method::pixels`]; the processor has the instructions.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512vnni,avx512vbmi")]
    unsafe fn vectors(&self, run: &Run<'_, u8>) {
        use std::arch::x86_64::*;

        use super::ending::{Channels, FiniteEnding};
        let channels = Channels::of(run.end, run.block * LANES);
        let biases = _mm512_broadcast_i64x4(channels.biases);
        let mut all = [biases; PIXELS / 2];
        // SAFETY: the caller's promise: a vector of weights for each step, and one of bytes from each pixel on.
        unsafe {
            let order = _mm512_loadu_si512(self.order.as_ptr().cast());
            let mut weights = self.weights(run.block);
            for &step in &self.steps {
                let w = _mm512_loadu_si512(weights.cast());
                for (two, sum) in all.iter_mut().enumerate() {
                    let x = _mm512_loadu_si512(run.x.add(2 * two * self.stride + step).cast());
                    *sum = _mm512_dpbusd_epi32(*sum, _mm512_permutexvar_epi8(order, x), w);
                }
                weights = weights.add(VECTOR);
            }
            let ending = FiniteEnding::new(run.end);
            let factors = _mm512_castsi512_ps(_mm512_broadcast_i64x4(_mm256_castps_si256(channels.factors)));
            for (two, sum) in all.into_iter().enumerate() {
                ending.store_two(sum, factors, run.out.add(2 * two * LANES));
            }
        }
    }
}

impl Method for Fours {
    type Arithmetic = Bytes;
    const PIXELS: usize = PIXELS;
    const BEHIND: usize = VECTOR;

    unsafe fn pixels(&self, run: &Run<'_, u8>) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.isa {
                Isa::Plain => self.plain(run),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => self.vectors(run),
            }
        }
    }
}
