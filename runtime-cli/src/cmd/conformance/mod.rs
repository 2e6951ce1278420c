//! `sardonyx conformance`: ONNX backend test cases, each in a worker process that may crash or hang without harm.

mod case;
mod pool;
mod report;
mod suite;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use crate::bind;
use crate::cli::{DeviceArgs, parse_duration};
use crate::failure::{Failure, Fault};
use crate::output::Console;
use case::Status;
use report::Report;
use suite::Case;

/// Arguments of `conformance`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder: every folder beneath it with a model.onnx and test_data_set_K is a case
    #[arg(long, value_name = "DIR", required_unless_present = "worker")]
    suite: Option<PathBuf>,
    /// Only cases whose name, folder or operator fits, e.g. "conv*" (repeat)
    #[arg(long, value_name = "GLOB")]
    filter: Vec<String>,
    /// Cases at the same time, each in a process of its own [default: half the threads of the machine]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Most time for one case
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "60s")]
    timeout: Duration,
    /// Write the results as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a table of the operators as Markdown
    #[arg(long, value_name = "FILE")]
    md: Option<PathBuf>,
    /// Earlier results (the JSON of this command, or an object from name to pass, fail or skip): exit 1 when a case
    /// is worse than there, and only then
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Serve cases from standard input
    #[arg(long, hide = true)]
    worker: bool,
}

/// Runs the cases.
///
/// # Errors
/// When the suite cannot be read; [`Failure::Gate`] when a case failed, or is worse than expected.
pub fn run(arguments: &Args, console: &Console) -> Result<(), Failure> {
    if arguments.worker {
        return worker::serve(&arguments.device);
    }
    // Clap demands the suite where there is no worker.
    let folder = arguments.suite.as_deref().unwrap_or_else(|| std::path::Path::new("."));
    let expected = arguments.expect.as_deref().map(report::read_expected).transpose()?;
    let mut cases = suite::find(folder)?;
    let count = cases.len();
    cases.retain(|case| case.fits(&arguments.filter));
    if cases.is_empty() {
        let message = match count {
            0 => format!("{}: no cases (folders with model.onnx and test_data_set_0)", folder.display()),
            count => format!("{}: none of {count} cases fits the filter", folder.display()),
        };
        return Err(Failure::new(Fault::Usage, message));
    }
    // Opened here only to fail early, and to say what the workers will run on.
    let device = bind::device(&arguments.device)?;
    let info = device.info().clone();
    drop(device);
    let report = serve(&cases, arguments, console)?;
    report.summary(console)?;
    let changes = expected.map(|expected| report.against(&expected));
    for line in changes.iter().flat_map(|changes| changes.lines()) {
        console.line(line)?;
    }
    if let Some(path) = &arguments.junit {
        report.write_junit(path)?;
    }
    if let Some(path) = &arguments.md {
        report.write_markdown(path, &info)?;
    }
    console.finish("conformance", report.document(folder, &info, arguments, changes.as_ref()))?;
    let passed = match &changes {
        Some(changes) => changes.worse.is_empty(),
        None => report.count(Status::Fail) == 0,
    };
    if passed { Ok(()) } else { Err(Failure::Gate) }
}

/// Runs the cases in workers and prints each line as soon as all before it are there.
fn serve<'a>(cases: &'a [Case], arguments: &Args, console: &Console) -> Result<Report<'a>, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = arguments.jobs.map_or(threads.div_ceil(2), usize::from).min(cases.len());
    let served = console.progress(cases.len() as u64, "cases");
    let mut report = Report::new(cases);
    let mut printed = 0;
    pool::serve(cases, jobs, arguments.timeout, &arguments.device, |index, outcome| {
        report.set(index, outcome);
        served.advance();
        while let Some(line) = report.line(printed) {
            printed += 1;
            console.line(&line)?;
        }
        Ok(())
    })?;
    Ok(report)
}
