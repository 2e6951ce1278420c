//! The innermost loops of quantized convolutions over blocks: sums of a few pixels and blocks of output channels, all in
//! registers. A vector of weights has a step of input channels of each of eight output channels, which one instruction or two
//! multiply by those of a pixel and add up in 32 bits.

#![allow(unsafe_code, reason = "pointers into checked slices, and code for instructions that were detected")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::Image;
#[cfg(target_arch = "x86_64")]
use super::ending::{Channels, Ending, FiniteEnding};
use crate::conv::blocked::BLOCKS;
use crate::cpu::integer::bytes::{Bytes, unsign, unsigned_zero};
use crate::cpu::integer::words::{Weight, Words, widen};
use crate::cpu::integer::{Arithmetic, End};
use crate::cpu::packed::Element;
use crate::cpu::vector::{Isa, LANES};
use crate::quantize::ends::Requantized;

/// Vectors of sums of a call at most.
pub(super) const SUMS: usize = 24;

/// What one call computes, as pointers.
pub(super) struct Sums<'a, A: Arithmetic> {
    /// The rows of the input.
    pub x: *const A::Left,
    /// Where each pixel's window begins there.
    pub places: *const i32,
    /// Where each group's window elements lie from there.
    pub taps: *const i32,
    /// How many these are.
    pub count: usize,
    /// Steps of channels of a group.
    pub steps: usize,
    /// Weights of the first block: for each window element and step a vector.
    pub weights: *const A::Right,
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

/// Arithmetic that convolutions over blocks work by.
pub(super) trait BlockArithmetic: Arithmetic<Right: Weight + Element> {
    /// Its name among packed weights.
    const NAME: &'static str;

    /// The most pixels of a call for so many blocks: sums, weights and an input element share the registers.
    fn pixels_at_once(blocks: usize) -> usize;

    /// Bytes of an image as the left factor has them.
    fn convert(bytes: &[u8], image: Image, out: &mut [Self::Left]);

    /// An image that the left factor is already.
    fn as_is(image: &[u8], bytes: Image) -> Option<&[Self::Left]>;

    /// What is in the place of bytes that stand for 0.
    fn zero(image: Image) -> Self::Left;

    /// The zero point that they still have.
    fn remains(image: Image) -> i32;

