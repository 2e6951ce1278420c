//! Reductions, positions of extremes and running sums on every device.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::sync::Arc;

use sardonyx_ops::expr::{Expr, ExprNode};
use sardonyx_ops::pointwise::functions;
use sardonyx_ops::reduce::{ArgMax, Axes, CumSum, Kind, Reduce, Reduced};
use sardonyx_ops::{DType, Tensor};
use sardonyx_tests::{Check, Random};

const KINDS: [Kind; 10] = [
    Kind::Sum,
    Kind::Mean,
    Kind::Max,
    Kind::Min,
    Kind::Prod,
    Kind::L1,
    Kind::L2,
    Kind::LogSum,
    Kind::LogSumExp,
    Kind::SumSquare,
];

fn reduce(kind: Kind, axes: &[i64]) -> Arc<Reduce> {
    let axes = Axes::Attribute(axes.to_vec());
    let reduced = Reduced { axes, keepdims: false, noop_with_empty_axes: false };
    Arc::new(Reduce { name: "Reduce", kind, reduced })
}

/// Positive numbers, so that sums have logarithms and relative errors mean something.
fn positive(random: &mut Random, dims: &[usize]) -> Tensor {
    let len = dims.iter().product();
    Tensor::from_vec(dims, (0..len).map(|_| random.float(0.5, 1.5)).collect::<Vec<f32>>()).unwrap()
}

#[test]
fn every_kind_over_rows_columns_and_both() {
    let mut random = Random(11);
    for kind in KINDS {
        // A product of many factors spreads over too many magnitudes to compare.
        let long = if kind == Kind::Prod { 33 } else { 1027 };
        for (dims, axes) in [
            (&[3, 17][..], &[-1][..]),
            (&[5, long], &[1]),
            (&[3, 17, 8], &[1]),
            (&[2, 65, 3], &[1]),
            (&[2, 3, 4, 5], &[0, 2, 3]),
            (&[1], &[0]),
        ] {
            Check::new(reduce(kind, axes), vec![Some(positive(&mut random, dims))]).run();
        }
    }
}

#[test]
fn lines_of_every_length() {
    let mut random = Random(12);
    for len in [1, 3, 4, 63, 64, 65, 127, 256, 2049] {
        for (outer, inner) in [(1, 1), (3, 1), (129, 1), (2, 3), (1, 4), (3, 17), (2, 260)] {
            for kind in [Kind::Mean, Kind::Max, Kind::LogSumExp] {
                let data = random.tensor(&[outer, len, inner]);
                Check::new(reduce(kind, &[1]), vec![Some(data)]).run();
            }
        }
    }
}

#[test]
fn long_reductions_go_in_segments() {
    let mut random = Random(13);
    for dims in [[1, 100_003, 1], [1, 70_000, 1], [1, 20_001, 4], [2, 9_999, 3]] {
        for kind in [Kind::Mean, Kind::LogSumExp, Kind::L2] {
            Check::new(reduce(kind, &[1]), vec![Some(positive(&mut random, &dims))]).run();
        }
    }
}

#[test]
fn integers_and_truth_values_are_exact() {
    let mut random = Random(14);
    for dims in [&[3, 17, 5][..], &[2, 100, 1], &[1, 129, 8], &[5, 3, 4]] {
        for dtype in [DType::I32, DType::U32, DType::I64] {
            for kind in [Kind::Sum, Kind::Max, Kind::Min] {
                Check::new(reduce(kind, &[1]), vec![Some(random.tensor_of(dtype, dims))]).run();
            }
        }
        for dtype in [DType::I8, DType::U8, DType::I16, DType::Bool] {
            for kind in [Kind::Max, Kind::Min] {
                Check::new(reduce(kind, &[1]), vec![Some(random.tensor_of(dtype, dims))]).run();
            }
        }
        for kind in [Kind::L1, Kind::SumSquare] {
            Check::new(reduce(kind, &[1]), vec![Some(random.tensor_of(DType::I32, dims))]).run();
        }
    }
    let halves = random.tensor_of(DType::I64, &[3, 5]);
    Check::new(reduce(Kind::Mean, &[1]), vec![Some(halves)]).cpu_only().run();
    // Beyond 32 bits, and with both signs.
    let wide =
        Tensor::from_vec(&[2, 3], vec![1i64 << 40, -(1 << 35), 7, -1, 0xffff_ffff, -(1 << 62)]).unwrap();
    for kind in [Kind::Sum, Kind::Max, Kind::Min] {
        Check::new(reduce(kind, &[1]), vec![Some(wide.clone())]).run();
    }
}

