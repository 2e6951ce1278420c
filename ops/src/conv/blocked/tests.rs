use super::super::window::{Padding, Window};
use super::*;
use crate::cpu::check::{numbers, random, with_problem};
use crate::expr::{Expr, ExprNode};
use crate::finish::Finish;
use crate::ir::view::ViewMut;
use crate::layout::{Reorder, blocked_dims};
use crate::operator::CpuRun;
use crate::pointwise::functions::{ADD, RELU, SIGMOID};
use crate::problem::{Epilogue, Operand};

fn conv(groups: usize, strides: [usize; 2], dilations: [usize; 2], pads: [usize; 4]) -> Conv {
    let padding = Padding::Explicit(pads.to_vec());
    let window = Window { kernel: None, strides: strides.to_vec(), dilations: dilations.to_vec(), padding };
    Conv { window, groups }
}

/// Chains of one-argument functions after a sum with operand 0, where `sum`.
fn ending(sum: bool, function: Option<&'static crate::expr::Function>) -> Expr {
    let mut nodes = vec![ExprNode::Accumulator];
    if sum {
        nodes.push(ExprNode::Operand(0));
        nodes.push(ExprNode::Call { function: &ADD, args: vec![0, 1], params: Vec::new() });
    }
    if let Some(function) = function {
        nodes.push(ExprNode::Call { function, args: vec![nodes.len() - 1], params: Vec::new() });
    }
    Expr { results: vec![nodes.len() - 1], nodes }
}

/// Runs the kernel in blocks for every instruction set, on one thread and several, with epilogues of both kinds.
fn check(op: &Conv, x: &[usize], w: &[usize], there: bool) {
    let inputs = [Some(random(x, 7)), Some(random(w, 8)), Some(random(&w[..1], 9))];
    for inputs in [&inputs[..], &inputs[..2]] {
        let views: Vec<_> = inputs.iter().map(|x| x.as_ref().map(Tensor::view)).collect();
        let exact = op.reference(&views, 1).unwrap().remove(0);
        let blocking = with_problem(op, inputs, &[1, 2], |problem, _| {
            op.blocked(problem, LANES, &[there, false, false])
        });
        let blocking = blocking.expect("a way to work in blocks");
        let x = inputs[0].clone().unwrap();
        let x = match blocking.inputs[0] {
            Source::Blocked(0) => {
                let dims = blocked_dims(x.dims(), LANES).unwrap();
                Reorder::into_blocks(x.dims(), dims).reference(&[Some(x.view())], 1).unwrap().remove(0)
            }
            _ => x,
        };
        let operator: &dyn std::any::Any = &*blocking.op;
        let operator = operator.downcast_ref::<BlockedConv>().unwrap();
        let again = operator.reference(&[Some(x.view())], 1).unwrap().remove(0);
        let unblocked = |tensor: &Tensor| match blocking.output {
            true => {
                Reorder::out_of_blocks(exact.dims()).reference(&[Some(tensor.view())], 1).unwrap().remove(0)
            }
            false => tensor.clone(),
        };
        assert_eq!(unblocked(&again).bytes(), exact.bytes());
        let residual = random(again.dims(), 99);
        let plain_residual = unblocked(&residual);
        for isa in Isa::all() {
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                for (sum, function) in [
                    (false, None),
                    (true, None),
                    (true, Some(&RELU)),
                    (false, Some(&RELU)),
                    (true, Some(&SIGMOID)),
                ] {
                    let expr = ending(sum, function);
                    let got = pool.install(|| run(operator, &x, &expr, &residual, isa));
                    let exact = exact.to_vec::<f32>().unwrap();
                    let added = numbers(&plain_residual);
                    for (i, (&got, &exact)) in numbers(&unblocked(&got)).iter().zip(&exact).enumerate() {
                        let exact = exact + if sum { added[i] } else { 0.0 };
                        let exact = match function {
                            Some(function) if *function == RELU => exact.max(0.0),
                            Some(_) => 1.0 / (1.0 + (-exact).exp()),
                            None => exact,
                        };
                        // Sums of a thousand products in f32.
                        assert!(
                            (got - exact).abs() <= 3e-5 * exact.abs().max(1.0),
                            "{operator:?} {isa:?} {threads} {expr:?}: element {i} is {got}, expected {exact}"
                        );
                    }
                }
            }
        }
    }
}

