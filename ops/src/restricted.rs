//! An operator with one of its kernels, for benchmarks and tests that look at that one.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::expr::Expr;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Cost, CpuKernel, Operator, Role};
use crate::problem::Problem;

/// An operator that offers only the candidates of this name ([`crate::dispatch::Candidate::name`]).
#[derive(Clone, Debug)]
pub struct Restricted {
    /// The operator.
    pub op: Arc<dyn Operator>,
    /// The name of the candidates that are left.
    pub kernel: String,
}

impl Operator for Restricted {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        self.op.infer(inputs, outputs)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        self.op.reference(inputs, outputs)
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        self.op.cpu(problem)
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        let mut lowering = self.op.lower(problem, caps);
        lowering.candidates.retain(|candidate| candidate.name() == self.kernel);
        lowering
    }

    fn role(&self) -> Role {
        self.op.role()
    }

    fn expression(&self) -> Option<&Expr> {
        self.op.expression()
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        self.op.cost(problem)
    }
}
