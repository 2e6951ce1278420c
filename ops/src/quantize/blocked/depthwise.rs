//! Quantized convolutions of each channel by itself, over values in blocks: two window elements of eight channels of two
//! pixels are two instructions.

#![allow(unsafe_code, reason = "pointers into checked slices, and code for instructions that were detected")]

use super::rows::{Pixels, Rows};
use super::{Constants, Image, operands};
use crate::conv::blocked::channel_grid;
use crate::conv::window::Sizes;
use crate::cpu::integer::words::Wide;
use crate::cpu::integer::{Arithmetic, End};
use crate::cpu::tiles::{Grid, Tile, share_out};
use crate::cpu::vector::{Isa, LANES};
use crate::error::OpError;
use crate::operator::{CpuKernel, CpuRun};
use crate::quantize::conv_cpu::words;
use crate::quantize::ends::Requantized;

/// Pixels whose sums are kept in registers at once: an even number.
const PIXELS: usize = 4;
/// Elements of the weights of two window elements: each channel's two next to each other, and four channels twice, for
/// two pixels.
const PAIR: usize = 4 * LANES;

/// A convolution with one channel to a group over two axes.
pub(super) struct DepthwiseKernel {
    sizes: Sizes,
    isa: Isa,
    image: Image,
    end: Requantized<false>,
    /// For each block and pair of window elements.
    weights: Vec<i16>,
    /// Where the two window elements of each pair lie.
    steps: Vec<[usize; 2]>,
    grid: Grid,
    rows: Rows,
}

/// Some pixels of a block, as pointers.
#[derive(Clone, Copy)]
struct Run<'a> {
    /// Where the first pixel's window begins.
    x: *const i16,
    /// Elements between pixels.
    stride: usize,
    steps: &'a [[usize; 2]],
    weights: *const i16,
    end: &'a Requantized<false>,
    /// The first channel of the block.
    channel: usize,
    /// Where the first pixel goes; the next follows.
    out: *mut u8,
}

/// The tiles of a convolution, and the input rows of one block of channels of the largest.
pub(super) fn tiles(sizes: &Sizes) -> (Grid, Rows) {
    let grid = channel_grid(sizes);
    let block = Sizes { inputs: LANES, outputs: LANES, groups: 1, ..*sizes };
    (grid, Rows::new(&block, true, grid.tile_columns / LANES, Wide::STEP))
}

impl DepthwiseKernel {
    /// Packs weights (C, 1, kh, kw).
    ///
    /// # Errors
    /// When a constant has another type.
    pub fn new(sizes: Sizes, isa: Isa, constants: &Constants<'_>) -> Result<DepthwiseKernel, OpError> {
        let (grid, rows) = tiles(&sizes);
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
        let (image, end) = (constants.image, constants.end(sizes.groups)?);
        Ok(DepthwiseKernel { sizes, isa, image, end, weights, steps, grid, rows })
    }

    /// Elements of scratch memory for a tile: the rows of a block, and what is read behind them for pixels that do not
    /// count.
    fn share(&self) -> usize {
        self.rows.len() + PIXELS * self.sizes.strides[2] * LANES
    }

