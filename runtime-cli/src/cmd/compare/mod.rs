//! `sardonyx compare MODEL --against …`: is it right, and where is it wrong first?

mod metrics;
mod reduce;
mod reference;

use std::collections::HashMap;
use std::path::PathBuf;

use sardonyx::{DType, Tap, Tensor};
use serde_json::{Map, Value, json};

use crate::bind::{self, Opened};
use crate::cli::{DeviceArgs, InputArgs, PrecisionArg};
use crate::compare::Tolerance;
use crate::describe;
use crate::failure::{Failure, Fault};
use crate::formats::npz;
use crate::input::{Given, load, request};
use crate::output::{Console, atomic, format};
use metrics::{Metric, Metrics};
use reduce::{Parts, Tried, right};
use reference::{Reference, Values, tapped};

pub use reference::named;

/// Arguments of `compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX model
    model: PathBuf,
    #[command(flatten)]
    inputs: InputArgs,
    /// Compare on N sets of inputs that are made up, each with seeds of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Inputs")]
    samples: u16,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// A device, another model, outputs in FILE.npz or FILE.safetensors, or ort:PYTHON
    #[arg(long, value_name = "WHAT", default_value = "cpu")]
    against: String,
    /// How exact outputs must be [default: by type]
    #[arg(long, value_name = "KIND", value_enum)]
    tolerance: Option<ToleranceArg>,
    /// Absolute tolerance, of all outputs or of one (repeat)
    #[arg(long, value_name = "[NAME:]V", value_parser = parse_named)]
    atol: Vec<(Option<String>, f64)>,
    /// Relative tolerance, likewise
    #[arg(long, value_name = "[NAME:]V", value_parser = parse_named)]
    rtol: Vec<(Option<String>, f64)>,
    /// What decides; all measures are printed
    #[arg(long, value_name = "WHICH", value_enum, default_value = "elemwise")]
    metric: Metric,
    /// Compare the results of steps: the first wrong one, or all
    #[arg(long, value_name = "WHICH", value_enum)]
    layers: Option<Layers>,
    /// Run wrong steps by themselves with right inputs: is it the kernel, or an error that has grown?
    #[arg(long)]
    isolate: bool,
    /// Save outputs and, with --layers, results of steps of both sides
    #[arg(long, value_name = "FILE.npz")]
    save_npz: Option<PathBuf>,
    /// Write the smallest model that is still wrong, and its inputs beside it as .npz
    #[arg(long, value_name = "FILE.onnx")]
    reduce: Option<PathBuf>,
}

/// `--tolerance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ToleranceArg {
    /// Bit for bit.
    Exact,
    /// That of f32.
    F32,
    /// That of f16.
    F16,
    /// One step of 8-bit integers.
    Int8,
}

/// `--layers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Layers {
    /// Up to the first wrong one.
    First,
    /// All.
    All,
}

fn parse_named(text: &str) -> Result<(Option<String>, f64), String> {
    let (name, value) = match text.rsplit_once(':') {
        Some((name, value)) => (Some(name.to_owned()), value),
        None => (None, text),
    };
    let value = value.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0);
    value.map(|value| (name, value)).ok_or_else(|| format!("{text:?} is no tolerance"))
}

/// What is right enough.
#[derive(Debug)]
pub struct Judge {
    metric: Metric,
    kind: Option<ToleranceArg>,
    half: bool,
    atol: Vec<(Option<String>, f64)>,
    rtol: Vec<(Option<String>, f64)>,
}

