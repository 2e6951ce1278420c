//! Products with matrices of packed codes on the CPU. Few rows: each column's codes are read once and multiplied as they
//! are, block by block, which moves no more memory than the codes. Many rows: a few columns at a time are unpacked.

#![allow(unsafe_code, reason = "calling code compiled for vector instructions that were just detected")]

use super::matmul_nbits::MatMulNBits;
use crate::cpu::dots::dots;
use crate::cpu::micro::Rows;
use crate::cpu::tiles::{Grid, for_each_tile};
use crate::cpu::vector::vectorised;
use crate::cpu::{fill_floats, floats, is_float, scratch_floats};
use crate::error::OpError;
use crate::ir::numbers;
use crate::ir::tensor::Tensor;
use crate::movement::sizes::view;
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::Problem;

/// Rows up to which columns are not unpacked.
const FEW: usize = 4;

/// Columns that are unpacked together: few enough for the first cache.
const COLUMNS: usize = 4;

/// A product with packed codes.
pub(super) struct CodesKernel {
    op: MatMulNBits,
    rows: usize,
    scales: Vec<f32>,
    /// What each block adds for each unit of its share of `a`: minus zero point times scale.
    shifts: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl CodesKernel {
    /// The kernel for a problem; `None` where scales, zero points or bias are not constant, and for 2 bits.
    pub fn prepare(op: MatMulNBits, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let constant = |index: usize| problem.input(index).map(|input| input.value);
        let (Some(a), Some(Some(scales)), false) = (problem.input(0), constant(2), op.bits == 2) else {
            return Ok(None);
        };
        if !is_float(a.dtype)
            || op.depth == 0
            || matches!(constant(3), Some(None))
            || matches!(constant(5), Some(None))
        {
            return Ok(None);
        }
        let floats = |tensor: &Tensor| -> Result<Vec<f32>, OpError> {
            Ok(numbers::floats(&tensor.view())?.into_iter().map(|x| x as f32).collect())
        };
        let scales = floats(scales)?;
        let zero_points = op.zero_points(constant(3).flatten().map(Tensor::view))?;
        let bias = constant(5).flatten().map(floats).transpose()?;
        if scales.len() != zero_points.len() || bias.as_ref().is_some_and(|bias| bias.len() != op.columns) {
            return Ok(None);
        }
        let shifts = scales.iter().zip(&zero_points).map(|(scale, zero)| -zero as f32 * scale).collect();
        let rows = a.len() / op.depth;
        Ok(Some(Box::new(CodesKernel { op, rows, scales, shifts, bias })))
    }

    /// Elements of a row of `a` as the kernels read it: whole blocks, for 4 bits even elements of each 16 before odd ones.
    fn stride(&self) -> usize {
        self.op.blocks() * self.op.block
    }

    /// Bytes of a column of codes.
    fn column(&self) -> usize {
        self.stride() * self.op.bits / 8
    }

    /// Sets a row of `a` up, and the sums of its blocks behind it.
    fn arrange(&self, a: &[f32], row: &mut [f32]) {
        let (row, sums) = row.split_at_mut(self.stride());
        row.fill(0.0);
        if self.op.bits == 4 {
            for (from, to) in a.chunks(16).zip(row.chunks_exact_mut(16)) {
                for (index, &x) in from.iter().enumerate() {
                    to[index / 2 + index % 2 * 8] = x;
                }
            }
        } else {
            row[..a.len()].copy_from_slice(a);
        }
        for (sum, block) in sums.iter_mut().zip(row.chunks_exact(self.op.block)) {
            *sum = block.iter().sum();
        }
    }

    /// The product of an arranged row and a column.
    fn dot(&self, row: &[f32], codes: &[u8], column: usize) -> f32 {
        let blocks = self.op.blocks();
        let (row, sums) = row.split_at(self.stride());
        let scales = &self.scales[column * blocks..(column + 1) * blocks];
        let shifts = &self.shifts[column * blocks..(column + 1) * blocks];
        let product = match self.op.bits {
            4 => dot4(row, codes, scales, self.op.block),
            _ => dot8(row, codes, scales, self.op.block),
        };
        product + sums.iter().zip(shifts).map(|(sum, shift)| sum * shift).sum::<f32>()
    }

    /// Unpacks a column, its elements in the order of an arranged row's.
    fn unpack(&self, codes: &[u8], column: usize, out: &mut [f32]) {
        let blocks = self.op.blocks();
        let scales = &self.scales[column * blocks..(column + 1) * blocks];
        let shifts = &self.shifts[column * blocks..(column + 1) * blocks];
        let codes = &codes[column * self.column()..(column + 1) * self.column()];
        let (block, bits) = (self.op.block, self.op.bits);
        let parts = out.chunks_exact_mut(block).zip(codes.chunks_exact(block * bits / 8));
        for ((out, codes), (&scale, &shift)) in parts.zip(scales.iter().zip(shifts)) {
            match bits {
                4 => unpack4(codes, scale, shift, out),
                _ => unpack8(codes, scale, shift, out),
            }
        }
    }
}

vectorised! {
    fn dot4(row: &[f32], codes: &[u8], scales: &[f32], block: usize) -> f32 = dot4_body;
    fn dot8(row: &[f32], codes: &[u8], scales: &[f32], block: usize) -> f32 = dot8_body;
    fn unpack4(codes: &[u8], scale: f32, shift: f32, out: &mut [f32]) = unpack4_body;
    fn unpack8(codes: &[u8], scale: f32, shift: f32, out: &mut [f32]) = unpack8_body;
}

#[inline(always)]
fn unpack4_body<const FUSED: bool>(codes: &[u8], scale: f32, shift: f32, out: &mut [f32]) {
    for (out, codes) in out.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<8>().0) {
        for i in 0..8 {
            let code = i32::from(codes[i]);
            out[i] = add::<FUSED>(shift, (code & 15) as f32, scale);
            out[8 + i] = add::<FUSED>(shift, (code >> 4) as f32, scale);
        }
    }
}

