//! `sardonyx bench-kernel`: verifies and measures every kernel that can do a problem, one by one.

mod measure;
mod problem;

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::bind;
use crate::cli::{PrecisionArg, parse_duration};
use crate::failure::{Failure, Fault};
use crate::glob;
use crate::kernels;
use crate::output::table::{Align, Table};
use crate::output::{Console, format};
use measure::{Measured, Setting};
use problem::Problem;

/// Arguments of `bench-kernel`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only kernels whose name fits, e.g. 'matmul_*'
    #[arg(value_name = "PATTERN", default_value = "*")]
    kernels: String,
    /// A problem, e.g. matmul:1024x1024x1024 (repeat) [default: one of each kind]
    #[arg(short, long = "problem", value_name = "KIND:SIZES", value_parser = Problem::parse, long_help = long_help())]
    problems: Vec<Problem>,
    /// auto, gpu, an index, vulkan:0, a part of a name, or cpu
    #[arg(long, value_name = "DEVICE", env = "SARDONYX_DEVICE", default_value = "auto")]
    device: String,
    /// How floats are stored on a GPU
    #[arg(long, value_name = "WHICH", value_enum, default_value = "model")]
    precision: PrecisionArg,
    /// Take the text of kernels NAME from DIR/NAME.wgsl instead, to tune one
    #[arg(long = "kernels", value_name = "DIR")]
    pub changed: Option<std::path::PathBuf>,
    /// Measured time of each kernel
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1s")]
    duration: Duration,
}

fn long_help() -> String {
    format!("A problem (repeat): {}", problem::KINDS)
}

/// Verifies and measures.
///
/// # Errors
/// When the device refuses, nothing fits the pattern; [`Failure::Gate`] when a kernel gives wrong numbers.
pub fn run(arguments: &Args, console: &Console) -> Result<(), Failure> {
    let device = bind::open_device(&arguments.device)?;
    let device = match &arguments.changed {
        Some(folder) => kernels::change(&device, folder)?,
        None => device,
    };
    let defaults;
    let problems = match arguments.problems.as_slice() {
        [] => {
            let parse = |text: &&str| Problem::parse(text).map_err(|text| Failure::new(Fault::Defect, text));
            defaults = problem::DEFAULT.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
            defaults.as_slice()
        }
        given => given,
    };
    let setting =
        Setting { device: &device, precision: arguments.precision.into(), duration: arguments.duration };
    let fits = |name: &str| glob::matches(&arguments.kernels, name);
    let mut all = Vec::new();
    let measured = console.progress(problems.len() as u64, "problems");
    for problem in problems {
        console.detail(format!("measuring {}", problem.name));
        all.extend(measure::measure(problem, &setting, &fits)?);
        measured.advance();
    }
    drop(measured);
    if all.is_empty() {
        let message = format!("no kernel fits {:?} for these problems", arguments.kernels);
        return Err(Failure::new(Fault::Usage, message));
    }
    let info = device.info();
    console.line(format!(
        "{} {:?}, times with recording and waiting",
        info.id,
        format::name(&info.name, 50)
    ))?;
    console.line(table(&all))?;
    let rows: Vec<Value> = all.iter().map(Measured::to_json).collect();
    let document = [
        ("device", json!({"id": info.id, "name": info.name, "driver": info.driver})),
        ("precision", json!(arguments.precision.name())),
        ("kernels", Value::Array(rows)),
    ];
    console.finish("bench-kernel", Map::from_iter(document.map(|(key, value)| (key.to_owned(), value))))?;
    if all.iter().all(|measured| measured.verified) { Ok(()) } else { Err(Failure::Gate) }
}

fn table(all: &[Measured]) -> String {
    let mut table = Table::new(&[
        ("problem", Align::Left),
        ("kernel", Align::Left),
        ("p50 ms", Align::Right),
        ("min ms", Align::Right),
        ("GFLOP/s", Align::Right),
        ("GB/s", Align::Right),
        ("error", Align::Right),
        ("", Align::Left),
    ]);
    for measured in all {
        table.row([
            measured.problem.clone(),
            measured.kernel.clone(),
            format::milliseconds(measured.median_ns),
            format::milliseconds(measured.min_ns),
            format::real(measured.per_ns(measured.cost.flops)),
            format::real(measured.per_ns(measured.cost.bytes)),
            format!("{:.1e}", measured.error),
            if measured.verified { "" } else { "WRONG" }.to_owned(),
        ]);
    }
    table.render()
}
