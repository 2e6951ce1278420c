//! Expressions on the CPU: tile by tile, each node over a tile before the next, so that inner loops vectorise.

use half::{bf16, f16};

use super::{Expr, ExprNode, Scalar};
use crate::broadcast::Strides;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::view::{View, ViewMut};

/// Elements of a tile: small enough that a chain's intermediates stay in the first-level cache.
pub const TILE: usize = 512;

/// A tile of values of one kind. Floats of 16 bits compute as `f32` and are rounded after each step, as separate
/// operators would; narrow integers compute in 64 bits and are wrapped after each step.
#[derive(Clone, Debug)]
pub enum Lanes {
    /// f32, f16, bf16.
    F32(Vec<f32>),
    /// f64.
    F64(Vec<f64>),
    /// Signed integers, and unsigned ones below 64 bits.
    I64(Vec<i64>),
    /// u64.
    U64(Vec<u64>),
    /// Truth values.
    Bool(Vec<bool>),
}

impl Lanes {
    /// A tile for values of this type.
    ///
    /// # Errors
    /// When the type does not take part in expressions.
    pub fn for_type(dtype: DType, len: usize) -> Result<Lanes, OpError> {
        Ok(match dtype {
            DType::F32 | DType::F16 | DType::BF16 => Lanes::F32(vec![0.0; len]),
            DType::F64 => Lanes::F64(vec![0.0; len]),
            DType::I8 | DType::I16 | DType::I32 | DType::I64 => Lanes::I64(vec![0; len]),
            DType::U8 | DType::U16 | DType::U32 => Lanes::I64(vec![0; len]),
            DType::U64 => Lanes::U64(vec![0; len]),
            DType::Bool => Lanes::Bool(vec![false; len]),
            other => return Err(OpError::unsupported(format!("{other} in an expression"))),
        })
    }

    fn resize(&mut self, len: usize) {
        match self {
            Lanes::F32(lanes) => lanes.resize(len, 0.0),
            Lanes::F64(lanes) => lanes.resize(len, 0.0),
            Lanes::I64(lanes) => lanes.resize(len, 0),
            Lanes::U64(lanes) => lanes.resize(len, 0),
            Lanes::Bool(lanes) => lanes.resize(len, false),
        }
    }
}

/// A prepared evaluation of an expression for one output shape.
pub struct Evaluation<'a> {
    expr: &'a Expr,
    types: Vec<DType>,
    strides: Vec<Strides>,
}

/// The tiles of one thread.
pub struct Workspace {
    lanes: Vec<Lanes>,
}

impl<'a> Evaluation<'a> {
    /// Prepares `expr` for operands of these types and dimensions, each broadcasting to `output`.
    ///
    /// # Errors
    /// When a function does not take the types.
    pub fn new(
        expr: &'a Expr,
        accumulator: Option<DType>,
        operands: &[(DType, &[usize])],
        output: &[usize],
    ) -> Result<Evaluation<'a>, OpError> {
        let dtypes: Vec<DType> = operands.iter().map(|(dtype, _)| *dtype).collect();
        Ok(Evaluation {
            types: expr.types(accumulator, &dtypes)?,
            strides: operands.iter().map(|(_, dims)| Strides::new(dims, output)).collect(),
            expr,
        })
    }

    /// The types of the results.
    pub fn results(&self) -> Vec<DType> {
        self.expr.results.iter().map(|&result| self.types[result]).collect()
    }

    /// Tiles for one thread.
    ///
    /// # Errors
    /// When a type does not take part in expressions.
    pub fn workspace(&self) -> Result<Workspace, OpError> {
        let lanes: Result<_, _> = self.types.iter().map(|&dtype| Lanes::for_type(dtype, TILE)).collect();
        Ok(Workspace { lanes: lanes? })
    }

    /// Computes elements `start .. start + len` (at most [`TILE`]) of every node. `accumulator` is read by nodes that
    /// ask for it.
    pub fn tile(
        &self,
        workspace: &mut Workspace,
        operands: &[View<'_>],
        accumulator: Option<&Lanes>,
        start: usize,
        len: usize,
    ) {
        for (index, node) in self.expr.nodes.iter().enumerate() {
            let (before, rest) = workspace.lanes.split_at_mut(index);
            let Some(out) = rest.first_mut() else { return };
            out.resize(len);
            match node {
                ExprNode::Accumulator => {
                    if let Some(lanes) = accumulator {
                        out.clone_from(lanes);
                    }
                }
                ExprNode::Operand(operand) => {
                    load(out, &operands[*operand], &self.strides[*operand], start, len)
                }
                ExprNode::Constant(dtype, scalar) => fill(out, *dtype, *scalar),
                ExprNode::Call { function, args, params } => {
                    match args.as_slice() {
                        [a] => (function.eval)(&[&before[*a]], params, out),
                        [a, b] => (function.eval)(&[&before[*a], &before[*b]], params, out),
                        args => {
                            let args: Vec<&Lanes> = args.iter().map(|&arg| &before[arg]).collect();
                            (function.eval)(&args, params, out);
                        }
                    }
                    wrap(out, self.types[index]);
                }
                ExprNode::Cast { arg, to } => convert(&before[*arg], self.types[*arg], out, *to),
            }
        }
    }

    /// The tile of result `index` after [`Evaluation::tile`].
    pub fn result<'w>(&self, workspace: &'w Workspace, index: usize) -> &'w Lanes {
        &workspace.lanes[self.expr.results[index]]
    }
}

