//! Products and convolutions of quantized integers on GPUs: sums in 32 bits from dot products of four bytes, and what
//! becomes of them as the end of the kernel.
//!
//! Bytes are taken as signed; unsigned ones are shifted by 128 together with their zero point. Then
//! `Σ (x − zx)(w − zw) = Σ x·w − zw·Σ x − zx·(Σ w − n·zw)`, where all that depends on the weights is known when they are
//! loaded.

use sardonyx_shaders::expression::{Expression, Output, Step};
use sardonyx_shaders::storage::{Storage, ValueType, Width};
use sardonyx_shaders::table::Variant;
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::ends::{Bounds, Places, Requantized, Rounding, zeros};
use super::product_cpu;
use crate::dispatch::{Binding, Candidate, Dispatch, Ending, Refusal, Scratch, linear_grid, word};
use crate::expr::{Expr, ExprNode, Scalar};
use crate::ir::dtype::DType;
use crate::ir::numbers;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::pointwise::functions::{ADD, CLIP, MUL, ROUND};
use crate::problem::{Operand, Problem};
use crate::repacked::Repacked;

/// A kernel's constants: what is added to sums, sums of weights, zero points of weights.
pub(super) struct Constants {
    /// All of them.
    pub all: Vec<i32>,
    /// Channels have zero points of their own.
    pub zeros: bool,
}

/// A kernel as far as it computes sums.
pub(super) struct Sums<'a> {
    /// The kernel.
    pub variant: &'static Variant,
    /// What it computes.
    pub problem: &'a Problem<'a>,
    /// Which inputs say what.
    pub places: Places,
    /// How its own inputs lie.
    pub inputs: Vec<(Storage, Width)>,
    /// Where they are.
    pub reads: Vec<Binding>,
    /// Its knobs.
    pub knobs: Vec<(&'static str, u32)>,
    /// Constants packed for it.
    pub packed: Vec<(Repacked, Storage)>,
    /// Its parameters.
    pub params: Vec<u8>,
    /// Workgroups.
    pub grid: [usize; 3],
    /// Output channels.
    pub channels: usize,
    /// Dimensions under which a number for each broadcasts to the output.
    pub along: Vec<usize>,
    /// Four results in a row begin at multiples of four.
    pub whole: bool,
}

/// A refusal of a kernel.
pub(super) fn refuse(variant: &'static Variant, reason: &str) -> Refusal {
    Refusal { kernel: variant.name, reason: reason.to_owned() }
}

/// Constant inputs as views.
fn constants<'a>(problem: &'a Problem<'a>) -> Vec<Option<View<'a>>> {
    problem.inputs.iter().map(|input| input.and_then(|input| input.value).map(Tensor::view)).collect()
}

/// Checks that an input is constant or absent.
pub(super) fn known(
    problem: &Problem<'_>,
    variant: &'static Variant,
    index: usize,
    what: &str,
) -> Result<(), Refusal> {
    match problem.input(index) {
        Some(operand) if operand.value.is_none() => Err(refuse(variant, &format!("{what} not constant"))),
        _ => Ok(()),
    }
}

/// A signed byte, and the shift that its zero point takes as well.
pub(super) fn signed(dtype: DType, byte: u8) -> i8 {
    if dtype == DType::I8 { byte as i8 } else { (byte ^ 0x80) as i8 }
}

fn shift(dtype: DType) -> i32 {
    if dtype == DType::I8 { 0 } else { 128 }
}

/// Checks the operands that are weights.
pub(super) fn check_weights(
    problem: &Problem<'_>,
    variant: &'static Variant,
    places: &Places,
) -> Result<(), Refusal> {
    known(problem, variant, places.w, "the weights are")?;
    known(problem, variant, places.w_zero, "the zero point of the weights is")?;
    let all = problem.inputs.iter().flatten().chain(&problem.outputs);
    if all.clone().any(|operand| operand.len() >= 1 << 31) {
        return Err(refuse(variant, "a tensor of 2^31 elements or more"));
    }
    Ok(())
}

impl Constants {
    /// `stride` numbers of each kind: for channel `c` at `place(c)`. `sums` are those of each channel's weights, `count` how
    /// many there are.
    ///
    /// # Errors
    /// When an input has another type, or there are too many weights.
    pub fn new(
        problem: &Problem<'_>,
        places: &Places,
        sums: &[i32],
        count: usize,
        (stride, place): (usize, impl Fn(usize) -> usize),
    ) -> Result<Constants, crate::OpError> {
        let views = constants(problem);
        let dtype = problem.input(places.w).map_or(DType::I8, |w| w.dtype);
        let zeros = zeros(views.get(places.w_zero).copied().flatten())?;
        let bias = match places.bias.and_then(|index| views.get(index).copied().flatten()) {
            Some(bias) if bias.dtype == DType::I32 => numbers::integers(&bias)?,
            _ => vec![0],
        };
        let mut all = vec![0; 3 * stride];
        let mut differ = false;
        for (channel, &sum) in sums.iter().enumerate() {
            let pick = |len: usize| if len == 1 { 0 } else { channel };
            let zero = i32::from(zeros.get(pick(zeros.len())).copied().unwrap_or(0)) - shift(dtype);
            let bias = bias.get(pick(bias.len())).copied().unwrap_or(0);
            let count = i32::try_from(count).map_err(|_| crate::OpError::Size)?;
            // An i32 fits; sums wrap as those of products do.
            let numbers = [bias as i32, sum.wrapping_sub(count.wrapping_mul(zero)), zero];
            for (kind, number) in numbers.into_iter().enumerate() {
                if let Some(slot) = all.get_mut(kind * stride + place(channel)) {
                    *slot = number;
                }
            }
            differ |= zero != 0;
        }
        Ok(Constants { all, zeros: differ })
    }
}

