//! Stages of a model: programs for the sizes met so far, and the parts of a graph whose sizes depend on data.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sardonyx_importer::{HostInput, PlanOptions, Rest, Source, Work};
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::ir::graph::{Graph, Node};
use sardonyx_ops::plan::{Decision, Plan};
use sardonyx_ops::{Item, Tensor};
use tracing::field;

use crate::bound::Bound;
use crate::cache::CacheFolder;
use crate::device::Compiler;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::hooks::{Hooks, install};
use crate::memory::MemoryPlan;
use crate::observer::Event;
use crate::placement::{Place, PlacedStep, Placement};
use crate::profile::{HostStage, ProfiledStep, Recorder};
use crate::program::{Program, Settings, suit};
use crate::session::Fallback;
use crate::values::Value;

/// Sizes for which programs are kept; the one unused longest goes first.
const KEPT: usize = 8;

/// The forms of a model's inputs where some are sequences or optionals, and the sizes, and where planning wants them the
/// contents, of a stage's inputs.
#[derive(Clone, PartialEq)]
struct Key {
    forms: Vec<Item<()>>,
    inputs: Vec<(Vec<usize>, Option<bytes::Bytes>)>,
}

/// Stages by the sizes of their inputs, most recently used last.
#[derive(Default)]
pub(crate) struct Stages {
    kept: Mutex<Vec<(Key, Arc<Stage>)>>,
}

/// A part of a model, ready to run for certain input sizes.
pub(crate) struct Stage {
    work: Ready,
    rest: Option<(Rest, Stages)>,
    /// Of the last stage: what the model's outputs are made of.
    gives: Vec<Item<usize>>,
    /// The plan as text, and its digest.
    pub(crate) text: String,
    pub(crate) digest: Digest,
    /// What the passes did and did not do.
    pub(crate) decisions: Vec<Decision>,
}

enum Ready {
    Compiled(Box<Bound>),
    Evaluate { node: Node, inputs: Vec<Option<HostInput>>, reason: &'static str },
}

/// What stages are made with.
pub(crate) struct Maker<'a> {
    pub(crate) hooks: &'a Hooks,
    pub(crate) settings: &'a Settings,
    pub(crate) options: &'a PlanOptions,
    pub(crate) pool: &'a rayon::ThreadPool,
    pub(crate) cache: Option<&'a CacheFolder>,
    /// How many stages were made.
    pub(crate) made: AtomicUsize,
}

impl Stages {
    /// The stage of `graph` for inputs with these facts. `forms` are those of the graph's inputs, none when all are
    /// tensors; `facts` are those of the tensors that they are made of.
    pub(crate) fn get(
        &self,
        graph: &Graph,
        forms: &[Item<()>],
        facts: &[Fact],
        maker: &Maker<'_>,
    ) -> Result<Arc<Stage>> {
        let known =
            |fact: &Fact| (fact.dims().unwrap_or_default(), fact.value.as_ref().map(Tensor::shared_bytes));
        let key = Key { forms: forms.to_vec(), inputs: facts.iter().map(known).collect() };
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = kept.iter().position(|(k, _)| *k == key) {
                let entry = kept.remove(at);
                let stage = Arc::clone(&entry.1);
                kept.push(entry);
                return Ok(stage);
            }
        }
        let start = std::time::Instant::now();
        let hooks = maker.hooks;
        let span = tracing::info_span!(
            "plan",
            device = %hooks.device.info().id,
            model = %hooks.model.digest(),
            inputs = %sizes(facts),
            plan = field::Empty,
            operators = field::Empty,
            on_device = field::Empty,
        );
        let made = span.in_scope(|| match forms {
            [] => make(graph, facts, maker),
            forms => make(&graph.taken_apart(forms), facts, maker),
        });
        let stage = Arc::new(made?);
        maker.made.fetch_add(1, Ordering::Relaxed);
        stage.tell(hooks, &span, start.elapsed());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((key, Arc::clone(&stage)));
        Ok(stage)
    }
}

