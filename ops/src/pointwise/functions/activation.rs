//! The activations of neural networks. None of them overflows on the way to a result that does not.

use std::f64::consts::{FRAC_2_SQRT_PI, SQRT_2};

use super::parameters;
use crate::cpu::math;
use crate::expr::Function;
use crate::expr::function::Accepts;
use crate::expr::lanes::{Lanes, LanesMut};

functions! {
    /// `1 / (1 + e^-x)`.
    SIGMOID = Function::new("sigmoid", 1, Accepts::Floats, unary_slices!(math::sigmoid, sigmoid64));
    /// `max(x, 0)`; NaN for NaN.
    RELU = Function::new("relu", 1, Accepts::Numbers, unary_numbers!(
        |x: f32| if x < 0.0 { 0.0 } else { x }, |x: f64| if x < 0.0 { 0.0 } else { x }, |x: i64| x.max(0), |x| x
    ));
    /// `x`, or `p0 · x` below zero.
    LEAKY_RELU = Function::new("leaky_relu", 1, Accepts::Floats, unary_params!(
        1,
        |x: f32, [alpha]: [f32; 1]| if x < 0.0 { alpha * x } else { x },
        |x: f64, [alpha]: [f64; 1]| if x < 0.0 { alpha * x } else { x }
    )).with_params(1);
    /// `a`, or `b · a` below zero.
    PRELU = Function::new("prelu", 2, Accepts::Numbers, binary_numbers!(
        |a: f32, b| if a < 0.0 { a * b } else { a },
        |a: f64, b| if a < 0.0 { a * b } else { a },
        |a: i64, b| if a < 0 { a.wrapping_mul(b) } else { a },
        |a, _| a
    ));
    /// `x`, or `p0 · (e^x - 1)` below zero.
    ELU = Function::new("elu", 1, Accepts::Floats, |args, params, out| {
        let [alpha] = parameters(params);
        exponential(args, out, alpha, 1.0, 1.0);
    }).with_params(1);
    /// `x`, or `p0 · (e^(x / p0) - 1)` below zero.
    CELU = Function::new("celu", 1, Accepts::Floats, |args, params, out| {
        let [alpha] = parameters(params);
        exponential(args, out, alpha, 1.0 / alpha, 1.0);
    }).with_params(1);
    /// `p1 · x`, or `p1 · p0 · (e^x - 1)` below zero.
    SELU = Function::new("selu", 1, Accepts::Floats, |args, params, out| {
        let [alpha, gamma] = parameters(params);
        exponential(args, out, alpha, 1.0, gamma);
    }).with_params(2);
    /// `p0 · x + p1`, limited to 0 to 1.
    HARD_SIGMOID = Function::new("hard_sigmoid", 1, Accepts::Floats, unary_params!(
        2,
        |x: f32, [alpha, beta]: [f32; 2]| limit32(alpha * x + beta),
        |x: f64, [alpha, beta]: [f64; 2]| (alpha * x + beta).clamp(0.0, 1.0)
    )).with_params(2);
    /// `x · (x / 6 + 1/2)`, the factor limited to 0 to 1.
    HARD_SWISH = Function::new("hard_swish", 1, Accepts::Floats, unary_floats!(
        |x: f32| x * limit32(x / 6.0 + 0.5), |x: f64| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)
    ));
    /// `ln(1 + e^x)`.
    SOFTPLUS = Function::new("softplus", 1, Accepts::Floats, unary_slices!(math::softplus, softplus64));
    /// `x / (1 + |x|)`.
    SOFTSIGN = Function::new("softsign", 1, Accepts::Floats, unary_floats!(
        |x: f32| x / (1.0 + x.abs()), |x: f64| x / (1.0 + x.abs())
    ));
    /// `x · tanh(ln(1 + e^x))`.
    MISH = Function::new("mish", 1, Accepts::Floats, unary_slices!(math::mish, |x| x * softplus64(x).tanh()));
    /// `x` above `p0`, else 0, also for NaN.
    THRESHOLDED_RELU = Function::new("thresholded_relu", 1, Accepts::Floats, unary_params!(
        1,
        |x: f32, [alpha]: [f32; 1]| if x > alpha { x } else { 0.0 },
        |x: f64, [alpha]: [f64; 1]| if x > alpha { x } else { 0.0 }
    )).with_params(1);
    /// `x + p0` below `-p1`, `x - p0` above `p1`, 0 between and for NaN.
    SHRINK = Function::new("shrink", 1, Accepts::Numbers, |args, params, out| {
        let [bias, lambda]: [f32; 2] = parameters(params);
        match (args, out) {
            ([Lanes::F32(x)], LanesMut::F32(y)) => math::map(x, y, |x: f32| {
                if x < -lambda { x + bias } else if x > lambda { x - bias } else { 0.0 }
            }),
            ([Lanes::F64(x)], LanesMut::F64(y)) => math::map(x, y, |x| shrink64(x, bias, lambda)),
            ([Lanes::I64(x)], LanesMut::I64(y)) => math::map(x, y, |x| shrink64(x as f64, bias, lambda) as i64),
            ([Lanes::U64(x)], LanesMut::U64(y)) => math::map(x, y, |x| shrink64(x as f64, bias, lambda) as u64),
            _ => {}
        }
    }).with_params(2);
    /// `x · Φ(x)`, Φ the distribution of the normal deviate, by the error function.
    GELU = Function::new("gelu", 1, Accepts::Floats, unary_slices!(
        math::gelu, |x| 0.5 * x * (1.0 + math::erf64(x / SQRT_2))
    ));
    /// The same by the approximation with `tanh`.
    GELU_TANH = Function::new("gelu_tanh", 1, Accepts::Floats, unary_slices!(
        math::gelu_tanh, |x| 0.5 * x * (1.0 + (FRAC_2_SQRT_PI / SQRT_2 * (x + 0.044715 * x * x * x)).tanh())
    ));
    /// `x · sigmoid(p0 · x)`.
    SWISH = Function::new("swish", 1, Accepts::Floats, |args, params, out| {
        let [alpha]: [f32; 1] = parameters(params);
        match (args, out) {
            ([Lanes::F32(x)], LanesMut::F32(y)) if alpha == 1.0 => math::silu(x, y),
            ([Lanes::F32(x)], LanesMut::F32(y)) => {
                let mut scaled = [0.0; crate::expr::lanes::TILE];
                for (x, y) in x.chunks(scaled.len()).zip(y.chunks_mut(scaled.len())) {
                    let scaled = &mut scaled[..x.len()];
                    math::map(x, scaled, |x| alpha * x);
                    math::sigmoid(scaled, y);
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y *= x);
                }
            }
            ([Lanes::F64(x)], LanesMut::F64(y)) => math::map(x, y, |x| x * sigmoid64(f64::from(alpha) * x)),
            _ => {}
        }
    }).with_params(1);
}

