//! The kernels of a plan as files.

use std::fmt::Write;
use std::path::Path;

use sardonyx::{DeviceKind, Shader};
use serde_json::{Map, Value, json};

use super::planned::Planned;
use crate::bind;
use crate::failure::{Failure, Fault};
use crate::output::{Console, atomic, format};

/// Writes each kernel to a file in a folder, with what it is launched for on top.
///
/// # Errors
/// When the device is the CPU, or a file cannot be written.
pub fn write(
    planned: &Planned,
    folder: &Path,
    document: &mut Map<String, Value>,
    console: &Console,
) -> Result<(), Failure> {
    let session = planned.session();
    if session.device().info().kind == DeviceKind::Cpu {
        let message = "--wgsl: the CPU runs no kernels in WGSL; name a GPU with --device";
        return Err(Failure::new(Fault::Usage, message));
    }
    let shaders = session.shaders().map_err(|error| bind::failure(&error, Path::new("")))?;
    std::fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
    let mut rows = Vec::new();
    for (index, shader) in shaders.iter().enumerate() {
        let file = format!("{index:03}_{}.wgsl", shader.kernel);
        atomic::write(&folder.join(&file), text(shader).as_bytes())?;
        let launches: Vec<Value> = shader
            .launches
            .iter()
            .map(|launch| {
                let nodes: Vec<&str> = launch.nodes.iter().map(|node| &**node).collect();
                json!({"operator": launch.op, "nodes": nodes, "workgroups": launch.grid})
            })
            .collect();
        rows.push(json!({"file": file, "kernel": shader.kernel, "launches": launches}));
    }
    let launches: usize = shaders.iter().map(|shader| shader.launches.len()).sum();
    console.line(format!(
        "{} kernels of {launches} launches written to {}",
        shaders.len(),
        folder.display()
    ))?;
    document.insert("shaders".to_owned(), Value::Array(rows));
    Ok(())
}

/// The text, after a line for each launch.
fn text(shader: &Shader) -> String {
    let mut text = String::new();
    for launch in &shader.launches {
        let [x, y, z] = launch.grid;
        // A name that a model gives ends no comment.
        let nodes = format::name(&launch.nodes.join(", "), 200);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "// {} {nodes}: {x} x {y} x {z} workgroups", launch.op);
    }
    text + &shader.wgsl
}
