//! Every function over every type it takes, against numbers computed another way.

use half::{bf16, f16};

use super::*;
use crate::cpu::math::erf64;
use crate::expr::Expr;
use crate::expr::function::Accepts;
use crate::ir::dtype::DType;
use crate::ir::tensor::Tensor;
use crate::operator::Operator;
use crate::pointwise::{Pointwise, cast};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

/// The result of a function over tensors.
fn run(function: &'static Function, params: &[f32], inputs: &[&Tensor]) -> Tensor {
    let op = Pointwise { name: "Test", expr: Expr::call(function, inputs.len(), params.to_vec()) };
    let views: Vec<_> = inputs.iter().map(|tensor| Some(tensor.view())).collect();
    op.reference(&views, 1).unwrap().remove(0)
}

fn vector<T: crate::Element>(values: &[T]) -> Tensor {
    Tensor::from_slice(&[values.len()], values).unwrap()
}

/// A vector of another type, by ONNX `Cast`.
fn of(dtype: DType, values: &[f64]) -> Tensor {
    cast(dtype).reference(&[Some(vector(values).view())], 1).unwrap().remove(0)
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    of_any(tensor, DType::F64).to_vec().unwrap()
}

fn of_any(tensor: &Tensor, dtype: DType) -> Tensor {
    cast(dtype).reference(&[Some(tensor.view())], 1).unwrap().remove(0)
}

/// The gap between neighbouring values of a type, relative to their size.
fn precision(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 4e-15,
        DType::F32 => 5e-7,
        DType::F16 => 1.0 / 1024.0,
        DType::BF16 => 1.0 / 128.0,
        _ => 0.0,
    }
}

const FLOATS: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];
const SIGNED: [DType; 4] = [DType::I8, DType::I16, DType::I32, DType::I64];
const UNSIGNED: [DType; 4] = [DType::U8, DType::U16, DType::U32, DType::U64];

/// Numbers that all types hold exactly, where signed.
const POINTS: [f64; 17] =
    [-6.0, -4.0, -3.5, -2.0, -1.5, -1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 4.0, 7.0];

#[test]
fn unary_functions_over_every_float_type() {
    type Row = (&'static Function, &'static [f32], fn(f64) -> f64);
    fn softplus(x: f64) -> f64 {
        x.exp().ln_1p()
    }
    let rows: [Row; 41] = [
        (&ABS, &[], f64::abs),
        (&NEG, &[], |x| -x),
        (&SIGN, &[], f64::signum),
        (&RECIPROCAL, &[], |x| 1.0 / x),
        (&SQRT, &[], f64::sqrt),
        (&CEIL, &[], f64::ceil),
        (&FLOOR, &[], f64::floor),
        (&ROUND, &[], |x| (x / 2.0 - 0.25).ceil() + (x / 2.0 + 0.25).floor()),
        (&DIV_BY, &[4.0], |x| x / 4.0),
        (&CLIP, &[-1.25, 2.0], |x| x.clamp(-1.25, 2.0)),
        (&EXP, &[], f64::exp),
        (&LOG, &[], f64::ln),
        (&SIN, &[], f64::sin),
        (&COS, &[], f64::cos),
        (&TAN, &[], f64::tan),
        (&ASIN, &[], f64::asin),
        (&ACOS, &[], f64::acos),
        (&ATAN, &[], f64::atan),
        (&SINH, &[], f64::sinh),
        (&COSH, &[], f64::cosh),
        (&TANH, &[], f64::tanh),
        (&ASINH, &[], f64::asinh),
        (&ACOSH, &[], f64::acosh),
        (&ATANH, &[], f64::atanh),
        (&ERF, &[], erf64),
        (&SIGMOID, &[], |x| 1.0 / (1.0 + (-x).exp())),
        (&RELU, &[], |x| x.max(0.0)),
        (&LEAKY_RELU, &[0.125], |x| x.max(0.125 * x)),
        (&ELU, &[1.5], |x| if x > 0.0 { x } else { 1.5 * x.exp_m1() }),
        (&CELU, &[2.0], |x| x.max(0.0) + (2.0 * (x / 2.0).exp_m1()).min(0.0)),
        (&SELU, &[1.5, 1.25], |x| 1.25 * if x > 0.0 { x } else { 1.5 * x.exp_m1() }),
        (&HARD_SIGMOID, &[0.25, 0.5], |x| (0.25 * x + 0.5).clamp(0.0, 1.0)),
        (&HARD_SWISH, &[], |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        (&SOFTPLUS, &[], softplus),
        (&SOFTSIGN, &[], |x| x / (1.0 + x.abs())),
        (&MISH, &[], |x| x * softplus(x).tanh()),
        (&THRESHOLDED_RELU, &[1.0], |x| if x > 1.0 { x } else { 0.0 }),
        (&SHRINK, &[0.5, 1.0], |x| if x.abs() > 1.0 { x - 0.5 * x.signum() } else { 0.0 }),
        (&GELU, &[], |x| 0.5 * x * (1.0 + erf64(x / 2f64.sqrt()))),
        (&GELU_TANH, &[], |x| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }),
        (&SWISH, &[1.5], |x| x / (1.0 + (-1.5 * x).exp())),
    ];
    for (function, params, want) in rows {
        assert_eq!(function.params, params.len(), "{}", function.name);
        for dtype in FLOATS {
            let got = run(function, params, &[&of(dtype, &POINTS)]);
            assert_eq!(got.dtype(), dtype);
            for (&x, got) in POINTS.iter().zip(numbers(&got)) {
                let want = want(x);
                // GELU's factor is a difference of numbers near 1, so its error is one of the argument.
                let close =
                    got == want || (got - want).abs() <= precision(dtype) * want.abs().max(0.1 * x.abs());
                assert!(
                    close || (got.is_nan() && want.is_nan()),
                    "{} {dtype} of {x}: {got}, not {want}",
                    function.name
                );
            }
        }
    }
    // No function of one float is missing above.
    let unary: Vec<&str> = FUNCTIONS
        .iter()
        .flat_map(|functions| functions.iter())
        .filter(|f| f.arity == 1 && matches!(f.accepts, Accepts::Floats | Accepts::Numbers))
        .map(|f| f.name)
        .filter(|name| !rows.iter().any(|row| row.0.name == *name))
        .collect();
    assert_eq!(unary, ["is_nan", "is_inf"]);
}

