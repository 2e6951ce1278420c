//! `sardonyx inspect MODEL`: what is in a model, and what the plan makes of it.
//!
//! What the file holds is read without the operators being looked at, so a model that cannot run can be inspected too.

mod content;
mod dot;
pub mod planned;
mod shaders;

use std::path::PathBuf;

use clap::ValueEnum;
use sardonyx::{Digest, Error};
use sardonyx_importer::map::map_file;
use sardonyx_importer::onnx::{self, LoadLimits, ModelProto};
use serde_json::{Map, Value, json};

use crate::bind::{self, Opened};
use crate::cli::{DeviceArgs, PlanArgs, SizeArgs};
use crate::describe;
use crate::failure::Failure;
use crate::output::{Console, atomic};

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX model
    model: PathBuf,
    /// What to show, separated by commas
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "PARTS",
        default_value = "io,ops,weights,metadata"
    )]
    show: Vec<Part>,
    /// Write the graph in the DOT language to FILE (- for standard output)
    #[arg(long, value_name = "FILE")]
    dot: Option<PathBuf>,
    /// Write the kernels of the plan, as they are compiled for the device, to DIR, a file each
    #[arg(long, value_name = "DIR")]
    wgsl: Option<PathBuf>,
    /// Write the plan to FILE, for `--plan`: passes, sizes, and the kernels of each step, which can be changed there
    #[arg(long, value_name = "FILE.json")]
    save_plan: Option<PathBuf>,
    #[command(flatten)]
    sizes: SizeArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    plan: PlanArgs,
}

/// `--show`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Inputs and outputs.
    Io,
    /// Operators and how often they are used.
    Ops,
    /// All nodes.
    Nodes,
    /// Weights by type, and the largest.
    Weights,
    /// Producer, operator sets, properties.
    Metadata,
    /// The fused plan on the device, step by step.
    Plan,
    /// What the plan needs of memory.
    Memory,
}

/// Shows the parts asked for.
///
/// # Errors
/// When the file cannot be read or is damaged; for plan and memory, when the model cannot run on the device.
pub fn run(arguments: &Args, console: &Console) -> Result<(), Failure> {
    let refused = |error| bind::failure(&Error::from(error), &arguments.model);
    let bytes = map_file(&arguments.model).map_err(refused)?;
    let size = bytes.len();
    let digest = Digest::of(&bytes).to_string();
    let proto = onnx::read(bytes, &LoadLimits::default()).map_err(refused)?;
    if let Some(path) = &arguments.dot {
        let text = dot::graph(&proto.graph);
        if path.as_os_str() == "-" {
            return console.line(text.trim_end());
        }
        atomic::write(path, text.as_bytes())?;
        console.note(format!("graph written to {}", path.display()));
    }
    let mut document = Map::new();
    document.insert("engine".to_owned(), describe::engine());
    document.insert("model".to_owned(), header(arguments, &proto, &digest, size));
    console.line(format!("{}  {digest}", bind::file_name(&arguments.model)))?;
    let shows = |part: Part| arguments.show.contains(&part);
    if shows(Part::Metadata) {
        content::metadata(&proto, &mut document, console)?;
    }
    if shows(Part::Io) {
        content::io(&proto.graph, &mut document, console)?;
    }
    if shows(Part::Ops) {
        content::operators(&proto.graph, &mut document, console)?;
    }
    if shows(Part::Weights) {
        content::weights(&proto.graph, &mut document, console)?;
    }
    if shows(Part::Nodes) {
        content::nodes(&proto.graph, &mut document, console)?;
    }
    drop(proto);
    let wanted = arguments.wgsl.is_some() || arguments.save_plan.is_some();
    if shows(Part::Plan) || shows(Part::Memory) || wanted {
        let opened = Opened::open(&arguments.model, console)?;
        let planned = planned::plan(&opened, &arguments.sizes, (&arguments.device, &arguments.plan), console)
            .map_err(|failure| failure.in_model(opened.name()))?;
        if shows(Part::Plan) {
            planned.show_plan(arguments.device.settings.precision, &mut document, console)?;
        }
        if shows(Part::Memory) {
            planned.show_memory(&mut document, console)?;
        }
        if let Some(folder) = &arguments.wgsl {
            shaders::write(&planned, folder, &mut document, console)?;
        }
        if let Some(path) = &arguments.save_plan {
            let saved = planned.session().plan().map_err(|error| opened.failure(&error))?;
            atomic::write(path, saved.to_json().as_bytes())?;
            console.note(format!("plan of {} steps written to {}", saved.steps.len(), path.display()));
        }
    }
    console.finish("inspect", document)
}

fn header(arguments: &Args, proto: &ModelProto, digest: &str, size: usize) -> Value {
    json!({"path": arguments.model.display().to_string(), "digest": digest, "file_bytes": size,
           "ir_version": proto.ir_version, "opsets": content::opsets(proto)})
}
