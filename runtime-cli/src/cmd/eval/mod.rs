//! `sardonyx eval MODEL --data DIR`: how often a classifier is right, and what changed against another model.

pub mod data;
mod interval;

use std::path::PathBuf;

use sardonyx::{Device, Fallback, Session};
use serde_json::{Map, Value, json};

use crate::bind::{self, Opened};
use crate::cli::{DeviceArgs, SizeArgs};
use crate::cmd::compare::named;
use crate::describe;
use crate::failure::{Failure, Fault};
use crate::input::load::{self, Recipes};
use crate::input::sizes::Sizes;
use crate::input::{Given, Signature};
use crate::noise::Noise;
use crate::output::{Console, format};
use crate::task::Output;
use crate::task::classify::classify;
use crate::task::labels::Labels;
use data::Item;
use interval::{Paired, wilson};

/// Arguments of `eval`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX model
    model: PathBuf,
    /// The inputs: files that --labels names, a folder for each class, or what `run -i` takes
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The right answers, a line each: FILE, CLASS
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Names of classes, so that labels and folders can be names instead of numbers
    #[arg(long, value_name = "FILE")]
    names: Option<PathBuf>,
    /// Another model: the change in accuracy, and the inputs whose answer changed
    #[arg(long, value_name = "MODEL2")]
    against: Option<PathBuf>,
    /// What is measured; cosine and sqnr are those of the outputs against the other model's
    #[arg(long, value_name = "WHICH", value_enum, default_value = "top1")]
    metric: Metric,
    /// How a picture becomes an input, as for `run` (repeat)
    #[arg(long, value_name = "NAME=RECIPE")]
    pre: Vec<String>,
    #[command(flatten)]
    sizes: SizeArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `--metric`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Metric {
    /// The share of inputs whose best class is right.
    Top1,
    /// The cosine of the angle between outputs.
    Cosine,
    /// Signal to noise of outputs in dB.
    Sqnr,
}

/// A model and its session.
struct Side {
    opened: Opened,
    session: Session,
}

impl Side {
    fn new(
        path: &std::path::Path,
        arguments: &Args,
        device: &Device,
        console: &Console,
    ) -> Result<Side, Failure> {
        let opened = Opened::open(path, console)?;
        let builder = bind::builder(device, &arguments.device.settings, Fallback::Allow);
        let session = opened.session(builder, console)?;
        Ok(Side { opened, session })
    }

    fn outputs(&self, given: &[Given]) -> Result<Vec<Output>, Failure> {
        let outputs = self.session.run(named(given)).map_err(|error| self.opened.failure(&error))?;
        Ok(outputs.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect())
    }
}

/// The best class of the first row.
///
/// # Errors
/// When the outputs are no scores of classes.
pub fn answer(outputs: &[Output]) -> Result<usize, Failure> {
    let answer = classify(outputs, &Labels::default(), 1)?;
    let class = answer.rows.first().and_then(|row| row.first()).map(|class| class.class);
    class.ok_or_else(|| Failure::new(Fault::Task, "the scores have no class"))
}

/// Evaluates.
///
/// # Errors
/// When anything is wrong with models, data or device.
pub fn run(arguments: &Args, console: &Console) -> Result<(), Failure> {
    if arguments.metric != Metric::Top1 && arguments.against.is_none() {
        return Err(Failure::new(
            Fault::Usage,
            "--metric cosine and sqnr need another model: --against MODEL2",
        ));
    }
    let device = bind::device(&arguments.device)?;
    let side = Side::new(&arguments.model, arguments, &device, console)?;
    let name = side.opened.name();
    perform(arguments, &device, side, console).map_err(|failure| failure.in_model(name))
}

fn perform(arguments: &Args, device: &Device, side: Side, console: &Console) -> Result<(), Failure> {
    let other =
        arguments.against.as_ref().map(|path| Side::new(path, arguments, device, console)).transpose()?;
    let signatures = side.opened.signatures()?;
    let names = arguments.names.as_deref().map(Labels::read).transpose()?.unwrap_or_default();
    let labelled = arguments.metric == Metric::Top1;
    let items = data::items(&arguments.data, arguments.labels.as_deref(), &names, labelled, &signatures)?;
    let reader = Reader {
        recipes: Recipes::new(&arguments.pre, &signatures)?,
        sizes: side.opened.sizes(&signatures, &arguments.sizes)?,
        signatures,
        console,
    };
    let mut document = Map::new();
    document.insert("engine".to_owned(), describe::engine());
    document.insert("model".to_owned(), describe::model(&side.opened, &side.opened.digest()));
    document.insert("device".to_owned(), describe::device(device, arguments.device.settings.precision));
    document.insert(
        "against".to_owned(),
        json!(arguments.against.as_ref().map(|path| path.display().to_string())),
    );
    document.insert("samples".to_owned(), json!(items.len()));
    let (accuracy, outputs) = match labelled {
        true => (top1(&side, other.as_ref(), &items, &reader)?, Value::Null),
        false => (Value::Null, outputs(&side, other.as_ref(), &items, &reader, arguments.metric)?),
    };
    document.insert("accuracy".to_owned(), accuracy);
    document.insert("outputs".to_owned(), outputs);
    console.finish("eval", document)
}

