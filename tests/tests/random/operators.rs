//! `docs/OPERATORS.md` says which operators there are and what they take, as the tables have it and as the generators of
//! random cases find out. `SARDONYX_WRITE=1` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use sardonyx_importer::{PlanOptions, Work, plan, table};
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::Plan;
use sardonyx_ops::problem::{Operand, Problem, storage_of};
use sardonyx_ops::{DType, Role, Tensor};
use sardonyx_shaders::Capabilities;

use crate::FAMILIES;
use crate::driver::{Generator, graph_of};
use crate::node::{Draw, Node};

/// Cases of each operator.
const CASES: u64 = 96;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATORS.md");

/// What is known about an operator.
#[derive(Default)]
struct Row {
    since: BTreeSet<i64>,
    /// Types by their numbers in ONNX, and whether some case of each has kernels.
    types: BTreeMap<i32, bool>,
}

/// The type that a case is about, and whether there are kernels for it; `None` when it is refused.
fn look(generator: &Generator, seed: u64) -> Option<(DType, bool)> {
    let mut draw = Draw::new(seed, 0);
    let node = (generator.make)(&mut draw, Node::new(generator.domain, generator.name));
    let main = node.inputs.iter().flatten().map(Tensor::dtype);
    let main = main.clone().find(|dtype| *dtype != DType::Bool).or_else(|| main.clone().next())?;
    let (graph, given) = graph_of(&node, node.build().ok()?);
    let facts: Vec<Fact> = given.iter().map(|tensor| Fact::known(tensor.dtype(), tensor.dims())).collect();
    let stage = plan(&graph, &facts, &PlanOptions::default()).ok()?;
    let kernels = match (&stage.work, stage.rest) {
        (Work::Compiled(plan), None) => has_kernels(plan),
        _ => false,
    };
    Some((main, kernels))
}

/// Whether there is a kernel for each step, on a device with f16 and no more than every device has otherwise.
fn has_kernels(plan: &Plan) -> bool {
    let caps = Capabilities { f16: true, ..Capabilities::BASELINE };
    let operand = |id: &ValueId| {
        let value = &plan.values[id.0];
        let storage = storage_of(value.dtype, true);
        Operand { dtype: value.dtype, dims: &value.dims, value: value.constant.as_ref(), storage }
    };
    plan.steps.iter().filter(|step| step.op.role() != Role::View).all(|step| {
        let problem = Problem {
            inputs: step.inputs.iter().map(|id| id.as_ref().map(operand)).collect(),
            outputs: step.outputs.iter().flatten().map(operand).collect(),
            epilogue: None,
        };
        problem.outputs.iter().all(Operand::is_empty) || !step.op.lower(&problem, &caps).candidates.is_empty()
    })
}

fn names(row: &Row, on_gpu: bool) -> String {
    let listed = row.types.iter().filter(|(_, kernels)| **kernels || !on_gpu);
    let listed: Vec<&str> =
        listed.filter_map(|(number, _)| DType::from_onnx(i64::from(*number)).map(DType::name)).collect();
    if listed.is_empty() { "-".to_owned() } else { listed.join(" ") }
}

fn text() -> String {
    let mut rows: BTreeMap<(&str, &str), Row> = BTreeMap::new();
    for row in table::rows() {
        rows.entry((row.domain, row.name)).or_default().since.insert(row.since);
    }
    for generator in FAMILIES.iter().copied().flatten() {
        let Some(row) = rows.get_mut(&(generator.domain, generator.name)) else { continue };
        for (dtype, kernels) in (0..CASES).filter_map(|seed| look(generator, seed)) {
            *row.types.entry(dtype.to_onnx()).or_default() |= kernels;
        }
    }
    let mut text = String::from(
        "# Operators\n\nWritten by a test from the tables of operators and from random cases of each: do not edit.\n\n\
         *Since*: the opsets at which another form begins. *Types*: of the first input that is not a truth value, as \
         far as random cases have them. *GPU*: those of them for which some case has kernels within the limits that \
         every WebGPU device has, with f16; all others run on the CPU. A dash: there are no random cases, or no \
         kernels.\n",
    );
    let mut domain = None;
    for ((of, name), row) in &rows {
        if domain != Some(*of) {
            domain = Some(*of);
            let title = if of.is_empty() { "ai.onnx" } else { *of };
            let _ = write!(text, "\n## {title}\n\n| operator | since | types | GPU |\n|---|---|---|---|\n");
        }
        let since: Vec<String> = row.since.iter().map(i64::to_string).collect();
        let all = row.types.values().all(|kernels| *kernels) && !row.types.is_empty();
        let gpu = if all { "all".to_owned() } else { names(row, true) };
        let _ = writeln!(text, "| {name} | {} | {} | {gpu} |", since.join(" "), names(row, false));
    }
    text
}

#[test]
fn the_list_of_operators_is_fresh() {
    let fresh = text();
    if std::env::var_os("SARDONYX_WRITE").is_some() {
        std::fs::create_dir_all(Path::new(FILE).parent().unwrap()).unwrap();
        std::fs::write(FILE, &fresh).unwrap();
    }
    let stale =
        "docs/OPERATORS.md is stale: SARDONYX_WRITE=1 cargo test -p sardonyx-tests --test random operators";
    assert!(std::fs::read_to_string(FILE).unwrap_or_default() == fresh, "{stale}");
}
