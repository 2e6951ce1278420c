//! What operators share whose output is input 0 under other dimensions.

use sardonyx_shaders::Capabilities;

use super::strided::{CopyKernel, Strided};
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::CpuKernel;
use crate::problem::Problem;

/// Input 0 under other dimensions.
///
/// # Errors
/// When the number of elements differs.
pub fn reference(x: &View<'_>, dims: &[usize]) -> Result<Tensor, OpError> {
    x.to_tensor()
        .reshaped(dims)
        .map_err(|_| OpError::constraint("number of elements", x.len(), format!("{dims:?}")))
}

/// A copy, for where the memory cannot be shared.
pub fn cpu(problem: &Problem<'_>) -> Option<Box<dyn CpuKernel>> {
    CopyKernel::prepare(problem, |inputs| Ok(vec![Strided::contiguous(super::sizes::view(inputs, 0)?.dims)?]))
}

/// A copy, for where the memory cannot be shared.
pub fn lower(name: &'static str, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
    match problem.outputs.first().map(|output| Strided::contiguous(output.dims)) {
        Some(Ok(map)) => map.lower(problem, caps),
        _ => Lowering::refused(name, "the output is too large"),
    }
}

/// The methods of [`crate::Operator`] that such operators have in common.
macro_rules! relabels {
    () => {
        fn cpu(
            &self,
            problem: &$crate::problem::Problem<'_>,
        ) -> Result<Option<Box<dyn $crate::operator::CpuKernel>>, $crate::error::OpError> {
            Ok($crate::movement::relabel::cpu(problem))
        }

        fn lower(
            &self,
            problem: &$crate::problem::Problem<'_>,
            caps: &sardonyx_shaders::Capabilities,
        ) -> $crate::dispatch::Lowering {
            $crate::movement::relabel::lower(self.name(), problem, caps)
        }

        fn role(&self) -> $crate::operator::Role {
            $crate::operator::Role::View
        }
    };
}
pub(crate) use relabels;
