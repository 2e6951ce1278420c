//! What of one model runs on one device.

use std::path::Path;

use sardonyx::{Coverage, Device, DeviceInfo, Error, Place, Session};
use sardonyx_importer::ImportError;
use sardonyx_importer::graph::unknown_operators;
use sardonyx_importer::map::map_file;
use sardonyx_importer::onnx::{self, LoadLimits};
use serde_json::{Value, json};

use crate::bind::{self, Opened};
use crate::cli::{PrecisionArg, SizeArgs};
use crate::failure::Failure;
use crate::output::{Console, format};

/// Operators that do not run on the device, with the same reason.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    operator: String,
    reason: String,
    /// What to do about it.
    hint: &'static str,
    /// Names of nodes.
    nodes: Vec<String>,
}

/// What to do about a step that no kernel of the device takes, by the words of the reason.
const CPU_HINTS: &[(&str, &str)] = &[
    ("depends on data", "it belongs on the CPU: --fallback allow"),
    ("text", "it belongs on the CPU: --fallback allow"),
    ("f64", "re-export with f32, or allow the CPU for it: --fallback allow"),
    ("type", "convert it to another type, or allow the CPU for it: --fallback allow"),
    ("limit", "give a smaller input, or allow the CPU for it: --fallback allow"),
];

fn cpu_hint(reason: &str) -> &'static str {
    let found = CPU_HINTS.iter().find(|(word, _)| reason.contains(word));
    found.map_or("allow the CPU for it: --fallback allow", |(_, hint)| *hint)
}

/// One model on one device.
#[derive(Debug, Default)]
pub struct Cell {
    operators: usize,
    on_device: usize,
    /// On the CPU beside the device.
    cpu: Vec<Group>,
    /// Nowhere, so that the model is refused.
    unsupported: Vec<Group>,
    waiting: usize,
}

/// Checks a model on each device.
///
/// # Errors
/// When the file cannot be read, or a size is given for what the model does not have.
pub fn check(
    path: &Path,
    devices: &[Device],
    precision: PrecisionArg,
    sizes: &SizeArgs,
    console: &Console,
) -> Result<Vec<Cell>, Failure> {
    let model = match sardonyx::Model::open(path) {
        Ok(model) => model,
        Err(Error::Model(error)) if !matches!(*error, ImportError::Io { .. }) => {
            return Ok(devices.iter().map(|_| refused(path, &error, MEND)).collect());
        }
        Err(error) => return Err(bind::failure(&error, path)),
    };
    let opened = Opened { path: path.to_owned(), model, load: std::time::Duration::ZERO };
    let signatures = opened.signatures()?;
    let mut sizes = opened.sizes(&signatures, sizes)?;
    let (mut shapes, mut help) = (Vec::new(), MEND);
    for signature in &signatures {
        let (dims, defaulted) = sizes.choose(signature);
        for symbol in defaulted {
            console.warn(format!("dimension {symbol} is not given: 1 (set it with --dim {symbol}=N)"));
            help = "sizes that are not given are 1, which may be too small: set them with --dim";
        }
        shapes.push((signature.name.clone(), dims));
    }
    let cell = |device: &Device| {
        let mut builder = Session::builder().device(device.clone()).precision(precision.into());
        for (name, dims) in &shapes {
            builder = builder.shape(name, dims);
        }
        match builder.check(&opened.model) {
            Ok(coverage) => Ok(Cell::new(&coverage)),
            Err(Error::Model(error)) => Ok(refused(path, &error, help)),
            Err(error) => Err(opened.failure(&error)),
        }
    };
    devices.iter().map(cell).collect()
}

/// What to do about a model that contradicts the standard.
const MEND: &str = "mend the model: onnx.checker.check_model may say more";

/// A model that cannot be imported: all operators that are missing, or else the one thing it stumbled over, with `help`
/// where the error has none of its own.
fn refused(path: &Path, error: &ImportError, help: &'static str) -> Cell {
    let proto = map_file(path).and_then(|bytes| onnx::read(bytes, &LoadLimits::default()));
    let (mut errors, operators) = match proto {
        Ok(proto) => (unknown_operators(&proto.graph), proto.graph.nodes.len()),
        Err(_) => (Vec::new(), 0),
    };
    if errors.is_empty() {
        errors.push(error.clone());
    }
    let mut unsupported = Vec::new();
    for error in &errors {
        let (operator, node, reason) = match error {
            ImportError::Unsupported { at, detail, .. } | ImportError::Invalid { at, detail, .. } => {
                let node = at.node.as_deref().unwrap_or_default();
                (at.op.to_string(), node.to_owned(), detail.to_string())
            }
            other => (String::new(), String::new(), other.to_string()),
        };
        let hint = error.hint().unwrap_or(help);
        join(&mut unsupported, operator, reason, hint, &[node]);
    }
    Cell { operators, unsupported, ..Cell::default() }
}

