//! Transposed convolutions of floats on the CPU: a product gives what each input element adds to each element of its
//! window, which is then summed into the output.

use super::window::Sizes;
use crate::cpu::gemm::{Matrix, multiply_into};
use crate::cpu::tiles::{Grid, for_each_tile};
use crate::cpu::{fill_floats, floats, is_float, scratch_floats, widened};
use crate::error::OpError;
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::Problem;

/// A transposed convolution.
pub(super) struct TransposeKernel {
    sizes: Sizes,
    /// The weights, when constant and not f32.
    weights: Option<Vec<f32>>,
    /// Output channels computed from one product.
    channels: usize,
}

impl TransposeKernel {
    /// The kernel for a problem; `None` when it is not over floats of 16 or 32 bits, or one channel needs too much
    /// scratch memory.
    pub fn prepare(problem: &Problem<'_>, sizes: Sizes) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        const GOOD: usize = 256 << 10;
        const MOST: usize = 64 << 20;
        let (Some(weights), Some(output)) = (problem.input(1), problem.outputs.first()) else {
            return Ok(None);
        };
        let mut operands = problem.inputs.iter().flatten();
        if !is_float(output.dtype) || operands.any(|operand| operand.dtype != output.dtype) {
            return Ok(None);
        }
        let Some(one) = sizes.window().checked_mul(sizes.input_plane()).filter(|&one| one <= MOST) else {
            return Ok(None);
        };
        let all = sizes.batch.saturating_mul(sizes.groups).saturating_mul(sizes.outputs);
        let shared = all.div_ceil(4 * rayon::current_num_threads());
        let channels = (GOOD / one.max(1)).min(shared).clamp(1, sizes.outputs.max(1));
        Ok(Some(Box::new(TransposeKernel { sizes, weights: widened(weights)?, channels })))
    }

    fn share(&self) -> usize {
        self.channels * self.sizes.window() * self.sizes.input_plane()
    }

    /// Adds one channel's products, a row of input elements for each window element, to its output elements.
    fn scatter(&self, products: &[f32], output: &mut [f32]) {
        let sizes = &self.sizes;
        let [kd, kh, kw] = sizes.kernel;
        let [depth, height, width] = sizes.input;
        // Where window element k of input position i goes along an axis.
        let target = |axis: usize, i: usize, k: usize| {
            let at = i * sizes.strides[axis] + k * sizes.dilations[axis];
            at.checked_sub(sizes.before[axis]).filter(|&at| at < sizes.output[axis])
        };
        for (k, plane) in products.chunks_exact((depth * height * width).max(1)).enumerate() {
            let (kz, ky, kx) = (k / (kh * kw) % kd, k / kw % kh, k % kw);
            let stride = sizes.strides[2];
            let shift = kx * sizes.dilations[2];
            let first = sizes.before[2].saturating_sub(shift).div_ceil(stride);
            let reach = (sizes.output[2] + sizes.before[2]).saturating_sub(shift);
            let end = reach.div_ceil(stride).min(width);
            if first >= end {
                continue;
            }
            let x = first * stride + shift - sizes.before[2];
            for (at, row) in plane.chunks_exact(width.max(1)).enumerate() {
                let (iz, iy) = (at / height, at % height);
                let (Some(z), Some(y)) = (target(0, iz, kz), target(1, iy, ky)) else { continue };
                let start = (z * sizes.output[1] + y) * sizes.output[2] + x;
                let line = output.get_mut(start..).unwrap_or(&mut []);
                if stride == 1 {
                    line.iter_mut().zip(&row[first..end]).for_each(|(sum, &value)| *sum += value);
                } else {
                    let slots = line.iter_mut().step_by(stride);
                    slots.zip(&row[first..end]).for_each(|(sum, &value)| *sum += value);
                }
            }
        }
    }
}

impl CpuKernel for TransposeKernel {
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
        let (plane, window) = (sizes.input_plane(), sizes.window());
        let grid = Grid {
            planes: sizes.batch * sizes.groups,
            rows: sizes.outputs,
            columns: sizes.output_plane(),
            tile_rows: self.channels,
            tile_columns: sizes.output_plane().max(1),
        };
        let scratch = (scratch_floats(run.scratch), self.share());
        fill_floats(output, |output| {
            for_each_tile(output, 0, &grid, scratch, run.finish, |tile, scratch| {
                let group = tile.plane % sizes.groups;
                let first = group * sizes.inputs * sizes.outputs + tile.row;
                let a = Matrix {
                    data: weights.get(first * window..).unwrap_or(&[]),
                    row_stride: 1,
                    column_stride: sizes.outputs * window,
                };
                let b = Matrix {
                    data: x.get(tile.plane * sizes.inputs * plane..).unwrap_or(&[]),
                    row_stride: plane,
                    column_stride: 1,
                };
                multiply_into(scratch, tile.rows * window, plane, sizes.inputs, a, b)?;
                for row in 0..tile.rows {
                    let channel = group * sizes.outputs + tile.row + row;
                    let bias = bias.as_ref().and_then(|bias| bias.get(channel).copied()).unwrap_or(0.0);
                    let line = tile.row_mut(row);
                    line.fill(bias);
                    let size = window * plane;
                    self.scatter(&scratch[row * size..(row + 1) * size], line);
                }
                Ok(())
            })
        })
    }

    fn scratch(&self) -> usize {
        self.share() * rayon::current_num_threads() * size_of::<f32>()
    }

    fn finishes(&self) -> bool {
        true
    }
}
