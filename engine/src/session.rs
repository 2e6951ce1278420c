//! Sessions: a model bound to a device, ready to run.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sardonyx_importer::PlanOptions;
use sardonyx_ops::ir::dim::Dim;
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::ir::graph::Graph;
use sardonyx_ops::plan::Decision;
use sardonyx_ops::{Item, Tensor};

use crate::cache::CacheFolder;
use crate::device::{Device, Select};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::hooks::Hooks;
use crate::memory::MemoryPlan;
use crate::meters::Meters;
use crate::model::Model;
use crate::observer::{Observer, Observers};
use crate::placement::Placement;
use crate::profile::Recorder;
use crate::program::Settings;
use crate::saved_plan::{SavedPlan, Sizes};
use crate::shader::{self, Shader};
use crate::stages::{self, Maker, Stage, Stages};
use crate::values::{Inputs, Outputs, Value};

/// What happens to operators that have no kernel on the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fallback {
    /// They are an error when the session is built.
    #[default]
    Deny,
    /// They run on the CPU; [`Session::placement`] says which and why.
    Allow,
}

/// In which precision floats are stored on a GPU. Arithmetic accumulates in f32 always, and the CPU computes 16-bit floats
/// in f32 from the inputs to the outputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Precision {
    /// As the model says.
    #[default]
    Model,
    /// f32 values as f16 where the device has it: half the memory and traffic.
    F16,
    /// f16 and bf16 values as f32.
    F32,
}

impl Precision {
    /// The word for people and files: `model`, `f16` or `f32`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Model => "model",
            Precision::F16 => "f16",
            Precision::F32 => "f32",
        }
    }

    /// The precision of this name.
    pub fn named(name: &str) -> Option<Precision> {
        [Precision::Model, Precision::F16, Precision::F32]
            .into_iter()
            .find(|precision| precision.name() == name)
    }
}

/// Makes sessions. Nothing is checked before [`SessionBuilder::build`].
#[derive(Clone, Debug, Default)]
pub struct SessionBuilder {
    device: Option<Device>,
    fallback: Fallback,
    precision: Precision,
    threads: Option<usize>,
    memory_budget: Option<u64>,
    taps: bool,
    observers: Observers,
    metrics: Option<String>,
    cache: Option<CacheFolder>,
    dims: BTreeMap<String, usize>,
    shapes: BTreeMap<String, Vec<usize>>,
    pub(crate) options: PlanOptions,
    plan: Option<Arc<SavedPlan>>,
}

