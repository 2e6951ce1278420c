//! Tensors beyond what a device binds at once: bound in pieces.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::sync::Arc;

use sardonyx_ops::conv::conv::Conv;
use sardonyx_ops::conv::window::{Padding, Window};
use sardonyx_ops::expr::Expr;
use sardonyx_ops::matmul::matmul::MatMul;
use sardonyx_ops::movement::concat::Concat;
use sardonyx_ops::movement::gather::Gather;
use sardonyx_ops::movement::transpose::Transpose;
use sardonyx_ops::norm::{Form, Softmax};
use sardonyx_ops::pointwise::{Pointwise, functions};
use sardonyx_ops::{DType, Operator, Tensor};
use sardonyx_tests::{Check, Random};

/// A piece holds 1024 elements of f32.
const BINDING: u64 = 4096;

fn check(op: impl Operator + 'static, inputs: Vec<Tensor>) -> Check {
    Check::new(Arc::new(op), inputs.into_iter().map(Some).collect()).binding_bytes(BINDING)
}

#[test]
fn products_and_windows() {
    let mut random = Random(51);
    // Weights of three pieces, at load and at run time; factors and results of two.
    let (a, b) = (random.tensor(&[17, 65]), random.tensor(&[65, 33]));
    check(MatMul::default(), vec![a.clone(), b.clone()]).run();
    check(MatMul::default(), vec![a, b]).constants(&[1]).run();
    let (one, table) = (random.tensor(&[1, 65]), random.tensor(&[65, 40]));
    check(MatMul::default(), vec![one, table]).constants(&[1]).run();
    let padding = Padding::Explicit(vec![1, 1, 1, 1]);
    let window = Window { kernel: None, strides: Vec::new(), dilations: Vec::new(), padding };
    let (x, w) = (random.tensor(&[1, 5, 17, 17]), random.tensor(&[8, 5, 3, 3]));
    check(Conv { window, groups: 1 }, vec![x, w]).constants(&[1]).run();
}

#[test]
fn movement() {
    let mut random = Random(52);
    let x = random.tensor(&[33, 65]);
    check(Transpose { perm: Some(vec![1, 0]) }, vec![x.clone()]).run();
    check(Concat { axis: 0 }, vec![random.tensor(&[17, 65]), random.tensor(&[18, 65])]).run();
    let rows = Tensor::from_vec(&[5], vec![32i64, 0, 31, 16, 15]).unwrap();
    check(Gather { axis: 0 }, vec![x, rows]).constants(&[0]).run();
}

#[test]
fn every_element_type() {
    let mut random = Random(53);
    for dtype in
        [DType::F32, DType::F16, DType::I32, DType::U32, DType::I64, DType::I8, DType::U8, DType::Bool]
    {
        // Two or three pieces, so that every device has bindings for what goes in and what comes out.
        let dims: &[usize] = match dtype {
            DType::I64 => &[17, 65],
            DType::I8 | DType::U8 | DType::Bool => &[3, 17, 127],
            _ => &[17, 127],
        };
        let function = if dtype == DType::Bool { &functions::XOR } else { &functions::MAX };
        let op = Pointwise { name: "Test", expr: Expr::call(function, 2, Vec::new()) };
        check(op, vec![random.tensor_of(dtype, dims), random.tensor_of(dtype, &[1])]).run();
    }
    check(Softmax { form: Form::Soft, axis: -1, flatten: false }, vec![random.tensor(&[17, 127])]).run();
}