fn load(out: &mut Lanes, view: &View<'_>, strides: &Strides, start: usize, len: usize) {
    macro_rules! load {
        ($lanes:expr, $rust:ty, $convert:expr) => {{
            let data = view.slice::<$rust>();
            match strides.strides.as_slice() {
                [1] => {
                    for (slot, &x) in $lanes.iter_mut().zip(&data[start..start + len]) {
                        *slot = $convert(x);
                    }
                }
                strides if strides.iter().all(|&s| s == 0) => $lanes.fill($convert(data[0])),
                _ => each_offset(strides, start, len, |i, offset| $lanes[i] = $convert(data[offset])),
            }
        }};
    }
    match (out, view.dtype) {
        (Lanes::F32(lanes), DType::F32) => load!(lanes, f32, |x| x),
        (Lanes::F32(lanes), DType::F16) => load!(lanes, f16, f16::to_f32),
        (Lanes::F32(lanes), DType::BF16) => load!(lanes, bf16, bf16::to_f32),
        (Lanes::F64(lanes), DType::F64) => load!(lanes, f64, |x| x),
        (Lanes::I64(lanes), DType::I64) => load!(lanes, i64, |x| x),
        (Lanes::I64(lanes), DType::I32) => load!(lanes, i32, i64::from),
        (Lanes::I64(lanes), DType::I16) => load!(lanes, i16, i64::from),
        (Lanes::I64(lanes), DType::I8) => load!(lanes, i8, i64::from),
        (Lanes::I64(lanes), DType::U32) => load!(lanes, u32, i64::from),
        (Lanes::I64(lanes), DType::U16) => load!(lanes, u16, i64::from),
        (Lanes::I64(lanes), DType::U8) => load!(lanes, u8, i64::from),
        (Lanes::U64(lanes), DType::U64) => load!(lanes, u64, |x| x),
        (Lanes::Bool(lanes), DType::Bool) => {
            let data = view.bytes;
            each_offset(strides, start, len, |i, offset| lanes[i] = data[offset] != 0);
        }
        _ => {}
    }
}

/// Calls `visit(i, offset)` for `len` output elements from `start` on, walking runs of the innermost dimension.
fn each_offset(strides: &Strides, start: usize, len: usize, mut visit: impl FnMut(usize, usize)) {
    let (Some(&run), Some(&step)) = (strides.dims.first(), strides.strides.first()) else {
        (0..len).for_each(|i| visit(i, 0));
        return;
    };
    let mut i = 0;
    while i < len {
        let base = strides.offset(start + i);
        let left = (run - (start + i) % run).min(len - i);
        for k in 0..left {
            visit(i + k, base + k * step);
        }
        i += left;
    }
}

fn fill(out: &mut Lanes, dtype: DType, scalar: Scalar) {
    let float = match scalar {
        Scalar::Float(x) => x,
        Scalar::Int(x) => x as f64,
    };
    let int = match scalar {
        Scalar::Float(x) => x as i64,
        Scalar::Int(x) => x,
    };
    match out {
        Lanes::F32(lanes) => lanes.fill(float as f32),
        Lanes::F64(lanes) => lanes.fill(float),
        Lanes::I64(lanes) => lanes.fill(int),
        Lanes::U64(lanes) => lanes.fill(int as u64),
        Lanes::Bool(lanes) => lanes.fill(int != 0),
    }
    wrap(out, dtype);
}

/// Brings computed values back into the range and precision of their type.
fn wrap(lanes: &mut Lanes, dtype: DType) {
    macro_rules! each {
        ($lanes:expr, $f:expr) => {
            $lanes.iter_mut().for_each(|x| *x = $f(*x))
        };
    }
    match (lanes, dtype) {
        (Lanes::F32(lanes), DType::F16) => each!(lanes, |x| f16::from_f32(x).to_f32()),
        (Lanes::F32(lanes), DType::BF16) => each!(lanes, |x| bf16::from_f32(x).to_f32()),
        (Lanes::I64(lanes), DType::I8) => each!(lanes, |x| i64::from(x as i8)),
        (Lanes::I64(lanes), DType::I16) => each!(lanes, |x| i64::from(x as i16)),
        (Lanes::I64(lanes), DType::I32) => each!(lanes, |x| i64::from(x as i32)),
        (Lanes::I64(lanes), DType::U8) => each!(lanes, |x| i64::from(x as u8)),
        (Lanes::I64(lanes), DType::U16) => each!(lanes, |x| i64::from(x as u16)),
        (Lanes::I64(lanes), DType::U32) => each!(lanes, |x| i64::from(x as u32)),
        _ => {}
    }
}

