//! Depthwise convolutions on the CPU: each output channel as one long line, without edges in the inner loop.
//!
//! The input rows that a band of output rows reads are copied between zeros, split by their position modulo the strides.
//! Then neighbouring output elements read neighbouring elements for every window element, also across the ends of rows:
//! a few useless elements between rows are computed too and left behind.

#![allow(unsafe_code, reason = "calling code compiled for vector instructions that were just detected")]

use super::cpu::copy_every;
use super::window::Sizes;
use crate::cpu::tiles::{Grid, for_each_tile};
use crate::cpu::{fill_floats, floats, scratch_floats};
use crate::error::OpError;
use crate::operator::{CpuKernel, CpuRun};

/// Elements of scratch memory that a band aims at: half a first-level cache.
const BAND: usize = 4 << 10;

/// Elements that a loop over vectors takes at a time.
const VECTORS: usize = 32;

/// A convolution of each channel by itself, over one or two axes.
pub(super) struct DepthwiseKernel {
    sizes: Sizes,
    /// The weights, when constant and not f32.
    weights: Option<Vec<f32>>,
    /// Output rows computed from one filling of the scratch memory.
    band: usize,
    /// Rows that hold the input of a band, for each remainder of their position modulo the stride.
    rows: usize,
    /// Elements of such a row: an output row, and how far windows reach beyond.
    pitch: usize,
}

impl DepthwiseKernel {
    /// Whether the kernel takes a convolution.
    pub fn fits(sizes: &Sizes) -> bool {
        // Rows are held for a whole window: huge dilations would hold mostly zeros.
        const LARGEST: usize = 1 << 22;
        let flat =
            sizes.input[0] == 1 && sizes.kernel[0] == 1 && sizes.output[0] == 1 && sizes.before[0] == 0;
        let least = DepthwiseKernel::with_band(*sizes, 1);
        let scratch = least.rows.saturating_mul(least.pitch).saturating_mul(sizes.strides[1]);
        sizes.is_depthwise() && flat && scratch.saturating_mul(sizes.strides[2]) <= LARGEST
    }

    fn with_band(sizes: Sizes, band: usize) -> DepthwiseKernel {
        let reach = |axis: usize| (sizes.kernel[axis] - 1) * sizes.dilations[axis] / sizes.strides[axis];
        DepthwiseKernel {
            sizes,
            weights: None,
            band,
            rows: band + reach(1),
            pitch: sizes.output[2] + reach(2),
        }
    }

    /// The kernel for a convolution that fits.
    pub fn new(sizes: Sizes, weights: Option<Vec<f32>>) -> DepthwiseKernel {
        let least = DepthwiseKernel::with_band(sizes, 1);
        let phases = sizes.strides[1] * sizes.strides[2];
        let row = (least.pitch * (phases + 1)).max(1);
        let band = (BAND / row).saturating_sub(least.rows - 1).clamp(1, sizes.output[1].max(1));
        // Bands of about the same size.
        let band = sizes.output[1].max(1).div_ceil(sizes.output[1].max(1).div_ceil(band));
        DepthwiseKernel { weights, ..DepthwiseKernel::with_band(sizes, band) }
    }

    /// Elements of the input of a band with one remainder modulo the strides: its rows, and room for the useless
    /// elements behind the last.
    fn phase(&self) -> usize {
        (self.rows + 1) * self.pitch + VECTORS
    }

    /// Elements computed for a band, whole vectors.
    fn computed(&self, band: usize) -> usize {
        (band * self.pitch).next_multiple_of(VECTORS)
    }

    /// Elements of the input of a band.
    fn padded(&self) -> usize {
        self.phase() * self.sizes.strides[1] * self.sizes.strides[2]
    }

