//! Weights rounded one after the other, those that follow making up for the error of those before, as far as the inputs
//! that they meet allow: GPTQ (<https://arxiv.org/abs/2210.17323>).

#![allow(
    clippy::indexing_slicing,
    reason = "rows and columns below K of matrices that are made here with K times K elements"
)]

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::rounding::{Group, group};

/// What is added to each input's own moment, as a part of their mean: inputs that always go together leave no matrix to
/// invert, and few samples say little about the rest.
const DAMPING: f64 = 0.01;

/// The second moments of the inputs of products, by the names of these inputs.
pub type AllMoments = HashMap<Arc<str>, Moments>;

/// Second moments of an input of products: Σ xᵀ x over its rows x of K elements.
#[derive(Debug, Clone)]
pub struct Moments {
    k: usize,
    /// K rows of K, of which what is at or right of the diagonal counts.
    sums: Vec<f32>,
}

impl Moments {
    /// Bytes of memory that those of rows of `k` elements take; `None` beyond the address space.
    pub fn bytes(k: usize) -> Option<usize> {
        k.checked_mul(k)?.checked_mul(size_of::<f32>())
    }

    /// None so far. `None` when there is no room.
    pub fn new(k: usize) -> Option<Moments> {
        let len = Moments::bytes(k)? / size_of::<f32>();
        let mut sums = Vec::new();
        sums.try_reserve_exact(len).ok()?;
        sums.resize(len, 0.0);
        Some(Moments { k, sums })
    }

    /// K.
    pub fn depth(&self) -> usize {
        self.k
    }

    /// Adds rows of K elements. Rows with elements that are not finite say nothing.
    pub fn add(&mut self, x: &[f32]) {
        let rows = x.chunks_exact(self.k.max(1)).filter(|row| row.iter().all(|x| x.is_finite()));
        let rows: Vec<&[f32]> = rows.collect();
        self.sums.par_chunks_exact_mut(self.k.max(1)).enumerate().for_each(|(i, sums)| {
            for row in &rows {
                let own = row[i];
                sums[i..].iter_mut().zip(&row[i..]).for_each(|(sum, x)| *sum += own * x);
            }
        });
    }
}

/// What the error of a weight means for those that follow.
pub(super) struct Compensation {
    k: usize,
    /// The upper triangle U with H⁻¹ = Uᵀ U, where H are the moments, damped; K rows of K.
    factors: Vec<f32>,
}

impl Compensation {
    /// `None` where the moments say nothing: there were no inputs, or all were 0.
    pub fn new(moments: &Moments) -> Option<Compensation> {
        let k = moments.k;
        let at = |i: usize, j: usize| f64::from(moments.sums[i.min(j) * k + i.max(j)]);
        let mean = (0..k).map(|i| at(i, i)).sum::<f64>() / k.max(1) as f64;
        if !(mean > 0.0 && mean.is_finite()) {
            return None;
        }
        // With the order of rows and columns turned round, H = Rᵀ R, R an upper triangle. Its inverse turned round again
        // and transposed is U.
        let mut upper = vec![0.0f64; k * k];
        for (i, row) in upper.chunks_exact_mut(k).enumerate() {
            row[i..].iter_mut().zip(i..).for_each(|(slot, j)| *slot = at(k - 1 - i, k - 1 - j));
            row[i] += DAMPING * mean;
        }
        factorize(&mut upper, k)?;
        invert(&mut upper, k);
        let mut factors = vec![0.0f32; k * k];
        for (i, row) in factors.chunks_exact_mut(k).enumerate() {
            row[i..].iter_mut().zip(i..).for_each(|(u, j)| *u = upper[(k - 1 - j) * k + k - 1 - i] as f32);
        }
        Some(Compensation { k, factors })
    }

    /// What of the error of weight `i` is taken from each weight from there on.
    fn shares(&self, i: usize) -> &[f32] {
        self.factors.get(i * self.k + i..(i + 1) * self.k).unwrap_or(&[])
    }
}

/// The upper triangle R with A = Rᵀ R in place of A's. `None` when A is not positive definite.
fn factorize(a: &mut [f64], k: usize) -> Option<()> {
    for j in 0..k {
        let (above, below) = a.split_at_mut((j + 1) * k);
        let row = &mut above[j * k..];
        let pivot = row[j];
        if !(pivot > 0.0 && pivot.is_finite()) {
            return None;
        }
        row[j..].iter_mut().for_each(|x| *x /= pivot.sqrt());
        let row = &*row;
        below.par_chunks_exact_mut(k).enumerate().with_min_len(32).for_each(|(index, target)| {
            let i = j + 1 + index;
            target[i..].iter_mut().zip(&row[i..]).for_each(|(x, r)| *x -= row[i] * r);
        });
    }
    Some(())
}

