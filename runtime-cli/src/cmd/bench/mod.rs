//! `sardonyx bench MODEL`: latency, throughput, memory, and gates on them.

mod baseline;
mod feed;
mod gate;
mod lane;
mod latency;
mod measured;
mod options;
mod page;
mod process;
mod results;
mod verdict;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bind::Opened;
use crate::cache::Cache;
use crate::cli::{DeviceArgs, PlanArgs, Settings};
use crate::environment;
use crate::failure::Failure;
use crate::output::{Console, atomic};
use crate::yardstick::Yardstick;
use feed::Feed;
pub use gate::NAMES as GATES;
use lane::{Lane, Pace, Subject};
use measured::Measured;
pub use options::Args;
use options::{Include, Warmup};
use results::Results;

/// Measures the model on each device, for each size of a sweep.
///
/// # Errors
/// When anything is wrong with model, inputs or devices; [`Failure::Gate`] when a gate failed.
pub fn run(arguments: &Args, console: &Console, cache: &Cache) -> Result<(), Failure> {
    let opened = Opened::open(&arguments.model, console)?;
    let in_model = |failure: Failure| failure.in_model(opened.name());
    if let Some(file) = &arguments.worker {
        let cache = if arguments.worker_cache == Some(false) { &Cache::off() } else { cache };
        return worker(arguments, &opened, file, cache).map_err(in_model);
    }
    perform(arguments, &opened, console, cache).map_err(in_model)
}

/// Measures in this process and writes everything to a file for the one that asked.
fn worker(arguments: &Args, opened: &Opened, file: &Path, cache: &Cache) -> Result<(), Failure> {
    let console = Console::silent();
    let feed = Feed::new(arguments, opened, &arguments.worker_dims()?, &console)?;
    let all = measure(arguments, opened, &feed, &console, cache)?;
    let all: Vec<Value> = all.iter().map(Measured::to_json).collect();
    atomic::write(file, Value::Array(all).to_string().as_bytes())
}

fn perform(arguments: &Args, opened: &Opened, console: &Console, cache: &Cache) -> Result<(), Failure> {
    let sizes = arguments.sweep(opened)?;
    let mut points = Vec::new();
    for dims in &sizes {
        let feed = Feed::new(arguments, opened, dims, console)?;
        let measured = match arguments.repeats() {
            repeats if arguments.cold => repeat_cold(arguments, dims, repeats, console, cache)?,
            1 => measure(arguments, opened, &feed, console, cache)?,
            repeats => repeat(arguments, dims, repeats, console)?,
        };
        points.push((dims.clone(), feed.given, measured));
    }
    Results::new(arguments, opened, points)?.finish(console)
}

/// Measures in so many processes, one after the other.
fn repeat(
    arguments: &Args,
    dims: &[(String, usize)],
    repeats: usize,
    console: &Console,
) -> Result<Vec<Measured>, Failure> {
    let processes = console.progress(repeats as u64, "processes");
    let mut all: Vec<Measured> = Vec::new();
    for index in 0..repeats {
        let one = process::measure(&for_sizes(dims), &process::file(&index.to_string()));
        join(&mut all, one?, index);
        processes.advance();
    }
    drop(processes);
    for measured in &all {
        arguments.warn_of_few(measured, console);
    }
    Ok(all)
}

/// Measures the starts of so many processes without a cache and, if there is one, in turn of as many that find their kernels
/// there; one more before them puts the kernels there.
fn repeat_cold(
    arguments: &Args,
    dims: &[(String, usize)],
    repeats: usize,
    console: &Console,
    cache: &Cache,
) -> Result<Vec<Measured>, Failure> {
    let start = |cached: bool, name: String| {
        let mut more = for_sizes(dims);
        more.extend(["--worker-cache".to_owned(), cached.to_string()]);
        process::measure(&more, &process::file(&name))
    };
    if cache.folder().is_some() {
        start(true, "before".to_owned())?;
    }
    let processes = console.progress(repeats as u64, "starts");
    let mut all: Vec<Measured> = Vec::new();
    for index in 0..repeats {
        join(&mut all, start(false, index.to_string())?, index);
        if cache.folder().is_some() {
            let cached = start(true, format!("{index}-cached"))?;
            all.iter_mut().zip(cached).for_each(|(known, cached)| known.join_cached(cached));
        }
        processes.advance();
    }
    drop(processes);
    for measured in &all {
        arguments.warn_of_few(measured, console);
    }
    Ok(all)
}

/// The arguments of a process that measures with these sizes.
fn for_sizes(dims: &[(String, usize)]) -> Vec<String> {
    dims.iter().flat_map(|(name, size)| ["--worker-dim".to_owned(), format!("{name}={size}")]).collect()
}