#[inline(always)]
fn unpack8_body<const FUSED: bool>(codes: &[u8], scale: f32, shift: f32, out: &mut [f32]) {
    for (out, &code) in out.iter_mut().zip(codes) {
        *out = add::<FUSED>(shift, i32::from(code) as f32, scale);
    }
}

#[inline(always)]
fn add<const FUSED: bool>(total: f32, a: f32, b: f32) -> f32 {
    if FUSED { a.mul_add(b, total) } else { total + a * b }
}

/// Codes of 4 bits: the low halves of eight bytes belong to eight elements, the high halves to the next eight.
#[inline(always)]
fn dot4_body<const FUSED: bool>(row: &[f32], codes: &[u8], scales: &[f32], block: usize) -> f32 {
    let mut totals = [0.0; 8];
    let blocks = row.chunks_exact(block).zip(codes.chunks_exact(block / 2));
    for ((row, codes), &scale) in blocks.zip(scales) {
        let (mut low, mut high) = ([0.0; 8], [0.0; 8]);
        for (a, bytes) in row.as_chunks::<16>().0.iter().zip(codes.as_chunks::<8>().0) {
            for i in 0..8 {
                let code = i32::from(bytes[i]);
                low[i] = add::<FUSED>(low[i], a[i], (code & 15) as f32);
                high[i] = add::<FUSED>(high[i], a[8 + i], (code >> 4) as f32);
            }
        }
        for i in 0..8 {
            totals[i] = add::<FUSED>(totals[i], low[i] + high[i], scale);
        }
    }
    totals.iter().sum()
}

#[inline(always)]
fn dot8_body<const FUSED: bool>(row: &[f32], codes: &[u8], scales: &[f32], block: usize) -> f32 {
    let mut totals = [0.0; 8];
    let blocks = row.chunks_exact(block).zip(codes.chunks_exact(block));
    for ((row, codes), &scale) in blocks.zip(scales) {
        let mut sums = [[0.0; 8]; 2];
        for (a, bytes) in row.as_chunks::<16>().0.iter().zip(codes.as_chunks::<16>().0) {
            for (half, sums) in sums.iter_mut().enumerate() {
                for i in 0..8 {
                    sums[i] = add::<FUSED>(sums[i], a[half * 8 + i], i32::from(bytes[half * 8 + i]) as f32);
                }
            }
        }
        for i in 0..8 {
            totals[i] = add::<FUSED>(totals[i], sums[0][i] + sums[1][i], scale);
        }
    }
    totals.iter().sum()
}

