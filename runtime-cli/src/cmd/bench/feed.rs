//! Where the inputs of a measurement come from, and what becomes of its outputs: with `--end-to-end` both are measured.

use std::time::Instant;

use sardonyx::{Outputs, Session, Tensor};

use super::latency::Sample;
use super::options::Args;
use crate::bind::Opened;
use crate::describe;
use crate::failure::{Failure, Fault};
use crate::input::load::{self, Recipes};
use crate::input::request::{self, Sample as Sources};
use crate::input::sizes::Sizes;
use crate::input::{Given, Signature};
use crate::output::Console;
use crate::task::Output;
use crate::task::answer::{Prepared, TaskArgs};

/// What each run takes and gives.
pub struct Feed<'a> {
    /// The inputs, loaded once.
    pub given: Vec<Given>,
    end_to_end: bool,
    sources: Sources,
    signatures: Vec<Signature>,
    recipes: Recipes,
    sizes: Sizes,
    task: &'a TaskArgs,
    prepared: Prepared,
    opened: &'a Opened,
}

impl<'a> Feed<'a> {
    /// Loads the inputs for these sizes, and what the task needs.
    ///
    /// # Errors
    /// When a source cannot be read or does not fit the model, there are several sets of inputs, or a task is given that
    /// nothing measures.
    pub fn new(
        arguments: &'a Args,
        opened: &'a Opened,
        dims: &[(String, usize)],
        console: &Console,
    ) -> Result<Feed<'a>, Failure> {
        let task = &arguments.task;
        task.check()?;
        if task.is_given() && !arguments.end_to_end {
            return Err(Failure::new(Fault::Usage, "--task has no effect without --end-to-end"));
        }
        if task.draws() {
            return Err(Failure::new(
                Fault::Usage,
                "--draw: what is measured is the task, not a picture of it",
            ));
        }
        let signatures = opened.signatures()?;
        let mut samples = request::samples(&arguments.inputs.inputs, &signatures)?;
        let (Some(sources), None) = (samples.pop(), samples.pop()) else {
            let message = "bench measures one set of inputs, and several are given";
            return Err(Failure::new(Fault::Usage, message));
        };
        let recipes = Recipes::new(&arguments.inputs.pre, &signatures)?;
        let mut sizes = arguments.inputs.sizes.clone();
        sizes.dim.extend_from_slice(dims);
        let sizes = opened.sizes(&signatures, &sizes)?;
        let given = load::load(&sources, &signatures, &recipes, sizes.clone(), console)?;
        let (end_to_end, prepared) = (arguments.end_to_end, task.prepare()?);
        Ok(Feed { given, end_to_end, sources, signatures, recipes, sizes, task, prepared, opened })
    }

    /// Runs once, as often as it is called in a measurement.
    ///
    /// # Errors
    /// When the run fails, or, end to end, what is around it.
    pub fn run(&self, session: &Session) -> Result<Sample, Failure> {
        let run = |given: &[Given]| -> Result<Outputs, Failure> {
            let inputs: Vec<(&str, &Tensor)> =
                given.iter().map(|given| (given.name.as_str(), &given.tensor)).collect();
            session.run(inputs).map_err(|error| self.opened.failure(&error))
        };
        let start = Instant::now();
        let mut sample = Sample::default();
        let outputs = if self.end_to_end {
            let console = Console::silent();
            let sizes = self.sizes.clone();
            let given = load::load(&self.sources, &self.signatures, &self.recipes, sizes, &console)?;
            sample.pre = describe::ns(start.elapsed());
            let outputs = run(&given)?;
            let ran = Instant::now();
            let all: Vec<Output> =
                outputs.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
            self.task.answer(&self.prepared, &all, &given, &console)?;
            sample.post = describe::ns(ran.elapsed());
            outputs
        } else {
            run(&self.given)?
        };
        sample.total = describe::ns(start.elapsed());
        let times = outputs.times();
        [sample.upload, sample.compute, sample.read, sample.host] =
            [times.upload, times.compute, times.read, times.host].map(describe::ns);
        Ok(sample)
    }
}
