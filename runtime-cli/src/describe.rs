//! Where a result comes from, the same in every command: model, device, plan.

use std::time::Duration;

use sardonyx::{Device, Digest, Place, Placement, Session};
use serde_json::{Value, json};

use crate::bind::Opened;
use crate::cli::PrecisionArg;
use crate::output::{Console, format};

/// The engine: version, the commit where whoever built it named one in `SARDONYX_GIT`, target, and what devices it can
/// drive.
pub fn engine() -> Value {
    json!({"version": env!("CARGO_PKG_VERSION"), "git": option_env!("SARDONYX_GIT"),
           "features": Device::backends(), "os": std::env::consts::OS, "arch": std::env::consts::ARCH})
}

/// The model: file, digest, size, operator sets.
pub fn model(opened: &Opened, digest: &str) -> Value {
    let metadata = opened.model.metadata();
    let opsets: serde_json::Map<String, Value> = metadata
        .opsets
        .iter()
        .map(|set| {
            (if set.domain.is_empty() { "ai.onnx" } else { &*set.domain }.to_owned(), json!(set.version))
        })
        .collect();
    json!({"path": opened.path.display().to_string(), "digest": digest,
           "file_bytes": opened.model.bytes().len(), "ir_version": metadata.ir_version, "opsets": opsets})
}

/// The device and how floats are stored there.
pub fn device(device: &Device, precision: PrecisionArg) -> Value {
    let info = device.info();
    let left_out = device.capabilities().map_or(&[][..], |caps| &caps.without);
    json!({"id": info.id, "name": info.name, "backend": info.backend, "kind": info.kind.name(),
           "driver": info.driver, "precision": precision.name(),
           "changed_kernels": device.changed_kernels().collect::<Vec<_>>(), "left_out_kernels": left_out})
}

/// The plan: its digest, how much of the model it runs on the device, and what not.
pub fn plan(placement: &Placement, digest: Option<Digest>) -> Value {
    let (on_device, operators) = placement.on_device();
    let fallbacks: Vec<Value> = placement
        .fallbacks()
        .map(|step| {
            let reason = if let Place::Cpu { reason } = &step.place { reason.as_str() } else { "" };
            json!({"operator": step.op, "nodes": step.nodes.iter().map(|node| &**node).collect::<Vec<_>>(),
                   "reason": reason})
        })
        .collect();
    json!({"digest": digest.map(|digest| digest.to_string()), "operators": operators, "on_device": on_device, "steps": placement.steps.len(),
           "dispatches": placement.dispatches, "fallbacks": fallbacks})
}

/// Memory by use.
pub fn memory(session: &Session) -> Value {
    let memory = session.memory();
    json!({"device_weights": memory.device_weights, "device_activations": memory.device_activations,
           "device_live": memory.device_live, "device_staging": memory.device_staging,
           "host_activations": memory.host_activations, "host_live": memory.host_live,
           "host_scratch": memory.host_scratch})
}

/// The first line of a result: what ran where.
pub fn headline(opened: &Opened, digest: &str, device: &Device, placement: &Placement) -> String {
    let info = device.info();
    let (on_device, all) = placement.on_device();
    let short: String = digest.chars().take("sha256:".len() + 8).collect();
    let name = format::name(&info.name, 40);
    let changed: Vec<&str> = device.changed_kernels().collect();
    let changed = match changed.len() {
        0 => String::new(),
        _ => format!("\n        changed kernels: {}", format::name(&changed.join(", "), 60)),
    };
    format!(
        "{}  {short}  on {} {name:?}\n        {on_device}/{all} operators on the device, {} dispatches{changed}",
        opened.name(),
        info.id,
        placement.dispatches
    )
}

/// Warns, in one line, of operators that run on the CPU although the device is a GPU.
pub fn warn_of_fallbacks(placement: &Placement, console: &Console) {
    let mut operators: Vec<&str> = placement.fallbacks().map(|step| step.op).collect();
    let Some(first) = placement.fallbacks().next() else { return };
    let count = operators.len();
    operators.sort_unstable();
    operators.dedup();
    let reason = if let Place::Cpu { reason } = &first.place { reason.as_str() } else { "" };
    let names = format::name(&operators.join(", "), 60);
    let reason = format::name(reason, 100);
    console
        .warn(format!("{count} steps run on the CPU: {names} (first: {reason}); --fallback deny forbids it"));
}

/// Nanoseconds for a document.
pub fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
