//! What a run tells about itself while it runs. A plain run only adds up its stages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::span::EnteredSpan;

use super::probes::{Mark, Probes};
use super::{Clock, HostStage, ProfiledRun, ProfiledStep, StageSpan, StepSpan};
use crate::device::{Device, Gpu};
use crate::error::Result;
use crate::program::WAIT_LIMIT;
use crate::taps::Tap;
use crate::values::Times;

/// A stage that has begun, and its span.
pub(crate) struct Begun {
    stage: HostStage,
    pub(crate) start: Instant,
    _span: EnteredSpan,
}

impl HostStage {
    /// The stage begins now.
    pub(crate) fn begin(self) -> Begun {
        let span = tracing::debug_span!("stage", name = self.name()).entered();
        Begun { stage: self, start: Instant::now(), _span: span }
    }
}

/// Takes the times of a run.
#[derive(Default)]
pub(crate) struct Recorder<'p> {
    pub(crate) times: Times,
    /// Parts of the model that were planned for the run.
    pub(crate) planned: usize,
    /// What steps gave, when a session keeps it.
    pub(crate) taps: Vec<Tap>,
    profiler: Option<&'p mut Profiler>,
}

impl<'p> Recorder<'p> {
    /// A recorder that also takes the times of steps.
    pub(crate) fn profiling(profiler: &'p mut Profiler) -> Recorder<'p> {
        Recorder { profiler: Some(profiler), ..Recorder::default() }
    }

    /// The run begins.
    pub(crate) fn begin(&mut self, at: Instant) {
        if let Some(profiler) = &mut self.profiler {
            profiler.begin(at);
        }
    }

    /// Another part of the model begins, with steps counted from 0 again.
    pub(crate) fn next_part(&mut self) {
        if let Some(profiler) = &mut self.profiler {
            profiler.part += 1;
        }
    }

    /// A stage ends now.
    pub(crate) fn end(&mut self, begun: Begun) {
        let Begun { stage, start, .. } = begun;
        let elapsed = start.elapsed();
        match stage {
            HostStage::Upload => self.times.upload += elapsed,
            HostStage::Encode | HostStage::Wait => self.times.compute += elapsed,
            HostStage::ReadBack => self.times.read += elapsed,
            HostStage::Steps => self.times.host += elapsed,
            HostStage::Other => {}
        }
        if let Some(profiler) = &mut self.profiler {
            let start = start.saturating_duration_since(profiler.origin);
            profiler.stages.push(StageSpan { stage, start, duration: elapsed });
        }
    }

    /// The time now, when steps are timed.
    pub(crate) fn step_begins(&self) -> Option<Instant> {
        self.profiler.as_ref().map(|_| Instant::now())
    }

    /// A step on the CPU has run since `begun`.
    pub(crate) fn step_ends(&mut self, step: usize, begun: Option<Instant>) {
        if let (Some(profiler), Some(begun)) = (&mut self.profiler, begun) {
            let duration = begun.elapsed();
            profiler.push(Mark { part: profiler.part, step, kernel: 0 }, begun, duration);
        }
    }

    /// What times launches on the device, when steps are timed.
    pub(crate) fn profiler(&mut self) -> Option<&mut Profiler> {
        self.profiler.as_deref_mut()
    }
}

/// Takes the times of the steps of one run after the other.
pub(crate) struct Profiler {
    origin: Instant,
    part: usize,
    stages: Vec<StageSpan>,
    /// Steps timed on the host's clock.
    spans: Vec<(Mark, Duration, Duration)>,
    timer: Timer,
}

enum Timer {
    /// There is no device.
    Host,
    Probes(Box<Probes>),
    /// Every launch is a submission of its own; an empty one takes so long.
    Submissions(Duration),
}

impl Profiler {
    /// Makes ready for a device.
    pub(crate) fn new(device: &Device) -> Result<Profiler> {
        let timer = match device.gpu() {
            None => Timer::Host,
            Some(gpu) => match Probes::new(gpu) {
                Some(probes) => Timer::Probes(Box::new(probes)),
                None => Timer::Submissions(empty_submission(gpu)?),
            },
        };
        Ok(Profiler { origin: Instant::now(), part: 0, stages: Vec::new(), spans: Vec::new(), timer })
    }

    pub(crate) fn clock(&self) -> Clock {
        match &self.timer {
            Timer::Host => Clock::Host,
            Timer::Probes(probes) if probes.inside_passes() => Clock::InsidePasses,
            Timer::Probes(_) => Clock::Passes,
            Timer::Submissions(error) => Clock::Submissions { error: *error },
        }
    }

    pub(crate) fn part(&self) -> usize {
        self.part
    }

    /// The device's own timestamps, where it has them.
    pub(crate) fn probes(&mut self) -> Option<&mut Probes> {
        match &mut self.timer {
            Timer::Probes(probes) => Some(probes),
            _ => None,
        }
    }

    /// A launch that was a submission of its own has been waited for since `begun`.
    pub(crate) fn submission(&mut self, mark: Mark, begun: Instant) {
        let Timer::Submissions(empty) = self.timer else { return };
        let duration = begun.elapsed().saturating_sub(empty);
        self.push(mark, begun, duration);
    }

    fn push(&mut self, mark: Mark, begun: Instant, duration: Duration) {
        self.spans.push((mark, begun.saturating_duration_since(self.origin), duration));
    }

    fn begin(&mut self, at: Instant) {
        self.origin = at;
        self.part = 0;
        self.stages.clear();
        self.spans.clear();
        if let Timer::Probes(probes) = &mut self.timer {
            probes.clear();
        }
    }

    /// Ends a run: reads the device's timestamps. `firsts` is the first step of each part.
    pub(crate) fn finish(
        &mut self,
        device: &Device,
        total: Duration,
        steps: Arc<[ProfiledStep]>,
        firsts: &[usize],
    ) -> Result<ProfiledRun> {
        let mut alignment = Duration::ZERO;
        if let (Timer::Probes(probes), Some(gpu)) = (&mut self.timer, device.gpu()) {
            let read = probes.read(gpu, self.origin)?;
            alignment = read.alignment;
            self.spans.extend(read.spans);
        }
        let mut spans: Vec<StepSpan> = self
            .spans
            .iter()
            .filter_map(|&(mark, start, duration)| {
                let step = firsts.get(mark.part)? + mark.step;
                steps.get(step)?;
                Some(StepSpan { step, kernel: mark.kernel, start, duration })
            })
            .collect();
        spans.sort_by_key(|span| span.start);
        Ok(ProfiledRun { total, steps, spans, stages: self.stages.clone(), alignment })
    }
}

/// What a submission of nothing takes, with the wait for it: the median of some.
fn empty_submission(gpu: &Gpu) -> Result<Duration> {
    const TIMES: usize = 21;
    let mut taken = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let start = Instant::now();
        let encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        let submission = gpu.queue().submit([encoder.finish()]);
        gpu.wait(Some(submission), WAIT_LIMIT)?;
        taken.push(start.elapsed());
    }
    taken.sort_unstable();
    Ok(taken[TIMES / 2])
}
