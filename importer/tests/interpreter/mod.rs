//! Runs plans by the operators' references: the arbiter of what the importer makes of a graph.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "clippy's exemption for tests does not reach their helpers, and no test uses all of them"
)]

pub mod sketch;

use sardonyx_importer::{HostInput, ImportError, PlanOptions, Source, Work, plan};
use sardonyx_ops::expr::ExprNode;
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::ir::graph::{Graph, ValueId};
use sardonyx_ops::ir::view::View;
use sardonyx_ops::plan::{Outcome, Plan};
use sardonyx_ops::pointwise::Pointwise;
use sardonyx_ops::{Operator, Tensor};

/// What one run of a graph made and needed.
pub struct Run {
    /// The graph's outputs.
    pub outputs: Vec<Tensor>,
    /// The plans of the compiled stages.
    pub plans: Vec<Plan>,
    /// Stages, those on the host included.
    pub stages: usize,
}

/// Runs a graph, stage by stage.
pub fn run(graph: &Graph, inputs: &[Tensor], options: &PlanOptions) -> Result<Run, ImportError> {
    let facts: Vec<Fact> = inputs.iter().map(size).collect();
    let mut stage = plan(graph, &facts, options)?;
    let mut inputs: Vec<Tensor> = inputs.iter().cloned().map(Tensor::aligned).collect();
    let mut run = Run { outputs: Vec::new(), plans: Vec::new(), stages: 0 };
    loop {
        run.stages += 1;
        let outputs = match stage.work {
            Work::Compiled(plan) => {
                check(&plan);
                let outputs = run_plan(&plan, &inputs);
                run.plans.push(plan);
                outputs
            }
            Work::Evaluate { node, inputs: read, .. } => {
                let read: Vec<Option<Tensor>> = read
                    .into_iter()
                    .map(|input| {
                        input.map(|input| match input {
                            HostInput::Input(index) => inputs[index].clone(),
                            HostInput::Constant(tensor) => tensor.aligned(),
                        })
                    })
                    .collect();
                reference(node.op.as_ref(), &read, node.outputs.len())
            }
        };
        let Some(rest) = stage.rest else {
            run.outputs = outputs;
            return Ok(run);
        };
        let takes = rest.takes.iter();
        inputs = takes
            .map(|take| match take.source {
                Source::Input(index) => inputs[index].clone(),
                Source::Output(index) => outputs[index].clone(),
            })
            .collect();
        let facts: Vec<Fact> = rest
            .takes
            .iter()
            .zip(&inputs)
            .map(|(take, tensor)| if take.value { Fact::constant(tensor.clone()) } else { size(tensor) })
            .collect();
        stage = plan(&rest.graph, &facts, options)?;
    }
}

fn size(tensor: &Tensor) -> Fact {
    Fact::known(tensor.dtype(), tensor.dims())
}

fn reference(op: &dyn Operator, inputs: &[Option<Tensor>], outputs: usize) -> Vec<Tensor> {
    let views: Vec<Option<View<'_>>> = inputs.iter().map(|input| input.as_ref().map(Tensor::view)).collect();
    op.reference(&views, outputs).unwrap_or_else(|error| panic!("{}: {error}", op.name()))
}

/// Runs one plan.
pub fn run_plan(plan: &Plan, inputs: &[Tensor]) -> Vec<Tensor> {
    let mut values: Vec<Option<Tensor>> =
        plan.values.iter().map(|value| value.constant.clone().map(Tensor::aligned)).collect();
    for (&id, tensor) in plan.inputs.iter().zip(inputs) {
        assert_eq!((tensor.dtype(), tensor.dims()), (plan.values[id.0].dtype, &*plan.values[id.0].dims));
        values[id.0] = Some(tensor.clone());
    }
    for step in &plan.steps {
        let get =
            |id: ValueId| values[id.0].clone().unwrap_or_else(|| panic!("{} reads too early", step.name()));
        let inputs: Vec<Option<Tensor>> = step.inputs.iter().map(|id| id.map(get)).collect();
        let mut outputs = reference(step.op.as_ref(), &inputs, step.outputs.len());
        if let Some(epilogue) = &step.epilogue {
            let count = epilogue.operands.len();
            let mut expr = epilogue.expr.clone();
            for node in expr.nodes.iter_mut().filter(|node| **node == ExprNode::Accumulator) {
                *node = ExprNode::Operand(count);
            }
            let mut operands: Vec<Option<Tensor>> =
                epilogue.operands.iter().map(|id| Some(get(*id))).collect();
            operands.push(Some(outputs[0].clone()));
            outputs[0] = reference(&Pointwise { name: "epilogue", expr }, &operands, 1).remove(0);
        }
        for (id, tensor) in step.outputs.iter().zip(outputs) {
            let Some(id) = id else { continue };
            let value = &plan.values[id.0];
            assert_eq!((tensor.dtype(), tensor.dims()), (value.dtype, &*value.dims), "{}", step.name());
            values[id.0] = Some(tensor);
        }
    }
    plan.outputs.iter().map(|id| values[id.0].clone().unwrap()).collect()
}

/// Checks the structure of a plan: every value is written once, before it is read, and bindings stay within eight
/// where something was fused.
pub fn check(plan: &Plan) {
    let mut there: Vec<bool> = plan.values.iter().map(|value| value.constant.is_some()).collect();
    plan.inputs.iter().for_each(|id| there[id.0] = true);
    for step in &plan.steps {
        step.reads().for_each(|id| assert!(there[id.0], "{} reads too early", step.name()));
        for id in step.outputs.iter().flatten() {
            assert!(!there[id.0], "{} writes again", step.name());
            there[id.0] = true;
        }
        if step.nodes.len() > 1 {
            let bound = step.reads().count() + step.outputs.iter().flatten().count();
            assert!(bound <= 8, "{} binds {bound}", step.name());
        }
    }
    plan.outputs.iter().for_each(|id| assert!(there[id.0], "an output is never written"));
}

/// How often a pass rewrote something.
pub fn rewrites(plan: &Plan, pass: &str) -> usize {
    plan.decisions.iter().filter(|d| d.pass == pass && d.outcome == Outcome::Fused).count()
}
