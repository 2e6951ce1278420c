//! `sardonyx check MODEL…`: will it run there? Nothing is run, and no kernel is compiled.

mod coverage;
mod matrix;

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::bind;
use crate::cli::{PrecisionArg, SizeArgs};
use crate::describe;
use crate::failure::{Failure, Fault};
use crate::output::Console;
use coverage::Cell;
use sardonyx::Device;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX models
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Devices as `devices` lists them, separated by commas, or all
    #[arg(long, value_delimiter = ',', value_name = "DEVICES", default_value = "all")]
    device: Vec<String>,
    /// How floats are stored on a GPU
    #[arg(long, value_name = "WHICH", value_enum, default_value = "model")]
    precision: PrecisionArg,
    /// Use no more than another device has, as of `run --limits`
    #[arg(long, value_name = "PROFILE|FILE")]
    limits: Option<String>,
    /// Exit with 1 when less than this part of a model's operators runs on a device, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    min_coverage: f64,
    /// Write models times devices to FILE, as .md or .json
    #[arg(long, value_name = "FILE")]
    matrix: Option<PathBuf>,
    #[command(flatten)]
    sizes: SizeArgs,
}

/// Checks each model on each device.
///
/// # Errors
/// When a device is not there, a model cannot be read, or coverage is below what is wanted.
pub fn run(arguments: &Args, console: &Console) -> Result<(), Failure> {
    if !(0.0..=1.0).contains(&arguments.min_coverage) {
        return Err(Failure::new(Fault::Usage, "--min-coverage is a share from 0 to 1"));
    }
    let form = arguments.matrix.as_deref().map(matrix::Form::of).transpose()?;
    let devices = devices(&arguments.device, arguments.limits.as_deref())?;
    let mut rows = Vec::new();
    let mut documents = Vec::new();
    let checked = console.progress(arguments.models.len() as u64, "models");
    for path in &arguments.models {
        let name = bind::file_name(path);
        let cells = coverage::check(path, &devices, arguments.precision, &arguments.sizes, console)?;
        console.line(&name)?;
        for (device, cell) in devices.iter().zip(&cells) {
            cell.lines(device.info()).into_iter().try_for_each(|line| console.line(line))?;
        }
        documents.push(document(&name, &devices, &cells));
        rows.push((name, cells));
        checked.advance();
    }
    drop(checked);
    if let (Some(form), Some(path)) = (form, &arguments.matrix) {
        matrix::write(form, path, &devices, &rows, &documents)?;
        console.note(format!("matrix written to {}", path.display()));
    }
    let mut all = Map::new();
    all.insert("engine".to_owned(), describe::engine());
    all.insert("models".to_owned(), Value::Array(documents));
    console.finish("check", all)?;
    let short = |cell: &Cell| cell.is_refused() || cell.share() < arguments.min_coverage;
    match rows.iter().flat_map(|(_, cells)| cells).any(short) {
        true => Err(Failure::Gate),
        false => Ok(()),
    }
}

/// The devices asked for.
fn devices(names: &[String], limits: Option<&str>) -> Result<Vec<Device>, Failure> {
    if names.iter().any(|name| name == "all") {
        return Device::list().iter().map(|info| bind::open_limited(&info.id, limits)).collect();
    }
    names.iter().map(|name| bind::open_limited(name, limits)).collect()
}

fn document(name: &str, devices: &[Device], cells: &[Cell]) -> Value {
    let cells = devices.iter().zip(cells).map(|(device, cell)| cell.document(device.info()));
    serde_json::json!({"model": name, "devices": cells.collect::<Vec<_>>()})
}