fn join(groups: &mut Vec<Group>, operator: String, reason: String, hint: &'static str, nodes: &[String]) {
    match groups.iter_mut().find(|group| group.operator == operator && group.reason == reason) {
        Some(group) => group.nodes.extend_from_slice(nodes),
        None => groups.push(Group { operator, reason, hint, nodes: nodes.to_vec() }),
    }
}

impl Cell {
    fn new(coverage: &Coverage) -> Cell {
        let (on_device, operators) = coverage.placement.on_device();
        let mut cpu = Vec::new();
        for step in coverage.placement.fallbacks() {
            let Place::Cpu { reason } = &step.place else { continue };
            let nodes: Vec<String> = step.nodes.iter().map(|node| node.to_string()).collect();
            join(&mut cpu, step.op.to_owned(), reason.clone(), cpu_hint(reason), &nodes);
        }
        let waiting = coverage.waiting.len();
        Cell { operators: operators + waiting, on_device, cpu, waiting, unsupported: Vec::new() }
    }

    /// The model does not run at all.
    pub fn is_refused(&self) -> bool {
        !self.unsupported.is_empty()
    }

    /// The part of the operators known to run on the device; those that wait are not counted on either side.
    pub fn share(&self) -> f64 {
        match (self.is_refused(), self.operators - self.waiting) {
            (true, _) => 0.0,
            (false, 0) => 1.0,
            (false, known) => self.on_device as f64 / known as f64,
        }
    }

    /// In a few characters.
    pub fn short(&self) -> String {
        match (self.is_refused(), self.waiting) {
            (true, _) => {
                // What is wrong with the model as a whole concerns no operator.
                let named = |group: &Group| match group.operator.is_empty() {
                    true => group.reason.clone(),
                    false => group.operator.clone(),
                };
                let names: Vec<String> = self.unsupported.iter().map(named).collect();
                format!("no: {}", format::name(&names.join(", "), 60))
            }
            (false, 0) => format!("{}/{}", self.on_device, self.operators),
            (false, waiting) => format!("{}/{} ({waiting} wait)", self.on_device, self.operators),
        }
    }

    /// Lines for people.
    pub fn lines(&self, device: &DeviceInfo) -> Vec<String> {
        let mut lines = vec![format!("  {:<10} {}", device.id, self.short())];
        for (label, groups) in [("cpu", &self.cpu), ("refused", &self.unsupported)] {
            for group in groups {
                let first = group.nodes.first().map_or("", String::as_str);
                let more = match group.nodes.len() {
                    0 | 1 => String::new(),
                    len => format!(" and {} more", len - 1),
                };
                let node = format::name(first, 40);
                lines.push(format!("             {label}  {} {node:?}{more}", group.operator));
                lines.push(format!("                  {}", format::name(&group.reason, 200)));
                lines.push(format!("                  help: {}", group.hint));
            }
        }
        lines
    }

    /// The cell as a document.
    pub fn document(&self, device: &DeviceInfo) -> Value {
        let groups = |groups: &[Group]| -> Vec<Value> {
            let all = groups.iter().map(|group| {
                json!({"operator": group.operator, "reason": group.reason, "hint": group.hint,
                               "nodes": group.nodes})
            });
            all.collect()
        };
        json!({"device": device.id, "name": device.name, "operators": self.operators,
               "on_device": self.on_device, "waiting": self.waiting, "coverage": self.share(),
               "cpu": groups(&self.cpu), "unsupported": groups(&self.unsupported)})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_short_forms() {
        let cell = Cell { operators: 12, on_device: 8, waiting: 2, ..Cell::default() };
        assert_eq!((cell.share(), cell.short().as_str()), (0.8, "8/12 (2 wait)"));
        let mut refused = Cell { operators: 4, ..Cell::default() };
        for node in ["a", "b"] {
            join(
                &mut refused.unsupported,
                "Frobnicate".into(),
                "unknown".into(),
                "rename it",
                &[node.to_owned()],
            );
        }
        assert_eq!((refused.share(), refused.short().as_str()), (0.0, "no: Frobnicate"));
        assert_eq!(refused.unsupported[0].nodes, ["a", "b"]);
        assert_eq!(Cell::default().share(), 1.0);
        assert!(cpu_hint("Range: f64 has no GPU form").contains("f32"));
        assert!(cpu_hint("it has no GPU kernel").contains("--fallback allow"));
    }
}
