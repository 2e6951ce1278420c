//! Pointwise expressions as WGSL: the generated end of every kernel.
//!
//! A kernel computes an accumulator for some output elements and hands it to `emit4(acc, i, n)`: `i` is the flat index
//! of the first element, `n` how many of the four lanes count. The specialiser writes that function from an
//! [`Expression`], so a bias, an activation, a residual or a cast costs no dispatch.

use std::fmt::Write;

use crate::storage::{Storage, ValueType, Width};

/// Which element of an operand belongs to flat output index `i`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pattern {
    /// Element `i`.
    Same,
    /// Element 0.
    Scalar,
    /// Element `(i / inner) % count`, the same for four neighbours: `inner` is a multiple of four.
    Splat,
    /// Element `i % count`, four neighbours in a row: `count` is a multiple of four.
    Row,
    /// Element `(i / inner) % count`, lane by lane.
    Channel,
    /// Any broadcast of up to eight collapsed dimensions, lane by lane.
    Strided,
}

/// An operand of an expression: how it lies in memory, and how it broadcasts. Its numbers are in [`OperandParams`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Operand {
    /// Layout in its buffer.
    pub storage: Storage,
    /// Whether its binding is an array of groups of four.
    pub width: Width,
    /// Broadcast.
    pub pattern: Pattern,
}

/// The numbers of one operand's broadcast, as the kernel reads them from its uniform buffer.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct OperandParams {
    /// Elements of the output that share one element of a `Splat` or `Channel` operand.
    pub inner: u32,
    /// Elements of a `Splat`, `Row` or `Channel` operand.
    pub count: u32,
    /// Dimensions in use by a `Strided` operand.
    pub rank: u32,
    /// Fills the row of four words.
    pub pad: u32,
    /// Output dimensions of a `Strided` operand, innermost first.
    pub dims: [u32; 8],
    /// Its strides in elements, innermost first; 0 where it broadcasts.
    pub strides: [u32; 8],
}

/// One step of an expression.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    /// What the kernel hands to `emit4`.
    Accumulator,
    /// What it hands over besides: its private variable `second`, a vector of the accumulator's type.
    Second,
    /// An operand, by index.
    Operand(usize),
    /// A constant: a WGSL expression of one value of this type.
    Constant(ValueType, String),
    /// A library function over earlier steps, then constant parameters.
    Call {
        /// The function's full name, such as `relu_f32`.
        function: String,
        /// Earlier steps, by index.
        args: Vec<usize>,
        /// WGSL literals passed after them.
        params: Vec<String>,
        /// The type of the result.
        value: ValueType,
    },
}

impl Step {
    /// The type that the step itself names.
    pub fn value(&self) -> Option<ValueType> {
        match self {
            Step::Constant(value, _) | Step::Call { value, .. } => Some(*value),
            Step::Accumulator | Step::Second | Step::Operand(_) => None,
        }
    }
}

/// One stored result.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Output {
    /// The step whose value is stored.
    pub step: usize,
    /// Layout in its buffer.
    pub storage: Storage,
    /// Whether groups of four are aligned.
    pub width: Width,
}

/// What happens to an accumulator before it is stored.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Expression {
    /// The type of the accumulator.
    pub accumulator: ValueType,
    /// Operands read besides the kernel's own inputs.
    pub operands: Vec<Operand>,
    /// Steps in order.
    pub steps: Vec<Step>,
    /// What is stored.
    pub outputs: Vec<Output>,
}

impl Expression {
    /// Stores the accumulator as it is.
    pub fn store(accumulator: ValueType, storage: Storage, width: Width) -> Expression {
        Expression {
            accumulator,
            operands: Vec::new(),
            steps: vec![Step::Accumulator],
            outputs: vec![Output { step: 0, storage, width }],
        }
    }

    /// Writes `emit4`, and `emit` for kernels that produce one element at a time (`single`).
    pub(crate) fn write(&self, out: &mut String, single: bool) {
        for (index, operand) in self.operands.iter().enumerate() {
            write_operand(out, index, *operand);
        }
        let _ = writeln!(out, "fn emit4(acc: {}, i: u32, n: u32) {{", self.accumulator.vector());
        for (index, step) in self.steps.iter().enumerate() {
            let text = match step {
                Step::Accumulator => "acc".to_owned(),
                Step::Second => "second".to_owned(),
                Step::Operand(operand) => format!("operand{operand}(i)"),
                Step::Constant(value, text) => value.gather([text, text, text, text]),
                Step::Call { function, args, params, .. } => {
                    let all: Vec<String> =
                        args.iter().map(|arg| format!("s{arg}")).chain(params.iter().cloned()).collect();
                    format!("{function}({})", all.join(", "))
                }
            };
            let _ = writeln!(out, "  let s{index} = {text};");
        }
        for (index, output) in self.outputs.iter().enumerate() {
            let _ = writeln!(out, "  y{index}_put4(i, s{}, n);", output.step);
        }
        out.push_str("}\n");
        if single {
            let value = self.accumulator;
            let four = value.gather(["acc", "acc", "acc", "acc"]);
            let _ = writeln!(out, "fn emit(acc: {}, i: u32) {{ emit4({four}, i, 1u); }}", value.scalar());
        }
    }

    /// Whether every result can be stored one element at a time, as `emit` does.
    pub fn emits_single(&self) -> bool {
        self.outputs.iter().all(|output| output.storage.writes_single() && output.width == Width::One)
    }
}

fn write_operand(out: &mut String, index: usize, operand: Operand) {
    let name = format!("e{index}");
    let value = operand.storage.value();
    let params = format!("operand_params[{index}]");
    let lanes = |at: &dyn Fn(usize) -> String| {
        let parts: Vec<String> = (0..4).map(|lane| format!("{name}_at({})", at(lane))).collect();
        value.gather([&parts[0], &parts[1], &parts[2], &parts[3]])
    };
    let text = match operand.pattern {
        Pattern::Same => format!("{name}_at4(i)"),
        Pattern::Scalar => lanes(&|_| "0u".to_owned()),
        Pattern::Splat => {
            let _ = writeln!(
                out,
                "fn {name}_one(i: u32) -> {} {{ return {name}_at((i / {params}.inner) % {params}.count); }}",
                value.scalar()
            );
            let _ = writeln!(
                out,
                "fn operand{index}(i: u32) -> {} {{ let v = {name}_one(i); return {}; }}",
                value.vector(),
                value.gather(["v", "v", "v", "v"])
            );
            return;
        }
        Pattern::Row => format!("{name}_at4(i % {params}.count)"),
        Pattern::Channel => lanes(&|lane| format!("((i + {lane}u) / {params}.inner) % {params}.count")),
        Pattern::Strided => {
            let _ = writeln!(
                out,
                "fn {name}_offset(at: u32) -> u32 {{\n  var rest = at; var offset = 0u;\n  for (var d = 0u; d < {params}.rank; d++) {{\n    let size = {params}.dims[d >> 2u][d & 3u];\n    offset += (rest % size) * {params}.strides[d >> 2u][d & 3u];\n    rest /= size;\n  }}\n  return offset;\n}}"
            );
            lanes(&|lane| format!("{name}_offset(i + {lane}u)"))
        }
    };
    let _ = writeln!(out, "fn operand{index}(i: u32) -> {} {{ return {text}; }}", value.vector());
}

/// The WGSL twin of [`OperandParams`].
pub(crate) const OPERAND_PARAMS: &str = "struct OperandParams { inner: u32, count: u32, rank: u32, pad: u32, dims: array<vec4<u32>, 2>, strides: array<vec4<u32>, 2> }\n";