    /// [`run`], with vectors.
    ///
    /// # Safety
    /// As for [`run`]; the processor has the instructions.
    #[cfg(target_arch = "x86_64")]
    unsafe fn vectors(blocks: usize, pixels: usize, sums: &Sums<'_, Self>);

    /// A vector of weights.
    ///
    /// # Safety
    /// It is there, and the processor has the instructions.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load(weights: *const Self::Right) -> __m256i;

    /// Stores the results of sums of `P` pixels and `B` blocks that began with their biases.
    ///
    /// # Safety
    /// The output has `P` vectors in each of `B` blocks, and the processor has the instructions.
    #[cfg(target_arch = "x86_64")]
    unsafe fn store<const P: usize, const B: usize>(
        all: &[[__m256i; B]; P],
        channels: &[Channels; B],
        sums: &Sums<'_, Self>,
    );

    /// `sum`, and the products of a step of the input with each step of the weights.
    ///
    /// # Safety
    /// The processor has the instructions.
    #[cfg(target_arch = "x86_64")]
    unsafe fn add(sum: __m256i, x: __m256i, weights: __m256i) -> __m256i;
}

/// Computes the results of `pixels` pixels, at most as many as are computed at once for so many blocks, and `blocks` blocks.
///
/// # Safety
/// `sums` holds what its fields say, for so many pixels and blocks; all window elements from all places are inside the rows,
/// with `steps` steps behind them; the output has a vector for each pixel of each block; and the processor has the
/// instructions of `isa` and, unless that is the plain one, those of the arithmetic.
pub(super) unsafe fn run<A: BlockArithmetic>(isa: Isa, blocks: usize, pixels: usize, sums: &Sums<'_, A>) {
    // SAFETY: the caller's promise.
    unsafe {
        match isa {
            Isa::Plain => plain(blocks, pixels, sums),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => A::vectors(blocks, pixels, sums),
        }
    }
}

/// # Safety
/// As for [`run`].
unsafe fn plain<A: BlockArithmetic>(blocks: usize, pixels: usize, sums: &Sums<'_, A>) {
    for (block, pixel) in (0..blocks).flat_map(|block| (0..pixels).map(move |pixel| (block, pixel))) {
        let mut totals = [0i32; LANES];
        // SAFETY: the caller's promise.
        unsafe {
            let from = sums.x.offset(*sums.places.add(pixel) as isize);
            let mut weights = sums.weights.add(block * sums.block_weights);
            for index in 0..sums.count {
                let x = from.offset(*sums.taps.add(index) as isize);
                for step in 0..sums.steps {
                    for (lane, total) in totals.iter_mut().enumerate() {
                        for i in 0..A::STEP {
                            let (x, w) = (*x.add(A::STEP * step + i), *weights.add(A::STEP * lane + i));
                            *total = total.wrapping_add(A::product(x, w));
                        }
                    }
                    weights = weights.add(A::STEP * LANES);
                }
            }
        }
        let results = sums.end.eight(0, sums.channel + block * LANES, totals);
        // SAFETY: the caller's promise.
        unsafe { sums.out.add(block * sums.block_out + pixel * LANES).cast::<[u8; LANES]>().write(results) };
    }
}

/// The results of `P` pixels and `B` blocks.
///
/// # Safety
/// As for [`run`]; the processor has the instructions.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn vectors_of<A: BlockArithmetic, const P: usize, const B: usize>(sums: &Sums<'_, A>) {
    // SAFETY: the caller's promise: every step of every window element from every place is inside the rows, and each block
    // has a vector of weights for each of them. The output has P vectors in each of B blocks.
    unsafe {
        let mut channels = [Channels::of(sums.end, sums.channel); B];
        for (b, channels) in channels.iter_mut().enumerate().skip(1) {
            *channels = Channels::of(sums.end, sums.channel + b * LANES);
        }
        let mut all = [channels.map(|channels| channels.biases); P];
        let mut from = [sums.x; P];
        for (p, pointer) in from.iter_mut().enumerate() {
            *pointer = pointer.offset(*sums.places.add(p) as isize);
        }
        let mut weights = sums.weights;
        for index in 0..sums.count {
            let tap = *sums.taps.add(index) as isize;
            for step in 0..sums.steps {
                let mut w = [_mm256_setzero_si256(); B];
                for (b, w) in w.iter_mut().enumerate() {
                    *w = A::load(weights.add(b * sums.block_weights));
                }
                for (pixel, from) in all.iter_mut().zip(from) {
                    // A step takes 32 bits in either arithmetic.
                    let x = from.offset(tap).add(A::STEP * step).cast::<i32>().read_unaligned();
                    let x = _mm256_set1_epi32(x);
                    for (sum, w) in pixel.iter_mut().zip(w) {
                        *sum = A::add(*sum, x, w);
                    }
                }
                weights = weights.add(A::STEP * LANES);
            }
        }
        A::store(&all, &channels, sums);
    }
}

/// Defines [`BlockArithmetic::vectors`]: [`vectors_of`], compiled with `features` for all blocks and pixels that are computed
/// at once.
#[cfg(target_arch = "x86_64")]
macro_rules! vectors {
    ($features:literal; $($b:literal: $($p:literal)*;)*) => {
        unsafe fn vectors(blocks: usize, pixels: usize, sums: &Sums<'_, Self>) {
            /// # Safety
            /// As for [`vectors_of`].
            #[target_feature(enable = $features)]
            unsafe fn compiled<A: BlockArithmetic, const P: usize, const B: usize>(sums: &Sums<'_, A>) {
                // SAFETY: the caller's promise.
                unsafe { vectors_of::<A, P, B>(sums) };
            }
            // SAFETY: the caller's promise.
            unsafe {
                match (blocks, pixels) {
                    $($(($b, $p) => compiled::<Self, $p, $b>(sums),)*)*
                    // Right for any, but never asked for.
                    _ => plain(blocks, pixels, sums),
                }
            }
        }
    };
}

