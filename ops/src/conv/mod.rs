//! Convolutions.

pub(crate) mod blocked;
pub mod col2im;
#[allow(clippy::module_inception, reason = "the family has the name of its first operator")]
pub mod conv;
pub mod conv_transpose;
mod cpu;
pub mod deform_conv;
mod depthwise;
mod fused;
mod gpu;
mod reference;
mod transpose_cpu;
pub mod window;

use crate::build::OperatorRow;

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    OperatorRow { domain: "", name: "Col2Im", since: 18, build: col2im::build },
    OperatorRow { domain: "", name: "Conv", since: 1, build: conv::build },
    OperatorRow { domain: "", name: "ConvTranspose", since: 1, build: conv_transpose::build },
    OperatorRow { domain: "", name: "DeformConv", since: 19, build: deform_conv::build },
    OperatorRow { domain: "com.microsoft", name: "FusedConv", since: 1, build: fused::build },
];
