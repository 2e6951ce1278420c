//! Convolutions of quantized integers on the CPU: products of the weights with columns of input elements, gathered tile
//! by tile from channels that were widened between zeros.

use rayon::prelude::*;

use super::depthwise_cpu::DepthwiseKernel;
use super::ends::{Bounds, Places, Requantized, fits, is_byte, zeros};
use super::staged::{SLACK, Staged};
use crate::conv::window::Sizes;
use crate::cpu::integer::words::{Wide, interleave, interleave_bytes, widen};
use crate::cpu::integer::{Arithmetic, AsSums, COLUMNS, End, Rows, multiply};
use crate::cpu::tiles::{Grid, share_out};
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::view::{View, ViewMut};
use crate::movement::sizes::{optional, view};
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::Problem;

/// A convolution of quantized integers that is not depthwise.
struct ConvKernel {
    sizes: Sizes,
    staged: Staged,
    places: Places,
    bounds: Bounds,
    /// Channels are their own columns and need not be staged.
    direct: bool,
    /// Columns of a tile.
    width: usize,
    /// Rows of a tile.
    height: usize,
    /// The weights without their zero points, when constant.
    packed: Option<Vec<i16>>,
}

/// What a convolution reads that is not constant, checked.
pub(super) struct Operands<'a> {
    /// The image.
    pub x: View<'a>,
    /// Its zero point.
    pub x_zero: i16,
    /// The weights.
    pub w: View<'a>,
    /// The zero point of each channel, or of all.
    pub w_zeros: Vec<i16>,
}

impl<'a> Operands<'a> {
    /// # Errors
    /// When one is missing.
    pub fn new(inputs: &[Option<View<'a>>], places: &Places) -> Result<Operands<'a>, OpError> {
        let x_zero = zeros(optional(inputs, places.x_zero))?;
        Ok(Operands {
            x: view(inputs, places.x)?,
            x_zero: x_zero.first().copied().unwrap_or(0),
            w: view(inputs, places.w)?,
            w_zeros: zeros(optional(inputs, places.w_zero))?,
        })
    }
}

/// The kernel for a problem; `None` when zero points or scales lie along other axes than the output channels.
pub(super) fn prepare(
    problem: &Problem<'_>,
    sizes: Sizes,
    places: Places,
    bounds: Bounds,
) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
    // More is not worth holding an image twice.
    const LARGEST: usize = 1 << 27;
    let channels = sizes.groups * sizes.outputs;
    let Some(output) = problem.outputs.first() else { return Ok(None) };
    let typed = if places.output.is_some() { is_byte(output.dtype) } else { output.dtype == DType::I32 };
    let depth = sizes.inputs * sizes.window();
    let Some(staged) = Staged::new(&sizes) else { return Ok(None) };
    let all = staged.len().checked_mul(sizes.groups).and_then(|n| n.checked_mul(sizes.inputs));
    let weights = channels.checked_mul(Wide::row_stride(depth));
    let large = [all, weights].iter().any(|size| size.is_none_or(|size| size > LARGEST));
    if large || !typed || depth == 0 || channels == 0 || !fits(problem, &places, channels) {
        return Ok(None);
    }
    let packed = match (problem.input(places.w), problem.input(places.w_zero)) {
        (Some(w), zero) if zero.is_none_or(|zero| zero.value.is_some()) => w.value.map(|w| {
            zeros(zero.and_then(|zero| zero.value).map(crate::Tensor::view))
                .map(|zeros| pack(&w.view(), &zeros, channels, depth))
        }),
        _ => None,
    };
    let packed = packed.transpose()?;
    if sizes.is_depthwise() {
        return Ok(Some(Box::new(DepthwiseKernel { sizes, staged, places, bounds, packed })));
    }
    let (width, height) = tile_sizes(&sizes, depth, rayon::current_num_threads());
    let direct = sizes.is_pointwise();
    Ok(Some(Box::new(ConvKernel { sizes, staged, places, bounds, direct, width, height, packed })))
}

/// Columns and rows of a tile.
fn tile_sizes(sizes: &Sizes, depth: usize, threads: usize) -> (usize, usize) {
    // A tile of columns and the weights that meet it share the second-level cache.
    const TILE: usize = 112 << 10;
    let plane = sizes.output_plane().max(1);
    let most = (TILE / depth.max(1) / COLUMNS).max(1) * COLUMNS;
    let across = plane.div_ceil(most);
    let width = plane.div_ceil(across).next_multiple_of(COLUMNS);
    let mut height = sizes.outputs.max(1);
    let tiles = |height: usize| sizes.groups * plane.div_ceil(width) * sizes.outputs.div_ceil(height);
    while threads > 1 && tiles(height) < 2 * threads && height > 48 {
        height = height.div_ceil(2).next_multiple_of(6);
    }
    (width, height)
}

/// The weights without their zero points: a row for each output channel.
pub(super) fn pack(w: &View<'_>, zeros: &[i16], channels: usize, depth: usize) -> Vec<i16> {
    let stride = Wide::row_stride(depth);
    let mut rows = vec![0; channels * stride];
    let each = rows.chunks_exact_mut(stride).zip(w.bytes.chunks_exact(depth.max(1))).enumerate();
    for (channel, (row, bytes)) in each {
        let zero = if zeros.len() == 1 { zeros.first() } else { zeros.get(channel) };
        widen(bytes, w.dtype == DType::I8, zero.copied().unwrap_or(0), &mut row[..depth]);
    }
    rows
}

impl ConvKernel {
    fn depth(&self) -> usize {
        self.sizes.inputs * self.sizes.window()
    }