impl Judge {
    fn tolerance(&self, name: &str, dtype: DType) -> Tolerance {
        let default = match self.kind {
            None => Tolerance::default_for(dtype, self.half),
            Some(ToleranceArg::Exact) => Tolerance { rtol: 0.0, atol: 0.0, scaled: false },
            Some(ToleranceArg::F32) => Tolerance::default_for(dtype, false),
            Some(ToleranceArg::F16) => Tolerance::default_for(dtype, true),
            Some(ToleranceArg::Int8) => Tolerance { rtol: 0.0, atol: 1.0, scaled: false },
        };
        let find = |list: &[(Option<String>, f64)]| {
            let own = list.iter().find(|(of, _)| of.as_deref() == Some(name));
            own.or_else(|| list.iter().find(|(of, _)| of.is_none())).map(|(_, value)| *value)
        };
        match (find(&self.atol), find(&self.rtol)) {
            (None, None) => default,
            (atol, rtol) => Tolerance { atol: atol.unwrap_or(0.0), rtol: rtol.unwrap_or(0.0), scaled: false },
        }
    }

    /// Measures a value called `name`.
    pub fn measure(&self, name: &str, got: &Tensor, want: &Tensor) -> Metrics {
        Metrics::of(got, want, self.tolerance(name, want.dtype()))
    }

    /// Right enough.
    pub fn passes(&self, metrics: &Metrics) -> bool {
        metrics.passes(self.metric)
    }
}

/// Compares.
///
/// # Errors
/// When anything is wrong with models, inputs or devices; [`Failure::Gate`] when an output is wrong.
pub fn run(arguments: &Args, console: &Console) -> Result<(), Failure> {
    let opened = Opened::open(&arguments.model, console)?;
    perform(arguments, &opened, console).map_err(|failure| failure.in_model(opened.name()))
}

fn perform(arguments: &Args, opened: &Opened, console: &Console) -> Result<(), Failure> {
    let settings = &arguments.device.settings;
    let judge = Judge {
        metric: arguments.metric,
        kind: arguments.tolerance,
        half: settings.precision == PrecisionArg::F16,
        atol: arguments.atol.clone(),
        rtol: arguments.rtol.clone(),
    };
    check_names(arguments, opened)?;
    let samples = inputs(arguments, opened, console)?;
    let device = bind::device(&arguments.device)?;
    let wants_layers = arguments.layers.is_some() || arguments.isolate || arguments.reduce.is_some();
    let Some(first) = samples.first() else { return Err(Failure::new(Fault::Usage, "there are no inputs")) };
    let against = Reference::new(&arguments.against, opened, settings, first, console)?;
    let session = tapped(opened, &device, settings, first, console)?;
    let digest = opened.digest();
    let mut documents = Vec::new();
    let mut passed = true;
    let compared = console.progress(samples.len() as u64, "sets of inputs compared");
    for (index, given) in samples.iter().enumerate() {
        let right = against.values(opened, given)?;
        let plain = plain_outputs(opened, &device, settings, given, console)?;
        let (outputs, taps) = session.run_tapped(named(given)).map_err(|error| opened.failure(&error))?;
        if index == 0 {
            describe::warn_of_fallbacks(&session.placement(), console);
            console.line(describe::headline(opened, &digest, &device, &session.placement()))?;
            console.line(format!("against {}", format::name(&arguments.against, 60)))?;
        }
        if samples.len() > 1 {
            console.line(format!("sample  {index}"))?;
        }
        let (document, pass) = compare_outputs(&judge, &plain, &right, console)?;
        let mut document = json!({"outputs": document, "pass": pass});
        passed &= pass;
        if plain.iter().zip(outputs.iter()).any(|((_, a), (_, b))| a.bytes() != b.bytes()) {
            console.warn("outputs differ between the plan and the same plan with results of steps kept");
        }
        if wants_layers {
            let parts = Parts { opened, device: &device, settings, judge: &judge };
            document["layers"] = layers(arguments, &parts, &taps, &right, given, console)?;
        }
        if let Some(path) = &arguments.save_npz {
            save(path, index, samples.len(), &plain, &taps, &right, wants_layers)?;
        }
        documents.push(document);
        compared.advance();
    }
    drop(compared);
    let mut document = Map::new();
    document.insert("engine".to_owned(), describe::engine());
    document.insert("model".to_owned(), describe::model(opened, &digest));
    document.insert("device".to_owned(), describe::device(&device, settings.precision));
    document.insert("plan".to_owned(), describe::plan(&session.placement(), session.plan_digest()));
    document.insert("against".to_owned(), json!(arguments.against));
    document.insert("metric".to_owned(), json!(format!("{:?}", arguments.metric).to_lowercase()));
    document.insert("pass".to_owned(), json!(passed));
    document.insert("samples".to_owned(), Value::Array(documents));
    console.finish("compare", document)?;
    if passed { Ok(()) } else { Err(Failure::Gate) }
}

