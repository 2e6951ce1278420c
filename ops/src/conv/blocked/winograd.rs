//! Convolutions with windows of 3 by 3 in fewer products: 2 by 2 results from 16 products for each pair of channels, where
//! their windows take 36. F(2×2, 3×3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015.
//!
//! Each tile of 4 by 4 input elements becomes 16 points, `Bᵀ d B`; each window of weights does once, `G g Gᵀ`. At each
//! point the channels are summed by a product of matrices, and four sums in the end make the results, `Aᵀ m A`. Rounding
//! errors stay those of sums of as many products; an element that is infinite makes all four results NaN.

#![allow(unsafe_code, reason = "the innermost loops take pointers")]

use std::sync::Arc;

use rayon::prelude::*;

use super::micro::{self, BLOCKS, Groups, Sums};
use super::run_tiles;
use crate::conv::window::Sizes;
use crate::cpu::packed::{self, Packed};
use crate::cpu::tiles::{Grid, Tile};
#[cfg(target_arch = "x86_64")]
use crate::cpu::vector::Avx2;
use crate::cpu::vector::{Isa, LANES, Plain, Vector};
use crate::error::OpError;
use crate::ir::numbers::filled;
use crate::ir::tensor::Tensor;
use crate::layout::Ending;
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::Problem;

/// Points of a tile.
const POINTS: usize = 16;

/// A convolution with windows of 3 by 3 elements next to each other, without groups, over two axes, in blocks.
pub(super) struct WinogradKernel {
    sizes: Sizes,
    isa: Isa,
    /// For each point and each block of output channels, a vector for each input channel.
    weights: Arc<Packed>,
    bias: Vec<f32>,
    ending: Option<Ending>,
    grid: Grid,
    /// Tiles that go through scratch memory together.
    chunk: usize,
}

/// Whether such a convolution takes less time this way.
pub(super) fn pays(sizes: &Sizes) -> bool {
    /// Fewer channels do not pay for what is done to each of them.
    const CHANNELS: usize = 16;
    /// Weights take 16/9 of the memory; fewer tiles would mostly wait for them.
    const TILES: usize = 40;
    let windows = sizes.groups == 1 && sizes.kernel == [1, 3, 3] && sizes.output[0] == 1;
    let dense = sizes.strides[1..] == [1, 1] && sizes.dilations[1..] == [1, 1];
    let tiles = sizes.batch * sizes.output[1].div_ceil(2) * sizes.output[2].div_ceil(2);
    windows && dense && sizes.inputs.min(sizes.outputs) >= CHANNELS && tiles >= TILES
}

impl WinogradKernel {
    /// Packs weights (O, I, 3, 3) and the bias.
    pub fn new(
        sizes: Sizes,
        isa: Isa,
        (weights, bias): (&Tensor, Option<&[f32]>),
        problem: &Problem<'_>,
    ) -> Option<WinogradKernel> {
        let (inputs, blocks) = (sizes.inputs, sizes.outputs / LANES);
        let pack = || {
            let aligned = weights.clone().aligned();
            let all = aligned.view();
            let all = all.slice::<f32>();
            let mut packed = filled(&[blocks, POINTS, inputs, LANES], 0.0f32)?;
            // By blocks of output channels, each of which is put together by one thread.
            packed.par_chunks_mut(POINTS * inputs * LANES).enumerate().for_each(|(block, panels)| {
                for (lane, channel) in (block * LANES..).take(LANES).enumerate() {
                    let windows = all.get(channel * inputs * 9..).unwrap_or(&[]).chunks_exact(9);
                    for (input, window) in windows.take(inputs).enumerate() {
                        for (point, weight) in points(window).into_iter().enumerate() {
                            panels[(point * inputs + input) * LANES + lane] = weight;
                        }
                    }
                }
            });
            Ok(packed)
        };
        let form = ("winograd 2x2", [sizes.outputs, inputs, 0, 0, 0, 0]);
        let weights = packed::shared(weights, form, pack).ok()?;
        let mut whole = vec![0.0; sizes.outputs];
        whole.iter_mut().zip(bias.unwrap_or(&[])).for_each(|(slot, &bias)| *slot = bias);
        let grid = grid(&sizes, rayon::current_num_threads());
        let chunk = chunk(&sizes, &grid);
        Some(WinogradKernel { sizes, isa, weights, bias: whole, ending: Ending::of(problem), grid, chunk })
    }

