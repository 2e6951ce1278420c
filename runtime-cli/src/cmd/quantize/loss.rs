//! What is lost: the float model against the quantized one on the same inputs, layer by layer.

use std::collections::HashMap;
use std::path::Path;

use sardonyx::Tensor;
use sardonyx::quantize::Summary;

use super::as_written;
use crate::bind::Opened;
use crate::cmd::compare::named;
use crate::failure::Failure;
use crate::input::Given;
use crate::noise::Noise;
use crate::output::Console;

/// The loss of a quantized model.
#[derive(Debug)]
pub struct Loss {
    /// How many sets of inputs were run.
    pub samples: usize,
    /// Of each layer of the summary, in its order.
    pub layers: Vec<Noise>,
    /// Of each output.
    pub outputs: Vec<(String, Noise)>,
}

impl Loss {
    /// Places of the layers in the summary, the one that loses most first; what was not seen is last.
    pub fn worst_first(&self) -> Vec<usize> {
        let kept = |at: usize| self.layers[at].decibels().unwrap_or(f64::INFINITY);
        let mut order: Vec<usize> = (0..self.layers.len()).collect();
        order.sort_by(|&a, &b| kept(a).total_cmp(&kept(b)));
        order
    }
}

/// Runs both models on the inputs; `None` when there are none.
///
/// # Errors
/// When a model does not run.
pub fn measure(
    float: &Opened,
    quantized: &Path,
    summary: &Summary,
    samples: &[Vec<Given>],
    console: &Console,
) -> Result<Option<Loss>, Failure> {
    let Some(first) = samples.first() else { return Ok(None) };
    let quantized = Opened::open(quantized, console)?;
    let sessions = (as_written(float, first, console)?, as_written(&quantized, first, console)?);
    let mut layers = vec![Noise::default(); summary.layers.len()];
    let mut outputs: Vec<(String, Noise)> =
        float.model.outputs().iter().map(|spec| (spec.name.to_string(), Noise::default())).collect();
    let compared = console.progress(samples.len() as u64, "inputs compared");
    for given in samples {
        let (a, taps) = sessions.0.run_tapped(named(given)).map_err(|error| float.failure(&error))?;
        let (b, other) = sessions.1.run_tapped(named(given)).map_err(|error| quantized.failure(&error))?;
        let (taps, other) = (by_name(&taps), by_name(&other));
        for (layer, noise) in summary.layers.iter().zip(&mut layers) {
            let a = taps
                .get(&*layer.float)
                .copied()
                .or_else(|| a.iter().find(|(n, _)| *n == &*layer.float).map(|(_, t)| t));
            let b = other
                .get(&*layer.quantized)
                .copied()
                .or_else(|| b.iter().find(|(n, _)| *n == &*layer.quantized).map(|(_, t)| t));
            if let (Some(a), Some(b)) = (a, b) {
                noise.add(a, b);
            }
        }
        for ((_, noise), ((_, a), (_, b))) in outputs.iter_mut().zip(a.iter().zip(b.iter())) {
            noise.add(a, b);
        }
        compared.advance();
    }
    Ok(Some(Loss { samples: samples.len(), layers, outputs }))
}

/// Results of steps by their names in the model.
pub fn by_name(taps: &[sardonyx::Tap]) -> HashMap<&str, &Tensor> {
    taps.iter().flat_map(|tap| &tap.values).map(|value| (&*value.name, &value.tensor)).collect()
}