    /// Elements that a thread gathers into: panels, and two rows of columns.
    fn share(&self) -> usize {
        self.width / COLUMNS * Wide::panel_len(self.depth()) + 2 * (self.width + SLACK)
    }

    /// Elements of all channels of an image.
    fn image(&self) -> usize {
        if self.direct {
            return 0;
        }
        self.staged.len() * self.sizes.inputs * self.sizes.groups
    }

    /// Puts the columns from `first` on of a group's channels, which are bytes, into panels.
    fn gather_bytes(
        &self,
        channels: &[u8],
        signed: bool,
        zero: i16,
        (first, count): (usize, usize),
        panels: &mut [i16],
    ) {
        let (depth, plane) = (self.depth(), self.sizes.input_plane());
        let row = |k: usize| channels.get(k * plane + first..k * plane + first + count).unwrap_or(&[]);
        let used = Wide::panel_len(depth) * count.div_ceil(COLUMNS);
        let panels = panels.get_mut(..used).unwrap_or(&mut []);
        for k in (0..depth).step_by(2) {
            let rows = [row(k), if k + 1 < depth { row(k + 1) } else { &[] }];
            interleave_bytes(rows, signed, zero, panels, (Wide::panel_len(depth), k * COLUMNS));
        }
    }

    /// Gathers the columns from `first` on of a group's channels into panels.
    fn gather(&self, channels: &[i16], offsets: &[usize], first: usize, count: usize, scratch: &mut [i16]) {
        let (depth, window) = (self.depth(), self.sizes.window().max(1));
        let (lines, panels) = scratch.split_at_mut(2 * (self.width + SLACK));
        let (one, two) = lines.split_at_mut(self.width + SLACK);
        for k in (0..depth).step_by(2) {
            for (half, line) in [&mut *one, &mut *two].into_iter().enumerate() {
                let row = k + half;
                if row >= depth {
                    line.fill(0);
                    continue;
                }
                let channel = channels.get(row / window * self.staged.len()..).unwrap_or(&[]);
                let offset = offsets.get(row % window).copied().unwrap_or(0);
                self.staged.columns(channel, offset, first, count, line);
            }
            interleave(&one[..self.width], &two[..self.width], panels, Wide::panel_len(depth), k * COLUMNS);
        }
    }

