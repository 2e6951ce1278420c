//! Quantized models of one float model, with one node or another left in float.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use sardonyx::quantize::{
    self, AllMoments, BlockOptions, Draft, DynamicOptions, Excluded, Method, Range, StaticOptions,
    StaticPlan, Summary,
};
use sardonyx_importer::ImportError;

use super::{Activations, Args, Scheme, Symmetric, Written, calibrate, excluded, nothing, write_files};
use crate::bind::{self, Opened};
use crate::failure::{Failure, Fault};
use crate::input::Given;
use crate::output::Console;

/// Makes them.
pub struct Maker<'a> {
    arguments: &'a Args,
    /// The float model.
    pub opened: &'a Opened,
    draft: Draft,
    /// What stays in float in any case.
    pub excluded: Excluded,
    /// The inputs of --calib.
    pub samples: Vec<Vec<Given>>,
    moments: AllMoments,
    /// Ranges of activations that were measured so far.
    ranges: RefCell<HashMap<Arc<str>, Range>>,
}

/// A quantized model.
pub struct Made {
    pub draft: Draft,
    pub summary: Summary,
}

impl<'a> Maker<'a> {
    /// Opens the float model, and measures what --compensate needs.
    ///
    /// # Errors
    /// When the model does not run, or has no such nodes as are excluded.
    pub fn new(
        arguments: &'a Args,
        opened: &'a Opened,
        samples: Vec<Vec<Given>>,
        console: &Console,
    ) -> Result<Maker<'a>, Failure> {
        let draft = Draft::open(&arguments.model).map_err(|error| refused(arguments, error))?;
        let excluded = excluded(&draft, &arguments.exclude)?;
        let moments = match arguments.compensate {
            true => {
                let wanted = quantize::inputs_of_products(&draft, &excluded);
                calibrate::moments(&wanted, opened, &samples, console)?
            }
            false => AllMoments::new(),
        };
        Ok(Maker { arguments, opened, draft, excluded, samples, moments, ranges: RefCell::default() })
    }

    /// Bytes of the float model.
    pub fn before(&self) -> u64 {
        self.draft.loaded_bytes()
    }

    /// The model with these nodes in float.
    ///
    /// # Errors
    /// When nothing is left to quantize, or the model does not run.
    pub fn make(&self, excluded: &Excluded, console: &Console) -> Result<Made, Failure> {
        let arguments = self.arguments;
        let refused = |error: ImportError| refused(arguments, error);
        let mut draft = self.draft.clone();
        let working = console.progress(None, "quantizing");
        let summary = match arguments.scheme {
            Scheme::Int4Weights | Scheme::Int8Weights => {
                let options = BlockOptions {
                    bits: if arguments.scheme == Scheme::Int4Weights { 4 } else { 8 },
                    block: arguments.block.unwrap_or(32),
                    symmetric: arguments.symmetric != Some(Symmetric::None),
                };
                quantize::weights_only(&mut draft, &options, &self.moments, excluded)
            }
            Scheme::Int8Dynamic => {
                let options = DynamicOptions { per_channel: arguments.per_channel.unwrap_or(true) };
                quantize::dynamic_int8(&mut draft, &options, excluded)
            }
            Scheme::F16 => quantize::to_f16(&mut draft, excluded),
            Scheme::Int8Static => {
                let options = StaticOptions {
                    per_channel: arguments.per_channel.unwrap_or(true),
                    signed_activations: arguments.activations == Some(Activations::S8),
                };
                let plan = StaticPlan::new(draft.clone(), &options, excluded).map_err(refused)?;
                self.measure(&plan, console)?;
                plan.apply(&self.ranges.borrow()).map(|(quantized, summary)| {
                    draft = quantized;
                    summary
                })
            }
        }
        .map_err(refused)?;
        drop(working);
        if summary.layers.is_empty() {
            let message = format!("--scheme {} finds nothing to quantize", arguments.scheme.name());
            return Err(Failure::new(Fault::Usage, message).why(nothing(arguments.scheme)));
        }
        Ok(Made { draft, summary })
    }

    /// Measures the ranges that a plan wants and no other wanted before.
    fn measure(&self, plan: &StaticPlan, console: &Console) -> Result<(), Failure> {
        let mut wanted = plan.measured();
        wanted.retain(|name| !self.ranges.borrow().contains_key(name));
        if !wanted.is_empty() {
            let method = self.arguments.calibration.method.unwrap_or(Method::MinMax);
            let ranges = calibrate::ranges(&wanted, self.opened, &self.samples, method, console)?;
            self.ranges.borrow_mut().extend(ranges);
        }
        Ok(())
    }

    /// Writes a model; gives its bytes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, draft: &Draft, path: &Path, console: &Console) -> Result<u64, Failure> {
        let _writing = console.progress(None, "writing the model");
        write_files(draft, path).map_err(|error| match error {
            Written::Model(error) => refused(self.arguments, error),
            Written::File(failure) => failure,
        })
    }
}

fn refused(arguments: &Args, error: ImportError) -> Failure {
    bind::failure(&sardonyx::Error::from(error), &arguments.model)
}