    fn tile(&self, x: &[u8], tile: &mut Tile<'_, u8>, scratch: &mut [i16]) -> Result<(), OpError> {
        let sizes = &self.sizes;
        let (width, size) = (sizes.output[2], sizes.input_plane() * LANES);
        let pixels = Pixels { first: tile.column / LANES, count: tile.columns / LANES };
        if scratch.len() < self.share() {
            return Err(OpError::Internal("too little scratch memory"));
        }
        let mut short = [0u8; PIXELS * LANES];
        for row in 0..tile.rows {
            let block = tile.row + row;
            let image = tile.plane * self.grid.rows + block;
            let input = x.get(image * size..(image + 1) * size);
            let weights = self.weights.get(block * self.steps.len() * PAIR..);
            let (Some(input), Some(weights)) = (input, weights) else {
                return Err(OpError::Internal("a value smaller than its dimensions say"));
            };
            let rows = &mut scratch[..self.rows.len()];
            self.rows.fill::<Wide>(self.isa, input, self.image, pixels, rows);
            for (line, out) in tile.row_mut(row).chunks_exact_mut(width * LANES).enumerate() {
                let place = self.rows.place(pixels, line * width);
                let stride = sizes.strides[2] * LANES;
                for (part, out) in out.chunks_mut(PIXELS * LANES).enumerate() {
                    let whole = out.len() == PIXELS * LANES;
                    let run = Run {
                        x: scratch[place + part * PIXELS * stride..].as_ptr(),
                        stride,
                        steps: &self.steps,
                        weights: weights.as_ptr(),
                        end: &self.end,
                        channel: block * LANES,
                        out: if whole { out.as_mut_ptr() } else { short.as_mut_ptr() },
                    };
                    // SAFETY: the window of the last pixel lies inside the rows, and behind them is room for those of
                    // PIXELS more. The weights hold a pair for each step, the output PIXELS vectors. `isa` was detected.
                    unsafe { run.pixels(self.isa) };
                    if !whole {
                        out.copy_from_slice(&short[..out.len()]);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Run<'_> {
    /// Computes `PIXELS` pixels.
    ///
    /// # Safety
    /// All steps from all pixels are inside the rows with a block behind them, the weights hold a pair for each step, the
    /// output a vector for each pixel, and the processor has the instructions of `isa`.
    unsafe fn pixels(&self, isa: Isa) {
        // SAFETY: the caller's promise.
        unsafe {
            match isa {
                Isa::Plain => self.plain(),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 if self.stride == LANES => self.avx2::<true>(),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => self.avx2::<false>(),
            }
        }
    }

    /// # Safety
    /// As for [`Run::pixels`].
    unsafe fn plain(&self) {
        for pixel in 0..PIXELS {
            let mut totals = [0i32; LANES];
            for (index, steps) in self.steps.iter().enumerate() {
                for (lane, total) in totals.iter_mut().enumerate() {
                    let at = index * PAIR + lane / 4 * 2 * LANES + lane % 4 * 2;
                    // SAFETY: the caller's promise.
                    let [(a, v), (b, w)] = [0, 1].map(|half| unsafe {
                        let x = *self.x.add(pixel * self.stride + steps[half] + lane);
                        (i32::from(x), i32::from(*self.weights.add(at + half)))
                    });
                    *total = total.wrapping_add(a * v + b * w);
                }
            }
            let results = self.end.eight(0, self.channel, totals);
            // SAFETY: the caller's promise.
            unsafe { self.out.add(pixel * LANES).cast::<[u8; LANES]>().write(results) };
        }
    }

    /// `ADJACENT`: pixels follow each other.
    ///
    /// # Safety
    /// As for [`Run::pixels`]; the processor has AVX2.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn avx2<const ADJACENT: bool>(&self) {
        use std::arch::x86_64::*;

        use super::ending::{Channels, Ending};
        // Of each two pixels, the lower four channels of both, and the upper four. Closures would lose the instructions.
        let mut all = [[_mm256_setzero_si256(); 2]; PIXELS / 2];
        for (index, &[first, second]) in self.steps.iter().enumerate() {
            // SAFETY: the caller's promise: weights for each step, and a block at each of two pixels.
            unsafe {
                let weights = self.weights.add(index * PAIR);
                let low = _mm256_loadu_si256(weights.cast());
                let high = _mm256_loadu_si256(weights.add(2 * LANES).cast());
                for (two, sums) in all.iter_mut().enumerate() {
                    let from = self.x.add(2 * two * self.stride);
                    let a = two_blocks::<ADJACENT>(from.add(first), self.stride);
                    let b = two_blocks::<ADJACENT>(from.add(second), self.stride);
                    sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), low));
                    sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), high));
                }
            }
        }
        let (ending, channels) = (Ending::new(self.end), Channels::of(self.end, self.channel));
        for (two, &[low, high]) in all.iter().enumerate() {
            // SAFETY: the output has a vector for each of two pixels.
            unsafe {
                let out = self.out.add(2 * two * LANES);
                ending.store(_mm256_permute2x128_si256::<0x20>(low, high), channels, out);
                ending.store(_mm256_permute2x128_si256::<0x31>(low, high), channels, out.add(LANES));
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

impl CpuKernel for DepthwiseKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (x, output) = operands(run.inputs, run.outputs)?;
        let scratch = (words(run.scratch), self.share());
        share_out(output, 0, &self.grid, scratch, || Ok(()), |tile, scratch, ()| self.tile(x, tile, scratch))
    }

    fn scratch(&self) -> usize {
        self.share() * rayon::current_num_threads() * size_of::<i16>()
    }
}
