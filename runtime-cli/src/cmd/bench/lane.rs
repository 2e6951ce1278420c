//! One device of a measurement: its session, its warm-up, its samples.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sardonyx::{Device, Fallback, Session, Tensor};
use serde_json::{Value, json};

use super::gate::Gate;
use super::latency::{Latency, Sample, nearest_rank};
use super::{Warmup, ms};
use crate::bind::{self, Opened};
use crate::cli::Settings;
use crate::describe;
use crate::failure::Failure;
use crate::input::Given;
use crate::output::{Console, format};

/// The most time of a warm-up whose drift does not end.
const LONGEST_WARMUP: Duration = Duration::from_secs(10);
/// Windows of a warm-up are at least so long, and hold at least so many runs.
const WINDOW: (Duration, usize) = (Duration::from_millis(100), 5);
/// The drift has ended when two windows in a row differ by less than this part from the one before.
const DRIFT: f64 = 0.01;

/// A device under measurement.
pub struct Lane<'a> {
    /// The device.
    pub device: Device,
    /// The session.
    pub session: Session,
    /// The measured runs.
    pub samples: Vec<Sample>,
    /// Time of the measured runs together.
    pub measured: Duration,
    opened: &'a Opened,
    settings: &'a Settings,
    inputs: Vec<(&'a str, &'a Tensor)>,
    plan: Duration,
    first: Duration,
    warmup_runs: usize,
}

