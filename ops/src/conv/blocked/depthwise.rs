//! Convolutions of each channel by itself, over values in blocks: a vector is a pixel's block, so edges are a matter of
//! which window elements are added, never of single lanes.

#![allow(unsafe_code, reason = "pointers into checked slices, and code for instructions that were detected")]

use super::run_tiles;
use crate::conv::cpu::inside;
use crate::conv::window::Sizes;
use crate::cpu::tiles::{Grid, Tile};
#[cfg(target_arch = "x86_64")]
use crate::cpu::vector::Avx2;
use crate::cpu::vector::{Isa, LANES, Plain, Vector};
use crate::error::OpError;
use crate::layout::Ending;
use crate::operator::{CpuKernel, CpuRun};

/// Pixels whose sums are kept in registers at once.
const PIXELS: usize = 6;

/// A convolution with one channel to a group over two axes.
pub(super) struct DepthwiseKernel {
    sizes: Sizes,
    isa: Isa,
    /// For each block and window element, a vector.
    weights: Vec<f32>,
    bias: Vec<f32>,
    ending: Option<Ending>,
    grid: Grid,
}

/// One row of output pixels of a block, as pointers.
#[derive(Clone, Copy)]
struct Row<'a> {
    sizes: &'a Sizes,
    /// The block's input.
    x: *const f32,
    /// The row's number.
    y: usize,
    weights: *const f32,
    bias: *const f32,
    out: *mut f32,
    added: *const f32,
    limits: (f32, f32),
}

impl Row<'_> {
    /// Computes `P` pixels from pixel `from` on, of which the window elements `taps` (from, to) of a row are inside.
    ///
    /// # Safety
    /// The pointers hold what their names say, the window elements are inside, the pixels are in the row, and the
    /// processor has the instructions of `V`.
    #[inline(always)]
    unsafe fn pixels<V: Vector, const P: usize>(
        &self,
        from: usize,
        rows: (usize, usize),
        taps: (usize, usize),
    ) {
        let sizes = self.sizes;
        let (stride, dilation) = (sizes.strides[2], sizes.dilations[2]);
        let rows = if taps.0 < taps.1 { rows } else { (0, 0) };
        // SAFETY: the caller's promise: all window elements in `rows` and `taps` are inside the input.
        unsafe {
            let mut sums = [V::load(self.bias); P];
            for ky in rows.0..rows.1 {
                let iy = self.y * sizes.strides[1] + ky * sizes.dilations[1] - sizes.before[1];
                let ix = from * stride + taps.0 * dilation - sizes.before[2];
                let mut x = self.x.add((iy * sizes.input[2] + ix) * LANES);
                let mut weights = self.weights.add((ky * sizes.kernel[2] + taps.0) * LANES);
                for _ in taps.0..taps.1 {
                    let weight = V::load(weights);
                    for (p, sum) in sums.iter_mut().enumerate() {
                        *sum = V::load(x.add(p * stride * LANES)).fma(weight, *sum);
                    }
                    x = x.wrapping_add(dilation * LANES);
                    weights = weights.wrapping_add(LANES);
                }
            }
            let (low, high) = (V::splat(self.limits.0), V::splat(self.limits.1));
            for (p, &sum) in sums.iter().enumerate() {
                let at = (from + p) * LANES;
                let sum = if self.added.is_null() { sum } else { sum.add(V::load(self.added.add(at))) };
                sum.limit(low, high).store(self.out.add(at));
            }
        }
    }

    /// Computes the row.
    ///
    /// # Safety
    /// The pointers hold what their names say, and the processor has the instructions of `V`.
    #[inline(always)]
    unsafe fn compute<V: Vector>(&self) {
        let sizes = self.sizes;
        let (width, kernel) = (sizes.output[2], sizes.kernel[2]);
        // Window rows inside the input at this output row, and the same for a column.
        let at = |axis: usize, o: usize| {
            let (stride, dilation) = (sizes.strides[axis], sizes.dilations[axis]);
            let start = sizes.before[axis].saturating_sub(o * stride).div_ceil(dilation);
            let end = (sizes.input[axis] + sizes.before[axis]).saturating_sub(o * stride).div_ceil(dilation);
            let end = end.min(sizes.kernel[axis]);
            (start.min(end), end)
        };
        let rows = at(1, self.y);
        // Columns where the whole window is inside.
        let (first, end) = (inside(sizes, 2, 0).0, inside(sizes, 2, kernel - 1).1.min(width));
        let (first, end) = (first.min(width), end.max(first).min(width));
        // SAFETY: the caller's promise; `at` and `inside` give window elements that are inside.
        unsafe {
            for x in (0..first).chain(end..width) {
                self.pixels::<V, 1>(x, rows, at(2, x));
            }
            let count = end.saturating_sub(first);
            let parts = count.div_ceil(PIXELS);
            let mut x = first;
            for part in 0..parts {
                let pixels = count / parts + usize::from(part < count % parts);
                let all = (0, kernel);
                match pixels {
                    1 => self.pixels::<V, 1>(x, rows, all),
                    2 => self.pixels::<V, 2>(x, rows, all),
                    3 => self.pixels::<V, 3>(x, rows, all),
                    4 => self.pixels::<V, 4>(x, rows, all),
                    5 => self.pixels::<V, 5>(x, rows, all),
                    _ => self.pixels::<V, PIXELS>(x, rows, all),
                }
                x += pixels;
            }
        }
    }

    /// Computes the row.
    ///
    /// # Safety
    /// The pointers hold what their names say, and the processor has the instructions of `isa`.
    unsafe fn run(&self, isa: Isa) {
        /// # Safety
        /// As for [`Row::compute`].
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(row: &Row<'_>) {
            // SAFETY: the caller's promise.
            unsafe { row.compute::<Avx2>() }
        }
        // SAFETY: the caller's promise.
        unsafe {
            match isa {
                Isa::Plain => self.compute::<Plain>(),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2(self),
            }
        }
    }
}

