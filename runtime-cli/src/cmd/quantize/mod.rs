//! `sardonyx quantize MODEL -o OUT`: the same model with fewer bits, and what is lost.

mod budget;
mod calibrate;
mod loss;
mod make;
mod report;

use std::path::{Path, PathBuf};

use sardonyx::quantize::{self, Draft, Excluded, Method};
use sardonyx_importer::ImportError;

use crate::bind::Opened;
use crate::cli::SizeArgs;
use crate::failure::{Failure, Fault};
use crate::glob;
use crate::input::load::Recipes;
use crate::input::{Given, load, request};
use crate::output::{Console, atomic, format};
use budget::MaxDrop;
use make::Maker;

/// Arguments of `quantize`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX model
    model: PathBuf,
    /// Where the quantized model goes; above 2 GiB, weights go to OUT.data beside it
    #[arg(short, long = "output", value_name = "OUT")]
    output: PathBuf,
    /// What becomes of weights and activations
    #[arg(long, value_name = "SCHEME", value_enum)]
    scheme: Scheme,
    /// Of int4-weights and int8-weights: weights along the sum that share a scale [default: 32]
    #[arg(long, value_name = "N", value_parser = parse_block)]
    block: Option<usize>,
    /// Of int4-weights and int8-weights: blocks with or without zero points [default: weights]
    #[arg(long, value_name = "WHAT", value_enum)]
    symmetric: Option<Symmetric>,
    /// Of int4-weights and int8-weights: let weights make up for the errors of others, by the inputs of --calib (GPTQ)
    #[arg(long)]
    compensate: bool,
    /// Of int8 schemes: a scale for each channel of a weight [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    per_channel: Option<bool>,
    /// Of int8-static: activations are u8 or s8 [default: u8]
    #[arg(long, value_name = "TYPE", value_enum)]
    activations: Option<Activations>,
    /// Nodes that stay in float, by name or pattern (repeat)
    #[arg(long, value_name = "NODES")]
    exclude: Vec<String>,
    #[command(flatten)]
    calibration: CalibrationArgs,
    #[command(flatten)]
    budget: BudgetArgs,
}

/// What may be lost.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Budget")]
struct BudgetArgs {
    /// Return layers to float, worst first, until no more is lost: top1=1% of accuracy on --data, or of the best classes for
    /// --calib; cosine=0.01 between outputs
    #[arg(long, value_name = "METRIC=LIMIT", value_parser = MaxDrop::parse)]
    max_drop: Option<MaxDrop>,
    /// Of --max-drop: inputs with right answers, as for `eval`
    #[arg(long, value_name = "DIR", requires = "max_drop")]
    data: Option<PathBuf>,
    /// Of --data: the right answers, a line each: FILE, CLASS
    #[arg(long, value_name = "FILE", requires = "data")]
    labels: Option<PathBuf>,
}

/// Real inputs.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Calibration")]
struct CalibrationArgs {
    /// Inputs to measure with, as for `run -i`: a folder or pattern, or a folder of ONNX test sets (repeat)
    #[arg(long = "calib", value_name = "[NAME=]SOURCE")]
    sources: Vec<String>,
    /// Of int8-static: what range of an activation the codes cover: minmax, percentile:P, entropy or mse
    #[arg(long = "calib-method", value_name = "METHOD", value_parser = parse_method)]
    method: Option<Method>,
    /// How a picture becomes an input, as for `run` (repeat)
    #[arg(long, value_name = "NAME=RECIPE")]
    pre: Vec<String>,
    #[command(flatten)]
    sizes: SizeArgs,
}

/// `--scheme`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scheme {
    /// Weights and activations in 8 bits, ranges of activations from --calib.
    Int8Static,
    /// Products in 8 bits, ranges of activations from each run.
    Int8Dynamic,
    /// Weights of products in 4 bits.
    Int4Weights,
    /// Weights of products in 8 bits.
    Int8Weights,
    /// 16-bit floats.
    F16,
}

impl Scheme {
    /// The word of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Int8Static => "int8-static",
            Scheme::Int8Dynamic => "int8-dynamic",
            Scheme::Int4Weights => "int4-weights",
            Scheme::Int8Weights => "int8-weights",
            Scheme::F16 => "f16",
        }
    }
}

/// `--symmetric`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Symmetric {
    /// Weights have no zero points.
    Weights,
    /// Weights have zero points.
    None,
}

/// `--activations`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Activations {
    /// Without a sign.
    U8,
    /// With a sign.
    S8,
}

fn parse_block(text: &str) -> Result<usize, String> {
    let block =
        text.parse().ok().filter(|block: &usize| block.is_power_of_two() && (16..=4096).contains(block));
    block.ok_or_else(|| "a block is a power of two from 16 to 4096".to_owned())
}

fn parse_method(text: &str) -> Result<Method, String> {
    match text.split_once(':') {
        None if text == "minmax" => Ok(Method::MinMax),
        None if text == "entropy" => Ok(Method::Entropy),
        None if text == "mse" => Ok(Method::Mse),
        Some(("percentile", share)) => {
            let share = share.parse().ok().filter(|share| *share > 50.0 && *share <= 100.0);
            share.map(Method::Percentile).ok_or_else(|| "a percentile is above 50 and at most 100".to_owned())
        }
        _ => Err("write minmax, percentile:P, entropy or mse".to_owned()),
    }
}

