//! `sardonyx devices`: what there is to run on.

use sardonyx::{Device, DeviceInfo};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::output::{Console, format};

/// Arguments of `devices`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Lists the devices, as `--device` takes them.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(_: &Args, console: &Console) -> Result<(), Failure> {
    let devices = Device::list();
    for (index, info) in devices.iter().enumerate() {
        for line in lines(index, info) {
            console.line(line)?;
        }
    }
    let list: Vec<Value> = devices.iter().enumerate().map(|(index, info)| document(index, info)).collect();
    console.finish("devices", Map::from_iter([("devices".to_owned(), Value::Array(list))]))
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
    json!({"index": index, "id": info.id, "name": info.name, "backend": info.backend, "kind": info.kind.name(),
           "driver": info.driver, "vendor": info.vendor, "features": info.features, "limits": limits})
}
