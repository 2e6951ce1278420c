//! Normalisations and softmax.

use sardonyx_ops::{DType, Tensor};

use crate::driver::{Generator, microsoft, onnx};
use crate::node::{Draw, FLOATS, Node};

pub const GENERATORS: &[Generator] = &[
    onnx("BatchNormalization", batch),
    onnx("GroupNormalization", group),
    onnx("Hardmax", |draw, node| soft(draw, node).unhalved()),
    onnx("InstanceNormalization", instance),
    onnx("LayerNormalization", layer),
    onnx("LogSoftmax", soft),
    onnx("LpNormalization", lp),
    onnx("LRN", lrn),
    onnx("MeanVarianceNormalization", mean_variance),
    onnx("RMSNormalization", layer),
    onnx("SimplifiedLayerNormalization", |draw, node| simplified(draw, node.opset(17))),
    microsoft("SimplifiedLayerNormalization", simplified),
    microsoft("SkipLayerNormalization", skip),
    microsoft("SkipSimplifiedLayerNormalization", skip),
    onnx("Softmax", soft),
];

fn soft(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let dims = draw.dims(1, 4);
    let x = draw.data(dtype, &dims);
    let (_, axis) = draw.axis(dims.len());
    // Before opset 13 all dimensions from the axis on are one.
    let node = if draw.one_in(4) { node.opset(11) } else { node };
    let node = if draw.one_in(6) { node } else { node.int("axis", axis) };
    node.input(draw, x)
}

/// Data whose lines have a spread: what is left of one without is rounding.
fn spread(draw: &mut Draw, dtype: DType, dims: &[usize]) -> Tensor {
    let noise = sardonyx_tests::numbers(&draw.data(DType::F32, dims));
    let wave = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
    let all: Vec<f64> = noise.iter().enumerate().map(|(i, x)| x / 4.0 + wave(i)).collect();
    crate::node::tensor(dtype, dims, &all)
}

/// Two positive or any vectors for channels.
fn vectors(draw: &mut Draw, dtype: DType, count: usize, node: Node) -> Node {
    let (scale, bias) = (draw.data(dtype, &[count]), draw.data(dtype, &[count]));
    node.setting(draw, scale).setting(draw, bias)
}

fn batch(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let dims = draw.dims(2, 5);
    let x = draw.data(dtype, &dims);
    let node = node.float("epsilon", 1e-3).input(draw, x);
    let node = vectors(draw, dtype, dims[1], node);
    let mean = draw.data(dtype, &dims[1..2]);
    let variance = draw.floats_within(dtype, &dims[1..2], 0.5, 2.0);
    node.setting(draw, mean).setting(draw, variance).tolerance(1e-5, 1e-2)
}

fn group(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let mut dims = draw.full_dims(3, 5);
    let groups = draw.between(1, 4) as usize;
    dims[1] = groups * draw.between(1, 4) as usize;
    let x = spread(draw, dtype, &dims);
    let (old, epsilon) = (draw.one_in(4), 1e-2);
    let node = node.int("num_groups", groups as i64).float("epsilon", epsilon).input(draw, x);
    let node = if old { node.opset(18) } else { node };
    vectors(draw, dtype, if old { groups } else { dims[1] }, node).tolerance(2e-5, 1e-2)
}

fn instance(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let dims = draw.full_dims(3, 5);
    let x = spread(draw, dtype, &dims);
    let node = node.float("epsilon", 1e-2).input(draw, x);
    vectors(draw, dtype, dims[1], node).tolerance(2e-5, 1e-2)
}

fn layer(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let dims = draw.dims(1, 4);
    let (axis, written) = draw.axis(dims.len());
    let x = spread(draw, dtype, &dims);
    let node = if draw.one_in(5) { node } else { node.int("axis", written) };
    let axis = if node.attributes.is_empty() { dims.len() - 1 } else { axis };
    let shape = if draw.one_in(3) { draw.broadcast_to(&dims[axis..]) } else { dims[axis..].to_vec() };
    let (scale, bias) = (draw.data(dtype, &shape), draw.data(dtype, &shape));
    let full = node.name == "LayerNormalization";
    let node = node.float("epsilon", 1e-2).input(draw, x).setting(draw, scale).tolerance(2e-5, 1e-2);
    let node = if full && draw.flag() { node.setting(draw, bias) } else { node };
    if full && draw.one_in(3) { node.some_outputs(draw, 3, 1) } else { node }
}

fn simplified(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&FLOATS[..5]);
    let dims = draw.dims(1, 4);
    let x = spread(draw, dtype, &dims);
    let scale = draw.data(dtype, &dims[dims.len() - 1..]);
    let node = node.float("epsilon", 1e-2).input(draw, x).setting(draw, scale);
    node.tolerance(2e-5, 1e-2)
}

fn skip(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&FLOATS[..4]);
    let dims = draw.dims(3, 3);
    let shared = draw.one_in(4);
    let x = spread(draw, dtype, &dims);
    let skip = draw.data(dtype, if shared { &dims[1..] } else { &dims });
    let last = &dims[2..];
    let (gamma, beta, bias) = (draw.data(dtype, last), draw.data(dtype, last), draw.data(dtype, last));
    let (with_beta, with_bias) = (draw.flag(), draw.flag());
    let simplified = node.name.contains("Simplified");
    let node = node.float("epsilon", 1e-2).input(draw, x).input(draw, skip).setting(draw, gamma);
    let node = match (simplified, with_beta, with_bias) {
        (true, _, false) | (false, false, false) => node,
        (true, _, true) => node.setting(draw, bias),
        (false, true, false) => node.setting(draw, beta),
        (false, true, true) => node.setting(draw, beta).setting(draw, bias),
        (false, false, true) => node.optional(draw, None).setting(draw, bias),
    };
    let node = if draw.one_in(3) { node.some_outputs(draw, 4, 1) } else { node };
    node.tolerance(2e-5, 1e-2)
}

fn lp(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let dims = draw.dims(1, 4);
    let (_, axis) = draw.axis(dims.len());
    let x = spread(draw, dtype, &dims);
    let p = draw.between(1, 2);
    node.int("axis", axis).int("p", p).input(draw, x)
}

fn lrn(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let dims = draw.dims(3, 5);
    let x = draw.data(dtype, &dims);
    let size = draw.between(1, 9);
    let node = node.int("size", size).float("alpha", 0.25).float("beta", 0.75).float("bias", 1.5);
    node.input(draw, x)
}

fn mean_variance(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let dims = draw.full_dims(4, 4);
    let axes = draw.axes(4, 1);
    let longest = axes.iter().map(|&axis| dims[axis]).product::<usize>();
    // The deviation of one element, or of a few that may be alike, is rounding.
    let dims = if longest < 8 { vec![2, 3, 4, 5] } else { dims };
    let x = draw.data(dtype, &dims);
    let axes: Vec<i64> = axes.iter().map(|&axis| draw.signed(axis, 4)).collect();
    let whole = longest < 8 || draw.flag();
    let node = if whole { node } else { node.ints("axes", &axes) };
    let x = if whole { spread(draw, dtype, &[2, 3, 4, 5]) } else { x };
    node.input(draw, x).tolerance(5e-5, 1e-2)
}