impl SessionBuilder {
    /// The device to run on; [`Select::Auto`] when not given.
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// What happens to operators without a kernel on the device.
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// How floats are stored on a GPU.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Threads of the CPU path; all of the machine when not given.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Bytes that weights on the device and activations may take together.
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = Some(bytes);
        self
    }

    /// The size of a dimension that the model names, so that everything is ready when the session is built.
    pub fn dim(mut self, name: &str, size: usize) -> Self {
        self.dims.insert(name.to_owned(), size);
        self
    }

    /// The dimensions of an input, so that everything is ready when the session is built.
    pub fn shape(mut self, input: &str, dims: &[usize]) -> Self {
        self.shapes.insert(input.to_owned(), dims.to_vec());
        self
    }

    /// One more who is told what happens in the session.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.add(observer);
        self
    }

    /// Counts what happens in the session with the recorder of the crate `metrics` that is installed when the session
    /// is built, under this name for the model. The names of the metrics are in the documentation of this crate.
    pub fn metrics(mut self, model: &str) -> Self {
        self.metrics = Some(model.to_owned());
        self
    }

    /// A folder to keep compiled kernels in, where later processes find them; without one, nothing is kept. Processes
    /// may share it. What is damaged in it, or of another engine, device or driver, is made anew; when it cannot be
    /// written, the observer is told, and nothing else changes. Today only devices through Vulkan give compiled code.
    pub fn cache(mut self, folder: impl AsRef<Path>) -> Self {
        self.cache = Some(CacheFolder::new(folder.as_ref()));
        self
    }

    /// Keeps the results of all steps, for [`Session::run_tapped`]. The plan is the same; its memory is not reused.
    pub fn taps(mut self) -> Self {
        self.taps = true;
        self
    }

    /// Builds exactly the plan that was saved, with its sizes, precision, passes and kernels; see [`Session::plan`].
    pub fn plan(mut self, plan: SavedPlan) -> Self {
        self.precision = plan.precision;
        self.options.disabled_passes.clone_from(&plan.disabled_passes);
        self.shapes.extend(plan.inputs.iter().cloned());
        self.plan = Some(Arc::new(plan));
        self
    }

    /// Leaves out a pass of the planner, to find out which one is at fault.
    pub fn disable_pass(mut self, name: &str) -> Self {
        self.options.disabled_passes.push(name.to_owned());
        self
    }

    /// Binds the model. When the sizes of all inputs are known, from the model, [`SessionBuilder::dim`] or
    /// [`SessionBuilder::shape`], everything is planned and compiled now; otherwise at the first run with new sizes.
    ///
    /// # Errors
    /// When a name is not in the model, sizes contradict it, an operator has no place, memory exceeds the budget, the
    /// device refuses, or the plan is not the one that was saved.
    pub fn build(self, model: &Model) -> Result<Session> {
        let device = self.opened()?;
        let mut hooks = Hooks { observers: self.observers.clone(), model: model.clone(), device };
        if let Some(name) = &self.metrics {
            hooks.observers.add(Arc::new(Meters::new(name, model, &hooks.device, self.precision)));
        }
        let built = self.build_with(hooks.clone());
        built.inspect_err(|error| hooks.failed(error))
    }

    fn build_with(self, hooks: Hooks) -> Result<Session> {
        let model = &hooks.model;
        let saved = self.plan.clone();
        saved.as_ref().map_or(Ok(()), |saved| saved.check_origin(&hooks.device))?;
        let facts = self.input_facts(model)?;
        let threads = self.threads.unwrap_or(0);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("sardonyx-{index}"))
            .build()
            .map_err(|error| Error::Internal(error.to_string()))?;
        let settings = self.settings();
        let prepare = || unwound(|| Ok(sardonyx_importer::prepare(model.graph(), &self.options)?));
        let prepared = tracing::debug_span!("prepare").in_scope(prepare)?;
        let session = Session {
            graph: prepared.graph,
            decisions: prepared.decisions,
            settings,
            options: self.options,
            cache: self.cache,
            pool: Arc::new(pool),
            facts,
            stages: Stages::default(),
            met: Mutex::default(),
            names: model.outputs().iter().map(|output| output.name.clone()).collect(),
            hooks: Arc::new(hooks),
        };
        session.prepare()?;
        saved.map_or(Ok(()), |saved| saved.check(&session))?;
        Ok(session)
    }

    /// The device chosen, or the default one.
    pub(crate) fn opened(&self) -> Result<Device> {
        match &self.device {
            Some(device) => Ok(device.clone()),
            None => Device::open(Select::Auto),
        }
    }

    /// What a program depends on.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            fallback: self.fallback,
            precision: self.precision,
            memory_budget: self.memory_budget,
            taps: self.taps,
            choices: self.plan.as_ref().map(|plan| plan.choices()).unwrap_or_default(),
        }
    }

    /// What the model declares about its inputs, with the sizes given filled in.
    pub(crate) fn input_facts(&self, model: &Model) -> Result<Vec<Fact>> {
        let known: Vec<&str> = model.inputs().iter().map(|input| &*input.name).collect();
        if let Some(name) = self.shapes.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(Error::UnknownName { what: "input", name: name.clone(), known: known.join(", ") });
        }
        let mut symbols: Vec<String> = Vec::new();
        let mut facts = Vec::new();
        for (input, (_, fact)) in model.inputs().iter().zip(&model.graph().inputs) {
            let mut fact = fact.clone();
            if let Some(dims) = self.shapes.get(&*input.name) {
                check_shape(&input.name, &fact, dims)?;
                fact = Fact::known(fact.dtype, dims);
            }
            for dim in fact.shape.iter_mut().flatten() {
                if let Dim::Symbolic(_) = dim {
                    let name = dim.to_string();
                    if let Some(&size) = self.dims.get(&name) {
                        *dim = Dim::Known(size);
                    }
                    symbols.push(name);
                }
            }
            facts.push(fact);
        }
        let declared = || model.graph().inputs.iter().flat_map(|(_, fact)| fact.shape.iter().flatten());
        for name in self.dims.keys() {
            if !declared().any(|dim| dim.to_string() == *name) {
                symbols.sort();
                symbols.dedup();
                let known = symbols.join(", ");
                return Err(Error::UnknownName { what: "dimension", name: name.clone(), known });
            }
        }
        Ok(facts)
    }
}

