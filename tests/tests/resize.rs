//! Resizing on every device.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::sync::Arc;

use sardonyx_ops::resize::grid_sample::{GridSample, Interpolation, Padding};
use sardonyx_ops::resize::resize::{Inputs, Policy, Resize};
use sardonyx_ops::resize::table::{Method, Mode, Nearest, Transform};
use sardonyx_ops::{DType, Tensor};
use sardonyx_tests::{Check, Random};

fn op(mode: Mode, transform: Transform, antialias: bool, exclude_outside: bool) -> Resize {
    let method = Method { mode, transform, antialias, exclude_outside };
    Resize {
        method,
        axes: None,
        extrapolation: 7.5,
        policy: Policy::Stretch,
        inputs: Inputs::RegionScalesSizes,
        name: "Resize",
    }
}

fn check(op: Resize, x: Tensor, region: Option<&[f32]>, sizes: &[i64]) {
    let floats = |all: &[f32]| Tensor::from_slice(&[all.len()], all).unwrap();
    let sizes = Tensor::from_slice(&[sizes.len()], sizes).unwrap();
    let inputs = vec![Some(x), region.map(floats), None, Some(sizes)];
    let constants: &[usize] = if region.is_some() { &[1, 3] } else { &[3] };
    Check::new(Arc::new(op), inputs).constants(constants).run();
}

const SIZES: [(&[usize], &[i64]); 5] = [
    (&[1, 3, 17, 33], &[1, 3, 34, 66]),
    (&[2, 3, 16, 9], &[2, 3, 5, 7]),
    (&[1, 7, 9, 8], &[1, 14, 20, 8]),
    (&[1, 1, 1, 5], &[1, 1, 3, 1]),
    (&[2, 5, 3, 4], &[2, 4, 7, 9]),
];

#[test]
fn interpolation_in_every_mode() {
    let mut random = Random(31);
    for (dims, sizes) in SIZES {
        for transform in [
            Transform::HalfPixel,
            Transform::HalfPixelSymmetric,
            Transform::PytorchHalfPixel,
            Transform::AlignCorners,
            Transform::Asymmetric,
        ] {
            check(op(Mode::Linear, transform, false, false), random.tensor(dims), None, sizes);
            check(op(Mode::Cubic(-0.75), transform, false, true), random.tensor(dims), None, sizes);
        }
        check(op(Mode::Linear, Transform::HalfPixel, true, false), random.tensor(dims), None, sizes);
        check(op(Mode::Cubic(-0.5), Transform::HalfPixel, true, true), random.tensor(dims), None, sizes);
    }
}

#[test]
fn nearest_elements_of_every_type() {
    let mut random = Random(32);
    for dtype in [DType::F32, DType::F16, DType::I64, DType::U8, DType::Bool] {
        for (dims, sizes) in SIZES {
            for nearest in
                [Nearest::RoundPreferFloor, Nearest::RoundPreferCeil, Nearest::Floor, Nearest::Ceil]
            {
                let op = op(Mode::Nearest(nearest), Transform::HalfPixel, false, false);
                check(op, random.tensor_of(dtype, dims), None, sizes);
            }
        }
    }
}

#[test]
fn cropping_extrapolates() {
    let mut random = Random(33);
    let region = [0.0, 0.0, -0.2, 0.1, 1.0, 1.0, 0.9, 1.3];
    for mode in [Mode::Linear, Mode::Cubic(-0.75), Mode::Nearest(Nearest::Floor)] {
        let op = op(mode, Transform::TfCropAndResize, false, false);
        check(op, random.tensor(&[1, 2, 7, 9]), Some(&region), &[1, 2, 11, 5]);
    }
}

#[test]
fn grids() {
    let mut random = Random(34);
    for interpolation in [Interpolation::Nearest, Interpolation::Linear, Interpolation::Cubic] {
        for padding in [Padding::Zeros, Padding::Border, Padding::Reflection] {
            for align_corners in [false, true] {
                for (dims, points) in [
                    (&[2, 3, 9][..], &[2, 17, 1][..]),
                    (&[1, 3, 5, 7], &[1, 6, 5, 2]),
                    (&[1, 2, 3, 4, 5], &[1, 2, 3, 5, 3]),
                ] {
                    let op = GridSample { interpolation, padding, align_corners };
                    let len = points.iter().product();
                    let grid: Vec<f32> = (0..len).map(|_| random.float(-1.7, 1.7)).collect();
                    let grid = Tensor::from_vec(points, grid).unwrap();
                    // Positions of 32 bits differ in the last place, times the largest step between two elements.
                    // Positions of 16 bits would choose other elements.
                    let check = Check::new(Arc::new(op), vec![Some(random.tensor(dims)), Some(grid)]);
                    check.tolerance(1e-4, 2e-2).as_modelled().run();
                }
            }
        }
    }
}
