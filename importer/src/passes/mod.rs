//! Rewrites of graphs and plans that keep their meaning. Each is a file, has a name, can be switched off, and says what it did.

mod absorb_padding;
mod attention_layout;
mod common_subexpression;
mod compose_moves;
mod dead_code;
mod dynamic_quantized;
mod fold_batchnorm;
mod fuse_epilogue;
mod fuse_pointwise;
mod identity;
mod merge_projections;
mod pair_caches;
mod pointwise_form;
mod quantized;
mod recognize_attention;
mod recognize_group_norm;
mod recognize_normalization;
mod recognize_rotary;
mod recognize_softmax;
mod relabel;
mod trace;

use std::collections::HashSet;
use std::sync::Arc;

use sardonyx_ops::ir::graph::{Graph, ValueId};
use sardonyx_ops::plan::{Decision, Outcome, Plan, PlanStep};

use crate::error::ImportError;

/// Most tensors that one kernel reads and writes: what every device binds.
const BINDINGS: usize = 8;

/// A rewrite of plans.
struct Pass {
    name: &'static str,
    run: fn(&mut Plan, &mut Report),
}

/// The passes in the order in which they run.
const PASSES: &[Pass] = &[
    Pass { name: "relabel", run: relabel::run },
    Pass { name: "identity", run: identity::run },
    Pass { name: "common_subexpression", run: common_subexpression::run },
    Pass { name: "absorb_padding", run: absorb_padding::run },
    Pass { name: "recognize_normalization", run: recognize_normalization::run },
    Pass { name: "recognize_group_norm", run: recognize_group_norm::run },
    Pass { name: "recognize_softmax", run: recognize_softmax::run },
    Pass { name: "recognize_rotary", run: recognize_rotary::run },
    Pass { name: "recognize_attention", run: recognize_attention::run },
    Pass { name: "attention_layout", run: attention_layout::run },
    Pass { name: "pair_caches", run: pair_caches::run },
    Pass { name: "compose_moves", run: compose_moves::run },
    Pass { name: "fuse_pointwise", run: fuse_pointwise::run },
    Pass { name: "fuse_epilogue", run: fuse_epilogue::run },
    Pass { name: "dead_code", run: dead_code::run },
];

/// A rewrite of graphs, before sizes are known.
struct GraphPass {
    name: &'static str,
    run: fn(&mut Graph, &mut Report),
}

/// The passes over graphs as they are written, before constants are folded and operators expanded.
const EARLY_PASSES: &[GraphPass] = &[
    GraphPass { name: "quantized", run: quantized::run },
    GraphPass { name: "dynamic_quantized", run: dynamic_quantized::run },
];

/// The passes over graphs in the order in which they run.
const GRAPH_PASSES: &[GraphPass] = &[
    GraphPass { name: "fold_batchnorm", run: fold_batchnorm::run },
    GraphPass { name: "merge_projections", run: merge_projections::run },
];

/// The names of all passes, as [`crate::plan::PlanOptions::disabled_passes`] takes them.
pub fn names() -> impl Iterator<Item = &'static str> {
    let graphs = EARLY_PASSES.iter().chain(GRAPH_PASSES).map(|pass| pass.name);
    graphs.chain(PASSES.iter().map(|pass| pass.name))
}

/// Runs all passes over a plan but the disabled ones; their answers are added to the plan's decisions.
///
/// # Errors
/// [`ImportError::Input`] when a disabled name is not a pass.
pub(crate) fn run(plan: &mut Plan, disabled: &[String]) -> Result<(), ImportError> {
    check_names(disabled)?;
    for pass in PASSES.iter().filter(|pass| !disabled.iter().any(|name| name == pass.name)) {
        let mut report = Report { pass: pass.name, decisions: Vec::new() };
        (pass.run)(plan, &mut report);
        plan.decisions.append(&mut report.decisions);
    }
    Ok(())
}

/// Runs the passes over a graph as it is written but the disabled ones, and returns their answers.
///
/// # Errors
/// [`ImportError::Input`] when a disabled name is not a pass.
pub(crate) fn run_early(graph: &mut Graph, disabled: &[String]) -> Result<Vec<Decision>, ImportError> {
    run_graph_passes(EARLY_PASSES, graph, disabled)
}

/// Runs all passes over a graph but the early and the disabled ones, and returns their answers.
///
/// # Errors
/// [`ImportError::Input`] when a disabled name is not a pass.
pub(crate) fn run_on_graph(graph: &mut Graph, disabled: &[String]) -> Result<Vec<Decision>, ImportError> {
    run_graph_passes(GRAPH_PASSES, graph, disabled)
}

fn run_graph_passes(
    passes: &[GraphPass],
    graph: &mut Graph,
    disabled: &[String],
) -> Result<Vec<Decision>, ImportError> {
    check_names(disabled)?;
    let mut decisions = Vec::new();
    for pass in passes.iter().filter(|pass| !disabled.iter().any(|name| name == pass.name)) {
        let mut report = Report { pass: pass.name, decisions: Vec::new() };
        (pass.run)(graph, &mut report);
        decisions.append(&mut report.decisions);
    }
    Ok(decisions)
}

fn check_names(disabled: &[String]) -> Result<(), ImportError> {
    let Some(unknown) = disabled.iter().find(|name| !names().any(|known| known == *name)) else {
        return Ok(());
    };
    let known = names().collect::<Vec<_>>().join(", ");
    let detail = format!("there is no pass {unknown:?}; there are {known}");
    Err(ImportError::Input { name: "".into(), detail })
}

/// What a pass did, place by place.
struct Report {
    pass: &'static str,
    decisions: Vec<Decision>,
}

impl Report {
    fn fused(&mut self, step: &PlanStep) {
        self.add(step.name(), Outcome::Fused);
    }

    fn declined(&mut self, step: &PlanStep, reason: impl Into<String>) {
        self.add(step.name(), Outcome::Declined(reason.into()));
    }

    fn add(&mut self, node: &str, outcome: Outcome) {
        self.decisions.push(Decision { pass: self.pass, node: Arc::from(node), outcome });
    }
}

/// For each value, how many steps read it; being an output of the plan counts as one more.
fn readers(plan: &Plan) -> Vec<usize> {
    let mut counts = vec![0; plan.values.len()];
    let mut count = |id: ValueId| {
        if let Some(slot) = counts.get_mut(id.0) {
            *slot += 1;
        }
    };
    for step in &plan.steps {
        step.reads().collect::<HashSet<_>>().into_iter().for_each(&mut count);
    }
    plan.outputs.iter().copied().for_each(count);
    counts
}

/// Puts steps in the place of others, and takes out those that nothing reads any more.
fn replace(plan: &mut Plan, new: Vec<(usize, PlanStep)>) {
    if new.is_empty() {
        return;
    }
    for (place, step) in new {
        if let Some(slot) = plan.steps.get_mut(place) {
            *slot = step;
        }
    }
    dead_code::sweep(plan, |_| {});
}

/// The dimensions of a value.
fn dims(plan: &Plan, id: ValueId) -> &[usize] {
    plan.values.get(id.0).map_or(&[], |value| &value.dims)
}
