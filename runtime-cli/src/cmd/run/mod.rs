//! `sardonyx run MODEL`: one inference, or one for each file of a folder.

mod expect;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sardonyx::{Device, Fallback, Outputs, RunOptions, Session};
use serde_json::{Map, Value, json};

use crate::bind::{self, Opened};
use crate::cache::{Cache, Watch};
use crate::cli::{DeviceArgs, InputArgs, PlanArgs, PrecisionArg, parse_duration};
use crate::describe;
use crate::elements;
use crate::failure::{Failure, Fault};
use crate::formats::{npy, protobuf};
use crate::input::load::{self, Recipes};
use crate::input::request::{self, Sample};
use crate::input::sizes::Sizes;
use crate::input::{Given, Signature};
use crate::output::statistics::Statistics;
use crate::output::{Console, atomic, format, save};
use crate::task::Output;
use crate::task::answer::{Prepared, TaskArgs};
use expect::ExpectArgs;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX model
    model: PathBuf,
    #[command(flatten)]
    inputs: InputArgs,
    /// Write the tensor that the model sees of a picture to FILE.npy
    #[arg(long, value_name = "FILE", help_heading = "Inputs")]
    pre_dump: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    plan: PlanArgs,
    /// End with exit code 6 when a run takes longer, e.g. 500ms
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Device")]
    deadline: Option<Duration>,
    #[command(flatten)]
    results: ResultArgs,
    #[command(flatten)]
    task: TaskArgs,
    #[command(flatten)]
    expect: ExpectArgs,
}

/// What happens to the outputs.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Results")]
struct ResultArgs {
    /// Only these outputs, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    outputs: Vec<String>,
    /// Print the first N elements of each output
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "16")]
    print: Option<usize>,
    /// Save the outputs to FILE.npz, FILE.safetensors, or DIR/ (output_J.pb)
    #[arg(long, value_name = "PATH")]
    save_outputs: Option<PathBuf>,
    /// Fail when an output has an element that is not finite
    #[arg(long)]
    finite: bool,
}

/// Everything that stays the same for all samples.
struct Run<'a> {
    arguments: &'a Args,
    console: &'a Console,
    opened: Opened,
    signatures: Vec<Signature>,
    recipes: Recipes,
    sizes: Sizes,
    samples: Vec<Sample>,
    task: Prepared,
}

/// Runs the model.
///
/// # Errors
/// When anything is wrong with model, inputs or device; [`Failure::Gate`] when a result is not what was expected.
pub fn run(arguments: &Args, console: &Console, cache: &Cache) -> Result<(), Failure> {
    arguments.task.check()?;
    let run = Run::prepare(arguments, console)?;
    let name = run.opened.name();
    run.perform(cache).map_err(|failure| failure.in_model(name))
}

