//! Products of matrices.

use sardonyx_ops::DType;

use crate::driver::{Generator, microsoft, onnx};
use crate::node::{Draw, FLOATS, Node};

pub const GENERATORS: &[Generator] = &[
    onnx("Det", det),
    onnx("Einsum", einsum),
    onnx("Gemm", gemm),
    onnx("MatMul", matmul),
    microsoft("FusedGemm", |draw, node| {
        let node = gemm(draw, node);
        let float = node.inputs[0].as_ref().is_some_and(|a| a.dtype().is_float());
        if float { node.text("activation", "Tanh") } else { node }
    }),
    microsoft("FusedMatMul", fused),
    microsoft("TransposeMatMul", fused),
];

fn dtype(draw: &mut Draw) -> DType {
    match draw.below(8) {
        0 => draw.pick(&[DType::I32, DType::I64, DType::U32]),
        _ => draw.pick(&FLOATS),
    }
}

/// Rows, columns, and what is summed over; sometimes nothing, sometimes a lot.
fn sizes(draw: &mut Draw) -> [usize; 3] {
    let long = if draw.one_in(6) { draw.pick(&[127, 256, 515]) } else { draw.maybe_zero() };
    let (m, n) = (draw.maybe_zero(), draw.maybe_zero());
    [m.min(130), n.min(130), long]
}

/// Leading dimensions of two operands that broadcast.
fn batches(draw: &mut Draw) -> (Vec<usize>, Vec<usize>) {
    let rank = draw.pick(&[0, 0, 1, 1, 2]);
    let dims: Vec<usize> = (0..rank).map(|_| draw.between(1, 4) as usize).collect();
    match draw.below(4) {
        0 => (dims.clone(), draw.broadcast_to(&dims)),
        1 => (draw.broadcast_to(&dims), dims),
        2 => (dims, Vec::new()),
        _ => (dims.clone(), dims),
    }
}

/// Sums of up to 515 products, in f16 relative to the largest.
const LONG: (f64, f64) = (2e-5, 8e-3);

fn matmul(draw: &mut Draw, node: Node) -> Node {
    let dtype = dtype(draw);
    let [m, n, k] = sizes(draw);
    let (a, b) = batches(draw);
    let a = if draw.one_in(8) { vec![k] } else { [a, vec![m, k]].concat() };
    let b = if draw.one_in(8) { vec![k] } else { [b, vec![k, n]].concat() };
    let (a, b) = (draw.data(dtype, &a), draw.data(dtype, &b));
    node.input(draw, a).input(draw, b).tolerance(LONG.0, LONG.1).sums()
}

fn gemm(draw: &mut Draw, node: Node) -> Node {
    let dtype = dtype(draw);
    let [m, n, k] = sizes(draw);
    let (ta, tb) = (draw.flag(), draw.flag());
    let (a, b) = (if ta { [k, m] } else { [m, k] }, if tb { [n, k] } else { [k, n] });
    let (a, b) = (draw.data(dtype, &a), draw.data(dtype, &b));
    let node = node.flag("transA", ta).flag("transB", tb);
    let node =
        if dtype.is_float() && draw.flag() { node.float("alpha", 0.5).float("beta", 1.5) } else { node };
    let node = node.input(draw, a).input(draw, b).tolerance(LONG.0, LONG.1).sums();
    let shape = draw.pick(&[vec![n], vec![m, n], vec![m, 1], vec![1, n], vec![1], vec![]]);
    let c = draw.data(dtype, &shape);
    if draw.one_in(4) { node } else { node.optional(draw, Some(c)) }
}

fn fused(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&FLOATS);
    let [m, n, k] = sizes(draw);
    let (ta, tb) = (draw.flag(), draw.flag());
    let (a, b) = batches(draw);
    let a = [a, if ta { vec![k, m] } else { vec![m, k] }].concat();
    let b = [b, if tb { vec![n, k] } else { vec![k, n] }].concat();
    let (a, b) = (draw.data(dtype, &a), draw.data(dtype, &b));
    let node = node.flag("transA", ta).flag("transB", tb).float("alpha", 0.5);
    node.input(draw, a).input(draw, b).tolerance(LONG.0, LONG.1).sums()
}

/// Small matrices with heavy diagonals, so that no digits cancel.
fn det(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F16, DType::F64]);
    let n = draw.between(1, 5) as usize;
    let batch: Vec<usize> = draw.dims(0, 2).into_iter().map(|dim| dim.min(9)).collect();
    let dims = [batch, vec![n, n]].concat();
    let mut all = sardonyx_tests::numbers(&draw.floats_within(DType::F32, &dims, -0.25, 0.25));
    (0..all.len()).filter(|i| (i % (n * n)).is_multiple_of(n + 1)).for_each(|i| all[i] += 1.5);
    node.input(draw, crate::node::tensor(dtype, &dims, &all)).tolerance(1e-5, 8e-3)
}

fn einsum(draw: &mut Draw, node: Node) -> Node {
    let equation = draw.pick(&[
        "ij,jk->ik",
        "ij,jk",
        "bij,bjk->bik",
        "bhid,bhjd->bhij",
        "i,j->ij",
        "ii->i",
        "ii",
        "ij->ji",
        "ij->j",
        "ij->",
        "bij,kj->bik",
        "ij,ij->i",
        "...ij,...jk->...ik",
        "bijk,bkl->bijl",
        "i,i->",
        "abc,cd,de->abe",
        "bij->bji",
    ]);
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F16, DType::F64, DType::I64]);
    let mut extents = std::collections::HashMap::new();
    let operands = equation.split("->").next().unwrap().split(',');
    let batch: Vec<usize> = (0..draw.below(3)).map(|_| draw.between(1, 3) as usize).collect();
    let node = operands.fold(node.text("equation", equation), |node, term| {
        let mut dims = if term.starts_with("...") { batch.clone() } else { Vec::new() };
        for letter in term.chars().filter(|letter| letter.is_alphabetic()) {
            dims.push(*extents.entry(letter).or_insert_with(|| draw.extent().min(17)));
        }
        let x = draw.data(dtype, &dims);
        node.input(draw, x)
    });
    node.tolerance(LONG.0, LONG.1).sums()
}
