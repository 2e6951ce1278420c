//! The discrete Fourier transform of one line.

use std::f64::consts::PI;
use std::ops::{Add, Mul, Neg, Sub};

use crate::error::OpError;
use crate::ir::numbers::filled;

/// A number that transforms compute with.
pub(super) trait Real:
    Copy + Default + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Neg<Output = Self>
{
    /// The nearest number.
    fn near(x: f64) -> Self;
    /// The same number.
    fn wide(self) -> f64;
}

impl Real for f32 {
    fn near(x: f64) -> f32 {
        x as f32
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn near(x: f64) -> f64 {
        x
    }

    fn wide(self) -> f64 {
        self
    }
}

/// Real and imaginary part.
pub(super) type Complex<T> = [T; 2];

/// The largest prime factor of a length that is summed over directly.
const LARGEST_FACTOR: usize = 61;

/// A transform of lines of one length, prepared.
pub(super) struct Transform<T> {
    len: usize,
    inverse: bool,
    method: Method<T>,
}

enum Method<T> {
    /// Lines of lines, one level for each prime factor. The roots of unity are those of the whole length.
    Factors { factors: Vec<usize>, roots: Vec<Complex<T>> },
    /// A convolution with a chirp, by transforms of a power of two.
    Chirp {
        /// `e^(-πi·k²/len)`
        chirp: Vec<Complex<T>>,
        /// The transform of its conjugate, laid around a circle.
        kernel: Vec<Complex<T>>,
        /// That transform.
        forward: Box<Transform<T>>,
        /// Its inverse.
        backward: Box<Transform<T>>,
    },
}

fn plus<T: Real>(a: Complex<T>, b: Complex<T>) -> Complex<T> {
    [a[0] + b[0], a[1] + b[1]]
}

fn minus<T: Real>(a: Complex<T>, b: Complex<T>) -> Complex<T> {
    [a[0] - b[0], a[1] - b[1]]
}

fn times<T: Real>(a: Complex<T>, b: Complex<T>) -> Complex<T> {
    [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]]
}

/// `e^(2πi · turns / of)`
fn root<T: Real>(turns: usize, of: usize) -> Complex<T> {
    let angle = 2.0 * PI * turns as f64 / of as f64;
    [T::near(angle.cos()), T::near(angle.sin())]
}

fn conjugate<T: Real>(x: Complex<T>) -> Complex<T> {
    [x[0], -x[1]]
}

/// The prime factors of a length, smallest first; `None` when one is too large.
fn factors(mut len: usize) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    let mut prime = 2;
    while len > 1 && prime <= LARGEST_FACTOR {
        while len.is_multiple_of(prime) {
            found.push(prime);
            len /= prime;
        }
        prime += 1;
    }
    (len == 1).then_some(found)
}

impl<T: Real> Transform<T> {
    /// Prepares for lines of `len` elements, not none. The inverse divides by the length.
    pub(super) fn new(len: usize, inverse: bool) -> Result<Transform<T>, OpError> {
        let signed = |x: Complex<T>| if inverse { x } else { conjugate(x) };
        let method = if let Some(factors) = factors(len) {
            let mut roots = filled(&[len], [T::default(); 2])?;
            roots.iter_mut().enumerate().for_each(|(k, slot)| *slot = signed(root(k, len)));
            Method::Factors { factors, roots }
        } else {
            let circle =
                len.checked_mul(2).and_then(usize::checked_next_power_of_two).ok_or(OpError::Size)?;
            let mut chirp = filled(&[len], [T::default(); 2])?;
            // k² modulo 2·len, step by step, so that the angle stays exact.
            let (mut square, period) = (0, 2 * len);
            for (k, slot) in chirp.iter_mut().enumerate() {
                *slot = signed(root(square, period));
                square = (square + 2 * k + 1) % period;
            }
            let mut kernel = filled(&[circle], [T::default(); 2])?;
            for (k, &x) in chirp.iter().enumerate() {
                kernel[k] = conjugate(x);
                kernel[(circle - k) % circle] = conjugate(x);
            }
            let forward = Box::new(Transform::new(circle, false)?);
            forward.run(&mut kernel)?;
            let backward = Box::new(Transform::new(circle, true)?);
            Method::Chirp { chirp, kernel, forward, backward }
        };
        Ok(Transform { len, inverse, method })
    }

