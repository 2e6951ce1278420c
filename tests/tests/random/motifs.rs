//! What exporters write in several nodes and planning may take for one operator: normalisations, activations, attention,
//! rotary embeddings, quantized layers. Now and then a detail is off, so that it is not that operator.

use sardonyx_ops::{DType, Tensor};

use crate::graphs::Builder;
use crate::node::{Draw, Node, tensor};

/// Adds one of them behind value `at`.
pub fn add(draw: &mut Draw, builder: &mut Builder, at: usize) {
    let dims = builder.dims(at);
    match (draw.below(10), dims.len()) {
        (0, 1..) => layer_norm(draw, builder, at),
        (1, 1..) => root_mean_square(draw, builder, at),
        (2, 3) if dims.iter().product::<usize>() <= 2000 => attention(draw, builder, at),
        (3, 1..) if dims[dims.len() - 1].is_multiple_of(2) => rotary(draw, builder, at),
        (4, 4) => conv_norm(draw, builder, at),
        (5, 2..) => quantized(draw, builder),
        (6, 2..) => dense(draw, builder, at),
        (7 | 8, 1..) => shapes(draw, builder, at),
        _ => gelu(draw, builder, at),
    }
}

fn node(name: &'static str) -> Node {
    Node::new("", name)
}

fn number(x: f64) -> Tensor {
    tensor(DType::F32, &[], &[x])
}

/// One number, or now and then another one.
fn about(draw: &mut Draw, x: f64) -> Tensor {
    number(if draw.one_in(6) { x + 0.125 } else { x })
}

fn gelu(draw: &mut Draw, builder: &mut Builder, at: usize) {
    if draw.one_in(3) {
        let gate = builder.add(node("Sigmoid"), &[at], &[]);
        builder.add(node("Mul"), &[at, gate], &[]);
        return;
    }
    let (root, one, half) = (about(draw, std::f64::consts::SQRT_2), about(draw, 1.0), about(draw, 0.5));
    let scaled = builder.add(node("Div"), &[at], &[root]);
    let error = builder.add(node("Erf"), &[scaled], &[]);
    let sum = builder.add(node("Add"), &[error], &[one]);
    match draw.flag() {
        true => {
            let product = builder.add(node("Mul"), &[at, sum], &[]);
            builder.add(node("Mul"), &[product], &[half]);
        }
        false => {
            let halved = builder.add(node("Mul"), &[at], &[half]);
            builder.add(node("Mul"), &[halved, sum], &[]);
        }
    }
}

/// The mean over the last axis, or now and then over the first.
fn mean(draw: &mut Draw, builder: &mut Builder, at: usize) -> usize {
    let axis = if draw.one_in(8) { 0 } else { -1 };
    let axes = draw.vector(DType::I64, &[axis]);
    builder.add(node("ReduceMean").flag("keepdims", true), &[at], &[axes])
}

fn square(draw: &mut Draw, builder: &mut Builder, at: usize) -> usize {
    match draw.flag() {
        true => builder.add(node("Pow"), &[at], &[number(2.0)]),
        false => builder.add(node("Mul"), &[at, at], &[]),
    }
}

fn layer_norm(draw: &mut Draw, builder: &mut Builder, at: usize) {
    let last = builder.dims(at).last().copied().unwrap_or(1);
    let middle = mean(draw, builder, at);
    let centred = builder.add(node("Sub"), &[at, middle], &[]);
    let squares = square(draw, builder, centred);
    let variance = mean(draw, builder, squares);
    let safe = builder.add(node("Add"), &[variance], &[number(0.125)]);
    let deviation = builder.add(node("Sqrt"), &[safe], &[]);
    let result = builder.add(node("Div"), &[centred, deviation], &[]);
    let (scale, bias) = (draw.data(DType::F32, &[last]), draw.data(DType::F32, &[last]));
    let result = builder.add(node("Mul"), &[result], &[scale]);
    if draw.flag() {
        builder.add(node("Add"), &[result], &[bias]);
    }
}

