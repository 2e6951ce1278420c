//! Matrix products on every device.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::sync::Arc;

use sardonyx_ops::DType;
use sardonyx_ops::expr::{Expr, ExprNode};
use sardonyx_ops::matmul::gemm::Gemm;
use sardonyx_ops::matmul::matmul::MatMul;
use sardonyx_ops::pointwise::functions;
use sardonyx_ops::restricted::Restricted;
use sardonyx_tests::{Check, Random};

/// `x + operand 0`.
fn residual_sum() -> Expr {
    let add = ExprNode::Call { function: &functions::ADD, args: vec![0, 1], params: Vec::new() };
    Expr { nodes: vec![ExprNode::Accumulator, ExprNode::Operand(0), add], results: vec![2] }
}

#[test]
fn matrices_of_odd_sizes_in_every_layout() {
    let mut random = Random(11);
    let sizes = [(1, 1, 1), (4, 4, 4), (3, 17, 65), (5, 8, 12), (17, 3, 64), (65, 127, 17), (127, 64, 3)];
    for (m, n, k) in sizes {
        for flags in 0..4 {
            let op = MatMul { trans_a: flags & 1 != 0, trans_b: flags & 2 != 0, alpha: 0.5 };
            let a = random.tensor(&if op.trans_a { [k, m] } else { [m, k] });
            let b = random.tensor(&if op.trans_b { [n, k] } else { [k, n] });
            for constant in [&[][..], &[1]] {
                Check::new(Arc::new(op), vec![Some(a.clone()), Some(b.clone())]).constants(constant).run();
            }
        }
    }
}

#[test]
fn batches_broadcast() {
    let mut random = Random(12);
    let cases: [(&[usize], &[usize]); 9] = [
        (&[17], &[17]),
        (&[17], &[3, 17, 5]),
        (&[3, 4, 17], &[17]),
        (&[2, 5, 8], &[2, 8, 12]),
        (&[2, 3, 5, 7], &[7, 9]),
        (&[2, 1, 7, 17], &[3, 17, 65]),
        (&[5, 17], &[2, 3, 17, 9]),
        (&[2, 1, 3, 1, 4, 8], &[1, 2, 1, 3, 8, 4]),
        (&[12, 1, 8], &[12, 8, 64]),
    ];
    for (a, b) in cases {
        let inputs = vec![Some(random.tensor(a)), Some(random.tensor(b))];
        Check::new(Arc::new(MatMul::default()), inputs).run();
    }
}

#[test]
fn few_rows_share_a_long_depth() {
    let mut random = Random(13);
    for (m, n, k) in [(1, 1000, 1280), (1, 7, 333), (3, 64, 512), (2, 5, 67), (1, 4, 3)] {
        for trans_b in [false, true] {
            for trans_a in [false, true] {
                let op = MatMul { trans_a, trans_b, alpha: 1.0 };
                let a = random.tensor(&if trans_a { [k, m] } else { [m, k] });
                let b = random.tensor(&if trans_b { [n, k] } else { [k, n] });
                for constant in [&[][..], &[1]] {
                    let inputs = vec![Some(a.clone()), Some(b.clone())];
                    Check::new(Arc::new(op), inputs).constants(constant).run();
                }
            }
        }
    }
}

#[test]
fn the_tiled_kernel_agrees() {
    let mut random = Random(14);
    for (m, n, k) in [(64, 64, 16), (65, 127, 17), (33, 100, 3), (130, 68, 36)] {
        for flags in 0..4 {
            let op = MatMul { trans_a: flags & 1 != 0, trans_b: flags & 2 != 0, alpha: 2.0 };
            let a = random.tensor(&if op.trans_a { [2, k, m] } else { [2, m, k] });
            let b = random.tensor(&if op.trans_b { [2, n, k] } else { [2, k, n] });
            let op = Arc::new(Restricted { op: Arc::new(op), kernel: "matmul_w64x64".to_owned() });
            Check::new(op, vec![Some(a), Some(b)]).run();
        }
    }
}

#[test]
fn gemm_adds_its_third_input_first() {
    let mut random = Random(15);
    for (m, n, k) in [(1, 10, 17), (17, 65, 12), (64, 36, 3)] {
        let (a, b) = (random.tensor(&[m, k]), random.tensor(&[n, k]));
        let addends: [(&[usize], f32, f32); 5] = [
            (&[], 1.0, 1.0),
            (&[n], 1.0, 1.0),
            (&[m, 1], 0.25, -2.0),
            (&[m, n], 1.0, 0.5),
            (&[1, n], 1.0, 0.0),
        ];
        for (c, alpha, beta) in addends {
            let op = Gemm { alpha, beta, trans_a: false, trans_b: true };
            let inputs = vec![Some(a.clone()), Some(b.clone()), Some(random.tensor(c))];
            let check = Check::new(Arc::new(op), inputs).constants(&[1, 2]);
            check.epilogue(residual_sum(), vec![random.tensor(&[m, n])]).run();
        }
        let op = Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
        let c = random.tensor(&[n]);
        Check::new(Arc::new(op), vec![Some(a.clone()), Some(b.clone()), Some(c)]).run();
        Check::new(Arc::new(op), vec![Some(a), Some(b), None]).run();
    }
}

#[test]
fn half_floats_and_integers() {
    let mut random = Random(16);
    for dtype in [DType::F16, DType::BF16] {
        for (m, n, k) in [(5, 8, 12), (17, 33, 65), (1, 30, 129)] {
            let inputs = vec![Some(random.tensor_of(dtype, &[m, k])), Some(random.tensor_of(dtype, &[k, n]))];
            // bf16 keeps 8 bits.
            let tolerance = if dtype == DType::F16 { 4e-3 } else { 1.6e-2 };
            for constant in [&[][..], &[1]] {
                let check = Check::new(Arc::new(MatMul::default()), inputs.clone()).constants(constant);
                check.tolerance(1e-5, tolerance).run();
            }
        }
    }
    let inputs =
        vec![Some(random.tensor_of(DType::I32, &[5, 7])), Some(random.tensor_of(DType::I32, &[7, 3]))];
    Check::new(Arc::new(MatMul::default()), inputs).cpu_only().run();
}
