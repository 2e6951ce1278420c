//! `--max-drop`: as few layers back in float, worst first, as keep what is lost within a limit.

use std::path::PathBuf;
use std::sync::Arc;

use sardonyx::{Device, Session};
use serde_json::{Value, json};

use super::Args;
use super::loss;
use super::make::Maker;
use crate::bind::Opened;
use crate::cmd::compare::named;
use crate::cmd::eval::{answer, data};
use crate::failure::{Failure, Fault};
use crate::input::Given;
use crate::input::load::{self, Recipes};
use crate::noise::Noise;
use crate::output::{Console, format};
use crate::task::Output;
use crate::task::labels::Labels;

/// `--max-drop METRIC=LIMIT`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaxDrop {
    metric: Metric,
    limit: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    /// A part of the inputs.
    Top1,
    /// 1 less the cosine of the angle between an output and the float model's, of the worst input.
    Cosine,
}

impl MaxDrop {
    /// Parses `top1=1%` or `cosine=0.01`.
    ///
    /// # Errors
    /// Text for people.
    pub fn parse(text: &str) -> Result<MaxDrop, String> {
        let wrong = || "write top1=1% or cosine=0.01".to_owned();
        let (metric, limit) = match text.split_once('=').ok_or_else(wrong)? {
            ("top1", limit) => (Metric::Top1, limit.strip_suffix('%').ok_or_else(wrong)?),
            ("cosine", limit) => (Metric::Cosine, limit),
            _ => return Err(wrong()),
        };
        let limit: f64 = limit.trim().parse().map_err(|_| wrong())?;
        let limit = if metric == Metric::Top1 { limit / 100.0 } else { limit };
        if (0.0..=1.0).contains(&limit) { Ok(MaxDrop { metric, limit }) } else { Err(wrong()) }
    }

    fn name(self) -> &'static str {
        match self.metric {
            Metric::Top1 => "top1",
            Metric::Cosine => "cosine",
        }
    }

    /// A drop for people.
    fn show(self, drop: f64) -> String {
        match self.metric {
            Metric::Top1 => format!("{:.2} %", drop * 100.0),
            Metric::Cosine => format!("{drop:.3e}"),
        }
    }
}

/// An input, and what the float model and the truth say of it.
struct Item {
    given: Vec<Given>,
    float: Vec<Output>,
    class: Option<usize>,
}

/// What says how much a quantized model loses.
struct Judge {
    limit: MaxDrop,
    items: Vec<Item>,
}

impl Judge {
    /// Runs the float model on --data, or else on --calib.
    ///
    /// # Errors
    /// When an input cannot be read, or the model does not run.
    fn new(limit: MaxDrop, arguments: &Args, maker: &Maker<'_>, console: &Console) -> Result<Judge, Failure> {
        let float = maker.opened;
        let inputs: Vec<(Vec<Given>, Option<usize>)> = match &arguments.budget.data {
            Some(folder) => {
                let signatures = float.signatures()?;
                let recipes = Recipes::new(&arguments.calibration.pre, &signatures)?;
                let sizes = float.sizes(&signatures, &arguments.calibration.sizes)?;
                let labelled = limit.metric == Metric::Top1;
                let labels = arguments.budget.labels.as_deref();
                let items = data::items(folder, labels, &Labels::default(), labelled, &signatures)?;
                let read = |item: data::Item| {
                    let given = load::load(&item.sample, &signatures, &recipes, sizes.clone(), console)?;
                    Ok((given, item.class))
                };
                items.into_iter().map(read).collect::<Result<_, Failure>>()?
            }
            None => maker.samples.iter().map(|given| (given.clone(), None)).collect(),
        };
        let Some((first, _)) = inputs.first() else {
            return Err(Failure::new(Fault::Usage, "--max-drop has no inputs to measure with"));
        };
        let session = fast(float, first, console)?;
        let item = |(given, class): (Vec<Given>, Option<usize>)| {
            let float = outputs(float, &session, &given)?;
            Ok(Item { given, float, class })
        };
        Ok(Judge { limit, items: inputs.into_iter().map(item).collect::<Result<_, Failure>>()? })
    }

    /// How much a quantized model loses.
    fn drop_of(&self, quantized: &Opened, console: &Console) -> Result<f64, Failure> {
        let Some(first) = self.items.first() else { return Ok(0.0) };
        let session = fast(quantized, &first.given, console)?;
        let (mut lost, mut gained, mut worst) = (0u64, 0u64, 0f64);
        for item in &self.items {
            let got = outputs(quantized, &session, &item.given)?;
            match self.limit.metric {
                Metric::Top1 => {
                    let (float, got) = (answer(&item.float)?, answer(&got)?);
                    let right = item.class.unwrap_or(float);
                    lost += u64::from(float == right && got != right);
                    gained += u64::from(float != right && got == right);
                }
                Metric::Cosine => {
                    for ((_, float), (_, got)) in item.float.iter().zip(&got) {
                        let mut noise = Noise::default();
                        noise.add(float, got);
                        // Without an angle, one side is 0: nothing is lost if both are.
                        let drop = noise.cosine().map_or_else(
                            || if noise.decibels() == Some(f64::INFINITY) { 0.0 } else { 1.0 },
                            |cosine| 1.0 - cosine,
                        );
                        worst = worst.max(drop);
                    }
                }
            }
        }
        Ok(match self.limit.metric {
            Metric::Top1 => (lost as f64 - gained as f64) / self.items.len() as f64,
            Metric::Cosine => worst,
        })
    }
}

