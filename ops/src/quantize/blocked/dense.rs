//! Quantized convolutions of all channels with all, over values in blocks: direct, without columns in between.

#![allow(unsafe_code, reason = "the innermost loops take pointers")]

use std::sync::Arc;

use rayon::prelude::*;

use super::micro::{self, BlockArithmetic, SUMS, Sums};
use super::rows::{Pixels, Rows};
use super::{Constants, Image, operands};
use crate::conv::blocked::{BLOCKS, Form, grid};
use crate::conv::window::Sizes;
use crate::cpu::integer::words::Weight;
use crate::cpu::packed::{self, Packed};
use crate::cpu::tiles::{Grid, Tile, share_out};
use crate::cpu::vector::{Isa, LANES};
use crate::error::OpError;
use crate::ir::numbers::filled;
use crate::operator::{CpuKernel, CpuRun};
use crate::quantize::ends::Requantized;

/// A convolution without groups over two axes.
pub(super) struct DenseKernel<A: BlockArithmetic> {
    sizes: Sizes,
    form: Form,
    isa: Isa,
    image: Image,
    end: Requantized<false>,
    /// For each block of output channels, a vector for each step of channels of each window element of each group.
    weights: Arc<Packed<A::Right>>,
    grid: Grid,
    rows: Rows,
    /// The image is its own rows: those of a group are its whole block.
    in_place: bool,
    /// Where the window elements of all groups lie in the rows.
    taps: Vec<i32>,
}

/// The tiles of a convolution, and the input rows of the largest, in steps of so many channels.
pub(super) fn tiles(sizes: &Sizes, form: Form, step: usize) -> (Grid, Rows) {
    let grid = grid(sizes, form, false, rayon::current_num_threads());
    let pixels = if form.output { grid.tile_columns / LANES } else { grid.tile_columns };
    (grid, Rows::new(sizes, form.input, pixels, step))
}

impl<A: BlockArithmetic> DenseKernel<A> {
    /// Packs weights (O, I, kh, kw).
    ///
    /// # Errors
    /// When there is no room for the weights, or a constant has another type.
    pub fn new(
        sizes: Sizes,
        form: Form,
        isa: Isa,
        constants: &Constants<'_>,
    ) -> Result<DenseKernel<A>, OpError> {
        let (grid, rows) = tiles(&sizes, form, A::STEP);
        let (taps, channels) = (sizes.window(), rows.channels);
        // Offsets have 32 bits.
        let all = sizes.inputs.checked_mul(sizes.input_plane()).is_some_and(|len| i32::try_from(len).is_ok());
        let in_place = all && rows.direct && A::as_is(&[], constants.image).is_some();
        let size = if in_place { sizes.input_plane() * LANES } else { rows.group() };
        let all_taps = (0..rows.groups)
            .flat_map(|group| (0..taps).map(move |tap| (group * size + rows.tap(tap)) as i32));
        let blocks = sizes.outputs.div_ceil(LANES);
        let depth = rows.groups * taps * channels;
        let pack = || {
            let mut panels = filled(&[blocks, depth, LANES], A::Right::ZERO)?;
            panels.par_chunks_mut(depth * LANES).enumerate().try_for_each(|(block, panel)| {
                for lane in 0..LANES.min(sizes.outputs - block * LANES) {
                    let row = constants.weights(block * LANES + lane, sizes.inputs * taps);
                    for (input, window) in row.chunks_exact(taps).enumerate() {
                        let (group, within) = (input / channels, input % channels);
                        for (tap, &weight) in window.iter().enumerate() {
                            let step = ((group * taps + tap) * channels + within) / A::STEP;
                            panel[(step * LANES + lane) * A::STEP + within % A::STEP] = A::Right::of(weight)
                                .ok_or(OpError::Internal("a weight of more bits than it has"))?;
                        }
                    }
                }
                Ok::<_, OpError>(())
            })?;
            Ok(panels)
        };
        let zero = constants.zero.rem_euclid(512) as usize;
        let form_of = (A::NAME, [sizes.outputs, sizes.inputs, taps, channels, zero, 0]);
        let weights = packed::shared(constants.tensor, form_of, pack)?;
        let end = constants.end(sizes.outputs, sizes.inputs * taps, A::remains(constants.image))?;
        let (image, taps) = (constants.image, all_taps.collect());
        Ok(DenseKernel { sizes, form, isa, image, end, weights, grid, rows, in_place, taps })
    }

    /// Bytes of scratch memory for a tile: places and rows.
    fn share(&self) -> usize {
        let rows = if self.in_place { 0 } else { self.rows.len() };
        let bytes = self.pixels() * size_of::<i32>() + rows * size_of::<A::Left>();
        bytes.next_multiple_of(size_of::<i32>())
    }

