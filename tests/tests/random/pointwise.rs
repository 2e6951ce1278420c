//! Pointwise operators: every broadcast form, every type.

use sardonyx_ops::DType;

use crate::driver::{Generator, microsoft, onnx};
use crate::node::{Draw, FLOATS, INTEGERS, Node};

pub const GENERATORS: &[Generator] = &[
    onnx("Abs", number),
    onnx("Acos", |draw, node| within(draw, node, -1.0, 1.0)),
    onnx("Acosh", |draw, node| within(draw, node, 1.0, 9.0)),
    onnx("Add", arithmetic),
    onnx("And", logical),
    onnx("Asin", |draw, node| within(draw, node, -1.0, 1.0)),
    onnx("Asinh", float),
    onnx("Atan", float),
    onnx("Atanh", |draw, node| within(draw, node, -0.875, 0.875)),
    onnx("BitShift", bit_shift),
    onnx("BitwiseAnd", bits),
    onnx("BitwiseNot", |draw, node| {
        let dtype = draw.pick(&INTEGERS);
        let dims = draw.dims(0, 4);
        let x = draw.bulk(dtype, &dims);
        node.input(draw, x)
    }),
    onnx("BitwiseOr", bits),
    onnx("BitwiseXor", bits),
    onnx("Cast", cast),
    onnx("CastLike", cast_like),
    onnx("Ceil", float),
    onnx("Celu", with_alpha),
    onnx("Clip", clip),
    onnx("Cos", float),
    onnx("Cosh", float),
    onnx("Div", division),
    onnx("Elu", with_alpha),
    onnx("Equal", |draw, node| {
        let dtype = draw.any_type();
        pair(draw, node, dtype)
    }),
    onnx("Erf", float),
    onnx("Exp", float),
    onnx("Floor", float),
    onnx("Gelu", |draw, node| {
        let node = if draw.flag() { node.text("approximate", "tanh") } else { node };
        float(draw, node)
    }),
    onnx("Greater", comparison),
    onnx("GreaterOrEqual", comparison),
    onnx("HardSigmoid", |draw, node| {
        let node = node.float("alpha", 0.5).float("beta", 0.25);
        float(draw, node)
    }),
    onnx("HardSwish", float),
    onnx("IsInf", special),
    onnx("IsNaN", special),
    onnx("LeakyRelu", with_alpha),
    onnx("Less", comparison),
    onnx("LessOrEqual", comparison),
    onnx("Log", |draw, node| within(draw, node, 0.25, 9.0)),
    onnx("Max", |draw, node| {
        let dtype = draw.number_type();
        several(draw, node, dtype)
    }),
    onnx("Mean", |draw, node| {
        let dtype = draw.float_type();
        several(draw, node, dtype)
    }),
    onnx("Min", |draw, node| {
        let dtype = draw.number_type();
        several(draw, node, dtype)
    }),
    onnx("Mish", float),
    onnx("Mod", modulo),
    onnx("Mul", arithmetic),
    onnx("Neg", |draw, node| {
        let all = [&FLOATS[..], &INTEGERS[..4]].concat();
        let dtype = draw.pick(&all);
        one(draw, node, dtype)
    }),
    onnx("Not", |draw, node| one(draw, node, DType::Bool)),
    onnx("Or", logical),
    onnx("PRelu", prelu),
    onnx("Pow", pow),
    onnx("Reciprocal", |draw, node| within(draw, node, 0.25, 4.0)),
    onnx("Relu", |draw, node| {
        let all = [&FLOATS[..], &INTEGERS[..4]].concat();
        let dtype = draw.pick(&all);
        one(draw, node, dtype)
    }),
    onnx("Round", float),
    onnx("Selu", with_alpha),
    onnx("Shrink", |draw, node| {
        let node = node.float("lambd", 0.5).float("bias", 0.25);
        number(draw, node)
    }),
    onnx("Sigmoid", float),
    onnx("Sign", number),
    onnx("Sin", float),
    onnx("Sinh", float),
    onnx("Softplus", float),
    onnx("Softsign", float),
    onnx("Sqrt", |draw, node| within(draw, node, 0.0, 9.0)),
    onnx("Sub", arithmetic),
    onnx("Sum", |draw, node| {
        let dtype = draw.float_type();
        several(draw, node, dtype)
    }),
    onnx("SwiGLU", |draw, node| {
        let dtype = draw.float_type();
        let dims = draw.dims(1, 4);
        let (a, b) = (draw.data(dtype, &dims), draw.data(dtype, &dims));
        node.input(draw, a).input(draw, b)
    }),
    onnx("Swish", with_alpha),
    onnx("Tan", |draw, node| within(draw, node, -1.25, 1.25)),
    onnx("Tanh", float),
    onnx("ThresholdedRelu", with_alpha),
    onnx("Where", select),
    onnx("Xor", logical),
    microsoft("BiasGelu", biased),
    microsoft("FastGelu", biased),
    microsoft("Gelu", float),
    microsoft("QuickGelu", float),
];

