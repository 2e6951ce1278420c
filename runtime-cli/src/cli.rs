//! The arguments of the command.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sardonyx::{Fallback, Precision};
use sardonyx_importer::passes::names;

use crate::cmd;
use crate::input::source;

/// Run ONNX models on any GPU, and see what happens there.
#[derive(Debug, Parser)]
#[command(name = "sardonyx", version, max_term_width = 80)]
#[command(
    after_help = "Exit codes: 0 done, 1 a gate failed, 2 wrong usage, 3 model refused, 4 input does not fit, \
    5 device missing, lost or out of memory, 6 deadline passed, 7 file error, 8 inconclusive, 70 defect in Sardonyx."
)]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a model once, or once per file of a folder
    Run(Box<cmd::run::Args>),
    /// Measure latency, throughput and memory
    Bench(Box<cmd::bench::Args>),
    /// Show where the time goes, step by step
    Profile(Box<cmd::profile::Args>),
    /// Verify and measure the kernels that can do a problem, one by one
    BenchKernel(Box<cmd::bench_kernel::Args>),
    /// Show what is in a model, and what the plan makes of it
    Inspect(Box<cmd::inspect::Args>),
    /// Say what the plan fused, where its steps run, and why not otherwise
    Explain(Box<cmd::explain::Args>),
    /// Say which operators of models run on which devices, and why others do not
    Check(Box<cmd::check::Args>),
    /// Say whether a model gives the same as elsewhere, and where it differs first
    Compare(Box<cmd::compare::Args>),
    /// Write a model with fewer bits, and show what is lost
    Quantize(Box<cmd::quantize::Args>),
    /// Say how often a classifier is right, and what changed against another model
    Eval(Box<cmd::eval::Args>),
    /// List the devices of this machine
    Devices(cmd::devices::Args),
    /// Run ONNX backend test cases
    Conformance(Box<cmd::conformance::Args>),
    /// Find out what is wrong with this machine's devices
    Doctor(Box<cmd::doctor::Args>),
    /// Print the JSON Schema of a command's document
    Schema(cmd::schema::Args),
    /// Write manual pages
    Man(cmd::man::Args),
    /// Write a completion script for a shell
    Completions(cmd::completions::Args),
}

impl Command {
    /// The folder of `--kernels`.
    pub fn kernels(&self) -> Option<&Path> {
        let device = match self {
            Command::Run(arguments) => &arguments.device,
            Command::Bench(arguments) => &arguments.device,
            Command::Profile(arguments) => &arguments.device,
            Command::Inspect(arguments) => &arguments.device,
            Command::Explain(arguments) => &arguments.device,
            Command::Compare(arguments) => &arguments.device,
            Command::Eval(arguments) => &arguments.device,
            Command::Conformance(arguments) => &arguments.device,
            Command::BenchKernel(arguments) => return arguments.changed.as_deref(),
            Command::Doctor(arguments) => return arguments.changed.as_deref(),
            Command::Check(_) | Command::Quantize(_) | Command::Devices(_) => return None,
            Command::Schema(_) | Command::Man(_) | Command::Completions(_) => return None,
        };
        device.settings.kernels.as_deref()
    }
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Print one JSON document on standard output instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Write the JSON document to FILE besides
    #[arg(long, global = true, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more (inspect --show plan: the fused expressions)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say what the engine does, and how long it takes: info, debug, or levels of targets
    #[arg(long, global = true, value_name = "FILTER", env = "SARDONYX_LOG")]
    pub log: Option<String>,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", value_enum)]
    pub color: Color,
    /// Keep compiled kernels in DIR from one command to the next [default: sardonyx in the user's cache folder]
    #[arg(long, global = true, value_name = "DIR|off", env = "SARDONYX_CACHE_DIR")]
    pub cache: Option<PathBuf>,
    /// Show no progress bars
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Color {
    /// On terminals, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where and how to run.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// auto, cpu, gpu, an index, vulkan:0, or a part of a name (see `devices`)
    #[arg(long, value_name = "DEVICE", env = "SARDONYX_DEVICE", default_value = "auto")]
    pub device: String,
    #[command(flatten)]
    pub settings: Settings,
}

/// How to run, whatever the device.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Device")]
pub struct Settings {
    /// What happens to operators without a kernel on the device [default: allow in run and inspect, else deny]
    #[arg(long, value_name = "WHAT", value_enum)]
    pub fallback: Option<FallbackArg>,
    /// How floats are stored on a GPU
    #[arg(long, value_name = "WHICH", value_enum, default_value = "model")]
    pub precision: PrecisionArg,
    /// Use no more than another device has: webgpu-default, jetson-orin, intel-igpu, adreno, mali, or a FILE.json
    ///
    /// A file is an entry of what `devices --save` writes, or its limits alone.
    #[arg(long, value_name = "PROFILE|FILE")]
    pub limits: Option<String>,
    /// Take the text of kernels NAME from DIR/NAME.wgsl instead, to tune or test one: nothing else checks what it computes
    ///
    /// What a text must keep: bindings, parameters, knobs and workgroups. The reference of `compare` keeps its own kernels.
    #[arg(long, value_name = "DIR")]
    pub kernels: Option<PathBuf>,
    /// Threads of the CPU path [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Most memory for weights on the device and activations, e.g. 350MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory_budget: Option<u64>,
    /// Plan without a pass, to find out which one is at fault or what it gains; `all` for without any (repeat)
    #[arg(long, value_name = "NAME", value_parser = passes(), hide_possible_values = true)]
    pub disable_pass: Vec<String>,
}

impl Settings {
    /// The planner's passes that are to be left out.
    pub fn disabled_passes(&self) -> Vec<&str> {
        let all = self.disable_pass.iter().any(|name| name == ALL);
        if all { names().collect() } else { self.disable_pass.iter().map(String::as_str).collect() }
    }
}

/// The word for every pass.
const ALL: &str = "all";

/// Whether `--disable-pass` takes it.
pub fn is_pass(name: &str) -> bool {
    names().chain([ALL]).any(|known| known == name)
}

fn passes() -> clap::builder::PossibleValuesParser {
    names().chain([ALL]).collect::<Vec<_>>().into()
}

/// Which plan to run.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Device")]
pub struct PlanArgs {
    /// Run exactly the plan that `inspect --save-plan` wrote, with its sizes, passes and kernels, or refuse
    #[arg(long, value_name = "FILE.json", conflicts_with = "disable_pass")]
    pub plan: Option<PathBuf>,
}

/// Sizes that the model leaves open.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Inputs")]
pub struct SizeArgs {
    /// Size of a symbolic dimension, e.g. batch=4 (repeat)
    #[arg(long, value_name = "NAME=N", value_parser = parse_dim)]
    pub dim: Vec<(String, usize)>,
    /// Dimensions of an input, e.g. x=1x3x224x224 (repeat)
    #[arg(long, value_name = "INPUT=DIMS", value_parser = parse_shape)]
    pub shape: Vec<(String, Vec<usize>)>,
}

/// What to give the model.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Inputs")]
pub struct InputArgs {
    /// Input from a file, a folder, a literal or made up (repeat); NAME= may be left out with one input
    ///
    /// Files: .npy, .npz:KEY, .safetensors:KEY, .pb, pictures, .wav, x.bin:f32:1x3x8, a folder or pattern of
    /// pictures, a folder of ONNX test sets. Literals: [[1,2],[3,4]]. Made up: random:seed=1,min=0,max=1,
    /// normal:seed=1,mean=0,std=1, zeros, ones, arange. Inputs not given are random.
    #[arg(short, long = "input", value_name = "NAME=SOURCE")]
    pub inputs: Vec<String>,
    /// How a picture becomes an input, e.g. "mean=127 std=128" (repeat)
    ///
    /// Steps, from left to right: resize=WxH[:FILTER[:antialias|plain]], letterbox=N[:FILL], crop=center:N,
    /// color=rgb|bgr|gray, layout=nchw|nhwc, scale=1/255, mean=A,B,C, std=A,B,C. Presets: imagenet, unit,
    /// minus1to1. Of a sound: slice=START:COUNT.
    #[arg(long, value_name = "NAME=RECIPE")]
    pub pre: Vec<String>,
    #[command(flatten)]
    pub sizes: SizeArgs,
}

/// `--fallback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FallbackArg {
    /// They are an error.
    Deny,
    /// They run on the CPU.
    Allow,
}