    /// Copies what output rows from `first` on read; and zeros around it, unless they are there already.
    fn pad(&self, channel: &[f32], first: usize, zeros: bool, scratch: &mut [f32]) {
        let sizes = &self.sizes;
        let (stride, before) = (sizes.strides[2], sizes.before[2]);
        let (height, width) = (sizes.input[1], sizes.input[2]);
        for (index, phase) in scratch.chunks_exact_mut(self.phase()).enumerate() {
            let (py, px) = (index / stride, index % stride);
            // Element i of a row is input element i * stride + px - before.
            let from = before.saturating_sub(px).div_ceil(stride).min(self.pitch);
            let x = (from * stride + px).saturating_sub(before);
            let reads = width.saturating_sub(x).div_ceil(stride).min(self.pitch - from);
            // Rows of the phase inside the input: i with 0 <= (first + i) * step + py - before < height.
            let (step, above) = (sizes.strides[1], sizes.before[1]);
            let start = first * step + py;
            let top = above.saturating_sub(start).div_ceil(step).min(self.rows);
            let bottom = (height + above).saturating_sub(start).div_ceil(step).clamp(top, self.rows);
            if zeros {
                phase[..top * self.pitch].fill(0.0);
                phase[bottom * self.pitch..self.rows * self.pitch].fill(0.0);
                for row in phase[top * self.pitch..bottom * self.pitch].chunks_exact_mut(self.pitch) {
                    row[..from].fill(0.0);
                    row[from + reads..].fill(0.0);
                }
            }
            if bottom > top {
                let y = start + top * step - above;
                let target = (phase.get_mut(top * self.pitch + from..).unwrap_or(&mut []), self.pitch);
                let source = (channel.get(y * width + x..).unwrap_or(&[]), step * width);
                copy_rows(target, source, bottom - top, reads, stride);
            }
        }
    }

    /// Where the element of each window element for the first output element of a band lies.
    fn offsets(&self) -> Vec<usize> {
        let sizes = &self.sizes;
        let mut all = Vec::with_capacity(sizes.window());
        for ky in 0..sizes.kernel[1] {
            for kx in 0..sizes.kernel[2] {
                let (y, x) = (ky * sizes.dilations[1], kx * sizes.dilations[2]);
                let phase = y % sizes.strides[1] * sizes.strides[2] + x % sizes.strides[2];
                all.push(phase * self.phase() + y / sizes.strides[1] * self.pitch + x / sizes.strides[2]);
            }
        }
        all
    }
}

impl CpuKernel for DepthwiseKernel {
    fn reads_elements(&self, index: usize) -> bool {
        index != 1 || self.weights.is_none()
    }

    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (Some(Some(x)), Some(Some(w)), Some(output)) =
            (run.inputs.first(), run.inputs.get(1), run.outputs.first_mut())
        else {
            return Err(OpError::Internal("a missing operand"));
        };
        let sizes = &self.sizes;
        let x = floats(x)?;
        let wide = if self.weights.is_none() { floats(w)? } else { Default::default() };
        let weights: &[f32] = self.weights.as_deref().unwrap_or(&wide);
        let bias = run.inputs.get(2).and_then(Option::as_ref).map(floats).transpose()?;
        let (plane, channels) = (sizes.output_plane(), sizes.groups * sizes.outputs);
        let rows = sizes.batch * channels;
        // Several small channels to a tile, but several tiles to a thread.
        let per_thread = rows.div_ceil(8 * rayon::current_num_threads());
        let tile_rows = (4096 / plane.max(1)).clamp(1, per_thread.max(1));
        let grid = Grid { planes: 1, rows, columns: plane, tile_rows, tile_columns: plane.max(1) };
        let offsets = self.offsets();
        let (height, width) = (sizes.output[1], sizes.output[2]);
        let (window, size) = (sizes.window(), sizes.input_plane());
        let share = self.padded() + self.computed(self.band);
        let scratch = (scratch_floats(run.scratch), share);
        fill_floats(output, |output| {
            for_each_tile(output, 0, &grid, scratch, run.finish, |tile, scratch| {
                let (padded, sums) = scratch.split_at_mut(self.padded());
                for row in 0..tile.rows {
                    let (image, channel) = ((tile.row + row) / channels, (tile.row + row) % channels);
                    let from = image * sizes.groups + channel / sizes.outputs;
                    let input = x.get(from * size..(from + 1) * size).unwrap_or(&[]);
                    let weights = weights.get(channel * window..(channel + 1) * window).unwrap_or(&[]);
                    let bias = bias.as_ref().and_then(|bias| bias.get(channel).copied()).unwrap_or(0.0);
                    let output = tile.row_mut(row);
                    for first in (0..height).step_by(self.band) {
                        // Where one band is all, every channel has its zeros at the same places.
                        self.pad(input, first, row == 0 || self.band < height, padded);
                        let band = self.band.min(height - first);
                        let sums = &mut sums[..self.computed(band)];
                        convolve(sums, padded, &offsets, weights, bias);
                        let lines = &mut output[first * width..(first + band) * width];
                        copy_rows((lines, width), (sums, self.pitch), band, width, 1);
                    }
                }
                Ok(())
            })
        })
    }

    fn scratch(&self) -> usize {
        (self.padded() + self.computed(self.band)) * rayon::current_num_threads() * size_of::<f32>()
    }

    fn finishes(&self) -> bool {
        true
    }
}

