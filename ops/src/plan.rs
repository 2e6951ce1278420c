//! The plan: fused operators over typed values of known sizes. Plain data; no device, no file format.

use std::fmt;
use std::sync::Arc;

use crate::expr::Expr;
use crate::ir::dtype::DType;
use crate::ir::graph::ValueId;
use crate::ir::tensor::Tensor;
use crate::operator::Operator;

/// A value of a plan.
#[derive(Clone, Debug)]
pub struct PlanValue {
    /// The value's name in the model.
    pub name: Arc<str>,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub dims: Vec<usize>,
    /// The contents, when constant.
    pub constant: Option<Tensor>,
}

/// An expression that a step's output passes through.
#[derive(Clone, Debug)]
pub struct PlanEpilogue {
    /// The expression over the step's result.
    pub expr: Expr,
    /// Values it reads besides.
    pub operands: Vec<ValueId>,
}

/// One step: an operator with what was fused into it.
#[derive(Clone, Debug)]
pub struct PlanStep {
    /// The operator.
    pub op: Arc<dyn Operator>,
    /// Values read; `None` where absent.
    pub inputs: Vec<Option<ValueId>>,
    /// Values written; `None` where not wanted.
    pub outputs: Vec<Option<ValueId>>,
    /// What output 0 passes through.
    pub epilogue: Option<PlanEpilogue>,
    /// The model's nodes that this step does, the anchor first.
    pub nodes: Vec<Arc<str>>,
}

/// What a pass did at a place, or why it did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It rewrote the nodes.
    Fused,
    /// It could have, but did not.
    Declined(String),
}

/// A pass's answer about a place in the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The pass's name, as `--disable-pass` takes it.
    pub pass: &'static str,
    /// The node concerned.
    pub node: Arc<str>,
    /// The answer.
    pub outcome: Outcome,
}

/// Fused operators in order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// All values.
    pub values: Vec<PlanValue>,
    /// Steps, each after those it reads from.
    pub steps: Vec<PlanStep>,
    /// Values given by the caller.
    pub inputs: Vec<ValueId>,
    /// Values wanted by the caller.
    pub outputs: Vec<ValueId>,
    /// What the passes did and did not do.
    pub decisions: Vec<Decision>,
}

impl PlanStep {
    /// All values read, those of the epilogue included.
    pub fn reads(&self) -> impl Iterator<Item = ValueId> + '_ {
        let operands = self.epilogue.iter().flat_map(|epilogue| epilogue.operands.iter().copied());
        self.inputs.iter().flatten().copied().chain(operands)
    }

    /// The name under which the step is reported: its first node's.
    pub fn name(&self) -> &str {
        self.nodes.first().map_or(self.op.name(), |name| name)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = |id: ValueId| {
            let value = &self.values[id.0];
            let dims: Vec<String> = value.dims.iter().map(usize::to_string).collect();
            format!("{}:{}[{}]", value.name, value.dtype, dims.join("x"))
        };
        for (index, step) in self.steps.iter().enumerate() {
            let outputs: Vec<String> = step.outputs.iter().flatten().map(|&id| shape(id)).collect();
            write!(f, "{index:4}  {:<24} {}", step.op.name(), outputs.join(", "))?;
            if let Some(epilogue) = &step.epilogue {
                write!(f, "  +{}", epilogue.expr)?;
            } else if let Some(expr) = step.op.expression() {
                write!(f, "  {expr}")?;
            }
            let nodes: Vec<&str> = step.nodes.iter().map(|name| &**name).collect();
            writeln!(f, "  from {}", nodes.join(", "))?;
        }
        Ok(())
    }
}
