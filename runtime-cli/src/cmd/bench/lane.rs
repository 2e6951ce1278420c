//! One device of a measurement: its session, its warm-up, its samples.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use sardonyx::{Device, Fallback, Session};
use serde_json::json;

use super::Warmup;
use super::feed::Feed;
use super::latency::{Sample, nearest_rank};
use super::measured::{Cold, Measured};
use super::options::Include;
use crate::bind::{self, Opened};
use crate::cache::{Cache, Watch};
use crate::cli::{PlanArgs, Settings};
use crate::describe;
use crate::environment::{self, Condition};
use crate::failure::Failure;
use crate::output::Console;
use crate::yardstick::{Reading, Yardstick};

/// The most time of a warm-up whose drift does not end.
const LONGEST_WARMUP: Duration = Duration::from_secs(10);
/// Windows of a warm-up are at least so long, and hold at least so many runs.
const WINDOW: (Duration, usize) = (Duration::from_millis(100), 5);
/// The drift has ended when two windows in a row differ by less than this part from the one before.
const DRIFT: f64 = 0.01;

/// What is measured.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The device.
    pub device: &'a str,
    /// The model.
    pub opened: &'a Opened,
    /// How it runs.
    pub settings: &'a Settings,
    /// Its plan, where it is given.
    pub plan: &'a PlanArgs,
    /// What differs from the first; `None` for that itself.
    pub include: Option<&'a Include>,
}

/// A device under measurement.
pub struct Lane<'a> {
    /// The device.
    pub device: Device,
    /// The session.
    pub session: Session,
    /// The measured runs.
    pub samples: Vec<Sample>,
    /// Runs that ended with an error while others were measured.
    errors: u64,
    /// Time of the measured runs; of those at the same time, once.
    pub measured: Duration,
    conditions: Vec<Condition>,
    /// How fast the machine was around each turn.
    machine: Vec<Reading>,
    /// Microjoules taken while measuring, by everything on the machine.
    energy: Option<u64>,
    subject: Subject<'a>,
    feed: &'a Feed<'a>,
    plan: Duration,
    watch: Watch,
    first: Duration,
    first_sample: Sample,
    warmup_runs: usize,
}

