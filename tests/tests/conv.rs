//! Convolutions on every device.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::sync::Arc;

use sardonyx_ops::conv::conv::Conv;
use sardonyx_ops::conv::conv_transpose::ConvTranspose;
use sardonyx_ops::conv::window::{Padding, Window};
use sardonyx_ops::expr::{Expr, ExprNode};
use sardonyx_ops::pointwise::functions;
use sardonyx_ops::{DType, Operator};
use sardonyx_tests::{Check, Random};

fn window(strides: &[usize], dilations: &[usize], pads: &[usize]) -> Window {
    let padding = Padding::Explicit(pads.to_vec());
    Window { kernel: None, strides: strides.to_vec(), dilations: dilations.to_vec(), padding }
}

fn conv(groups: usize, strides: &[usize], dilations: &[usize], pads: &[usize]) -> Arc<dyn Operator> {
    Arc::new(Conv { window: window(strides, dilations, pads), groups })
}

fn transpose(groups: usize, strides: &[usize], pads: &[usize]) -> Arc<dyn Operator> {
    let window = window(strides, &[], pads);
    Arc::new(ConvTranspose { window, groups, output_padding: Vec::new(), output_shape: None })
}

/// Constant weights and a bias, and weights given at run time without one. `outputs` is the number of output channels.
fn check(random: &mut Random, op: &Arc<dyn Operator>, x: &[usize], w: &[usize], outputs: usize) {
    let (x, w) = (random.tensor(x), random.tensor(w));
    let bias = random.tensor(&[outputs]);
    let inputs = vec![Some(x.clone()), Some(w.clone()), Some(bias)];
    Check::new(Arc::clone(op), inputs).constants(&[1, 2]).run();
    Check::new(Arc::clone(op), vec![Some(x), Some(w), None]).run();
}

#[test]
fn windows_of_one_element_are_products() {
    let mut random = Random(21);
    check(&mut random, &conv(1, &[], &[], &[]), &[2, 17, 7, 7], &[5, 17, 1, 1], 5);
    check(&mut random, &conv(1, &[], &[], &[]), &[1, 8, 12, 12], &[33, 8, 1, 1], 33);
    check(&mut random, &conv(2, &[], &[], &[]), &[2, 8, 3, 5], &[12, 4, 1, 1], 12);
    check(&mut random, &transpose(2, &[], &[]), &[2, 8, 3, 4], &[8, 5, 1, 1], 10);
}

#[test]
fn any_window_over_images() {
    let mut random = Random(22);
    check(&mut random, &conv(1, &[], &[], &[1, 1, 1, 1]), &[1, 3, 17, 65], &[8, 3, 3, 3], 8);
    check(&mut random, &conv(1, &[], &[], &[1, 1, 1, 1]), &[2, 4, 8, 12], &[5, 4, 3, 3], 5);
    check(&mut random, &conv(1, &[2, 2], &[], &[1, 0, 2, 1]), &[2, 5, 17, 13], &[7, 5, 3, 2], 7);
    check(&mut random, &conv(1, &[1, 3], &[2, 1], &[0, 4, 1, 5]), &[1, 4, 9, 31], &[3, 4, 3, 5], 3);
    check(&mut random, &conv(1, &[2, 1], &[3, 1], &[2, 1, 1, 2]), &[1, 3, 19, 21], &[6, 3, 3, 4], 6);
    check(&mut random, &conv(3, &[], &[1, 2], &[]), &[2, 6, 8, 9], &[9, 2, 3, 3], 9);
    check(&mut random, &conv(1, &[], &[], &[3, 3, 3, 3]), &[1, 2, 1, 1], &[3, 2, 7, 7], 3);
    check(&mut random, &conv(1, &[2, 2], &[], &[]), &[1, 16, 7, 7], &[20, 16, 1, 1], 20);
}