/// Options of one run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The run ends with [`Error::Deadline`] when this much time has passed. Checked between steps.
    pub deadline: Option<Duration>,
    /// The run ends with [`Error::Cancelled`] when this becomes true. Checked between steps.
    pub cancel: Option<Arc<AtomicBool>>,
}

/// A model bound to a device. `run` takes `&self`: share a session freely between threads.
pub struct Session {
    hooks: Arc<Hooks>,
    /// The model's graph after everything that does not depend on sizes.
    graph: Graph,
    /// What the passes did to it.
    decisions: Vec<Decision>,
    settings: Settings,
    options: PlanOptions,
    cache: Option<CacheFolder>,
    pool: Arc<rayon::ThreadPool>,
    facts: Vec<Fact>,
    stages: Stages,
    /// The stages of the latest run, or those prepared.
    met: Mutex<Vec<Arc<Stage>>>,
    names: Arc<[Arc<str>]>,
}

impl Session {
    /// Starts making a session.
    pub fn builder() -> SessionBuilder {
        SessionBuilder::default()
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.hooks.device
    }

    /// Where each operator runs, and why; of the latest run where that depends on data or sizes. Empty before the first
    /// run of a session whose input sizes were not known when it was built.
    pub fn placement(&self) -> Placement {
        self.report().0
    }

    /// What is needed of memory, likewise.
    pub fn memory(&self) -> MemoryPlan {
        self.report().1
    }

    /// The fused plan as text, one step a line, likewise.
    pub fn plan_text(&self) -> String {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.iter().map(|stage| stage.text.as_str()).collect()
    }

    /// What was decided, to be kept and built again with [`SessionBuilder::plan`].
    ///
    /// # Errors
    /// [`Error::Plan`] when the sizes of inputs were not known when the session was built, or the sizes of other values
    /// depend on data.
    pub fn plan(&self) -> Result<SavedPlan> {
        SavedPlan::of(self)
    }

    /// The kernels in WGSL that run, each once, likewise. Empty on the CPU.
    ///
    /// # Errors
    /// When a text of [`Device::with_kernels`] does not fit.
    pub fn shaders(&self) -> Result<Vec<Shader>> {
        let Some(gpu) = self.hooks.device.gpu() else { return Ok(Vec::new()) };
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        shader::of(met.iter().filter_map(|stage| stage.program()), gpu)
    }

    /// The digest of that text, likewise; `None` where there is none yet. Of a model that is planned in parts, that of all
    /// parts together.
    pub fn plan_digest(&self) -> Option<Digest> {
        digest(&self.met.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What each pass of the planner did and did not do, and why not, likewise.
    pub fn decisions(&self) -> Vec<Decision> {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        self.decisions.iter().chain(met.iter().flat_map(|stage| &stage.decisions)).cloned().collect()
    }

    /// Runs the model.
    ///
    /// # Errors
    /// When an input is unknown, missing or does not fit, or a step fails.
    pub fn run<'a>(&self, inputs: impl Into<Inputs<'a>>) -> Result<Outputs> {
        self.run_with(inputs, &RunOptions::default())
    }

    /// Runs the model with a deadline or a way to cancel.
    ///
    /// # Errors
    /// As [`Session::run`]; [`Error::Deadline`] and [`Error::Cancelled`].
    pub fn run_with<'a>(&self, inputs: impl Into<Inputs<'a>>, options: &RunOptions) -> Result<Outputs> {
        self.run_recorded(inputs.into(), options, &mut Recorder::default())
    }

