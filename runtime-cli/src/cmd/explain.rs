//! `sardonyx explain MODEL`: what was fused, where steps run and in what memory; with `--why`, what was not and why.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sardonyx::{Decision, Outcome, Place, PlacedStep};
use serde_json::{Map, Value, json};

use crate::bind::Opened;
use crate::cli::{DeviceArgs, PlanArgs, SizeArgs};
use crate::cmd::inspect::planned;
use crate::describe;
use crate::failure::Failure;
use crate::output::{Console, format};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX model
    model: PathBuf,
    /// Name every fusion that was declined and every kernel that was refused, with the reason
    #[arg(long)]
    why: bool,
    #[command(flatten)]
    sizes: SizeArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    plan: PlanArgs,
}

/// Explains the plan of a model.
///
/// # Errors
/// When the file cannot be read or is damaged, or the model cannot run on the device.
pub fn run(arguments: &Args, console: &Console) -> Result<(), Failure> {
    let opened = Opened::open(&arguments.model, console)?;
    let planned = planned::plan(&opened, &arguments.sizes, (&arguments.device, &arguments.plan), console)
        .map_err(|failure| failure.in_model(opened.name()))?;
    let mut document = Map::new();
    document.insert("engine".to_owned(), describe::engine());
    let decisions = planned.session().decisions();
    let placement = planned.session().placement();
    let nodes: usize = placement.steps.iter().map(|step| step.nodes.len()).sum();
    console.line(format!(
        "{}  {nodes} operators in {} steps, {} dispatches",
        opened.name(),
        placement.steps.len(),
        placement.dispatches
    ))?;
    fusions(&decisions, arguments.why, console)?;
    places(&placement.steps, arguments.why, console)?;
    planned.show_memory(&mut document, console)?;
    document.insert(
        "device".to_owned(),
        describe::device(planned.session().device(), arguments.device.settings.precision),
    );
    document.insert("plan".to_owned(), describe::plan(&placement, planned.session().plan_digest()));
    document.insert("decisions".to_owned(), decisions.iter().map(decision).collect());
    let refused = placement.steps.iter().filter(|step| !step.refused.is_empty());
    let refused =
        refused.map(|step| json!({"operator": step.op, "node": name(step), "reasons": step.refused}));
    document.insert("refused".to_owned(), refused.collect());
    console.finish("explain", document)
}

/// How often each pass rewrote something, and where it declined.
fn fusions(decisions: &[Decision], why: bool, console: &Console) -> Result<(), Failure> {
    let mut passes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for decision in decisions {
        let count = passes.entry(decision.pass).or_default();
        match decision.outcome {
            Outcome::Fused => count.0 += 1,
            Outcome::Declined(_) => count.1 += 1,
        }
    }
    for (pass, (fused, declined)) in passes {
        console.line(format!("pass    {pass:<28} {fused:>5} done  {declined:>5} declined"))?;
    }
    for decision in decisions.iter().filter(|_| why) {
        if let Outcome::Declined(reason) = &decision.outcome {
            console.line(format!("        {} at {}: {reason}", decision.pass, decision.node))?;
        }
    }
    Ok(())
}

/// Where steps run, and which kernels refused them.
fn places(steps: &[PlacedStep], why: bool, console: &Console) -> Result<(), Failure> {
    let mut kernels: BTreeMap<&str, usize> = BTreeMap::new();
    for step in steps {
        match &step.place {
            Place::Device { kernels: used } => {
                used.iter().for_each(|kernel| *kernels.entry(kernel).or_default() += 1);
            }
            Place::View => *kernels.entry("(a view)").or_default() += 1,
            _ => *kernels.entry("(on the CPU)").or_default() += 1,
        }
    }
    for (kernel, count) in kernels {
        console.line(format!("kernel  {kernel:<28} {count:>5}"))?;
    }
    for step in steps {
        if let Place::Cpu { reason } = &step.place
            && !reason.is_empty()
        {
            console.line(format!("cpu     {} {}: {}", step.op, name(step), format::name(reason, 200)))?;
        }
        for reason in step.refused.iter().filter(|_| why) {
            console.line(format!("refused {} {}: {}", step.op, name(step), format::name(reason, 200)))?;
        }
    }
    Ok(())
}

fn name(step: &PlacedStep) -> &str {
    step.nodes.first().map_or(step.op, |node| node)
}

fn decision(decision: &Decision) -> Value {
    let (outcome, reason) = match &decision.outcome {
        Outcome::Fused => ("fused", ""),
        Outcome::Declined(reason) => ("declined", reason.as_str()),
    };
    json!({"pass": decision.pass, "node": &*decision.node, "outcome": outcome, "reason": reason})
}
