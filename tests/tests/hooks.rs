//! What the engine tells a host: events and metrics.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use sardonyx::{About, Device, Event, Fallback, Model, Observer, RunOptions, Session, Tensor};
use sardonyx_tests::onnx::{model, node};
use sardonyx_tests::{gpu_turn, gpus};

/// `y = Tanh(Softmax(x w))`.
fn small() -> Model {
    let nodes = [node("MatMul", &["x", "w"], "a"), node("Softmax", &["a"], "b"), node("Tanh", &["b"], "y")];
    model(&nodes, &[8, 8], &["x", "w"], &["y"])
}

fn ones() -> Tensor {
    Tensor::from_vec(&[8, 8], vec![0.5f32; 64]).unwrap()
}

fn devices() -> impl Iterator<Item = Device> {
    [Device::cpu()].into_iter().chain(gpus().iter().cloned())
}

/// Runs a session once, and once more in vain.
fn run(session: &Session) {
    let tensor = ones();
    session.run([("x", &tensor), ("w", &tensor)]).unwrap();
    let cancel = Some(Arc::new(AtomicBool::new(true)));
    let options = RunOptions { cancel, ..RunOptions::default() };
    assert!(session.run_with([("x", &tensor), ("w", &tensor)], &options).is_err());
}

/// Events in words, with the plan's digest where there is one.
#[derive(Default)]
struct Heard(Mutex<Vec<(String, Option<String>)>>);

impl Observer for Heard {
    fn event(&self, about: &About<'_>, event: &Event<'_>) {
        let word = match event {
            Event::Planned { operators, on_device, memory, .. } => {
                assert!(memory.total() > 0);
                format!("planned {on_device} of {operators}")
            }
            Event::Compiled { .. } => "compiled".to_owned(),
            Event::Ran { planned, .. } => format!("ran, {planned} planned"),
            Event::Failed { error } => error.code().to_owned(),
            _ => "other".to_owned(),
        };
        assert_eq!(about.model.digest(), small().digest(), "of the same bytes");
        self.0.lock().unwrap().push((word, about.plan.map(|plan| plan.to_string())));
    }
}

#[test]
fn every_event_says_what_it_is_about() {
    let _turn = gpu_turn();
    for device in devices() {
        let [heard, also] = [(); 2].map(|()| Arc::new(Heard::default()));
        let observers = [&heard, &also].map(|heard| Arc::<Heard>::clone(heard) as Arc<dyn Observer>);
        let builder = observers.into_iter().fold(Session::builder(), |builder, one| builder.observer(one));
        let session = builder.device(device.clone()).build(&small()).unwrap();
        run(&session);
        let plan = session.plan_digest().map(|digest| digest.to_string());
        assert!(plan.is_some());
        let mut wanted: Vec<_> =
            if device.wgpu().is_some() { vec![("compiled", plan.clone())] } else { vec![] };
        wanted.extend([("planned 3 of 3", plan.clone()), ("ran, 0 planned", plan), ("SDX-0702", None)]);
        let wanted: Vec<_> = wanted.into_iter().map(|(word, plan)| (word.to_owned(), plan)).collect();
        assert_eq!(*heard.0.lock().unwrap(), wanted);
        assert_eq!(*also.0.lock().unwrap(), wanted, "all observers are told");
        heard.0.lock().unwrap().clear();
        let tensor = ones();
        let mut context = session.context().unwrap();
        context.bind_input("x", &tensor).unwrap().bind_input("w", &tensor).unwrap();
        context.run().unwrap();
        assert_eq!(*heard.0.lock().unwrap(), [wanted[wanted.len() - 2].clone()], "contexts tell too");
    }
}

#[test]
fn a_session_that_cannot_be_built_is_told() {
    let heard = Arc::new(Heard::default());
    let observer: Arc<dyn Observer> = Arc::<Heard>::clone(&heard);
    let builder = Session::builder().device(Device::cpu()).observer(observer);
    assert!(builder.dim("no such name", 3).build(&small()).is_err());
    assert_eq!(*heard.0.lock().unwrap(), [("SDX-0505".to_owned(), None)]);
}

