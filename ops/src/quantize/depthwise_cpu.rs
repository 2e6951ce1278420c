//! Depthwise convolutions of quantized integers on the CPU: each output channel by itself.

#![allow(unsafe_code, reason = "calling code compiled for vector instructions that were just detected")]

use super::conv_cpu::{Operands, first, pack, words};
use super::ends::{Bounds, Places, Requantized};
use super::staged::{SLACK, Staged};
use crate::conv::window::Sizes;
use crate::cpu::integer::words::Wide;
use crate::cpu::integer::{Arithmetic, AsSums, End, store};
use crate::cpu::tiles::{Grid, share_out};
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::operator::{CpuKernel, CpuRun};

/// Sums computed at once.
const LANES: usize = 16;

/// A convolution of each channel by itself.
pub(super) struct DepthwiseKernel {
    /// The sizes.
    pub sizes: Sizes,
    /// The layout of an input channel.
    pub staged: Staged,
    /// The operands.
    pub places: Places,
    /// What results are held to.
    pub bounds: Bounds,
    /// The weights without their zero points, when constant.
    pub packed: Option<Vec<i16>>,
}

/// The output rows of a channel.
struct Lines<'a> {
    staged: &'a Staged,
    offsets: &'a [usize],
    /// Output rows, and their elements.
    count: usize,
    width: usize,
    /// Rows follow each other in the staged channel as well: a run of them is one long row.
    joined: bool,
}

impl DepthwiseKernel {
    /// Elements of the sums of a channel, and room behind.
    fn sums(&self) -> usize {
        self.sizes.output_plane() + 2 * LANES
    }

    /// Elements of scratch memory of a thread, in 16 bits: the input channel, the sums, and the sums with gaps.
    fn share(&self) -> usize {
        self.staged.len().next_multiple_of(2) + 2 * self.sums() + 2 * (self.staged.len() + 2 * LANES)
    }

    fn fill<T: Copy + Send>(
        &self,
        out: &mut [T],
        operands: &Operands<'_>,
        scratch: &mut [i16],
        end: &impl End<T>,
    ) -> Result<(), OpError> {
        let sizes = &self.sizes;
        let (plane, channels, window) = (sizes.output_plane(), sizes.groups * sizes.outputs, sizes.window());
        let own;
        let weights = match &self.packed {
            Some(packed) => packed,
            None => {
                own = pack(&operands.w, &operands.w_zeros, channels, window);
                &own
            }
        };
        let rows = sizes.batch * channels;
        // Several small channels to a tile, but several tiles to a thread.
        let per_thread = rows.div_ceil(8 * rayon::current_num_threads());
        let tile_rows = (4096 / plane.max(1)).clamp(1, per_thread.max(1));
        let grid = Grid { planes: 1, rows, columns: plane, tile_rows, tile_columns: plane.max(1) };
        let offsets = self.staged.offsets();
        let lines = Lines {
            staged: &self.staged,
            offsets: &offsets,
            count: sizes.output[0] * sizes.output[1],
            width: sizes.output[2],
            joined: sizes.strides[1] == 1 && sizes.output[0] == 1,
        };
        let (size, signed) = (sizes.input_plane(), operands.x.dtype == DType::I8);
        share_out(
            out,
            0,
            &grid,
            (scratch, self.share()),
            || Ok(()),
            |tile, scratch, ()| {
                let (input, rest) = scratch.split_at_mut(self.staged.len().next_multiple_of(2));
                let rest: &mut [i32] = bytemuck::try_cast_slice_mut(rest)
                    .map_err(|_| OpError::Internal("scratch memory that is not aligned"))?;
                let (sums, gapped) = rest.split_at_mut(self.sums());
                let input = &mut input[..self.staged.len()];
                let mut held = None;
                for row in 0..tile.rows {
                    let (image, channel) = ((tile.row + row) / channels, (tile.row + row) % channels);
                    let from = image * sizes.groups + channel / sizes.outputs;
                    if held.replace(from) != Some(from) {
                        let bytes = operands.x.bytes.get(from * size..(from + 1) * size).unwrap_or(&[]);
                        self.staged.fill(bytes, signed, operands.x_zero, input);
                    }
                    let weights = weights.get(channel * Wide::row_stride(window)..).unwrap_or(&[]);
                    channel_of(&lines, input, weights, sums, gapped, end, channel, tile.row_mut(row));
                }
                Ok(())
            },
        )
    }
}

/// Computes one output channel.
#[allow(clippy::too_many_arguments, reason = "two kinds of scratch memory besides what it reads and writes")]
fn channel_of<T: Copy, E: End<T>>(
    lines: &Lines<'_>,
    input: &[i16],
    weights: &[i16],
    sums: &mut [i32],
    gapped: &mut [i32],
    end: &E,
    channel: usize,
    out: &mut [T],
) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        #[allow(clippy::too_many_arguments, reason = "as around it")]
        fn wide<T: Copy, E: End<T>>(
            lines: &Lines<'_>,
            input: &[i16],
            weights: &[i16],
            sums: &mut [i32],
            gapped: &mut [i32],
            end: &E,
            channel: usize,
            out: &mut [T],
        ) {
            convolve(lines, input, weights, sums, gapped, avx2::run);
            store(end, channel, 0, &sums[..out.len()], out);
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions that `wide` is compiled to.
            return unsafe { wide(lines, input, weights, sums, gapped, end, channel, out) };
        }
    }
    convolve(lines, input, weights, sums, gapped, portable);
    store(end, channel, 0, &sums[..out.len()], out);
}