/// The outputs of the plan as it runs for everybody, without taps.
fn plain_outputs(
    opened: &Opened,
    device: &sardonyx::Device,
    settings: &crate::cli::Settings,
    given: &[Given],
    console: &Console,
) -> Result<Vec<(String, Tensor)>, Failure> {
    let mut builder = bind::builder(device, settings, sardonyx::Fallback::Allow);
    for given in given {
        builder = builder.shape(&given.name, given.tensor.dims());
    }
    let session = opened.session(builder, console)?;
    let outputs = session.run(named(given)).map_err(|error| opened.failure(&error))?;
    Ok(outputs.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect())
}

/// Tolerances are for outputs that there are.
fn check_names(arguments: &Args, opened: &Opened) -> Result<(), Failure> {
    let known: Vec<&str> = opened.model.outputs().iter().map(|spec| &*spec.name).collect();
    let mut asked = arguments.atol.iter().chain(&arguments.rtol).filter_map(|(name, _)| name.as_deref());
    match asked.find(|name| !known.contains(name)) {
        Some(name) => Err(Failure::new(Fault::Usage, format!("the model has no output {name:?}"))
            .why(format!("its outputs are {}", format::name(&known.join(", "), 300)))),
        None => Ok(()),
    }
}

fn inputs(arguments: &Args, opened: &Opened, console: &Console) -> Result<Vec<Vec<Given>>, Failure> {
    let signatures = opened.signatures()?;
    let recipes = load::Recipes::new(&arguments.inputs.pre, &signatures)?;
    let mut all = Vec::new();
    for number in 0..arguments.samples {
        let mut options = arguments.inputs.inputs.clone();
        if arguments.samples > 1 {
            // Inputs without a source get seeds of their own in each sample.
            let given = request::samples(&options, &signatures)?;
            let missing = signatures.iter().enumerate().filter(|(index, _)| {
                given.iter().all(|sample| sample.sources.iter().all(|(other, _)| other != index))
            });
            let seeds = missing.map(|(index, signature)| {
                format!(
                    "{}=random:seed={}",
                    signature.name,
                    usize::from(number) * signatures.len() + index + 1
                )
            });
            options.extend(seeds.collect::<Vec<_>>());
        }
        for sample in request::samples(&options, &signatures)? {
            let sizes = opened.sizes(&signatures, &arguments.inputs.sizes)?;
            all.push(load::load(&sample, &signatures, &recipes, sizes, console)?);
        }
    }
    Ok(all)
}

fn compare_outputs(
    judge: &Judge,
    outputs: &[(String, Tensor)],
    right: &Values,
    console: &Console,
) -> Result<(Value, bool), Failure> {
    let mut passed = true;
    let mut documents = Vec::new();
    for (index, (name, got)) in outputs.iter().enumerate() {
        // Another model may call its outputs otherwise: then their order counts.
        let by_order =
            || right.outputs.get(index).filter(|_| right.outputs.len() == outputs.len()).map(|o| &o.1);
        let want = right.all.get(name).or_else(by_order).ok_or_else(|| {
            Failure::new(Fault::Usage, format!("the reference has no output {:?}", format::name(name, 60)))
        })?;
        let metrics = judge.measure(name, got, want);
        let pass = judge.passes(&metrics);
        passed &= pass;
        let signature = format::signature(want.dtype(), want.dims());
        let verdict = if pass { "pass" } else { "FAIL" };
        console.line(format!("output  {verdict}  {} {signature}", format::name(name, 40)))?;
        console.line(format!("        {}", metrics.to_text()))?;
        let mut fields = metrics.to_json();
        fields["name"] = json!(name);
        fields["pass"] = json!(pass);
        documents.push(fields);
    }
    Ok((Value::Array(documents), passed))
}

