//! The ONNX names of the family, and what each computes.
//!
//! Specifications: `https://onnx.ai/onnx/operators/onnx__NAME.html`; those of `com.microsoft` in ONNX Runtime's
//! `docs/ContribOperators.md`. Before opset 7 the second input of a binary operator could be aligned with an axis of the
//! first: that is [`Aligned`].

use std::sync::Arc;

use super::aligned::Aligned;
use super::functions::*;
use super::{Pointwise, cast};
use crate::build::{Build, NodeSpec, OperatorRow};
use crate::error::OpError;
use crate::expr::{Expr, ExprNode, Function};
use crate::operator::Operator;

type Built = Result<Arc<dyn Operator>, OpError>;

const fn onnx(name: &'static str, since: i64, build: Build) -> OperatorRow {
    OperatorRow { domain: "", name, since, build }
}

const fn microsoft(name: &'static str, build: Build) -> OperatorRow {
    OperatorRow { domain: "com.microsoft", name, since: 1, build }
}

/// Every pointwise operator.
pub const OPERATORS: &[OperatorRow] = &[
    onnx("Abs", 1, |spec| call(spec, "Abs", &ABS, &[])),
    onnx("Acos", 7, |spec| call(spec, "Acos", &ACOS, &[])),
    onnx("Acosh", 9, |spec| call(spec, "Acosh", &ACOSH, &[])),
    onnx("Add", 1, |spec| binary(spec, "Add", &ADD)),
    onnx("And", 1, |spec| binary(spec, "And", &AND)),
    onnx("Asin", 7, |spec| call(spec, "Asin", &ASIN, &[])),
    onnx("Asinh", 9, |spec| call(spec, "Asinh", &ASINH, &[])),
    onnx("Atan", 7, |spec| call(spec, "Atan", &ATAN, &[])),
    onnx("Atanh", 9, |spec| call(spec, "Atanh", &ATANH, &[])),
    onnx("BitShift", 11, bit_shift),
    onnx("BitwiseAnd", 18, |spec| binary(spec, "BitwiseAnd", &BIT_AND)),
    onnx("BitwiseNot", 18, |spec| call(spec, "BitwiseNot", &BIT_NOT, &[])),
    onnx("BitwiseOr", 18, |spec| binary(spec, "BitwiseOr", &BIT_OR)),
    onnx("BitwiseXor", 18, |spec| binary(spec, "BitwiseXor", &BIT_XOR)),
    onnx("Cast", 1, cast::build),
    onnx("CastLike", 15, cast::build_like),
    onnx("Ceil", 1, |spec| call(spec, "Ceil", &CEIL, &[])),
    onnx("Celu", 12, |spec| call(spec, "Celu", &CELU, &[("alpha", 1.0)])),
    onnx("Clip", 1, clip_to_attributes),
    onnx("Clip", 11, clip_to_inputs),
    onnx("Cos", 7, |spec| call(spec, "Cos", &COS, &[])),
    onnx("Cosh", 9, |spec| call(spec, "Cosh", &COSH, &[])),
    onnx("Div", 1, |spec| binary(spec, "Div", &DIV)),
    onnx("Elu", 1, |spec| call(spec, "Elu", &ELU, &[("alpha", 1.0)])),
    onnx("Equal", 1, |spec| binary(spec, "Equal", &EQUAL)),
    onnx("Erf", 9, |spec| call(spec, "Erf", &ERF, &[])),
    onnx("Exp", 1, |spec| call(spec, "Exp", &EXP, &[])),
    onnx("Floor", 1, |spec| call(spec, "Floor", &FLOOR, &[])),
    onnx("Gelu", 20, gelu),
    onnx("Greater", 1, |spec| binary(spec, "Greater", &GREATER)),
    onnx("GreaterOrEqual", 12, |spec| binary(spec, "GreaterOrEqual", &GREATER_EQUAL)),
    onnx("HardSigmoid", 1, |spec| call(spec, "HardSigmoid", &HARD_SIGMOID, &[("alpha", 0.2), ("beta", 0.5)])),
    onnx("HardSwish", 14, |spec| call(spec, "HardSwish", &HARD_SWISH, &[])),
    onnx("IsInf", 10, is_inf),
    onnx("IsNaN", 9, |spec| call(spec, "IsNaN", &IS_NAN, &[])),
    onnx("LeakyRelu", 1, |spec| call(spec, "LeakyRelu", &LEAKY_RELU, &[("alpha", 0.01)])),
    onnx("Less", 1, |spec| binary(spec, "Less", &LESS)),
    onnx("LessOrEqual", 12, |spec| binary(spec, "LessOrEqual", &LESS_EQUAL)),
    onnx("Log", 1, |spec| call(spec, "Log", &LOG, &[])),
    onnx("Max", 1, |spec| variadic(spec, "Max", &MAX)),
    onnx("Mean", 1, mean),
    onnx("Min", 1, |spec| variadic(spec, "Min", &MIN)),
    onnx("Mish", 18, |spec| call(spec, "Mish", &MISH, &[])),
    onnx("Mod", 10, modulo),
    onnx("Mul", 1, |spec| binary(spec, "Mul", &MUL)),
    onnx("Neg", 1, |spec| call(spec, "Neg", &NEG, &[])),
    onnx("Not", 1, |spec| call(spec, "Not", &NOT, &[])),
    onnx("Or", 1, |spec| binary(spec, "Or", &OR)),
    onnx("PRelu", 1, prelu_by_channel),
    onnx("PRelu", 7, |spec| binary(spec, "PRelu", &PRELU)),
    onnx("Pow", 1, |spec| binary(spec, "Pow", &POW)),
    onnx("Reciprocal", 1, |spec| call(spec, "Reciprocal", &RECIPROCAL, &[])),
    onnx("Relu", 1, |spec| call(spec, "Relu", &RELU, &[])),
    onnx("Round", 11, |spec| call(spec, "Round", &ROUND, &[])),
    onnx("Selu", 1, |spec| call(spec, "Selu", &SELU, &[("alpha", 1.6732), ("gamma", 1.0507)])),
    onnx("Selu", 6, |spec| call(spec, "Selu", &SELU, &[("alpha", 1.673_263_2), ("gamma", 1.050_701)])),
    onnx("Shrink", 9, |spec| call(spec, "Shrink", &SHRINK, &[("bias", 0.0), ("lambd", 0.5)])),
    onnx("Sigmoid", 1, |spec| call(spec, "Sigmoid", &SIGMOID, &[])),
    onnx("Sign", 9, |spec| call(spec, "Sign", &SIGN, &[])),
    onnx("Sin", 7, |spec| call(spec, "Sin", &SIN, &[])),
    onnx("Sinh", 9, |spec| call(spec, "Sinh", &SINH, &[])),
    onnx("Softplus", 1, |spec| call(spec, "Softplus", &SOFTPLUS, &[])),
    onnx("Softsign", 1, |spec| call(spec, "Softsign", &SOFTSIGN, &[])),
    onnx("Sqrt", 1, |spec| call(spec, "Sqrt", &SQRT, &[])),
    onnx("Sub", 1, |spec| binary(spec, "Sub", &SUB)),
    onnx("Sum", 1, |spec| variadic(spec, "Sum", &ADD)),
    onnx("SwiGLU", 28, swiglu),
    onnx("Swish", 24, |spec| call(spec, "Swish", &SWISH, &[("alpha", 1.0)])),
    onnx("Tan", 7, |spec| call(spec, "Tan", &TAN, &[])),
    onnx("Tanh", 1, |spec| call(spec, "Tanh", &TANH, &[])),
    onnx("ThresholdedRelu", 10, |spec| call(spec, "ThresholdedRelu", &THRESHOLDED_RELU, &[("alpha", 1.0)])),
    onnx("Where", 9, |spec| call(spec, "Where", &SELECT, &[])),
    onnx("Xor", 1, |spec| binary(spec, "Xor", &XOR)),
    microsoft("BiasGelu", |spec| biased(spec, "BiasGelu", &GELU, true)),
    microsoft("FastGelu", |spec| biased(spec, "FastGelu", &GELU_TANH, spec.has_input(1))),
    microsoft("Gelu", |spec| call(spec, "Gelu", &GELU, &[])),
    microsoft("QuickGelu", |spec| call(spec, "QuickGelu", &SWISH, &[("alpha", 1.702)])),
];