    /// Elements of scratch memory for a tile of the output: the points of a chunk, and sums of as many blocks as are
    /// computed together.
    fn share(&self) -> usize {
        POINTS * self.chunk * (self.sizes.inputs + BLOCKS * LANES)
    }

    /// Whole rows of tiles of some blocks of an image.
    fn tile(
        &self,
        image: &[f32],
        added: Option<&[f32]>,
        tile: &mut Tile<'_>,
        scratch: &mut [f32],
    ) -> Result<(), OpError> {
        let sizes = &self.sizes;
        let [_, height, width] = sizes.output;
        let (first, rows) = (tile.column / LANES / width, tile.columns / LANES / width);
        let across = width.div_ceil(2);
        let tiles = rows.div_ceil(2) * across;
        let (plane, inputs) = (sizes.input_plane(), sizes.inputs);
        let (bias, ending) = (&self.bias, self.ending.unwrap_or(Ending::NONE));
        let weights = self.weights.value();
        let each = POINTS * inputs * LANES;
        let (points, sums) = scratch
            .split_at_mut_checked(POINTS * self.chunk * inputs)
            .filter(|(_, sums)| sums.len() >= POINTS * self.chunk * BLOCKS * LANES)
            .ok_or(OpError::Internal("too little scratch memory"))?;
        let within = (tile.row + tile.rows) * each <= weights.len()
            && (tile.row + tile.rows) * LANES <= bias.len()
            && image.len() >= inputs * plane
            && first % 2 == 0
            && first + rows <= height;
        if !within {
            return Err(OpError::Internal("a tile outside the convolution"));
        }
        let zeros = [0.0f32; BLOCKS * LANES];
        for start in (0..tiles).step_by(self.chunk) {
            let count = self.chunk.min(tiles - start);
            for index in 0..count {
                let at = start + index;
                let corner = [first + at / across * 2, at % across * 2];
                for block in 0..inputs / LANES {
                    let block_of = &image[block * plane * LANES..][..plane * LANES];
                    let to = &mut points[(block * count + index) * LANES..];
                    let source = Source { block: block_of, sizes, corner };
                    // SAFETY: `to` holds a vector at each of 16 points, `inputs * count` elements apart, since `points` holds
                    // as many for a whole chunk; `isa` was detected.
                    unsafe { into_points(self.isa, &source, to.as_mut_ptr(), inputs * count) };
                }
            }
            let mut done = 0;
            while done < tile.rows {
                let step = match tile.rows - done {
                    left @ (1 | BLOCKS) => left,
                    _ => 2,
                };
                let block = tile.row + done;
                for point in 0..POINTS {
                    let mut at = 0;
                    let parts = count.div_ceil(micro::pixels(step));
                    for part in 0..parts {
                        let pixels = count / parts + usize::from(part < count % parts);
                        let product = Sums {
                            x: points[(point * inputs * count) + at * LANES..].as_ptr(),
                            groups: inputs / LANES,
                            channels: LANES,
                            group: count * LANES,
                            taps: 1,
                            offsets: std::ptr::null(),
                            pitch: 0,
                            steps: std::ptr::null(),
                            weights: weights[block * each + point * inputs * LANES..].as_ptr(),
                            block_weights: each,
                            bias: zeros.as_ptr(),
                            out: sums[(point * BLOCKS * count + at) * LANES..].as_mut_ptr(),
                            block_out: count * LANES,
                            added: std::ptr::null(),
                            limits: (f32::NEG_INFINITY, f32::INFINITY),
                        };
                        // SAFETY: at this point, each of the groups of `count` vectors holds pixels at .. at + pixels. `step`
                        // blocks of weights follow `block`, and so many of `count` sums fit behind those of the points
                        // before. `isa` was detected.
                        unsafe { micro::run(self.isa, Groups::Blocks, step, pixels, &product) };
                        at += pixels;
                    }
                }
                for row in done..done + step {
                    let from = &sums[(row - done) * count * LANES..];
                    let bias = &bias[(tile.row + row) * LANES..][..LANES];
                    let full = ((tile.plane * self.grid.rows + tile.row + row) * height + first) * width;
                    let added = match added {
                        Some(added) => added.get(full * LANES..).unwrap_or(&[]),
                        None => &[],
                    };
                    let out = tile.row_mut(row);
                    for index in 0..count {
                        let at = start + index;
                        let corner = [at / across * 2, at % across * 2];
                        let target = Target { bias, added, ending, corner, rows, width };
                        // SAFETY: `from` holds a vector of this tile at each of 16 points, `BLOCKS * count` vectors apart; `out` and,
                        // where it is not empty, `added` hold `rows` rows of `width` vectors; `isa` was detected.
                        unsafe {
                            let from = from[index * LANES..].as_ptr();
                            into_results(self.isa, from, BLOCKS * count * LANES, &target, out);
                        }
                    }
                }
                done += step;
            }
        }
        Ok(())
    }
}