/// Types and sizes, for people.
fn sizes(facts: &[Fact]) -> String {
    let one = |fact: &Fact| format!("{}{:?}", fact.dtype, fact.dims().unwrap_or_default());
    facts.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn make(graph: &Graph, facts: &[Fact], maker: &Maker<'_>) -> Result<Stage> {
    let fuse = || sardonyx_importer::plan(graph, facts, maker.options);
    let planned = tracing::debug_span!("fuse").in_scope(fuse)?;
    let mut decisions = Vec::new();
    let (work, text, digest) = match planned.work {
        Work::Compiled(mut plan) => {
            // The results of steps are wanted as the model has them.
            if !maker.settings.taps {
                suit(&mut plan, &maker.hooks.device);
            }
            let text = plan.to_string();
            decisions = std::mem::take(&mut plan.decisions);
            let digest = Digest::of(text.as_bytes());
            // Weights are put in order by the threads that the session may use.
            let bound = install(maker.pool, || bind(plan, digest, maker))?;
            (Ready::Compiled(Box::new(bound)), text, digest)
        }
        Work::Evaluate { node, reason, .. }
            if maker.hooks.device.gpu().is_some() && maker.settings.fallback == Fallback::Deny =>
        {
            return Err(Error::Unsupported {
                node: node.name.to_string(),
                op: node.op.name(),
                device: maker.hooks.device.info().id.clone(),
                why: reason.to_owned(),
            });
        }
        Work::Evaluate { node, inputs, reason } => {
            let text = format!("   -  {:<24} on the host, {reason}  from {}\n", node.op.name(), node.name);
            let digest = Digest::of(text.as_bytes());
            (Ready::Evaluate { node, inputs, reason }, text, digest)
        }
    };
    let rest = planned.rest.map(|rest| (rest, Stages::default()));
    Ok(Stage { work, rest, gives: planned.gives, text, digest, decisions })
}

fn bind(plan: Plan, digest: Digest, maker: &Maker<'_>) -> Result<Bound> {
    let hooks = maker.hooks;
    let told = Some((&hooks.observers, hooks.about(Some(digest))));
    Bound::new(plan, &hooks.device, maker.settings.clone(), Compiler { cache: maker.cache, told })
}

/// Runs a stage and those after it. Returns the outputs and the stages met.
pub(crate) fn run(
    first: Arc<Stage>,
    inputs: Vec<Tensor>,
    maker: &Maker<'_>,
    check: &(dyn Fn() -> Result<()> + Sync),
    recorder: &mut Recorder<'_>,
) -> Result<(Vec<Value>, Vec<Arc<Stage>>)> {
    let (mut stage, mut inputs, mut met) = (first, inputs, Vec::new());
    loop {
        check()?;
        let mut outputs = match &stage.work {
            // Steps on the CPU use the pool's threads; a run without them stays on the caller's.
            Ready::Compiled(bound) if bound.uses_cpu() => {
                install(maker.pool, || bound.run(&inputs, check, recorder))?
            }
            Ready::Compiled(bound) => bound.run(&inputs, check, recorder)?,
            Ready::Evaluate { node, inputs: wanted, .. } => {
                install(maker.pool, || evaluate(node, wanted, &inputs, recorder))?
            }
        };
        if let Ready::Compiled(bound) = &stage.work
            && maker.settings.taps
        {
            recorder.taps.extend(bound.program().taps(outputs.split_off(bound.program().wanted)));
        }
        recorder.next_part();
        met.push(Arc::clone(&stage));
        let missing = || Error::Internal("a stage does not give what the next one takes".to_owned());
        let Some((rest, stages)) = &stage.rest else {
            let find = |index: &usize| outputs.get(*index).cloned().ok_or_else(missing);
            let values = stage.gives.iter().map(|item| item.try_map(&mut { find }));
            return Ok((values.collect::<Result<_>>()?, met));
        };
        let mut next = Vec::with_capacity(rest.takes.len());
        let mut facts = Vec::with_capacity(rest.takes.len());
        for take in &rest.takes {
            let tensor = match take.source {
                Source::Input(index) => inputs.get(index),
                Source::Output(index) => outputs.get(index),
            };
            let tensor = tensor.cloned().ok_or_else(missing)?.aligned();
            facts.push(match take.value {
                true => Fact::constant(tensor.clone()),
                false => Fact::known(tensor.dtype(), tensor.dims()),
            });
            next.push(tensor);
        }
        let following = stages.get(&rest.graph, &[], &facts, maker)?;
        inputs = next;
        stage = following;
    }
}

fn evaluate(
    node: &Node,
    wanted: &[Option<HostInput>],
    inputs: &[Tensor],
    recorder: &mut Recorder<'_>,
) -> Result<Vec<Tensor>> {
    let stage = HostStage::Steps.begin();
    let begun = recorder.step_begins();
    let tensors: Vec<Option<Tensor>> = wanted
        .iter()
        .map(|input| match input {
            None => Ok(None),
            Some(HostInput::Constant(tensor)) => Ok(Some(tensor.clone().aligned())),
            Some(HostInput::Input(index)) => inputs
                .get(*index)
                .map(|tensor| Some(tensor.clone()))
                .ok_or_else(|| Error::Internal("a node on the host lacks an input".to_owned())),
        })
        .collect::<Result<_>>()?;
    let views: Vec<_> = tensors.iter().map(|tensor| tensor.as_ref().map(Tensor::view)).collect();
    let outputs = node.op.reference(&views, node.outputs.len()).map_err(|source| Error::Step {
        node: node.name.to_string(),
        op: node.op.name(),
        source,
    })?;
    recorder.step_ends(0, begun);
    recorder.end(stage);
    Ok(outputs)
}

impl Stage {
    /// The program, if the whole model is one.
    pub(crate) fn compiled(&self) -> Option<&Bound> {
        match &self.work {
            Ready::Compiled(bound) if self.rest.is_none() => Some(bound),
            _ => None,
        }
    }

    /// Tells that this stage was planned, and what of it falls back.
    fn tell(&self, hooks: &Hooks, span: &tracing::Span, took: std::time::Duration) {
        if hooks.observers.is_empty() && span.is_disabled() {
            return;
        }
        let (mut placement, mut memory) = (Placement::default(), MemoryPlan::default());
        self.report(&mut placement, &mut memory, hooks.device.gpu().is_some());
        let (on_device, operators) = placement.on_device();
        span.record("plan", field::display(self.digest));
        span.record("operators", operators).record("on_device", on_device);
        let dispatches = placement.dispatches;
        let about = hooks.about(Some(self.digest));
        hooks.observers.tell(|| (about, Event::Planned { on_device, operators, dispatches, memory, took }));
        for step in placement.fallbacks() {
            hooks.observers.tell(|| (about, Event::Fallback { step }));
        }
    }

    /// The number of steps that a profile knows of this stage.
    pub(crate) fn step_count(&self) -> usize {
        match &self.work {
            Ready::Compiled(bound) => bound.program().details.len(),
            Ready::Evaluate { .. } => 1,
        }
    }

    /// What a profile says of this stage's steps.
    pub(crate) fn steps(&self) -> Vec<ProfiledStep> {
        match &self.work {
            Ready::Compiled(bound) => bound.program().profiled_steps(),
            Ready::Evaluate { node, .. } => vec![ProfiledStep {
                op: node.op.name(),
                nodes: vec![Arc::clone(&node.name)],
                kernels: vec!["reference"],
                on_device: false,
                inputs: Vec::new(),
                outputs: Vec::new(),
                flops: 0,
                bytes: 0,
            }],
        }
    }

    /// Its program; `None` for what the CPU evaluates without one.
    pub(crate) fn program(&self) -> Option<&Program> {
        match &self.work {
            Ready::Compiled(bound) => Some(bound.program()),
            Ready::Evaluate { .. } => None,
        }
    }

    /// Adds this stage's steps to a placement.
    pub(crate) fn report(&self, all: &mut Placement, memory: &mut MemoryPlan, gpu: bool) {
        all.gpu = gpu;
        match &self.work {
            Ready::Compiled(bound) => {
                let program = bound.program();
                all.steps.extend(program.placement.steps.iter().cloned());
                all.dispatches += program.placement.dispatches;
                let own = program.memory;
                memory.device_weights += own.device_weights;
                memory.device_activations += own.device_activations;
                memory.device_staging += own.device_staging;
                memory.device_live += own.device_live;
                memory.host_activations += own.host_activations;
                memory.host_live += own.host_live;
                memory.host_scratch += own.host_scratch;
            }
            Ready::Evaluate { node, reason, .. } => all.steps.push(PlacedStep {
                op: node.op.name(),
                nodes: vec![Arc::clone(&node.name)],
                place: Place::Cpu { reason: (*reason).to_owned() },
                refused: Vec::new(),
            }),
        }
    }
}
