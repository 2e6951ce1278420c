//! The input rows of a tile as a convolution's arithmetic reads them, between what stands for zeros.

#![allow(unsafe_code, reason = "calling code compiled for vector instructions that were just detected")]

use super::Image;
use super::micro::BlockArithmetic;
use crate::conv::window::Sizes;
use crate::cpu::vector::{Isa, LANES};

/// The layout: for each group of input channels, rows of pixels of `channels` elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    sizes: Sizes,
    /// The input's channels are in blocks.
    blocked: bool,
    /// A window has one element, and every input element belongs to one output element: a tile's pixels are one row,
    /// wherever they lie.
    pub direct: bool,
    /// Groups of channels.
    pub groups: usize,
    /// Channels of a group: whole steps of the arithmetic.
    pub channels: usize,
    /// Pixels of a row.
    pitch: usize,
    /// Rows of a group.
    count: usize,
}

/// A tile's output pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pixels {
    /// The first.
    pub first: usize,
    /// How many.
    pub count: usize,
}

impl Rows {
    /// For tiles of at most `pixels` output pixels, over all channels of an image or one block of them, in steps of so many
    /// channels.
    pub fn new(sizes: &Sizes, blocked: bool, pixels: usize, step: usize) -> Rows {
        let reach = |axis: usize| (sizes.kernel[axis] - 1) * sizes.dilations[axis] + 1;
        let width = sizes.output[2].max(1);
        let lines = (pixels.div_ceil(width) + 1).min(sizes.output[1]);
        let direct = blocked && sizes.is_pointwise();
        let channels = if blocked { LANES } else { LANES.min(sizes.inputs.next_multiple_of(step)) };
        Rows {
            sizes: *sizes,
            blocked,
            direct,
            groups: sizes.inputs.div_ceil(channels),
            channels,
            pitch: if direct { pixels } else { (width - 1) * sizes.strides[2] + reach(2) },
            count: if direct { 1 } else { lines.saturating_sub(1) * sizes.strides[1] + reach(1) },
        }
    }

    /// Elements of all groups.
    pub fn len(&self) -> usize {
        self.groups.saturating_mul(self.group())
    }

    /// Elements of a group.
    pub fn group(&self) -> usize {
        self.count.saturating_mul(self.pitch).saturating_mul(self.channels)
    }

    /// Where a window element of the first group lies, from where the window begins.
    pub fn tap(&self, tap: usize) -> usize {
        let (ky, kx) = (tap / self.sizes.kernel[2], tap % self.sizes.kernel[2]);
        let [_, tall, wide] = self.sizes.dilations;
        (ky * tall * self.pitch + kx * wide) * self.channels
    }

    /// Where the window of a tile's pixel begins.
    pub fn place(&self, pixels: Pixels, index: usize) -> usize {
        let width = self.sizes.output[2].max(1);
        if self.direct {
            return index * self.channels;
        }
        let at = pixels.first + index;
        let (y, x) = (at / width - pixels.first / width, at % width);
        (y * self.sizes.strides[1] * self.pitch + x * self.sizes.strides[2]) * self.channels
    }

    /// Fills the rows from an image.
    pub fn fill<A: BlockArithmetic>(
        &self,
        isa: Isa,
        image: &[u8],
        bytes: Image,
        pixels: Pixels,
        out: &mut [A::Left],
    ) {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2")]
            fn wide<A: BlockArithmetic>(
                rows: &Rows,
                image: &[u8],
                bytes: Image,
                pixels: Pixels,
                out: &mut [A::Left],
            ) {
                rows.fill_all::<A>(image, bytes, pixels, out);
            }
            if isa == Isa::Avx2 {
                // SAFETY: the instructions were detected.
                return unsafe { wide::<A>(self, image, bytes, pixels, out) };
            }
        }
        self.fill_all::<A>(image, bytes, pixels, out);
    }

    #[inline(always)]
    fn fill_all<A: BlockArithmetic>(&self, image: &[u8], bytes: Image, pixels: Pixels, out: &mut [A::Left]) {
        let zero = A::zero(bytes);
        let ([_, height, width], plane) = (self.sizes.input, self.sizes.input_plane());
        let groups = out.chunks_exact_mut(self.group().max(1)).enumerate().take(self.groups);
        if self.direct {
            for (group, row) in groups {
                let from = (group * plane + pixels.first) * LANES;
                let source = image.get(from..from + pixels.count * LANES).unwrap_or(&[]);
                A::convert(source, bytes, row);
            }
            return;
        }
        let left = self.sizes.before[2].min(self.pitch);
        let columns = width.min(self.pitch - left);
        let top = pixels.first / self.sizes.output[2].max(1) * self.sizes.strides[1];
        for (group, rows) in groups {
            for (index, row) in rows.chunks_exact_mut((self.pitch * self.channels).max(1)).enumerate() {
                let y = (top + index).checked_sub(self.sizes.before[1]).filter(|&y| y < height);
                let Some(y) = y else {
                    row.fill(zero);
                    continue;
                };
                let (before, rest) = row.split_at_mut(left * self.channels);
                let (inner, after) = rest.split_at_mut(columns * self.channels);
                before.fill(zero);
                after.fill(zero);
                if self.blocked {
                    let from = (group * plane + y * width) * LANES;
                    let source = image.get(from..from + columns * LANES).unwrap_or(&[]);
                    A::convert(source, bytes, inner);
                } else {
                    inner.fill(zero);
                    let most = self.channels.min(self.sizes.inputs - group * self.channels);
                    for channel in 0..most {
                        let from = (group * self.channels + channel) * plane + y * width;
                        let source = image.get(from..from + columns).unwrap_or(&[]);
                        let target = inner[channel..].iter_mut().step_by(self.channels);
                        target.zip(source).for_each(|(slot, &byte)| {
                            A::convert(&[byte], bytes, std::slice::from_mut(slot));
                        });
                    }
                }
            }
        }
    }
}