/// `Cast`: float to integer truncates (out of range saturates to 64 bits, then wraps), anything non-zero is true.
fn convert(from: &Lanes, _from_type: DType, out: &mut Lanes, to: DType) {
    macro_rules! each {
        ($from:expr, $out:expr, $f:expr) => {
            $out.iter_mut().zip($from).for_each(|(slot, &x)| *slot = $f(x))
        };
    }
    match (from, &mut *out) {
        (Lanes::F32(a), Lanes::F32(b)) => b.clone_from(a),
        (Lanes::F32(a), Lanes::F64(b)) => each!(a, b, f64::from),
        (Lanes::F32(a), Lanes::I64(b)) => each!(a, b, |x| x as i64),
        (Lanes::F32(a), Lanes::U64(b)) => each!(a, b, |x| float_to_u64(f64::from(x))),
        (Lanes::F32(a), Lanes::Bool(b)) => each!(a, b, |x| x != 0.0),
        (Lanes::F64(a), Lanes::F32(b)) => each!(a, b, |x| match to {
            // One rounding, not two.
            DType::F16 => f16::from_f64(x).to_f32(),
            DType::BF16 => bf16::from_f64(x).to_f32(),
            _ => x as f32,
        }),
        (Lanes::F64(a), Lanes::F64(b)) => b.clone_from(a),
        (Lanes::F64(a), Lanes::I64(b)) => each!(a, b, |x| x as i64),
        (Lanes::F64(a), Lanes::U64(b)) => each!(a, b, float_to_u64),
        (Lanes::F64(a), Lanes::Bool(b)) => each!(a, b, |x| x != 0.0),
        (Lanes::I64(a), Lanes::F32(b)) => each!(a, b, |x| x as f32),
        (Lanes::I64(a), Lanes::F64(b)) => each!(a, b, |x| x as f64),
        (Lanes::I64(a), Lanes::I64(b)) => b.clone_from(a),
        (Lanes::I64(a), Lanes::U64(b)) => each!(a, b, |x| x as u64),
        (Lanes::I64(a), Lanes::Bool(b)) => each!(a, b, |x| x != 0),
        (Lanes::U64(a), Lanes::F32(b)) => each!(a, b, |x| x as f32),
        (Lanes::U64(a), Lanes::F64(b)) => each!(a, b, |x| x as f64),
        (Lanes::U64(a), Lanes::I64(b)) => each!(a, b, |x| x as i64),
        (Lanes::U64(a), Lanes::U64(b)) => b.clone_from(a),
        (Lanes::U64(a), Lanes::Bool(b)) => each!(a, b, |x| x != 0),
        (Lanes::Bool(a), Lanes::F32(b)) => each!(a, b, |x| f32::from(u8::from(x))),
        (Lanes::Bool(a), Lanes::F64(b)) => each!(a, b, |x| f64::from(u8::from(x))),
        (Lanes::Bool(a), Lanes::I64(b)) => each!(a, b, i64::from),
        (Lanes::Bool(a), Lanes::U64(b)) => each!(a, b, u64::from),
        (Lanes::Bool(a), Lanes::Bool(b)) => b.clone_from(a),
    }
    wrap(out, to);
}

/// Negative floats wrap as two's complement, like the conversions to narrower unsigned types.
fn float_to_u64(x: f64) -> u64 {
    if x < 0.0 { x as i64 as u64 } else { x as u64 }
}

/// Stores a tile into elements from `start` on of an output.
pub fn store(lanes: &Lanes, out: &mut ViewMut<'_>, start: usize) {
    macro_rules! store {
        ($lanes:expr, $rust:ty, $convert:expr) => {
            for (slot, &x) in out.slice::<$rust>()[start..].iter_mut().zip($lanes) {
                *slot = $convert(x);
            }
        };
    }
    match (lanes, out.dtype) {
        (Lanes::F32(lanes), DType::F32) => store!(lanes, f32, |x| x),
        (Lanes::F32(lanes), DType::F16) => store!(lanes, f16, f16::from_f32),
        (Lanes::F32(lanes), DType::BF16) => store!(lanes, bf16, bf16::from_f32),
        (Lanes::F64(lanes), DType::F64) => store!(lanes, f64, |x| x),
        (Lanes::I64(lanes), DType::I64) => store!(lanes, i64, |x| x),
        (Lanes::I64(lanes), DType::I32) => store!(lanes, i32, |x| x as i32),
        (Lanes::I64(lanes), DType::I16) => store!(lanes, i16, |x| x as i16),
        (Lanes::I64(lanes), DType::I8) => store!(lanes, i8, |x| x as i8),
        (Lanes::I64(lanes), DType::U32) => store!(lanes, u32, |x| x as u32),
        (Lanes::I64(lanes), DType::U16) => store!(lanes, u16, |x| x as u16),
        (Lanes::I64(lanes), DType::U8) => store!(lanes, u8, |x| x as u8),
        (Lanes::U64(lanes), DType::U64) => store!(lanes, u64, |x| x),
        (Lanes::Bool(lanes), DType::Bool) => {
            for (slot, &x) in out.bytes[start..].iter_mut().zip(lanes) {
                *slot = u8::from(x);
            }
        }
        _ => {}
    }
}