    /// Transforms a line in place.
    pub(super) fn run(&self, line: &mut [Complex<T>]) -> Result<(), OpError> {
        if line.len() != self.len {
            return Err(OpError::Internal("a line of another length"));
        }
        match &self.method {
            Method::Factors { factors, roots } => {
                let mut other = filled(&[self.len], [T::default(); 2])?;
                let mut lines = 1;
                for &factor in factors {
                    butterflies(line, &mut other, factor, lines, roots);
                    line.copy_from_slice(&other);
                    lines *= factor;
                }
            }
            Method::Chirp { chirp, kernel, forward, backward } => {
                let mut circle = filled(&[kernel.len()], [T::default(); 2])?;
                for ((slot, &x), &factor) in circle.iter_mut().zip(&*line).zip(chirp) {
                    *slot = times(x, factor);
                }
                forward.run(&mut circle)?;
                circle.iter_mut().zip(kernel).for_each(|(x, &factor)| *x = times(*x, factor));
                backward.run(&mut circle)?;
                for ((slot, &x), &factor) in line.iter_mut().zip(&circle).zip(chirp) {
                    *slot = times(x, factor);
                }
            }
        }
        if self.inverse {
            let scale = T::near(1.0 / self.len as f64);
            line.iter_mut().for_each(|x| *x = [x[0] * scale, x[1] * scale]);
        }
        Ok(())
    }
}

/// One level of a transform (Stockham's order, decimation in frequency): each of `lines` interleaved lines becomes `factor`
/// lines of a `factor`-th of its length, which are the parts of its transform that this leaves to do.
fn butterflies<T: Real>(
    from: &[Complex<T>],
    to: &mut [Complex<T>],
    factor: usize,
    lines: usize,
    roots: &[Complex<T>],
) {
    let len = from.len();
    let rest = len / lines / factor;
    // The roots that go round once in `factor` steps.
    let turn = |u: usize| roots[u % factor * (len / factor)];
    let mut sums = [[T::default(); 2]; LARGEST_FACTOR / 2 + 1];
    let mut differences = sums;
    for line in 0..lines {
        for at in 0..rest {
            let x = |part: usize| from[line + lines * (at + rest * part)];
            // The lines' parts are turned by how far into the line they begin.
            let mut store = |part: usize, y: Complex<T>| {
                let turned = if at * part == 0 { y } else { times(y, roots[at * part * lines]) };
                to[line + lines * (part + factor * at)] = turned;
            };
            if factor == 2 {
                store(0, plus(x(0), x(1)));
                store(1, minus(x(0), x(1)));
                continue;
            }
            let pairs = factor / 2;
            let mut sum = x(0);
            for pair in 1..=pairs {
                let (a, b) = (x(pair), x(factor - pair));
                (sums[pair], differences[pair]) = (plus(a, b), minus(a, b));
                sum = plus(sum, sums[pair]);
            }
            store(0, sum);
            // Elements as far from the beginning as from the end share a cosine, and their sines are opposite.
            for part in 1..=pairs {
                let (mut even, mut odd) = (x(0), [T::default(); 2]);
                for pair in 1..=pairs {
                    let [cos, sin] = turn(part * pair);
                    even = plus(even, [cos * sums[pair][0], cos * sums[pair][1]]);
                    odd = plus(odd, [-(sin * differences[pair][1]), sin * differences[pair][0]]);
                }
                store(part, plus(even, odd));
                store(factor - part, minus(even, odd));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_methods_agree_with_the_sum() {
        for len in [1usize, 2, 3, 8, 15, 64, 65, 67, 100, 122, 127, 128, 134, 400] {
            let line: Vec<Complex<f64>> =
                (0..len).map(|n| [(n * 7 % 11) as f64 - 5.0, (n * 5 % 13) as f64]).collect();
            let mut turned = line.clone();
            Transform::new(len, false).unwrap().run(&mut turned).unwrap();
            let mut single: Vec<Complex<f32>> = line.iter().map(|x| x.map(|part| part as f32)).collect();
            Transform::new(len, false).unwrap().run(&mut single).unwrap();
            for (k, found) in turned.iter().enumerate() {
                let mut sum = [0.0; 2];
                for (n, &x) in line.iter().enumerate() {
                    sum = plus(sum, times(x, conjugate(root(k * n % len, len))));
                }
                assert!((0..2).all(|i| (found[i] - sum[i]).abs() < 1e-9), "{len} {k}: {found:?} {sum:?}");
                let near = (0..2).all(|i| (f64::from(single[k][i]) - sum[i]).abs() < 1e-5 * len as f64);
                assert!(near, "{len} {k}: {:?} {sum:?}", single[k]);
            }
            Transform::new(len, true).unwrap().run(&mut turned).unwrap();
            let near =
                |(a, b): (&Complex<f64>, &Complex<f64>)| (a[0] - b[0]).abs() + (a[1] - b[1]).abs() < 1e-10;
            assert!(turned.iter().zip(&line).all(near), "{len}");
        }
    }
}