fn run(op: &BlockedConv, x: &Tensor, expr: &Expr, residual: &Tensor, isa: Isa) -> Tensor {
    with_problem(op, &[Some(x.clone())], &[], |problem, dims| {
        let operand = Operand { dtype: DType::F32, dims: residual.dims(), value: None, storage: None };
        let operands = [operand];
        let mut problem = problem.clone();
        problem.epilogue = Some(Epilogue { expr, operands: &operands });
        let kernel = op.kernel(&problem, isa).unwrap();
        let finish = Finish::new(expr, DType::F32, vec![residual.view()], dims).unwrap();
        let mut result = vec![f32::NAN; dims.iter().product()];
        let mut scratch = vec![u64::MAX; kernel.scratch().div_ceil(8)];
        let scratch: &mut [u8] = bytemuck::cast_slice_mut(&mut scratch);
        let bytes = bytemuck::cast_slice_mut(&mut result);
        let mut outputs = [ViewMut { dtype: DType::F32, dims, bytes }];
        let inputs = [Some(x.view())];
        let scratch = &mut scratch[..kernel.scratch()];
        let mut run = CpuRun { inputs: &inputs, outputs: &mut outputs, scratch, finish: Some(&finish) };
        kernel.run(&mut run).unwrap();
        Tensor::from_vec(dims, result).unwrap()
    })
}

#[test]
fn convolutions_of_all_channels_agree() {
    let one = [1, 1];
    let cases: [(Conv, [usize; 4], [usize; 4], bool); 13] = [
        (conv(1, one, one, [0; 4]), [2, 16, 9, 11], [24, 16, 1, 1], true),
        (conv(1, one, one, [0; 4]), [1, 8, 1, 1], [8, 8, 1, 1], true),
        (conv(1, one, one, [0; 4]), [1, 24, 17, 3], [5, 24, 1, 1], true),
        (conv(1, one, one, [0; 4]), [2, 5, 17, 3], [40, 5, 1, 1], false),
        (conv(1, [2, 2], one, [0; 4]), [1, 40, 7, 7], [64, 40, 1, 1], false),
        (conv(1, one, one, [1; 4]), [1, 3, 17, 65], [8, 3, 3, 3], false),
        (conv(1, [2, 2], one, [3; 4]), [2, 3, 33, 31], [24, 3, 7, 7], false),
        (conv(1, one, one, [1; 4]), [2, 8, 13, 7], [16, 8, 3, 3], true),
        (conv(1, [2, 2], one, [1, 0, 2, 1]), [2, 24, 17, 13], [40, 24, 3, 2], true),
        (conv(1, [1, 3], [2, 1], [0, 4, 1, 5]), [1, 8, 9, 31], [17, 8, 3, 5], true),
        (conv(1, one, one, [3; 4]), [1, 8, 1, 1], [16, 8, 7, 7], true),
        (conv(1, one, [12, 12], [12; 4]), [1, 16, 9, 9], [16, 16, 3, 3], true),
        (conv(1, [2, 1], one, [0, 2, 0, 2]), [1, 16, 5, 3], [8, 16, 1, 1], true),
    ];
    for (op, x, w, there) in cases {
        check(&op, &x, &w, there);
    }
}

#[test]
fn large_convolutions_agree() {
    // Several tiles in both directions on each thread.
    check(&conv(1, [1, 1], [1, 1], [1; 4]), &[1, 32, 65, 63], &[48, 32, 3, 3], true);
    check(&conv(1, [1, 1], [1, 1], [1; 4]), &[1, 128, 7, 7], &[136, 128, 3, 3], true);
    check(&conv(1, [1, 1], [1, 1], [0; 4]), &[1, 32, 65, 127], &[72, 32, 1, 1], true);
}

