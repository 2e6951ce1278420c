//! `sardonyx profile MODEL`: where the time goes.

mod pictures;
mod report;
mod rows;
mod trace;

use std::path::{Path, PathBuf};

use sardonyx::{Device, Fallback, Profile, Roofs, Session, Tensor};
use serde_json::{Map, json};

use crate::bind::{self, Opened};
use crate::cache::Cache;
use crate::cli::{DeviceArgs, InputArgs, PlanArgs};
use crate::cmd::devices;
use crate::describe;
use crate::failure::{Failure, Fault};
use crate::input::{Given, load, request};
use crate::output::{Console, atomic};
use report::Report;
use rows::{By, Sort};

/// Arguments of `profile`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX model
    model: PathBuf,
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    plan: PlanArgs,
    /// Profiled runs; a plain one goes before each
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// What steps are put together by
    #[arg(long, value_name = "WHAT", value_enum, default_value = "node")]
    by: By,
    /// What rows are ordered by
    #[arg(long, value_name = "WHAT", value_enum, default_value = "time")]
    sort: Sort,
    /// Most rows printed; documents and files have all
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// What the device can reach: measured now, not at all, or a file of `devices --save`
    #[arg(long, value_name = "measure|off|FILE", default_value = "measure")]
    roofs: String,
    #[command(flatten)]
    files: FileArgs,
}

/// Files that a profile is written to.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Files")]
struct FileArgs {
    /// Write trace events for Perfetto or chrome://tracing to FILE.json
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write a flame graph to FILE.svg
    #[arg(long, value_name = "FILE")]
    flame: Option<PathBuf>,
    /// Write folded stacks, in nanoseconds, to FILE.txt
    #[arg(long, value_name = "FILE")]
    folded: Option<PathBuf>,
    /// Write a roofline to FILE.svg
    #[arg(long, value_name = "FILE")]
    roofline: Option<PathBuf>,
    /// Write the rows to FILE.csv
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write a profile in the form of ONNX Runtime's to FILE.json
    #[arg(long, value_name = "FILE")]
    ort_json: Option<PathBuf>,
}

/// Profiles the model.
///
/// # Errors
/// When anything is wrong with model, inputs or device; fallbacks are denied unless allowed.
pub fn run(arguments: &Args, console: &Console, cache: &Cache) -> Result<(), Failure> {
    let opened = Opened::open(&arguments.model, console)?;
    perform(arguments, &opened, console, cache).map_err(|failure| failure.in_model(opened.name()))
}

fn perform(arguments: &Args, opened: &Opened, console: &Console, cache: &Cache) -> Result<(), Failure> {
    let given = inputs(arguments, opened, console)?;
    let device = bind::device(&arguments.device)?;
    let roofs = roofs(arguments, &device, console)?;
    if arguments.files.roofline.is_some() && roofs.is_none() {
        return Err(Failure::new(Fault::Usage, "--roofline needs roofs: --roofs measure"));
    }
    let mut builder =
        bind::planned_builder(&device, &arguments.device.settings, &arguments.plan, Fallback::Deny)?;
    for given in &given {
        builder = builder.shape(&given.name, given.tensor.dims());
    }
    let (builder, watch) = cache.give(builder);
    let session = opened.session(builder, console)?;
    let named: Vec<(&str, &Tensor)> =
        given.iter().map(|given| (given.name.as_str(), &given.tensor)).collect();
    let profiling = console.progress(None, "profiling");
    let profile = session.profile(named, arguments.runs as usize).map_err(|error| opened.failure(&error))?;
    drop(profiling);
    let placement = session.placement();
    describe::warn_of_fallbacks(&placement, console);
    watch.warn(console);
    let digest = opened.digest();
    console.line(describe::headline(opened, &digest, &device, &placement))?;
    let report =
        Report::new(&profile, rows::rows(&profile, arguments.by, arguments.sort), roofs, arguments.by);
    report.print(&placement, arguments.top, console)?;
    write_files(arguments, opened, &device, &profile, &report)?;
    let mut document = Map::new();
    document.insert("engine".to_owned(), describe::engine());
    document.insert("model".to_owned(), describe::model(opened, &digest));
    document.insert("device".to_owned(), describe::device(&device, arguments.device.settings.precision));
    document.insert("plan".to_owned(), describe::plan(&placement, session.plan_digest()));
    document.insert("settings".to_owned(), settings(arguments, &session, &given));
    document.extend(report.document());
    console.finish("profile", document)
}

