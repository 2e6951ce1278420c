//! The innermost loops of convolutions over blocks: sums of a few pixels and blocks of output channels, all in registers.

#![allow(unsafe_code, reason = "pointers into checked slices, and code for instructions that were detected")]

#[cfg(target_arch = "x86_64")]
use crate::cpu::vector::Avx2;
use crate::cpu::vector::{Isa, LANES, Plain, Vector};

/// Blocks of output channels that one call computes at most.
pub(crate) const BLOCKS: usize = 3;

/// Vectors of sums of a call at most.
pub(super) const SUMS: usize = 12;

/// The most pixels of a call for so many blocks. Sums, weights and an input element share sixteen registers.
pub(super) const fn pixels(blocks: usize) -> usize {
    match blocks {
        1 => 8,
        2 => 6,
        _ => 3,
    }
}

/// An input element outside the input.
pub(super) const OUTSIDE: i32 = -1;

static ZEROS: [f32; LANES] = [0.0; LANES];

/// What one call computes, as pointers.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    /// The first group: of the image, or from the first pixel on.
    pub x: *const f32,
    /// Groups of input channels.
    pub groups: usize,
    /// Channels of a block: [`LANES`], but not as a constant, since the compiler would take all at once, and keep more in
    /// registers than there are.
    pub channels: usize,
    /// Input elements between groups.
    pub group: usize,
    /// Elements of a window.
    pub taps: usize,
    /// For each window element and pixel, where its input element lies in a group, or [`OUTSIDE`]; for [`Groups::Inner`],
    /// where each pixel's window lies.
    pub offsets: *const i32,
    /// Offsets between window elements.
    pub pitch: usize,
    /// For [`Groups::Inner`], where the elements of a window lie.
    pub steps: *const i32,
    /// Weights of the first block: for each group, window element and channel of the group, a vector.
    pub weights: *const f32,
    /// Weights of a block.
    pub block_weights: usize,
    /// The bias of the blocks.
    pub bias: *const f32,
    /// Where the first pixel of the first block goes; the next pixel follows.
    pub out: *mut f32,
    /// Elements between blocks there.
    pub block_out: usize,
    /// What is added, in the same order as the output, or null.
    pub added: *const f32,
    /// The limits of results.
    pub limits: (f32, f32),
}

/// Stores the sums of `P` pixels and `B` blocks.
///
/// # Safety
/// Output and addend hold `P` vectors in each of `B` blocks, and the processor has the instructions of `V`.
#[inline(always)]
unsafe fn store<V: Vector, const P: usize, const B: usize>(all: [[V; B]; P], sums: &Sums) {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = (V::splat(sums.limits.0), V::splat(sums.limits.1));
        for (p, pixel) in all.iter().enumerate() {
            for (b, &sum) in pixel.iter().enumerate() {
                let at = b * sums.block_out + p * LANES;
                let sum = if sums.added.is_null() { sum } else { sum.add(V::load(sums.added.add(at))) };
                sum.limit(low, high).store(sums.out.add(at));
            }
        }
    }
}

/// The bias for `P` pixels and `B` blocks.
///
/// # Safety
/// The bias holds `B` vectors, and the processor has the instructions of `V`.
#[inline(always)]
unsafe fn start<V: Vector, const P: usize, const B: usize>(sums: &Sums) -> [[V; B]; P] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut all = [[V::splat(0.0); B]; P];
        for b in 0..B {
            let bias = V::load(sums.bias.add(b * LANES));
            all.iter_mut().for_each(|pixel| pixel[b] = bias);
        }
        all
    }
}

/// Windows of one element over blocks of input channels, pixels next to each other.
///
/// # Safety
/// As for [`run`], with `P` pixels and `B` blocks.
#[inline(always)]
unsafe fn row<V: Vector, const P: usize, const B: usize>(sums: &Sums) {
    // SAFETY: the caller's promise: each group holds P · LANES elements, and each block's weights groups · LANES vectors.
    unsafe {
        let mut all = start::<V, P, B>(sums);
        let (mut x, mut weights) = (sums.x, sums.weights);
        for _ in 0..sums.groups {
            for i in 0..sums.channels {
                let mut w = [V::splat(0.0); B];
                for (b, w) in w.iter_mut().enumerate() {
                    *w = V::load(weights.add(b * sums.block_weights + i * LANES));
                }
                for (p, pixel) in all.iter_mut().enumerate() {
                    let x = V::splat(*x.add(p * LANES + i));
                    for (sum, w) in pixel.iter_mut().zip(w) {
                        *sum = x.fma(w, *sum);
                    }
                }
            }
            weights = weights.add(LANES * LANES);
            x = x.wrapping_add(sums.group);
        }
        store(all, sums);
    }
}

/// Windows of any size over single channels, all of them inside.
///
/// # Safety
/// As for [`run`], with `P` pixels and `B` blocks.
#[inline(always)]
unsafe fn inner<V: Vector, const P: usize, const B: usize>(sums: &Sums) {
    // SAFETY: the caller's promise: every step from every pixel is inside, and each block's weights hold groups vectors.
    unsafe {
        let mut all = start::<V, P, B>(sums);
        let mut weights = sums.weights;
        let mut from = [sums.x; P];
        for (p, pointer) in from.iter_mut().enumerate() {
            *pointer = pointer.offset(*sums.offsets.add(p) as isize);
        }
        for index in 0..sums.groups {
            let step = *sums.steps.add(index) as isize;
            let mut w = [V::splat(0.0); B];
            for (b, w) in w.iter_mut().enumerate() {
                *w = V::load(weights.add(b * sums.block_weights));
            }
            for (pixel, from) in all.iter_mut().zip(from) {
                let x = V::splat(*from.offset(step));
                for (sum, w) in pixel.iter_mut().zip(w) {
                    *sum = x.fma(w, *sum);
                }
            }
            weights = weights.add(LANES);
        }
        store(all, sums);
    }
}