fn root_mean_square(draw: &mut Draw, builder: &mut Builder, at: usize) {
    let last = builder.dims(at).last().copied().unwrap_or(1);
    let squares = square(draw, builder, at);
    let middle = mean(draw, builder, squares);
    let safe = builder.add(node("Add"), &[middle], &[number(0.125)]);
    let root = builder.add(node("Sqrt"), &[safe], &[]);
    let result = match draw.flag() {
        true => {
            let factor = builder.add(node("Reciprocal"), &[root], &[]);
            builder.add(node("Mul"), &[at, factor], &[])
        }
        false => builder.add(node("Div"), &[at, root], &[]),
    };
    let scale = draw.data(DType::F32, &[last]);
    builder.add(node("Mul"), &[result], &[scale]);
}

fn attention(draw: &mut Draw, builder: &mut Builder, at: usize) {
    let &[batch, length, hidden] = builder.dims(at).as_slice() else { return };
    let (heads, size) = (draw.between(1, 3) as usize, draw.pick(&[2usize, 4, 8, 16]));
    let split = draw.vector(DType::I64, &[batch as i64, length as i64, heads as i64, size as i64]);
    let mut parts = Vec::new();
    for index in 0..3 {
        let weights = draw.floats_within(DType::F32, &[hidden, heads * size], -0.25, 0.25);
        let product = builder.add(node("MatMul"), &[at], &[weights]);
        let apart = builder.add(node("Reshape"), &[product], std::slice::from_ref(&split));
        let order = if index == 1 { [0, 2, 3, 1] } else { [0, 2, 1, 3] };
        parts.push(builder.add(node("Transpose").ints("perm", &order), &[apart], &[]));
    }
    let scores = builder.add(node("MatMul"), &[parts[0], parts[1]], &[]);
    let root = (size as f64).sqrt();
    let scores = match draw.below(3) {
        0 => builder.add(node("Div"), &[scores], &[number(root)]),
        1 => builder.add(node("Mul"), &[scores], &[number(1.0 / root)]),
        _ => scores,
    };
    let scores = match draw.flag() {
        true => {
            let mask = draw.data(DType::F32, &[1, 1, length, length]);
            builder.add(node("Add"), &[scores], &[mask])
        }
        false => scores,
    };
    let weights = builder.add(node("Softmax").int("axis", -1), &[scores], &[]);
    let result = builder.add(node("MatMul"), &[weights, parts[2]], &[]);
    let result = builder.add(node("Transpose").ints("perm", &[0, 2, 1, 3]), &[result], &[]);
    let whole = draw.vector(DType::I64, &[0, 0, -1]);
    builder.add(node("Reshape"), &[result], &[whole]);
}

fn rotary(draw: &mut Draw, builder: &mut Builder, at: usize) {
    let dims = builder.dims(at);
    let last = dims[dims.len() - 1];
    let axis = || tensor(DType::I64, &[1], &[-1.0]);
    let half = last as i64 / 2;
    let (zero, middle, end) = (
        draw.vector(DType::I64, &[0]),
        draw.vector(DType::I64, &[half]),
        draw.vector(DType::I64, &[i64::MAX]),
    );
    let first = builder.add(node("Slice"), &[at], &[zero, middle.clone(), axis()]);
    let second = builder.add(node("Slice"), &[at], &[middle, end, axis()]);
    let turned = builder.add(node("Neg"), &[second], &[]);
    let turned = builder.add(node("Concat").int("axis", -1), &[turned, first], &[]);
    let own = &dims[dims.len().saturating_sub(2)..];
    let (cosines, sines) = (draw.data(DType::F32, own), draw.data(DType::F32, own));
    let one = builder.add(node("Mul"), &[at], &[cosines]);
    let other = builder.add(node("Mul"), &[turned], &[sines]);
    builder.add(node("Add"), &[one, other], &[]);
}

fn conv_norm(draw: &mut Draw, builder: &mut Builder, at: usize) {
    let channels = builder.dims(at)[1];
    let m = draw.extent().min(9);
    let weights = draw.floats_within(DType::F32, &[m, channels, 3, 3], -0.25, 0.25);
    let bias = draw.data(DType::F32, &[m]);
    let constants = if draw.flag() { vec![weights, bias] } else { vec![weights] };
    let sums = builder.add(node("Conv").ints("pads", &[1; 4]), &[at], &constants);
    let mut all: Vec<Tensor> = (0..3).map(|_| draw.data(DType::F32, &[m])).collect();
    all.push(draw.floats_within(DType::F32, &[m], 0.5, 2.0));
    let normal = builder.add(node("BatchNormalization"), &[sums], &all);
    builder.add(node(draw.pick(&["Relu", "HardSwish", "Sigmoid"])), &[normal], &[]);
}

