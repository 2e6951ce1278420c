//! From profiled runs to rows: mean times of groups of steps, and of what is no step, so that the rows make up the whole.

use std::collections::HashMap;

use sardonyx::{DType, HostStage, Profile, ProfiledRun, ProfiledStep};

use crate::describe;
use crate::output::format;

/// How steps are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// By operator.
    Op,
    /// Every step for itself, under the model's name of its first node.
    Node,
    /// By kernel variant.
    Kernel,
    /// Only what the host does.
    Stage,
    /// By operator with types and dimensions.
    Shape,
}

/// What rows are ordered by, the largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// Time.
    Time,
    /// Operations.
    Flops,
    /// Bytes.
    Bytes,
    /// Order of execution.
    Order,
    /// Name.
    Name,
}

/// A group of steps, or a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What the group is named by.
    pub name: String,
    /// What else is said of it: kernels of a node, number of steps of another group.
    pub what: String,
    /// Where it runs; empty for stages.
    pub place: &'static str,
    /// Mean time in a run.
    pub ns: f64,
    /// Launches or calls in a run.
    pub calls: usize,
    /// Operations in a run.
    pub flops: u64,
    /// Bytes in a run.
    pub bytes: u64,
}

/// The rows of a profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Steps.
    pub steps: Vec<Row>,
    /// What is no step.
    pub stages: Vec<Row>,
    /// Mean time of a run.
    pub total_ns: f64,
}

impl Rows {
    /// The rows together.
    pub fn sum_ns(&self) -> f64 {
        self.steps.iter().chain(&self.stages).map(|row| row.ns).sum()
    }
}

/// Types and dimensions of a step: `f32[1,3] f32[3] -> f32[1,3]`.
pub fn shape(step: &ProfiledStep) -> String {
    let list = |values: &[(DType, Vec<usize>)]| {
        let texts: Vec<String> = values.iter().map(|(dtype, dims)| format::signature(dtype, dims)).collect();
        texts.join(" ")
    };
    format!("{} -> {}", list(&step.inputs), list(&step.outputs))
}

/// The node that a step is named by.
pub fn node(step: &ProfiledStep) -> String {
    step.nodes.first().map_or_else(|| step.op.to_owned(), |name| name.to_string())
}

/// Where a step runs.
pub fn place(step: &ProfiledStep) -> &'static str {
    if step.on_device { "device" } else { "cpu" }
}

/// Puts the steps together.
pub fn rows(profile: &Profile, by: By, sort: Sort) -> Rows {
    let runs = profile.runs.len().max(1) as f64;
    let mut order: Vec<Row> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (index, run) in profile.runs.iter().enumerate() {
        let mut counted = vec![false; run.steps.len()];
        for span in &run.spans {
            let step = &run.steps[span.step];
            let row = group(step, span.step, span.kernel, by);
            let Some(row) = row else { continue };
            let key = format!("{}\0{}\0{}", row.place, row.name, if by == By::Node { span.step } else { 0 });
            let at = *known.entry(key).or_insert_with(|| {
                order.push(row);
                order.len() - 1
            });
            let row = &mut order[at];
            row.ns += describe::ns(span.duration) as f64 / runs;
            if index == 0 {
                row.calls += 1;
                // The work of a step counts once, however many launches it takes.
                if !std::mem::replace(&mut counted[span.step], true) {
                    row.flops += step.flops;
                    row.bytes += step.bytes;
                }
            }
        }
    }
    match sort {
        Sort::Time => order.sort_by(|a, b| b.ns.total_cmp(&a.ns)),
        Sort::Flops => order.sort_by_key(|row| std::cmp::Reverse(row.flops)),
        Sort::Bytes => order.sort_by_key(|row| std::cmp::Reverse(row.bytes)),
        Sort::Name => order.sort_by(|a, b| a.name.cmp(&b.name)),
        Sort::Order => {}
    }
    let total_ns = profile.runs.iter().map(|run| describe::ns(run.total) as f64).sum::<f64>() / runs;
    Rows { steps: order, stages: stages(profile, by, runs), total_ns }
}

fn group(step: &ProfiledStep, index: usize, kernel: usize, by: By) -> Option<Row> {
    let kernel_name = step.kernels.get(kernel).copied().unwrap_or_default();
    let (name, what) = match by {
        By::Op => (step.op.to_owned(), String::new()),
        By::Node => (node(step), step.kernels.join(" ")),
        By::Kernel => (kernel_name.to_owned(), String::new()),
        By::Shape => (format!("{} {}", step.op, shape(step)), String::new()),
        By::Stage => return None,
    };
    let name = if name.is_empty() { format!("step {index}") } else { name };
    Some(Row { name, what, place: place(step), ns: 0.0, calls: 0, flops: 0, bytes: 0 })
}

/// What is left of a run beside its steps.
fn stages(profile: &Profile, by: By, runs: f64) -> Vec<Row> {
    let mean = |of: &dyn Fn(&ProfiledRun) -> f64| profile.runs.iter().map(of).sum::<f64>() / runs;
    let stage = |stage: HostStage| mean(&|run| describe::ns(run.stage(stage)) as f64);
    let device = mean(&|run| describe::ns(run.on_device()) as f64);
    // Some drivers do the work within the submission: then it is no part of the wait.
    let submitted = (device - stage(HostStage::Wait)).max(0.0);
    let cpu = mean(&|run| describe::ns(run.on_cpu()) as f64);
    let row = |name: &str, ns: f64| Row {
        name: name.to_owned(),
        what: String::new(),
        place: "",
        ns: ns.max(0.0),
        calls: 0,
        flops: 0,
        bytes: 0,
    };
    let mut rows = Vec::new();
    for each in HostStage::ALL {
        let ns = stage(each);
        match (each, by) {
            (HostStage::Wait, By::Stage) => {
                if device > 0.0 {
                    rows.push(row("kernels", device));
                }
                rows.push(row("between kernels", ns - device));
            }
            (HostStage::Wait, _) => rows.push(row("between kernels", ns - device)),
            (HostStage::Encode, _) => rows.push(row(each.name(), ns - submitted)),
            (HostStage::Steps, By::Stage) => rows.push(row(each.name(), ns)),
            (HostStage::Steps, _) => rows.push(row("between cpu steps", ns - cpu)),
            _ => rows.push(row(each.name(), ns)),
        }
    }
    rows.retain(|row| row.ns > 0.0);
    rows
}
