use super::bytes::{Bytes, Less, regrouped, unsign, unsigned_zero};
use super::words::{Weight, Wide, Words, interleave, narrowed, widen};
use super::*;
use crate::cpu::tiles::{Grid, share_out};

/// Extreme bytes without extreme zero points, and others.
fn element(seed: usize) -> i16 {
    match seed.wrapping_mul(2_654_435_761) >> 7 & 7 {
        0 => 255,
        1 => -255,
        2 => -128,
        _ => (seed.wrapping_mul(40_503) >> 5 & 511) as i16 - 256,
    }
}

/// The product of `m` rows and `n` columns over `k` elements.
fn product<A: Arithmetic>(
    [m, n, k]: [usize; 3],
    rows: &[A::Left],
    panels: &[A::Right],
    end: &impl End<i32>,
) -> Vec<i32> {
    let grid = Grid { planes: 1, rows: m, columns: n, tile_rows: 16, tile_columns: 32 };
    let (stride, mut out) = (A::row_stride(k), vec![i32::MIN; m * n]);
    let result = share_out(
        &mut out,
        0,
        &grid,
        (&mut [0u8; 0], 0),
        || Ok(()),
        |tile, _, ()| {
            let rows = Rows { data: &rows[tile.row * stride..], stride };
            let panels = &panels[tile.column / COLUMNS * A::panel_len(k)..];
            multiply::<A, i32, _>(tile, tile.row, rows, panels, k, end)
        },
    );
    result.unwrap();
    out
}

/// A left factor, its rows by `A`.
fn rows<A: Arithmetic>([m, k]: [usize; 2], at: impl Fn(usize, usize) -> A::Left) -> Vec<A::Left> {
    let stride = A::row_stride(k);
    let mut all = vec![bytemuck::Zeroable::zeroed(); m * stride];
    (0..m).for_each(|i| (0..k).for_each(|x| all[i * stride + x] = at(i, x)));
    all
}

/// Panels of words.
fn panels([k, n]: [usize; 2], at: impl Fn(usize, usize) -> i16) -> Vec<i16> {
    let (panel, wide) = (Wide::panel_len(k), n.next_multiple_of(COLUMNS));
    let mut panels = vec![0; n.div_ceil(COLUMNS) * panel];
    for x in (0..k).step_by(2) {
        let row = |x: usize| (0..wide).map(|j| if x < k { at(x, j) } else { 0 }).collect::<Vec<_>>();
        interleave(&row(x), &row(x + 1), &mut panels, panel, x * COLUMNS);
    }
    panels
}

/// Every size at which kernels, rows and panels end differently.
fn sizes() -> impl Iterator<Item = [usize; 3]> {
    let columns = [1usize, 3, 8, 9, 16, 17, 40];
    let rows = [1usize, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 17, 27];
    rows.into_iter().flat_map(move |m| {
        columns.into_iter().flat_map(move |n| [0usize, 1, 2, 3, 4, 5, 17, 64].map(|k| [m, n, k]))
    })
}

#[test]
fn products_of_words_are_exact_at_every_size() {
    for [m, n, k] in sizes() {
        let (a, b) =
            (|i: usize, x: usize| element(i * k + x), |x: usize, j: usize| element(7 * x + j + 1000));
        let (left, right) = (rows::<Wide>([m, k], a), panels([k, n], b));
        let out = product::<Wide>([m, n, k], &left, &right, &AsSums);
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let exact: i32 = (0..k).map(|x| i32::from(a(i, x)) * i32::from(b(x, j))).sum();
            assert_eq!(out[i * n + j], exact, "{m}x{n}x{k} at {i}, {j}");
        }
        let mut sums = [[0; COLUMNS]; MOST_ROWS];
        let all = Rows { data: &left, stride: Wide::row_stride(k) };
        // SAFETY: the plain kernel asks for nothing.
        unsafe { plain::<Wide>(m.min(Wide::ROWS), true, all, &right, k.div_ceil(2), &mut sums) };
        for (i, sums) in sums.iter().take(m.min(Wide::ROWS)).enumerate() {
            let across = n.min(COLUMNS);
            assert_eq!(sums[..across], out[i * n..i * n + across]);
        }
    }
}

