//! Elementary functions over slices of `f32`, without branches, so that the compiler turns them into vector code: once
//! for every processor of the target, once more for AVX2 with fused multiply-add, chosen at run time.
//!
//! The polynomials are minimax fits of our own. Against `f64` (see the tests) the results differ by at most 2.5 units in
//! the last place, except where a function says otherwise. NaN gives NaN, infinities their limits; nothing overflows on the way.

#![allow(unsafe_code, reason = "calling code compiled for vector instructions that were just detected")]

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

use super::vector::vectorised;

/// Adding and subtracting this rounds a small number to an integer, ties to even, which then stands in the low bits of the sum.
pub(crate) const ROUND: f32 = 12_582_912.0;
/// `ln 2` in two parts; the first has so few bits that its product with an exponent is exact.
const LN2_HIGH: f32 = 355.0 / 512.0;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `a * b + c`, in one rounding where the processor has an instruction for it.
#[inline(always)]
fn fma<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// A polynomial; the coefficient of the highest power comes first.
#[inline(always)]
fn polynomial<const FUSED: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    coefficients.into_iter().reduce(|sum, c| fma::<FUSED>(sum, x, c)).unwrap_or(0.0)
}

/// Limits from above and below. NaN stays.
#[inline(always)]
fn limit(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > high { high } else { x };
    if x < low { low } else { x }
}

