//! Convolutions on the GPU.

use sardonyx_shaders::Capabilities;

use super::window::Sizes;
use crate::dispatch::Lowering;
use crate::problem::Problem;

/// The kernels for a convolution or a transposed one, best first.
pub(super) fn lower(
    _problem: &Problem<'_>,
    _caps: &Capabilities,
    _sizes: &Sizes,
    _transposed: bool,
) -> Lowering {
    Lowering::refused("Conv", "it has no GPU kernel")
}
