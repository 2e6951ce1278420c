//! A smaller model that is still wrong.

use std::collections::HashMap;
use std::path::Path;

use sardonyx::{Device, Model, Session, Tap, Tensor};
use sardonyx_importer::onnx::subset::{Border, Part, part};
use sardonyx_importer::passes;

use super::metrics::Metrics;
use super::{Judge, reference};
use crate::bind::{self, Opened};
use crate::cli::Settings;
use crate::failure::Failure;
use crate::formats::npz;
use crate::output::atomic;
use sardonyx::Fallback;

/// Runs parts of a model by themselves.
pub struct Parts<'a> {
    /// The model.
    pub opened: &'a Opened,
    /// The device under test.
    pub device: &'a Device,
    /// How to run there.
    pub settings: &'a Settings,
    /// What is right.
    pub judge: &'a Judge,
}

/// A part with its inputs, and how far its outputs are off.
pub struct Tried {
    /// The part.
    pub part: Part,
    /// Its inputs.
    pub inputs: Vec<(String, Tensor)>,
    /// The worst of its outputs.
    pub worst: Metrics,
    /// It is wrong.
    pub fails: bool,
}

fn border(name: &str, tensor: &Tensor) -> Border {
    Border { name: name.to_owned(), dtype: tensor.dtype(), dims: tensor.dims().to_vec() }
}

impl Parts<'_> {
    fn constant(&self, name: &str) -> Option<Tensor> {
        let graph = self.opened.model.graph();
        let found = graph.constants.iter().find(|(id, _)| graph.name(**id) == name);
        found.map(|(_, tensor)| tensor.clone())
    }

    /// The part of the model between `cuts` and `outputs`, all with their right values.
    fn part(
        &self,
        outputs: &[(&str, &Tensor)],
        cuts: &HashMap<String, Tensor>,
    ) -> Result<Option<Part>, Failure> {
        let outputs: Vec<Border> = outputs.iter().map(|(name, tensor)| border(name, tensor)).collect();
        let cuts: Vec<Border> = cuts.iter().map(|(name, tensor)| border(name, tensor)).collect();
        part(self.opened.model.bytes(), &outputs, &cuts, &|name| self.constant(name))
            .map_err(|error| self.opened.failure(&error.into()))
    }

    /// Makes a part and runs it on the device with right inputs. `None` when it cannot be cut out, or does not run
    /// alone.
    ///
    /// # Errors
    /// When the model cannot be read.
    pub fn isolate(
        &self,
        outputs: &[(&str, &Tensor)],
        cuts: &HashMap<String, Tensor>,
    ) -> Result<Option<Tried>, Failure> {
        let Some(part) = self.part(outputs, cuts)? else { return Ok(None) };
        let inputs: Vec<(String, Tensor)> =
            part.inputs.iter().filter_map(|name| Some((name.clone(), cuts.get(name)?.clone()))).collect();
        let Some(got) = self.run(&part, &inputs) else { return Ok(None) };
        let mut worst: Option<Metrics> = None;
        let mut fails = false;
        for (name, want) in outputs {
            let Some((_, got)) = got.iter().find(|(other, _)| other == name) else { continue };
            let metrics = self.judge.measure(name, got, want);
            fails |= !self.judge.passes(&metrics);
            if worst.as_ref().is_none_or(|worst| metrics.relative() > worst.relative()) {
                worst = Some(metrics);
            }
        }
        Ok(worst.map(|worst| Tried { part, inputs, worst, fails }))
    }

    fn run(&self, part: &Part, inputs: &[(String, Tensor)]) -> Option<Vec<(String, Tensor)>> {
        let model = Model::from_bytes(part.bytes.clone()).ok()?;
        let session = bind::builder(self.device, self.settings, Fallback::Allow).build(&model).ok()?;
        let named: Vec<(&str, &Tensor)> =
            inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let outputs = session.run(named).ok()?;
        Some(outputs.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect())
    }

    /// The smallest part around a wrong step that is wrong by itself: single nodes first, then more together.
    ///
    /// # Errors
    /// When the model cannot be read.
    pub fn smallest(&self, whole: &Tried, names: &[&str]) -> Result<Option<Tried>, Failure> {
        let Some(taps) = self.unfused(whole)? else { return Ok(None) };
        let wanted = |tap: &Tap| tap.values.iter().any(|value| names.contains(&&*value.name));
        if !taps.iter().any(wanted) {
            return Ok(None);
        }
        for length in 1..taps.len() {
            for window in 0..=taps.len() - length {
                let mut known: HashMap<String, Tensor> = whole.inputs.iter().cloned().collect();
                for value in taps[..window].iter().flat_map(|tap| &tap.values) {
                    known.insert(value.name.to_string(), value.tensor.clone());
                }
                let last = &taps[window + length - 1];
                let outputs: Vec<(&str, &Tensor)> =
                    last.values.iter().map(|value| (&*value.name, &value.tensor)).collect();
                if let Some(tried) = self.isolate(&outputs, &known)?
                    && tried.fails
                    && tried.part.nodes < whole.part.nodes
                {
                    return Ok(Some(tried));
                }
            }
        }
        Ok(None)
    }

    /// The right results of every node of a part: nothing is fused, and all runs on the CPU.
    fn unfused(&self, whole: &Tried) -> Result<Option<Vec<Tap>>, Failure> {
        let Ok(model) = Model::from_bytes(whole.part.bytes.clone()) else { return Ok(None) };
        let mut builder = Session::builder().device(Device::cpu()).taps();
        for pass in passes::names() {
            builder = builder.disable_pass(pass);
        }
        let session = builder.build(&model).map_err(|error| self.opened.failure(&error))?;
        let named: Vec<(&str, &Tensor)> =
            whole.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let run = session.run_tapped(named).map_err(|error| self.opened.failure(&error))?;
        Ok(Some(run.1))
    }
}

impl Tried {
    /// Writes the part, and beside it its inputs as `.npz`; gives the path of those.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, path: &Path) -> Result<std::path::PathBuf, Failure> {
        atomic::write(path, &self.part.bytes)?;
        let beside = path.with_extension("npz");
        let named = self.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor));
        atomic::write(&beside, &npz::write(named)?)?;
        Ok(beside)
    }
}

/// The right values of what a step reads and gives; `None` when one is not known.
pub fn right<'v>(tap: &Tap, values: &'v reference::Values) -> Option<Vec<(&'v str, &'v Tensor)>> {
    tap.values
        .iter()
        .map(|value| values.all.get_key_value(&*value.name).map(|(n, t)| (n.as_str(), t)))
        .collect()
}