/// A kernel: so many sums, the first of a window that begins there; whole vectors are written.
type Run = fn(&[usize], &[i16], &[i16], usize, usize, &mut [i32]);

#[inline(always)]
fn convolve(
    lines: &Lines<'_>,
    input: &[i16],
    weights: &[i16],
    sums: &mut [i32],
    gapped: &mut [i32],
    run: Run,
) {
    if !lines.joined {
        for line in 0..lines.count {
            let start = lines.staged.start(line);
            run(lines.offsets, input, weights, start, lines.width, &mut sums[line * lines.width..]);
        }
        return;
    }
    let pitch = lines.staged.line();
    let whole = lines.count.saturating_sub(1) * pitch + lines.width;
    if pitch == lines.width {
        return run(lines.offsets, input, weights, 0, whole, sums);
    }
    run(lines.offsets, input, weights, 0, whole, gapped);
    for line in 0..lines.count {
        let (mut at, from) = (0, line * pitch);
        while at < lines.width {
            let source = gapped.get(from + at..).and_then(<[i32]>::first_chunk::<8>);
            let target = sums.get_mut(line * lines.width + at..).and_then(<[i32]>::first_chunk_mut::<8>);
            if let (Some(source), Some(target)) = (source, target) {
                *target = *source;
            }
            at += 8;
        }
    }
}

fn portable(offsets: &[usize], input: &[i16], weights: &[i16], start: usize, count: usize, sums: &mut [i32]) {
    let mut at = 0;
    while at < count {
        let Some(sums) = sums.get_mut(at..).and_then(<[i32]>::first_chunk_mut::<LANES>) else { return };
        let mut totals = [0i32; LANES];
        for (&offset, &weight) in offsets.iter().zip(weights) {
            let source = input.get(offset + start + at..).and_then(<[i16]>::first_chunk::<LANES>);
            let Some(source) = source else { return };
            for (total, &x) in totals.iter_mut().zip(source) {
                *total = total.wrapping_add(i32::from(x) * i32::from(weight));
            }
        }
        *sums = totals;
        at += LANES;
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::LANES;

    /// The sums by the products of two window elements at a time.
    #[target_feature(enable = "avx2")]
    pub fn run(
        offsets: &[usize],
        input: &[i16],
        weights: &[i16],
        start: usize,
        count: usize,
        sums: &mut [i32],
    ) {
        let furthest = offsets.iter().max().copied().unwrap_or(0);
        let (groups, left) = (count.div_ceil(LANES), weights.get(..offsets.len()));
        let read = groups.checked_mul(LANES).and_then(|read| read.checked_add(furthest)?.checked_add(start));
        let (Some(weights), true) = (left, read.is_some_and(|end| end <= input.len())) else { return };
        for (group, sums) in sums.as_chunks_mut::<LANES>().0.iter_mut().enumerate().take(groups) {
            let from = start + group * LANES;
            let (mut low, mut high) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            for (offsets, weights) in offsets.chunks(2).zip(weights.chunks(2)) {
                // A window of an odd number of elements ends with one that is taken twice, the second time for nothing.
                let second = weights.get(1).copied().unwrap_or(0);
                let pair = i32::from(weights[0]) & 0xFFFF | i32::from(second) << 16;
                let pair = _mm256_set1_epi32(pair);
                let [a, b] = [offsets[0], *offsets.last().unwrap_or(&offsets[0])].map(|offset| {
                    // SAFETY: sixteen elements from here on are in the input, as checked for the last group and the
                    // furthest offset.
                    unsafe { _mm256_loadu_si256(input.as_ptr().add(offset + from).cast()) }
                });
                low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), pair));
                high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), pair));
            }
            let (first, second) = sums.split_at_mut(LANES / 2);
            // SAFETY: each half has eight elements. Unpacking left four of each half in each register.
            unsafe {
                let halves = [
                    _mm256_permute2x128_si256::<0x20>(low, high),
                    _mm256_permute2x128_si256::<0x31>(low, high),
                ];
                _mm256_storeu_si256(first.as_mut_ptr().cast(), halves[0]);
                _mm256_storeu_si256(second.as_mut_ptr().cast(), halves[1]);
            }
        }
    }
}

impl CpuKernel for DepthwiseKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let operands = Operands::new(run.inputs, &self.places)?;
        let channels = self.sizes.groups * self.sizes.outputs;
        let (output, scratch) = (first(run.outputs)?, words(run.scratch));
        if self.places.output.is_none() {
            return self.fill(output.slice::<i32>(), &operands, scratch, &AsSums);
        }
        let end = Requantized::<true>::new(run.inputs, &self.places, channels, 1.0, self.bounds)?;
        self.fill(output.bytes, &operands, scratch, &end)
    }

    fn scratch(&self) -> usize {
        self.share() * rayon::current_num_threads() * size_of::<i16>()
    }
}

const _: () = assert!(SLACK >= LANES, "a vector may begin at the last element of a channel");