impl CpuKernel for CodesKernel {
    fn reads_elements(&self, index: usize) -> bool {
        index == 0
    }

    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (a, codes) = (floats(&view(run.inputs, 0)?)?, view(run.inputs, 1)?.bytes);
        let output = run.outputs.first_mut().ok_or(OpError::Internal("a missing output"))?;
        let (depth, columns) = (self.op.depth, self.op.columns);
        if codes.len() != columns * self.column() || a.len() != self.rows * depth {
            return Err(OpError::Internal("packed codes of another size"));
        }
        let bias =
            |column: usize| self.bias.as_ref().and_then(|bias| bias.get(column)).copied().unwrap_or(0.0);
        let (rows, stride, each) = (self.rows, self.stride(), self.stride() + self.op.blocks());
        let (arranged, scratch) = scratch_floats(run.scratch)
            .split_at_mut_checked(rows * each)
            .ok_or(OpError::Internal("too little scratch memory"))?;
        for (row, a) in arranged.chunks_exact_mut(each).zip(a.chunks_exact(depth)) {
            self.arrange(a, row);
        }
        let arranged = &*arranged;
        let work = 2 * (rows * columns) as u64 * depth as u64;
        let tiles = Grid::balanced(1, rows, columns, 4 * work);
        // Codes are read once.
        let grid = Grid { tile_rows: rows.max(1), ..tiles };
        let share = if rows <= FEW { 0 } else { COLUMNS * stride };
        fill_floats(output, |output| {
            for_each_tile(output, 0, &grid, (scratch, share), run.finish, |tile, scratch| {
                if rows <= FEW {
                    for j in 0..tile.columns {
                        let column = tile.column + j;
                        let codes = &codes[column * self.column()..(column + 1) * self.column()];
                        for (row, a) in arranged.chunks_exact(each).enumerate() {
                            if let Some(slot) = tile.row_mut(row).get_mut(j) {
                                *slot = self.dot(a, codes, column) + bias(column);
                            }
                        }
                    }
                    return Ok(());
                }
                let left = (Rows { data: arranged, stride: each }, rows);
                for first in (0..tile.columns).step_by(COLUMNS) {
                    let (begin, count) = (tile.column + first, COLUMNS.min(tile.columns - first));
                    for (j, out) in scratch.chunks_exact_mut(stride).take(count).enumerate() {
                        self.unpack(codes, begin + j, out);
                    }
                    let right = (Rows { data: scratch, stride }, count);
                    let done = dots(left, right, stride, |row, j, sum| {
                        if let Some(slot) = tile.row_mut(row).get_mut(first + j) {
                            *slot = sum + bias(begin + j);
                        }
                    });
                    done.then_some(()).ok_or(OpError::Internal("a row smaller than the product reads"))?;
                }
                Ok(())
            })
        })
    }

    fn scratch(&self) -> usize {
        let arranged = self.rows * (self.stride() + self.op.blocks());
        let unpacked =
            if self.rows <= FEW { 0 } else { COLUMNS * self.stride() * rayon::current_num_threads() };
        (arranged + unpacked) * size_of::<f32>()
    }

    fn finishes(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::check::{agrees, random};

    #[test]
    fn codes_agree_with_the_reference() {
        for (bits, block) in [(4, 16), (4, 32), (4, 128), (8, 16), (8, 64)] {
            for (rows, depth, columns) in [(1usize, 40usize, 3usize), (3, 128, 70), (7, 100, 65), (17, 16, 1)]
            {
                let op = MatMulNBits { depth, columns, bits, block };
                let blocks = depth.div_ceil(block);
                let codes: Vec<u8> =
                    (0..columns * blocks * block * bits / 8).map(|i| (i * 37 % 251) as u8).collect();
                let codes = Tensor::from_slice(&[columns, blocks, block * bits / 8], &codes).unwrap();
                let scales = random(&[columns * blocks], 5);
                let zeros: Vec<u8> =
                    (0..columns * (blocks * bits).div_ceil(8)).map(|i| (i * 91 % 256) as u8).collect();
                let zeros = Tensor::from_slice(&[zeros.len()], &zeros).unwrap();
                let bias = random(&[columns], 6);
                let a = random(&[rows, depth], 7);
                let all = [Some(a), Some(codes), Some(scales), Some(zeros), None, Some(bias)];
                // Sums of terms of up to 255 that cancel.
                agrees(&op, &all, &[1, 2, 3, 5], if bits == 8 { 2e-2 } else { 1e-3 });
                agrees(&op, &all[..3], &[1, 2], if bits == 8 { 2e-2 } else { 1e-3 });
            }
        }
    }
}
