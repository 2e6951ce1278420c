//! [`DynamicQuantizeLinear`](https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html): floats as bytes, with the
//! scale and the zero point that suit them.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;
use sardonyx_shaders::storage::Storage;

use super::dynamic_cpu::DynamicKernel;
use super::granularity::quantized;
use crate::build::NodeSpec;
use crate::dispatch::{Binding, Candidate, Lowering, Refusal, Scratch};
use crate::error::OpError;
use crate::expr::{Expr, ExprNode, Function, Scalar};
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{required, view};
use crate::operator::{CpuKernel, Operator};
use crate::pointwise::Pointwise;
use crate::pointwise::functions::{ADD, CLIP, DIV, EQUAL, MAX, MIN, ROUND, SELECT, SUB};
use crate::problem::{Operand, Problem};
use crate::reduce::{Axes, Kind, Reduce, Reduced};

/// Bytes, scale, zero point: such that 0 and every element are in range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DynamicQuantizeLinear;

/// Builds [`DynamicQuantizeLinear`].
///
/// # Errors
/// When there is not one input.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(DynamicQuantizeLinear))
}

fn expect_f32(dtype: DType) -> Result<(), OpError> {
    match dtype {
        DType::F32 => Ok(()),
        got => Err(OpError::Type { input: 0, expected: "f32", got }),
    }
}

/// The scale and the zero point that suit numbers from the least, at most 0, to the greatest, at least 0.
pub(super) fn suited(least: f32, greatest: f32) -> (f32, f32) {
    let scale = (greatest - least) / 255.0;
    // Nothing but zeros can have any scale.
    let scale = if scale == 0.0 { 1.0 } else { scale };
    (scale, (0.0 - least / scale).clamp(0.0, 255.0).round_ties_even())
}

const KERNEL: &str = "DynamicQuantizeLinear";

fn refuse(reason: &str) -> Refusal {
    Refusal { kernel: KERNEL, reason: reason.to_owned() }
}

/// The extremes, one reduction each; then scale, zero point and bytes as expressions of them.
fn candidate(problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
    let (Some(x), [_, _, _]) = (problem.input(0), problem.outputs.as_slice()) else {
        return Err(refuse("not all of its outputs are wanted"));
    };
    let one = Operand { dtype: DType::F32, dims: &[], value: None, storage: Some(Storage::F32) };
    let mut all = Candidate {
        scratch: vec![Scratch { storage: Storage::F32, len: 1 }, Scratch { storage: Storage::F32, len: 1 }],
        ..Candidate::default()
    };
    for (index, kind) in [Kind::Min, Kind::Max].into_iter().enumerate() {
        let reduced =
            Reduced { axes: Axes::Attribute(Vec::new()), keepdims: false, noop_with_empty_axes: false };
        let reduce = Reduce { name: kind.name(), kind, reduced };
        let own = Problem { inputs: vec![Some(*x)], outputs: vec![one], epilogue: None };
        append(&mut all, reduce.lower(&own, caps), &[Binding::Input(0)], Binding::Scratch(index))?;
    }
    let (least, greatest) = ((one, Binding::Scratch(0)), (one, Binding::Scratch(1)));
    let exprs = [bytes(), scale(), zero_point()];
    for (index, (expr, output)) in exprs.into_iter().zip(&problem.outputs).enumerate() {
        let given = [least, greatest, (*x, Binding::Input(0))];
        let given = &given[..if index == 0 { 3 } else { 2 }];
        let own = Problem {
            inputs: given.iter().map(|(operand, _)| Some(*operand)).collect(),
            outputs: vec![*output],
            epilogue: None,
        };
        let bindings: Vec<Binding> = given.iter().map(|(_, binding)| *binding).collect();
        let lowering = Pointwise { name: KERNEL, expr }.lower(&own, caps);
        append(&mut all, lowering, &bindings, Binding::Output(index))?;
    }
    Ok(all)
}

/// Adds the launches of a part, whose inputs and output lie elsewhere.
fn append(all: &mut Candidate, part: Lowering, inputs: &[Binding], output: Binding) -> Result<(), Refusal> {
    let Some(mut part) = part.candidates.into_iter().next() else {
        return Err(part.refused.into_iter().next().unwrap_or_else(|| refuse("no kernel")));
    };
    let (packed, scratch) = (all.packed.len(), all.scratch.len());
    let place = |binding: &mut Binding| {
        *binding = match *binding {
            Binding::Input(index) => inputs.get(index).copied().unwrap_or(Binding::Input(index)),
            Binding::Output(_) => output,
            Binding::Packed(index) => Binding::Packed(packed + index),
            Binding::Scratch(index) => Binding::Scratch(scratch + index),
            other @ Binding::Operand(_) => other,
        };
    };
    for dispatch in &mut part.dispatches {
        dispatch.reads.iter_mut().chain(&mut dispatch.writes).for_each(place);
    }
    all.dispatches.append(&mut part.dispatches);
    all.packed.append(&mut part.packed);
    all.scratch.append(&mut part.scratch);
    Ok(())
}

/// An expression of the least and the greatest number, operands 0 and 1.
#[derive(Default)]
struct Steps(Expr);

