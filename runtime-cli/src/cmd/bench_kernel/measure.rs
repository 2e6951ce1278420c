//! One problem by each of its kernels.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sardonyx::{Device, Fallback, PlanSession, Precision, Tensor};
use sardonyx_ops::DType;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::operator::Cost;
use sardonyx_ops::plan::{Plan, PlanStep, PlanValue};
use sardonyx_ops::problem::{self, Operand};
use sardonyx_ops::restricted::Restricted;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::bind;
use crate::compare::{Tolerance, compare};
use crate::failure::{Failure, Fault};

/// Where, how and how long.
pub struct Setting<'a> {
    pub device: &'a Device,
    pub precision: Precision,
    pub duration: Duration,
}

/// A kernel on a problem.
#[derive(Debug)]
pub struct Measured {
    pub problem: String,
    pub kernel: String,
    pub runs: usize,
    pub median_ns: u64,
    pub min_ns: u64,
    pub cost: Cost,
    /// Largest difference to the reference, of its largest magnitude.
    pub error: f64,
    pub verified: bool,
}

impl Measured {
    /// So much work in the shortest run, for each nanosecond: 10⁹ a second.
    pub fn per_ns(&self, work: u64) -> f64 {
        work as f64 / self.min_ns.max(1) as f64
    }

    /// As a row of the document.
    pub fn to_json(&self) -> Value {
        json!({"problem": self.problem, "kernel": self.kernel, "runs": self.runs, "p50_ns": self.median_ns,
               "min_ns": self.min_ns, "flops": self.cost.flops, "bytes": self.cost.bytes,
               "gflops_per_s": self.per_ns(self.cost.flops), "gb_per_s": self.per_ns(self.cost.bytes),
               "max_error": self.error, "verified": self.verified})
    }
}

/// Measures the kernels of a problem whose names fit.
///
/// # Errors
/// When the device refuses.
pub fn measure(
    problem: &Problem,
    setting: &Setting<'_>,
    fits: &dyn Fn(&str) -> bool,
) -> Result<Vec<Measured>, Failure> {
    let defect = |error: &dyn std::fmt::Display| Failure::new(Fault::Defect, error.to_string());
    let inputs = problem.tensors()?;
    let views: Vec<_> = inputs.iter().map(|tensor| Some(tensor.view())).collect();
    let want = problem.op.reference(&views, 1).map_err(|error| defect(&error))?;
    let want = want.first().ok_or_else(|| defect(&"a reference without a result"))?;
    let (names, cost) = kernels(problem, &inputs, want, setting);
    let names = names.into_iter().filter(|name| fits(name));
    names.map(|name| one(problem, name, cost, &inputs, want, setting)).collect()
}

/// The names of the kernels that can do a problem, best first, and its work.
fn kernels(
    problem: &Problem,
    inputs: &[Tensor],
    want: &Tensor,
    setting: &Setting<'_>,
) -> (Vec<String>, Cost) {
    let caps = setting.device.capabilities();
    let half = caps.is_some_and(|caps| caps.f16) && setting.precision == Precision::F16;
    let dtype = if half { DType::F16 } else { DType::F32 };
    let storage = caps.and_then(|caps| problem::storage_of(dtype, caps.f16));
    let operand = |tensor, value| Operand { dtype: DType::F32, dims: Tensor::dims(tensor), value, storage };
    let sizes = problem::Problem {
        inputs: inputs
            .iter()
            .zip(&problem.inputs)
            .map(|(tensor, (_, constant))| Some(operand(tensor, constant.then_some(tensor))))
            .collect(),
        outputs: vec![operand(want, None)],
        epilogue: None,
    };
    let cost = problem.op.cost(&sizes);
    let Some(caps) = caps else { return (vec!["cpu".to_owned()], cost) };
    let mut names = Vec::new();
    for name in problem.op.lower(&sizes, caps).candidates.iter().map(sardonyx_ops::dispatch::Candidate::name)
    {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    (names, cost)
}

fn one(
    problem: &Problem,
    kernel: String,
    cost: Cost,
    inputs: &[Tensor],
    want: &Tensor,
    setting: &Setting<'_>,
) -> Result<Measured, Failure> {
    let failed = |error| bind::failure(&error, std::path::Path::new(""));
    let (plan, given) = plan(problem, &kernel, inputs, want);
    let session =
        PlanSession::new(plan, setting.device, Fallback::Deny, setting.precision).map_err(failed)?;
    let run = || {
        let (outputs, times) = session.run_timed(&given)?;
        Ok((outputs, times.compute + times.host))
    };
    // The first run also finds out whether the kernel is right.
    session.poison().map_err(failed)?;
    let (outputs, _) = run().map_err(failed)?;
    let got = outputs.first().ok_or_else(|| Failure::new(Fault::Defect, "a kernel without a result"))?;
    let tolerance = Tolerance::default_for(DType::F32, setting.precision == Precision::F16);
    let comparison = compare(got, want, tolerance);
    let largest = crate::elements::to_f64(want).unwrap_or_default();
    let largest = largest.iter().fold(f64::MIN_POSITIVE, |most, value| most.max(value.abs()));

    let mut samples = Vec::new();
    let start = Instant::now();
    while start.elapsed() < setting.duration || samples.len() < 3 {
        samples.push(run().map_err(failed)?.1);
    }
    samples.sort_unstable();
    let ns = |duration: &Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Ok(Measured {
        problem: problem.name.clone(),
        kernel,
        runs: samples.len(),
        median_ns: samples.get(samples.len() / 2).map_or(0, ns),
        min_ns: samples.first().map_or(0, ns),
        cost,
        error: comparison.max_abs / largest,
        verified: comparison.passes(),
    })
}

/// A plan of the one step, and what it is run on: the inputs that are no constants.
fn plan(problem: &Problem, kernel: &str, inputs: &[Tensor], want: &Tensor) -> (Plan, Vec<Tensor>) {
    let mut plan = Plan::default();
    let mut given = Vec::new();
    let mut step = PlanStep {
        op: Arc::new(Restricted { op: Arc::clone(&problem.op), kernel: kernel.to_owned() }),
        inputs: Vec::new(),
        outputs: Vec::new(),
        epilogue: None,
        nodes: vec![problem.name.as_str().into()],
    };
    let mut add = |name: String, tensor: &Tensor, constant: bool| {
        let dims = tensor.dims().to_vec();
        let constant = constant.then(|| tensor.clone());
        plan.values.push(PlanValue { name: name.into(), dtype: DType::F32, dims, constant });
        ValueId(plan.values.len() - 1)
    };
    for (index, (tensor, (_, constant))) in inputs.iter().zip(&problem.inputs).enumerate() {
        let id = add(format!("input{index}"), tensor, *constant);
        step.inputs.push(Some(id));
        if !constant {
            given.push((id, tensor.clone()));
        }
    }
    step.outputs.push(Some(add("output".to_owned(), want, false)));
    plan.inputs = given.iter().map(|(id, _)| *id).collect();
    plan.outputs = step.outputs.iter().flatten().copied().collect();
    plan.steps.push(step);
    (plan, given.into_iter().map(|(_, tensor)| tensor).collect())
}