/// What was found.
#[derive(Debug)]
pub struct Spent {
    limit: MaxDrop,
    inputs: usize,
    /// What is lost with all layers quantized.
    all: f64,
    /// What is lost with these in float.
    drop: f64,
    /// The layers that return to float, worst first.
    pub floats: Vec<Arc<str>>,
}

impl Spent {
    /// Lines for people.
    pub fn lines(&self) -> Vec<String> {
        let limit = self.limit;
        let (all, drop) = (limit.show(self.all), limit.show(self.drop));
        let (most, inputs) = (limit.show(limit.limit), self.inputs);
        let name = limit.name();
        if self.floats.is_empty() {
            return vec![format!(
                "drop    {name} {drop} on {inputs} inputs, at most {most}: all layers stay quantized"
            )];
        }
        let names: Vec<String> = self.floats.iter().map(|name| format::name(name, 60)).collect();
        vec![
            format!(
                "drop    {name} {drop} on {inputs} inputs, at most {most}; {all} with all layers quantized"
            ),
            format!("float   {} layers: {}", self.floats.len(), names.join(", ")),
        ]
    }

    /// As a field of the document.
    pub fn to_json(&self) -> Value {
        let floats: Vec<&str> = self.floats.iter().map(|name| &**name).collect();
        json!({"metric": self.limit.name(), "limit": self.limit.limit, "inputs": self.inputs,
               "all_quantized": self.all, "drop": self.drop, "float_layers": floats})
    }
}

/// Finds the fewest layers, worst first by their signal to noise, that keep the loss within the limit once they are in float:
/// by bisection, since more layers in float lose less, or nearly so. What comes out was measured to hold.
///
/// # Errors
/// When a model cannot be written or run, or no layer can stay quantized.
pub fn search(
    limit: MaxDrop,
    arguments: &Args,
    maker: &Maker<'_>,
    console: &Console,
) -> Result<Spent, Failure> {
    let judge = Judge::new(limit, arguments, maker, console)?;
    let (trial, silent) = (Trial::new(), Console::silent());
    let made = maker.make(&maker.excluded, console)?;
    maker.write(&made.draft, &trial.path, console)?;
    let loss = loss::measure(maker.opened, &trial.path, &made.summary, &maker.samples, console)?;
    let order = loss.map(|loss| loss.worst_first()).unwrap_or_default();
    let order: Vec<&Arc<str>> = order.into_iter().map(|at| &made.summary.layers[at].node).collect();
    let tried = console.progress(None, "looking for layers that must stay in float");
    let drop_with = |count: usize| {
        let mut excluded = maker.excluded.clone();
        excluded.extend(order.iter().take(count).map(|name| Arc::clone(name)));
        let made = maker.make(&excluded, &silent)?;
        maker.write(&made.draft, &trial.path, &silent)?;
        judge.drop_of(&Opened::open(&trial.path, &silent)?, &silent)
    };
    let all = drop_with(0)?;
    let (mut drop, mut most) = (all, 0);
    if all > limit.limit {
        // With so many in float it does not hold; with so many it does, all of them being the float model itself.
        let (mut least, mut holds) = (0, order.len());
        while holds - least > 1 {
            let middle = least + (holds - least) / 2;
            let now = drop_with(middle)?;
            if now <= limit.limit {
                (holds, drop) = (middle, now);
            } else {
                least = middle;
            }
            tried.advance();
        }
        most = holds;
    }
    if most > 0 && most == order.len() {
        let message =
            format!("--max-drop: with one layer quantized more is lost than {}", limit.show(limit.limit));
        return Err(
            Failure::new(Fault::Usage, message).help("allow more, or try another scheme or --calib-method")
        );
    }
    let floats = order.into_iter().take(most).cloned().collect();
    Ok(Spent { limit, inputs: judge.items.len(), all, drop, floats })
}

/// A model that is tried, which goes when this does.
struct Trial {
    path: PathBuf,
}

impl Trial {
    fn new() -> Trial {
        Trial { path: std::env::temp_dir().join(format!("sardonyx-quantize-{}.onnx", std::process::id())) }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // Left behind, they do no harm.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(self.path.with_added_extension("data"));
    }
}

/// A session on the CPU as programs have it.
fn fast(opened: &Opened, given: &[Given], console: &Console) -> Result<Session, Failure> {
    let mut builder = Session::builder().device(Device::cpu());
    for given in given {
        builder = builder.shape(&given.name, given.tensor.dims());
    }
    opened.session(builder, console)
}

fn outputs(opened: &Opened, session: &Session, given: &[Given]) -> Result<Vec<Output>, Failure> {
    let outputs = session.run(named(given)).map_err(|error| opened.failure(&error))?;
    Ok(outputs.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_parsed() {
        let top1 = MaxDrop::parse("top1=1%").unwrap();
        assert_eq!((top1.metric, top1.limit, top1.show(0.0123)), (Metric::Top1, 0.01, "1.23 %".to_owned()));
        let cosine = MaxDrop::parse("cosine=0.25").unwrap();
        assert_eq!((cosine.metric, cosine.limit), (Metric::Cosine, 0.25));
        for text in ["top1", "top1=1", "top1=-1%", "top1=101%", "cosine=2", "sqnr=3", "cosine=x"] {
            assert!(MaxDrop::parse(text).is_err(), "{text}");
        }
    }
}