#[test]
fn products_of_bytes_are_those_of_words() {
    // The corners at which a sum of two products in 16 bits would saturate, too.
    let byte = |seed: usize| match seed.wrapping_mul(2_654_435_761) >> 9 & 7 {
        0 | 1 => 255u8,
        2 => 0,
        _ => (seed.wrapping_mul(40_503) >> 5) as u8,
    };
    for [m, n, k] in sizes() {
        for (signed, zero) in [(false, 0), (false, 131), (true, -7)] {
            let a = |i: usize, x: usize| byte(i * k + x);
            let b = |x: usize, j: usize| match byte(7 * x + j + 1000) {
                255 => -128,
                byte => i16::from(byte as i8),
            };
            let wide = rows::<Wide>([m, k], |i, x| {
                let mut one = [0];
                widen(&[a(i, x)], signed, zero, &mut one);
                one[0]
            });
            let left = rows::<Bytes>([m, k], |i, x| {
                let mut one = [0];
                unsign(&[a(i, x)], signed, &mut one);
                one[0]
            });
            let narrow = narrowed(&panels([k, n], b)).unwrap();
            let exact = product::<Words<i8>>([m, n, k], &wide, &narrow, &AsSums);
            let (right, sums) = regrouped(&narrow, k);
            let end = Less { zero: unsigned_zero(zero, signed).into(), sums: &sums, end: &AsSums };
            assert!(product::<Bytes>([m, n, k], &left, &right, &end) == exact, "{m}x{n}x{k} {signed} {zero}");
            let mut totals = [[0; COLUMNS]; MOST_ROWS];
            let all = Rows { data: &left, stride: Bytes::row_stride(k) };
            // SAFETY: the plain kernel asks for nothing.
            unsafe { plain::<Bytes>(m.min(MOST_ROWS), true, all, &right, k.div_ceil(4), &mut totals) };
            for (i, sums) in totals.iter().take(m).enumerate() {
                let all: Vec<i32> = sums
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .enumerate()
                    .flat_map(|(half, sums)| end.eight(0, 8 * half, *sums))
                    .collect();
                let across = n.min(COLUMNS);
                assert_eq!(all[..across], exact[i * n..i * n + across]);
            }
        }
    }
}

#[test]
fn factors_that_are_too_small_are_refused() {
    fn refused<A: Arithmetic>(rows: &[A::Left], panels: &[A::Right]) {
        let grid = Grid { planes: 1, rows: 2, columns: 3, tile_rows: 2, tile_columns: 3 };
        let mut out = [0i32; 6];
        let (data, stride, scratch) = (rows, A::STEP, (&mut [0u8; 0][..], 0));
        let result = share_out(
            &mut out,
            0,
            &grid,
            scratch,
            || Ok(()),
            |tile, _, ()| multiply::<A, i32, _>(tile, 0, Rows { data, stride }, panels, A::STEP, &AsSums),
        );
        assert!(result.is_err());
    }
    refused::<Wide>(&[0; 3], &[0; 32]);
    refused::<Wide>(&[0; 4], &[0; 31]);
    refused::<Bytes>(&[0; 7], &[0; 64]);
    refused::<Bytes>(&[0; 8], &[0; 63]);
}

#[test]
fn bytes_lose_their_zero_point() {
    let mut out = [0; 3];
    widen(&[0, 128, 255], false, 128, &mut out);
    assert_eq!(out, [-128, 0, 127]);
    widen(&[0, 128, 255], true, 127, &mut out);
    assert_eq!(out, [-127, -255, -128]);
    let mut out = [0; 3];
    unsign(&[0, 128, 255], true, &mut out);
    assert_eq!((out, unsigned_zero(-3, true), unsigned_zero(200, false)), ([128, 0, 127], 125, 200));
    assert_eq!((i8::of(127), i8::of(128), i16::of(128)), (Some(127), None, Some(128)));
}
