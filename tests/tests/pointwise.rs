//! Pointwise operators on every device.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::sync::Arc;

use sardonyx_ops::expr::function::{Accepts, Function};
use sardonyx_ops::expr::{Expr, ExprNode};
use sardonyx_ops::pointwise::functions::{self, FUNCTIONS};
use sardonyx_ops::pointwise::{CastLike, Pointwise, cast};
use sardonyx_ops::{DType, Operator, Tensor};
use sardonyx_tests::{Check, Random};

/// The types that GPUs hold.
const FLOATS: [DType; 2] = [DType::F32, DType::F16];
const INTEGERS: [DType; 8] =
    [DType::I8, DType::I16, DType::I32, DType::I64, DType::U8, DType::U16, DType::U32, DType::U64];

fn pointwise(name: &'static str, expr: Expr) -> Arc<dyn Operator> {
    Arc::new(Pointwise { name, expr })
}

/// A vector of another type, by ONNX `Cast`.
fn of(dtype: DType, values: &[f64]) -> Tensor {
    let all = Tensor::from_slice(&[values.len()], values).unwrap();
    cast(dtype).reference(&[Some(all.view())], 1).unwrap().remove(0)
}

#[test]
fn sums_broadcast_in_every_way() {
    let mut random = Random(1);
    let shapes: &[(&[usize], &[usize])] = &[
        (&[1], &[1]),
        (&[17], &[17]),
        (&[3, 65], &[65]),
        (&[3, 64], &[64]),
        (&[2, 5, 127], &[5, 1]),
        (&[2, 5, 128], &[5, 1]),
        (&[3, 1, 7], &[4, 1]),
        (&[2, 3, 4, 5], &[2, 1, 4, 1]),
        (&[1025, 33], &[]),
    ];
    for dtype in [DType::F32, DType::I64] {
        for (a, b) in shapes {
            let inputs = vec![Some(random.tensor_of(dtype, a)), Some(random.tensor_of(dtype, b))];
            Check::new(pointwise("Add", Expr::call(&functions::ADD, 2, Vec::new())), inputs).run();
        }
    }
}

/// All functions that take such types, several to an operator: (function, parameters).
fn all_of(accepted: &[Accepts]) -> Vec<(&'static Function, Vec<f32>)> {
    let all = FUNCTIONS.iter().flat_map(|functions| functions.iter().copied());
    all.filter(|function| accepted.contains(&function.accepts))
        .map(|function| (function, [0.75, 1.25][..function.params].to_vec()))
        .collect()
}

