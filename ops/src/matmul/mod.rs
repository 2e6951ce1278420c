//! Matrix products.

mod contraction;
mod cpu;
pub mod det;
pub mod einsum;
mod equation;
mod fused_gemm;
pub mod gemm;
pub(crate) mod gpu;
#[allow(clippy::module_inception, reason = "the family has the name of its first operator")]
pub mod matmul;
pub(crate) mod product;
mod reference;
pub(crate) mod terms;

use crate::build::OperatorRow;

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    OperatorRow { domain: "", name: "Det", since: 11, build: det::build },
    OperatorRow { domain: "", name: "Einsum", since: 12, build: einsum::build },
    OperatorRow { domain: "", name: "MatMul", since: 1, build: matmul::build },
    OperatorRow { domain: "", name: "Gemm", since: 6, build: gemm::build },
    OperatorRow { domain: "com.microsoft", name: "FusedGemm", since: 1, build: fused_gemm::build },
    OperatorRow { domain: "com.microsoft", name: "FusedMatMul", since: 1, build: matmul::build_fused },
    OperatorRow { domain: "com.microsoft", name: "TransposeMatMul", since: 1, build: matmul::build_fused },
];
