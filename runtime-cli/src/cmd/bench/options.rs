//! The arguments of `bench`.

use std::path::PathBuf;
use std::time::Duration;

use sardonyx::Dim;

use super::gate::Gate;
use super::measured::Measured;
use super::verdict::Regress;
use crate::bind::Opened;
use crate::cli::{DeviceArgs, InputArgs, PlanArgs, is_pass, parse_dim, parse_duration};
use crate::failure::{Failure, Fault};
use crate::output::Console;
use crate::task::answer::TaskArgs;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX model
    pub(super) model: PathBuf,
    #[command(flatten)]
    pub(super) inputs: InputArgs,
    /// Measure with each of these sizes of the first dimension that the inputs leave open, e.g. 1,4,8
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        conflicts_with = "sweep",
        help_heading = "Inputs"
    )]
    pub(super) batch: Vec<usize>,
    /// Measure with each size of a dimension: dim:NAME=128..512 (doubling) or dim:NAME=128,192
    #[arg(long, value_name = "dim:NAME=SIZES", value_parser = parse_sweep, help_heading = "Inputs")]
    sweep: Option<(String, Sizes)>,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Measure more in turns with the first, A B B A, and compare: device=NAME, model=FILE, plan=FILE, without=PASS
    ///
    /// Each is the first but for that one thing, e.g. device=vulkan:0,device=cpu; passes are those of --disable-pass. What disturbs the machine meets all of them
    /// alike, so that smaller differences show than between two measurements one after the other.
    #[arg(long, value_name = "KEY=VALUE,...", value_delimiter = ',', value_parser = Include::parse, help_heading = "Device", group = "compared")]
    pub(super) include: Vec<Include>,
    #[command(flatten)]
    pub(super) files: FileArgs,
    /// Measured time on each device, in each process
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    pub(super) duration: Duration,
    /// Least runs on each device, however long they take
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(super) min_runs: usize,
    /// Runs before the measurement: auto (until the drift ends), a number, or a time
    #[arg(long, value_name = "auto|N|TIME", value_parser = parse_warmup, default_value = "auto")]
    pub(super) warmup: Warmup,
    /// Measure in N fresh processes, one after the other [default: 1, with --cold 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: Option<u16>,
    /// Begin runs at a fixed rate, like a camera; a late one counts from when it was due
    #[arg(long, value_name = "HZ", value_parser = parse_rate, conflicts_with = "concurrency")]
    pub(super) rate: Option<f64>,
    /// Callers that share the session
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) concurrency: u16,
    /// Measure the first run of fresh processes, without warm-up: without compiled kernels, and in turn with them
    #[arg(long, conflicts_with_all = ["rate", "concurrency", "warmup"])]
    pub(super) cold: bool,
    /// Measure also what is around the run: reading, decoding and preparing the inputs, and the --task
    #[arg(long)]
    pub(super) end_to_end: bool,
    #[command(flatten)]
    pub(super) task: TaskArgs,
    /// Compare with a document that `bench --out` wrote
    #[arg(long, value_name = "FILE", group = "compared")]
    pub(super) baseline: Option<PathBuf>,
    /// A gate on the change, e.g. p95=5% (repeat); exit 1 beyond it, 8 when noise hides it
    ///
    /// The change against the baseline; without one, that of each included measurement against the first.
    #[arg(long, value_name = "PERCENTILE=PART", value_parser = Regress::parse, requires = "compared")]
    pub(super) regress: Vec<Regress>,
    /// A gate on each device, e.g. "p95_ms < 120" (repeat); exit 1 when one fails
    ///
    /// Names: min_ms p50_ms p90_ms p95_ms p99_ms max_ms mean_ms cv per_s first_ms load_ms plan_ms shaders_ms rss_mib
    /// device_mib gpu_share spread errors_per_1k; with --end-to-end pre_ms run_ms post_ms. Comparisons: < <= > >=.
    #[arg(long = "assert", value_name = "EXPR", value_parser = Gate::parse)]
    pub(super) gates: Vec<Gate>,
    /// Print the results as Markdown or CSV, for a ticket
    #[arg(long, value_enum, value_name = "FORM")]
    pub(super) format: Option<Form>,
    /// Write what was measured to FILE for the process that started this one
    #[arg(long, hide = true, value_name = "FILE")]
    pub(super) worker: Option<PathBuf>,
    /// Whether the process that started this one wants it to use the cache
    #[arg(long, hide = true, value_name = "BOOL", requires = "worker")]
    pub(super) worker_cache: Option<bool>,
    /// A size that the process that started this one sweeps over
    #[arg(long, hide = true, value_name = "NAME=N", value_parser = parse_dim, requires = "worker")]
    worker_dim: Vec<(String, usize)>,
}

/// Files that a measurement is written to.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Files")]
pub(super) struct FileArgs {
    /// Write every measured run to FILE.csv
    #[arg(long, value_name = "FILE")]
    pub(super) samples: Option<PathBuf>,
    /// Write a report to FILE.html: one page, no network, no script
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Write the gates as test cases to FILE.xml
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
}

/// What `--include` measures instead of the first.
#[derive(Debug, Clone, PartialEq)]
pub enum Include {
    /// Another device.
    Device(String),
    /// Another model, which takes the same inputs.
    Model(PathBuf),
    /// Another saved plan.
    Plan(PathBuf),
    /// The plan without a pass.
    Without(String),
}