    /// Runs the model with a recorder.
    pub(crate) fn run_recorded(
        &self,
        inputs: Inputs<'_>,
        options: &RunOptions,
        recorder: &mut Recorder<'_>,
    ) -> Result<Outputs> {
        let (values, met) = self.hooks.run(
            recorder,
            |recorder| self.perform(inputs, options, recorder),
            |(_, met)| digest(met),
        )?;
        *self.met.lock().unwrap_or_else(PoisonError::into_inner) = met;
        Ok(Outputs { names: Arc::clone(&self.names), values, times: recorder.times })
    }

    /// Runs the model; gives its outputs and the stages met.
    pub(crate) fn perform(
        &self,
        inputs: Inputs<'_>,
        options: &RunOptions,
        recorder: &mut Recorder<'_>,
    ) -> Result<(Vec<Value>, Vec<Arc<Stage>>)> {
        let start = Instant::now();
        recorder.begin(start);
        let (forms, inputs) = self.ordered(inputs)?;
        let check = || {
            if options.cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
                return Err(Error::Cancelled);
            }
            match options.deadline {
                Some(limit) if start.elapsed() >= limit => Err(Error::Deadline { limit }),
                _ => Ok(()),
            }
        };
        let facts: Vec<Fact> =
            inputs.iter().map(|tensor| Fact::known(tensor.dtype(), tensor.dims())).collect();
        let maker = self.maker();
        let done = unwound(|| {
            let first = self.stages.get(&self.graph, &forms, &facts, &maker)?;
            recorder.times.prepare = start.elapsed();
            stages::run(first, inputs, &maker, &check, recorder)
        })?;
        recorder.times.total = start.elapsed();
        recorder.planned = maker.made.into_inner();
        Ok(done)
    }

    fn maker(&self) -> Maker<'_> {
        Maker {
            hooks: &self.hooks,
            settings: &self.settings,
            options: &self.options,
            pool: &self.pool,
            cache: self.cache.as_ref(),
            made: AtomicUsize::new(0),
        }
    }

    /// The program of the sizes known when the session was built.
    pub(crate) fn only_stage(&self) -> Result<Arc<Stage>> {
        if self.facts.iter().any(|fact| fact.dims().is_none()) {
            let what = "sizes of inputs were left open when the session was built".to_owned();
            return Err(Error::Bind { what });
        }
        unwound(|| self.stages.get(&self.graph, &[], &self.facts, &self.maker()))
    }

    /// The digest of the plan and the dimensions of the inputs, when all sizes were known and the model is planned in one piece.
    pub(crate) fn whole_plan(&self) -> Option<(Digest, Sizes)> {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let [stage] = met.as_slice() else { return None };
        stage.compiled()?;
        let names = self.hooks.model.inputs().iter().map(|input| input.name.to_string());
        let inputs: Option<Vec<_>> =
            names.zip(&self.facts).map(|(name, fact)| Some((name, fact.dims()?))).collect();
        Some((stage.digest, inputs?))
    }

    /// How floats are stored.
    pub(crate) fn precision(&self) -> Precision {
        self.settings.precision
    }

    /// Passes that do not run.
    pub(crate) fn disabled_passes(&self) -> &[String] {
        &self.options.disabled_passes
    }

    /// The threads of the CPU path.
    pub(crate) fn pool(&self) -> Arc<rayon::ThreadPool> {
        Arc::clone(&self.pool)
    }

    /// Whom it tells.
    pub(crate) fn hooks(&self) -> &Arc<Hooks> {
        &self.hooks
    }

    /// The names of the outputs, in order.
    pub(crate) fn output_names(&self) -> Arc<[Arc<str>]> {
        Arc::clone(&self.names)
    }

    /// Plans and compiles the first stage when the sizes of all inputs are known.
    fn prepare(&self) -> Result<()> {
        if self.facts.iter().any(|fact| fact.dims().is_none()) {
            return Ok(());
        }
        let stage = unwound(|| self.stages.get(&self.graph, &[], &self.facts, &self.maker()))?;
        *self.met.lock().unwrap_or_else(PoisonError::into_inner) = vec![stage];
        Ok(())
    }

    /// The tensors of the inputs in the model's order, checked and aligned, and the forms of the inputs if some are not
    /// tensors.
    fn ordered(&self, inputs: Inputs<'_>) -> Result<(Vec<Item<()>>, Vec<Tensor>)> {
        let specs = self.hooks.model.inputs();
        let known = || specs.iter().map(|spec| &*spec.name).collect::<Vec<_>>().join(", ");
        let bad = |name: &str, problem| Error::InputName { name: name.to_owned(), problem, known: known() };
        for (index, (name, _)) in inputs.named.iter().enumerate() {
            if !specs.iter().any(|spec| &*spec.name == *name) {
                return Err(bad(name, "is unknown"));
            }
            if inputs.named[..index].iter().any(|(other, _)| other == name) {
                return Err(bad(name, "is given twice"));
            }
        }
        let mut symbols: BTreeMap<String, (usize, &str)> = BTreeMap::new();
        let mut ordered = Vec::with_capacity(specs.len());
        let mut forms = Vec::with_capacity(specs.len());
        let graph = self.hooks.model.graph();
        for ((spec, fact), (id, _)) in specs.iter().zip(&self.facts).zip(&graph.inputs) {
            let given = inputs.named.iter().find(|(name, _)| *name == &*spec.name);
            let item = &given.ok_or_else(|| bad(&spec.name, "is missing"))?.1;
            let tensors = item.tensors();
            if let Some(tensor) = tensors.iter().find(|tensor| tensor.dtype() != fact.dtype) {
                let (expected, got) = (fact.dtype, tensor.dtype());
                return Err(Error::InputType { name: spec.name.to_string(), expected, got });
            }
            forms.push(item.map(&mut |_| ()));
            if graph.items.contains_key(id) {
                ordered.extend(tensors.into_iter().map(|tensor| (*tensor).clone().aligned()));
                continue;
            }
            let Item::Tensor(tensor) = item else { return Err(bad(&spec.name, "must be a tensor")) };
            // Sizes fixed when the session was built only say what is prepared: others run too, if the model allows.
            let declared = self
                .hooks
                .model
                .graph()
                .inputs
                .iter()
                .find(|(id, _)| self.hooks.model.graph().name(*id) == &*spec.name);
            let declared = declared.map_or(fact, |(_, fact)| fact);
            check_shape(&spec.name, declared, tensor.dims())?;
            for (dim, &size) in declared.shape.iter().flatten().zip(tensor.dims()) {
                if let Dim::Symbolic(_) = dim {
                    let (first, input) = *symbols.entry(dim.to_string()).or_insert((size, &spec.name));
                    if first != size {
                        return Err(Error::InputShape {
                            name: spec.name.to_string(),
                            expected: format!("{dim} = {first}, as in \"{input}\""),
                            got: tensor.dims().to_vec(),
                        });
                    }
                }
            }
            ordered.push((*tensor).clone().aligned());
        }
        if graph.items.is_empty() {
            forms.clear();
        }
        Ok((forms, ordered))
    }

    fn report(&self) -> (Placement, MemoryPlan) {
        let (mut placement, mut memory) = (Placement::default(), MemoryPlan::default());
        for stage in self.met.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            stage.report(&mut placement, &mut memory, self.hooks.device.gpu().is_some());
        }
        (placement, memory)
    }
}

/// The digest of the plans of stages.
fn digest(stages: &[Arc<Stage>]) -> Option<Digest> {
    Digest::of_all(stages.iter().map(|stage| stage.digest))
}

/// Checks dimensions against what is declared.
fn check_shape(name: &str, fact: &Fact, dims: &[usize]) -> Result<()> {
    let Some(shape) = &fact.shape else { return Ok(()) };
    let fits = shape.len() == dims.len()
        && shape.iter().zip(dims).all(|(dim, &size)| dim.known().is_none_or(|known| known == size));
    if fits {
        return Ok(());
    }
    Err(Error::InputShape { name: name.to_owned(), expected: format!("{shape:?}"), got: dims.to_vec() })
}

/// Runs `work`; a panic in it, which is a defect of ours, becomes an error that the host survives.
pub(crate) fn unwound<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Error::Internal(text.unwrap_or("a panic").to_owned()))
    })
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({:?}, {:?})", self.hooks.device, self.settings)
    }
}
