//! Fourier transforms, and the windows and weights that go with them.

pub mod dft;
mod fft;
pub mod mel_weight_matrix;
pub mod stft;
pub mod window;

use crate::build::{Build, OperatorRow};
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{float_tensor, integer_tensor};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{self, optional};

const fn row(name: &'static str, build: Build) -> OperatorRow {
    OperatorRow { domain: "", name, since: 17, build }
}

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    row("BlackmanWindow", window::build_blackman),
    row("DFT", dft::build),
    row("HammingWindow", window::build_hamming),
    row("HannWindow", window::build_hann),
    row("MelWeightMatrix", mel_weight_matrix::build),
    row("STFT", stft::build),
];

/// An integer input of one element.
enum Number {
    /// It is not given.
    Absent,
    /// It is known only in a run.
    Unknown,
    /// This.
    Is(i64),
}

impl Number {
    fn of_fact(inputs: &[Option<&Fact>], index: usize) -> Result<Number, OpError> {
        let Some(fact) = optional(inputs, index) else { return Ok(Number::Absent) };
        sizes::expect_indices(fact.dtype, index)?;
        fact.integers().map_or(Ok(Number::Unknown), |all| one(&all).map(Number::Is))
    }

    fn of_run(inputs: &[Option<View<'_>>], index: usize) -> Result<Option<i64>, OpError> {
        optional(inputs, index).map(|view| one(&sizes::integers(&view, index)?)).transpose()
    }

    /// The number as a size.
    fn size(number: i64, what: &'static str, least: usize) -> Result<usize, OpError> {
        let size = usize::try_from(number).ok().filter(|&size| size >= least);
        size.ok_or_else(|| OpError::constraint(what, format!("{least} or more"), number))
    }
}

fn one(all: &[i64]) -> Result<i64, OpError> {
    match all {
        &[number] => Ok(number),
        all => Err(OpError::constraint("elements of a scalar input", 1, all.len())),
    }
}

/// The element type that the attribute `output_datatype` names, a float or an integer.
fn output_datatype(spec: &crate::build::NodeSpec<'_>) -> Result<DType, OpError> {
    use DType::*;
    let number = spec.attributes.int_or("output_datatype", 1)?;
    match DType::from_onnx(number) {
        Some(dtype @ (F32 | F64 | F16 | BF16 | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)) => Ok(dtype),
        _ => Err(OpError::constraint("output_datatype", "a float or an integer of 8 to 64 bits", number)),
    }
}

/// Numbers in any type; integers drop the fraction.
fn numbers(dtype: DType, dims: &[usize], values: &[f64]) -> Result<Tensor, OpError> {
    if dtype.is_float() {
        return float_tensor(dtype, dims, values);
    }
    integer_tensor(dtype, dims, &values.iter().map(|&x| x as i128).collect::<Vec<_>>())
}
