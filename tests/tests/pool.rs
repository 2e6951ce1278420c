//! Pooling on every device.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::sync::Arc;

use sardonyx_ops::Operator;
use sardonyx_ops::pool::average_pool::AveragePool;
use sardonyx_ops::pool::lp_pool::LpPool;
use sardonyx_ops::pool::max_pool::MaxPool;
use sardonyx_ops::pool::window::{AutoPad, Window};
use sardonyx_tests::{Check, Random};

fn check(dims: &[usize], window: Window) {
    let mut random = Random(21);
    let max = MaxPool { window: window.clone(), indices: false, column_major: false };
    let mean = AveragePool { window: window.clone(), include_pad: false };
    let padded = AveragePool { window: window.clone(), include_pad: true };
    let ops: [Arc<dyn Operator>; 4] =
        [Arc::new(max), Arc::new(mean), Arc::new(padded), Arc::new(LpPool { window, p: 2.0 })];
    for op in ops {
        Check::new(op, vec![Some(random.tensor(dims))]).run();
    }
}

#[test]
fn windows_of_every_rank() {
    for (dims, kernel, strides, dilations, pads, ceil) in [
        (&[2, 3, 65][..], &[3][..], &[2][..], &[1][..], &[1, 0][..], false),
        (&[1, 3, 17, 33], &[3, 3], &[2, 2], &[1, 1], &[1, 1, 1, 1], false),
        (&[2, 1, 15, 9], &[2, 3], &[3, 2], &[1, 2], &[0, 2, 1, 1], true),
        (&[1, 2, 5, 6, 7], &[2, 3, 2], &[1, 2, 3], &[2, 1, 1], &[0, 1, 0, 1, 1, 1], true),
        (&[1, 1, 1, 1], &[1, 1], &[1, 1], &[1, 1], &[0, 0, 0, 0], false),
    ] {
        let window = Window {
            kernel: kernel.to_vec(),
            strides: strides.to_vec(),
            dilations: dilations.to_vec(),
            pads: pads.to_vec(),
            auto_pad: AutoPad::NotSet,
            ceil,
        };
        check(dims, window);
    }
}

#[test]
fn automatic_padding() {
    for auto_pad in [AutoPad::SameUpper, AutoPad::SameLower, AutoPad::Valid] {
        let window = Window {
            kernel: vec![3, 2],
            strides: vec![2, 3],
            dilations: vec![1, 1],
            pads: vec![0; 4],
            auto_pad,
            ceil: false,
        };
        check(&[2, 3, 13, 10], window);
    }
}