impl<'a> Lane<'a> {
    /// Opens the device, builds the session and runs once, each timed.
    ///
    /// # Errors
    /// When the device cannot be opened, or the model cannot run there; fallbacks are denied unless allowed.
    pub fn open(
        name: &str,
        opened: &'a Opened,
        settings: &'a Settings,
        given: &'a [Given],
        console: &Console,
    ) -> Result<Lane<'a>, Failure> {
        let device = bind::open_device(name)?;
        let start = Instant::now();
        let mut builder = bind::builder(&device, settings, Fallback::Deny);
        for given in given {
            builder = builder.shape(&given.name, given.tensor.dims());
        }
        let session = builder.build(&opened.model).map_err(|error| opened.failure(&error))?;
        let plan = start.elapsed();
        let inputs = given.iter().map(|given| (given.name.as_str(), &given.tensor)).collect();
        let mut lane = Lane {
            device,
            session,
            samples: Vec::new(),
            measured: Duration::ZERO,
            opened,
            settings,
            inputs,
            plan,
            first: Duration::ZERO,
            warmup_runs: 0,
        };
        let start = Instant::now();
        lane.run()?;
        lane.first = start.elapsed();
        describe::warn_of_fallbacks(&lane.session.placement(), console);
        Ok(lane)
    }

    fn run(&self) -> Result<Sample, Failure> {
        let inputs = self.inputs.clone();
        let start = Instant::now();
        let outputs = self.session.run(inputs).map_err(|error| self.opened.failure(&error))?;
        let total = describe::ns(start.elapsed());
        let times = outputs.times();
        let [upload, compute, read, host] =
            [times.upload, times.compute, times.read, times.host].map(describe::ns);
        Ok(Sample { total, upload, compute, read, host })
    }

    /// Runs without measuring.
    ///
    /// # Errors
    /// When a run fails.
    pub fn warm_up(&mut self, warmup: Warmup, console: &Console) -> Result<(), Failure> {
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

    /// Measures runs for so long, at least one.
    ///
    /// # Errors
    /// When a run fails.
    pub fn turn(&mut self, time: Duration) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            let sample = self.run()?;
            self.measured += Duration::from_nanos(sample.total);
            self.samples.push(sample);
            if start.elapsed() >= time {
                return Ok(());
            }
        }
    }

    /// The measured values that gates can be on.
    fn values(&self, latency: &Latency, peak: Option<u64>) -> BTreeMap<&'static str, f64> {
        let ms = |ns: u64| ns as f64 / 1e6;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let placement = self.session.placement();
        let (on_device, all) = placement.on_device();
        let mut values = BTreeMap::from([
            ("min_ms", ms(latency.min)),
            ("p50_ms", ms(latency.p50)),
            ("p90_ms", ms(latency.p90)),
            ("p95_ms", ms(latency.p95)),
            ("p99_ms", ms(latency.p99)),
            ("max_ms", ms(latency.max)),
            ("mean_ms", latency.mean / 1e6),
            ("cv", latency.cv),
            ("per_s", latency.per_second()),
            ("first_ms", ms(describe::ns(self.first))),
            ("load_ms", ms(describe::ns(self.opened.load))),
            ("plan_ms", ms(describe::ns(self.plan))),
            ("device_mib", mib(self.session.memory().device())),
        ]);
        if let Some(peak) = peak {
            values.insert("rss_mib", mib(peak));
        }
        // On the CPU no operator is on a GPU.
        let share = if placement.gpu && all > 0 { on_device as f64 / all as f64 } else { 0.0 };
        values.insert("gpu_share", share);
        values
    }

    /// Checks and prints gates; their fields of the document. A gate on what could not be measured fails.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn gates(
        &self,
        gates: &[Gate],
        latency: &Latency,
        peak: Option<u64>,
        console: &Console,
    ) -> Result<Vec<Value>, Failure> {
        let values = self.values(latency, peak);
        let mut checked = Vec::new();
        for (i, gate) in gates.iter().enumerate() {
            let (value, pass) =
                gate.check(&values).map_or((None, false), |(value, pass)| (Some(value), pass));
            let verdict = if pass { "pass" } else { "FAIL" };
            let shown = value.map_or_else(|| "not measured".to_owned(), format::real);
            let label = if i == 0 { "gate" } else { "" };
            console.line(format!("{label:<9} {verdict}  {}  ({shown})", gate.text))?;
            checked.push(json!({"expr": gate.text, "value": value, "pass": pass}));
        }
        Ok(checked)
    }

    /// Prints the measurement.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn print(&self, latency: &Latency, peak: Option<u64>, console: &Console) -> Result<(), Failure> {
        let f = format::milliseconds;
        let stages = &latency.stages;
        let memory = self.session.memory();
        let peak = peak.map_or_else(|| "unknown".to_owned(), format::bytes);
        let lines = [
            format!("warm-up   {} runs", self.warmup_runs),
            format!(
                "latency   p50 {}   p90 {}   p95 {}   p99 {} ms",
                f(latency.p50),
                f(latency.p90),
                f(latency.p95),
                f(latency.p99)
            ),
            format!(
                "          min {}   max {}   mean {}",
                ms(latency.min),
                ms(latency.max),
                ms(latency.mean as u64)
            ),
            format!(
                "          {} runs, cv {:.1} %, p50 within {} to {}",
                latency.count,
                latency.cv * 100.0,
                f(latency.p50_ci95[0]),
                ms(latency.p50_ci95[1])
            ),
            format!(
                "          upload {} · compute {} · read {} · host {} ms",
                f(stages.upload),
                f(stages.compute),
                f(stages.read),
                f(stages.host)
            ),
            format!("through   {} /s", format::real(latency.per_second())),
            format!(
                "cold      load {} · plan {} · first {}",
                ms(describe::ns(self.opened.load)),
                ms(describe::ns(self.plan)),
                ms(describe::ns(self.first))
            ),
            format!(
                "memory    peak RSS {peak} · device {} · host {}",
                format::bytes(memory.device()),
                format::bytes(memory.host_activations + memory.host_scratch)
            ),
        ];
        lines.iter().try_for_each(|line| console.line(line))
    }

    /// The device's part of the document.
    pub fn document(&self, latency: &Latency, peak: Option<u64>, gates: Vec<Value>) -> Value {
        let memory = self.session.memory();
        json!({"device": describe::device(&self.device, self.settings.precision),
               "plan": describe::plan(&self.session.placement()),
               "latency_ns": latency.to_json(),
               "warmup_runs": self.warmup_runs,
               "throughput_per_s": latency.per_second(),
               "cold_ns": {"load": describe::ns(self.opened.load), "plan": describe::ns(self.plan),
                           "first": describe::ns(self.first)},
               "memory_bytes": {"rss_peak": peak, "device_peak": memory.device(),
                                "weights": memory.device_weights,
                                "activations": memory.device_activations,
                                "host_activations": memory.host_activations,
                                "host_scratch": memory.host_scratch},
               "gates": gates})
    }
}