impl<'a> Lane<'a> {
    /// Opens the device, builds the session and runs once, each timed.
    ///
    /// # Errors
    /// When the device cannot be opened, or the model cannot run there; fallbacks are denied unless allowed.
    pub fn open(
        subject: Subject<'a>,
        feed: &'a Feed<'a>,
        console: &Console,
        cache: &Cache,
    ) -> Result<Lane<'a>, Failure> {
        let device = bind::open_as_set(subject.device, subject.settings)?;
        let starting = console.progress(None, "planning, compiling, and the first run");
        let start = Instant::now();
        let mut builder = bind::planned_builder(&device, subject.settings, subject.plan, Fallback::Deny)?;
        for given in &feed.given {
            builder = builder.shape(&given.name, given.tensor.dims());
        }
        let (builder, watch) = cache.give(builder);
        let opened = subject.opened;
        let session = builder.build(&opened.model).map_err(|error| opened.failure(&error))?;
        let plan = start.elapsed();
        let mut lane = Lane {
            device,
            session,
            samples: Vec::new(),
            errors: 0,
            measured: Duration::ZERO,
            conditions: Vec::new(),
            machine: Vec::new(),
            energy: None,
            subject,
            feed,
            plan,
            watch,
            first: Duration::ZERO,
            first_sample: Sample::default(),
            warmup_runs: 0,
        };
        let start = Instant::now();
        lane.first_sample = lane.run()?;
        lane.first = start.elapsed();
        drop(starting);
        describe::warn_of_fallbacks(&lane.session.placement(), console);
        lane.watch.warn(console);
        Ok(lane)
    }

    fn run(&self) -> Result<Sample, Failure> {
        self.feed.run(&self.session)
    }

    /// Runs without measuring.
    ///
    /// # Errors
    /// When a run fails.
    pub fn warm_up(&mut self, warmup: Warmup, console: &Console) -> Result<(), Failure> {
        let _progress = console.progress(None, "warming up");
        let start = Instant::now();
        match warmup {
            Warmup::Runs(runs) => {
                for _ in 0..runs {
                    self.run()?;
                }
                self.warmup_runs = runs;
            }
            Warmup::Time(time) => {
                while start.elapsed() < time {
                    self.run()?;
                    self.warmup_runs += 1;
                }
            }
            Warmup::Auto => {
                let (mut before, mut steady) = (self.window()?, 0);
                while steady < 2 {
                    if start.elapsed() > LONGEST_WARMUP {
                        let id = &self.device.info().id;
                        console.warn(format!("{id}: the drift did not end within the longest warm-up"));
                        break;
                    }
                    let now = self.window()?;
                    let drift = (now as f64 - before as f64).abs() / before.max(1) as f64;
                    steady = if drift < DRIFT { steady + 1 } else { 0 };
                    before = now;
                }
            }
        }
        Ok(())
    }

    /// The median of a window of runs.
    fn window(&mut self) -> Result<u64, Failure> {
        let start = Instant::now();
        let mut totals = Vec::new();
        while start.elapsed() < WINDOW.0 || totals.len() < WINDOW.1 {
            totals.push(self.run()?.total);
        }
        self.warmup_runs += totals.len();
        totals.sort_unstable();
        Ok(nearest_rank(&totals, 50.0))
    }

    /// Measures runs for so long, at least one of each caller, and the machine before and after them. `origin` is when the
    /// measurement began.
    ///
    /// # Errors
    /// When a run fails.
    pub fn turn(
        &mut self,
        time: Duration,
        pace: Pace,
        origin: Instant,
        yardstick: &mut Yardstick,
    ) -> Result<(), Failure> {
        let before = self.samples.len();
        self.machine.push(yardstick.read());
        self.conditions.push(Condition::now(describe::ns(origin.elapsed())));
        let (start, energy) = (Instant::now(), environment::energy());
        if pace.callers > 1 {
            self.together(time, pace.callers, origin)?;
        } else {
            self.alone(time, pace.interval, origin)?;
        }
        self.measured += start.elapsed();
        self.machine.push(yardstick.read());
        let turn = self.conditions.len() as u64 - 1;
        self.samples.iter_mut().skip(before).for_each(|sample| sample.turn = turn);
        // A counter that has begun anew says nothing about this turn.
        if let (Some(before), Some(after)) =
            (energy, environment::energy().filter(|now| Some(*now) >= energy))
        {
            *self.energy.get_or_insert(0) += after - before;
        }
        Ok(())
    }

    fn alone(&mut self, time: Duration, interval: Option<Duration>, origin: Instant) -> Result<(), Failure> {
        let start = Instant::now();
        let mut due = start;
        loop {
            if interval.is_some() {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            let at = if interval.is_some() { due } else { Instant::now() };
            let mut sample = match self.run() {
                Ok(sample) => sample,
                // When more fail than not, there is nothing to measure.
                Err(failure) if self.errors >= self.samples.len() as u64 => return Err(failure),
                Err(_) => {
                    self.errors += 1;
                    continue;
                }
            };
            sample.at = describe::ns(at.saturating_duration_since(origin));
            if let Some(interval) = interval {
                // A run that begins late has kept its caller waiting: that counts.
                sample.total = describe::ns(at.elapsed());
                due += interval;
            }
            self.samples.push(sample);
            if start.elapsed() >= time {
                return Ok(());
            }
        }
    }

    fn together(&mut self, time: Duration, callers: usize, origin: Instant) -> Result<(), Failure> {
        let start = Instant::now();
        let all: Mutex<(Vec<Sample>, u64)> = Mutex::default();
        let lane: &Lane<'_> = self;
        let results: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
            let call = || {
                let (mut own, mut errors) = (Vec::new(), 0);
                while own.is_empty() || start.elapsed() < time {
                    let at = describe::ns(origin.elapsed());
                    match lane.run() {
                        Ok(sample) => own.push(Sample { at, ..sample }),
                        Err(failure) if errors >= own.len() as u64 => return Err(failure),
                        Err(_) => errors += 1,
                    }
                }
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.0.extend(own);
                all.1 += errors;
                Ok(())
            };
            let handles: Vec<_> = (0..callers).map(|_| scope.spawn(call)).collect();
            let defect = || Failure::new(crate::failure::Fault::Defect, "a caller's thread panicked");
            handles.into_iter().map(|handle| handle.join().unwrap_or_else(|_| Err(defect()))).collect()
        });
        results.into_iter().collect::<Result<(), Failure>>()?;
        let (mut samples, errors) = all.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.samples.append(&mut samples);
        self.errors += errors;
        Ok(())
    }

    /// What the first run alone says.
    pub fn finish_cold(mut self) -> Measured {
        self.samples = vec![self.first_sample];
        self.measured = self.first;
        self.finish(environment::peak_resident_bytes())
    }

    /// What was measured, with so large a resident set at most.
    pub fn finish(self, peak: Option<u64>) -> Measured {
        let (opened, include) = (self.subject.opened, self.subject.include);
        let digest = opened.digest();
        let placement = self.session.placement();
        let memory = self.session.memory();
        let compiled = self.watch.compiled();
        Measured {
            headline: describe::headline(opened, &digest, &self.device, &placement),
            include: include.map(Include::to_text).unwrap_or_default(),
            model: describe::model(opened, &digest),
            device: describe::device(&self.device, self.subject.settings.precision),
            plan: describe::plan(&placement, self.session.plan_digest()),
            memory: json!({"device_peak": memory.device(), "weights": memory.device_weights,
                           "activations": memory.device_activations, "staging": memory.device_staging,
                           "host_activations": memory.host_activations, "host_scratch": memory.host_scratch}),
            samples: self.samples,
            errors: self.errors,
            cold: vec![Cold {
                load: describe::ns(opened.load),
                plan: describe::ns(self.plan),
                shaders: describe::ns(compiled.shaders),
                first: describe::ns(self.first),
            }],
            cache: json!(compiled.cache),
            warmup_runs: self.warmup_runs as u64,
            wall_ns: describe::ns(self.measured),
            peak,
            conditions: self.conditions,
            machine: vec![Reading::median(&self.machine)],
            energy: self.energy,
            ..Measured::default()
        }
    }
}

/// How runs follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Callers at the same time.
    pub callers: usize,
    /// The time from the beginning of one run to that of the next; at once when not given.
    pub interval: Option<Duration>,
}
