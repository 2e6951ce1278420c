//! Convolutions of all channels with all, over values in blocks: direct, without columns in between.

#![allow(unsafe_code, reason = "the innermost loops take pointers")]

use std::sync::Arc;

use rayon::prelude::*;

use super::micro::{self, BLOCKS, Groups, OUTSIDE, SUMS, Sums};
use super::run_tiles;
use crate::conv::cpu::inside;
use crate::conv::window::Sizes;
use crate::cpu::packed::{self, Packed};
use crate::cpu::tiles::{Grid, Tile};
use crate::cpu::vector::{Isa, LANES};
use crate::error::OpError;
use crate::ir::numbers::filled;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::layout::{Ending, Reorder, blocked_dims};
use crate::operator::{CpuKernel, CpuRun, Operator};
use crate::problem::Problem;

/// How input and output lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Form {
    /// The input's channels are in blocks.
    pub input: bool,
    /// The output's channels are in blocks.
    pub output: bool,
}

impl Form {
    /// How the values of a convolution lie when it works in blocks: where its channels fill them, or only those of one
    /// side. `there`: the input has its channels in blocks already. `None` where nothing is gained.
    pub fn of(sizes: &Sizes, input: &[usize], output: &[usize], there: bool) -> Option<Form> {
        if input.len() != 4 || input.contains(&0) {
            return None;
        }
        i32::try_from(sizes.input_plane().checked_mul(LANES)?).ok()?;
        let fills = |dims: &[usize]| blocked_dims(dims, LANES).is_some();
        let form = if sizes.groups == 1 {
            Form { input: fills(input), output: fills(output) }
        } else {
            let whole = sizes.is_depthwise() && sizes.outputs == 1 && fills(input);
            Form { input: whole, output: whole }
        };
        // Nothing gained where one side's channels do not fill blocks and the other's are not there yet.
        let only_input = form.input && there && sizes.groups == 1;
        let gains = form.output || only_input;
        (gains && (form.input || fits(sizes))).then_some(form)
    }

    /// The dimensions that an output lies in which has these when it is not in blocks.
    pub fn output_dims(self, output: &[usize]) -> Vec<usize> {
        match self.output {
            true => blocked_dims(output, LANES).unwrap_or_default(),
            false => output.to_vec(),
        }
    }

    /// What a convolution of values that are not in blocks, `plain`, gives for ones that lie so; `input` and `output` are
    /// their dimensions when they are not in blocks.
    ///
    /// # Errors
    /// Those of `plain`; when `x` is smaller than its dimensions say.
    pub fn reference(
        self,
        [input, output]: [&[usize]; 2],
        x: View<'_>,
        plain: impl FnOnce(View<'_>) -> Result<Vec<Tensor>, OpError>,
    ) -> Result<Vec<Tensor>, OpError> {
        let y = match self.input {
            true => plain(Reorder::out_of_blocks(input).reference(&[Some(x)], 1)?.remove(0).view())?,
            false => plain(x)?,
        };
        match (self.output, y.as_slice()) {
            (true, [y]) => {
                Reorder::into_blocks(output, self.output_dims(output)).reference(&[Some(y.view())], 1)
            }
            _ => Ok(y),
        }
    }
}

/// A convolution without groups over two axes.
pub(super) struct DenseKernel {
    sizes: Sizes,
    form: Form,
    isa: Isa,
    groups: Groups,
    /// Channels of a group of the input.
    channels: usize,
    /// For each block of output channels, a vector for each channel of each window element of each group.
    weights: Arc<Packed>,
    /// Whole blocks.
    bias: Vec<f32>,
    ending: Option<Ending>,
    grid: Grid,
    padded: Padded,
    /// Where the elements of a window lie in the padded rows.
    steps: Vec<i32>,
}

/// The input rows of a tile between zeros, for inputs that are not in blocks.
#[derive(Clone, Copy, Debug)]
struct Padded {
    /// Elements of a row.
    pitch: usize,
    /// Rows of a channel.
    rows: usize,
}

impl Padded {
    /// For tiles of at most `pixels` output elements.
    fn new(sizes: &Sizes, pixels: usize) -> Padded {
        let reach = |axis: usize| (sizes.kernel[axis] - 1) * sizes.dilations[axis] + 1;
        let width = sizes.output[2].max(1);
        let rows = (pixels.div_ceil(width) + 1).min(sizes.output[1]);
        Padded {
            pitch: width.saturating_sub(1) * sizes.strides[2] + reach(2),
            rows: rows.saturating_sub(1) * sizes.strides[1] + reach(1),
        }
    }

    /// Elements of all channels.
    fn len(self, sizes: &Sizes) -> usize {
        sizes.inputs.saturating_mul(self.rows).saturating_mul(self.pitch)
    }