/// `G g Gᵀ` of a window.
fn points(window: &[f32]) -> [f32; POINTS] {
    let fold = |[a, b, c]: [f64; 3]| [a, (a + b + c) / 2.0, (a - b + c) / 2.0, c];
    let rows: [[f64; 4]; 3] =
        std::array::from_fn(|row| fold(std::array::from_fn(|column| f64::from(window[row * 3 + column]))));
    let columns: [[f64; 4]; 4] =
        std::array::from_fn(|column| fold(std::array::from_fn(|row| rows[row][column])));
    std::array::from_fn(|point| columns[point % 4][point / 4] as f32)
}

/// Tiles of the output: whole rows of tiles of points, enough to reuse weights, and blocks of output channels, so that every
/// thread has several.
fn grid(sizes: &Sizes, threads: usize) -> Grid {
    const LEAST: usize = 24;
    const PER_THREAD: usize = 4;
    let [_, height, width] = sizes.output;
    let (across, down, blocks) = (width.div_ceil(2), height.div_ceil(2), sizes.outputs / LANES);
    let wanted = if threads == 1 { 1 } else { threads * PER_THREAD };
    let least = LEAST.div_ceil(across.max(1)).min(down.max(1));
    let rows = (sizes.batch * down / wanted).clamp(least, down.max(1));
    let units = sizes.batch * down.div_ceil(rows);
    // Every part of the blocks takes the points of the input again.
    let parts = if units >= wanted { 1 } else { wanted.div_ceil(units).min(2 * threads) };
    Grid {
        planes: sizes.batch,
        rows: blocks,
        columns: sizes.output_plane() * LANES,
        tile_rows: blocks.div_ceil(parts).next_multiple_of(2).min(blocks.max(1)),
        tile_columns: (2 * rows).min(height.max(1)) * width * LANES,
    }
}

/// Tiles whose points stay in half of a second-level cache while all weights pass.
fn chunk(sizes: &Sizes, grid: &Grid) -> usize {
    const CACHE: usize = 64 << 10;
    let width = sizes.output[2].max(1);
    let tiles = (grid.tile_columns / LANES / width).div_ceil(2) * width.div_ceil(2);
    (CACHE / (POINTS * sizes.inputs) / 6 * 6).clamp(12, 96).min(tiles.max(1))
}

/// Where a tile of input elements lies.
struct Source<'a> {
    /// A block of channels of an image.
    block: &'a [f32],
    sizes: &'a Sizes,
    /// The first output pixel that reads it: row and column.
    corner: [usize; 2],
}

/// Where four results go, and what happens to them before.
struct Target<'a> {
    /// A block.
    bias: &'a [f32],
    /// What is added, in the order of the output, or nothing.
    added: &'a [f32],
    ending: Ending,
    /// The first of the pixels: row and column.
    corner: [usize; 2],
    /// Rows and columns that there are.
    rows: usize,
    width: usize,
}

