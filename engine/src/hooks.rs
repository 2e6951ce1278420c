//! What a session tells while it works: events to its observers, spans to the subscriber of the process.

use rayon::ThreadPool;
use tracing::{Span, field};

use crate::device::Device;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::observer::{About, Event, Observers};
use crate::profile::Recorder;

/// Whom a session tells, and what about.
#[derive(Clone)]
pub(crate) struct Hooks {
    pub(crate) observers: Observers,
    pub(crate) model: Model,
    pub(crate) device: Device,
}

impl Hooks {
    /// What an event about this plan is about.
    pub(crate) fn about(&self, plan: Option<Digest>) -> About<'_> {
        About { device: &self.device.info().id, model: &self.model, plan }
    }

    /// Tells that something ended with an error.
    pub(crate) fn failed(&self, error: &Error) {
        self.observers.tell(|| (self.about(None), Event::Failed { error }));
    }

    /// Does a run within its span, and tells how it ended. `plan` names what ran.
    pub(crate) fn run<'p, T>(
        &self,
        recorder: &mut Recorder<'p>,
        work: impl FnOnce(&mut Recorder<'p>) -> Result<T>,
        plan: impl Fn(&T) -> Option<Digest>,
    ) -> Result<T> {
        let span = tracing::info_span!(
            "run",
            device = %self.device.info().id,
            model = %self.model.digest(),
            plan = field::Empty,
            error = field::Empty,
        );
        let done = span.in_scope(|| work(recorder));
        match &done {
            Ok(value) => {
                if !span.is_disabled() {
                    span.record("plan", plan(value).map(field::display));
                }
                let (times, planned) = (recorder.times, recorder.planned);
                self.observers.tell(|| (self.about(plan(value)), Event::Ran { times, planned }));
            }
            Err(error) => {
                span.record("error", error.code());
                self.failed(error);
            }
        }
        done
    }
}

/// Does work on the threads of a pool, within the span that it is asked for in.
pub(crate) fn install<T: Send>(pool: &ThreadPool, work: impl FnOnce() -> T + Send) -> T {
    let span = Span::current();
    pool.install(|| span.in_scope(work))
}
