//! Expressions as steps of a GPU kernel's end.

use sardonyx_shaders::expression::Step;
use sardonyx_shaders::library;
use sardonyx_shaders::storage::ValueType;

use super::{Expr, ExprNode, Scalar};
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::problem::storage_of;

/// An expression's steps, and which of them are its results.
#[derive(Clone, Debug)]
pub struct WgslSteps {
    /// Steps in order.
    pub steps: Vec<Step>,
    /// Indices of the results.
    pub results: Vec<usize>,
}

impl Expr {
    /// The expression as steps of a kernel.
    ///
    /// # Errors
    /// When a type has no place on a device, or the library lacks a function for it.
    pub fn to_wgsl(&self, accumulator: Option<DType>, operands: &[DType]) -> Result<WgslSteps, OpError> {
        let types = self.types(accumulator, operands)?;
        let mut all = WgslSteps { steps: Vec::new(), results: Vec::new() };
        // Where each node's value stands among the steps.
        let mut place: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for (node, &dtype) in self.nodes.iter().zip(&types) {
            let value = value_type(dtype)?;
            let step = match node {
                ExprNode::Accumulator => Step::Accumulator,
                ExprNode::Operand(index) => Step::Operand(*index),
                ExprNode::Constant(_, scalar) => Step::Constant(value, literal(*scalar, value)?),
                ExprNode::Call { function, args, params } => {
                    let over = args.get(function.same_from).map_or(dtype, |&arg| types[arg]);
                    let mut given = Vec::with_capacity(args.len());
                    for &arg in args {
                        let at = place[arg];
                        given.push(match function.mixes && types[arg] != over {
                            true => coerce(&mut all.steps, at, types[arg], over)?,
                            false => at,
                        });
                    }
                    let params: Result<Vec<_>, _> = params
                        .iter()
                        .map(|&param| literal(Scalar::Float(f64::from(param)), ValueType::F32))
                        .collect();
                    let name = format!("{}_{}", function.name, suffix(over)?);
                    all.steps.push(call(name, given, params?, value)?);
                    place.push(wrapped(&mut all.steps, dtype)?);
                    continue;
                }
                ExprNode::Cast { arg, to } => {
                    place.push(convert(&mut all.steps, place[*arg], types[*arg], *to)?);
                    continue;
                }
            };
            all.steps.push(step);
            place.push(all.steps.len() - 1);
        }
        all.results = self.results.iter().map(|&result| place[result]).collect();
        Ok(all)
    }
}

fn value_type(dtype: DType) -> Result<ValueType, OpError> {
    storage_of(dtype, true)
        .map(|storage| storage.value())
        .ok_or_else(|| OpError::unsupported(format!("{dtype} on a GPU")))
}

/// The suffix of library functions over this type. Only 64-bit integers differ from their value type: their sign
/// matters to division, order and conversion.
fn suffix(dtype: DType) -> Result<&'static str, OpError> {
    match dtype {
        DType::U64 => Ok("u64"),
        _ => Ok(value_type(dtype)?.suffix()),
    }
}

fn call(function: String, args: Vec<usize>, params: Vec<String>, value: ValueType) -> Result<Step, OpError> {
    if !library::has(&function) {
        return Err(OpError::unsupported(format!("{function} in a GPU kernel")));
    }
    Ok(Step::Call { function, args, params, value })
}

/// Adds the steps of a conversion and returns where its result stands.
fn convert(steps: &mut Vec<Step>, at: usize, from: DType, to: DType) -> Result<usize, OpError> {
    let value = value_type(to)?;
    let (source, target) = (suffix(from)?, suffix(to)?);
    let name = match (source, to) {
        // Rounds also where the value stays 32 bits wide. A wider type has the same values.
        ("f32", DType::F16) if from != DType::F16 => "round_to_f16".to_owned(),
        ("f32", DType::BF16) if from != DType::BF16 => "round_to_bf16".to_owned(),
        // Straight to the narrow type: its ends count, not its lowest bits.
        ("f32", DType::I8 | DType::I16 | DType::U8 | DType::U16) => format!("cast_f32_{to}"),
        _ if source == target => return if narrow(to).is_some() { wrap(steps, at, to) } else { Ok(at) },
        _ => format!("cast_{source}_{target}"),
    };
    steps.push(call(name, vec![at], Vec::new(), value)?);
    match (source, to) {
        ("f32", _) => Ok(steps.len() - 1),
        (_, DType::F16 | DType::BF16) => convert(steps, steps.len() - 1, DType::F32, to),
        _ => wrapped(steps, to),
    }
}

/// A later argument in the type of the first. Converting a fraction to an integer would lose it.
fn coerce(steps: &mut Vec<Step>, at: usize, from: DType, to: DType) -> Result<usize, OpError> {
    if from.is_float() && !to.is_float() {
        return Err(OpError::unsupported(format!("{to} with {from} in a GPU kernel")));
    }
    convert(steps, at, from, to)
}

/// The function that brings a computed value back into the range of a type narrower than its WGSL value.
fn narrow(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::I8 => "wrap_i8",
        DType::U8 => "wrap_u8",
        DType::I16 => "wrap_i16",
        DType::U16 => "wrap_u16",
        _ => return None,
    })
}

/// Where the last step's value stands once it is in the range of its type.
fn wrapped(steps: &mut Vec<Step>, dtype: DType) -> Result<usize, OpError> {
    let last = steps.len().saturating_sub(1);
    if narrow(dtype).is_some() { wrap(steps, last, dtype) } else { Ok(last) }
}

fn wrap(steps: &mut Vec<Step>, at: usize, dtype: DType) -> Result<usize, OpError> {
    if let Some(name) = narrow(dtype) {
        steps.push(call(name.to_owned(), vec![at], Vec::new(), value_type(dtype)?)?);
        return Ok(steps.len() - 1);
    }
    Ok(at)
}

/// A constant in WGSL. Infinities and NaN have no literal: such constants must stay operands.
fn literal(scalar: Scalar, value: ValueType) -> Result<String, OpError> {
    let out_of_range = || OpError::unsupported("a constant without a WGSL literal");
    Ok(match (scalar, value) {
        (Scalar::Float(x), ValueType::F32) => {
            let x = x as f32;
            if !x.is_finite() {
                return Err(out_of_range());
            }
            format!("f32({x:?})")
        }
        (Scalar::Int(x), ValueType::F32) => format!("f32({:?})", x as f32),
        // WGSL has no literal for the most negative i32.
        (Scalar::Int(x), ValueType::I32) => {
            format!("bitcast<i32>({}u)", i32::try_from(x).map_err(|_| out_of_range())? as u32)
        }
        (Scalar::Int(x), ValueType::U32) => format!("{}u", u32::try_from(x).map_err(|_| out_of_range())?),
        (Scalar::Int(x), ValueType::I64) => {
            format!("vec2<u32>({}u, {}u)", x as u64 & 0xffff_ffff, (x as u64) >> 32)
        }
        (Scalar::Int(x), ValueType::Bool) => format!("{}", x != 0),
        (Scalar::Float(_), _) => return Err(out_of_range()),
    })
}