/// Tiles of a few rows of pixels of a few blocks.
pub(crate) fn grid(sizes: &Sizes) -> Grid {
    let blocks = sizes.groups / LANES;
    let [_, height, width] = sizes.output;
    // Several small channels to a tile, but several tiles to a thread.
    const TILE: usize = 16 << 10;
    let row = (width * LANES).max(1);
    let threads = rayon::current_num_threads();
    let per_thread = (sizes.batch * blocks).div_ceil(if threads == 1 { 1 } else { 8 * threads }).max(1);
    let tile_rows = (TILE / (row * height).max(1)).clamp(1, per_thread);
    let band = (TILE / row).clamp(1, height.max(1));
    Grid {
        planes: sizes.batch,
        rows: blocks,
        columns: sizes.output_plane() * LANES,
        tile_rows,
        tile_columns: band * row,
    }
}

impl DepthwiseKernel {
    /// Packs weights (C, 1, kh, kw) and the bias.
    pub fn new(
        sizes: Sizes,
        isa: Isa,
        (weights, bias): (&[f32], Option<&[f32]>),
        ending: Option<Ending>,
    ) -> DepthwiseKernel {
        let taps = sizes.window();
        let mut packed = vec![0.0; sizes.groups * taps];
        for (channel, window) in weights.chunks_exact(taps).take(sizes.groups).enumerate() {
            for (tap, &weight) in window.iter().enumerate() {
                packed[(channel / LANES * taps + tap) * LANES + channel % LANES] = weight;
            }
        }
        let mut whole = vec![0.0; sizes.groups];
        whole.iter_mut().zip(bias.unwrap_or(&[])).for_each(|(slot, &bias)| *slot = bias);
        let grid = grid(&sizes);
        DepthwiseKernel { sizes, isa, weights: packed, bias: whole, ending, grid }
    }

    fn tile(&self, x: &[f32], added: Option<&[f32]>, tile: &mut Tile<'_>) -> Result<(), OpError> {
        let sizes = &self.sizes;
        let (taps, plane, size) = (sizes.window(), sizes.output_plane(), sizes.input_plane() * LANES);
        let width = sizes.output[2];
        let ending = self.ending.unwrap_or(Ending::NONE);
        let blocks = self.grid.rows;
        let first = tile.column / (width * LANES);
        for row in 0..tile.rows {
            let block = tile.row + row;
            let image = tile.plane * blocks + block;
            let input = x.get(image * size..(image + 1) * size);
            let weights = self.weights.get(block * taps * LANES..(block + 1) * taps * LANES);
            let bias = self.bias.get(block * LANES..(block + 1) * LANES);
            let (Some(input), Some(weights), Some(bias)) = (input, weights, bias) else {
                return Err(OpError::Internal("a value smaller than its dimensions say"));
            };
            for (index, line) in tile.row_mut(row).chunks_exact_mut(width * LANES).enumerate() {
                let y = first + index;
                let start = (image * plane + y * width) * LANES;
                let row = Row {
                    sizes,
                    x: input.as_ptr(),
                    y,
                    weights: weights.as_ptr(),
                    bias: bias.as_ptr(),
                    out: line.as_mut_ptr(),
                    added: added.map_or(std::ptr::null(), |added| added[start..].as_ptr()),
                    limits: (ending.low, ending.high),
                };
                // SAFETY: input, weights and bias hold all elements of the block, the line a row of output pixels, and
                // what is added has the output's size. `isa` was detected.
                unsafe { row.run(self.isa) };
            }
        }
        Ok(())
    }
}

impl CpuKernel for DepthwiseKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        run_tiles(run, self.ending, &self.grid, 0, |x, added, tile, _| self.tile(x, added, tile))
    }

    fn finishes(&self) -> bool {
        true
    }
}