/// The inverse of an upper triangle in its place.
fn invert(r: &mut [f64], k: usize) {
    for i in (0..k).rev() {
        let (above, below) = r.split_at_mut((i + 1) * k);
        let row = &mut above[i * k..];
        let own = row[i].recip();
        let factors = row[i + 1..].to_vec();
        row[i + 1..].fill(0.0);
        for ((j, factor), inverse) in (i + 1..).zip(factors).zip(below.chunks_exact(k)) {
            row[j..].iter_mut().zip(&inverse[j..]).for_each(|(x, y)| *x -= factor * own * y);
        }
        row[i] = own;
    }
}

/// The codes of a column of weights in groups of `block`, and the groups: each weight to the nearest code or, with a
/// compensation, after it has made up for the errors before.
pub(super) fn rounded(
    column: &[f32],
    block: usize,
    (bits, symmetric): (u32, bool),
    compensation: Option<&Compensation>,
) -> (Vec<Group>, Vec<u8>) {
    let (mut groups, mut codes) = (Vec::new(), Vec::with_capacity(column.len()));
    let mut weights = column.to_vec();
    for start in (0..weights.len()).step_by(block) {
        let end = (start + block).min(weights.len());
        let group = group(weights[start..end].iter().copied(), bits, symmetric);
        for i in start..end {
            let code = group.code(weights[i], bits);
            codes.push(code);
            let shares = compensation.map_or(&[][..], |all| all.shares(i));
            if let Some((own, rest)) = shares.split_first() {
                let error = (weights[i] - group.value(code)) / own;
                weights[i + 1..].iter_mut().zip(rest).for_each(|(weight, share)| *weight -= error * share);
            }
        }
        groups.push(group);
    }
    (groups, codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose elements go together: a few causes, and some noise.
    fn inputs(rows: usize, k: usize, seed: usize) -> Vec<f32> {
        let noise = |i: usize| {
            let mixed = (i + 1).wrapping_mul(2_654_435_761) ^ (i >> 3).wrapping_mul(40_503);
            (mixed >> 7 & 0xFFFF) as f32 / 32_768.0 - 1.0
        };
        let cause = |row: usize, c: usize| noise(1_000_003 * seed + 31 * row + c);
        let row = |row: usize| {
            (0..k).map(move |i| {
                let all = (0..4).map(|c| cause(row, c) * noise(77 * i + c)).sum::<f32>();
                all + 0.1 * noise(seed + 7 * row * k + i)
            })
        };
        (0..rows).flat_map(row).collect()
    }

    #[test]
    fn the_factors_are_those_of_the_inverse() {
        let k = 5;
        let mut moments = Moments::new(k).unwrap();
        moments.add(&inputs(40, k, 1));
        moments.add(&[f32::NAN; 5]);
        let found = Compensation::new(&moments).unwrap();
        let at = |i: usize, j: usize| f64::from(moments.sums[i.min(j) * k + i.max(j)]);
        let damping = DAMPING * (0..k).map(|i| at(i, i)).sum::<f64>() / k as f64;
        let u = |i: usize, j: usize| f64::from(found.factors[i * k + j]);
        for (i, j) in (0..k).flat_map(|i| (0..k).map(move |j| (i, j))) {
            // (Uᵀ U) H = 1
            let inverse = |a: usize, b: usize| (0..k).map(|m| u(m, a) * u(m, b)).sum::<f64>();
            let h = |a: usize, b: usize| at(a, b) + if a == b { damping } else { 0.0 };
            let one: f64 = (0..k).map(|m| inverse(i, m) * h(m, j)).sum();
            let exact = if i == j { 1.0 } else { 0.0 };
            assert!((one - exact).abs() < 1e-3, "{i} {j}: {one}");
            assert!(i <= j || u(i, j) == 0.0);
        }
        assert!(Compensation::new(&Moments::new(3).unwrap()).is_none(), "no inputs");
    }

    #[test]
    fn products_with_inputs_that_go_together_lose_less() {
        let (k, block) = (64, 16);
        let mut moments = Moments::new(k).unwrap();
        moments.add(&inputs(256, k, 1));
        let compensation = Compensation::new(&moments).unwrap();
        // Of other rows than those that were measured.
        let fresh = inputs(100, k, 2);
        for (bits, symmetric) in [(4, true), (4, false), (8, true)] {
            let mut loss = [0.0f64; 2];
            for n in 0..8 {
                let column: Vec<f32> = inputs(1, k, 100 + n);
                for (loss, compensation) in loss.iter_mut().zip([None, Some(&compensation)]) {
                    let (groups, codes) = rounded(&column, block, (bits, symmetric), compensation);
                    assert_eq!((groups.len(), codes.len()), (4, k));
                    let value = |i: usize| groups[i / block].value(codes[i]);
                    for row in fresh.chunks_exact(k) {
                        let off: f32 = (0..k).map(|i| row[i] * (value(i) - column[i])).sum();
                        *loss += f64::from(off * off);
                    }
                }
            }
            assert!(loss[1] < 0.5 * loss[0], "{bits} {symmetric}: {loss:?}");
        }
    }
}
