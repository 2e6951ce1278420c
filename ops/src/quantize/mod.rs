//! Operators between real numbers and integers (or narrow floats) that stand for them, and products of such integers.

mod centred;
mod composed;
pub mod conv_integer;
pub mod dequantize_linear;
pub mod dynamic_quantize_linear;
mod granularity;
pub mod matmul_integer;
pub mod qlinear_conv;
pub mod qlinear_matmul;
pub mod quantize_linear;

use crate::build::{Build, OperatorRow};

const fn row(name: &'static str, since: i64, build: Build) -> OperatorRow {
    OperatorRow { domain: "", name, since, build }
}

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    row("ConvInteger", 10, conv_integer::build),
    row("DequantizeLinear", 10, dequantize_linear::build),
    row("DynamicQuantizeLinear", 11, dynamic_quantize_linear::build),
    row("MatMulInteger", 10, matmul_integer::build),
    row("QLinearConv", 10, qlinear_conv::build),
    row("QLinearMatMul", 10, qlinear_matmul::build),
    row("QuantizeLinear", 10, quantize_linear::build),
];