/// Compares the results of steps, and looks closer at wrong ones.
fn layers(
    arguments: &Args,
    parts: &Parts<'_>,
    taps: &[Tap],
    right_values: &Values,
    given: &[Given],
    console: &Console,
) -> Result<Value, Failure> {
    let all = arguments.layers == Some(Layers::All);
    let mut errors: HashMap<&str, (f64, bool)> = HashMap::new();
    let mut known: HashMap<String, Tensor> = right_values.all.clone();
    known.extend(given.iter().map(|given| (given.name.clone(), given.tensor.clone())));
    let mut steps = Vec::new();
    let mut first: Option<Value> = None;
    let mut reduced = Value::Null;
    let mut compared = 0usize;
    for (index, tap) in taps.iter().enumerate() {
        let mut worst: Option<Metrics> = None;
        let mut wrong = false;
        for value in &tap.values {
            let Some(want) = right_values.all.get(&*value.name) else { continue };
            let metrics = parts.judge.measure(&value.name, &value.tensor, want);
            let pass = parts.judge.passes(&metrics);
            errors.insert(&value.name, (metrics.relative(), pass));
            wrong |= !pass;
            if worst.as_ref().is_none_or(|worst| metrics.relative() > worst.relative()) {
                worst = Some(metrics);
            }
        }
        let Some(worst) = worst else { continue };
        compared += 1;
        let read = tap.reads.iter().filter_map(|name| errors.get(&**name));
        let (inputs, inputs_right) =
            read.fold((0.0, true), |(most, right), (e, pass)| (f64::max(most, *e), right && *pass));
        let diverges = wrong && inputs_right;
        let name = tap.nodes.first().map_or(tap.op, |node| node);
        if all || (diverges && first.is_none()) {
            let verdict = if wrong { "FAIL" } else { "pass" };
            let label = if diverges && first.is_none() { "first divergence" } else { "step" };
            console.line(format!("{label}  {verdict}  {} {}", tap.op, format::name(name, 50)))?;
            let fused = tap.nodes.len().saturating_sub(1);
            let place = if tap.on_device {
                tap.kernels.join(" ")
            } else {
                format!("{} (cpu)", tap.kernels.join(" "))
            };
            console.line(format!(
                "        step {index}, {fused} more nodes in it, {}",
                format::name(&place, 60)
            ))?;
            console.line(format!(
                "        inputs equal within {}, {}",
                format::real(inputs),
                worst.to_text()
            ))?;
        }
        let mut document = json!({"step": index, "operator": tap.op, "kernels": tap.kernels,
            "nodes": tap.nodes.iter().map(|node| &**node).collect::<Vec<_>>(),
            "inputs_off": inputs, "off": worst.relative(), "pass": !wrong});
        if diverges && (all || first.is_none()) && (arguments.isolate || arguments.reduce.is_some()) {
            let isolated = isolate(parts, tap, right_values, &known, console)?;
            document["isolated"] = isolated.as_ref().map_or(Value::Null, |tried| {
                json!({"off": tried.worst.relative(), "pass": !tried.fails, "nodes": tried.part.nodes})
            });
            if let (Some(path), Some(tried), None) = (&arguments.reduce, isolated, &first) {
                reduced = reduce(parts, tap, tried, path, console)?;
            }
        }
        if diverges && first.is_none() {
            first = Some(document.clone());
        }
        if all {
            steps.push(document);
        } else if first.is_some() {
            break;
        }
    }
    if first.is_none() {
        console.line(format!(
            "layers  no divergence in {compared} of {} steps that both sides have",
            taps.len()
        ))?;
    }
    Ok(json!({"compared": compared, "of": taps.len(), "first_divergence": first, "steps": steps,
              "reduced": reduced}))
}

