//! Expressions as such: types, text, joining, tiles, and their form on a GPU.

use sardonyx_shaders::expression::Step;

use super::eval::{Evaluation, TILE, Target};
use super::lanes::Lanes;
use super::{Expr, ExprNode, Scalar};
use crate::ir::dtype::DType;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::pointwise::functions::{ADD, CLIP, LEAKY_RELU, LESS, MUL, POW, RELU, SELECT, SIGMOID};

fn call(function: &'static super::Function, args: &[usize], params: &[f32]) -> ExprNode {
    ExprNode::Call { function, args: args.to_vec(), params: params.to_vec() }
}

/// `relu(acc + x0)`
fn bias_relu() -> Expr {
    let nodes =
        vec![ExprNode::Accumulator, ExprNode::Operand(0), call(&ADD, &[0, 1], &[]), call(&RELU, &[2], &[])];
    Expr { nodes, results: vec![3] }
}

#[test]
fn expressions_print() {
    assert_eq!(bias_relu().to_string(), "relu(add(acc, x0))");
    assert_eq!(Expr::call(&LEAKY_RELU, 1, vec![0.25]).to_string(), "leaky_relu(x0, 0.25)");
    let mut silu = Expr::call(&SIGMOID, 1, Vec::new());
    silu.results = vec![silu.nodes.len()];
    silu.nodes.push(call(&MUL, &[0, 1], &[]));
    assert_eq!(silu.to_string(), "mul(x0, sigmoid(x0))");
    // Doubled 60 times: the text stays short.
    let mut doubled = Expr { nodes: vec![ExprNode::Operand(0)], results: vec![60] };
    (0..60).for_each(|i| doubled.nodes.push(call(&ADD, &[i, i], &[])));
    let text = doubled.to_string();
    assert!(text.starts_with("t0 = add(x0, x0); t1 = add(t0, t0); "), "{text}");
    assert!(text.len() < 2000);
}

#[test]
fn types_follow_the_functions() {
    let mut expr = Expr::call(&LESS, 2, Vec::new());
    let chosen = expr.push(call(&SELECT, &[2, 0, 1], &[]));
    let cast = expr.push(ExprNode::Cast { arg: chosen, to: DType::F16 });
    let types = expr.types(None, &[DType::I8, DType::I8]).unwrap();
    assert_eq!(types[2..], [DType::Bool, DType::I8, DType::F16]);
    assert_eq!(cast, 4);
    assert!(expr.types(None, &[DType::I8, DType::I16]).is_err());
    assert!(expr.types(None, &[DType::I8]).is_err());
    assert!(bias_relu().types(None, &[DType::F32]).is_err(), "an accumulator is missing");
    assert_eq!(expr.operands(), 2);
    assert_eq!(expr.calls(), 3);
}

#[test]
fn an_operand_is_replaced_by_what_computes_it() {
    let outer = Expr::call(&MUL, 2, Vec::new());
    let inner = Expr::call(&ADD, 2, Vec::new());
    assert_eq!(outer.inline(0, &inner).to_string(), "mul(add(x2, x3), x1)");
    assert_eq!(outer.inline(1, &inner).to_string(), "mul(x0, add(x2, x3))");
    let swapped = outer.map_operands(|index| match index {
        0 => Err(ExprNode::Constant(DType::F32, Scalar::Float(2.5))),
        _ => Ok(0),
    });
    assert_eq!(swapped.to_string(), "mul(2.5, x0)");
}

#[test]
fn inlining_and_tidying_keep_the_meaning() {
    let add = Expr::call(&ADD, 2, Vec::new());
    // (x2 + x3) + (x2 + x3), written twice.
    let double = add.inline(0, &add).map_operands(|i| Ok(if i == 1 { 1 } else { i }));
    let both = double.inline(1, &add).map_operands(|i| Ok(if i >= 4 { i - 2 } else { i }));
    let tidy = both.tidied();
    assert_eq!(tidy.to_string(), "t0 = add(x2, x3); add(t0, t0)");
    assert_eq!(tidy.nodes.len(), 4);
    assert_eq!(tidy.calls(), 2);
}