/// One input of a type.
fn one(draw: &mut Draw, node: Node, dtype: DType) -> Node {
    let dims = draw.dims(0, 4);
    let x = draw.data(dtype, &dims);
    node.input(draw, x)
}

fn float(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    one(draw, node, dtype)
}

fn number(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.number_type();
    one(draw, node, dtype)
}

fn within(draw: &mut Draw, node: Node, low: f32, high: f32) -> Node {
    let dtype = draw.float_type();
    let dims = draw.dims(0, 4);
    let x = draw.floats_within(dtype, &dims, low, high);
    node.input(draw, x)
}

fn with_alpha(draw: &mut Draw, node: Node) -> Node {
    let alpha = draw.float(0.25, 1.5);
    float(draw, node.float("alpha", alpha))
}

/// Dimensions of two inputs that broadcast to one shape, either of them smaller.
fn broadcast(draw: &mut Draw) -> (Vec<usize>, Vec<usize>) {
    let dims = draw.dims(0, 5);
    match draw.below(4) {
        0 => (dims.clone(), dims),
        1 => (draw.broadcast_to(&dims), dims),
        2 => (draw.broadcast_to(&dims), draw.broadcast_to(&dims)),
        _ => (dims.clone(), draw.broadcast_to(&dims)),
    }
}

/// Two inputs of a type.
fn pair(draw: &mut Draw, node: Node, dtype: DType) -> Node {
    let (a, b) = broadcast(draw);
    let (a, b) = (draw.data(dtype, &a), draw.data(dtype, &b));
    node.input(draw, a).input(draw, b)
}

/// Two inputs of numbers; before opset 7 the second may align with an axis in the middle.
fn arithmetic(draw: &mut Draw, node: Node) -> Node {
    if draw.one_in(6) {
        let dtype = draw.pick(&FLOATS);
        let dims = draw.dims(1, 4);
        let first = draw.below(dims.len());
        let last = draw.between(first as i64 + 1, dims.len() as i64) as usize;
        let (a, b) = (draw.data(dtype, &dims), draw.data(dtype, &dims[first..last]));
        let node = node.opset(6).flag("broadcast", true).int("axis", first as i64);
        return node.input(draw, a).input(draw, b);
    }
    let dtype = draw.number_type();
    pair(draw, node, dtype)
}

fn comparison(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.number_type();
    pair(draw, node, dtype)
}

fn logical(draw: &mut Draw, node: Node) -> Node {
    pair(draw, node, DType::Bool)
}

fn bits(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&INTEGERS);
    let (a, b) = broadcast(draw);
    let (a, b) = (draw.bulk(dtype, &a), draw.bulk(dtype, &b));
    node.input(draw, a).input(draw, b)
}

fn bit_shift(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&INTEGERS[4..]);
    let (a, b) = broadcast(draw);
    let (a, b) = (draw.bulk(dtype, &a), draw.numbers(dtype, &b, 0, dtype.bits() as i64 + 1));
    let direction = draw.pick(&["LEFT", "RIGHT"]);
    node.text("direction", direction).input(draw, a).input(draw, b)
}

/// Divisors away from zero; zero among integers has a result of ours too.
fn division(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.number_type();
    let (a, b) = broadcast(draw);
    let (a, b) = (draw.data(dtype, &a), draw.floats_within(dtype, &b, 0.25, 4.0));
    node.input(draw, a).input(draw, b)
}

fn modulo(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.number_type();
    let fmod = dtype.is_float() || draw.flag();
    let (a, b) = broadcast(draw);
    // Whole floats: the remainder of others jumps with their last digit.
    let sign = if draw.flag() && !format!("{dtype}").starts_with('u') { -1 } else { 1 };
    let low = if sign < 0 || dtype.is_float() { -40 } else { 0 };
    let low = if format!("{dtype}").starts_with('u') { 0 } else { low };
    let a = draw.numbers(dtype, &a, low, 40);
    let b = draw.numbers(dtype, &b, if sign < 0 { -9 } else { 1 }, if sign < 0 { -1 } else { 9 });
    node.flag("fmod", fmod).input(draw, a).input(draw, b)
}