/// `Bᵀ d B` of a tile `d`, a vector of channels at a time, zeros where it lies outside.
///
/// # Safety
/// `to` points at vectors of 16 points, `stride` elements apart, and the processor has the instructions of `V`.
#[inline(always)]
unsafe fn points_of<V: Vector>(source: &Source<'_>, to: *mut f32, stride: usize) {
    let Source { block, sizes, corner: [row, column] } = *source;
    let [_, height, width] = sizes.input;
    // SAFETY: elements are loaded from whole vectors of the block that were sliced, and stored as the caller promises.
    unsafe {
        let zero = V::splat(0.0);
        let minus = V::splat(-1.0);
        let less = |a: V, b: V| b.fma(minus, a);
        let fold = |d: [V; 4]| [less(d[0], d[2]), d[1].add(d[2]), less(d[2], d[1]), less(d[1], d[3])];
        let mut rows = [[zero; 4]; 4];
        for (i, folded) in rows.iter_mut().enumerate() {
            let Some(y) = (row + i).checked_sub(sizes.before[1]).filter(|&y| y < height) else { continue };
            let line = &block[y * width * LANES..][..width * LANES];
            let mut elements = [zero; 4];
            for (j, element) in elements.iter_mut().enumerate() {
                let x = (column + j).checked_sub(sizes.before[2]).filter(|&x| x < width);
                if let Some(x) = x {
                    *element = V::load(line[x * LANES..][..LANES].as_ptr());
                }
            }
            *folded = fold(elements);
        }
        for j in 0..4 {
            let all = fold(rows.map(|row| row[j]));
            for (i, point) in all.into_iter().enumerate() {
                point.store(to.add((i * 4 + j) * stride));
            }
        }
    }
}

/// `Aᵀ m A` of the sums `m` at the points of a tile, then what the target says.
///
/// # Safety
/// `from` points at vectors of 16 points, `stride` elements apart, and the processor has the instructions of `V`.
#[inline(always)]
unsafe fn results_of<V: Vector>(from: *const f32, stride: usize, target: &Target<'_>, out: &mut [f32]) {
    let Target { bias, added, ending, corner: [row, column], rows, width } = *target;
    // SAFETY: sums are loaded as the caller promises, and everything else from and to whole vectors that were sliced.
    unsafe {
        let minus = V::splat(-1.0);
        let less = |a: V, b: V| b.fma(minus, a);
        let fold = |m: [V; 4]| [m[0].add(m[1]).add(m[2]), less(less(m[1], m[2]), m[3])];
        let at = |i: usize, j: usize| V::load(from.add((i * 4 + j) * stride));
        let lines: [[V; 2]; 4] = std::array::from_fn(|i| fold([at(i, 0), at(i, 1), at(i, 2), at(i, 3)]));
        let bias = V::load(bias[..LANES].as_ptr());
        let (low, high) = (V::splat(ending.low), V::splat(ending.high));
        for j in 0..2.min(width - column) {
            let all = fold(lines.map(|line| line[j]));
            for (i, result) in all.into_iter().enumerate().take(rows - row) {
                let pixel = ((row + i) * width + column + j) * LANES;
                let mut result = result.add(bias);
                if !added.is_empty() {
                    result = result.add(V::load(added[pixel..][..LANES].as_ptr()));
                }
                result.limit(low, high).store(out[pixel..][..LANES].as_mut_ptr());
            }
        }
    }
}

/// # Safety
/// As for [`points_of`] with the instructions of `isa`.
unsafe fn into_points(isa: Isa, source: &Source<'_>, to: *mut f32, stride: usize) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn wide(source: &Source<'_>, to: *mut f32, stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { points_of::<Avx2>(source, to, stride) }
    }
    // SAFETY: the caller's promise.
    unsafe {
        match isa {
            Isa::Plain => points_of::<Plain>(source, to, stride),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => wide(source, to, stride),
        }
    }
}

/// # Safety
/// As for [`results_of`] with the instructions of `isa`.
unsafe fn into_results(isa: Isa, from: *const f32, stride: usize, target: &Target<'_>, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn wide(from: *const f32, stride: usize, target: &Target<'_>, out: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe { results_of::<Avx2>(from, stride, target, out) }
    }
    // SAFETY: the caller's promise.
    unsafe {
        match isa {
            Isa::Plain => results_of::<Plain>(from, stride, target, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => wide(from, stride, target, out),
        }
    }
}

impl CpuKernel for WinogradKernel {
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
