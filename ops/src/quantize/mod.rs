//! Operators between real numbers and integers (or narrow floats) that stand for them, and products of such integers.

pub mod around;
mod blocked;
mod centred;
mod composed;
mod conv_cpu;
mod conv_gpu;
pub mod conv_integer;
mod depthwise_cpu;
pub mod dequantize_linear;
mod dynamic_cpu;
pub mod dynamic_quantize_linear;
pub mod ends;
mod gpu;
mod granularity;
pub mod matmul_integer;
pub mod matmul_integer_to_float;
pub mod matmul_nbits;
mod nbits_cpu;
mod nbits_gpu;
mod product_cpu;
mod product_gpu;
pub mod qgemm;
pub mod qlinear_conv;
pub mod qlinear_matmul;
pub mod quantize_linear;
mod staged;

use crate::build::{Build, OperatorRow};

const fn row(name: &'static str, since: i64, build: Build) -> OperatorRow {
    OperatorRow { domain: "", name, since, build }
}

const fn microsoft(name: &'static str, build: Build) -> OperatorRow {
    OperatorRow { domain: "com.microsoft", name, since: 1, build }
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
    microsoft("DynamicQuantizeMatMul", matmul_integer_to_float::build_dynamic),
    microsoft("MatMulIntegerToFloat", matmul_integer_to_float::build),
    microsoft("MatMulNBits", matmul_nbits::build),
    microsoft("QGemm", qgemm::build),
    microsoft("QLinearAdd", around::build_add),
    microsoft("QLinearAveragePool", around::build_average_pool),
    microsoft("QLinearConcat", around::build_concat),
    microsoft("QLinearGlobalAveragePool", around::build_global_average_pool),
    microsoft("QLinearLeakyRelu", around::build_leaky_relu),
    microsoft("QLinearMul", around::build_mul),
    microsoft("QLinearSigmoid", around::build_sigmoid),
];