    /// Pixels of the largest tile.
    fn pixels(&self) -> usize {
        if self.form.output { self.grid.tile_columns / LANES } else { self.grid.tile_columns }
    }

    /// One tile of an image's output.
    fn tile(&self, image: &[u8], tile: &mut Tile<'_, u8>, scratch: &mut [u8]) -> Result<(), OpError> {
        let short = || OpError::Internal("too little scratch memory");
        let (first, count, block, blocks) = match self.form.output {
            true => (tile.column / LANES, tile.columns / LANES, tile.row, tile.rows),
            false => (tile.column, tile.columns, tile.row / LANES, tile.rows.div_ceil(LANES)),
        };
        let pixels = Pixels { first, count };
        let split = self.pixels() * size_of::<i32>();
        let (places, rows) = scratch.split_at_mut_checked(split).ok_or_else(short)?;
        let places: &mut [i32] = bytemuck::try_cast_slice_mut(places).map_err(|_| short())?;
        let places = places.get_mut(..count).ok_or_else(short)?;
        let rows: &[A::Left] = if self.in_place {
            places.iter_mut().enumerate().for_each(|(i, place)| *place = ((first + i) * LANES) as i32);
            A::as_is(image, self.image).ok_or_else(short)?
        } else {
            let rows = rows.get_mut(..self.rows.len() * size_of::<A::Left>()).ok_or_else(short)?;
            let rows: &mut [A::Left] = bytemuck::try_cast_slice_mut(rows).map_err(|_| short())?;
            self.rows.fill::<A>(self.isa, image, self.image, pixels, rows);
            places.iter_mut().enumerate().for_each(|(i, place)| *place = self.rows.place(pixels, i) as i32);
            rows
        };
        let depth = self.taps.len() * self.rows.channels * LANES;
        let panels = self.weights.value().get(block * depth..(block + blocks) * depth);
        let panels = panels.ok_or(OpError::Internal("a tile outside the weights"))?;
        let mut short = [0u8; SUMS * LANES];
        let mut done = 0;
        while done < blocks {
            let step = match blocks - done {
                left @ (1 | BLOCKS) => left,
                _ => 2,
            };
            let parts = count.div_ceil(A::pixels_at_once(step));
            let mut at = 0;
            for part in 0..parts {
                let pixels = count / parts + usize::from(part < count % parts);
                let mut sums = Sums::<A> {
                    x: rows.as_ptr(),
                    places: places[at..].as_ptr(),
                    taps: self.taps.as_ptr(),
                    count: self.taps.len(),
                    steps: self.rows.channels / A::STEP,
                    weights: panels[done * depth..].as_ptr(),
                    block_weights: depth,
                    end: &self.end,
                    channel: (block + done) * LANES,
                    out: short.as_mut_ptr(),
                    block_out: pixels * LANES,
                };
                if self.form.output {
                    sums.out = tile.row_mut(done)[at * LANES..].as_mut_ptr();
                    sums.block_out = self.sizes.output_plane() * LANES;
                }
                // SAFETY: the weights hold `blocks` blocks, of which `step` follow `done`. There are `count` places, of
                // which `pixels` follow `at`; every window from them lies inside the rows, or the image, which hold all
                // groups. The
                // output is either `short`, which holds SUMS vectors, or the tile, whose rows hold `count` vectors each and
                // lie `block_out` apart. `isa` was detected.
                unsafe { micro::run(self.isa, step, pixels, &sums) };
                if !self.form.output {
                    for channel in 0..(step * LANES).min(tile.rows - done * LANES) {
                        let from = channel / LANES * pixels * LANES + channel % LANES;
                        let row = &mut tile.row_mut(done * LANES + channel)[at..at + pixels];
                        row.iter_mut()
                            .zip(short[from..].iter().step_by(LANES))
                            .for_each(|(y, &byte)| *y = byte);
                    }
                }
                at += pixels;
            }
            done += step;
        }
        Ok(())
    }
}

impl<A: BlockArithmetic> CpuKernel for DenseKernel<A> {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let size = self.sizes.inputs * self.sizes.input_plane();
        let (x, output) = operands(run.inputs, run.outputs)?;
        let scratch = (&mut *run.scratch, self.share());
        share_out(
            output,
            0,
            &self.grid,
            scratch,
            || Ok(()),
            |tile, scratch, ()| {
                let image = x.get(tile.plane * size..(tile.plane + 1) * size);
                let image = image.ok_or(OpError::Internal("an image smaller than its dimensions say"))?;
                self.tile(image, tile, scratch)
            },
        )
    }

    fn scratch(&self) -> usize {
        self.share() * rayon::current_num_threads()
    }
}