impl<'a> Run<'a> {
    fn prepare(arguments: &'a Args, console: &'a Console) -> Result<Run<'a>, Failure> {
        let opened = Opened::open(&arguments.model, console)?;
        let name = opened.name();
        let in_model = |failure: Failure| failure.in_model(name.clone());
        let signatures = opened.signatures().map_err(in_model)?;
        let mut sources = arguments.inputs.inputs.clone();
        if sources.is_empty()
            && let Some(folder) = arguments.expect.folder_with_inputs()
        {
            console.note(format!("inputs are those of {}", folder.display()));
            sources.push(folder.display().to_string());
        }
        let samples = request::samples(&sources, &signatures).map_err(in_model)?;
        let recipes = Recipes::new(&arguments.inputs.pre, &signatures).map_err(in_model)?;
        let sizes = opened.sizes(&signatures, &arguments.inputs.sizes).map_err(in_model)?;
        let task = arguments.task.prepare().map_err(in_model)?;
        let run = Run { arguments, console, opened, signatures, recipes, sizes, samples, task };
        arguments.expect.check(&run.samples)?;
        run.check_outputs()?;
        run.check_counts()?;
        Ok(run)
    }

    /// Options that name one file cannot serve several samples.
    fn check_counts(&self) -> Result<(), Failure> {
        if self.samples.len() == 1 {
            return Ok(());
        }
        let single_file = |path: &PathBuf| !save::is_folder(path);
        let offenders = [
            ("--pre-dump", self.arguments.pre_dump.is_some()),
            ("--draw", self.arguments.task.draws()),
            ("--save-outputs FILE", self.arguments.results.save_outputs.as_ref().is_some_and(single_file)),
        ];
        match offenders.iter().find(|(_, given)| *given) {
            Some((option, _)) => {
                let message =
                    format!("{option} names one file, and there are {} samples", self.samples.len());
                Err(Failure::new(Fault::Usage, message))
            }
            None => Ok(()),
        }
    }

    /// `--outputs` names outputs of the model.
    fn check_outputs(&self) -> Result<(), Failure> {
        let known: Vec<&str> = self.opened.model.outputs().iter().map(|spec| &*spec.name).collect();
        let asked = &self.arguments.results.outputs;
        match asked.iter().find(|name| !known.contains(&name.as_str())) {
            Some(name) => {
                let message = format!("--outputs {name}: the model has no such output");
                let why = format!("its outputs are {}", format::name(&known.join(", "), 300));
                Err(Failure::new(Fault::Usage, message).why(why))
            }
            None => Ok(()),
        }
    }

    fn load(&self, sample: &Sample) -> Result<Vec<Given>, Failure> {
        load::load(sample, &self.signatures, &self.recipes, self.sizes.clone(), self.console)
    }

    fn perform(&self, cache: &Cache) -> Result<(), Failure> {
        let start = Instant::now();
        let device = bind::device(&self.arguments.device)?;
        let open = start.elapsed();
        // With one sample all sizes are known before the session is built; with several they may differ.
        let first = self.load(&self.samples[0])?;
        let start = Instant::now();
        let (session, watch) = self.build(&device, &first, cache)?;
        let mut plan = start.elapsed();
        let digest = self.opened.digest();
        let mut documents = Vec::new();
        let mut passed = true;
        let running = self.console.progress(self.samples.len() as u64, "samples");
        for (k, sample) in self.samples.iter().enumerate() {
            let given = if k == 0 { first.clone() } else { self.load(sample)? };
            let outputs = self.run_once(&session, &given)?;
            if k == 0 {
                plan += outputs.times().prepare;
                let placement = session.placement();
                describe::warn_of_fallbacks(&placement, self.console);
                watch.warn(self.console);
                self.console.line(describe::headline(&self.opened, &digest, &device, &placement))?;
            }
            let (document, pass) = self.report(sample, k, &given, &outputs)?;
            documents.push(document);
            passed &= pass;
            running.advance();
        }
        drop(running);
        let times = json!({"device": describe::ns(open), "load": describe::ns(self.opened.load),
                           "plan": describe::ns(plan),
                           "shaders": describe::ns(watch.compiled().shaders)});
        self.print_times(open, plan, &watch, &documents)?;
        self.finish(&device, &session, &digest, documents, times)?;
        if passed { Ok(()) } else { Err(Failure::Gate) }
    }

    fn build(&self, device: &Device, first: &[Given], cache: &Cache) -> Result<(Session, Watch), Failure> {
        let mut builder = bind::planned_builder(
            device,
            &self.arguments.device.settings,
            &self.arguments.plan,
            Fallback::Allow,
        )?;
        if self.samples.len() == 1 {
            for given in first {
                builder = builder.shape(&given.name, given.tensor.dims());
            }
        }
        let (builder, watch) = cache.give(builder);
        let session = self.opened.session(builder, self.console)?;
        Ok((session, watch))
    }

    fn run_once(&self, session: &Session, given: &[Given]) -> Result<Outputs, Failure> {
        let inputs: Vec<(&str, &sardonyx::Tensor)> =
            given.iter().map(|given| (given.name.as_str(), &given.tensor)).collect();
        let options = RunOptions { deadline: self.arguments.deadline, ..RunOptions::default() };
        session.run_with(inputs, &options).map_err(|error| self.opened.failure(&error))
    }

    /// Prints, saves and checks what one run gave; `false` when a gate failed.
    fn report(
        &self,
        sample: &Sample,
        k: usize,
        given: &[Given],
        outputs: &Outputs,
    ) -> Result<(Value, bool), Failure> {
        if !sample.label.is_empty() {
            self.console.line(format!("sample  {}", format::name(&sample.label, 72)))?;
        }
        self.print_inputs(given)?;
        self.dump(given)?;
        let all: Vec<Output> =
            outputs.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
        let wanted = self.select(&all);
        let mut document = Map::new();
        if !sample.label.is_empty() {
            document.insert("label".to_owned(), json!(sample.label));
        }
        document.insert("inputs".to_owned(), given.iter().map(input_document).collect());
        let mut passed = true;
        let mut described = Vec::new();
        for (name, tensor) in &wanted {
            let statistics = Statistics::of(tensor);
            self.print_output(name, tensor, statistics)?;
            let finite = statistics.is_none_or(|statistics| statistics.is_finite());
            if self.arguments.results.finite && !finite {
                passed = false;
                self.console.line("        FAIL: not all elements are finite")?;
            }
            described.push(json!({"name": name, "dtype": tensor.dtype().name(), "dims": tensor.dims(),
                                  "stats": statistics.map(Statistics::to_json)}));
        }
        document.insert("outputs".to_owned(), Value::Array(described));
        if let Some(task) = self.arguments.task.answer(&self.task, &wanted, given, self.console)? {
            document.insert("task".to_owned(), task);
        }
        if let Some(path) = &self.arguments.results.save_outputs {
            let path =
                if self.samples.len() > 1 { path.join(format!("test_data_set_{k}/")) } else { path.clone() };
            save::save(&path, &wanted)?;
            self.console.note(format!("outputs saved to {}", path.display()));
        }
        let half = self.arguments.device.settings.precision == PrecisionArg::F16;
        let expected = self.arguments.expect.expected(sample, k, self.samples.len(), &all)?;
        if let Some(expected) = expected {
            let wanted_names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
            let compared =
                self.arguments.expect.compare(&all, &expected, &wanted_names, half, self.console)?;
            passed &= compared.iter().all(|(_, comparison)| comparison.passes());
            let compared: Vec<Value> = compared
                .iter()
                .map(|(name, comparison)| {
                    let mut fields = Map::from_iter([("name".to_owned(), json!(name))]);
                    fields.extend(comparison.to_json().as_object().cloned().unwrap_or_default());
                    Value::Object(fields)
                })
                .collect();
            document.insert("expect".to_owned(), Value::Array(compared));
        }
        let times = outputs.times();
        document.insert(
            "run_ns".to_owned(),
            json!({"prepare": describe::ns(times.prepare), "upload": describe::ns(times.upload),
                   "compute": describe::ns(times.compute), "read": describe::ns(times.read),
                   "host": describe::ns(times.host), "total": describe::ns(times.total)}),
        );
        document.insert("pass".to_owned(), json!(passed));
        Ok((Value::Object(document), passed))
    }

    /// The outputs asked for, all of them by default.
    fn select(&self, all: &[Output]) -> Vec<Output> {
        let asked = &self.arguments.results.outputs;
        let is_wanted = |output: &&Output| asked.is_empty() || asked.contains(&output.0);
        all.iter().filter(is_wanted).cloned().collect()
    }

    fn dump(&self, given: &[Given]) -> Result<(), Failure> {
        let Some(path) = &self.arguments.pre_dump else { return Ok(()) };
        let mut pictures = given.iter().filter(|given| given.recipe.is_some());
        match (pictures.next(), pictures.next()) {
            (Some(given), None) => atomic::write(path, &npy::write(&given.tensor)),
            (None, _) => Err(Failure::new(Fault::Usage, "--pre-dump: no input is a picture or a sound")),
            (Some(_), Some(_)) => Err(Failure::new(Fault::Usage, "--pre-dump: several inputs are pictures")),
        }
    }

    fn print_inputs(&self, given: &[Given]) -> Result<(), Failure> {
        const SHOWN: usize = 12;
        for (i, given) in given.iter().take(SHOWN).enumerate() {
            let label = if i == 0 { "input" } else { "" };
            let name = format::name(&given.name, 24);
            let signature = format::signature(given.tensor.dtype(), given.tensor.dims());
            let source = format::name(&given.source, 60);
            self.console.line(format!("{label:<7} {name}: {source} -> {signature}"))?;
            if let Some(recipe) = &given.recipe {
                self.console.line(format!("        {recipe}"))?;
            }
        }
        if given.len() > SHOWN {
            self.console.line(format!("        and {} more inputs", given.len() - SHOWN))?;
        }
        Ok(())
    }

    fn print_output(
        &self,
        name: &str,
        tensor: &sardonyx::Tensor,
        statistics: Option<Statistics>,
    ) -> Result<(), Failure> {
        let signature = format::signature(tensor.dtype(), tensor.dims());
        self.console.line(format!("output  {} {signature}", format::name(name, 40)))?;
        if let Some(statistics) = statistics {
            self.console.line(format!("        {}", statistics.to_text()))?;
        }
        if let Some(count) = self.arguments.results.print {
            for line in elements::to_lines(tensor, count) {
                self.console.line(format!("        {line}"))?;
            }
        }
        Ok(())
    }

    fn print_times(
        &self,
        open: Duration,
        plan: Duration,
        watch: &Watch,
        documents: &[Value],
    ) -> Result<(), Failure> {
        let [open, load, plan] =
            [open, self.opened.load, plan].map(|time| format::duration(describe::ns(time)));
        let shaders = watch.compiled().to_text().map_or_else(String::new, |text| format!(" ({text})"));
        self.console.line(format!("time    device {open} · load {load} · plan {plan}{shaders}"))?;
        let Some(first) = documents.first() else { return Ok(()) };
        let ns = |stage: &str| first["run_ns"][stage].as_u64().unwrap_or(0);
        let stages = ["upload", "compute", "read", "host"];
        let parts: Vec<String> =
            stages.iter().map(|stage| format!("{stage} {}", format::milliseconds(ns(stage)))).collect();
        let total = format::duration(ns("total").saturating_sub(ns("prepare")));
        self.console.line(format!("        first {total} = {} ms", parts.join(" + ")))
    }

    fn finish(
        &self,
        device: &Device,
        session: &Session,
        digest: &str,
        mut documents: Vec<Value>,
        times: Value,
    ) -> Result<(), Failure> {
        let mut document = Map::new();
        document.insert("engine".to_owned(), describe::engine());
        document.insert("model".to_owned(), describe::model(&self.opened, digest));
        document
            .insert("device".to_owned(), describe::device(device, self.arguments.device.settings.precision));
        document.insert("plan".to_owned(), describe::plan(&session.placement(), session.plan_digest()));
        document.insert("memory_bytes".to_owned(), describe::memory(session));
        document.insert("times_ns".to_owned(), times);
        match (documents.len(), documents.pop()) {
            (1, Some(Value::Object(only))) => document.extend(only),
            (_, last) => {
                documents.extend(last);
                document.insert("samples".to_owned(), Value::Array(documents));
            }
        }
        self.console.finish("run", document)
    }
}

fn input_document(given: &Given) -> Value {
    json!({"name": given.name, "dtype": given.tensor.dtype().name(), "dims": given.tensor.dims(),
           "source": given.source, "recipe": given.recipe, "made_up": given.made_up})
}

/// The folder of a test set, or of several, that brings inputs along.
fn has_inputs(path: &std::path::Path) -> bool {
    path.is_dir() && protobuf::test_sets(path).iter().any(|set| set.join("input_0.pb").is_file())
}
