//! `sardonyx bench MODEL`: latency, throughput, memory, and gates on them.

mod environment;
mod gate;
mod lane;
mod latency;

use std::path::PathBuf;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use crate::bind::Opened;
use crate::cli::{DeviceArgs, InputArgs, parse_duration};
use crate::describe;
use crate::failure::{Failure, Fault};
use crate::input::load::{self, Recipes};
use crate::input::{Given, request};
use crate::output::{Console, atomic, format};
use gate::Gate;
use lane::Lane;
use latency::Latency;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX model
    model: PathBuf,
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// More devices, measured in turn with the first, e.g. device=vulkan:0,device=cpu
    #[arg(long, value_name = "device=NAME,...", value_delimiter = ',', value_parser = parse_include, help_heading = "Device")]
    include: Vec<String>,
    /// Measured time on each device
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    duration: Duration,
    /// Least runs on each device, however long they take
    #[arg(long, value_name = "N", default_value_t = 50)]
    min_runs: usize,
    /// Runs before the measurement: auto (until the drift ends), a number, or a time
    #[arg(long, value_name = "auto|N|TIME", value_parser = parse_warmup, default_value = "auto")]
    warmup: Warmup,
    /// A gate on each device, e.g. "p95_ms < 120" (repeat); exit 1 when one fails
    ///
    /// Names: min_ms p50_ms p90_ms p95_ms p99_ms max_ms mean_ms cv per_s first_ms load_ms plan_ms rss_mib device_mib
    /// gpu_share. Comparisons: < <= > >=.
    #[arg(long = "assert", value_name = "EXPR", value_parser = Gate::parse)]
    gates: Vec<Gate>,
    /// Write every measured run to FILE.csv
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
}

/// `--warmup`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Warmup {
    /// Until the drift ends.
    Auto,
    /// So many runs.
    Runs(usize),
    /// So long.
    Time(Duration),
}

fn parse_warmup(text: &str) -> Result<Warmup, String> {
    match text {
        "auto" => Ok(Warmup::Auto),
        text => match text.parse() {
            Ok(runs) => Ok(Warmup::Runs(runs)),
            Err(_) => parse_duration(text).map(Warmup::Time),
        },
    }
}

fn parse_include(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("device=").filter(|name| !name.is_empty());
    name.map(str::to_owned).ok_or_else(|| "write device=NAME".to_owned())
}

/// Measures the model on each device.
///
/// # Errors
/// When anything is wrong with model, inputs or devices; [`Failure::Gate`] when a gate failed.
pub fn run(arguments: &Args, console: &Console) -> Result<(), Failure> {
    let opened = Opened::open(&arguments.model)?;
    measure(arguments, &opened, console).map_err(|failure| failure.in_model(opened.name()))
}

fn measure(arguments: &Args, opened: &Opened, console: &Console) -> Result<(), Failure> {
    let given = inputs(arguments, opened, console)?;
    let names = std::iter::once(&arguments.device.device).chain(&arguments.include);
    let mut lanes = names
        .map(|name| Lane::open(name, opened, &arguments.device.settings, &given, console))
        .collect::<Result<Vec<Lane<'_>>, Failure>>()?;
    for lane in &mut lanes {
        lane.warm_up(arguments.warmup, console)?;
    }
    run_in_turns(&mut lanes, arguments, console)?;

    let digest = opened.digest();
    let peak = environment::peak_resident_bytes();
    let mut documents = Vec::new();
    let mut passed = true;
    for lane in &lanes {
        let latency =
            Latency::of(&lane.samples).ok_or_else(|| Failure::new(Fault::Defect, "nothing was measured"))?;
        console.line(describe::headline(opened, &digest, &lane.device, &lane.session.placement()))?;
        lane.print(&latency, peak, console)?;
        let gates = lane.gates(&arguments.gates, &latency, peak, console)?;
        passed &= gates.iter().all(|gate| gate["pass"] == json!(true));
        documents.push(lane.document(&latency, peak, gates));
    }
    if let Some(path) = &arguments.samples {
        write_samples(path, &lanes)?;
    }
    console.finish("bench", document(arguments, opened, &digest, &given, documents))?;
    if passed { Ok(()) } else { Err(Failure::Gate) }
}