impl Steps {
    fn call(&mut self, function: &'static Function, args: &[usize], params: &[f32]) -> usize {
        self.0.push(ExprNode::Call { function, args: args.to_vec(), params: params.to_vec() })
    }

    fn number(&mut self, x: f64) -> usize {
        self.0.push(ExprNode::Constant(DType::F32, Scalar::Float(x)))
    }

    /// The least number that counts, and the scale.
    fn scale(&mut self) -> (usize, usize) {
        let zero = self.number(0.0);
        let (least, greatest) = (self.0.push(ExprNode::Operand(0)), self.0.push(ExprNode::Operand(1)));
        let least = self.call(&MIN, &[least, zero], &[]);
        let greatest = self.call(&MAX, &[greatest, zero], &[]);
        let spread = self.call(&SUB, &[greatest, least], &[]);
        let (steps, one) = (self.number(255.0), self.number(1.0));
        let scale = self.call(&DIV, &[spread, steps], &[]);
        let none = self.call(&EQUAL, &[scale, zero], &[]);
        (least, self.call(&SELECT, &[none, one, scale], &[]))
    }

    fn zero_point(&mut self) -> (usize, usize) {
        let (least, scale) = self.scale();
        let ratio = self.call(&DIV, &[least, scale], &[]);
        let zero = self.number(0.0);
        let below = self.call(&SUB, &[zero, ratio], &[]);
        let held = self.call(&CLIP, &[below], &[0.0, 255.0]);
        (self.call(&ROUND, &[held], &[]), scale)
    }

    fn finish(mut self, result: usize, to: DType) -> Expr {
        let result = if to == DType::F32 { result } else { self.0.push(ExprNode::Cast { arg: result, to }) };
        self.0.results = vec![result];
        self.0
    }
}

fn scale() -> Expr {
    let mut steps = Steps::default();
    let (_, scale) = steps.scale();
    steps.finish(scale, DType::F32)
}

fn zero_point() -> Expr {
    let mut steps = Steps::default();
    let (zero_point, _) = steps.zero_point();
    steps.finish(zero_point, DType::U8)
}

/// The bytes of operand 2.
fn bytes() -> Expr {
    let mut steps = Steps::default();
    let (zero_point, scale) = steps.zero_point();
    let x = steps.0.push(ExprNode::Operand(2));
    let ratio = steps.call(&DIV, &[x, scale], &[]);
    let rounded = steps.call(&ROUND, &[ratio], &[]);
    let moved = steps.call(&ADD, &[rounded, zero_point], &[]);
    let held = steps.call(&CLIP, &[moved], &[0.0, 255.0]);
    steps.finish(held, DType::U8)
}

impl Operator for DynamicQuantizeLinear {
    fn name(&self) -> &'static str {
        "DynamicQuantizeLinear"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        expect_f32(x.dtype)?;
        let y = Fact { dtype: DType::U8, shape: x.shape.clone(), value: None, sizes: None };
        let all = [y, Fact::known(DType::F32, &[]), Fact::known(DType::U8, &[])];
        Ok(all.into_iter().take(outputs.max(1)).collect())
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        expect_f32(x.dtype)?;
        let data: Vec<f32> = numbers::floats(&x)?.into_iter().map(|x| x as f32).collect();
        let (least, greatest) =
            data.iter().fold((0f32, 0f32), |(least, greatest), &x| (least.min(x), greatest.max(x)));
        let (scale, zero_point) = suited(least, greatest);
        let byte = |x: f32| quantized(f64::from(x / scale), f64::from(zero_point), (0.0, 255.0)) as u8;
        let y = Tensor::from_vec(x.dims, data.into_iter().map(byte).collect::<Vec<u8>>())?;
        let all = [y, Tensor::scalar(scale), Tensor::scalar(zero_point as u8)];
        Ok(all.into_iter().take(outputs.max(1)).collect())
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let float = problem.input(0).is_some_and(|x| x.dtype == DType::F32);
        Ok(if float && problem.outputs.len() == 3 { Some(Box::new(DynamicKernel)) } else { None })
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(candidate(problem, caps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(x: &[f32]) -> (Vec<u8>, f32, u8) {
        let x = Tensor::from_slice(&[x.len()], x).unwrap();
        let y = DynamicQuantizeLinear.reference(&[Some(x.view())], 3).unwrap();
        (y[0].to_vec().unwrap(), y[1].to_vec().unwrap()[0], y[2].to_vec().unwrap()[0])
    }

    #[test]
    fn the_official_cases() {
        let y = run(&[0.0, 2.0, -3.0, -2.5, 1.34, 0.5]);
        assert_eq!(y, (vec![153, 255, 0, 26, 221, 179], 0.019_607_844, 153));
        assert_eq!(
            run(&[-1.0, -2.1, -1.3, -2.5, -3.34, -4.0]),
            (vec![191, 121, 172, 96, 42, 0], 0.015_686_275, 255)
        );
        assert_eq!(run(&[0.0, 0.0]), (vec![0, 0], 1.0, 0));
        assert_eq!(run(&[]), (vec![], 1.0, 0));
    }
}