/// `gamma · x`, or `gamma · alpha · (e^(slope · x) - 1)` below zero.
fn exponential(args: &[Lanes<'_>], out: LanesMut<'_>, alpha: f32, slope: f32, gamma: f32) {
    match (args, out) {
        ([Lanes::F32(x)], LanesMut::F32(y)) => {
            let mut scaled = [0.0; crate::expr::lanes::TILE];
            for (x, y) in x.chunks(scaled.len()).zip(y.chunks_mut(scaled.len())) {
                let scaled = &mut scaled[..x.len()];
                // Above zero the other branch counts, so the exponential need not overflow there.
                math::map(x, scaled, |x| if x > 0.0 { 0.0 } else { slope * x });
                math::expm1(scaled, y);
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = gamma * if x < 0.0 { alpha * *y } else { x };
                }
            }
        }
        ([Lanes::F64(x)], LanesMut::F64(y)) => {
            let [alpha, slope, gamma] = [alpha, slope, gamma].map(f64::from);
            math::map(x, y, |x| gamma * if x < 0.0 { alpha * (slope * x).exp_m1() } else { x });
        }
        _ => {}
    }
}

fn limit32(x: f32) -> f32 {
    let x = if x < 0.0 { 0.0 } else { x };
    if x > 1.0 { 1.0 } else { x }
}

fn sigmoid64(x: f64) -> f64 {
    let z = (-x.abs()).exp();
    (if x < 0.0 { z } else { 1.0 }) / (1.0 + z)
}

fn softplus64(x: f64) -> f64 {
    (if x > 0.0 { x } else { 0.0 }) + (-x.abs()).exp().ln_1p()
}

fn shrink64(x: f64, bias: f32, lambda: f32) -> f64 {
    let (bias, lambda) = (f64::from(bias), f64::from(lambda));
    if x < -lambda {
        x + bias
    } else if x > lambda {
        x - bias
    } else {
        0.0
    }
}