/// Adds up everything under a metric's name and labels.
#[derive(Clone, Default)]
struct Sums(Arc<Mutex<BTreeMap<String, f64>>>);

struct Sum(String, Sums);

impl Sum {
    fn change(&self, with: impl Fn(f64) -> f64) {
        let mut all = self.1.0.lock().unwrap();
        let value = all.entry(self.0.clone()).or_default();
        *value = with(*value);
    }
}

impl CounterFn for Sum {
    fn increment(&self, value: u64) {
        self.change(|sum| sum + value as f64);
    }
    fn absolute(&self, value: u64) {
        self.change(|_| value as f64);
    }
}

impl GaugeFn for Sum {
    fn increment(&self, value: f64) {
        self.change(|sum| sum + value);
    }
    fn decrement(&self, value: f64) {
        self.change(|sum| sum - value);
    }
    fn set(&self, value: f64) {
        self.change(|_| value);
    }
}

/// Of a histogram the number of values counts.
impl HistogramFn for Sum {
    fn record(&self, value: f64) {
        assert!((0.0..600.0).contains(&value), "{} seconds in {}", value, self.0);
        self.change(|sum| sum + 1.0);
    }
}

impl Sums {
    fn of(&self, key: &Key) -> Arc<Sum> {
        let common = ["model", "model_digest", "device", "precision"];
        let labels: Vec<_> = key.labels().map(|label| (label.key(), label.value())).collect();
        if key.name() != "sardonyx_info" {
            assert_eq!(labels.iter().map(|(name, _)| *name).take(4).collect::<Vec<_>>(), common, "{key}");
            assert_eq!((labels[0].1, labels[3].1), ("detector", "model"), "{key}");
            assert_eq!(labels[1].1, small().digest().to_string());
        }
        let own: Vec<String> = labels
            .iter()
            .filter(|(name, _)| !common.contains(name))
            .map(|(_, value)| (*value).to_owned())
            .collect();
        let name = if key.name() == "sardonyx_info" {
            key.name().to_owned()
        } else {
            [key.name(), &own.join(",")].join(" ")
        };
        Arc::new(Sum(name.trim().to_owned(), self.clone()))
    }
}

impl Recorder for Sums {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, text: SharedString) {
        assert!(!text.is_empty() && key.as_str().ends_with("_total"), "{key:?}");
    }
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, text: SharedString) {
        assert!(!text.is_empty());
    }
    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, text: SharedString) {
        assert!(!text.is_empty() && key.as_str().ends_with("_seconds"), "{key:?}");
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.of(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.of(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.of(key))
    }
}

impl Debug for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.lock().unwrap().fmt(f)
    }
}

#[test]
fn metrics_count_what_happens() {
    let _turn = gpu_turn();
    for device in devices() {
        let sums = Sums::default();
        metrics::with_local_recorder(&sums, || {
            let builder = Session::builder().device(device.clone()).fallback(Fallback::Allow);
            run(&builder.clone().build(&small()).unwrap());
            assert!(sums.0.lock().unwrap().is_empty(), "a session without a name is not counted");
            run(&builder.metrics("detector").build(&small()).unwrap());
        });
        let get = |name: &str| sums.0.lock().unwrap().get(name).copied().unwrap_or(f64::NAN);
        for (name, wanted) in [
            ("sardonyx_inference_total ok", 1.0),
            ("sardonyx_inference_total error", 1.0),
            ("sardonyx_inference_seconds", 1.0),
            ("sardonyx_stage_seconds compute", 1.0),
            ("sardonyx_stage_seconds host", 1.0),
            ("sardonyx_fallback_operators", 0.0),
            ("sardonyx_device_share", 1.0),
            ("sardonyx_plan_cache_total hit", 1.0),
            ("sardonyx_plan_cache_total miss", 1.0),
            ("sardonyx_errors_total SDX-0702", 1.0),
            ("sardonyx_info", 1.0),
        ] {
            assert_eq!(get(name), wanted, "{name} on {device:?}: {sums:?}");
        }
        assert!(get("sardonyx_device_memory_bytes") + get("sardonyx_host_memory_bytes") > 0.0);
        if device.wgpu().is_some() {
            assert!(get("sardonyx_device_memory_bytes") > 0.0);
        }
    }
}
