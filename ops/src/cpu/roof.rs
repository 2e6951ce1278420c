//! What the CPU can reach: the work that its measurement runs.

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::vector::{Avx2, Isa};
use super::vector::{LANES as VECTOR, Plain, Vector};

/// Independent chains of one call, enough to keep every pipeline full.
const CHAINS: usize = 12;
const LANES: usize = 16;

/// Multiply-adds of one call of [`multiply_add`] for each round.
pub const MULTIPLY_ADDS: u64 = (CHAINS * LANES) as u64;

/// Chains of multiply-adds on the calling thread, with the widest instructions there are. The sum keeps a compiler from
/// leaving them out.
#[allow(unsafe_code, reason = "code for instructions that were just detected")]
pub fn multiply_add(rounds: usize, factor: f32, summand: f32) -> f32 {
    // SAFETY: the processor has the instructions.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f") {
            return wide(rounds, factor, summand);
        } else if Isa::detect() == Isa::Avx2 {
            return medium(rounds, factor, summand);
        }
        chains::<Plain>(rounds, factor, summand)
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code, reason = "as for `multiply_add`")]
fn wide(rounds: usize, factor: f32, summand: f32) -> f32 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let (factor, summand) = (_mm512_set1_ps(factor), _mm512_set1_ps(summand));
    let mut sums = [_mm512_set1_ps(1.0); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, summand);
        }
    }
    let mut all = 0.0;
    for sum in sums {
        all += _mm512_reduce_add_ps(sum);
    }
    all
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[allow(unsafe_code, reason = "as for `multiply_add`")]
fn medium(rounds: usize, factor: f32, summand: f32) -> f32 {
    // SAFETY: these are the instructions.
    unsafe { chains::<Avx2>(rounds, factor, summand) }
}

/// The chains in narrower vectors: as many calls of the inner loop as make up [`MULTIPLY_ADDS`].
///
/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
#[allow(unsafe_code, reason = "as for `multiply_add`")]
unsafe fn chains<V: Vector>(rounds: usize, factor: f32, summand: f32) -> f32 {
    let mut out = [[0.0; VECTOR]; CHAINS];
    // SAFETY: the caller's promise; each row of `out` holds a vector.
    unsafe {
        let (factor, summand) = (V::splat(factor), V::splat(summand));
        let mut sums = [V::splat(1.0); CHAINS];
        for _ in 0..rounds * (LANES / VECTOR) {
            for sum in &mut sums {
                *sum = sum.fma(factor, summand);
            }
        }
        for (sum, out) in sums.into_iter().zip(&mut out) {
            sum.store(out.as_mut_ptr());
        }
    }
    out.iter().flatten().sum()
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
        assert!([8.0, 16.0].contains(&lanes), "{sum}");
        let (from, mut to) = (vec![7u8; 1 << 20 | 3], vec![0u8; 1 << 20 | 3]);
        copy(&from, &mut to);
        assert_eq!(from, to);
    }
}