impl From<FallbackArg> for Fallback {
    fn from(argument: FallbackArg) -> Fallback {
        match argument {
            FallbackArg::Deny => Fallback::Deny,
            FallbackArg::Allow => Fallback::Allow,
        }
    }
}

/// `--precision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArg {
    /// As the model says.
    Model,
    /// f32 as f16 where the device has it.
    F16,
    /// f16 and bf16 as f32.
    F32,
}

impl PrecisionArg {
    /// The word of the command line.
    pub fn name(self) -> &'static str {
        Precision::from(self).name()
    }
}

impl From<PrecisionArg> for Precision {
    fn from(argument: PrecisionArg) -> Precision {
        match argument {
            PrecisionArg::Model => Precision::Model,
            PrecisionArg::F16 => Precision::F16,
            PrecisionArg::F32 => Precision::F32,
        }
    }
}

/// `NAME=N`.
pub fn parse_dim(text: &str) -> Result<(String, usize), String> {
    let (name, size) = text.rsplit_once('=').ok_or("write NAME=N")?;
    let size = size.parse().map_err(|_| format!("{size:?} is no size"))?;
    Ok((name.to_owned(), size))
}

fn parse_shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, dims) = text.rsplit_once('=').ok_or("write INPUT=1x3x224x224")?;
    let dims = source::dimensions(dims).ok_or_else(|| format!("{dims:?} are no dimensions"))?;
    Ok((name.to_owned(), dims))
}

/// A size in bytes: a number with `B`, `KiB`, `MiB`, `GiB`, `KB`, `MB`, `GB` or nothing (bytes).
fn parse_size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: f64 = match unit.trim() {
        "" | "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        unit => return Err(format!("{unit:?} is no unit of size: B, KiB, MiB, GiB, KB, MB or GB")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    Ok((number * factor) as u64)
}

/// A duration: a number with `ns`, `us`, `ms`, `s` or `min`; nothing means seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim() {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "min" => 60.0,
        unit => return Err(format!("{unit:?} is no unit of time: ns, us, ms, s or min")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    Duration::try_from_secs_f64(number * factor).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_durations_dimensions() {
        assert_eq!(parse_size("350MiB"), Ok(350 << 20));
        assert_eq!(parse_size("1.5 GB"), Ok(1_500_000_000));
        assert!(parse_size("x").is_err() && parse_size("1XB").is_err());
        assert_eq!(parse_duration("2.5ms"), Ok(Duration::from_micros(2500)));
        assert_eq!(parse_duration("3"), Ok(Duration::from_secs(3)));
        assert!(parse_duration("-1s").is_err() && parse_duration("1e99s").is_err());
        assert_eq!(parse_dim("a=b=3"), Ok(("a=b".into(), 3)));
        assert!(parse_dim("a=-3").is_err() && parse_dim("3").is_err());
        assert_eq!(parse_shape("x=1x3"), Ok(("x".into(), vec![1, 3])));
        assert_eq!(parse_shape("x=scalar"), Ok(("x".into(), vec![])));
    }
}
