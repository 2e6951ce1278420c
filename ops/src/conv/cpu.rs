//! Convolutions of floats on the CPU: products of the weights with columns of input elements, gathered tile by tile.

use rayon::prelude::*;

use super::depthwise::DepthwiseKernel;
use super::window::Sizes;
use crate::cpu::gemm::{Matrix, Store, multiply};
use crate::cpu::tiles::{Grid, Tile, for_each_tile};
use crate::cpu::{fill_floats, floats, is_float, scratch_floats, widened};
use crate::error::OpError;
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::Problem;

/// How columns are gathered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gather {
    /// Not at all: the input is its own column matrix.
    None,
    /// By each thread for its own tiles of so many output elements.
    Tiles(usize),
    /// Once for a whole image and group, by all threads; then the output channels are shared out. For outputs that
    /// have too few elements for tiles.
    Whole,
}

/// A convolution that is not depthwise.
struct ConvKernel {
    sizes: Sizes,
    gather: Gather,
    /// The weights, when constant and not f32.
    weights: Option<Vec<f32>>,
}

/// The kernel for a problem; `None` when it is not over floats of 16 or 32 bits.
pub(super) fn prepare(problem: &Problem<'_>, sizes: Sizes) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
    let (Some(weights), Some(output)) = (problem.input(1), problem.outputs.first()) else { return Ok(None) };
    let mut operands = problem.inputs.iter().flatten();
    if !is_float(output.dtype) || operands.any(|operand| operand.dtype != output.dtype) {
        return Ok(None);
    }
    let weights = widened(weights)?;
    if DepthwiseKernel::fits(&sizes) {
        return Ok(Some(Box::new(DepthwiseKernel::new(sizes, weights))));
    }
    let gather = Gather::choose(&sizes, rayon::current_num_threads());
    Ok(Some(Box::new(ConvKernel { sizes, gather, weights })))
}

impl Gather {
    fn choose(sizes: &Sizes, threads: usize) -> Gather {
        // A tile of columns and the weights that meet it share the second-level cache.
        const TILE: usize = 96 << 10;
        const LARGEST_WHOLE: usize = 16 << 20;
        if sizes.is_pointwise() {
            return Gather::None;
        }
        let depth = (sizes.inputs * sizes.window()).max(1);
        let plane = sizes.output_plane().max(1);
        let most = (TILE / depth).clamp(32, 1024);
        let tiles = plane.div_ceil(most);
        let few = tiles.saturating_mul(sizes.batch).saturating_mul(sizes.groups) < 2 * threads;
        if threads > 1 && few && depth.saturating_mul(plane) <= LARGEST_WHOLE {
            return Gather::Whole;
        }
        Gather::Tiles(plane.div_ceil(tiles).next_multiple_of(16).min(plane))
    }
}

impl ConvKernel {
    fn depth(&self) -> usize {
        self.sizes.inputs * self.sizes.window()
    }

    /// The product of one tile: weights of the tile's channels times columns.
    fn product(
        &self,
        tile: &mut Tile<'_>,
        group: usize,
        weights: &[f32],
        bias: Option<&[f32]>,
        columns: Matrix<'_>,
    ) -> Result<(), OpError> {
        let depth = self.depth();
        let first = group * self.sizes.outputs + tile.row;
        if let Some(bias) = bias {
            for row in 0..tile.rows {
                let bias = bias.get(first + row).copied().unwrap_or(0.0);
                tile.row_mut(row).fill(bias);
            }
        }
        let weights = weights.get(first * depth..).unwrap_or(&[]);
        let weights = Matrix { data: weights, row_stride: depth, column_stride: 1 };
        let store = if bias.is_some() { Store::Add } else { Store::Replace };
        multiply(tile, weights, columns, depth, 1.0, store)
    }
}

