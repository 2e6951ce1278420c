//! Reductions, positions of extremes, running sums.

use sardonyx_ops::DType;

use crate::driver::{Generator, onnx};
use crate::node::{Draw, Node};

pub const GENERATORS: &[Generator] = &[
    onnx("ArgMax", position),
    onnx("ArgMin", position),
    onnx("CumProd", running),
    onnx("CumSum", running),
    onnx("GlobalAveragePool", spatial),
    onnx("GlobalMaxPool", spatial),
    onnx("ReduceL1", |draw, node| sum(draw, node, 18)),
    onnx("ReduceL2", float_sum),
    onnx("ReduceLogSum", float_sum),
    onnx("ReduceLogSumExp", float_sum),
    onnx("ReduceMax", extreme),
    onnx("ReduceMean", float_sum),
    onnx("ReduceMin", extreme),
    onnx("ReduceProd", product),
    onnx("ReduceSum", |draw, node| sum(draw, node, 13)),
    onnx("ReduceSumSquare", |draw, node| sum(draw, node, 18)),
];

/// Axes as an input, as an attribute in older opsets, or none.
fn over(draw: &mut Draw, node: Node, data: sardonyx_ops::Tensor, since: i64) -> Node {
    let rank = data.dims().len();
    let keep = draw.flag();
    let node = node.flag("keepdims", keep).input(draw, data);
    let axes = draw.axes(rank, 0);
    let axes: Vec<i64> = axes.iter().map(|&axis| draw.signed(axis, rank)).collect();
    match draw.below(4) {
        0 if since <= 18 && !axes.is_empty() => node.opset(since - 1).ints("axes", &axes),
        1 => node,
        2 => {
            let axes = draw.vector(DType::I64, &axes);
            node.flag("noop_with_empty_axes", true).setting(draw, axes)
        }
        _ => {
            let axes = draw.vector(DType::I64, &axes);
            node.setting(draw, axes)
        }
    }
}

fn sum(draw: &mut Draw, node: Node, since: i64) -> Node {
    let dtype = match draw.below(6) {
        0 => draw.pick(&[DType::I32, DType::I64, DType::U32, DType::U64]),
        _ => draw.float_type(),
    };
    let dims = draw.dims(0, 5);
    // Positive floats, so that no sum is nothing but the rounding of its terms.
    let data = draw.floats_within(dtype, &dims, 0.25, 2.0);
    over(draw, node, data, since)
}

fn float_sum(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let dims = draw.dims(0, 5);
    let data = draw.floats_within(dtype, &dims, 0.25, 2.0);
    over(draw, node, data, 18)
}

/// Few factors: the product of many is zero or infinite in f16.
fn product(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F64, DType::F16, DType::I32, DType::I64]);
    let dims: Vec<usize> = draw.dims(0, 3).into_iter().map(|dim| dim.min(5)).collect();
    let data = draw.floats_within(dtype, &dims, 0.75, 1.25);
    // Each of up to 125 factors is rounded.
    over(draw, node, data, 18).tolerance(1e-5, 4e-3)
}

fn extreme(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.any_type();
    let dims = draw.dims(0, 5);
    let data = draw.extremes(dtype, &dims);
    over(draw, node, data, 18)
}

fn position(draw: &mut Draw, node: Node) -> Node {
    draw.no_zeros();
    let dtype = draw.number_type();
    let dims = draw.dims(1, 4);
    let (_, axis) = draw.axis(dims.len());
    let (keep, last) = (draw.flag(), draw.flag());
    let data = draw.extremes(dtype, &dims);
    let node = node.int("axis", axis).flag("keepdims", keep).flag("select_last_index", last);
    node.input(draw, data)
}

fn running(draw: &mut Draw, node: Node) -> Node {
    let all = [DType::F32, DType::F32, DType::F16, DType::F64, DType::I32, DType::I64, DType::U32];
    let dtype = draw.pick(&all);
    let product = node.name == "CumProd";
    let mut dims = draw.dims(1, 4);
    if product {
        dims.iter_mut().for_each(|dim| *dim = (*dim).min(8));
    }
    let (_, axis) = draw.axis(dims.len());
    let data = draw.floats_within(dtype, &dims, 0.5, 1.5);
    let (exclusive, reverse) = (draw.flag(), draw.flag());
    let index = draw.pick(&[DType::I32, DType::I64]);
    let axis = crate::node::tensor(index, &[], &[axis as f64]);
    node.flag("exclusive", exclusive).flag("reverse", reverse).input(draw, data).setting(draw, axis)
}

fn spatial(draw: &mut Draw, node: Node) -> Node {
    draw.no_zeros();
    let dtype = draw.float_type();
    let dims = draw.dims(3, 5);
    let x = draw.floats_within(dtype, &dims, 0.25, 2.0);
    node.input(draw, x)
}
