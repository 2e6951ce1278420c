//! Products with matrices of packed codes on the CPU. Few rows: each column's codes are read once and multiplied as they
//! are, block by block, which moves no more memory than the codes. Many rows: columns are unpacked tile by tile.

#![allow(unsafe_code, reason = "calling code compiled for vector instructions that were just detected")]

use super::matmul_nbits::MatMulNBits;
use crate::cpu::gemm::{Matrix, Store, multiply};
use crate::cpu::tiles::{Grid, for_each_tile};
use crate::cpu::{fill_floats, floats, is_float, scratch_floats};
use crate::error::OpError;
use crate::ir::numbers;
use crate::ir::tensor::Tensor;
use crate::movement::sizes::view;
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::Problem;

/// Rows up to which columns are not unpacked.
const FEW: usize = 4;

/// Columns that are unpacked together.
const COLUMNS: usize = 64;

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

    /// Unpacks columns from `first` on: element `k` of column `j` at `k * count + j`.
    fn unpack(&self, codes: &[u8], first: usize, count: usize, out: &mut [f32]) {
        let (blocks, per_byte) = (self.op.blocks(), 8 / self.op.bits);
        for j in 0..count {
            let column = codes.get((first + j) * self.column()..).unwrap_or(&[]);
            for block in 0..blocks {
                let at = (first + j) * blocks + block;
                let (scale, shift) = (self.scales[at], self.shifts[at]);
                let start = block * self.op.block;
                let end = (start + self.op.block).min(self.op.depth);
                for (k, slot) in (start..end).zip(out[start * count + j..].iter_mut().step_by(count)) {
                    let byte = column.get(k / per_byte).copied().unwrap_or(0);
                    let code = if per_byte == 1 { byte } else { byte >> (k % 2 * 4) & 15 };
                    *slot = f32::from(code) * scale + shift;
                }
            }
        }
    }
}

/// Defines a dot product twice: for every processor of the target, and for AVX2 with fused multiply-add.
macro_rules! vectorised {
    ($name:ident = $body:ident) => {
        fn $name(row: &[f32], codes: &[u8], scales: &[f32], block: usize) -> f32 {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide(row: &[f32], codes: &[u8], scales: &[f32], block: usize) -> f32 {
                    $body::<true>(row, codes, scales, block)
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the processor has the instructions that `wide` is compiled to.
                    return unsafe { wide(row, codes, scales, block) };
                }
            }
            $body::<{ cfg!(target_arch = "aarch64") }>(row, codes, scales, block)
        }
    };
}

vectorised!(dot4 = dot4_body);
vectorised!(dot8 = dot8_body);

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
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (a, codes) = (floats(&view(run.inputs, 0)?)?, view(run.inputs, 1)?.bytes);
        let output = run.outputs.first_mut().ok_or(OpError::Internal("a missing output"))?;
        let (depth, columns) = (self.op.depth, self.op.columns);
        if codes.len() != columns * self.column() || a.len() != self.rows * depth {
            return Err(OpError::Internal("packed codes of another size"));
        }
        let scratch = scratch_floats(run.scratch);
        let bias =
            |column: usize| self.bias.as_ref().and_then(|bias| bias.get(column)).copied().unwrap_or(0.0);
        let finish = run.finish;
        let rows = self.rows;
        if rows <= FEW {
            let each = self.stride() + self.op.blocks();
            let scratch =
                scratch.get_mut(..rows * each).ok_or(OpError::Internal("too little scratch memory"))?;
            for (row, a) in scratch.chunks_exact_mut(each).zip(a.chunks_exact(depth)) {
                self.arrange(a, row);
            }
            let arranged = &*scratch;
            let work = 2 * (rows * columns) as u64 * depth as u64;
            let tiles = Grid::balanced(1, rows, columns, 4 * work);
            let grid = Grid { tile_rows: rows.max(1), ..tiles };
            return fill_floats(output, |output| {
                for_each_tile(output, 0, &grid, (&mut [], 0), finish, |tile, _| {
                    for j in 0..tile.columns {
                        let column = tile.column + j;
                        let codes = &codes[column * self.column()..(column + 1) * self.column()];
                        for (row, a) in arranged.chunks_exact(each).enumerate() {
                            if let Some(slot) = tile.row_mut(row).get_mut(j) {
                                *slot = self.dot(a, codes, column) + bias(column);
                            }
                        }
                    }
                    Ok(())
                })
            });
        }
        let grid = Grid { planes: 1, rows, columns, tile_rows: rows, tile_columns: COLUMNS };
        fill_floats(output, |output| {
            for_each_tile(output, 0, &grid, (scratch, depth * COLUMNS), finish, |tile, scratch| {
                self.unpack(codes, tile.column, tile.columns, scratch);
                let mut store = Store::Replace;
                if self.bias.is_some() {
                    store = Store::Add;
                    let first = tile.column;
                    for row in 0..tile.rows {
                        let slots = tile.row_mut(row).iter_mut().enumerate();
                        slots.for_each(|(j, slot)| *slot = bias(first + j));
                    }
                }
                let a = Matrix { data: &a, row_stride: depth, column_stride: 1 }.from(tile.row, 0);
                let b = Matrix { data: scratch, row_stride: tile.columns, column_stride: 1 };
                multiply(tile, a, b, depth, 1.0, store)
            })
        })
    }

    fn scratch(&self) -> usize {
        let elements = match self.rows {
            rows if rows <= FEW => rows * (self.stride() + self.op.blocks()),
            _ => self.op.depth * COLUMNS * rayon::current_num_threads(),
        };
        elements * size_of::<f32>()
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