impl<W: Weight + Element> BlockArithmetic for Words<W> {
    const NAME: &'static str = "words";

    fn pixels_at_once(blocks: usize) -> usize {
        match blocks {
            1 => 8,
            2 => 6,
            _ => 3,
        }
    }

    #[inline(always)]
    fn convert(bytes: &[u8], image: Image, out: &mut [i16]) {
        widen(bytes, image.signed, image.zero, out);
    }

    fn as_is(_image: &[u8], _bytes: Image) -> Option<&[i16]> {
        None
    }

    fn zero(_image: Image) -> i16 {
        0
    }

    fn remains(_image: Image) -> i32 {
        0
    }

    #[cfg(target_arch = "x86_64")]
    vectors! { "avx2"; 1: 1 2 3 4 5 6 7 8; 2: 1 2 3 4 5 6; 3: 1 2 3; }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn store<const P: usize, const B: usize>(
        all: &[[__m256i; B]; P],
        channels: &[Channels; B],
        sums: &Sums<'_, Self>,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let ending = Ending::new(sums.end);
            for (p, pixel) in all.iter().enumerate() {
                for (b, (&sum, channels)) in pixel.iter().zip(channels).enumerate() {
                    ending.store(sum, channels.factors, sums.out.add(b * sums.block_out + p * LANES));
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load(weights: *const W) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { W::load(weights) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn add(sum: __m256i, x: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(x, weights)) }
    }
}

impl BlockArithmetic for Bytes {
    const NAME: &'static str = "bytes";

    fn pixels_at_once(_blocks: usize) -> usize {
        SUMS / BLOCKS
    }

    #[inline(always)]
    fn convert(bytes: &[u8], image: Image, out: &mut [u8]) {
        unsign(bytes, image.signed, out);
    }

    fn as_is(image: &[u8], bytes: Image) -> Option<&[u8]> {
        (!bytes.signed).then_some(image)
    }

    fn zero(image: Image) -> u8 {
        unsigned_zero(image.zero, image.signed)
    }

    fn remains(image: Image) -> i32 {
        Self::zero(image).into()
    }

    #[cfg(target_arch = "x86_64")]
    vectors! {
        "avx512f,avx512vl,avx512bw,avx512vnni";
        1: 1 2 3 4 5 6 7 8; 2: 1 2 3 4 5 6 7 8; 3: 1 2 3 4 5 6 7 8;
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn store<const P: usize, const B: usize>(
        all: &[[__m256i; B]; P],
        channels: &[Channels; B],
        sums: &Sums<'_, Self>,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let ending = FiniteEnding::new(sums.end);
            for (b, channels) in channels.iter().enumerate() {
                let (out, factors) = (sums.out.add(b * sums.block_out), channels.factors);
                let both = _mm512_castsi512_ps(_mm512_broadcast_i64x4(_mm256_castps_si256(factors)));
                for p in (0..P).step_by(2) {
                    if p + 1 < P {
                        let low = _mm512_castsi256_si512(all[p][b]);
                        let two = _mm512_inserti64x4::<1>(low, all[(p + 1) % P][b]);
                        ending.store_two(two, both, out.add(p * LANES));
                    } else {
                        ending.store(all[p][b], factors, out.add(p * LANES));
                    }
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load(weights: *const i8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(weights.cast()) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn add(sum: __m256i, x: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_dpbusd_epi32(sum, x, weights) }
    }
}
