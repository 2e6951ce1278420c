//! Counters, gauges and histograms of a session, for whatever recorder of the crate `metrics` the process has.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, Unit, counter, gauge, histogram};

use crate::device::Device;
use crate::error::Error;
use crate::model::Model;
use crate::observer::{About, Event, Observer};
use crate::session::Precision;
use crate::values::Times;

/// The stages of a run.
const STAGES: [&str; 5] = ["prepare", "upload", "compute", "read", "host"];

/// Their times.
fn stage_times(times: &Times) -> [Duration; STAGES.len()] {
    [times.prepare, times.upload, times.compute, times.read, times.host]
}

/// Handles of the recorder's metrics, taken once, so that a run only adds to them.
pub(crate) struct Meters {
    labels: Vec<Label>,
    ok: Counter,
    failed: Counter,
    seconds: Histogram,
    stages: [Histogram; STAGES.len()],
    fallbacks: Gauge,
    share: Gauge,
    device_memory: Gauge,
    host_memory: Gauge,
    plans_found: Counter,
    plans_made: Counter,
    compile: Histogram,
    lost: Counter,
}

impl Meters {
    /// Registers the metrics of a session under the name that the host calls the model by.
    pub(crate) fn new(name: &str, model: &Model, device: &Device, precision: Precision) -> Meters {
        describe();
        let labels = vec![
            Label::new("model", name.to_owned()),
            Label::new("model_digest", model.digest().to_string()),
            Label::new("device", device.info().id.clone()),
            Label::new("precision", precision.name()),
        ];
        let with = |name: &'static str, value: &'static str| {
            let mut labels = labels.clone();
            labels.push(Label::new(name, value));
            labels
        };
        let driver = device.info().driver.clone();
        let version = env!("CARGO_PKG_VERSION");
        gauge!("sardonyx_info", vec![Label::new("version", version), Label::new("driver", driver)]).set(1.0);
        Meters {
            ok: counter!("sardonyx_inference_total", with("outcome", "ok")),
            failed: counter!("sardonyx_inference_total", with("outcome", "error")),
            seconds: histogram!("sardonyx_inference_seconds", labels.clone()),
            stages: STAGES.map(|stage| histogram!("sardonyx_stage_seconds", with("stage", stage))),
            fallbacks: gauge!("sardonyx_fallback_operators", labels.clone()),
            share: gauge!("sardonyx_device_share", labels.clone()),
            device_memory: gauge!("sardonyx_device_memory_bytes", labels.clone()),
            host_memory: gauge!("sardonyx_host_memory_bytes", labels.clone()),
            plans_found: counter!("sardonyx_plan_cache_total", with("result", "hit")),
            plans_made: counter!("sardonyx_plan_cache_total", with("result", "miss")),
            compile: histogram!("sardonyx_shader_compile_seconds", labels.clone()),
            lost: counter!("sardonyx_device_lost_total", labels.clone()),
            labels,
        }
    }

    fn fail(&self, error: &Error) {
        let mut labels = self.labels.clone();
        labels.push(Label::new("code", error.code()));
        counter!("sardonyx_errors_total", labels).increment(1);
        self.failed.increment(1);
        if matches!(error, Error::Device { lost: true, .. }) {
            self.lost.increment(1);
        }
    }
}

impl Observer for Meters {
    fn event(&self, _: &About<'_>, event: &Event<'_>) {
        match event {
            Event::Planned { on_device, operators, memory, .. } => {
                self.plans_made.increment(1);
                self.fallbacks.set((operators - on_device) as f64);
                self.share.set(*on_device as f64 / (*operators).max(1) as f64);
                self.device_memory.set(memory.device() as f64);
                self.host_memory.set((memory.total() - memory.device()) as f64);
            }
            Event::Compiled { took, .. } => self.compile.record(took.as_secs_f64()),
            Event::Ran { times, planned } => {
                self.ok.increment(1);
                self.seconds.record(times.total.as_secs_f64());
                for (stage, time) in self.stages.iter().zip(stage_times(times)) {
                    stage.record(time.as_secs_f64());
                }
                if *planned == 0 {
                    self.plans_found.increment(1);
                }
            }
            Event::Failed { error } => self.fail(error),
            Event::Fallback { .. } | Event::CacheUnwritable { .. } => {}
        }
    }
}

/// Tells the recorder what the metrics mean.
fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("sardonyx_inference_total", "Runs, by outcome: ok or error.");
    describe_histogram!("sardonyx_inference_seconds", Unit::Seconds, "Time of a run that ended well.");
    describe_histogram!("sardonyx_stage_seconds", Unit::Seconds, "Time of a run, by stage.");
    describe_gauge!(
        "sardonyx_fallback_operators",
        "The model's operators that run on the CPU although the device is a GPU, in the latest plan."
    );
    describe_gauge!(
        "sardonyx_device_share",
        "The part of the model's operators that runs on the device, from 0 to 1, in the latest plan."
    );
    describe_gauge!("sardonyx_device_memory_bytes", Unit::Bytes, "What the latest plan needs on the device.");
    describe_gauge!("sardonyx_host_memory_bytes", Unit::Bytes, "What the latest plan needs on the host.");
    describe_counter!(
        "sardonyx_plan_cache_total",
        "Runs that found plans for their sizes (hit), and plans that were made (miss)."
    );
    describe_histogram!(
        "sardonyx_shader_compile_seconds",
        Unit::Seconds,
        "Time to compile a plan's kernels."
    );
    describe_counter!("sardonyx_errors_total", "Errors, by their stable code.");
    describe_counter!("sardonyx_device_lost_total", "Losses of the device.");
    describe_gauge!("sardonyx_info", "Always 1: the version of the engine and the device's driver.");
}