impl CpuKernel for ConvKernel {
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
        let (bias, finish) = (bias.as_deref(), run.finish);
        let scratch = scratch_floats(run.scratch);
        let (plane, depth) = (sizes.output_plane(), self.depth());
        let group_input = sizes.inputs * sizes.input_plane();
        let image = |index: usize| x.get(index * group_input..(index + 1) * group_input).unwrap_or(&[]);
        let planes = sizes.batch * sizes.groups;
        let grid = |tile_columns| Grid {
            planes,
            rows: sizes.outputs,
            columns: plane,
            tile_rows: sizes.outputs.max(1),
            tile_columns,
        };
        fill_floats(output, |output| match self.gather {
            Gather::None => {
                let grid = Grid::balanced(planes, sizes.outputs, plane, sizes.flops(false));
                for_each_tile(output, 0, &grid, (&mut [], 0), finish, |tile, _| {
                    let all = Matrix { data: image(tile.plane), row_stride: plane, column_stride: 1 };
                    let columns = all.from(0, tile.column);
                    self.product(tile, tile.plane % sizes.groups, weights, bias, columns)
                })
            }
            Gather::Tiles(width) => {
                let share = depth * width;
                for_each_tile(output, 0, &grid(width), (scratch, share), finish, |tile, scratch| {
                    let (first, count) = (tile.column, tile.columns);
                    let channels = image(tile.plane).chunks_exact(sizes.input_plane().max(1));
                    let pieces = scratch.chunks_exact_mut((sizes.window() * count).max(1));
                    for (channel, piece) in channels.zip(pieces) {
                        fill_columns(sizes, channel, first, count, piece);
                    }
                    let columns = Matrix { data: scratch, row_stride: count, column_stride: 1 };
                    self.product(tile, tile.plane % sizes.groups, weights, bias, columns)
                })
            }
            Gather::Whole => {
                let scratch = scratch.get_mut(..depth * plane).unwrap_or(&mut []);
                let flops = sizes.flops(false) / planes.max(1) as u64;
                let grid = Grid::balanced(1, sizes.outputs, plane, flops);
                for (index, output) in output.chunks_exact_mut((sizes.outputs * plane).max(1)).enumerate() {
                    let channels = image(index).par_chunks_exact(sizes.input_plane().max(1));
                    let pieces = scratch.par_chunks_exact_mut((sizes.window() * plane).max(1));
                    channels.zip(pieces).for_each(|(channel, piece)| {
                        fill_columns(sizes, channel, 0, plane, piece);
                    });
                    let all = Matrix { data: &*scratch, row_stride: plane, column_stride: 1 };
                    let base = index * sizes.outputs * plane;
                    for_each_tile(output, base, &grid, (&mut [], 0), finish, |tile, _| {
                        let columns = all.from(0, tile.column);
                        self.product(tile, index % sizes.groups, weights, bias, columns)
                    })?;
                }
                Ok(())
            }
        })
    }

    fn scratch(&self) -> usize {
        let elements = match self.gather {
            Gather::None => 0,
            Gather::Tiles(width) => self.depth() * width * rayon::current_num_threads(),
            Gather::Whole => self.depth() * self.sizes.output_plane(),
        };
        elements * size_of::<f32>()
    }

    fn finishes(&self) -> bool {
        true
    }
}

/// Output positions along an axis whose window element `k` lies inside the input: from the first to before the second.
pub(super) fn inside(sizes: &Sizes, axis: usize, k: usize) -> (usize, usize) {
    let (stride, before, at) = (sizes.strides[axis], sizes.before[axis], k * sizes.dilations[axis]);
    let first = before.saturating_sub(at).div_ceil(stride);
    let end = (sizes.input[axis] + before).saturating_sub(at).div_ceil(stride);
    let end = end.min(sizes.output[axis]);
    (first.min(end), end)
}

/// Gathers what output elements `first .. first + count` read of one input channel: a row of `count` for each window
/// element, zeros where it lies outside.
fn fill_columns(sizes: &Sizes, channel: &[f32], first: usize, count: usize, piece: &mut [f32]) {
    let [_, height, width] = sizes.output;
    let [kd, kh, kw] = sizes.kernel;
    let [_, rows, columns] = sizes.input;
    let stride = sizes.strides[2];
    let mut out = piece.chunks_exact_mut(count.max(1));
    for kz in 0..kd {
        let depths = inside(sizes, 0, kz);
        for ky in 0..kh {
            let heights = inside(sizes, 1, ky);
            for kx in 0..kw {
                let (low, high) = inside(sizes, 2, kx);
                let Some(mut row) = out.next() else { return };
                let mut at = first;
                while !row.is_empty() {
                    let (z, y, x) = (at / (height * width), at / width % height, at % width);
                    let (run, rest) = row.split_at_mut((width - x).min(row.len()));
                    at += run.len();
                    row = rest;
                    let outside = !(depths.0..depths.1).contains(&z) || !(heights.0..heights.1).contains(&y);
                    let (from, to) = (low.clamp(x, x + run.len()), high.clamp(x, x + run.len()));
                    if outside || from >= to {
                        run.fill(0.0);
                        continue;
                    }
                    let iz = z * sizes.strides[0] + kz * sizes.dilations[0] - sizes.before[0];
                    let iy = y * sizes.strides[1] + ky * sizes.dilations[1] - sizes.before[1];
                    let ix = from * stride + kx * sizes.dilations[2] - sizes.before[2];
                    let source = channel.get((iz * rows + iy) * columns + ix..).unwrap_or(&[]);
                    run[..from - x].fill(0.0);
                    run[to - x..].fill(0.0);
                    let run = &mut run[from - x..to - x];
                    copy_every(run, source, stride);
                }
            }
        }
    }
}

/// Copies every `stride`-th element of `source`, as many as there are and fit.
#[inline]
pub(super) fn copy_every(target: &mut [f32], source: &[f32], stride: usize) {
    match stride {
        1 => target.iter_mut().zip(source).for_each(|(slot, &value)| *slot = value),
        2 => {
            // Whole pairs become vector shuffles; an odd element may be left.
            let (pairs, rest) = source.as_chunks::<2>();
            target.iter_mut().zip(pairs).for_each(|(slot, pair)| *slot = pair[0]);
            if let (Some(slot), [last]) = (target.get_mut(pairs.len()), rest) {
                *slot = *last;
            }
        }
        _ => target.iter_mut().zip(source.iter().step_by(stride)).for_each(|(slot, &value)| *slot = value),
    }
}
