//! Floats as bytes on the CPU, with the scale and the zero point that suit them.

#![allow(unsafe_code, reason = "calling code compiled for vector instructions that were just detected")]

use rayon::prelude::*;

use super::dynamic_quantize_linear::suited;
use crate::cpu::math::ROUND;
use crate::cpu::vector::vectorised;
use crate::error::OpError;
use crate::movement::sizes::view;
use crate::operator::{CpuKernel, CpuRun};

/// Elements that a thread takes at a time.
const PIECE: usize = 1 << 14;

/// `DynamicQuantizeLinear` with all three outputs.
pub(super) struct DynamicKernel;

vectorised! {
    fn extremes(x: &[f32]) -> (f32, f32) = extremes_of;
    fn quantize(x: &[f32], scale: f32, zero: f32, y: &mut [u8]) = quantize_all;
}

/// The least and the greatest of these numbers and 0; NaN is passed over.
#[inline(always)]
fn extremes_of<const FUSED: bool>(x: &[f32]) -> (f32, f32) {
    const LANES: usize = 32;
    let (mut least, mut greatest) = ([0f32; LANES], [0f32; LANES]);
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut meet = |chunk: &[f32]| {
        for ((least, greatest), &x) in least.iter_mut().zip(&mut greatest).zip(chunk) {
            *least = if x < *least { x } else { *least };
            *greatest = if x > *greatest { x } else { *greatest };
        }
    };
    chunks.iter().for_each(|chunk| meet(chunk));
    meet(rest);
    (least.into_iter().fold(0.0, f32::min), greatest.into_iter().fold(0.0, f32::max))
}

#[inline(always)]
fn quantize_all<const FUSED: bool>(x: &[f32], scale: f32, zero: f32, y: &mut [u8]) {
    for (y, &x) in y.iter_mut().zip(x) {
        let value = (x / scale).round_ties_even() + zero;
        // What is no number becomes 0.
        let value = if value > 0.0 { value } else { 0.0 };
        let value = if value > 255.0 { 255.0 } else { value };
        *y = (value + ROUND).to_bits() as u8;
    }
}

impl CpuKernel for DynamicKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let x = view(run.inputs, 0)?.slice::<f32>();
        let [y, scale_out, zero_out] = run.outputs else {
            return Err(OpError::Internal("another number of outputs"));
        };
        let pieces = x.par_chunks(PIECE).map(extremes);
        let (least, greatest) = pieces.reduce(|| (0.0, 0.0), |a, b| (a.0.min(b.0), a.1.max(b.1)));
        let (scale, zero) = suited(least, greatest);
        let y = y.slice::<u8>().par_chunks_mut(PIECE);
        y.zip(x.par_chunks(PIECE)).for_each(|(y, x)| quantize(x, scale, zero, y));
        scale_out.slice::<f32>().fill(scale);
        zero_out.slice::<u8>().fill(zero as u8);
        Ok(())
    }
}