    fn fill<T: Copy + Send>(
        &self,
        out: &mut [T],
        operands: &Operands<'_>,
        scratch: &mut [i16],
        end: &impl End<T>,
    ) -> Result<(), OpError> {
        let (sizes, depth) = (&self.sizes, self.depth());
        let (size, group) = (sizes.input_plane(), sizes.inputs * self.staged.len());
        let channels = sizes.groups * sizes.outputs;
        let own;
        let weights = match &self.packed {
            Some(packed) => packed,
            None => {
                own = pack(&operands.w, &operands.w_zeros, channels, depth);
                &own
            }
        };
        let stride = Wide::row_stride(depth);
        let grid = Grid {
            planes: sizes.groups,
            rows: sizes.outputs,
            columns: sizes.output_plane(),
            tile_rows: self.height,
            tile_columns: self.width,
        };
        let offsets = self.staged.offsets();
        let (staged, scratch) = scratch.split_at_mut(self.image());
        let images = operands.x.bytes.chunks_exact((size * sizes.groups * sizes.inputs).max(1));
        let signed = operands.x.dtype == DType::I8;
        for (image, out) in images.zip(out.chunks_exact_mut((channels * sizes.output_plane()).max(1))) {
            let each =
                staged.par_chunks_exact_mut(self.staged.len()).zip(image.par_chunks_exact(size.max(1)));
            each.with_min_len((1 << 14) / size.max(1) + 1)
                .for_each(|(staged, channel)| self.staged.fill(channel, signed, operands.x_zero, staged));
            let staged = &*staged;
            share_out(
                out,
                0,
                &grid,
                (&mut *scratch, self.share()),
                || Ok(()),
                |tile, scratch, ()| {
                    if self.direct {
                        let own = image.get(tile.plane * sizes.inputs * size..).unwrap_or(&[]);
                        let columns = (tile.column, tile.columns);
                        let panels = scratch.get_mut(2 * (self.width + SLACK)..).unwrap_or(&mut []);
                        self.gather_bytes(own, signed, operands.x_zero, columns, panels);
                    } else {
                        let own = staged.get(tile.plane * group..).unwrap_or(&[]);
                        self.gather(own, &offsets, tile.column, tile.columns, scratch);
                    }
                    let first = tile.plane * sizes.outputs + tile.row;
                    let rows = Rows { data: weights.get(first * stride..).unwrap_or(&[]), stride };
                    let panels = scratch.get(2 * (self.width + SLACK)..).unwrap_or(&[]);
                    multiply::<Wide, T, _>(tile, first, rows, panels, depth, end)
                },
            )?;
        }
        Ok(())
    }
}

/// Scratch memory as integers of 16 bits.
pub(super) fn words(scratch: &mut [u8]) -> &mut [i16] {
    let whole = scratch.len() / 2 * 2;
    bytemuck::try_cast_slice_mut(&mut scratch[..whole]).unwrap_or(&mut [])
}

/// The output that a run fills.
///
/// # Errors
/// When there is none.
pub(super) fn first<'a, 'b>(outputs: &'a mut [ViewMut<'b>]) -> Result<&'a mut ViewMut<'b>, OpError> {
    outputs.first_mut().ok_or(OpError::Internal("a missing output"))
}

impl CpuKernel for ConvKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let operands = Operands::new(run.inputs, &self.places)?;
        let channels = self.sizes.groups * self.sizes.outputs;
        let output = first(run.outputs)?;
        let scratch = words(run.scratch);
        if scratch.len() < self.image() {
            return Err(OpError::Internal("too little scratch memory"));
        }
        if self.places.output.is_none() {
            return self.fill(output.slice::<i32>(), &operands, scratch, &AsSums);
        }
        let end = Requantized::<true>::new(run.inputs, &self.places, channels, 1.0, self.bounds)?;
        self.fill(output.bytes, &operands, scratch, &end)
    }

    fn scratch(&self) -> usize {
        (self.image() + self.share() * rayon::current_num_threads()) * size_of::<i16>()
    }
}
