//! Quantized convolutions of each channel by itself, over values in blocks.

use super::micro::BlockArithmetic;
use super::rows::{Pixels, Rows};
use super::{Constants, Image, operands};
use crate::conv::blocked::channel_grid;
use crate::conv::window::Sizes;
use crate::cpu::integer::Arithmetic;
use crate::cpu::tiles::{Grid, Tile, share_out};
use crate::cpu::vector::{Isa, LANES};
use crate::error::OpError;
use crate::operator::{CpuKernel, CpuRun};
use crate::quantize::ends::Requantized;

/// How the window elements of a pixel are multiplied and added up.
pub(super) trait Method: Send + Sync {
    /// What the rows hold.
    type Arithmetic: BlockArithmetic;

    /// Pixels that are computed at once, and how many that must be.
    const PIXELS: usize;

    /// Elements that may be read behind the last one that counts.
    const BEHIND: usize;

    /// Computes [`PIXELS`](Method::PIXELS) pixels of a block.
    ///
    /// # Safety
    /// The windows of all pixels lie inside rows of the sizes that the method was made for, with so many elements behind
    /// them; the output has room for each pixel; and the processor has the instructions that the method was made for.
    #[allow(unsafe_code, reason = "the innermost loops take pointers")]
    unsafe fn pixels(&self, run: &Run<'_, <Self::Arithmetic as Arithmetic>::Left>);
}

/// Some pixels of a block, as pointers.
#[derive(Clone, Copy)]
pub(super) struct Run<'a, X> {
    /// Where the first pixel's window begins.
    pub x: *const X,
    /// The block.
    pub block: usize,
    pub end: &'a Requantized<false>,
    /// Where the first pixel goes; the next follows.
    pub out: *mut u8,
}

/// A convolution with one channel to a group over two axes.
pub(super) struct DepthwiseKernel<M> {
    sizes: Sizes,
    isa: Isa,
    image: Image,
    end: Requantized<false>,
    method: M,
    grid: Grid,
    rows: Rows,
}

/// The tiles of a convolution, and the input rows of one block of channels of the largest, in steps of so many channels.
pub(super) fn tiles(sizes: &Sizes, step: usize) -> (Grid, Rows) {
    let grid = channel_grid(sizes);
    let block = Sizes { inputs: LANES, outputs: LANES, groups: 1, ..*sizes };
    (grid, Rows::new(&block, true, grid.tile_columns / LANES, step))
}

impl<M: Method> DepthwiseKernel<M> {
    /// By a method that was made for these sizes and constants.
    ///
    /// # Errors
    /// When a constant has another type.
    pub fn new(
        sizes: Sizes,
        isa: Isa,
        method: M,
        constants: &Constants<'_>,
    ) -> Result<DepthwiseKernel<M>, OpError> {
        let (grid, rows) = tiles(&sizes, M::Arithmetic::STEP);
        let image = constants.image;
        let end = constants.end(sizes.groups, sizes.window(), M::Arithmetic::remains(image))?;
        Ok(DepthwiseKernel { sizes, isa, image, end, method, grid, rows })
    }

    /// Elements of scratch memory for a tile: the rows of a block, and what is read behind them for pixels that do not
    /// count.
    fn share(&self) -> usize {
        self.rows.len() + M::PIXELS * self.sizes.strides[2] * LANES + M::BEHIND
    }

    #[allow(unsafe_code, reason = "the innermost loops take pointers")]
    fn tile(
        &self,
        x: &[u8],
        tile: &mut Tile<'_, u8>,
        scratch: &mut [<M::Arithmetic as Arithmetic>::Left],
    ) -> Result<(), OpError> {
        let sizes = &self.sizes;
        let (width, size) = (sizes.output[2], sizes.input_plane() * LANES);
        let pixels = Pixels { first: tile.column / LANES, count: tile.columns / LANES };
        if scratch.len() < self.share() {
            return Err(OpError::Internal("too little scratch memory"));
        }
        let part = M::PIXELS * LANES;
        let mut short = [0u8; 8 * LANES];
        for row in 0..tile.rows {
            let block = tile.row + row;
            let image = tile.plane * self.grid.rows + block;
            let input = x.get(image * size..(image + 1) * size);
            let input = input.ok_or(OpError::Internal("a value smaller than its dimensions say"))?;
            let rows = &mut scratch[..self.rows.len()];
            self.rows.fill::<M::Arithmetic>(self.isa, input, self.image, pixels, rows);
            for (line, out) in tile.row_mut(row).chunks_exact_mut(width * LANES).enumerate() {
                let place = self.rows.place(pixels, line * width);
                for (index, out) in out.chunks_mut(part).enumerate() {
                    let whole = out.len() == part;
                    let run = Run {
                        x: scratch[place + index * part * sizes.strides[2]..].as_ptr(),
                        block,
                        end: &self.end,
                        out: if whole { out.as_mut_ptr() } else { short.as_mut_ptr() },
                    };
                    // SAFETY: the window of the last pixel lies inside the rows, and behind them is room for those of
                    // PIXELS more and what may be read besides. `short` holds eight pixels, which no method exceeds.
                    unsafe { self.method.pixels(&run) };
                    if !whole {
                        out.copy_from_slice(&short[..out.len()]);
                    }
                }
            }
        }
        Ok(())
    }
}

impl<M: Method> CpuKernel for DepthwiseKernel<M> {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (x, output) = operands(run.inputs, run.outputs)?;
        let whole = run.scratch.len() / size_of::<<M::Arithmetic as Arithmetic>::Left>();
        let scratch = &mut run.scratch[..whole * size_of::<<M::Arithmetic as Arithmetic>::Left>()];
        let scratch = bytemuck::try_cast_slice_mut(scratch).unwrap_or(&mut []);
        let scratch = (scratch, self.share());
        share_out(output, 0, &self.grid, scratch, || Ok(()), |tile, scratch, ()| self.tile(x, tile, scratch))
    }

    fn scratch(&self) -> usize {
        self.share() * rayon::current_num_threads() * size_of::<<M::Arithmetic as Arithmetic>::Left>()
    }
}