/// `2^n` for `n` in `-126 ..= 127`.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `(e^r - 1, n)` with `x = n · ln 2 + r`, `|r| <= ln 2 / 2`, for `|x|` below 1000.
#[inline(always)]
fn reduced_exp<const FUSED: bool>(x: f32) -> (f32, i32) {
    let shifted = fma::<FUSED>(x, LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FUSED>(n, -LN2_LOW, fma::<FUSED>(n, -LN2_HIGH, x));
    let p = polynomial::<FUSED, 6>(
        r,
        [0.000_197_901_4, 0.001_394_486_9, 0.008_333_499, 0.041_666_29, 0.166_666_66, 0.5],
    );
    (fma::<FUSED>(r * r, p, r), shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32)
}

#[inline(always)]
fn exp_lane<const FUSED: bool>(x: f32) -> f32 {
    // Beyond these everything is infinite, or zero.
    let (q, n) = reduced_exp::<FUSED>(limit(x, -104.0, 89.0));
    // In two steps, since 2^n itself may not be a normal number.
    let half = n >> 1;
    (q + 1.0) * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline(always)]
fn expm1_lane<const FUSED: bool>(x: f32) -> f32 {
    let (q, n) = reduced_exp::<FUSED>(limit(x, -20.0, 89.0));
    let half = n >> 1;
    let rest = n.wrapping_sub(half);
    let scale = power_of_two(half);
    fma::<FUSED>(q, scale, scale - power_of_two(rest.wrapping_neg())) * power_of_two(rest)
}

#[inline(always)]
fn log_lane<const FUSED: bool>(x: f32) -> f32 {
    const SQRT_HALF_BITS: i32 = 0x3f35_04f3;
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let bits = (scaled.to_bits() as i32).wrapping_sub(SQRT_HALF_BITS);
    let exponent = (bits >> 23) as f32 - if tiny { 23.0 } else { 0.0 };
    let f = f32::from_bits((bits & 0x7f_ffff).wrapping_add(SQRT_HALF_BITS) as u32) - 1.0;
    let p = polynomial::<FUSED, 9>(
        f,
        [
            0.067_465_92,
            -0.116_756_39,
            0.118_881_78,
            -0.124_055_92,
            0.142_195_51,
            -0.166_679_96,
            0.200_021_19,
            -0.250_000_1,
            0.333_333_13,
        ],
    );
    let square = f * f;
    let tail = fma::<FUSED>(exponent, LN2_LOW, fma::<FUSED>(square * f, p, -0.5 * square));
    let y = fma::<FUSED>(exponent, LN2_HIGH, f + tail);
    let y = if x > f32::MAX { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x >= 0.0 { y } else { f32::NAN }
}

/// `ln(1 + z)` for `z >= 0`.
#[inline(always)]
fn log1p_lane<const FUSED: bool>(z: f32) -> f32 {
    let u = 1.0 + z;
    // What the sum lost, to first order.
    log_lane::<FUSED>(u) + (z - (u - 1.0)) / u
}

#[inline(always)]
fn tanh_lane<const FUSED: bool>(x: f32) -> f32 {
    let t = expm1_lane::<FUSED>(2.0 * limit(x.abs(), 0.0, 10.0));
    (t / (t + 2.0)).copysign(x)
}

#[inline(always)]
fn sigmoid_lane<const FUSED: bool>(x: f32) -> f32 {
    let z = exp_lane::<FUSED>(-x.abs());
    (if x < 0.0 { z } else { 1.0 }) / (1.0 + z)
}

#[inline(always)]
fn erf_lane<const FUSED: bool>(x: f32) -> f32 {
    let a = limit(x.abs(), 0.0, 4.0);
    let beyond_a = polynomial::<FUSED, 7>(
        a * a,
        [
            8.345_225e-5,
            -0.000_813_743_74,
            0.005_200_634_2,
            -0.026_859_27,
            0.112_836_94,
            -0.376_126_35,
            0.128_379_2,
        ],
    );
    let near = fma::<FUSED>(a, beyond_a, a);
    // -ln(1 - erf a)
    let q = polynomial::<FUSED, 8>(
        a,
        [
            2.109_505_7e-5,
            -0.000_434_462_68,
            0.004_171_063,
            -0.025_119_428,
            0.108_280_09,
            0.633_346_9,
            1.129_514_9,
            -0.000_174_684_52,
        ],
    );
    let far = -expm1_lane::<FUSED>(-q);
    (if a < 0.925 { near } else { far }).copysign(x)
}

#[inline(always)]
fn gelu_lane<const FUSED: bool>(x: f32) -> f32 {
    0.5 * x * (1.0 + erf_lane::<FUSED>(x * FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_tanh_lane<const FUSED: bool>(x: f32) -> f32 {
    // 1 + tanh(u) = 2 · sigmoid(2u)
    let u = 1.595_769 * fma::<FUSED>(0.044_715 * x * x, x, x);
    x * sigmoid_lane::<FUSED>(u)
}

#[inline(always)]
fn silu_lane<const FUSED: bool>(x: f32) -> f32 {
    x * sigmoid_lane::<FUSED>(x)
}

#[inline(always)]
fn softplus_lane<const FUSED: bool>(x: f32) -> f32 {
    (if x > 0.0 { x } else { 0.0 }) + log1p_lane::<FUSED>(exp_lane::<FUSED>(-x.abs()))
}

#[inline(always)]
fn mish_lane<const FUSED: bool>(x: f32) -> f32 {
    // tanh(ln(1 + e)) = w / (w + 2) with w = e · (e + 2); from 20 on it is 1.
    let e = exp_lane::<FUSED>(limit(x, f32::NEG_INFINITY, 20.0));
    let w = e * (e + 2.0);
    x * (w / (w + 2.0))
}

/// The loop of a function from slice to slice.
macro_rules! slices {
    ($($(#[$doc:meta])* $name:ident, $body:ident = $lane:ident;)*) => {
        $(
            #[inline(always)]
            fn $body<const FUSED: bool>(x: &[f32], y: &mut [f32]) {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = $lane::<FUSED>(x);
                }
            }
        )*
        vectorised! {$(
            $(#[$doc])*
            ///
            /// Reads as many elements of `x` as `y` has.
            pub fn $name(x: &[f32], y: &mut [f32]) = $body;
        )*}
    };
}

slices! {
    /// `e^x`.
    exp, exp_slice = exp_lane;
    /// `e^x - 1`, also near 0.
    expm1, expm1_slice = expm1_lane;
    /// The natural logarithm.
    log, log_slice = log_lane;
    /// The hyperbolic tangent, in `-1 ..= 1`.
    tanh, tanh_slice = tanh_lane;
    /// `1 / (1 + e^-x)`.
    sigmoid, sigmoid_slice = sigmoid_lane;
    /// The error function, in `-1 ..= 1`.
    erf, erf_slice = erf_lane;
    /// `x · Φ(x)` by the error function, exact to 2^-23 of `|x|`.
    gelu, gelu_slice = gelu_lane;
    /// `x · Φ(x)` by the approximation with `tanh` that many models are trained with. The relative error grows with `|x|`
    /// where the result vanishes.
    gelu_tanh, gelu_tanh_slice = gelu_tanh_lane;
    /// `x · sigmoid(x)`.
    silu, silu_slice = silu_lane;
    /// `ln(1 + e^x)`.
    softplus, softplus_slice = softplus_lane;
    /// `x · tanh(ln(1 + e^x))`.
    mish, mish_slice = mish_lane;
}

/// Accumulators of a reduction: enough for the widest vectors and their latency.
const LANES: usize = 32;

#[inline(always)]
fn exp_sum_slice<const FUSED: bool>(values: &mut [f32], shift: f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (chunks, rest) = values.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (value, sum) in chunk.iter_mut().zip(&mut sums) {
            *value = exp_lane::<FUSED>(*value - shift);
            *sum += *value;
        }
    }
    for (value, sum) in rest.iter_mut().zip(&mut sums) {
        *value = exp_lane::<FUSED>(*value - shift);
        *sum += *value;
    }
    sums.iter().sum()
}

#[inline(always)]
fn sum_slice<const FUSED: bool>(values: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (value, sum) in chunk.iter().zip(&mut sums) {
            *sum += value;
        }
    }
    for (value, sum) in rest.iter().zip(&mut sums) {
        *sum += value;
    }
    sums.iter().sum()
}

#[inline(always)]
fn dot_slice<const FUSED: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let ((left, left_rest), (right, right_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in left.iter().zip(right) {
        for ((a, b), sum) in a.iter().zip(b).zip(&mut sums) {
            *sum = fma::<FUSED>(*a, *b, *sum);
        }
    }
    for ((a, b), sum) in left_rest.iter().zip(right_rest).zip(&mut sums) {
        *sum = fma::<FUSED>(*a, *b, *sum);
    }
    sums.iter().sum()
}

#[inline(always)]
fn max_slice<const FUSED: bool>(values: &[f32]) -> f32 {
    // NaN wins over numbers, and then stays.
    let larger = |max: f32, value: f32| if value > max || value.is_nan() { value } else { max };
    let mut all = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (&value, max) in chunk.iter().zip(&mut all) {
            *max = larger(*max, value);
        }
    }
    all.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &value| larger(max, value))
}

vectorised! {
    /// Replaces each value by `e^(value - shift)` and returns the sum of the results.
    pub fn exp_sum(values: &mut [f32], shift: f32) -> f32 = exp_sum_slice;
    /// The sum, in 32 parts that are added at the end.
    pub fn sum(values: &[f32]) -> f32 = sum_slice;
    /// The sum of products, in 32 parts that are added at the end. The slices have one length.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 = dot_slice;
    /// The largest value: NaN if there is one, negative infinity for no values.
    pub fn max(values: &[f32]) -> f32 = max_slice;
}

/// `y[i] = f(x[i])`, compiled twice like the functions above; `f` should be a few operations that inline.
#[inline]
pub fn map<A: Copy, B>(x: &[A], y: &mut [B], f: impl Fn(A) -> B) {
    #[inline(always)]
    fn body<A: Copy, B>(x: &[A], y: &mut [B], f: impl Fn(A) -> B) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = f(x);
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn wide<A: Copy, B>(x: &[A], y: &mut [B], f: impl Fn(A) -> B) {
            body(x, y, f);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the instructions that `wide` is compiled to.
            return unsafe { wide(x, y, f) };
        }
    }
    body(x, y, f);
}

/// `y[i] = f(a[i], b[i])`, compiled twice like [`map`].
#[inline]
pub fn zip<A: Copy, B: Copy, C>(a: &[A], b: &[B], y: &mut [C], f: impl Fn(A, B) -> C) {
    #[inline(always)]
    fn body<A: Copy, B: Copy, C>(a: &[A], b: &[B], y: &mut [C], f: impl Fn(A, B) -> C) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = f(a, b);
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn wide<A: Copy, B: Copy, C>(a: &[A], b: &[B], y: &mut [C], f: impl Fn(A, B) -> C) {
            body(a, b, y, f);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the instructions that `wide` is compiled to.
            return unsafe { wide(a, b, y, f) };
        }
    }
    body(a, b, y, f);
}

/// The error function in `f64`, to about 1e-15: its series near 0, a continued fraction for the complement elsewhere.
pub fn erf64(x: f64) -> f64 {
    use std::f64::consts::PI;
    let a = x.abs();
    if a.is_nan() {
        return x;
    }
    if a < 2.5 {
        // 2/√π · e^-x² · Σ 2^n x^(2n+1) / (1·3·5···(2n+1)): all terms positive, so nothing cancels.
        let (mut term, mut sum, mut odd) = (a, a, 1.0);
        while term > sum * 1e-17 {
            odd += 2.0;
            term *= 2.0 * a * a / odd;
            sum += term;
        }
        return (2.0 / PI.sqrt() * (-a * a).exp() * sum).copysign(x);
    }
    if a > 6.0 {
        return 1f64.copysign(x);
    }
    // 1 - erf a = e^-a² / √π / (a + (1/2)/(a + (2/2)/(a + (3/2)/(a + …)))), from far inside out.
    let fraction = (1..=60).rev().fold(a, |inner, k| a + f64::from(k) / 2.0 / inner);
    (1.0 - (-a * a).exp() / PI.sqrt() / fraction).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Lanes = fn(&[f32], &mut [f32]);
    type Exact = fn(f64) -> f64;

    /// Numbers of every size and sign, most of them where the functions bend.
    fn numbers() -> Vec<f32> {
        let mut all: Vec<f32> = (-40_000..=40_000).map(|i| i as f32 * 0.003_1).collect();
        all.extend((0..20_000).map(|i| (i - 10_000) as f32 * 1.7e-4));
        let mut bits = 0x0000_0001u32;
        while bits < 0x7f80_0000 {
            all.extend([f32::from_bits(bits), -f32::from_bits(bits)]);
            bits += 65_537;
        }
        all
    }

    /// The distance in units in the last place of the nearest normal number.
    fn ulps(got: f32, want: f64) -> f64 {
        if (got.is_nan() && want.is_nan()) || f64::from(got) == want || got == want as f32 {
            return 0.0;
        }
        let exponent = want.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor();
        (f64::from(got) - want).abs() / (exponent - 23.0).exp2()
    }

    fn worst(f: Lanes, want: Exact) -> (f64, f32) {
        let x = numbers();
        let mut y = vec![0.0; x.len()];
        f(&x, &mut y);
        x.iter()
            .zip(&y)
            .map(|(&x, &y)| (ulps(y, want(f64::from(x))), x))
            .fold((0.0, 0.0), |a, b| if b.0 > a.0 || b.0.is_nan() { b } else { a })
    }

    fn softplus64(x: f64) -> f64 {
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }

    #[test]
    fn functions_are_accurate_everywhere() {
        type Row = (&'static str, [Lanes; 2], Exact, f64);
        let rows: [Row; 7] = [
            ("exp", [exp, exp_slice::<false>], f64::exp, 1.5),
            ("expm1", [expm1, expm1_slice::<false>], f64::exp_m1, 2.0),
            ("log", [log, log_slice::<false>], f64::ln, 1.5),
            ("tanh", [tanh, tanh_slice::<false>], f64::tanh, 2.5),
            ("sigmoid", [sigmoid, sigmoid_slice::<false>], |x| 1.0 / (1.0 + (-x).exp()), 2.5),
            ("erf", [erf, erf_slice::<false>], erf64, 2.0),
            ("softplus", [softplus, softplus_slice::<false>], softplus64, 2.5),
        ];
        for (name, paths, want, most) in rows {
            for f in paths {
                let (error, at) = worst(f, want);
                println!("{name}: {error:.2} ulp at {at}");
                assert!(error <= most, "{name}: {error} ulp at {at}");
            }
        }
    }

    #[test]
    fn gelu_is_accurate_relative_to_its_argument() {
        let x = numbers();
        let mut y = vec![0.0; x.len()];
        let cases: [(Lanes, Exact); 4] = [
            (gelu, |x| 0.5 * x * (1.0 + erf64(x / 2f64.sqrt()))),
            (gelu_tanh, |x| {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
            }),
            (silu, |x| x / (1.0 + (-x).exp())),
            (mish, |x| x * softplus64(x).tanh()),
        ];
        for (f, want) in cases {
            f(&x, &mut y);
            for (&x, &y) in x.iter().zip(&y) {
                let (want, scale) = (want(f64::from(x)), f64::from(x.abs()));
                assert!((f64::from(y) - want).abs() <= 2e-7 * scale + 1e-44, "{x}: {y} {want}");
            }
        }
    }

    #[test]
    fn limits_and_nan() {
        let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e30, -1e30];
        let of = |f: Lanes| {
            let mut y = [9.0; 7];
            f(&x, &mut y);
            assert!(y[0].is_nan());
            y[1..].to_vec()
        };
        const INF: f32 = f32::INFINITY;
        assert_eq!(of(exp), [INF, 0.0, 1.0, 1.0, INF, 0.0]);
        assert_eq!(of(expm1), [INF, -1.0, 0.0, 0.0, INF, -1.0]);
        assert_eq!(of(tanh), [1.0, -1.0, 0.0, 0.0, 1.0, -1.0]);
        assert_eq!(of(sigmoid), [1.0, 0.0, 0.5, 0.5, 1.0, 0.0]);
        assert_eq!(of(erf), [1.0, -1.0, 0.0, 0.0, 1.0, -1.0]);
        assert_eq!(of(softplus), [INF, 0.0, 2f32.ln(), 2f32.ln(), 1e30, 0.0]);
        assert_eq!(of(gelu)[4..], [1e30, 0.0]);
        assert_eq!(of(mish)[4..], [1e30, 0.0]);
        assert!(of(tanh)[3].is_sign_negative() && of(erf)[3].is_sign_negative());
        let logs = of(log);
        assert_eq!(logs[0], INF);
        assert!(logs[1].is_nan() && logs[5].is_nan());
        assert_eq!(logs[2..4], [f32::NEG_INFINITY, f32::NEG_INFINITY]);
    }

    #[test]
    fn reductions_at_odd_lengths() {
        for len in [0, 1, 3, 17, 31, 32, 33, 65, 127, 1000] {
            let x: Vec<f32> = (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.25).collect();
            let exact: f64 = x.iter().map(|&x| f64::from(x)).sum();
            assert_eq!(f64::from(sum(&x)), exact, "quarters add without rounding");
            let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            assert_eq!(f64::from(dot(&x, &x)), squares);
            assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let mut y = x.clone();
            let total = f64::from(exp_sum(&mut y, 3.0));
            let want: f64 = x.iter().map(|&x| (f64::from(x) - 3.0).exp()).sum();
            assert!((total - want).abs() <= 1e-6 * want, "{len}: {total} {want}");
            if len > 0 {
                y[len / 2] = f32::NAN;
                assert!(max(&y).is_nan(), "{len}");
            }
        }
    }

    #[test]
    fn erf64_matches_known_digits() {
        for (x, want) in [
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (2.6, 0.999_763_965_583_470_7),
            (3.0, 0.999_977_909_503_001_4),
            (1e-300, 1.128_379_167_095_512_6e-300),
        ] {
            assert!((erf64(x) - want).abs() <= 2e-15 * want, "{x}: {}", erf64(x));
            assert_eq!(erf64(-x), -erf64(x));
        }
        assert_eq!(erf64(f64::INFINITY), 1.0);
        assert!(erf64(f64::NAN).is_nan());
    }
}