/// Evaluates over whole tensors, tile by tile.
fn evaluate(expr: &Expr, operands: &[View<'_>], accumulator: Option<&[f32]>, dims: &[usize]) -> Vec<f32> {
    let shapes: Vec<_> = operands.iter().map(|view| (view.dtype, view.dims)).collect();
    let evaluation = Evaluation::new(expr, accumulator.map(|_| DType::F32), &shapes, dims).unwrap();
    let len: usize = dims.iter().product();
    let mut workspace = evaluation.workspace(len).unwrap();
    let mut y = vec![f32::NAN; len];
    let mut target = Target { outputs: &mut [bytemuck::cast_slice_mut(&mut y)], first: 0 };
    for start in (0..len).step_by(TILE) {
        let range = start..(start + TILE).min(len);
        let lanes = accumulator.map(|all| Lanes::F32(&all[range.clone()]));
        evaluation.tile(&mut workspace, operands, lanes, range, &mut target).unwrap();
    }
    y
}

#[test]
fn tiles_read_every_broadcast() {
    let (rows, columns) = (65, 127);
    let at = |dims: &[usize], scale: f32| {
        let len = dims.iter().product::<usize>();
        Tensor::from_vec(dims, (0..len).map(|i| i as f32 * scale).collect()).unwrap()
    };
    let all = at(&[rows, columns], 1.0);
    for (dims, scale, row, column) in
        [(&[columns][..], 0.5, 0, 1), (&[rows, 1], 0.25, 1, 0), (&[], 3.0, 0, 0), (&[1, 1], 2.0, 0, 0)]
    {
        let part = at(dims, scale);
        let got =
            evaluate(&Expr::call(&ADD, 2, Vec::new()), &[all.view(), part.view()], None, &[rows, columns]);
        for (i, got) in got.into_iter().enumerate() {
            let want = i as f32 + scale * ((i / columns) * row + (i % columns) * column) as f32;
            assert_eq!(got, want, "{dims:?} at {i}");
        }
    }
    // A middle axis stretches: two runs of the operand's elements for each of its rows.
    let (x, y) = (at(&[2, 3, 4], 1.0), at(&[2, 1, 4], 100.0));
    let got = evaluate(&Expr::call(&ADD, 2, Vec::new()), &[x.view(), y.view()], None, &[2, 3, 4]);
    let want: Vec<f32> = (0..24).map(|i| i as f32 + 100.0 * (i / 12 * 4 + i % 4) as f32).collect();
    assert_eq!(got, want);
}

#[test]
fn accumulators_constants_and_shared_values() {
    let accumulator: Vec<f32> = (0..1000).map(|i| i as f32 - 500.0).collect();
    let bias = Tensor::from_slice(&[10], &[1f32; 10]).unwrap();
    let got = evaluate(&bias_relu(), &[bias.view()], Some(&accumulator), &[100, 10]);
    assert!(got.iter().zip(&accumulator).all(|(&got, &x)| got == (x + 1.0).max(0.0)));
    // (x + 2) · x + (x + 2), with its buffers used again.
    let nodes = vec![
        ExprNode::Accumulator,
        ExprNode::Constant(DType::F32, Scalar::Float(2.0)),
        call(&ADD, &[0, 1], &[]),
        call(&MUL, &[2, 0], &[]),
        call(&ADD, &[3, 2], &[]),
    ];
    let expr = Expr { nodes, results: vec![4] };
    let got = evaluate(&expr, &[], Some(&accumulator), &[1000]);
    assert!(got.iter().zip(&accumulator).all(|(&got, &x)| got == (x + 2.0) * x + (x + 2.0)));
    // The result is an operand itself, or stands before the last node.
    let x = Tensor::from_slice(&[3], &[1f32, -2.0, 3.0]).unwrap();
    let same = Expr { nodes: vec![ExprNode::Operand(0)], results: vec![0] };
    assert_eq!(evaluate(&same, &[x.view()], None, &[3]), [1.0, -2.0, 3.0]);
    let early = Expr {
        nodes: vec![ExprNode::Operand(0), call(&RELU, &[0], &[]), call(&ADD, &[1, 1], &[])],
        results: vec![1],
    };
    assert_eq!(evaluate(&early, &[x.view()], None, &[3]), [1.0, 0.0, 3.0]);
}

#[test]
fn an_operand_shorter_than_its_dimensions_is_an_error() {
    let expr = Expr::call(&ADD, 2, Vec::new());
    let x = Tensor::from_slice(&[4], &[1f32; 4]).unwrap();
    let short = View { bytes: &x.bytes()[..8], ..x.view() };
    let shapes = [(DType::F32, &[4][..]), (DType::F32, &[4][..])];
    let evaluation = Evaluation::new(&expr, None, &shapes, &[4]).unwrap();
    let mut y = [0f32; 4];
    let mut target = Target { outputs: &mut [bytemuck::cast_slice_mut(&mut y)], first: 0 };
    let mut workspace = evaluation.workspace(4).unwrap();
    assert!(evaluation.tile(&mut workspace, &[x.view(), short], None, 0..4, &mut target).is_err());
    let mut target = Target { outputs: &mut [bytemuck::cast_slice_mut(&mut y[..2])], first: 0 };
    assert!(evaluation.tile(&mut workspace, &[x.view(), x.view()], None, 0..4, &mut target).is_err());
}

/// The steps in short: calls by name.
fn steps(expr: &Expr, operands: &[DType]) -> Vec<String> {
    let all = expr.to_wgsl(None, operands).unwrap();
    assert_eq!(all.results, [all.steps.len() - 1]);
    let name = |step: &Step| match step {
        Step::Call { function, args, params, .. } => format!("{function}{args:?}{}", params.join(",")),
        Step::Operand(index) => format!("x{index}"),
        Step::Constant(_, text) => text.clone(),
        Step::Accumulator => "acc".to_owned(),
        Step::Second => "second".to_owned(),
    };
    all.steps.iter().map(name).collect()
}

#[test]
fn steps_of_a_kernel() {
    let add = Expr::call(&ADD, 2, Vec::new());
    assert_eq!(steps(&add, &[DType::F16; 2]), ["x0", "x1", "add_f32[0, 1]"]);
    assert_eq!(steps(&add, &[DType::U64; 2]), ["x0", "x1", "add_u64[0, 1]"]);
    assert_eq!(steps(&add, &[DType::I8; 2]), ["x0", "x1", "add_i32[0, 1]", "wrap_i8[2]"]);
    assert_eq!(
        steps(&Expr::call(&CLIP, 1, vec![-1.0, 6.0]), &[DType::F32]),
        ["x0", "clip_f32[0]f32(-1.0),f32(6.0)"]
    );
    let pow = Expr::call(&POW, 2, Vec::new());
    assert_eq!(steps(&pow, &[DType::F32, DType::I64]), ["x0", "x1", "cast_i64_f32[1]", "pow_f32[0, 2]"]);
    assert_eq!(steps(&pow, &[DType::I32, DType::U8]), ["x0", "x1", "cast_u32_i32[1]", "pow_i32[0, 2]"]);
    assert!(pow.to_wgsl(None, &[DType::I32, DType::F32]).is_err());
    let select = Expr::call(&SELECT, 3, Vec::new());
    assert_eq!(steps(&select, &[DType::Bool; 3])[3], "select_bool[0, 1, 2]");
    assert_eq!(steps(&Expr::call(&LESS, 2, Vec::new()), &[DType::I64; 2])[2], "less_i64[0, 1]");
    assert!(add.to_wgsl(None, &[DType::F64; 2]).is_err(), "no 64-bit floats on a GPU");
    assert!(Expr::call(&CLIP, 1, vec![0.0, f32::INFINITY]).to_wgsl(None, &[DType::F32]).is_err());
}

#[test]
fn conversions_in_a_kernel() {
    let cast = |from: DType, to: DType| steps(&crate::pointwise::cast(to).expr, &[from])[1..].to_vec();
    assert_eq!(cast(DType::F32, DType::I8), ["cast_f32_i8[0]"]);
    assert_eq!(cast(DType::F32, DType::U64), ["cast_f32_u64[0]"]);
    assert_eq!(cast(DType::I32, DType::I8), ["wrap_i8[0]"]);
    assert_eq!(cast(DType::I64, DType::U16), ["cast_i64_u32[0]", "wrap_u16[1]"]);
    assert_eq!(cast(DType::F32, DType::F16), ["round_to_f16[0]"]);
    assert_eq!(cast(DType::F16, DType::BF16), ["round_to_bf16[0]"]);
    assert_eq!(cast(DType::I64, DType::F16), ["cast_i64_f32[0]", "round_to_f16[1]"]);
    assert_eq!(cast(DType::F16, DType::F32), Vec::<String>::new());
    assert_eq!(cast(DType::Bool, DType::I64), ["cast_bool_i64[0]"]);
}