#[test]
fn binary_functions_over_every_type() {
    type Row = (&'static Function, fn(f64, f64) -> f64);
    fn floored(a: f64, b: f64) -> f64 {
        a - (a / b).floor() * b
    }
    let rows: [Row; 8] = [
        (&ADD, |a, b| a + b),
        (&SUB, |a, b| a - b),
        (&MUL, |a, b| a * b),
        (&MIN, f64::min),
        (&MAX, f64::max),
        (&MOD, floored),
        (&REMAINDER, |a, b| a % b),
        (&PRELU, |a, b| if a < 0.0 { a * b } else { a }),
    ];
    let a = [7.0, -7.0, 7.0, -7.0, 6.0, -6.0, 3.0, 11.0];
    let b = [2.0, 2.0, -2.0, -2.0, 3.0, 4.0, 5.0, 11.0];
    for (function, want) in rows {
        for dtype in FLOATS.into_iter().chain(SIGNED) {
            let got = numbers(&run(function, &[], &[&of(dtype, &a), &of(dtype, &b)]));
            let want: Vec<f64> = a.iter().zip(b).map(|(&a, b)| want(a, b)).collect();
            assert_eq!(got, want, "{} {dtype}", function.name);
        }
        for dtype in UNSIGNED {
            let (a, b) = (a.map(|x| x.abs() + 4.0), b.map(f64::abs));
            let got = numbers(&run(function, &[], &[&of(dtype, &a), &of(dtype, &b)]));
            let want: Vec<f64> = a.iter().zip(b).map(|(&a, b)| want(a, b)).collect();
            assert_eq!(got, want, "{} {dtype}", function.name);
        }
    }
    for dtype in FLOATS {
        let got = numbers(&run(&DIV, &[], &[&of(dtype, &[7.0, -6.0]), &of(dtype, &[2.0, 4.0])]));
        assert_eq!(got, [3.5, -1.5]);
    }
    for dtype in SIGNED {
        let got = run(
            &DIV,
            &[],
            &[&of(dtype, &[7.0, -7.0, 7.0, -7.0, 5.0]), &of(dtype, &[2.0, 2.0, -2.0, -2.0, 0.0])],
        );
        assert_eq!(numbers(&got), [3.0, -3.0, -3.0, 3.0, 0.0], "{dtype}");
    }
    for dtype in UNSIGNED {
        let got = run(&DIV, &[], &[&of(dtype, &[250.0, 5.0]), &of(dtype, &[3.0, 0.0])]);
        assert_eq!(numbers(&got), [83.0, 0.0], "{dtype}");
    }
}

#[test]
fn comparisons_and_choice_over_every_type() {
    type Row = (&'static Function, [u8; 3]);
    let rows: [Row; 5] = [
        (&EQUAL, [0, 1, 0]),
        (&LESS, [1, 0, 0]),
        (&GREATER, [0, 0, 1]),
        (&LESS_EQUAL, [1, 1, 0]),
        (&GREATER_EQUAL, [0, 1, 1]),
    ];
    for dtype in FLOATS.into_iter().chain(SIGNED).chain(UNSIGNED) {
        let (a, b) = (of(dtype, &[1.0, 5.0, 9.0]), of(dtype, &[2.0, 5.0, 8.0]));
        for (function, want) in rows {
            assert_eq!(run(function, &[], &[&a, &b]).bytes(), want, "{} {dtype}", function.name);
        }
        let condition = Tensor::from_bools(&[3], &[true, false, true]).unwrap();
        assert_eq!(numbers(&run(&SELECT, &[], &[&condition, &a, &b])), [1.0, 5.0, 9.0], "{dtype}");
        let condition = Tensor::from_bools(&[1], &[false]).unwrap();
        assert_eq!(numbers(&run(&SELECT, &[], &[&condition, &a, &b])), [2.0, 5.0, 8.0], "{dtype}");
    }
    let largest = vector(&[u64::MAX, 1]);
    assert_eq!(run(&LESS, &[], &[&vector(&[1u64, u64::MAX]), &largest]).bytes(), [1, 0]);
    let (f, t) = (false, true);
    let a = Tensor::from_bools(&[4], &[f, f, t, t]).unwrap();
    let b = Tensor::from_bools(&[4], &[f, t, f, t]).unwrap();
    assert_eq!(run(&AND, &[], &[&a, &b]).bytes(), [0, 0, 0, 1]);
    assert_eq!(run(&OR, &[], &[&a, &b]).bytes(), [0, 1, 1, 1]);
    assert_eq!(run(&XOR, &[], &[&a, &b]).bytes(), [0, 1, 1, 0]);
    assert_eq!(run(&EQUAL, &[], &[&a, &b]).bytes(), [1, 0, 0, 1]);
    assert_eq!(run(&NOT, &[], &[&a]).bytes(), [1, 1, 0, 0]);
    assert_eq!(run(&SELECT, &[], &[&a, &b, &a]).bytes(), [0, 0, 0, 1]);
}

#[test]
fn nan_and_infinities() {
    let x = vector(&[NAN, INF, -INF, -0.0, 2.0]);
    let zero = vector(&[0f32]);
    let f32s = |tensor: Tensor| tensor.to_vec::<f32>().unwrap();
    for (function, params) in [(&RELU, &[][..]), (&CLIP, &[-1.0, 1.0]), (&LEAKY_RELU, &[0.5]), (&ELU, &[1.0])]
    {
        assert!(f32s(run(function, params, &[&x]))[0].is_nan(), "{}", function.name);
    }
    for function in [&MIN, &MAX] {
        assert!(f32s(run(function, &[], &[&x, &zero]))[0].is_nan(), "{}", function.name);
        assert!(f32s(run(function, &[], &[&zero, &x]))[0].is_nan(), "{}", function.name);
    }
    assert_eq!(f32s(run(&CLIP, &[-1.0, 1.0], &[&x]))[1..], [1.0, -1.0, 0.0, 1.0]);
    assert_eq!(run(&IS_NAN, &[], &[&x]).bytes(), [1, 0, 0, 0, 0]);
    assert_eq!(run(&IS_INF, &[1.0, 1.0], &[&x]).bytes(), [0, 1, 1, 0, 0]);
    assert_eq!(run(&IS_INF, &[0.0, 1.0], &[&x]).bytes(), [0, 0, 1, 0, 0]);
    assert_eq!(run(&IS_INF, &[1.0, 0.0], &[&of_any(&x, DType::F64)]).bytes(), [0, 1, 0, 0, 0]);
    assert_eq!(run(&IS_NAN, &[], &[&of_any(&x, DType::F16)]).bytes(), [1, 0, 0, 0, 0]);
    assert!(f32s(run(&RELU, &[], &[&x]))[3] == 0.0);
    assert!(f32s(run(&ABS, &[], &[&x]))[3].is_sign_positive());
    // Infinite before the last step, finite after it: none of these may overflow.
    let far = vector(&[-1e30f32, 1e30]);
    assert_eq!(f32s(run(&SOFTPLUS, &[], &[&far])), [0.0, 1e30]);
    assert_eq!(f32s(run(&MISH, &[], &[&far])), [0.0, 1e30]);
    assert_eq!(f32s(run(&SIGMOID, &[], &[&far])), [0.0, 1.0]);
    assert_eq!(f32s(run(&TANH, &[], &[&far])), [-1.0, 1.0]);
    assert_eq!(f32s(run(&SWISH, &[2.0], &[&far])), [0.0, 1e30]);
    assert_eq!(f32s(run(&CELU, &[0.5], &[&far])), [-0.5, 1e30]);
    assert_eq!(f32s(run(&SELU, &[2.0, 4.0], &[&far])), [-8.0, 4e30]);
}

#[test]
fn remainders_follow_the_sign_of_zero() {
    let a = vector(&[0.0, -0.0, 0.0, -0.0, -3.0, 3.0, 4.0, INF, 1.0]);
    let b = vector(&[-2.0, 2.0, 2.0, -2.0, INF, INF, 2.0, 2.0, 0.0]);
    let got: Vec<f32> = run(&MOD, &[], &[&a, &b]).to_vec().unwrap();
    assert_eq!(got[..7], [0.0, 0.0, 0.0, 0.0, INF, 3.0, 0.0]);
    assert_eq!(got[..4].iter().map(|x| x.is_sign_negative()).collect::<Vec<_>>(), [true, false, false, true]);
    assert!(got[7].is_nan() && got[8].is_nan());
    let zero = vector(&[0i64]);
    assert_eq!(run(&MOD, &[], &[&vector(&[5i64]), &zero]).to_vec::<i64>().unwrap(), [0]);
    assert_eq!(run(&REMAINDER, &[], &[&vector(&[5u64]), &vector(&[0u64])]).to_vec::<u64>().unwrap(), [0]);
}

#[test]
fn integers_wrap_in_their_own_width() {
    assert_eq!(run(&ADD, &[], &[&vector(&[127i8]), &vector(&[1i8])]).to_vec::<i8>().unwrap(), [-128]);
    assert_eq!(run(&MUL, &[], &[&vector(&[300u16]), &vector(&[300u16])]).to_vec::<u16>().unwrap(), [24464]);
    assert_eq!(run(&SUB, &[], &[&vector(&[1u32]), &vector(&[2u32])]).to_vec::<u32>().unwrap(), [u32::MAX]);
    assert_eq!(run(&NEG, &[], &[&vector(&[i64::MIN])]).to_vec::<i64>().unwrap(), [i64::MIN]);
    assert_eq!(run(&ABS, &[], &[&vector(&[i8::MIN])]).to_vec::<i8>().unwrap(), [i8::MIN]);
    assert_eq!(
        run(&DIV, &[], &[&vector(&[i64::MIN]), &vector(&[-1i64])]).to_vec::<i64>().unwrap(),
        [i64::MIN]
    );
    assert_eq!(run(&MOD, &[], &[&vector(&[i64::MIN]), &vector(&[-1i64])]).to_vec::<i64>().unwrap(), [0]);
    assert_eq!(run(&DIV, &[], &[&vector(&[i8::MIN]), &vector(&[-1i8])]).to_vec::<i8>().unwrap(), [i8::MIN]);
    assert_eq!(run(&SIGN, &[], &[&vector(&[-5i32, 0, 5])]).to_vec::<i32>().unwrap(), [-1, 0, 1]);
    assert_eq!(run(&RELU, &[], &[&vector(&[-5i8, 0, 5])]).to_vec::<i8>().unwrap(), [0, 0, 5]);
    assert_eq!(run(&SHRINK, &[1.0, 2.0], &[&vector(&[-5i16, 1, 5])]).to_vec::<i16>().unwrap(), [-4, 0, 4]);
}

#[test]
fn shifts_and_bits() {
    let left = |a: &[i8], b: &[i8]| run(&SHIFT_LEFT, &[], &[&vector(a), &vector(b)]).to_vec::<i8>().unwrap();
    let right =
        |a: &[i8], b: &[i8]| run(&SHIFT_RIGHT, &[], &[&vector(a), &vector(b)]).to_vec::<i8>().unwrap();
    assert_eq!(left(&[16, 64, 1, -64, -8, 4, -1], &[1, 1, 7, 1, 8, 9, -1]), [32, -128, -128, -128, 0, 0, 0]);
    assert_eq!(right(&[16, -8, -1, -128, -8, 4, -1], &[1, 1, 1, 1, 8, 9, -1]), [8, -4, -1, -64, -1, 0, -1]);
    let a = vector(&[u64::MAX, 1, 5]);
    assert_eq!(run(&SHIFT_RIGHT, &[], &[&a, &vector(&[63u64, 1, 64])]).to_vec::<u64>().unwrap(), [1, 0, 0]);
    assert_eq!(
        run(&SHIFT_LEFT, &[], &[&a, &vector(&[63u64, 63, 64])]).to_vec::<u64>().unwrap(),
        [1 << 63, 1 << 63, 0]
    );
    let (a, b) = (vector(&[0b1100u8, 255]), vector(&[0b1010u8, 1]));
    assert_eq!(run(&BIT_AND, &[], &[&a, &b]).bytes(), [0b1000, 1]);
    assert_eq!(run(&BIT_OR, &[], &[&a, &b]).bytes(), [0b1110, 255]);
    assert_eq!(run(&BIT_XOR, &[], &[&a, &b]).bytes(), [0b0110, 254]);
    assert_eq!(run(&BIT_NOT, &[], &[&a]).bytes(), [0b1111_0011, 0]);
    assert_eq!(run(&BIT_NOT, &[], &[&vector(&[0i64, -1])]).to_vec::<i64>().unwrap(), [-1, 0]);
    assert_eq!(run(&BIT_AND, &[], &[&vector(&[-2i64]), &vector(&[7i64])]).to_vec::<i64>().unwrap(), [6]);
}

#[test]
fn powers_of_mixed_types() {
    let pow = |a: &Tensor, b: &Tensor| numbers(&run(&POW, &[], &[a, b]));
    let base = vector(&[-2f32, 3.0, 0.25]);
    assert_eq!(pow(&base, &vector(&[2f32])), [4.0, 9.0, 0.0625]);
    assert_eq!(pow(&base, &vector(&[3i64])), [-8.0, 27.0, 0.015625]);
    assert_eq!(pow(&base, &vector(&[-1i32])), [-0.5, f64::from(1f32 / 3.0), 4.0]);
    assert_eq!(pow(&base, &vector(&[0u64])), [1.0, 1.0, 1.0]);
    let roots = pow(&base, &vector(&[0.5f32]));
    assert!(roots[0].is_nan());
    assert_eq!(roots[2], 0.5);
    for dtype in FLOATS {
        let got = pow(&of(dtype, &[2.0, 4.0]), &of(dtype, &[3.0, -0.5]));
        assert_eq!(got, [8.0, 0.5], "{dtype}");
    }
    let base = vector(&[-3i64, 2, 1, -1, 7]);
    assert_eq!(pow(&base, &vector(&[3i64, 10, -5, -3, -1])), [-27.0, 1024.0, 1.0, -1.0, 0.0]);
    assert_eq!(pow(&base, &vector(&[2f32])), [9.0, 4.0, 1.0, 1.0, 49.0]);
    assert_eq!(pow(&vector(&[2i32, 9]), &vector(&[0.5f32])), [1.0, 3.0]);
    assert_eq!(pow(&vector(&[3u64]), &vector(&[40i64])), [3f64.powi(40)]);
    let wrapped = run(&POW, &[], &[&vector(&[3i64]), &vector(&[41i64])]).to_vec::<i64>().unwrap();
    assert_eq!(wrapped, [3i64.wrapping_pow(41)]);
}

#[test]
fn conversions_saturate_floats_and_wrap_integers() {
    let floats = [-1e30, -1.9, -0.5, 0.0, 1.9, 300.7, 70000.0, 1e30, f64::NAN];
    let want: [(DType, [f64; 9]); 8] = [
        (DType::I8, [-128.0, -1.0, 0.0, 0.0, 1.0, 127.0, 127.0, 127.0, 0.0]),
        (DType::U8, [0.0, 0.0, 0.0, 0.0, 1.0, 255.0, 255.0, 255.0, 0.0]),
        (DType::I16, [-32768.0, -1.0, 0.0, 0.0, 1.0, 300.0, 32767.0, 32767.0, 0.0]),
        (DType::U16, [0.0, 0.0, 0.0, 0.0, 1.0, 300.0, 65535.0, 65535.0, 0.0]),
        (DType::I32, [-2147483648.0, -1.0, 0.0, 0.0, 1.0, 300.0, 70000.0, 2147483647.0, 0.0]),
        (DType::U32, [0.0, 0.0, 0.0, 0.0, 1.0, 300.0, 70000.0, 4294967295.0, 0.0]),
        (DType::I64, [i64::MIN as f64, -1.0, 0.0, 0.0, 1.0, 300.0, 70000.0, i64::MAX as f64, 0.0]),
        (DType::U64, [0.0, 0.0, 0.0, 0.0, 1.0, 300.0, 70000.0, u64::MAX as f64, 0.0]),
    ];
    for (dtype, want) in want {
        assert_eq!(numbers(&of(dtype, &floats)), want, "{dtype}");
        assert_eq!(numbers(&of_any(&of(DType::F32, &floats), dtype)), want, "f32 to {dtype}");
    }
    assert_eq!(of(DType::Bool, &floats).bytes(), [1, 1, 1, 0, 1, 1, 1, 1, 1]);
    let longs = vector(&[200i64, -1, 1 << 40]);
    assert_eq!(of_any(&longs, DType::I8).to_vec::<i8>().unwrap(), [-56, -1, 0]);
    assert_eq!(of_any(&longs, DType::U32).to_vec::<u32>().unwrap(), [200, u32::MAX, 0]);
    assert_eq!(of_any(&longs, DType::U64).to_vec::<u64>().unwrap(), [200, u64::MAX, 1 << 40]);
    assert_eq!(of_any(&longs, DType::Bool).bytes(), [1, 1, 1]);
    let truths = Tensor::from_bools(&[2], &[true, false]).unwrap();
    for dtype in FLOATS.into_iter().chain(SIGNED).chain(UNSIGNED) {
        assert_eq!(numbers(&of_any(&truths, dtype)), [1.0, 0.0], "{dtype}");
        assert_eq!(of_any(&of(dtype, &[3.0, 0.0]), DType::Bool).bytes(), [1, 0], "{dtype}");
    }
    // One rounding: over f32, this would round to even twice and end one step lower.
    let x = 1.0 + 1.0 / 2048.0 + 1.0 / (1u64 << 40) as f64;
    assert_eq!(
        of(DType::F16, &[x, 1e6, 3e-8]).to_vec::<f16>().unwrap(),
        [f16::from_f64(x), f16::INFINITY, f16::from_f64(3e-8)]
    );
    assert_eq!(of(DType::BF16, &[x]).to_vec::<bf16>().unwrap(), [bf16::from_f64(x)]);
}

#[test]
fn types_that_a_function_does_not_take_are_refused() {
    let given = |function: &Function, types: &[DType]| function.result(types).is_err();
    assert!(given(&EXP, &[DType::I32]));
    assert!(given(&ADD, &[DType::Bool, DType::Bool]));
    assert!(given(&ADD, &[DType::F32, DType::F64]));
    assert!(given(&ADD, &[DType::F32]));
    assert!(given(&AND, &[DType::I8, DType::I8]));
    assert!(given(&BIT_AND, &[DType::F32, DType::F32]));
    assert!(given(&SELECT, &[DType::F32, DType::F32, DType::F32]));
    let equal = Expr::call(&EQUAL, 2, Vec::new());
    for dtype in [DType::Str, DType::F8E4M3FN, DType::I4, DType::C64] {
        let error = equal.types(None, &[dtype, dtype]).unwrap_err();
        assert!(matches!(error, crate::OpError::Unsupported { .. }), "{dtype}: {error}");
    }
    assert_eq!(POW.result(&[DType::F16, DType::I64]).unwrap(), DType::F16);
    assert_eq!(SELECT.result(&[DType::Bool, DType::I8, DType::I8]).unwrap(), DType::I8);
}