fn isolate(
    parts: &Parts<'_>,
    tap: &Tap,
    values: &Values,
    known: &HashMap<String, Tensor>,
    console: &Console,
) -> Result<Option<Tried>, Failure> {
    let Some(outputs) = right(tap, values) else { return Ok(None) };
    let tried = parts.isolate(&outputs, known)?;
    let text = match &tried {
        None => "isolated: this step cannot be cut out of the model".to_owned(),
        Some(tried) if tried.fails => "isolated: still wrong -> the kernel, not accumulated error".to_owned(),
        Some(tried) => format!(
            "isolated: right within {} -> its inputs, or how it runs among others",
            format::real(tried.worst.relative())
        ),
    };
    console.line(format!("        {text}"))?;
    Ok(tried)
}

fn reduce(
    parts: &Parts<'_>,
    tap: &Tap,
    whole: Tried,
    path: &std::path::Path,
    console: &Console,
) -> Result<Value, Failure> {
    if !whole.fails {
        console.warn("--reduce: the step alone is right, so no smaller model is wrong; nothing is written");
        return Ok(Value::Null);
    }
    let _progress = console.progress(None, "looking for the smallest model that is wrong");
    let names: Vec<&str> = tap.values.iter().map(|value| &*value.name).collect();
    let smallest = parts.smallest(&whole, &names)?.unwrap_or(whole);
    let inputs = smallest.save(path)?;
    console.line(format!(
        "reduced to {} nodes: {} with inputs in {}",
        smallest.part.nodes,
        path.display(),
        inputs.display()
    ))?;
    Ok(json!({"file": path.display().to_string(), "inputs": inputs.display().to_string(),
              "nodes": smallest.part.nodes, "off": smallest.worst.relative()}))
}

fn save(
    path: &std::path::Path,
    index: usize,
    samples: usize,
    outputs: &[(String, Tensor)],
    taps: &[Tap],
    right: &Values,
    steps: bool,
) -> Result<(), Failure> {
    let path = match samples {
        1 => path.to_owned(),
        _ => path.with_extension(format!("{index}.npz")),
    };
    let mut all: Vec<(String, &Tensor)> = Vec::new();
    for (name, tensor) in outputs {
        all.push((format!("got/{name}"), tensor));
    }
    if steps {
        let values = taps.iter().flat_map(|tap| &tap.values);
        all.extend(values.map(|value| (format!("got/{}", value.name), &value.tensor)));
        all.extend(right.all.iter().map(|(name, tensor)| (format!("want/{name}"), tensor)));
    } else {
        all.extend(right.outputs.iter().map(|(name, tensor)| (format!("want/{name}"), tensor)));
    }
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all.dedup_by(|(a, _), (b, _)| a == b);
    atomic::write(&path, &npz::write(all.iter().map(|(name, tensor)| (name.as_str(), *tensor)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerances_of_all_outputs_and_of_one() {
        assert_eq!(parse_named("1e-3"), Ok((None, 1e-3)));
        assert_eq!(parse_named("a:b:0.5"), Ok((Some("a:b".into()), 0.5)));
        assert!(parse_named("x").is_err() && parse_named("-1").is_err() && parse_named("a:").is_err());
        let judge = Judge {
            metric: Metric::Elemwise,
            kind: None,
            half: false,
            atol: vec![(None, 1.0), (Some("y".into()), 2.0)],
            rtol: Vec::new(),
        };
        assert_eq!(judge.tolerance("y", DType::F32).atol, 2.0);
        assert_eq!(judge.tolerance("z", DType::F32).atol, 1.0);
    }
}
