//! The spans of the engine, as the subscriber of a process sees them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use sardonyx::{Device, Model, RunOptions, Session, Tensor};
use sardonyx_tests::gpus;
use sardonyx_tests::onnx::{model, node};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// `y = Tanh(Softmax(x w))`.
fn small() -> Model {
    let nodes = [node("MatMul", &["x", "w"], "a"), node("Softmax", &["a"], "b"), node("Tanh", &["b"], "y")];
    model(&nodes, &[8, 8], &["x", "w"], &["y"])
}

/// A span: its name, the name of the one around it, its fields.
#[derive(Clone, Debug)]
struct Seen {
    name: &'static str,
    around: Option<&'static str>,
    fields: BTreeMap<&'static str, String>,
}

impl Seen {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

/// All spans of the process, and the places of those that are open by their ids, which are used again.
#[derive(Default)]
struct Kept {
    all: Vec<Seen>,
    open: HashMap<u64, usize>,
}

#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Kept>>);

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: tracing::Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().target().split("::").next() != Some("sardonyx") {
            return;
        }
        let mut fields = BTreeMap::new();
        attributes.record(&mut Fields(&mut fields));
        let around = context.span(id).and_then(|span| span.parent()).map(|parent| parent.name());
        let mut kept = self.0.lock().unwrap();
        let place = kept.all.len();
        kept.open.insert(id.into_u64(), place);
        kept.all.push(Seen { name: attributes.metadata().name(), around, fields });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut kept = self.0.lock().unwrap();
        if let Some(place) = kept.open.get(&id.into_u64()).copied() {
            values.record(&mut Fields(&mut kept.all[place].fields));
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.0.lock().unwrap().open.remove(&id.into_u64());
    }
}

/// Loads, builds, runs once, and once more in vain; gives the plan's digest.
fn work(device: &Device) -> String {
    let session = Session::builder().device(device.clone()).threads(1).build(&small()).unwrap();
    let tensor = Tensor::from_vec(&[8, 8], vec![0.5f32; 64]).unwrap();
    session.run([("x", &tensor), ("w", &tensor)]).unwrap();
    let cancel = Some(Arc::new(AtomicBool::new(true)));
    let options = RunOptions { cancel, ..RunOptions::default() };
    assert!(session.run_with([("x", &tensor), ("w", &tensor)], &options).is_err());
    session.plan_digest().unwrap().to_string()
}

#[test]
fn spans_say_what_happens() {
    let spans = Spans::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(spans.clone())).unwrap();
    for device in [Device::cpu()].iter().chain(gpus()) {
        spans.0.lock().unwrap().all.clear();
        let plan = work(device);
        let (seen, id) = (spans.0.lock().unwrap().all.clone(), device.info().id.as_str());
        let named = |name: &str| -> Vec<&Seen> { seen.iter().filter(|span| span.name == name).collect() };
        let [load] = named("load")[..] else { panic!("{seen:?}") };
        assert_eq!([load.field("from"), load.field("nodes")], ["memory", "3"]);
        let model = small().digest().to_string();
        let [planned] = named("plan")[..] else { panic!("{seen:?}") };
        let names = ["device", "model", "plan", "inputs", "operators", "on_device"];
        let wanted = [id, &model, &plan, "f32[8, 8] f32[8, 8]", "3", "3"];
        assert_eq!(names.map(|name| planned.field(name)), wanted);
        let [well, failed] = named("run")[..] else { panic!("{seen:?}") };
        for run in [well, failed] {
            assert_eq!([run.field("device"), run.field("model")], [id, &model]);
        }
        assert_eq!((well.field("plan"), well.fields.get("error")), (plan.as_str(), None));
        assert_eq!((failed.field("error"), failed.fields.get("plan")), ("\"SDX-0702\"", None));
        let stages = named("stage");
        assert!(stages.iter().all(|stage| stage.around == Some("run")), "{seen:?}");
        let stages: Vec<&str> = stages.iter().map(|stage| stage.field("name").trim_matches('"')).collect();
        let compile = named("compile");
        if device.wgpu().is_none() {
            // Steps on the CPU run on other threads than the caller's, and belong to its run all the same.
            assert!(compile.is_empty() && stages.contains(&"cpu steps"), "{seen:?}");
            continue;
        }
        assert!(compile.len() == 1 && compile[0].around == Some("plan"), "{seen:?}");
        assert_eq!(compile[0].field("device"), id);
        for stage in ["upload", "encode", "wait", "read-back"] {
            assert!(stages.contains(&stage), "{stage}: {stages:?}");
        }
    }
}
