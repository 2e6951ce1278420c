//! Depthwise convolutions on the CPU: each output row from padded input rows, without edges in the inner loop.

#![allow(unsafe_code, reason = "calling code compiled for vector instructions that were just detected")]

use super::window::Sizes;
use crate::cpu::tiles::{Grid, for_each_tile};
use crate::cpu::{fill_floats, floats, scratch_floats};
use crate::error::OpError;
use crate::operator::{CpuKernel, CpuRun};

/// Elements of padded input that stay in the first-level cache.
const BAND: usize = 6 << 10;

/// A convolution of each channel by itself, over one or two axes.
pub(super) struct DepthwiseKernel {
    sizes: Sizes,
    /// The weights, when constant and not f32.
    weights: Option<Vec<f32>>,
    /// Output rows computed from one filling of the scratch memory.
    band: usize,
    /// Elements of one phase of a padded row.
    phase: usize,
}

impl DepthwiseKernel {
    /// Whether the kernel takes a convolution.
    pub fn fits(sizes: &Sizes) -> bool {
        // Padded rows are held for a whole window: huge dilations would hold mostly zeros.
        const LARGEST: usize = 1 << 22;
        let flat =
            sizes.input[0] == 1 && sizes.kernel[0] == 1 && sizes.output[0] == 1 && sizes.before[0] == 0;
        let rows = (sizes.kernel[1] - 1) * sizes.dilations[1] + 1;
        let row = sizes.output[2] * sizes.strides[2] + sizes.kernel[2] * sizes.dilations[2];
        sizes.is_depthwise() && flat && rows.saturating_mul(row) <= LARGEST
    }

    /// The kernel for a convolution that fits.
    pub fn new(sizes: Sizes, weights: Option<Vec<f32>>) -> DepthwiseKernel {
        // Vectors run over the end of a row by less than one vector.
        let reach = (sizes.kernel[2] - 1) * sizes.dilations[2] / sizes.strides[2];
        let phase = sizes.output[2].next_multiple_of(WIDEST) + reach;
        let mut kernel = DepthwiseKernel { sizes, weights, band: 1, phase };
        let row = kernel.row();
        let window = kernel.rows(1);
        kernel.band =
            (1 + (BAND / row.max(1)).saturating_sub(window) / sizes.strides[1]).min(sizes.output[1].max(1));
        kernel
    }

    /// Elements of a padded input row: its phases one behind the other, phase `p` holding elements `p`, `p + stride` ...
    fn row(&self) -> usize {
        self.phase * self.sizes.strides[2]
    }

    /// Input rows that `band` output rows read.
    fn rows(&self, band: usize) -> usize {
        (band - 1) * self.sizes.strides[1] + (self.sizes.kernel[1] - 1) * self.sizes.dilations[1] + 1
    }

    /// Fills the scratch memory with the input rows that output rows from `first` on read.
    fn pad(&self, channel: &[f32], first: usize, band: usize, scratch: &mut [f32]) {
        let sizes = &self.sizes;
        let (stride, before) = (sizes.strides[2], sizes.before[2]);
        let (height, width) = (sizes.input[1], sizes.input[2]);
        for (index, row) in scratch.chunks_exact_mut(self.row().max(1)).take(self.rows(band)).enumerate() {
            let y = (first * sizes.strides[1] + index).checked_sub(sizes.before[1]).filter(|&y| y < height);
            let source = y.and_then(|y| channel.get(y * width..(y + 1) * width));
            let Some(source) = source else {
                row.fill(0.0);
                continue;
            };
            for (p, phase) in row.chunks_exact_mut(self.phase).enumerate() {
                // Element i of the phase is input element i * stride + p - before.
                let from = before.saturating_sub(p).div_ceil(stride).min(phase.len());
                let (left, rest) = phase.split_at_mut(from);
                left.fill(0.0);
                let x = (from * stride + p).saturating_sub(before);
                let source = source.get(x..).unwrap_or(&[]);
                let count = source.len().div_ceil(stride).min(rest.len());
                let (middle, right) = rest.split_at_mut(count);
                if stride == 1 {
                    middle.copy_from_slice(&source[..count]);
                } else {
                    for (slot, &value) in middle.iter_mut().zip(source.iter().step_by(stride)) {
                        *slot = value;
                    }
                }
                right.fill(0.0);
            }
        }
    }

