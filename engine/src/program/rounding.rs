//! Weights for [`Precision::F16`], rounded line by line.
//!
//! Rounding each weight to the nearest f16 leaves the sum of a line of weights off by some rounding errors. Behind a ReLU the
//! elements that the line weighs are positive, and that error of the sum is the larger part of a result's error. So the few
//! weights nearest to the middle between two f16 numbers are rounded the other way until the sum is right again.

use std::collections::HashMap;

use half::f16;
use rayon::prelude::*;
use sardonyx_ops::operator::Summed;
use sardonyx_ops::plan::Plan;
use sardonyx_ops::{DType, Tensor};
use sardonyx_shaders::storage::Storage;

use super::place::{Layouts, epilogue_operands, problem};

/// How weights are summed: so many blocks of so many lines, which lie side by side, of `len` weights each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Line {
    pub(super) blocks: usize,
    pub(super) len: usize,
    pub(super) lines: usize,
}

/// The constant f32 weights of a plan that a device will hold as f16 and that are rounded line by line, by the address and
/// length of their bytes.
#[derive(Default)]
pub(super) struct Lines(HashMap<(usize, usize), Line>);

impl Lines {
    /// How these weights are summed.
    pub(super) fn of(&self, weights: &Tensor) -> Option<Line> {
        self.0.get(&Lines::key(weights)).copied()
    }

    /// What two steps read is rounded for the first.
    pub(super) fn add(&mut self, weights: &Tensor, line: Line) {
        self.0.entry(Lines::key(weights)).or_insert(line);
    }

    fn key(weights: &Tensor) -> (usize, usize) {
        (weights.bytes().as_ptr() as usize, weights.bytes().len())
    }
}

/// Finds the weights of a plan that are rounded line by line.
pub(super) fn lines(plan: &Plan, layouts: Layouts) -> Lines {
    let mut found = Lines::default();
    let storage = |value: &_| layouts.storage(value);
    for step in &plan.steps {
        let operands = epilogue_operands(&plan.values, step, &storage);
        let problem = problem(&plan.values, step, &operands, &storage);
        let Some(Summed { input, blocks, len, lines }) = step.op.summed(&problem) else { continue };
        let Some(id) = step.inputs.get(input).copied().flatten() else { continue };
        let value = &plan.values[id.0];
        let halved = value.dtype == DType::F32 && layouts.storage(value) == Some(Storage::F16);
        if let Some(weights) = value.constant.as_ref().filter(|_| halved) {
            found.add(weights, Line { blocks, len, lines });
        }
    }
    found
}

/// The weights that are not rounded to the nearest, rounded; the others as they are. `None` when there are none.
pub(super) fn rounded(weights: &Tensor, line: Line) -> Option<Tensor> {
    let all = weights.elements::<f32>().ok()?;
    let Line { blocks, len, lines } = line;
    if blocks.checked_mul(len)?.checked_mul(lines)? != all.len() {
        return None;
    }
    let line = |index: usize| {
        let first = index / lines * len * lines + index % lines;
        flips((0..len).map(|k| all[first + k * lines]))
            .into_iter()
            .map(move |(k, other)| (first + k * lines, other))
    };
    let flips: Vec<(usize, f32)> = (0..blocks * lines).into_par_iter().flat_map_iter(line).collect();
    if flips.is_empty() {
        return None;
    }
    let mut all = all.into_owned();
    flips.into_iter().for_each(|(at, other)| all[at] = other);
    Tensor::from_vec(weights.dims(), all).ok()
}

/// The weights of a line that are rounded to the farther of their two f16 neighbours, and that neighbour.
fn flips(line: impl Iterator<Item = f32>) -> Vec<(usize, f32)> {
    let mut sum = 0.0f64;
    let mut choices = Vec::new();
    for (index, weight) in line.enumerate() {
        let near = f16::from_f32(weight);
        let error = near.to_f32() - weight;
        if !error.is_finite() {
            return Vec::new();
        }
        sum += f64::from(error);
        let (above, bits) = (error > 0.0, near.to_bits());
        // Towards zero the bits of a float count down.
        let other = f16::from_bits(if above == (near > f16::ZERO) { bits.wrapping_sub(1) } else { bits + 1 });
        // A zero's neighbour may be of either sign, and infinity is none.
        if error != 0.0 && near != f16::ZERO && other.is_finite() {
            choices.push((index, error, other.to_f32() - near.to_f32(), other.to_f32()));
        }
    }
    choices.retain(|&(_, error, _, _)| (error > 0.0) == (sum > 0.0));
    // The farther neighbour is farther by this much.
    choices.sort_by(|a, b| (a.2.abs() - 2.0 * a.1.abs()).total_cmp(&(b.2.abs() - 2.0 * b.1.abs())));
    let mut flips = Vec::new();
    for (index, _, change, other) in choices {
        let after = sum + f64::from(change);
        if after.abs() < sum.abs() {
            sum = after;
            flips.push((index, other));
        }
    }
    flips
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<f32> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..len).map(|_| next() * 0.1).collect()
    }

    fn as_f16(x: f32) -> f32 {
        f16::from_f32(x).to_f32()
    }

    #[test]
    fn sums_stay_and_no_weight_moves_farther_than_its_neighbours() {
        for (blocks, len, lines) in [(5, 127, 1), (2, 65, 17), (1, 3, 1), (1, 1, 1)] {
            let weights = Tensor::from_vec(&[blocks, len, lines], noise(blocks * len * lines)).unwrap();
            let summed = Line { blocks, len, lines };
            let exact: Vec<f32> = weights.to_vec().unwrap();
            let found: Vec<f32> = rounded(&weights, summed).map_or(exact.clone(), |w| w.to_vec().unwrap());
            let sum = |of: &dyn Fn(usize) -> f32, line: usize| {
                let first = line / lines * len * lines + line % lines;
                (0..len).map(|k| f64::from(of(first + k * lines))).sum::<f64>()
            };
            for line in 0..blocks * lines {
                let want = sum(&|at| exact[at], line);
                let left = (sum(&|at| as_f16(found[at]), line) - want).abs();
                let nearest = (sum(&|at| as_f16(exact[at]), line) - want).abs();
                assert!(left <= nearest, "{left} {nearest}");
                // Half a step of the largest weights is what can be left over.
                assert!(len < 65 || left < 1.6e-5, "{left} of {nearest}");
            }
            for (&found, &exact) in found.iter().zip(&exact) {
                let unit = (as_f16(exact).abs() * f16::EPSILON.to_f32()).max(6e-8);
                assert!((as_f16(found) - exact).abs() < unit, "{found} {exact}");
            }
        }
    }

    #[test]
    fn what_has_no_f16_is_left_alone() {
        let weights = Tensor::from_vec(&[1, 3], vec![1e30f32, 0.1, 0.2]).unwrap();
        assert!(rounded(&weights, Line { blocks: 1, len: 3, lines: 1 }).is_none());
    }
}