    /// Copies what output rows from `first` on read of each channel.
    fn fill(self, sizes: &Sizes, image: &[f32], first: usize, scratch: &mut [f32]) {
        let [_, height, width] = sizes.input;
        let left = sizes.before[2].min(self.pitch);
        let count = width.min(self.pitch - left);
        let top = first * sizes.strides[1];
        let channels = image.chunks_exact((height * width).max(1));
        for (channel, rows) in channels.zip(scratch.chunks_exact_mut((self.rows * self.pitch).max(1))) {
            for (index, row) in rows.chunks_exact_mut(self.pitch).enumerate() {
                let y = (top + index).checked_sub(sizes.before[1]).filter(|&y| y < height);
                let Some(y) = y else {
                    row.fill(0.0);
                    continue;
                };
                row[..left].fill(0.0);
                row[left..left + count].copy_from_slice(&channel[y * width..y * width + count]);
                row[left + count..].fill(0.0);
            }
        }
    }
}

/// Whether a convolution over an input that is not in blocks needs little scratch memory.
fn fits(sizes: &Sizes) -> bool {
    const LARGEST: usize = 1 << 22;
    Padded::new(sizes, sizes.output_plane()).len(sizes) <= LARGEST
}

impl DenseKernel {
    /// Packs weights (O, I, kh, kw) and the bias. `None` where an input is too large for short offsets.
    pub fn new(
        sizes: Sizes,
        form: Form,
        isa: Isa,
        (weights, bias): (&Tensor, Option<&[f32]>),
        problem: &Problem<'_>,
    ) -> Option<DenseKernel> {
        i32::try_from(sizes.input_plane().checked_mul(LANES)?).ok()?;
        let groups = match form.input {
            true if sizes.is_pointwise() => Groups::Blocks,
            true => Groups::Windows,
            false => Groups::Inner,
        };
        let channels = if form.input { LANES } else { 1 };
        let (taps, depth) = (sizes.window(), sizes.inputs * sizes.window());
        let blocks = sizes.outputs.div_ceil(LANES);
        let pack = || {
            let aligned = weights.clone().aligned();
            let all = aligned.view();
            let all = all.slice::<f32>();
            let mut panels = filled(&[blocks, depth, LANES], 0.0f32)?;
            panels.par_chunks_mut((depth * LANES).max(1)).enumerate().for_each(|(block, panel)| {
                for lane in 0..LANES.min(sizes.outputs - block * LANES) {
                    let row = all.get((block * LANES + lane) * depth..).unwrap_or(&[]);
                    for (channel, window) in row.chunks_exact(taps).take(sizes.inputs).enumerate() {
                        let (group, within) = (channel / channels, channel % channels);
                        for (tap, &weight) in window.iter().enumerate() {
                            panel[((group * taps + tap) * channels + within) * LANES + lane] = weight;
                        }
                    }
                }
            });
            Ok(panels)
        };
        let form_of = ("blocks", [sizes.outputs, sizes.inputs, taps, channels, 0, 0]);
        let packed = packed::shared(weights, form_of, pack).ok()?;
        let mut whole = vec![0.0; blocks * LANES];
        whole.iter_mut().zip(bias.unwrap_or(&[])).for_each(|(slot, &bias)| *slot = bias);
        // Sums with other tensors are done in registers only where these lie as the output does.
        let ending = Ending::of(problem).filter(|ending| form.output || ending.added.is_none());
        let passes = problem.epilogue.is_some() && ending.is_none();
        let grid = grid(&sizes, form, passes, rayon::current_num_threads());
        let padded =
            Padded::new(&sizes, if form.output { grid.tile_columns / LANES } else { grid.tile_columns });
        i32::try_from(padded.len(&sizes)).ok()?;
        let step = |index: usize| {
            let (channel, tap) = (index / taps, index % taps);
            let (ky, kx) = (tap / sizes.kernel[2], tap % sizes.kernel[2]);
            let row = channel * padded.rows + ky * sizes.dilations[1];
            (row * padded.pitch + kx * sizes.dilations[2]) as i32
        };
        let steps = if form.input { Vec::new() } else { (0..depth).map(step).collect() };
        Some(DenseKernel {
            sizes,
            form,
            isa,
            groups,
            channels,
            weights: packed,
            bias: whole,
            ending,
            grid,
            padded,
            steps,
        })
    }

    /// Pixels of the largest tile.
    fn pixels(&self) -> usize {
        if self.form.output { self.grid.tile_columns / LANES } else { self.grid.tile_columns }
    }

    /// Elements of scratch memory for a tile: offsets, and padded rows.
    fn share(&self) -> usize {
        match self.groups {
            Groups::Windows => self.pixels() * self.sizes.window(),
            Groups::Inner => self.pixels() + self.padded.len(&self.sizes),
            Groups::Blocks => 0,
        }
    }

