//! Where the time of runs goes: step by step, on the device's own clock where it has one.

mod probes;
mod recorder;
mod roofs;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use probes::Mark;
pub(crate) use recorder::{Profiler, Recorder};
pub use roofs::Roofs;

use sardonyx_ops::DType;

use crate::error::Result;
use crate::session::{RunOptions, Session};
use crate::stages::Stage;
use crate::values::{Inputs, Times};

/// Profiled runs, each with a plain run before it.
#[derive(Clone, Debug)]
pub struct Profile {
    /// How times on the device were taken.
    pub clock: Clock,
    /// The profiled runs.
    pub runs: Vec<ProfiledRun>,
    /// The totals of the plain runs between the profiled ones: what profiling costs is the difference.
    pub plain: Vec<Duration>,
}

/// How the times of steps were taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Clock {
    /// Everything runs on the host; so does the clock.
    Host,
    /// Timestamps of the device around each launch, within one pass.
    InsidePasses,
    /// Timestamps of the device around passes of one launch each.
    Passes,
    /// The device has no timestamps: each launch is a submission of its own, waited for. The cost of an empty one is
    /// taken off, and is the error.
    Submissions {
        /// What an empty submission takes.
        error: Duration,
    },
}

/// One profiled run. Times of spans count from its start.
#[derive(Clone, Debug)]
pub struct ProfiledRun {
    /// From the call to the outputs in host memory.
    pub total: Duration,
    /// What was done, in the order in which it runs; runs that took the same way share them.
    pub steps: Arc<[ProfiledStep]>,
    /// When steps ran: one span for each step on the CPU, one for each launch on the device.
    pub spans: Vec<StepSpan>,
    /// When the host did what. Gaps between them are [`HostStage::Other`].
    pub stages: Vec<StageSpan>,
    /// How far the places of device spans on the host's clock may be off; their durations are not concerned.
    pub alignment: Duration,
}

/// A step of a profiled run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProfiledStep {
    /// The operator.
    pub op: &'static str,
    /// The model's nodes that the step does, the anchor first.
    pub nodes: Vec<Arc<str>>,
    /// Kernel variants, in order of their launches; on the CPU the one kernel.
    pub kernels: Vec<&'static str>,
    /// It runs on a GPU.
    pub on_device: bool,
    /// Types and dimensions of what it reads.
    pub inputs: Vec<(DType, Vec<usize>)>,
    /// Types and dimensions of what it writes.
    pub outputs: Vec<(DType, Vec<usize>)>,
    /// Operations counted, not measured; a multiply-add counts two. The expression at its end is included.
    pub flops: u64,
    /// Bytes read and written once each.
    pub bytes: u64,
}

/// The parts of a model that a run met, and their steps.
type Way = (Vec<Arc<Stage>>, Arc<[ProfiledStep]>);

/// A step, or one of its launches, in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StepSpan {
    /// Which of [`ProfiledRun::steps`].
    pub step: usize,
    /// Which of the step's kernels.
    pub kernel: usize,
    /// When it began.
    pub start: Duration,
    /// How long it took.
    pub duration: Duration,
}

/// What the host does in a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum HostStage {
    /// Writing values to the device.
    Upload,
    /// Recording and submitting.
    Encode,
    /// Waiting for the device.
    Wait,
    /// Reading results back, and copying them out.
    ReadBack,
    /// Steps on the CPU.
    Steps,
    /// Everything else: checks, planning of sizes that data decides.
    Other,
}

impl HostStage {
    /// All stages, in the order of a run.
    pub const ALL: [HostStage; 6] = [
        HostStage::Upload,
        HostStage::Encode,
        HostStage::Wait,
        HostStage::ReadBack,
        HostStage::Steps,
        HostStage::Other,
    ];

    /// The word for people and documents.
    pub fn name(self) -> &'static str {
        match self {
            HostStage::Upload => "upload",
            HostStage::Encode => "encode",
            HostStage::Wait => "wait",
            HostStage::ReadBack => "read-back",
            HostStage::Steps => "cpu steps",
            HostStage::Other => "other",
        }
    }
}

/// A stage in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StageSpan {
    /// What.
    pub stage: HostStage,
    /// When it began.
    pub start: Duration,
    /// How long it took.
    pub duration: Duration,
}

impl ProfiledRun {
    /// The time of a stage. Those of all stages make up the total.
    pub fn stage(&self, stage: HostStage) -> Duration {
        let named: Duration = self.stages.iter().map(|span| span.duration).sum();
        match stage {
            HostStage::Other => self.total.saturating_sub(named),
            stage => self.stages.iter().filter(|span| span.stage == stage).map(|span| span.duration).sum(),
        }
    }

    /// The time of all launches on the device together.
    pub fn on_device(&self) -> Duration {
        self.spans.iter().filter(|span| self.steps[span.step].on_device).map(|span| span.duration).sum()
    }

    /// The time of all steps on the CPU together.
    pub fn on_cpu(&self) -> Duration {
        self.spans.iter().filter(|span| !self.steps[span.step].on_device).map(|span| span.duration).sum()
    }
}

impl Session {
    /// Runs the model and times every step. A plain run comes first, so that nothing is prepared while timing, and one
    /// before each profiled run, so that the cost of profiling is seen.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn profile<'a>(&self, inputs: impl Into<Inputs<'a>>, runs: usize) -> Result<Profile> {
        let inputs = inputs.into();
        let options = RunOptions::default();
        self.run(inputs.clone())?;
        let mut profiler = Profiler::new(self.device())?;
        let mut profile = Profile { clock: profiler.clock(), runs: Vec::new(), plain: Vec::new() };
        let mut known: Option<Way> = None;
        for _ in 0..runs {
            profile.plain.push(self.run(inputs.clone())?.times().total);
            let mut recorder = Recorder::profiling(&mut profiler);
            let (_, met) = self.perform(inputs.clone(), &options, &mut recorder)?;
            let Times { total, .. } = recorder.times;
            let same = known.as_ref().filter(|(stages, _)| {
                stages.len() == met.len() && stages.iter().zip(&met).all(|(a, b)| Arc::ptr_eq(a, b))
            });
            let steps = match same {
                Some((_, steps)) => Arc::clone(steps),
                None => met.iter().flat_map(|stage| stage.steps()).collect(),
            };
            let firsts = met.iter().scan(0, |next, stage| {
                let first = *next;
                *next += stage.step_count();
                Some(first)
            });
            profile.runs.push(profiler.finish(
                self.device(),
                total,
                Arc::clone(&steps),
                &firsts.collect::<Vec<_>>(),
            )?);
            known = Some((met, steps));
        }
        Ok(profile)
    }
}