/// How many inputs, for messages.
fn count(inputs: usize) -> &'static str {
    match inputs {
        1 => "1",
        2 => "2",
        _ => "3",
    }
}

fn pointwise(name: &'static str, expr: Expr) -> Built {
    Ok(Arc::new(Pointwise { name, expr }))
}

/// Opset 1 let operators say which inputs they overwrite. It has no effect on results.
fn read_consumed(spec: &NodeSpec<'_>) -> Result<(), OpError> {
    if spec.opset < 6 {
        spec.attributes.ints("consumed_inputs")?;
    }
    Ok(())
}

/// One function of all inputs; its parameters are float attributes with these defaults.
fn call(
    spec: &NodeSpec<'_>,
    name: &'static str,
    function: &'static Function,
    params: &[(&'static str, f32)],
) -> Built {
    spec.expect_inputs(function.arity, function.arity, count(function.arity))?;
    read_consumed(spec)?;
    let params: Result<_, _> =
        params.iter().map(|&(name, default)| spec.attributes.float_or(name, default)).collect();
    pointwise(name, Expr::call(function, function.arity, params?))
}

/// A function of two inputs.
fn binary(spec: &NodeSpec<'_>, name: &'static str, function: &'static Function) -> Built {
    spec.expect_inputs(2, 2, "2")?;
    let inner = Pointwise { name, expr: Expr::call(function, 2, Vec::new()) };
    if spec.opset < 7 {
        read_consumed(spec)?;
        let axis = spec.attributes.int("axis")?;
        if spec.attributes.flag("broadcast", false)?
            && let Some(&axis) = axis
        {
            return Ok(Arc::new(Aligned { inner, axis }));
        }
    }
    Ok(Arc::new(inner))
}

/// A function of two, over all inputs from the first on.
fn chain(spec: &NodeSpec<'_>, function: &'static Function) -> Result<Expr, OpError> {
    spec.expect_inputs(1, usize::MAX, "at least 1")?;
    spec.expect_inputs(spec.inputs.len(), usize::MAX, "inputs without gaps")?;
    read_consumed(spec)?;
    let mut expr = Expr { nodes: vec![ExprNode::Operand(0)], results: Vec::new() };
    let mut result = 0;
    for index in 1..spec.inputs.len() {
        let next = expr.push(ExprNode::Operand(index));
        result = expr.push(ExprNode::Call { function, args: vec![result, next], params: Vec::new() });
    }
    expr.results.push(result);
    Ok(expr)
}

fn variadic(spec: &NodeSpec<'_>, name: &'static str, function: &'static Function) -> Built {
    pointwise(name, chain(spec, function)?)
}

fn mean(spec: &NodeSpec<'_>) -> Built {
    let sum = chain(spec, &ADD)?;
    pointwise("Mean", apply(sum, &DIV_BY, vec![spec.inputs.len() as f32]))
}

/// A function of one argument over the result of an expression.
fn apply(mut expr: Expr, function: &'static Function, params: Vec<f32>) -> Expr {
    let args = expr.results.clone();
    expr.results = vec![expr.push(ExprNode::Call { function, args, params })];
    expr
}

/// Before opset 11 the bounds are attributes. Their defaults are the largest floats, not infinities.
fn clip_to_attributes(spec: &NodeSpec<'_>) -> Built {
    spec.expect_inputs(1, 1, "1")?;
    read_consumed(spec)?;
    let low = spec.attributes.float_or("min", f32::MIN)?;
    let high = spec.attributes.float_or("max", f32::MAX)?;
    pointwise("Clip", Expr::call(&CLIP, 1, vec![low, high]))
}

/// `min(max(x, low), high)`, so that the upper bound wins where they cross.
fn clip_to_inputs(spec: &NodeSpec<'_>) -> Built {
    spec.expect_inputs(1, 3, "1 to 3")?;
    let mut expr = Expr { nodes: vec![ExprNode::Operand(0)], results: Vec::new() };
    let mut result = 0;
    let mut given = 1;
    for (index, function) in [(1, &MAX), (2, &MIN)] {
        if spec.has_input(index) {
            let bound = expr.push(ExprNode::Operand(given));
            given += 1;
            result = expr.push(ExprNode::Call { function, args: vec![result, bound], params: Vec::new() });
        }
    }
    expr.results.push(result);
    pointwise("Clip", expr)
}

fn bit_shift(spec: &NodeSpec<'_>) -> Built {
    let function = match spec.attributes.str("direction")? {
        Some("LEFT") => &SHIFT_LEFT,
        Some("RIGHT") => &SHIFT_RIGHT,
        _ => return Err(OpError::Attribute { name: "direction", expected: "LEFT or RIGHT" }),
    };
    binary(spec, "BitShift", function)
}

fn modulo(spec: &NodeSpec<'_>) -> Built {
    let truncates = spec.attributes.flag("fmod", false)?;
    binary(spec, "Mod", if truncates { &REMAINDER } else { &MOD })
}

fn is_inf(spec: &NodeSpec<'_>) -> Built {
    spec.expect_inputs(1, 1, "1")?;
    let flag = |name| spec.attributes.flag(name, true).map(|on| f32::from(u8::from(on)));
    pointwise("IsInf", Expr::call(&IS_INF, 1, vec![flag("detect_positive")?, flag("detect_negative")?]))
}

fn gelu(spec: &NodeSpec<'_>) -> Built {
    match spec.attributes.str_or("approximate", "none".to_owned())?.as_str() {
        "none" => call(spec, "Gelu", &GELU, &[]),
        "tanh" => call(spec, "Gelu", &GELU_TANH, &[]),
        _ => Err(OpError::Attribute { name: "approximate", expected: "none or tanh" }),
    }
}

/// Before opset 7 a slope belongs to a channel, the second dimension.
fn prelu_by_channel(spec: &NodeSpec<'_>) -> Built {
    spec.expect_inputs(2, 2, "2")?;
    read_consumed(spec)?;
    let inner = Pointwise { name: "PRelu", expr: Expr::call(&PRELU, 2, Vec::new()) };
    Ok(Arc::new(Aligned { inner, axis: 1 }))
}

/// `swish(a) · b`.
fn swiglu(spec: &NodeSpec<'_>) -> Built {
    spec.expect_inputs(2, 2, "2")?;
    let alpha = spec.attributes.float_or("alpha", 1.0)?;
    let mut expr = apply(Expr { nodes: vec![ExprNode::Operand(0)], results: vec![0] }, &SWISH, vec![alpha]);
    let gate = expr.results[0];
    let other = expr.push(ExprNode::Operand(1));
    let result = expr.push(ExprNode::Call { function: &MUL, args: vec![gate, other], params: Vec::new() });
    expr.results = vec![result];
    pointwise("SwiGLU", expr)
}

/// A function of the input plus a bias, which broadcasts.
fn biased(spec: &NodeSpec<'_>, name: &'static str, function: &'static Function, bias: bool) -> Built {
    if !bias {
        spec.expect_inputs(1, 2, "1 or 2")?;
        return pointwise(name, Expr::call(function, 1, Vec::new()));
    }
    spec.expect_inputs(2, 2, "2")?;
    pointwise(name, apply(Expr::call(&ADD, 2, Vec::new()), function, Vec::new()))
}