fn inputs(arguments: &Args, opened: &Opened, console: &Console) -> Result<Vec<Given>, Failure> {
    let signatures = opened.signatures()?;
    let samples = request::samples(&arguments.inputs.inputs, &signatures)?;
    let [sample] = &samples[..] else {
        let message = format!("bench measures one set of inputs, and {} are given", samples.len());
        return Err(Failure::new(Fault::Usage, message));
    };
    let recipes = Recipes::new(&arguments.inputs.pre, &signatures)?;
    let sizes = opened.sizes(&signatures, &arguments.inputs.sizes)?;
    load::load(sample, &signatures, &recipes, sizes, console)
}

/// Gives each device a turn, A B A B, until each has the time and runs asked for, so that a drift of the machine
/// meets all of them alike.
fn run_in_turns(lanes: &mut [Lane<'_>], arguments: &Args, console: &Console) -> Result<(), Failure> {
    const TURN: Duration = Duration::from_millis(200);
    let whole = arguments.duration.as_millis() as u64 * lanes.len() as u64;
    let bar = if console.shows_progress() { ProgressBar::new(whole) } else { ProgressBar::hidden() };
    let is_done =
        |lane: &Lane<'_>| lane.measured >= arguments.duration && lane.samples.len() >= arguments.min_runs;
    let result = loop {
        if lanes.iter().all(is_done) {
            break Ok(());
        }
        let mut turns = lanes.iter_mut().filter(|lane| !is_done(lane));
        let turned = turns.try_for_each(|lane| lane.turn(TURN.min(arguments.duration)));
        if turned.is_err() {
            break turned;
        }
        bar.set_position(lanes.iter().map(|lane| lane.measured.as_millis() as u64).sum());
    };
    bar.finish_and_clear();
    result
}

fn write_samples(path: &std::path::Path, lanes: &[Lane<'_>]) -> Result<(), Failure> {
    let mut text = String::from("device,run,total_ns,upload_ns,compute_ns,read_ns,host_ns\n");
    for lane in lanes {
        for (run, sample) in lane.samples.iter().enumerate() {
            let stages = [sample.total, sample.upload, sample.compute, sample.read, sample.host];
            let stages: Vec<String> = stages.iter().map(u64::to_string).collect();
            text.push_str(&format!("{},{run},{}\n", lane.device.info().id, stages.join(",")));
        }
    }
    atomic::write(path, text.as_bytes())
}

/// The document: the first device's results at the top, those of `--include` beside them.
fn document(
    arguments: &Args,
    opened: &Opened,
    digest: &str,
    given: &[Given],
    documents: Vec<Value>,
) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("engine".to_owned(), describe::engine());
    document.insert("model".to_owned(), describe::model(opened, digest));
    document.insert("environment".to_owned(), environment::describe());
    let inputs: Vec<Value> = given
        .iter()
        .map(|given| {
            json!({"name": given.name, "dtype": given.tensor.dtype().name(), "dims": given.tensor.dims(),
                   "source": given.source, "recipe": given.recipe})
        })
        .collect();
    document.insert(
        "settings".to_owned(),
        json!({"duration_ns": describe::ns(arguments.duration), "min_runs": arguments.min_runs,
               "warmup": format!("{:?}", arguments.warmup).to_lowercase(), "concurrency": 1,
               "threads": arguments.device.settings.threads,
               "precision": arguments.device.settings.precision.name(), "inputs": inputs}),
    );
    let mut documents = documents.into_iter();
    if let Some(Value::Object(first)) = documents.next() {
        document.extend(first);
    }
    let others: Vec<Value> = documents.collect();
    if !others.is_empty() {
        document.insert("included".to_owned(), Value::Array(others));
    }
    document
}

/// Milliseconds with their unit, for lines.
fn ms(ns: u64) -> String {
    format!("{} ms", format::milliseconds(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_and_included_devices() {
        assert_eq!(parse_warmup("auto"), Ok(Warmup::Auto));
        assert_eq!(parse_warmup("20"), Ok(Warmup::Runs(20)));
        assert_eq!(parse_warmup("2s"), Ok(Warmup::Time(Duration::from_secs(2))));
        assert!(parse_warmup("soon").is_err());
        assert_eq!(parse_include("device=vulkan:0"), Ok("vulkan:0".into()));
        assert!(parse_include("device=").is_err() && parse_include("cpu").is_err());
    }
}