#[test]
fn lines_and_volumes() {
    let mut random = Random(23);
    check(&mut random, &conv(1, &[], &[3], &[6, 6]), &[2, 3, 65], &[5, 3, 5], 5);
    check(&mut random, &conv(1, &[], &[], &[1, 1]), &[2, 3, 127], &[5, 3, 3], 5);
    check(&mut random, &conv(1, &[4], &[], &[1, 2]), &[1, 1, 127], &[3, 1, 10], 3);
    let op = conv(2, &[2, 1, 2], &[1, 2, 1], &[1, 2, 0, 1, 1, 1]);
    check(&mut random, &op, &[2, 4, 5, 7, 9], &[6, 2, 3, 2, 3], 6);
}

#[test]
fn depthwise() {
    let mut random = Random(24);
    check(&mut random, &conv(17, &[], &[], &[1, 1, 1, 1]), &[2, 17, 7, 7], &[17, 1, 3, 3], 17);
    check(&mut random, &conv(3, &[], &[], &[1, 1, 1, 1]), &[1, 3, 17, 32], &[3, 1, 3, 3], 3);
    check(&mut random, &conv(5, &[2, 2], &[], &[1, 1, 1, 1]), &[1, 5, 17, 63], &[5, 1, 3, 3], 5);
    check(&mut random, &conv(5, &[2, 3], &[2, 3], &[2, 1, 0, 3]), &[1, 5, 33, 41], &[10, 1, 5, 5], 10);
    check(&mut random, &conv(4, &[], &[], &[5, 5]), &[3, 4, 17], &[12, 1, 3], 12);
    check(&mut random, &conv(2, &[], &[], &[1, 1, 1, 1, 1, 1]), &[1, 2, 3, 4, 5], &[4, 1, 3, 3, 3], 4);
}

#[test]
fn transposed() {
    let mut random = Random(25);
    check(&mut random, &transpose(1, &[2, 2], &[]), &[2, 17, 7, 9], &[17, 5, 2, 2], 5);
    check(&mut random, &transpose(1, &[2, 2], &[1, 1, 1, 1]), &[1, 3, 9, 17], &[3, 9, 4, 4], 9);
    check(&mut random, &transpose(3, &[2, 1], &[1, 0, 0, 1]), &[2, 6, 5, 7], &[6, 2, 3, 3], 6);
    check(&mut random, &transpose(2, &[3], &[1, 2]), &[2, 4, 65], &[4, 3, 5], 6);
    let volume = transpose(1, &[2, 1, 2], &[0, 1, 1, 1, 0, 1]);
    check(&mut random, &volume, &[1, 2, 3, 4, 5], &[2, 3, 3, 2, 3], 3);
    let op = ConvTranspose {
        window: Window { padding: Padding::SameLower, ..window(&[2, 3], &[2, 1], &[]) },
        groups: 1,
        output_padding: vec![1, 0],
        output_shape: Some(vec![13, 20]),
    };
    let op: Arc<dyn Operator> = Arc::new(op);
    check(&mut random, &op, &[1, 3, 6, 5], &[3, 4, 3, 4], 4);
}

#[test]
fn epilogues_and_half_floats() {
    let mut random = Random(26);
    let add = ExprNode::Call { function: &functions::ADD, args: vec![0, 1], params: Vec::new() };
    let residual = Expr { nodes: vec![ExprNode::Accumulator, ExprNode::Operand(0), add], results: vec![2] };
    for (groups, size, kernel) in [(1, 8, 1), (1, 8, 3), (1, 7, 3), (4, 8, 3), (4, 9, 3)] {
        let pad = kernel / 2;
        let op = conv(groups, &[], &[], &[pad; 4]);
        let shapes = [vec![2, 4, size, size], vec![4, 4 / groups, kernel, kernel], vec![4]];
        let inputs: Vec<_> = shapes.iter().map(|dims| Some(random.tensor(dims))).collect();
        let other = random.tensor(&shapes[0]);
        let check = Check::new(Arc::clone(&op), inputs).constants(&[1, 2]);
        check.epilogue(residual.clone(), vec![other]).run();
        let narrow: Vec<_> = shapes.iter().map(|dims| Some(random.tensor_of(DType::F16, dims))).collect();
        Check::new(op, narrow).constants(&[1, 2]).run();
    }
}