/// Copies every `stride`-th element of rows, `count` to a row. Slices come with the elements between their rows.
fn copy_rows(target: (&mut [f32], usize), source: (&[f32], usize), rows: usize, count: usize, stride: usize) {
    /// With a length that the compiler knows, a row is a few instructions.
    fn fixed<const N: usize>(target: (&mut [f32], usize), source: (&[f32], usize), rows: usize) {
        for row in 0..rows {
            let from = source.0.get(row * source.1..).and_then(<[f32]>::first_chunk::<N>);
            let to = target.0.get_mut(row * target.1..).and_then(<[f32]>::first_chunk_mut::<N>);
            if let (Some(from), Some(to)) = (from, to) {
                *to = *from;
            }
        }
    }
    if count == 0 {
        return;
    }
    match (count, stride) {
        // Rows of images of 224 x 224, halved again and again: where they are short, their number counts.
        (7, 1) => fixed::<7>(target, source, rows),
        (14, 1) => fixed::<14>(target, source, rows),
        (28, 1) => fixed::<28>(target, source, rows),
        _ => {
            for row in 0..rows {
                let from = source.0.get(row * source.1..).unwrap_or(&[]);
                let to = target.0.get_mut(row * target.1..).unwrap_or(&mut []);
                let from = &from[..from.len().min((count - 1) * stride + 1)];
                let count = to.len().min(count);
                copy_every(&mut to[..count], from, stride);
            }
        }
    }
}

/// `sums[i] = bias + Σ weights[k] · source[offsets[k] + i]`.
fn convolve(sums: &mut [f32], source: &[f32], offsets: &[usize], weights: &[f32], bias: f32) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn wide(sums: &mut [f32], source: &[f32], offsets: &[usize], weights: &[f32], bias: f32) {
            pieces::<true>(sums, source, offsets, weights, bias);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the instructions that `wide` is compiled to.
            return unsafe { wide(sums, source, offsets, weights, bias) };
        }
    }
    pieces::<{ cfg!(target_arch = "aarch64") }>(sums, source, offsets, weights, bias);
}

#[inline(always)]
fn pieces<const FUSED: bool>(
    sums: &mut [f32],
    source: &[f32],
    offsets: &[usize],
    weights: &[f32],
    bias: f32,
) {
    // Sums that stay in the first-level cache while every window element is added.
    const PIECE: usize = 1024;
    for (index, sums) in sums.chunks_mut(PIECE).enumerate() {
        let source = &source[index * PIECE..];
        sums.fill(bias);
        for (offsets, weights) in offsets.chunks(5).zip(weights.chunks(5)) {
            match (offsets, weights) {
                (&[a, b, c, d, e], &[va, vb, vc, vd, ve]) => {
                    add::<FUSED, 5>(sums, source, [a, b, c, d, e], [va, vb, vc, vd, ve]);
                }
                (&[a, b, c, d], &[va, vb, vc, vd]) => {
                    add::<FUSED, 4>(sums, source, [a, b, c, d], [va, vb, vc, vd]);
                }
                (&[a, b, c], &[va, vb, vc]) => add::<FUSED, 3>(sums, source, [a, b, c], [va, vb, vc]),
                _ => {
                    for (&offset, &weight) in offsets.iter().zip(weights) {
                        add::<FUSED, 1>(sums, source, [offset], [weight]);
                    }
                }
            }
        }
    }
}

/// Adds `N` window elements to each sum.
#[inline(always)]
fn add<const FUSED: bool, const N: usize>(
    sums: &mut [f32],
    source: &[f32],
    offsets: [usize; N],
    weights: [f32; N],
) {
    let sources = offsets.map(|offset| &source[offset..offset + sums.len()]);
    for (i, sum) in sums.iter_mut().enumerate() {
        let mut total = *sum;
        for k in 0..N {
            let value = sources[k][i];
            total = if FUSED { value.mul_add(weights[k], total) } else { total + value * weights[k] };
        }
        *sum = total;
    }
}
