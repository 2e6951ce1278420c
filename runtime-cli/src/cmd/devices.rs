//! `sardonyx devices`: what there is to run on.

use std::path::{Path, PathBuf};

use sardonyx::{Device, DeviceInfo, Quirk, Roofs};
use serde_json::{Map, Value, json};

use crate::bind;
use crate::failure::{Failure, Fault};
use crate::formats::{MOST_BYTES, read_file};
use crate::output::{Console, atomic, format};

/// Arguments of `devices`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Measure how fast each device copies and computes
    #[arg(long)]
    measure: bool,
    /// Write the document to FILE.json, for `profile --roofs FILE`
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

/// Lists the devices, as `--device` takes them.
///
/// # Errors
/// When standard output cannot be written, or a device to measure cannot be opened.
pub fn run(arguments: &Args, console: &Console) -> Result<(), Failure> {
    let mut list = Vec::new();
    for (index, info) in Device::list().iter().enumerate() {
        for line in lines(index, info) {
            console.line(line)?;
        }
        let mut document = document(index, info);
        if arguments.measure {
            let _progress = console.progress(None, "measuring what the device can reach");
            let measured = bind::open_device(&info.id)?.measure(0);
            let roofs = measured.map_err(|error| bind::failure(&error, Path::new("")))?;
            console.line(format!(
                "   measured  {} GFLOP/s, {} GB/s",
                format::real(roofs.flops_per_second / 1e9),
                format::real(roofs.bytes_per_second / 1e9)
            ))?;
            document["roofs"] = roofs_document(&roofs);
        }
        list.push(document);
    }
    let fields = Map::from_iter([("devices".to_owned(), Value::Array(list))]);
    if let Some(path) = &arguments.save {
        let text = format!("{:#}\n", Value::Object(console.document("devices", fields.clone())));
        atomic::write(path, text.as_bytes())?;
        console.note(format!("saved to {}", path.display()));
    }
    console.finish("devices", fields)
}

/// Roofs as a field of a document.
pub fn roofs_document(roofs: &Roofs) -> Value {
    json!({"bytes_per_second": roofs.bytes_per_second, "flops_per_second": roofs.flops_per_second})
}

/// What a file of `devices --measure --save` says that a device can reach.
///
/// # Errors
/// When the file cannot be read, or does not know the device.
pub fn saved_roofs(path: &Path, id: &str) -> Result<Roofs, Failure> {
    let bytes = read_file(path, MOST_BYTES)?;
    let document: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(Fault::Malformed, format!("{}: {error}", path.display())))?;
    let devices = document["devices"].as_array().into_iter().flatten();
    let roofs = devices.filter(|device| device["id"] == id).find_map(|device| {
        Some(Roofs {
            bytes_per_second: device["roofs"]["bytes_per_second"].as_f64().filter(|rate| *rate > 0.0)?,
            flops_per_second: device["roofs"]["flops_per_second"].as_f64().filter(|rate| *rate > 0.0)?,
        })
    });
    roofs.ok_or_else(|| {
        Failure::new(Fault::Usage, format!("{}: {id} was not measured", path.display()))
            .help("measure it: sardonyx devices --measure --save FILE")
    })
}

fn lines(index: usize, info: &DeviceInfo) -> Vec<String> {
    let mut lines =
        vec![format!("{index}  {:<10} {:?}  {}", info.id, format::name(&info.name, 50), info.kind.name())];
    if !info.driver.is_empty() {
        lines.push(format!("   driver    {}", format::name(&info.driver, 64)));
    }
    if !info.features.is_empty() {
        lines.push(format!("   features  {}", info.features.join(", ")));
    }
    for quirk in &info.quirks {
        lines.push(format!("   quirk     without {}: {} ({})", quirk.off(), quirk.why, quirk.source));
    }
    if let Some(caps) = &info.capabilities {
        lines.push(format!(
            "   limits    {} storage bindings, binding {}, buffer {}",
            caps.storage_buffers,
            format::bytes(caps.binding_bytes),
            format::bytes(caps.buffer_bytes)
        ));
        lines.push(format!(
            "             workgroup {} invocations, {} memory",
            caps.workgroup_invocations,
            format::bytes(caps.workgroup_memory.into())
        ));
    }
    lines
}

fn document(index: usize, info: &DeviceInfo) -> Value {
    let limits = info.capabilities.as_ref().map(|caps| {
        json!({"storage_buffers": caps.storage_buffers, "binding_bytes": caps.binding_bytes,
               "buffer_bytes": caps.buffer_bytes, "workgroup_invocations": caps.workgroup_invocations,
               "workgroup_memory_bytes": caps.workgroup_memory, "grid_axis": caps.grid_axis,
               "subgroup_size": caps.subgroups.map(|(least, most)| [least, most])})
    });
    let quirk = |quirk: &&Quirk| json!({"off": quirk.off(), "why": quirk.why, "source": quirk.source, "date": quirk.date});
    let quirks: Vec<Value> = info.quirks.iter().map(quirk).collect();
    json!({"index": index, "id": info.id, "name": info.name, "backend": info.backend, "kind": info.kind.name(),
           "driver": info.driver, "vendor": info.vendor, "features": info.features, "limits": limits,
           "quirks": quirks})
}