fn pow(draw: &mut Draw, node: Node) -> Node {
    let (a, b) = broadcast(draw);
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F16, DType::F64, DType::I32, DType::I64]);
    if dtype.is_integer() {
        let exponents = draw.pick(&[DType::I32, DType::I64, DType::U8]);
        let (a, b) = (draw.numbers(dtype, &a, -5, 5), draw.numbers(exponents, &b, 0, 5));
        return node.input(draw, a).input(draw, b);
    }
    let exponents = draw.pick(&[dtype, dtype, DType::F32, DType::I64]);
    let (a, b) = (draw.floats_within(dtype, &a, 0.25, 3.0), draw.data(exponents, &b));
    let node = node.input(draw, a).input(draw, b);
    // Up to 3^9 beside 3^-9, with the error of the exponent's product.
    node.tolerance(5e-5, 1e-2)
}

fn prelu(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let dims = draw.dims(1, 4);
    let slopes = draw.broadcast_to(&dims);
    let (x, slope) = (draw.data(dtype, &dims), draw.data(dtype, &slopes));
    node.input(draw, x).input(draw, slope)
}

/// A few inputs, each of which may broadcast.
fn several(draw: &mut Draw, node: Node, dtype: DType) -> Node {
    let dims = draw.dims(0, 4);
    let count = draw.between(1, 5);
    (0..count).fold(node, |node, index| {
        let own = if index == 0 || draw.flag() { dims.clone() } else { draw.broadcast_to(&dims) };
        let x = draw.extremes(dtype, &own);
        node.input(draw, x)
    })
}

fn clip(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.number_type();
    let dims = draw.dims(0, 4);
    let x = draw.extremes(dtype, &dims);
    if draw.one_in(4) && dtype.is_float() {
        return node.opset(6).float("min", -0.5).float("max", 0.75).input(draw, x);
    }
    let low = draw.numbers(dtype, &[], 0, 1);
    let high = draw.numbers(dtype, &[], 1, 3);
    let node = node.input(draw, x);
    match draw.below(4) {
        0 => node,
        1 => node.optional(draw, Some(low)),
        2 => node.optional(draw, None).optional(draw, Some(high)),
        _ => node.optional(draw, Some(low)).optional(draw, Some(high)),
    }
}

fn special(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let dims = draw.dims(0, 4);
    let len = dims.iter().product();
    let values = [0.0, -1.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    let all: Vec<f64> = (0..len).map(|_| draw.pick(&values)).collect();
    let node = node.input(draw, crate::node::tensor(dtype, &dims, &all));
    match node.name {
        "IsInf" => {
            let (positive, negative) = (draw.flag(), draw.flag());
            node.flag("detect_positive", positive).flag("detect_negative", negative)
        }
        _ => node,
    }
}

fn cast(draw: &mut Draw, node: Node) -> Node {
    let to = draw.any_type();
    float_or_integer(draw, node).int("to", i64::from(to.to_onnx()))
}

fn cast_like(draw: &mut Draw, node: Node) -> Node {
    let to = draw.any_type();
    let node = float_or_integer(draw, node);
    let like = draw.data(to, &[2]);
    node.input(draw, like)
}

/// Numbers that every type holds: what others do is tested with literal numbers.
fn float_or_integer(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.any_type();
    let dims = draw.dims(0, 4);
    let x = draw.numbers(dtype, &dims, 0, if dtype == DType::Bool { 1 } else { 100 });
    node.input(draw, x)
}

fn select(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.any_type();
    let (a, b) = broadcast(draw);
    let all = sardonyx_ops::broadcast::dims(&[&a, &b]).unwrap();
    let condition = draw.broadcast_to(&all);
    let condition = draw.data(DType::Bool, &condition);
    let (a, b) = (draw.data(dtype, &a), draw.data(dtype, &b));
    node.input(draw, condition).input(draw, a).input(draw, b)
}

fn biased(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let dims = draw.dims(1, 3);
    let x = draw.data(dtype, &dims);
    let bias = draw.data(dtype, &dims[dims.len() - 1..]);
    let node = node.input(draw, x);
    if node.name == "FastGelu" && draw.flag() { node } else { node.input(draw, bias) }
}
