//! The discrete Fourier transform of one line.

use std::f64::consts::PI;

use crate::error::OpError;
use crate::ir::numbers::filled;

/// Real and imaginary part.
pub(super) type Complex = [f64; 2];

/// Lines of other lengths than powers of two are summed directly up to here.
const DIRECT: usize = 64;

/// A transform of lines of one length, prepared.
pub(super) struct Transform {
    len: usize,
    inverse: bool,
    method: Method,
}

enum Method {
    /// Halves, and halves of halves. The roots of unity are those of the whole length.
    Halves(Vec<Complex>),
    /// Each result is a sum over the line.
    Direct(Vec<Complex>),
    /// A convolution with a chirp, by transforms of a power of two.
    Chirp {
        /// `e^(-πi·k²/len)`
        chirp: Vec<Complex>,
        /// The transform of its conjugate, laid around a circle.
        kernel: Vec<Complex>,
        /// That transform.
        forward: Box<Transform>,
        /// Its inverse.
        backward: Box<Transform>,
    },
}

fn times(a: Complex, b: Complex) -> Complex {
    [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]]
}

/// `e^(2πi · turns / of)`
fn root(turns: usize, of: usize) -> Complex {
    let angle = 2.0 * PI * turns as f64 / of as f64;
    [angle.cos(), angle.sin()]
}

fn conjugate(x: Complex) -> Complex {
    [x[0], -x[1]]
}

impl Transform {
    /// Prepares for lines of `len` elements. The inverse divides by the length.
    pub(super) fn new(len: usize, inverse: bool) -> Result<Transform, OpError> {
        let signed = |x: Complex| if inverse { x } else { conjugate(x) };
        let roots = |count: usize| {
            let mut all = filled(&[count], [0.0; 2])?;
            all.iter_mut().enumerate().for_each(|(k, slot)| *slot = signed(root(k, len)));
            Ok::<_, OpError>(all)
        };
        let method = if len.is_power_of_two() {
            Method::Halves(roots(len / 2)?)
        } else if len <= DIRECT {
            Method::Direct(roots(len)?)
        } else {
            let circle =
                len.checked_mul(2).and_then(usize::checked_next_power_of_two).ok_or(OpError::Size)?;
            let mut chirp = filled(&[len], [0.0; 2])?;
            // k² modulo 2·len, step by step, so that the angle stays exact.
            let (mut square, period) = (0, 2 * len);
            for (k, slot) in chirp.iter_mut().enumerate() {
                *slot = signed(root(square, period));
                square = (square + 2 * k + 1) % period;
            }
            let mut kernel = filled(&[circle], [0.0; 2])?;
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
    pub(super) fn run(&self, line: &mut [Complex]) -> Result<(), OpError> {
        if line.len() != self.len {
            return Err(OpError::Internal("a line of another length"));
        }
        match &self.method {
            Method::Halves(roots) => halves(line, roots),
            Method::Direct(roots) => {
                let source = line.to_vec();
                for (k, slot) in line.iter_mut().enumerate() {
                    let mut sum = [0.0; 2];
                    for (n, &x) in source.iter().enumerate() {
                        let [re, im] = times(x, roots[k * n % self.len]);
                        sum = [sum[0] + re, sum[1] + im];
                    }
                    *slot = sum;
                }
            }
            Method::Chirp { chirp, kernel, forward, backward } => {
                let mut circle = filled(&[kernel.len()], [0.0; 2])?;
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
            let scale = self.len as f64;
            line.iter_mut().for_each(|x| *x = [x[0] / scale, x[1] / scale]);
        }
        Ok(())
    }
}

/// A line whose length is a power of two: elements in the order of their reversed bits, then pairs of growing distance.
fn halves(line: &mut [Complex], roots: &[Complex]) {
    let len = line.len();
    if len < 2 {
        return;
    }
    let unused = usize::BITS - len.trailing_zeros();
    for i in 0..len {
        let j = i.reverse_bits() >> unused;
        if i < j {
            line.swap(i, j);
        }
    }
    let mut half = 1;
    while half < len {
        let step = len / (2 * half);
        for block in line.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (k, (a, b)) in low.iter_mut().zip(high).enumerate() {
                let turned = times(*b, roots[k * step]);
                (*a, *b) = ([a[0] + turned[0], a[1] + turned[1]], [a[0] - turned[0], a[1] - turned[1]]);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_methods_agree_with_the_sum() {
        for len in [1usize, 2, 3, 8, 15, 64, 65, 100, 127, 128] {
            let line: Vec<Complex> =
                (0..len).map(|n| [(n * 7 % 11) as f64 - 5.0, (n * 5 % 13) as f64]).collect();
            let mut turned = line.clone();
            Transform::new(len, false).unwrap().run(&mut turned).unwrap();
            for (k, found) in turned.iter().enumerate() {
                let mut sum = [0.0; 2];
                for (n, &x) in line.iter().enumerate() {
                    let [re, im] = times(x, conjugate(root(k * n % len, len)));
                    sum = [sum[0] + re, sum[1] + im];
                }
                assert!((0..2).all(|i| (found[i] - sum[i]).abs() < 1e-9), "{len} {k}: {found:?} {sum:?}");
            }
            Transform::new(len, true).unwrap().run(&mut turned).unwrap();
            let near = |(a, b): (&Complex, &Complex)| (a[0] - b[0]).abs() + (a[1] - b[1]).abs() < 1e-10;
            assert!(turned.iter().zip(&line).all(near), "{len}");
        }
    }
}