fn settings(arguments: &Args, session: &Session, given: &[Given]) -> serde_json::Value {
    let inputs: Vec<_> = given
        .iter()
        .map(|given| {
            json!({"name": given.name, "dtype": given.tensor.dtype().name(), "dims": given.tensor.dims(),
                   "source": given.source})
        })
        .collect();
    json!({"runs": arguments.runs, "by": format!("{:?}", arguments.by).to_lowercase(),
           "threads": arguments.device.settings.threads, "device_bytes": session.memory().device(),
           "inputs": inputs})
}

fn inputs(arguments: &Args, opened: &Opened, console: &Console) -> Result<Vec<Given>, Failure> {
    let signatures = opened.signatures()?;
    let samples = request::samples(&arguments.inputs.inputs, &signatures)?;
    let [sample] = &samples[..] else {
        let message = format!("profile takes one set of inputs, and {} are given", samples.len());
        return Err(Failure::new(Fault::Usage, message));
    };
    let recipes = load::Recipes::new(&arguments.inputs.pre, &signatures)?;
    let sizes = opened.sizes(&signatures, &arguments.inputs.sizes)?;
    load::load(sample, &signatures, &recipes, sizes, console)
}

fn roofs(arguments: &Args, device: &Device, console: &Console) -> Result<Option<Roofs>, Failure> {
    match arguments.roofs.as_str() {
        "off" => Ok(None),
        "measure" => {
            let _progress = console.progress(None, "measuring what the device can reach");
            let threads = arguments.device.settings.threads.map_or(0, usize::from);
            device.measure(threads).map(Some).map_err(|error| bind::failure(&error, Path::new("")))
        }
        file => devices::saved_roofs(Path::new(file), &device.info().id).map(Some),
    }
}

fn write_files(
    arguments: &Args,
    opened: &Opened,
    device: &Device,
    profile: &Profile,
    report: &Report,
) -> Result<(), Failure> {
    let files = &arguments.files;
    let title = format!("{} on {}", opened.name(), device.info().id);
    let device_name = format!("{} {}", device.info().id, device.info().name);
    if let Some(path) = &files.trace {
        let document = trace::chrome(profile, &device_name, &opened.name());
        atomic::write(path, document.to_string().as_bytes())?;
    }
    if let Some(path) = &files.ort_json {
        atomic::write(path, trace::ort(profile, &device_name).to_string().as_bytes())?;
    }
    let folded = trace::folded(profile);
    if let Some(path) = &files.flame {
        atomic::write(path, pictures::flame(&title, &folded, &report.rows.stages).as_bytes())?;
    }
    if let Some(path) = &files.folded {
        let stages = report.rows.stages.iter().map(|row| (vec![row.name.clone()], row.ns));
        let lines = folded.iter().cloned().chain(stages);
        let text: String =
            lines.map(|(frames, ns)| format!("{} {}\n", frames.join(";"), ns.round() as u64)).collect();
        atomic::write(path, text.as_bytes())?;
    }
    if let (Some(path), Some(roofs)) = (&files.roofline, &report.roofs) {
        atomic::write(path, pictures::roofline(&title, &report.rows.steps, roofs).as_bytes())?;
    }
    if let Some(path) = &files.csv {
        atomic::write(path, report.csv().as_bytes())?;
    }
    Ok(())
}