#[test]
fn half_floats_sum_in_full_precision() {
    let mut random = Random(15);
    for dims in [[3, 17, 5], [2, 1000, 1], [1, 65, 8]] {
        for kind in [Kind::Mean, Kind::Max, Kind::L2] {
            Check::new(reduce(kind, &[1]), vec![Some(random.tensor_of(DType::F16, &dims))]).run();
        }
    }
}

#[test]
fn results_pass_through_an_epilogue() {
    let mut random = Random(16);
    let expr = Expr {
        nodes: vec![
            ExprNode::Accumulator,
            ExprNode::Operand(0),
            ExprNode::Call { function: &functions::ADD, args: vec![0, 1], params: Vec::new() },
        ],
        results: vec![2],
    };
    for dims in [[3, 17, 5], [7, 100, 1], [1, 65, 8]] {
        let operand = random.tensor(&[dims[2]]);
        let data = random.tensor(&dims);
        Check::new(reduce(Kind::Mean, &[1]), vec![Some(data)]).epilogue(expr.clone(), vec![operand]).run();
    }
}

#[test]
fn axes_may_be_a_constant_input() {
    let mut random = Random(17);
    let reduced = Reduced { axes: Axes::Input, keepdims: true, noop_with_empty_axes: false };
    let op = Arc::new(Reduce { name: "ReduceSum", kind: Kind::Sum, reduced });
    let axes = Tensor::from_vec(&[2], vec![-1i64, 0]).unwrap();
    let inputs = vec![Some(random.tensor(&[3, 5, 7])), Some(axes)];
    Check::new(op, inputs).constants(&[1]).run();
}

#[test]
fn positions_of_extremes() {
    let mut random = Random(18);
    for dims in
        [&[3, 17, 1][..], &[2, 300, 1], &[1, 5001, 1], &[2, 5, 8], &[3, 7, 3], &[1, 129, 5], &[1, 1, 1]]
    {
        for (smallest, select_last_index) in [(false, false), (true, true), (false, true), (true, false)] {
            // Few values, so that ties are common.
            for dtype in [DType::F32, DType::I32, DType::U8, DType::F16] {
                let op = ArgMax { smallest, axis: 1, keepdims: true, select_last_index };
                let data = match dtype {
                    DType::F32 => {
                        let len = dims.iter().product();
                        let all: Vec<f32> = (0..len).map(|_| random.below(9) as f32).collect();
                        Tensor::from_vec(dims, all).unwrap()
                    }
                    other => random.tensor_of(other, dims),
                };
                Check::new(Arc::new(op), vec![Some(data)]).run();
            }
        }
    }
    let op = ArgMax { smallest: false, axis: 0, keepdims: false, select_last_index: false };
    Check::new(Arc::new(op), vec![Some(random.tensor_of(DType::I64, &[5, 3]))]).cpu_only().run();
}

#[test]
fn running_sums_and_products() {
    let mut random = Random(19);
    for dims in [&[3, 17, 1][..], &[2, 65, 8], &[127, 3, 5], &[1, 1000, 1]] {
        for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
            for dtype in [DType::F32, DType::I64, DType::I32, DType::F16] {
                let inputs = vec![Some(random.tensor_of(dtype, dims)), Some(Tensor::scalar(1i64))];
                let sum = CumSum { product: false, exclusive, reverse };
                Check::new(Arc::new(sum), inputs).constants(&[1]).run();
            }
            let inputs = vec![Some(positive(&mut random, &[3, 33, dims[2]])), Some(Tensor::scalar(1i64))];
            let product = CumSum { product: true, exclusive, reverse };
            Check::new(Arc::new(product), inputs).constants(&[1]).run();
        }
    }
}