/// Windows of any size and place over blocks of input channels.
///
/// # Safety
/// As for [`run`], with `P` pixels and `B` blocks.
#[inline(always)]
unsafe fn windows<V: Vector, const P: usize, const B: usize>(sums: &Sums) {
    // SAFETY: the caller's promise: offsets stay inside a group or are replaced by zeros, and each block's weights hold
    // groups · taps · LANES vectors.
    unsafe {
        let mut all = start::<V, P, B>(sums);
        let (mut group, mut weights) = (sums.x, sums.weights);
        for _ in 0..sums.groups {
            let mut offsets = sums.offsets;
            for _ in 0..sums.taps {
                let mut from = [group; P];
                for (p, pointer) in from.iter_mut().enumerate() {
                    let offset = *offsets.add(p);
                    let inside = group.wrapping_offset(offset as isize);
                    *pointer = if offset < 0 { ZEROS.as_ptr() } else { inside };
                }
                for i in 0..sums.channels {
                    let mut w = [V::splat(0.0); B];
                    for (b, w) in w.iter_mut().enumerate() {
                        *w = V::load(weights.add(b * sums.block_weights + i * LANES));
                    }
                    for (pixel, from) in all.iter_mut().zip(from) {
                        let x = V::splat(*from.add(i));
                        for (sum, w) in pixel.iter_mut().zip(w) {
                            *sum = x.fma(w, *sum);
                        }
                    }
                }
                weights = weights.add(LANES * LANES);
                offsets = offsets.wrapping_add(sums.pitch);
            }
            group = group.wrapping_add(sums.group);
        }
        store(all, sums);
    }
}

/// How input elements are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Groups {
    /// Groups are blocks; windows have one element, and pixels follow each other.
    Blocks,
    /// Groups are the elements of a window over single channels: offsets say where each pixel's window is, steps where
    /// its elements are from there. None is outside.
    Inner,
    /// Groups are blocks, and offsets say where each pixel has each window element.
    Windows,
}

macro_rules! instantiate {
    ($name:ident, $vector:ty $(, $features:literal)?) => {
        /// # Safety
        /// As for [`run`].
        unsafe fn $name(groups: Groups, blocks: usize, pixels: usize, sums: &Sums) {
            /// # Safety
            /// As for [`run`], with `P` pixels and `B` blocks.
            $(#[target_feature(enable = $features)])?
            unsafe fn all<const P: usize, const B: usize>(groups: Groups, sums: &Sums) {
                // SAFETY: the caller's promise.
                unsafe {
                    match groups {
                        Groups::Blocks => row::<$vector, P, B>(sums),
                        Groups::Inner => inner::<$vector, P, B>(sums),
                        Groups::Windows => windows::<$vector, P, B>(sums),
                    }
                }
            }
            // SAFETY: the caller's promise.
            unsafe {
                match (blocks, pixels) {
                    (1, 1) => all::<1, 1>(groups, sums),
                    (1, 2) => all::<2, 1>(groups, sums),
                    (1, 3) => all::<3, 1>(groups, sums),
                    (1, 4) => all::<4, 1>(groups, sums),
                    (1, 5) => all::<5, 1>(groups, sums),
                    (1, 6) => all::<6, 1>(groups, sums),
                    (1, 7) => all::<7, 1>(groups, sums),
                    (1, _) => all::<8, 1>(groups, sums),
                    (2, 1) => all::<1, 2>(groups, sums),
                    (2, 2) => all::<2, 2>(groups, sums),
                    (2, 3) => all::<3, 2>(groups, sums),
                    (2, 4) => all::<4, 2>(groups, sums),
                    (2, 5) => all::<5, 2>(groups, sums),
                    (2, _) => all::<6, 2>(groups, sums),
                    (_, 1) => all::<1, 3>(groups, sums),
                    (_, 2) => all::<2, 3>(groups, sums),
                    (_, _) => all::<3, 3>(groups, sums),
                }
            }
        }
    };
}

instantiate!(plain, Plain);
#[cfg(target_arch = "x86_64")]
instantiate!(avx2, Avx2, "avx2,fma");

/// Computes the sums of `pixels` pixels, at most [`pixels`]`(blocks)`, and `blocks` blocks, at most [`BLOCKS`].
///
/// # Safety
/// `sums` holds what its fields say, for so many pixels and blocks, and groups of what `groups` says, with as many channels;
/// and the processor has the instructions of `isa`.
pub(super) unsafe fn run(isa: Isa, groups: Groups, blocks: usize, pixels: usize, sums: &Sums) {
    // SAFETY: the caller's promise.
    unsafe {
        match isa {
            Isa::Plain => plain(groups, blocks, pixels, sums),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2(groups, blocks, pixels, sums),
        }
    }
}
