//! Dot products of several rows with several others at once, all of them contiguous.

#![allow(
    unsafe_code,
    reason = "loads through pointers, and code compiled for instructions that were just detected"
)]

use super::micro::Rows;
#[cfg(target_arch = "x86_64")]
use super::vector::Avx2;
use super::vector::{Isa, LANES, Plain, Vector};

/// Rows of the left factor that one call takes.
const LEFT: usize = 3;
/// Rows of the right factor that one call takes. Their sums, with what is loaded, share sixteen registers.
const RIGHT: usize = 4;

/// Calls `store` with `(i, j, Σ a[i][k] · b[j][k])` for the first rows of both, over `depth` elements, a multiple of eight.
/// `false` and nothing done when a factor is too small for that.
#[must_use]
pub(crate) fn dots(
    (a, a_rows): (Rows<'_>, usize),
    (b, b_rows): (Rows<'_>, usize),
    depth: usize,
    mut store: impl FnMut(usize, usize, f32),
) -> bool {
    if !a.holds(a_rows, depth) || !b.holds(b_rows, depth) || !depth.is_multiple_of(LANES) {
        return false;
    }
    let isa = Isa::detect();
    for right in (0..b_rows).step_by(RIGHT) {
        for left in (0..a_rows).step_by(LEFT) {
            // Past the last row it is taken again, for nothing.
            let row =
                |rows: Rows<'_>, index: usize, count: usize| rows.from(index.min(count - 1), 0).data.as_ptr();
            let rows = std::array::from_fn(|i| row(a, left + i, a_rows));
            let columns = std::array::from_fn(|j| row(b, right + j, b_rows));
            // SAFETY: every row holds `depth` elements (checked above), and the processor has the instructions.
            let sums = unsafe {
                match isa {
                    Isa::Plain => sums::<Plain>(rows, columns, depth),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => wide(rows, columns, depth),
                }
            };
            for (i, sums) in sums.into_iter().take(a_rows - left).enumerate() {
                for (j, sum) in sums.into_iter().take(b_rows - right).enumerate() {
                    store(left + i, right + j, sum);
                }
            }
        }
    }
    true
}

/// # Safety
/// As for [`sums`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn wide(a: [*const f32; LEFT], b: [*const f32; RIGHT], depth: usize) -> [[f32; RIGHT]; LEFT] {
    // SAFETY: the caller's promise.
    unsafe { sums::<Avx2>(a, b, depth) }
}

/// # Safety
/// All pointers point at `depth` elements, and the processor has the instructions of `V`.
#[inline(always)]
unsafe fn sums<V: Vector>(
    a: [*const f32; LEFT],
    b: [*const f32; RIGHT],
    depth: usize,
) -> [[f32; RIGHT]; LEFT] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::splat(0.0); RIGHT]; LEFT];
        for k in (0..depth).step_by(LANES) {
            let left = [V::load(a[0].add(k)), V::load(a[1].add(k)), V::load(a[2].add(k))];
            for (j, b) in b.iter().enumerate() {
                let right = V::load(b.add(k));
                for (sums, left) in sums.iter_mut().zip(left) {
                    sums[j] = left.fma(right, sums[j]);
                }
            }
        }
        sums.map(|sums| {
            sums.map(|sum| {
                let mut all = [0.0f32; LANES];
                sum.store(all.as_mut_ptr());
                all.iter().sum()
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_agree_with_plain_sums() {
        for (m, n, depth) in [(1, 1, 8), (3, 4, 64), (4, 5, 16), (7, 3, 128), (17, 9, 40)] {
            let stride = depth + 3;
            let numbers = |count: usize, factor: usize| -> Vec<f32> {
                (0..count * stride).map(|i| (i * factor % 17) as f32 - 8.0).collect()
            };
            let (a, b) = (numbers(m, 7), numbers(n, 5));
            let (left, right) = (Rows { data: &a, stride }, Rows { data: &b, stride });
            let mut found = vec![f32::NAN; m * n];
            assert!(dots((left, m), (right, n), depth, |i, j, sum| found[i * n + j] = sum));
            for (at, &sum) in found.iter().enumerate() {
                let (i, j) = (at / n, at % n);
                let exact: f32 = (0..depth).map(|k| a[i * stride + k] * b[j * stride + k]).sum();
                assert_eq!(sum, exact, "{m} {n} {depth}");
            }
            assert!(!dots((left, m + 1), (right, n), depth, |_, _, _| ()));
            assert!(!dots((left, m), (right, n), depth - 1, |_, _, _| ()));
        }
    }
}
