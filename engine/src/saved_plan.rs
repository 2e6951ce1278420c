//! Plans as files: what was decided for a model on a device, so that it can be kept, compared, changed by hand, and run again.
//!
//! A file holds decisions, not operators: passes and sizes, and for each step the kernels that do it. Loading it makes the plan
//! from the model again, which takes milliseconds, and refuses whatever is not the plan that was saved.

use serde_json::{Value, json};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::placement::{Place, PlacedStep};
use crate::program::Choices;
use crate::session::{Precision, Session};

/// Names of inputs with their dimensions.
pub(crate) type Sizes = Vec<(String, Vec<usize>)>;

/// The form of the file.
const SCHEMA: &str = "sardonyx.plan/1";

/// The decisions about a model whose sizes are all known, on one device.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SavedPlan {
    /// The version of the engine.
    pub engine: String,
    /// The digest of the model's file.
    pub model: String,
    /// The device's name.
    pub device: String,
    /// Its driver, with its version.
    pub driver: String,
    /// How floats are stored.
    pub precision: Precision,
    /// The passes of the planner that did not run.
    pub disabled_passes: Vec<String>,
    /// The model's inputs and their dimensions.
    pub inputs: Sizes,
    /// The digest of the fused plan, as [`Session::plan_digest`] gives it.
    pub plan: String,
    /// The steps in the order in which they run.
    pub steps: Vec<SavedStep>,
}

/// A step of a saved plan.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SavedStep {
    /// The operator.
    pub op: String,
    /// The model's nodes that it does, the anchor first.
    pub nodes: Vec<String>,
    /// `device`, `cpu`, or `view` where there is nothing to do.
    pub place: String,
    /// Of a step on the device: its kernels. Another of the kernels that can do the step may be written here.
    pub kernels: Vec<String>,
}

impl SavedStep {
    fn of(step: &PlacedStep) -> SavedStep {
        let (place, kernels): (_, &[&str]) = match &step.place {
            Place::Device { kernels } => ("device", kernels),
            Place::Cpu { .. } => ("cpu", &[]),
            Place::View => ("view", &[]),
        };
        SavedStep {
            op: step.op.to_owned(),
            nodes: step.nodes.iter().map(|node| node.to_string()).collect(),
            place: place.to_owned(),
            kernels: kernels.iter().map(|kernel| (*kernel).to_owned()).collect(),
        }
    }
}

fn other(what: &str, saved: &str, here: &str) -> Error {
    refused(format!("it was saved for another {what}: {saved}, here it is {here}"))
}

fn refused(what: impl Into<String>) -> Error {
    Error::Plan { what: what.into() }
}

impl SavedPlan {
    /// What was decided for a session.
    pub(crate) fn of(session: &Session) -> Result<SavedPlan> {
        Ok(SavedPlan { model: session.hooks().model.digest().to_string(), ..SavedPlan::decided(session)? })
    }

    /// The same without the model's digest, for which all of the file would be read.
    fn decided(session: &Session) -> Result<SavedPlan> {
        let (plan, inputs) = session.whole_plan().ok_or_else(|| {
            refused("the model is not planned in one piece: sizes of inputs are open, or depend on data")
        })?;
        let info = session.device().info();
        Ok(SavedPlan {
            engine: env!("CARGO_PKG_VERSION").to_owned(),
            model: String::new(),
            device: info.name.clone(),
            driver: info.driver.clone(),
            precision: session.precision(),
            disabled_passes: session.disabled_passes().to_vec(),
            inputs,
            plan: plan.to_string(),
            steps: session.placement().steps.iter().map(SavedStep::of).collect(),
        })
    }

    /// What the steps choose.
    pub(crate) fn choices(&self) -> Choices {
        Choices::new(self.steps.iter().map(|step| (step.op.as_str(), &*step.nodes, &*step.kernels)))
    }

    /// Whether it was saved by this engine and for this device.
    ///
    /// # Errors
    /// [`Error::Plan`] when not.
    pub(crate) fn check_origin(&self, device: &Device) -> Result<()> {
        let info = device.info();
        let facts = [
            ("engine", &*self.engine, env!("CARGO_PKG_VERSION")),
            ("device", &self.device, &info.name),
            ("driver", &self.driver, &info.driver),
        ];
        match facts.iter().find(|(_, saved, here)| saved != here) {
            None => Ok(()),
            Some((what, saved, here)) => Err(other(what, saved, here)),
        }
    }

