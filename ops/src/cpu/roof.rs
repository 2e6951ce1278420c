//! What the CPU can reach: the work that its measurement runs.

use rayon::prelude::*;

/// Independent chains of one call, enough to keep every pipeline full.
const CHAINS: usize = 12;
const LANES: usize = 16;

/// Multiply-adds of one call of [`multiply_add`] for each round.
pub const MULTIPLY_ADDS: u64 = (CHAINS * LANES) as u64;

/// Chains of multiply-adds on the calling thread, with the widest instructions there are. The sum keeps a compiler from
/// leaving them out.
pub fn multiply_add(rounds: usize, factor: f32, summand: f32) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has the instructions.
        #[allow(unsafe_code, reason = "SIMD kernels are chosen at run time")]
        return unsafe { wide(rounds, factor, summand) };
    } else if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the CPU has the instructions.
        #[allow(unsafe_code, reason = "SIMD kernels are chosen at run time")]
        return unsafe { medium(rounds, factor, summand) };
    }
    // Without the instruction a fused multiply-add is a slow function on x86.
    chains::<{ cfg!(not(target_arch = "x86_64")) }, { LANES / 4 }>(rounds, factor, summand)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn wide(rounds: usize, factor: f32, summand: f32) -> f32 {
    chains::<true, LANES>(rounds, factor, summand)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn medium(rounds: usize, factor: f32, summand: f32) -> f32 {
    chains::<true, { LANES / 2 }>(rounds, factor, summand)
}

/// The chains in vectors of `N`: as many calls of the inner loop as make up [`MULTIPLY_ADDS`].
#[inline(always)]
fn chains<const FUSED: bool, const N: usize>(rounds: usize, factor: f32, summand: f32) -> f32 {
    let mut sums = [[1.0f32; N]; CHAINS];
    for _ in 0..rounds * (LANES / N) {
        for sum in &mut sums {
            for x in sum.iter_mut() {
                *x = if FUSED { x.mul_add(factor, summand) } else { *x * factor + summand };
            }
        }
    }
    sums.iter().flatten().sum()
}

/// Copies on all threads of the pool that calls it.
pub fn copy(from: &[u8], to: &mut [u8]) {
    const PIECE: usize = 1 << 18;
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done() {
        // Every chain goes towards the fixed point 4; how many there are differs with the width of vectors.
        let sum = multiply_add(200, 0.5, 2.0);
        let lanes = sum / 4.0 / CHAINS as f32;
        assert!([4.0, 8.0, 16.0].contains(&lanes), "{sum}");
        let (from, mut to) = (vec![7u8; 1 << 20 | 3], vec![0u8; 1 << 20 | 3]);
        copy(&from, &mut to);
        assert_eq!(from, to);
    }
}
