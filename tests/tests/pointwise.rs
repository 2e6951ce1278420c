//! Pointwise operators on every device.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::sync::Arc;

use sardonyx_ops::DType;
use sardonyx_ops::expr::Expr;
use sardonyx_ops::pointwise::{Pointwise, functions};
use sardonyx_tests::{Check, Random};

#[test]
fn sums_broadcast_in_every_way() {
    let mut random = Random(1);
    let shapes: &[(&[usize], &[usize])] = &[
        (&[1], &[1]),
        (&[17], &[17]),
        (&[3, 65], &[65]),
        (&[3, 64], &[64]),
        (&[2, 5, 127], &[5, 1]),
        (&[2, 5, 128], &[5, 1]),
        (&[3, 1, 7], &[4, 1]),
        (&[2, 3, 4, 5], &[2, 1, 4, 1]),
        (&[1025, 33], &[]),
    ];
    for dtype in [DType::F32, DType::I64] {
        for (a, b) in shapes {
            let op = Pointwise { name: "Add", expr: Expr::call(&functions::ADD, 2, Vec::new()) };
            let inputs = vec![Some(random.tensor_of(dtype, a)), Some(random.tensor_of(dtype, b))];
            Check::new(Arc::new(op), inputs).run();
        }
    }
}