/// `cast(clip(round(sum · factor) + zero))`.
fn requantization(sum: ExprNode, factor: usize, zero: f32, range: [f32; 2], to: DType) -> Expr {
    let mut expr = Expr::default();
    let sum = expr.push(sum);
    let sum = expr.push(ExprNode::Cast { arg: sum, to: DType::F32 });
    let factor = expr.push(ExprNode::Operand(factor));
    let mut call = |function, args: &[usize], params: &[f32]| {
        expr.push(ExprNode::Call { function, args: args.to_vec(), params: params.to_vec() })
    };
    let product = call(&MUL, &[sum, factor], &[]);
    let rounded = call(&ROUND, &[product], &[]);
    let zero = expr.push(ExprNode::Constant(DType::F32, Scalar::Float(f64::from(zero))));
    let moved = expr.push(ExprNode::Call { function: &ADD, args: vec![rounded, zero], params: Vec::new() });
    let held = ExprNode::Call { function: &CLIP, args: vec![moved], params: range.to_vec() };
    let held = expr.push(held);
    expr.results = vec![expr.push(ExprNode::Cast { arg: held, to })];
    expr
}

/// `sum · (a · b) + bias`, the operands in that order from `first` on.
fn dequantization(first: usize, bias: bool) -> Vec<Step> {
    let call = |function: &str, args: &[usize]| Step::Call {
        function: function.to_owned(),
        args: args.to_vec(),
        params: Vec::new(),
        value: ValueType::F32,
    };
    let mut steps = vec![
        Step::Accumulator,
        call("cast_i32_f32", &[0]),
        Step::Operand(first),
        Step::Operand(first + 1),
        call("mul_f32", &[2, 3]),
        call("mul_f32", &[1, 4]),
    ];
    if bias {
        steps.extend([Step::Operand(first + 2), call("add_f32", &[5, 6])]);
    }
    steps
}