    /// Whether a session is what was saved. Weights may be others, if nothing was decided by them.
    ///
    /// # Errors
    /// [`Error::Plan`] with the first difference.
    pub(crate) fn check(&self, session: &Session) -> Result<()> {
        let made = &SavedPlan { model: self.model.clone(), ..SavedPlan::decided(session)? };
        if self.plan != made.plan {
            return Err(other("fused plan", &self.plan, &made.plan));
        }
        let mut steps = self.steps.iter().zip(&made.steps);
        if let Some((saved, made)) = steps.find(|(saved, made)| saved != made) {
            let show = |step: &SavedStep| {
                let node = step.nodes.first().map_or("", String::as_str);
                format!("{} of node \"{node}\" on {} by {:?}", step.op, step.place, step.kernels)
            };
            return Err(refused(format!("it says {}, possible is {}", show(saved), show(made))));
        }
        match self == made {
            true => Ok(()),
            false => Err(refused("steps, inputs or settings are others than those saved")),
        }
    }

    /// The plan as the text of a JSON document.
    pub fn to_json(&self) -> String {
        let step = |step: &SavedStep| json!({"op": step.op, "nodes": step.nodes, "place": step.place, "kernels": step.kernels});
        let input = |(name, dims): &(String, Vec<usize>)| json!({"name": name, "dims": dims});
        let document = json!({
            "schema": SCHEMA,
            "engine": self.engine,
            "model": self.model,
            "device": {"name": self.device, "driver": self.driver},
            "precision": self.precision.name(),
            "disabled_passes": self.disabled_passes,
            "inputs": self.inputs.iter().map(input).collect::<Vec<_>>(),
            "plan": self.plan,
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
        });
        format!("{document:#}\n")
    }

    /// Reads the text of such a document.
    ///
    /// # Errors
    /// [`Error::Plan`] when it is none.
    pub fn from_json(text: &str) -> Result<SavedPlan> {
        let document: Value = serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
        if document["schema"] != SCHEMA {
            return Err(refused(format!("it has not the schema {SCHEMA}")));
        }
        let wrong = |what: &str| refused(format!("\"{what}\" is missing, or of the wrong type"));
        let text = |value: &Value, what: &str| value.as_str().map(str::to_owned).ok_or_else(|| wrong(what));
        let list = |value: &Value, what: &str| value.as_array().cloned().ok_or_else(|| wrong(what));
        let texts = |value: &Value, what: &str| -> Result<Vec<String>> {
            list(value, what)?.iter().map(|one| text(one, what)).collect()
        };
        let size = |value: &Value| value.as_u64().and_then(|size| usize::try_from(size).ok());
        let input = |value: &Value| -> Result<(String, Vec<usize>)> {
            let dims = list(&value["dims"], "dims")?.iter().map(size).collect::<Option<_>>();
            Ok((text(&value["name"], "name")?, dims.ok_or_else(|| wrong("dims"))?))
        };
        let step = |value: &Value| -> Result<SavedStep> {
            Ok(SavedStep {
                op: text(&value["op"], "op")?,
                nodes: texts(&value["nodes"], "nodes")?,
                place: text(&value["place"], "place")?,
                kernels: texts(&value["kernels"], "kernels")?,
            })
        };
        let precision = document["precision"].as_str().and_then(Precision::named);
        Ok(SavedPlan {
            engine: text(&document["engine"], "engine")?,
            model: text(&document["model"], "model")?,
            device: text(&document["device"]["name"], "device.name")?,
            driver: text(&document["device"]["driver"], "device.driver")?,
            precision: precision.ok_or_else(|| wrong("precision"))?,
            disabled_passes: texts(&document["disabled_passes"], "disabled_passes")?,
            inputs: list(&document["inputs"], "inputs")?.iter().map(input).collect::<Result<_>>()?,
            plan: text(&document["plan"], "plan")?,
            steps: list(&document["steps"], "steps")?.iter().map(step).collect::<Result<_>>()?,
        })
    }
}