impl Args {
    /// Options that say nothing about the scheme are a mistake.
    fn check(&self) -> Result<(), Failure> {
        use Scheme::{Int4Weights, Int8Dynamic, Int8Static, Int8Weights};
        let blocks: &[Scheme] = &[Int4Weights, Int8Weights];
        let given: [(&str, bool, &[Scheme]); 6] = [
            ("--block", self.block.is_some(), blocks),
            ("--symmetric", self.symmetric.is_some(), blocks),
            ("--compensate", self.compensate, blocks),
            ("--per-channel", self.per_channel.is_some(), &[Int8Static, Int8Dynamic]),
            ("--activations", self.activations.is_some(), &[Int8Static]),
            ("--calib-method", self.calibration.method.is_some(), &[Int8Static]),
        ];
        let idle = given.iter().find(|(_, given, schemes)| *given && !schemes.contains(&self.scheme));
        if let Some((option, ..)) = idle {
            let message = format!("{option} says nothing about --scheme {}", self.scheme.name());
            return Err(Failure::new(Fault::Usage, message));
        }
        let needs = match self.scheme {
            Int8Static => Some("--scheme int8-static"),
            _ if self.compensate => Some("--compensate"),
            _ if self.budget.max_drop.is_some() => Some("--max-drop"),
            _ => None,
        };
        if let Some(option) = needs.filter(|_| self.calibration.sources.is_empty()) {
            let message = format!("{option} needs inputs to measure activations with");
            return Err(Failure::new(Fault::Usage, message).help("give some: --calib DIR"));
        }
        Ok(())
    }
}

/// Quantizes.
///
/// # Errors
/// When anything is wrong with the model or the inputs, or a file cannot be written.
pub fn run(arguments: &Args, console: &Console) -> Result<(), Failure> {
    arguments.check()?;
    let opened = Opened::open(&arguments.model, console)?;
    perform(arguments, &opened, console).map_err(|failure| failure.in_model(opened.name()))
}

fn perform(arguments: &Args, opened: &Opened, console: &Console) -> Result<(), Failure> {
    let maker = Maker::new(arguments, opened, samples(arguments, opened, console)?, console)?;
    let limit = arguments.budget.max_drop;
    let spent = limit.map(|limit| budget::search(limit, arguments, &maker, console)).transpose()?;
    let mut excluded = maker.excluded.clone();
    excluded.extend(spent.iter().flat_map(|spent| &spent.floats).cloned());
    let made = maker.make(&excluded, console)?;
    made.summary.warnings.iter().for_each(|warning| console.warn(warning.clone()));
    let after = maker.write(&made.draft, &arguments.output, console)?;
    let loss = loss::measure(opened, &arguments.output, &made.summary, &maker.samples, console)?;
    report::finish(
        arguments,
        opened,
        &report::Made {
            sizes: (maker.before(), after),
            summary: &made.summary,
            loss: loss.as_ref(),
            spent: spent.as_ref(),
        },
        console,
    )
}

/// Why a scheme finds nothing.
fn nothing(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Int4Weights | Scheme::Int8Weights | Scheme::Int8Dynamic => {
            "it is for MatMul and Gemm with a constant matrix of f32 that is not excluded"
        }
        Scheme::Int8Static => "it is for Conv, ConvTranspose, Gemm and MatMul over f32 that are not excluded",
        Scheme::F16 => "it is for Conv, ConvTranspose, Gemm and MatMul over f32",
    }
}

/// The nodes that patterns name.
fn excluded(draft: &Draft, patterns: &[String]) -> Result<Excluded, Failure> {
    let mut excluded = Excluded::new();
    for pattern in patterns {
        let labels = draft.nodes().iter().map(quantize::label);
        let found: Vec<_> = labels.filter(|label| glob::matches(pattern, label)).collect();
        if found.is_empty() {
            let message = format!("--exclude {}: the model has no such node", format::name(pattern, 60));
            return Err(Failure::new(Fault::Usage, message));
        }
        excluded.extend(found);
    }
    Ok(excluded)
}

/// The inputs of `--calib`; none when it is not given.
fn samples(arguments: &Args, opened: &Opened, console: &Console) -> Result<Vec<Vec<Given>>, Failure> {
    let calibration = &arguments.calibration;
    let signatures = opened.signatures()?;
    let recipes = Recipes::new(&calibration.pre, &signatures)?;
    let sizes = opened.sizes(&signatures, &calibration.sizes)?;
    if calibration.sources.is_empty() {
        return Ok(Vec::new());
    }
    let samples = request::samples(&calibration.sources, &signatures)?;
    samples.iter().map(|sample| load::load(sample, &signatures, &recipes, sizes.clone(), console)).collect()
}

/// Why a model was not written.
enum Written {
    Model(ImportError),
    File(Failure),
}

/// Writes the model, its weights first: who finds the model finds them too. Gives the bytes of both.
fn write_files(draft: &Draft, path: &Path) -> Result<u64, Written> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let data_file = format!("{name}.data");
    let encoded = draft.encode(&data_file).map_err(Written::Model)?;
    if !encoded.external.is_empty() {
        atomic::write_pieces(&path.with_file_name(&data_file), &encoded.external).map_err(Written::File)?;
    }
    atomic::write_pieces(path, &encoded.model).map_err(Written::File)?;
    Ok(encoded.len())
}

/// A session that keeps every value of a model as it is written: nothing is fused, and all runs on the CPU.
fn as_written(opened: &Opened, given: &[Given], console: &Console) -> Result<sardonyx::Session, Failure> {
    let mut builder = sardonyx::Session::builder().device(sardonyx::Device::cpu()).taps();
    for pass in sardonyx_importer::passes::names() {
        builder = builder.disable_pass(pass);
    }
    for given in given {
        builder = builder.shape(&given.name, given.tensor.dims());
    }
    opened.session(builder, console)
}