/// The end of a kernel that computes `expr`.
fn end(
    variant: &'static Variant,
    expr: &Expr,
    accumulator: Option<DType>,
    operands: &[(Operand<'_>, Storage, Binding)],
    output: (&[usize], Storage),
    width: Width,
) -> Result<Ending, Refusal> {
    let types: Vec<DType> = operands.iter().map(|(operand, ..)| operand.dtype).collect();
    let steps = expr.to_wgsl(accumulator, &types).map_err(|error| refuse(variant, &error.to_string()))?;
    let step = *steps.results.first().ok_or_else(|| refuse(variant, "an empty expression"))?;
    let mut ending = Ending {
        expression: Expression {
            accumulator: if accumulator.is_some() { ValueType::I32 } else { ValueType::F32 },
            operands: Vec::new(),
            steps: steps.steps,
            outputs: vec![Output { step, storage: output.1, width }],
        },
        reads: Vec::new(),
        operands: Vec::new(),
    };
    for (operand, storage, binding) in operands {
        ending
            .push_operand(operand, *storage, output.0, width, *binding)
            .ok_or_else(|| refuse(variant, "an operand that no kernel can read"))?;
    }
    Ok(ending)
}

impl Sums<'_> {
    /// The kernel with what becomes of its sums.
    ///
    /// # Errors
    /// When a scale is not constant, or the device cannot launch or bind so much.
    pub fn finish(
        mut self,
        caps: &Capabilities,
        result: product_cpu::Output,
        bounds: Bounds,
    ) -> Result<Candidate, Refusal> {
        let (variant, problem) = (self.variant, self.problem);
        let output = problem.outputs.first().ok_or_else(|| refuse(variant, "no output"))?;
        let storage = problem.stored(variant.name, Some(output))?;
        let width = if self.whole { Width::Four } else { Width::One };
        let store = |storage, width| Ending {
            expression: Expression::store(ValueType::I32, storage, width),
            reads: Vec::new(),
            operands: Vec::new(),
        };
        let mut scratch = Vec::new();
        let mut after = Vec::new();
        let mut writes = vec![Binding::Output(0)];
        let ending = match result {
            product_cpu::Output::Sums => store(storage, width),
            product_cpu::Output::Bytes(factor) => {
                let [scale, zero] = self.places.output.ok_or_else(|| refuse(variant, "no output scale"))?;
                let scales = self.places.scales.ok_or_else(|| refuse(variant, "no scales"))?;
                for index in scales.into_iter().chain([scale, zero]) {
                    known(problem, variant, index, "a scale or zero point is")?;
                }
                let views = constants(problem);
                let numbers = Requantized::<true>::new(&views, &self.places, self.channels, factor, bounds)
                    .map_err(|error| refuse(variant, &error.to_string()))?;
                let factors = numbers.factors(self.channels);
                let factors = Tensor::from_slice(&[factors.len()], factors)
                    .map_err(|error| refuse(variant, &error.to_string()))?;
                let operand = Operand {
                    dtype: DType::F32,
                    dims: &self.along,
                    value: None,
                    storage: Some(Storage::F32),
                };
                let binding = Binding::Packed(self.packed.len());
                self.packed.push((Repacked::Made(factors), Storage::F32));
                let [zero, least, greatest] = numbers.range();
                let expr = |sum, factor| requantization(sum, factor, zero, [least, greatest], output.dtype);
                let factors = (operand, Storage::F32, binding);
                if self.whole {
                    let expr = expr(ExprNode::Accumulator, 0);
                    end(variant, &expr, Some(DType::I32), &[factors], (output.dims, storage), width)?
                } else {
                    // Bytes are written four at a time: sums that do not begin so go through memory.
                    let sums = Operand {
                        dtype: DType::I32,
                        dims: output.dims,
                        value: None,
                        storage: Some(Storage::I32),
                    };
                    scratch.push(Scratch { storage: Storage::I32, len: output.len() });
                    writes = vec![Binding::Scratch(0)];
                    let operands = [(sums, Storage::I32, Binding::Scratch(0)), factors];
                    let expr = expr(ExprNode::Operand(0), 1);
                    let to = (output.dims, storage);
                    let ending = end(&table::POINTWISE, &expr, None, &operands, to, Width::Four)?;
                    after.push(pointwise(ending, output.len(), caps)?);
                    store(Storage::I32, Width::One)
                }
            }
            product_cpu::Output::Numbers(factor, rounding) => {
                let [x, w] = self.places.scales.ok_or_else(|| refuse(variant, "no scales"))?;
                if factor != 1.0 {
                    return Err(refuse(variant, "a factor besides the scales"));
                }
                let along = self.along.clone();
                let bias = self.places.bias.filter(|_| rounding != Rounding::Product);
                let mut ending = problem.ending(variant.name, ValueType::F32, width)?;
                let first = ending.expression.operands.len();
                for index in [Some(x), Some(w), bias].into_iter().flatten() {
                    let Some(input) = problem.input(index) else { continue };
                    let storage = problem.stored(variant.name, Some(input))?;
                    let dims: &[usize] = if input.len() == 1 { &[] } else { &along };
                    ending
                        .push_operand(
                            &Operand { dims, ..*input },
                            storage,
                            output.dims,
                            width,
                            Binding::Input(index),
                        )
                        .ok_or_else(|| refuse(variant, "an operand that no kernel can read"))?;
                }
                ending.expression.accumulator = ValueType::I32;
                let bias = ending.expression.operands.len() - first > 2;
                ending.prepend(dequantization(first, bias)).ok_or_else(|| refuse(variant, "an empty end"))?;
                ending
            }
        };
        let axis = |size: usize| word(variant.name, size).ok().filter(|&size| size <= caps.grid_axis);
        let [Some(x), Some(y), Some(z)] = self.grid.map(axis) else {
            return Err(refuse(variant, "more workgroups than the device can launch"));
        };
        let main = Dispatch {
            kernel: Kernel { variant, inputs: self.inputs, knobs: self.knobs, expression: ending.expression },
            reads: [self.reads, ending.reads].concat(),
            writes,
            params: self.params,
            operands: ending.operands,
            grid: [x, y, z],
        };
        Ok(Candidate {
            dispatches: std::iter::once(main).chain(after).collect(),
            packed: self.packed,
            scratch,
        })
    }
}

/// A launch of an expression over memory.
fn pointwise(ending: Ending, len: usize, caps: &Capabilities) -> Result<Dispatch, Refusal> {
    let variant = &table::POINTWISE;
    let params = params::pointwise::Pointwise { len: word(variant.name, len)?, ..Default::default() };
    Ok(Dispatch {
        kernel: Kernel { variant, inputs: Vec::new(), knobs: Vec::new(), expression: ending.expression },
        reads: ending.reads,
        writes: vec![Binding::Output(0)],
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: ending.operands,
        grid: linear_grid(variant.name, len.div_ceil(4 * 64), caps)?,
    })
}

/// The zero point of the first factor as a word.
pub(super) fn zero(problem: &Problem<'_>, places: &Places, packed: &mut Vec<(Repacked, Storage)>) -> Binding {
    if problem.input(places.x_zero).is_some() {
        return Binding::Input(places.x_zero);
    }
    packed.push((Repacked::Made(Tensor::scalar(0u32)), Storage::U32));
    Binding::Packed(packed.len() - 1)
}

/// The knobs that are on.
pub(super) fn knobs<const N: usize>(all: [(&'static str, bool); N]) -> Vec<(&'static str, u32)> {
    all.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, 1)).collect()
}