#[test]
fn convolutions_in_fewer_products_agree() {
    let cases: [([usize; 4], [usize; 4], [usize; 4]); 8] = [
        ([1; 4], [2, 16, 17, 13], [24, 16, 3, 3]),
        ([0; 4], [1, 24, 15, 17], [16, 24, 3, 3]),
        ([0, 2, 1, 0], [1, 16, 13, 33], [40, 16, 3, 3]),
        ([1; 4], [1, 16, 129, 1], [16, 16, 3, 3]),
        ([2; 4], [1, 16, 1, 127], [56, 16, 3, 3]),
        ([1; 4], [5, 32, 7, 7], [16, 32, 3, 3]),
        ([1; 4], [1, 256, 14, 14], [24, 256, 3, 3]),
        ([1; 4], [1, 16, 65, 131], [16, 16, 3, 3]),
    ];
    for (pads, x, w) in cases {
        let op = conv(1, [1, 1], [1, 1], pads);
        check(&op, &x, &w, true);
        let inputs = [Some(random(&x, 7)), Some(random(&w, 8))];
        with_problem(&op, &inputs, &[1], |problem, _| {
            let blocking = op.blocked(problem, LANES, &[true, false]).unwrap();
            let operator: &dyn std::any::Any = &*blocking.op;
            let operator = operator.downcast_ref::<BlockedConv>().unwrap();
            assert!(winograd::pays(&operator.sizes), "{x:?}");
        });
    }
}

#[test]
fn convolutions_of_single_channels_agree() {
    let one = [1, 1];
    let cases: [(Conv, [usize; 4], [usize; 4]); 8] = [
        (conv(24, one, one, [1; 4]), [2, 24, 7, 7], [24, 1, 3, 3]),
        (conv(8, one, one, [1; 4]), [1, 8, 113, 112], [8, 1, 3, 3]),
        (conv(16, [2, 2], one, [1; 4]), [1, 16, 65, 63], [16, 1, 3, 3]),
        (conv(8, [2, 3], [2, 3], [2, 1, 0, 3]), [1, 8, 33, 41], [8, 1, 5, 5]),
        (conv(16, one, one, [2; 4]), [1, 16, 3, 3], [16, 1, 5, 5]),
        (conv(8, one, one, [4, 4, 4, 4]), [3, 8, 1, 1], [8, 1, 3, 3]),
        (conv(8, [3, 1], one, [0; 4]), [1, 8, 9, 127], [8, 1, 1, 2]),
        (conv(8, one, [6, 6], [6; 4]), [1, 8, 17, 5], [8, 1, 3, 3]),
    ];
    for (op, x, w) in cases {
        check(&op, &x, &w, true);
    }
}

#[test]
fn what_gains_nothing_stays() {
    let refuses = |op: &Conv, x: &[usize], w: &[usize], there: bool| {
        let inputs = [Some(random(x, 7)), Some(random(w, 8))];
        with_problem(op, &inputs, &[1], |problem, _| op.blocked(problem, LANES, &[there, false]).is_none())
    };
    // Channels that fill no blocks, groups that are not single channels, other ranks.
    assert!(refuses(&conv(1, [1, 1], [1, 1], [0; 4]), &[1, 16, 5, 5], &[5, 16, 1, 1], false));
    assert!(refuses(&conv(2, [1, 1], [1, 1], [0; 4]), &[1, 16, 5, 5], &[16, 8, 1, 1], true));
    assert!(refuses(&conv(12, [1, 1], [1, 1], [0; 4]), &[1, 12, 5, 5], &[12, 1, 1, 1], true));
    // Weights that are not constant.
    let op = conv(1, [1, 1], [1, 1], [0; 4]);
    let inputs = [Some(random(&[1, 8, 3, 3], 7)), Some(random(&[8, 8, 1, 1], 8))];
    assert!(with_problem(&op, &inputs, &[], |problem, _| op
        .blocked(problem, LANES, &[true, false])
        .is_none()));
}