    /// Where the elements of a window lie, relative to its first row.
    fn offsets(&self) -> Vec<usize> {
        let sizes = &self.sizes;
        let mut all = Vec::with_capacity(sizes.window());
        for ky in 0..sizes.kernel[1] {
            for kx in 0..sizes.kernel[2] {
                let x = kx * sizes.dilations[2];
                let phase = x % sizes.strides[2] * self.phase + x / sizes.strides[2];
                all.push(ky * sizes.dilations[1] * self.row() + phase);
            }
        }
        all
    }
}

impl CpuKernel for DepthwiseKernel {
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
        let scratch = (scratch_floats(run.scratch), self.row() * self.rows(self.band));
        let window = sizes.window();
        fill_floats(output, |output| {
            for_each_tile(output, 0, &grid, scratch, run.finish, |tile, scratch| {
                for row in 0..tile.rows {
                    let (image, channel) = ((tile.row + row) / channels, (tile.row + row) % channels);
                    let from = image * sizes.groups + channel / sizes.outputs;
                    let size = sizes.input_plane();
                    let input = x.get(from * size..(from + 1) * size).unwrap_or(&[]);
                    let weights = weights.get(channel * window..(channel + 1) * window).unwrap_or(&[]);
                    let bias = bias.as_ref().and_then(|bias| bias.get(channel).copied()).unwrap_or(0.0);
                    let output = tile.row_mut(row);
                    for first in (0..height).step_by(self.band) {
                        let band = self.band.min(height - first);
                        self.pad(input, first, band, scratch);
                        for (y, line) in
                            output[first * width..(first + band) * width].chunks_exact_mut(width).enumerate()
                        {
                            let source = &scratch[y * sizes.strides[1] * self.row()..];
                            convolve_row(line, source, &offsets, weights, bias);
                        }
                    }
                }
                Ok(())
            })
        })
    }

    fn scratch(&self) -> usize {
        self.row() * self.rows(self.band) * rayon::current_num_threads() * size_of::<f32>()
    }

    fn finishes(&self) -> bool {
        true
    }
}

/// Elements computed together at most.
const WIDEST: usize = 32;

/// `line[i] = bias + Σ weights[k] · source[offsets[k] + i]`; may read less than [`WIDEST`] elements past the last.
fn convolve_row(line: &mut [f32], source: &[f32], offsets: &[usize], weights: &[f32], bias: f32) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn wide(line: &mut [f32], source: &[f32], offsets: &[usize], weights: &[f32], bias: f32) {
            row::<true>(line, source, offsets, weights, bias);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the instructions that `wide` is compiled to.
            return unsafe { wide(line, source, offsets, weights, bias) };
        }
    }
    row::<{ cfg!(target_arch = "aarch64") }>(line, source, offsets, weights, bias);
}

#[inline(always)]
fn row<const FUSED: bool>(line: &mut [f32], source: &[f32], offsets: &[usize], weights: &[f32], bias: f32) {
    let mut at = 0;
    while at < line.len() {
        let source = source.get(at..).unwrap_or(&[]);
        let rest = &mut line[at..];
        at += match rest.len() {
            0..=8 => piece::<FUSED, 8>(rest, source, offsets, weights, bias),
            9..=16 => piece::<FUSED, 16>(rest, source, offsets, weights, bias),
            _ => piece::<FUSED, WIDEST>(rest, source, offsets, weights, bias),
        };
    }
}

/// The first `N` elements of a line, or all when it has fewer; returns how many that is.
#[inline(always)]
fn piece<const FUSED: bool, const N: usize>(
    line: &mut [f32],
    source: &[f32],
    offsets: &[usize],
    weights: &[f32],
    bias: f32,
) -> usize {
    let mut sums = [bias; N];
    for (&offset, &weight) in offsets.iter().zip(weights) {
        let values: Option<&[f32; N]> = source.get(offset..).and_then(<[f32]>::first_chunk);
        let Some(values) = values else { continue };
        for i in 0..N {
            sums[i] = if FUSED { values[i].mul_add(weight, sums[i]) } else { sums[i] + values[i] * weight };
        }
    }
    let count = line.len().min(N);
    line[..count].copy_from_slice(&sums[..count]);
    count
}