/// One operator with a result for each function, so that a kernel tests several. Operands: condition, a, b.
fn joined(functions: &[(&'static Function, Vec<f32>)]) -> Arc<dyn Operator> {
    let mut expr = Expr { nodes: (0..3).map(ExprNode::Operand).collect(), results: Vec::new() };
    for (function, params) in functions {
        let args = (if function.same_from == 1 { 0 } else { 1 }..3).take(function.arity).collect();
        let result = expr.push(ExprNode::Call { function, args, params: params.clone() });
        expr.results.push(result);
    }
    pointwise("Several", expr)
}

fn check_all(functions: &[(&'static Function, Vec<f32>)], condition: &Tensor, a: &Tensor, b: &Tensor) {
    // A kernel of WebGPU's default limits binds eight buffers, three of which are the inputs here.
    for several in functions.chunks(5) {
        let inputs = vec![Some(condition.clone()), Some(a.clone()), Some(b.clone())];
        Check::new(joined(several), inputs).outputs(several.len()).as_modelled().run();
    }
}

/// Every other element.
fn condition(len: usize) -> Tensor {
    let all: Vec<bool> = (0..len).map(|i| i % 2 == 0).collect();
    Tensor::from_bools(&[len], &all).unwrap()
}

#[test]
fn functions_of_floats() {
    let functions = all_of(&[Accepts::Floats, Accepts::Numbers, Accepts::Any]);
    assert!(functions.len() > 55, "{}", functions.len());
    // Both operands of every sign and size; nothing where a rounding error decides about the result.
    let a: Vec<f64> = (0..127).map(|i| f64::from(i - 63) * 0.0625 + 0.01).collect();
    let b: Vec<f64> = (0..127).map(|i| f64::from((i * 37) % 127 - 63) * 0.03125 + 0.02).collect();
    for dtype in FLOATS {
        check_all(&functions, &condition(127), &of(dtype, &a), &of(dtype, &b));
    }
}

#[test]
fn functions_of_large_small_and_special_floats() {
    let special = [
        0.0,
        -0.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1.0,
        -1.0,
        1e-20,
        -1e-20,
        -3.0,
        30.0,
        -30.0,
        500.0,
        -500.0,
        1e30,
        -1e30,
    ];
    let pairs: Vec<(f64, f64)> = special.iter().flat_map(|&a| special.iter().map(move |&b| (a, b))).collect();
    let a: Vec<f64> = pairs.iter().map(|pair| pair.0).collect();
    let b: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
    // Powers and trigonometric functions of such numbers mean nothing, and remainders of distant ones little.
    let left_out = ["pow", "sin", "cos", "tan", "mod", "remainder"];
    let mut functions = all_of(&[Accepts::Floats, Accepts::Numbers, Accepts::Any]);
    functions.retain(|(function, _)| !left_out.contains(&function.name));
    // Beside 1e30 the other results would all count as close, so each magnitude is checked on its own.
    let (large, small): (Vec<usize>, Vec<usize>) =
        (0..pairs.len()).partition(|&i| [a[i], b[i]].iter().any(|x| x.is_finite() && x.abs() > 100.0));
    for chosen in [large, small] {
        let pick = |all: &[f64]| of(DType::F32, &chosen.iter().map(|&i| all[i]).collect::<Vec<_>>());
        check_all(&functions, &condition(chosen.len()), &pick(&a), &pick(&b));
    }
}

/// The largest error, relative to the result, over the whole range where a function is not constant.
#[test]
fn functions_of_floats_keep_their_digits() {
    let points = |low: f64, high: f64| -> Vec<f64> {
        (0..400).map(|i| low + (high - low) * f64::from(i) / 399.0).chain([1e-3, -1e-3, 1e-6]).collect()
    };
    // Divided by the exact result, all results are near 1, so that the harness's tolerance is a relative one.
    let rows: [(&'static Function, Vec<f64>, f64); 12] = [
        (&functions::ERF, points(-4.5, 4.5), 5e-7),
        (&functions::TANH, points(-12.0, 12.0), 5e-7),
        (&functions::SIGMOID, points(-20.0, 20.0), 4e-6),
        (&functions::EXP, points(-20.0, 20.0), 4e-6),
        (&functions::ATAN, points(-40.0, 40.0), 5e-7),
        (&functions::ASIN, points(-1.0, 1.0), 5e-7),
        (&functions::ACOS, points(-1.0, 0.9), 5e-7),
        (&functions::SINH, points(-20.0, 20.0), 4e-6),
        (&functions::ASINH, points(-40.0, 40.0), 2e-6),
        (&functions::ATANH, points(-0.9, 0.9), 2e-6),
        (&functions::SOFTPLUS, points(-15.0, 15.0), 4e-6),
        (&functions::ELU, points(-8.0, -1e-4), 2e-6),
    ];
    for (function, points, tolerance) in rows {
        let x = of(DType::F32, &points);
        let params = vec![1.0; function.params];
        let exact = Pointwise { name: "Exact", expr: Expr::call(function, 1, params.clone()) };
        let exact = exact.reference(&[Some(x.view())], 1).unwrap().remove(0);
        let mut expr = Expr::call(function, 1, params);
        let divisor = expr.push(ExprNode::Operand(1));
        let args = vec![expr.results[0], divisor];
        let ratio = expr.push(ExprNode::Call { function: &functions::DIV, args, params: Vec::new() });
        expr.results = vec![ratio];
        let op = pointwise(function.name, expr);
        Check::new(op, vec![Some(x), Some(exact)]).tolerance(tolerance, 4e-3).as_modelled().run();
    }
    // Far from 0 a sine has few exact digits, but it stays a sine.
    for function in [&functions::SIN, &functions::COS] {
        let x = of(DType::F32, &points(-6000.0, 6000.0));
        let op = pointwise(function.name, Expr::call(function, 1, Vec::new()));
        Check::new(op, vec![Some(x)]).tolerance(2e-6, 4e-3).as_modelled().run();
    }
}

#[test]
fn functions_of_integers() {
    let mut functions = all_of(&[Accepts::Numbers, Accepts::Integers, Accepts::Any]);
    // The parameters of Shrink are floats: on a GPU it is for floats only.
    functions.retain(|(function, _)| function.name != "shrink");
    let mut random = Random(5);
    for dtype in INTEGERS {
        // The ends of every width, numbers near 0, and random bits of all lengths.
        let ends = [0, 1, -1, 2, 3, -7, 31, 32, 63, 64, 127, -128, 255, i32::MIN as i64, i64::MIN, i64::MAX];
        let mut pairs: Vec<(i64, i64)> =
            ends.iter().flat_map(|&a| ends.iter().map(move |&b| (a, b))).collect();
        for _ in 0..255 {
            let (a, b) = (random.below(64), random.below(64));
            pairs.push((random.bits() as i64 >> a, random.bits() as i64 >> b));
        }
        let integers = |all: Vec<i64>| {
            let all = Tensor::from_vec(&[all.len()], all).unwrap();
            cast(dtype).reference(&[Some(all.view())], 1).unwrap().remove(0)
        };
        let a = integers(pairs.iter().map(|pair| pair.0).collect());
        let b = integers(pairs.iter().map(|pair| pair.1).collect());
        check_all(&functions, &condition(pairs.len()), &a, &b);
    }
}

#[test]
fn functions_of_truth_values() {
    let mut functions = all_of(&[Accepts::Bools, Accepts::Any]);
    functions.retain(|(function, _)| function.params == 0);
    let truths = |period: usize| {
        let all: Vec<bool> = (0..67).map(|i| i % period == 0).collect();
        Tensor::from_bools(&[67], &all).unwrap()
    };
    check_all(&functions, &truths(2), &truths(3), &truths(5));
}

#[test]
fn conversions_between_all_types() {
    let values = [
        0.0, 1.0, -1.0, 0.4, 1.6, -2.7, 100.0, 127.0, 128.0, 200.0, 255.0, 3000.0, 65504.0, 1e5, 3e9, -3e9,
        1e19, -1e19, 1e-5,
    ];
    let types: Vec<DType> = FLOATS.into_iter().chain([DType::BF16, DType::Bool]).chain(INTEGERS).collect();
    for &from in &types {
        for &to in &types {
            let x = of(from, &values);
            Check::new(Arc::new(cast(to)), vec![Some(x.clone())]).as_modelled().run();
            // Through the other type and back, in one kernel.
            let mut back = cast(to).expr;
            let arg = back.results[0];
            back.results = vec![back.push(ExprNode::Cast { arg, to: from })];
            Check::new(pointwise("Back", back), vec![Some(x)]).as_modelled().run();
        }
    }
    for &from in &types {
        for &to in &types {
            for len in [1, 3] {
                Check::new(Arc::new(cast(to)), vec![Some(of(from, &values[1..][..len]))]).as_modelled().run();
            }
        }
    }
    let like = vec![Some(of(DType::F32, &values)), Some(of(DType::I8, &[1.0]))];
    Check::new(Arc::new(CastLike::default()), like).run();
    // NaN is zero as an integer.
    Check::new(Arc::new(cast(DType::I64)), vec![Some(of(DType::F32, &[f64::NAN, 5.0]))]).run();
}

#[test]
fn powers_with_exponents_of_another_type() {
    let pow = || pointwise("Pow", Expr::call(&functions::POW, 2, Vec::new()));
    let base = [-2.5, -1.0, 0.5, 1.0, 1.5, 3.0];
    for exponent in [DType::I32, DType::I64, DType::U8] {
        for power in [0.0, 1.0, 2.0, 3.0, 5.0] {
            let inputs = vec![Some(of(DType::F32, &base)), Some(of(exponent, &[power]))];
            Check::new(pow(), inputs).run();
        }
    }
    let inputs = vec![Some(of(DType::F32, &[0.25, 2.0, 9.0])), Some(of(DType::F32, &[0.5, -1.5, 2.25]))];
    Check::new(pow(), inputs).run();
    let inputs = vec![Some(of(DType::I32, &[2.0, 9.0])), Some(of(DType::F32, &[0.5, 3.0]))];
    Check::new(pow(), inputs).cpu_only().run();
}

#[test]
fn absent_inputs_are_left_out() {
    let mut expr = Expr { nodes: vec![ExprNode::Operand(0), ExprNode::Operand(1)], results: vec![2] };
    expr.push(ExprNode::Call { function: &functions::MIN, args: vec![0, 1], params: Vec::new() });
    let inputs = vec![Some(of(DType::F32, &[-1.0, 0.5, 7.0])), None, Some(of(DType::F32, &[2.0]))];
    Check::new(pointwise("Clip", expr), inputs).run();
}