/// Adds what a process measured on each device.
fn join(all: &mut Vec<Measured>, one: Vec<Measured>, process: usize) {
    for (at, measured) in one.into_iter().enumerate() {
        match all.get_mut(at) {
            Some(known) => known.join(measured, process as u64),
            None => all.push(measured),
        }
    }
}

/// Measures each device in this process.
fn measure(
    arguments: &Args,
    opened: &Opened,
    feed: &Feed<'_>,
    console: &Console,
    cache: &Cache,
) -> Result<Vec<Measured>, Failure> {
    let DeviceArgs { device, settings } = &arguments.device;
    let first = Subject { device, opened, settings, plan: &arguments.plan, include: None };
    let others = arguments.include.iter().map(|include| Other::open(include, settings, console));
    let others: Vec<(&Include, Other)> = others.collect::<Result<_, _>>()?;
    let subjects = std::iter::once(first).chain(others.iter().map(|(include, other)| match other {
        Other::Device(device) => Subject { device, include: Some(include), ..first },
        Other::Model(opened) => Subject { opened, include: Some(include), ..first },
        Other::Plan(plan) => Subject { plan, include: Some(include), ..first },
        Other::Settings(settings) => Subject { settings, include: Some(include), ..first },
    }));
    let mut lanes = subjects
        .map(|subject| Lane::open(subject, feed, console, cache))
        .collect::<Result<Vec<Lane<'_>>, Failure>>()?;
    if arguments.cold {
        // The first run was the measurement.
        return Ok(lanes.into_iter().map(Lane::finish_cold).collect());
    }
    for lane in &mut lanes {
        lane.warm_up(arguments.warmup, console)?;
    }
    let before = environment::peak_resident_bytes();
    let mut yardstick = Yardstick::new(settings.threads.map_or(0, usize::from));
    run_in_turns(&mut lanes, arguments, &mut yardstick, console)?;
    // What the yardstick holds is not the engine's.
    let peak = environment::peak_resident_bytes().map(|peak| peak.saturating_sub(yardstick.bytes()));
    Ok(lanes.into_iter().map(|lane| lane.finish(peak.max(before))).collect())
}

/// What takes the place of a part of the first subject.
enum Other {
    Device(String),
    Model(Opened),
    Plan(PlanArgs),
    Settings(Box<Settings>),
}

impl Other {
    fn open<'a>(
        include: &'a Include,
        settings: &Settings,
        console: &Console,
    ) -> Result<(&'a Include, Other), Failure> {
        let other = match include {
            Include::Device(name) => Other::Device(name.clone()),
            Include::Model(path) => Other::Model(Opened::open(path, console)?),
            Include::Plan(path) => Other::Plan(PlanArgs { plan: Some(path.clone()) }),
            Include::Without(pass) => {
                let mut settings = settings.clone();
                settings.disable_pass.push(pass.clone());
                Other::Settings(Box::new(settings))
            }
        };
        Ok((include, other))
    }
}

/// Gives each subject a turn, A B B A, until each has the time and runs asked for, so that a drift of the machine
/// meets all of them alike.
fn run_in_turns(
    lanes: &mut [Lane<'_>],
    arguments: &Args,
    yardstick: &mut Yardstick,
    console: &Console,
) -> Result<(), Failure> {
    const TURN: Duration = Duration::from_millis(200);
    let pace = Pace {
        callers: arguments.concurrency.into(),
        interval: arguments.rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
    };
    let measured = console.progress(100 * lanes.len() as u64, "% measured");
    let percent = |lane: &Lane<'_>| {
        let time = lane.measured.as_secs_f64() / arguments.duration.as_secs_f64();
        let runs = lane.samples.len() as f64 / arguments.min_runs as f64;
        // Where no time or no runs are asked for, a share of them is no number, and `min` takes the other one.
        (time.min(runs).min(1.0) * 100.0) as u64
    };
    let is_done =
        |lane: &Lane<'_>| lane.measured >= arguments.duration && lane.samples.len() >= arguments.min_runs;
    let origin = Instant::now();
    let mut forth = true;
    loop {
        if lanes.iter().all(is_done) {
            return Ok(());
        }
        let turn = if pace.interval.is_some() { arguments.duration } else { TURN.min(arguments.duration) };
        let mut turns: Vec<&mut Lane<'_>> = lanes.iter_mut().filter(|lane| !is_done(lane)).collect();
        if !forth {
            turns.reverse();
        }
        forth = !forth;
        turns.into_iter().try_for_each(|lane| lane.turn(turn, pace, origin, yardstick))?;
        measured.set(lanes.iter().map(percent).sum());
    }
}