impl Include {
    fn parse(text: &str) -> Result<Include, String> {
        match text.split_once('=') {
            Some((_, "")) | None => {
                Err("write device=NAME, model=FILE, plan=FILE or without=PASS".to_owned())
            }
            Some(("device", name)) => Ok(Include::Device(name.to_owned())),
            Some(("model", file)) => Ok(Include::Model(file.into())),
            Some(("plan", file)) => Ok(Include::Plan(file.into())),
            Some(("without", pass)) if is_pass(pass) => Ok(Include::Without(pass.to_owned())),
            Some(("without", pass)) => Err(format!("there is no pass {pass:?}")),
            Some((key, _)) => Err(format!("{key:?} is not device, model, plan or without")),
        }
    }

    /// As it is written.
    pub(super) fn to_text(&self) -> String {
        match self {
            Include::Device(name) => format!("device={name}"),
            Include::Model(file) => format!("model={}", file.display()),
            Include::Plan(file) => format!("plan={}", file.display()),
            Include::Without(pass) => format!("without={pass}"),
        }
    }
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

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// A Markdown table.
    Md,
    /// CSV with a heading.
    Csv,
}

/// The sizes of a sweep.
type Sizes = Vec<usize>;

impl Args {
    /// How many processes measure.
    pub(super) fn repeats(&self) -> usize {
        self.repeat.map_or(if self.cold { 5 } else { 1 }, usize::from)
    }

    /// The sizes that this process was told to measure with.
    pub(super) fn worker_dims(&self) -> Result<Vec<(String, usize)>, Failure> {
        Ok(self.worker_dim.clone())
    }

    /// The sizes to measure with, one after the other: one empty list without a sweep.
    pub(super) fn sweep(&self, opened: &Opened) -> Result<Vec<Vec<(String, usize)>>, Failure> {
        if let Some((name, sizes)) = &self.sweep {
            return Ok(sizes.iter().map(|&size| vec![(name.clone(), size)]).collect());
        }
        if self.batch.is_empty() {
            return Ok(vec![Vec::new()]);
        }
        let signatures = opened.signatures()?;
        let open = signatures.iter().find_map(|signature| match signature.shape.as_ref()?.first()? {
            dim @ Dim::Symbolic(_) => Some(dim.to_string()),
            Dim::Known(_) => None,
        });
        let name = open.ok_or_else(|| {
            Failure::new(Fault::Usage, "--batch: no input of the model leaves its first dimension open")
        })?;
        Ok(self.batch.iter().map(|&size| vec![(name.clone(), size)]).collect())
    }

    /// Says when processes differ by more than a comparison can bear.
    pub(super) fn warn_of_few(&self, measured: &Measured, console: &Console) {
        let spread = super::latency::spread(&measured.samples);
        if spread > 0.05 {
            console.warn(format!(
                "{}: the processes differ by +-{:.1} %; is the machine busy?",
                measured.id(),
                spread * 100.0
            ));
        }
    }
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

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (1e-3..=1e6).contains(rate));
    rate.ok_or_else(|| format!("{text:?} is no rate from 0.001 to 1000000 Hz"))
}

/// `dim:NAME=128..512` or `dim:NAME=128,192`.
fn parse_sweep(text: &str) -> Result<(String, Sizes), String> {
    let wanted = "write dim:NAME=128..512 or dim:NAME=128,192";
    let (name, sizes) = text.strip_prefix("dim:").and_then(|rest| rest.rsplit_once('=')).ok_or(wanted)?;
    let number = |text: &str| text.trim().parse::<usize>().map_err(|_| format!("{text:?} is no size"));
    let sizes = match sizes.split_once("..") {
        Some((from, to)) => {
            let (from, to) = (number(from)?, number(to)?);
            if from == 0 || from > to {
                return Err(wanted.to_owned());
            }
            let doubled = std::iter::successors(Some(from), |size| size.checked_mul(2));
            let mut sizes: Sizes = doubled.take_while(|size| *size < to).collect();
            sizes.push(to);
            sizes
        }
        None => sizes.split(',').map(number).collect::<Result<_, _>>()?,
    };
    Ok((name.to_owned(), sizes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_and_what_is_included() {
        assert_eq!(parse_warmup("auto"), Ok(Warmup::Auto));
        assert_eq!(parse_warmup("20"), Ok(Warmup::Runs(20)));
        assert_eq!(parse_warmup("2s"), Ok(Warmup::Time(Duration::from_secs(2))));
        assert!(parse_warmup("soon").is_err());
        assert_eq!(Include::parse("device=vulkan:0"), Ok(Include::Device("vulkan:0".into())));
        for text in ["device=cpu", "model=a=b.onnx", "plan=p.json", "without=all"] {
            assert_eq!(Include::parse(text).unwrap().to_text(), text);
        }
        assert!(
            ["device=", "cpu", "colour=red", "=x", "without=x"]
                .iter()
                .all(|text| Include::parse(text).is_err())
        );
    }

    #[test]
    fn sweeps_and_rates() {
        assert_eq!(parse_sweep("dim:n=128..512"), Ok(("n".into(), vec![128, 256, 512])));
        assert_eq!(parse_sweep("dim:n=100..300"), Ok(("n".into(), vec![100, 200, 300])));
        assert_eq!(parse_sweep("dim:n=3,1"), Ok(("n".into(), vec![3, 1])));
        for text in ["n=3", "dim:n=", "dim:n=0..4", "dim:n=8..4", "dim:3"] {
            assert!(parse_sweep(text).is_err(), "{text}");
        }
        assert!(parse_rate("30").is_ok() && parse_rate("0").is_err() && parse_rate("nan").is_err());
    }
}