/// A product, a bias, an activation, a residual connection.
fn dense(draw: &mut Draw, builder: &mut Builder, at: usize) {
    let last = builder.dims(at).last().copied().unwrap_or(1);
    let weights = draw.floats_within(DType::F32, &[last, last], -0.25, 0.25);
    let bias = draw.data(DType::F32, &[last]);
    let product = builder.add(node("MatMul"), &[at], &[weights]);
    let sum = builder.add(node("Add"), &[product], &[bias]);
    let active = builder.add(node(draw.pick(&["Relu", "Tanh", "Identity"])), &[sum], &[]);
    builder.add(node("Add"), &[active, at], &[]);
}

/// A product of what is quantized and numbers again: of an input of the graph, whose digits are exact.
fn quantized(draw: &mut Draw, builder: &mut Builder) {
    let at = draw.below(builder.inputs);
    let dims = builder.dims(at);
    let Some(&last) = dims.last() else { return };
    let zero = |n: f64| tensor(DType::U8, &[], &[n]);
    let step = number(0.0625);
    let bytes = builder.add(node("QuantizeLinear"), &[at], &[step.clone(), zero(128.0)]);
    let numbers = builder.add(node("DequantizeLinear"), &[bytes], &[step, zero(128.0)]);
    let n = draw.extent().min(17);
    let codes = draw.bulk(DType::I8, &[last, n]);
    let scales = draw.pick(&[vec![], vec![n]]);
    let scale = draw.floats_within(DType::F32, &scales, 0.0078125, 0.015625);
    let per_column = !scales.is_empty();
    let weights =
        builder.constant(node("DequantizeLinear").int("axis", i64::from(per_column)), &[codes, scale]);
    builder.add(node("MatMul"), &[numbers, weights], &[]);
}

/// Sizes that are computed from a shape, as exporters of models with open sizes write them.
fn shapes(draw: &mut Draw, builder: &mut Builder, at: usize) {
    let rank = builder.dims(at).len();
    let constant = |builder: &mut Builder, x: Tensor| builder.constant(node("Identity"), &[x]);
    match draw.below(4) {
        0 => {
            let (axis, rest) = (draw.below(rank) as i64, draw.vector(DType::I64, &[-1]));
            let axis = draw.vector(DType::I64, &[axis]);
            let shape = builder.add(node("Shape"), &[at], &[]);
            let own = builder.add(node("Gather"), &[shape], &[axis]);
            let target = builder.add(node("Concat").int("axis", 0), &[own], &[rest]);
            builder.add(node("Reshape"), &[at, target], &[]);
        }
        1 => {
            let shape = builder.add(node("Shape"), &[at], &[]);
            let zeros = builder.add(node("ConstantOfShape"), &[shape], &[]);
            builder.add(node("Add"), &[at, zeros], &[]);
        }
        2 => {
            // The last few elements, of which there may be fewer.
            let (start, end) = (draw.between(-9, -1), draw.vector(DType::I64, &[i64::MAX]));
            let (start, axis) = (draw.vector(DType::I64, &[start]), draw.vector(DType::I64, &[-1]));
            let last = builder.add(node("Slice"), &[at], &[start, end, axis]);
            let shape = builder.add(node("Shape"), &[last], &[]);
            let one = draw.data(DType::F32, &[1]);
            let one = constant(builder, one);
            let spread = builder.add(node("Expand"), &[one, shape], &[]);
            builder.add(node("Mul"), &[last, spread], &[]);
        }
        _ => {
            let last = tensor(DType::I64, &[], &[-1.0]);
            let shape = builder.add(node("Shape"), &[at], &[]);
            let count = builder.add(node("Gather"), &[shape], &[last]);
            let zero = constant(builder, tensor(DType::I64, &[], &[0.0]));
            let steps = builder.add(node("Range"), &[zero, count], &[tensor(DType::I64, &[], &[1.0])]);
            let steps = builder.add(node("Cast").int("to", 1), &[steps], &[]);
            let small = builder.add(node("Mul"), &[steps], &[number(0.0625)]);
            builder.add(node("Add"), &[at, small], &[]);
        }
    }
}