    /// One tile of an image's output.
    fn tile(
        &self,
        image: &[f32],
        added: Option<&[f32]>,
        tile: &mut Tile<'_>,
        scratch: &mut [f32],
    ) -> Result<(), OpError> {
        let sizes = &self.sizes;
        let (first, count, block, blocks) = match self.form.output {
            true => (tile.column / LANES, tile.columns / LANES, tile.row, tile.rows),
            false => (tile.column, tile.columns, tile.row / LANES, tile.rows.div_ceil(LANES)),
        };
        let taps = sizes.window();
        let short_of = || OpError::Internal("too little scratch memory");
        let mut source = image;
        let mut offsets: &[i32] = &[];
        match self.groups {
            Groups::Blocks => {}
            Groups::Windows => {
                let all: &mut [i32] = bytemuck::cast_slice_mut(scratch);
                let all = all.get_mut(..taps * count).ok_or_else(short_of)?;
                fill_offsets(sizes, first, count, all);
                offsets = all;
            }
            Groups::Inner => {
                let (places, rows) = scratch.split_at_mut_checked(count).ok_or_else(short_of)?;
                let places: &mut [i32] = bytemuck::cast_slice_mut(places);
                let rows = rows.get_mut(..self.padded.len(sizes)).ok_or_else(short_of)?;
                let (width, top) = (sizes.output[2], first / sizes.output[2]);
                self.padded.fill(sizes, image, top, rows);
                for (i, place) in places.iter_mut().enumerate() {
                    let (y, x) = ((first + i) / width - top, (first + i) % width);
                    *place = (y * sizes.strides[1] * self.padded.pitch + x * sizes.strides[2]) as i32;
                }
                (source, offsets) = (rows, places);
            }
        }
        let plane = sizes.input_plane();
        let (groups, group) = match self.groups {
            Groups::Inner => (self.steps.len(), 0),
            _ => (sizes.inputs / LANES, plane * LANES),
        };
        if image.len() < sizes.inputs * plane {
            return Err(OpError::Internal("an image smaller than its dimensions say"));
        }
        let depth = sizes.inputs * taps;
        let plane = sizes.output_plane();
        let panels = self.weights.value().get(block * depth * LANES..(block + blocks) * depth * LANES);
        let bias = self.bias.get(block * LANES..(block + blocks) * LANES);
        let (Some(panels), Some(bias)) = (panels, bias) else {
            return Err(OpError::Internal("a tile outside the weights"));
        };
        let ending = self.ending.unwrap_or(Ending::NONE);
        let mut short = [0.0f32; SUMS * LANES];
        let mut done = 0;
        while done < blocks {
            let step = match blocks - done {
                left @ (1 | BLOCKS) => left,
                _ => 2,
            };
            let parts = count.div_ceil(micro::pixels(step));
            let mut at = 0;
            for part in 0..parts {
                let pixels = count / parts + usize::from(part < count % parts);
                let mut sums = Sums {
                    x: match self.groups {
                        Groups::Blocks => source[(first + at) * LANES..].as_ptr(),
                        _ => source.as_ptr(),
                    },
                    groups,
                    channels: self.channels,
                    group,
                    taps,
                    offsets: offsets.get(at..).unwrap_or(&[]).as_ptr(),
                    pitch: count,
                    steps: self.steps.as_ptr(),
                    weights: panels[done * depth * LANES..].as_ptr(),
                    block_weights: depth * LANES,
                    bias: bias[done * LANES..].as_ptr(),
                    out: short.as_mut_ptr(),
                    block_out: pixels * LANES,
                    added: std::ptr::null(),
                    limits: (ending.low, ending.high),
                };
                if self.form.output {
                    sums.block_out = plane * LANES;
                    sums.out = tile.row_mut(done)[at * LANES..].as_mut_ptr();
                    if let Some(added) = added {
                        let start =
                            ((tile.plane * tile_blocks(sizes) + block + done) * plane + first + at) * LANES;
                        sums.added = added[start..].as_ptr();
                    }
                }
                // SAFETY: weights and bias hold `blocks` blocks, of which `step` follow `done`. The image holds all groups,
                // and pixels at .. at + pixels are below `count`, which is so many after `first`. In `Windows` there are
                // `taps` rows of `count` offsets, each inside a group or `OUTSIDE`; in `Inner` every window from the
                // offsets lies inside the padded rows. The output is either `short`, which holds SUMS vectors, or the tile,
                // whose rows `plane * LANES` apart hold `count` vectors each; what is added has the output's size. `isa`
                // was detected.
                unsafe { micro::run(self.isa, self.groups, step, pixels, &sums) };
                if !self.form.output {
                    for channel in 0..(step * LANES).min(tile.rows - done * LANES) {
                        let from = channel / LANES * pixels * LANES + channel % LANES;
                        let row = &mut tile.row_mut(done * LANES + channel)[at..at + pixels];
                        row.iter_mut()
                            .zip(short[from..].iter().step_by(LANES))
                            .for_each(|(y, &sum)| *y = sum);
                    }
                }
                at += pixels;
            }
            done += step;
        }
        Ok(())
    }
}

fn tile_blocks(sizes: &Sizes) -> usize {
    sizes.outputs.div_ceil(LANES)
}

/// Where the input elements of output pixels `first .. first + count` lie in a block: a row for each window element.
fn fill_offsets(sizes: &Sizes, first: usize, count: usize, offsets: &mut [i32]) {
    let [_, height, width] = sizes.output;
    let [_, rows, columns] = sizes.input;
    debug_assert!(first + count <= height * width && sizes.output[0] == 1);
    let mut all = offsets.chunks_exact_mut(count.max(1));
    for ky in 0..sizes.kernel[1] {
        let tall = inside(sizes, 1, ky);
        for kx in 0..sizes.kernel[2] {
            let wide = inside(sizes, 2, kx);
            let Some(mut row) = all.next() else { return };
            let mut at = first;
            while !row.is_empty() {
                let (y, x) = (at / width, at % width);
                let (run, rest) = row.split_at_mut((width - x).min(row.len()));
                at += run.len();
                row = rest;
                run.fill(OUTSIDE);
                let (from, to) = (wide.0.clamp(x, x + run.len()), wide.1.clamp(x, x + run.len()));
                if !(tall.0..tall.1).contains(&y) || from >= to {
                    continue;
                }
                let iy = y * sizes.strides[1] + ky * sizes.dilations[1] - sizes.before[1];
                let ix = from * sizes.strides[2] + kx * sizes.dilations[2] - sizes.before[2];
                debug_assert!(iy < rows && ix < columns);
                let step = (sizes.strides[2] * LANES) as i32;
                let start = ((iy * columns + ix) * LANES) as i32;
                run[from - x..to - x].iter_mut().zip(0..).for_each(|(slot, i)| *slot = start + i * step);
            }
        }
    }
}

/// Tiles whose input stays in cache while all weights pass, several for each thread; and their output too, where it
/// `passes` through an epilogue afterwards.
pub(crate) fn grid(sizes: &Sizes, form: Form, passes: bool, threads: usize) -> Grid {
    /// Input elements that half of a second-level cache holds.
    const CACHE: usize = 48 << 10;
    /// Operations below which a thread's wake-up costs more than it saves.
    const LEAST: u64 = 1 << 20;
    const PER_THREAD: u64 = 4;
    let (plane, blocks) = (sizes.output_plane().max(1), tile_blocks(sizes).max(1));
    let read = sizes.inputs * sizes.strides[1] * sizes.strides[2];
    let kept = if passes { read.max(sizes.outputs) } else { read };
    let most = (CACHE / kept.max(1)).clamp(48, 1024);
    let even = |parts: usize| plane.div_ceil(parts).next_multiple_of(SUMS).min(plane);
    let mut parts = plane.div_ceil(most);
    let mut rows = blocks;
    let wanted =
        if threads == 1 { 1 } else { (sizes.flops(false) / LEAST).clamp(1, threads as u64 * PER_THREAD) };
    while ((sizes.batch * blocks.div_ceil(rows) * plane.div_ceil(even(parts))) as u64) < wanted {
        if plane / parts >= 96 {
            parts *= 2;
        } else if rows > BLOCKS {
            rows = rows.div_ceil(2).next_multiple_of(2);
        } else if plane / parts >= 24 {
            parts *= 2;
        } else {
            break;
        }
    }
    let (planes, pixels) = (sizes.batch, even(parts));
    match form.output {
        true => Grid {
            planes,
            rows: blocks,
            columns: sizes.output_plane() * LANES,
            tile_rows: rows,
            tile_columns: pixels * LANES,
        },
        false => Grid {
            planes,
            rows: sizes.outputs,
            columns: sizes.output_plane(),
            tile_rows: rows * LANES,
            tile_columns: pixels,
        },
    }
}

impl CpuKernel for DenseKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let size = self.sizes.inputs * self.sizes.input_plane();
        run_tiles(run, self.ending, &self.grid, self.share(), |x, added, tile, scratch| {
            let image = x.get(tile.plane * size..(tile.plane + 1) * size);
            self.tile(image.unwrap_or(&[]), added, tile, scratch)
        })
    }

    fn scratch(&self) -> usize {
        self.share() * rayon::current_num_threads() * size_of::<f32>()
    }

    fn finishes(&self) -> bool {
        true
    }
}