/// What turns an item into inputs.
struct Reader<'r> {
    recipes: Recipes,
    sizes: Sizes,
    signatures: Vec<Signature>,
    console: &'r Console,
}

impl Reader<'_> {
    fn read(&self, item: &Item) -> Result<Vec<Given>, Failure> {
        load::load(&item.sample, &self.signatures, &self.recipes, self.sizes.clone(), self.console)
    }
}

fn top1(side: &Side, other: Option<&Side>, items: &[Item], reader: &Reader<'_>) -> Result<Value, Failure> {
    let console = reader.console;
    let mut paired = Paired::default();
    let (mut right, mut changed) = (0u64, Vec::new());
    let answered = console.progress(items.len() as u64, "inputs");
    for item in items {
        let given = reader.read(item)?;
        let got = answer(&side.outputs(&given)?)?;
        let hit = Some(got) == item.class;
        right += u64::from(hit);
        if let Some(other) = other {
            let reference = answer(&other.outputs(&given)?)?;
            paired.add(hit, Some(reference) == item.class);
            if got != reference {
                changed.push(
                    json!({"input": item.name, "label": item.class, "answer": got, "reference": reference}),
                );
            }
        }
        answered.advance();
    }
    drop(answered);
    let count = items.len() as u64;
    let share = |right: u64| right as f64 / count.max(1) as f64;
    let interval = wilson(right, count);
    console.line(format!(
        "top-1   {:.4}   95 % [{:.4}, {:.4}]   {right} of {count} right",
        share(right),
        interval[0],
        interval[1]
    ))?;
    let mut accuracy = json!({"right": right, "count": count, "value": share(right), "ci95": interval});
    if let Some(other) = other {
        let (delta, [low, high]) = paired.delta();
        let name = other.opened.name();
        console.line(format!("against {name}: {:.4}", share(paired.reference())))?;
        console.line(format!("change  {delta:+.4}   95 % [{low:+.4}, {high:+.4}] on the same inputs"))?;
        console.line(format!("        {} answers changed", changed.len()))?;
        for change in changed.iter().take(if console.is_verbose() { changed.len() } else { 10 }) {
            let input = format::tail(change["input"].as_str().unwrap_or_default(), 50);
            let (label, was, is) = (&change["label"], &change["reference"], &change["answer"]);
            console.line(format!("        {input}: class {was} -> {is}, right is {label}"))?;
        }
        accuracy["reference"] = json!(share(paired.reference()));
        accuracy["delta"] = json!(delta);
        accuracy["delta_ci95"] = json!([low, high]);
        accuracy["changed"] = Value::Array(changed);
    }
    Ok(accuracy)
}

fn outputs(
    side: &Side,
    other: Option<&Side>,
    items: &[Item],
    reader: &Reader<'_>,
    metric: Metric,
) -> Result<Value, Failure> {
    let Some(other) = other else { return Ok(Value::Null) };
    let console = reader.console;
    let mut sums: Vec<(String, Noise)> = Vec::new();
    let answered = console.progress(items.len() as u64, "inputs");
    for item in items {
        let given = reader.read(item)?;
        let (got, want) = (side.outputs(&given)?, other.outputs(&given)?);
        if got.len() != want.len() {
            return Err(Failure::new(Fault::Task, "the models have different counts of outputs"));
        }
        sums.resize_with(got.len(), Default::default);
        for ((sum, (name, got)), (_, want)) in sums.iter_mut().zip(&got).zip(&want) {
            if got.dims() != want.dims() {
                let message =
                    format!("output {:?} has other dimensions in the other model", format::name(name, 60));
                return Err(Failure::new(Fault::Task, message));
            }
            sum.0.clone_from(name);
            sum.1.add(want, got);
        }
        answered.advance();
    }
    drop(answered);
    for (name, noise) in &sums {
        let name = format::name(name, 40);
        match metric {
            Metric::Cosine => {
                let cosine = noise.cosine().map_or("-".to_owned(), |cosine| format!("{cosine:.7}"));
                console.line(format!("output  {name}: cosine {cosine}"))?;
            }
            _ => console.line(format!("output  {name}: SQNR {}", noise.show()))?,
        }
    }
    let row = |(name, noise): &(String, Noise)| json!({"name": name, "cosine": noise.cosine(), "sqnr_db": noise.finite()});
    Ok(sums.iter().map(row).collect())
}
