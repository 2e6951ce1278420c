//! `sardonyx doctor`: what is wrong with this machine's devices, and what to do about it.

mod kernels;
mod matrix;

use std::path::{Path, PathBuf};

use sardonyx::{Device, DeviceInfo, DeviceKind, Fallback, Model, Select, Session, Tensor};
use sardonyx_importer::onnx::encode_tensor;
use serde_json::{Map, Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::cache::Cache;
use crate::compare::{Tolerance, compare};
use crate::describe;
use crate::failure::{Failure, Fault};
use crate::output::{Console, atomic, format};
use matrix::MatrixArgs;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write what was found to FILE.zip, for those who help: no inputs, no weights
    #[arg(long, value_name = "FILE.zip")]
    bundle: Option<PathBuf>,
    /// Leave out the self-test of every kernel
    #[arg(long)]
    quick: bool,
    /// Test kernels NAME with the text of DIR/NAME.wgsl instead; what is wrong with them is not kept
    #[arg(long = "kernels", value_name = "DIR", conflicts_with = "quick")]
    pub changed: Option<PathBuf>,
    #[command(flatten)]
    matrix: MatrixArgs,
}

/// How a check ended; the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok,
    Warn,
    Fail,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "fail",
        }
    }
}

/// One line of the diagnosis.
#[derive(Clone, Debug)]
struct Check {
    what: String,
    state: State,
    found: String,
    next: Option<String>,
}

impl Check {
    fn new(what: impl Into<String>, state: State, found: impl Into<String>) -> Check {
        Check { what: what.into(), state, found: found.into(), next: None }
    }

    fn next(mut self, next: impl Into<String>) -> Check {
        self.next = Some(next.into());
        self
    }

    fn document(&self) -> Value {
        json!({"what": self.what, "state": self.state.word(), "found": self.found, "next": self.next})
    }
}

/// Checks everything.
///
/// # Errors
/// When something cannot be written; [`Failure::Gate`] when a check failed.
pub fn run(arguments: &Args, console: &Console, cache: &Cache) -> Result<(), Failure> {
    let report = arguments.matrix.target()?;
    let devices = Device::list();
    let mut checks = vec![loader(&devices)];
    let mut states = Vec::new();
    let diagnosed = console.progress(devices.len() as u64, "devices");
    let mut tests = Vec::new();
    for info in &devices {
        let own = device(info, arguments, cache, console, &mut tests)?;
        let worst = own.iter().map(|check| check.state).max().unwrap_or(State::Ok);
        states.push((info.id.clone(), worst));
        checks.extend(own);
        diagnosed.advance();
    }
    drop(diagnosed);
    checks.push(folder());
    checks.push(kept(cache));
    for check in &checks {
        let what = format::name(&check.what, 30);
        console.line(format!("{:<5} {what:<31} {}", check.state.word(), format::name(&check.found, 200)))?;
        if let Some(next) = &check.next {
            console.line(format!("      {:<31} next: {next}", ""))?;
        }
    }
    let worst = checks.iter().map(|check| check.state).max().unwrap_or(State::Ok);
    let mut document = Map::new();
    document.insert("engine".to_owned(), describe::engine());
    document.insert("checks".to_owned(), checks.iter().map(Check::document).collect());
    document.insert("kernels".to_owned(), Value::Array(tests));
    document.insert("worst".to_owned(), json!(worst.word()));
    if let Some(path) = &arguments.bundle {
        bundle(path, &document, &devices)?;
        console.note(format!("bundle written to {}", path.display()));
    }
    if let Some(target) = report {
        document.insert("report".to_owned(), matrix::write(&arguments.matrix, target, &states, console)?);
    }
    console.finish("doctor", document)?;
    if worst == State::Fail { Err(Failure::Gate) } else { Ok(()) }
}

/// Are there GPUs at all?
fn loader(devices: &[DeviceInfo]) -> Check {
    let gpus: Vec<&DeviceInfo> = devices.iter().filter(|info| info.kind != DeviceKind::Cpu).collect();
    let real = gpus.iter().filter(|info| info.kind != DeviceKind::Software).count();
    let found = format!("{} adapters, {real} of them hardware", gpus.len());
    match (gpus.len(), real) {
        (0, _) => Check::new("adapters", State::Warn, "none found: everything runs on the CPU")
            .next("install the GPU's Vulkan driver and loader (libvulkan1, mesa-vulkan-drivers)"),
        (_, 0) => Check::new("adapters", State::Warn, found)
            .next("only software adapters: install the GPU's own driver, or use --device cpu"),
        _ => Check::new("adapters", State::Ok, found),
    }
}

/// Does a device open, are its kernels right, does it agree with the CPU, and tell the time? Adds the tests of kernels.
fn device(
    info: &DeviceInfo,
    arguments: &Args,
    cache: &Cache,
    console: &Console,
    tests: &mut Vec<Value>,
) -> Result<Vec<Check>, Failure> {
    let mut opened = match Device::open(Select::parse(&info.id)) {
        Ok(device) => device,
        Err(error) => {
            let next = "update or reinstall the driver; choose another device meanwhile";
            let check = Check::new(format!("{} opens", info.id), State::Fail, error.to_string());
            return Ok(vec![check.next(next)]);
        }
    };
    let driver =
        if info.driver.is_empty() { info.name.clone() } else { format!("{}, {}", info.name, info.driver) };
    let mut checks = vec![Check::new(format!("{} opens", info.id), State::Ok, driver)];
    for quirk in &info.quirks {
        let found = format!("without {}: {}", quirk.off(), quirk.why);
        let check = Check::new(format!("{} driver defect", info.id), State::Warn, found);
        checks.push(check.next(format!("update the driver; known from {}", quirk.source)));
    }
    if info.kind != DeviceKind::Cpu && !arguments.quick {
        let own;
        (opened, own) = kernels::test(&opened, arguments.changed.as_deref(), cache, console, tests)?;
        checks.push(own);
    }
    let what = format!("{} agrees with the CPU", info.id);
    checks.push(match agrees(&opened) {
        Ok(text) => Check::new(what, State::Ok, text),
        Err(text) => Check::new(what, State::Fail, text)
            .next(format!("do not use {}; report it with `doctor --bundle FILE.zip`", info.id)),
    });
    if info.kind != DeviceKind::Cpu {
        checks.extend([timestamps(&opened), limits(info)]);
    }
    Ok(checks)
}

/// Runs a tiny model there and on the CPU.
fn agrees(device: &Device) -> Result<String, String> {
    let text = |error: sardonyx::Error| error.to_string();
    let model = tiny_model().map_err(text)?;
    let input = Tensor::from_vec(&[17, 33], (0..17 * 33).map(|i| (i as f32 * 0.37).sin()).collect());
    let input = input.map_err(|error| error.to_string())?;
    let run = |device: Device| {
        let session = Session::builder().device(device).fallback(Fallback::Deny).build(&model)?;
        let outputs = session.run([("x", &input)])?;
        outputs.get("y").cloned()
    };
    let got = run(device.clone()).map_err(text)?;
    let want = run(Device::cpu()).map_err(text)?;
    let comparison = compare(&got, &want, Tolerance::default_for(want.dtype(), false));
    if comparison.passes() {
        Ok(format!("max abs {}", format::real(comparison.max_abs)))
    } else {
        Err(comparison.to_text())
    }
}

/// `y = Softmax(Relu(x W))`: a matrix product, a pointwise function and a reduction.
fn tiny_model() -> sardonyx::Result<Model> {
    const INNER: usize = 33;
    const OUTER: usize = 19;
    let weights: Vec<f32> = (0..INNER * OUTER).map(|i| (i as f32 * 0.73).cos() * 0.3).collect();
    let weights = Tensor::from_vec(&[INNER, OUTER], weights)?;
    let field = |number: u8, content: &[u8]| {
        let mut out = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(content);
        out
    };
    let node = |op: &str, inputs: &[&str], output: &str| {
        let mut out: Vec<u8> = inputs.iter().flat_map(|name| field(1, name.as_bytes())).collect();
        out.extend(field(2, output.as_bytes()));
        out.extend(field(4, op.as_bytes()));
        field(1, &out)
    };
    let value = |number: u8, name: &str, columns: u8| {
        let dims = [17, columns].map(|size| field(1, &[1 << 3, size])).concat();
        let tensor = [vec![1 << 3, 1], field(2, &dims)].concat();
        field(number, &[field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat())
    };
    let graph = [
        node("MatMul", &["x", "w"], "a"),
        node("Relu", &["a"], "b"),
        node("Softmax", &["b"], "y"),
        field(2, b"tiny"),
        field(5, &encode_tensor(&weights, "w")),
        value(11, "x", INNER as u8),
        value(12, "y", OUTER as u8),
    ]
    .concat();
    Model::from_bytes([vec![1 << 3, 8], field(7, &graph), field(8, &[2 << 3, 17])].concat())
}

/// Do timestamps count?
fn timestamps(device: &Device) -> Check {
    let what = format!("{} timestamps", device.info().id);
    let profile = tiny_model().and_then(|model| {
        let session = Session::builder().device(device.clone()).fallback(Fallback::Allow).build(&model)?;
        let input = Tensor::from_vec(&[17, 33], vec![0.5f32; 17 * 33])?;
        session.profile([("x", &input)], 2)
    });
    match profile {
        Err(error) => Check::new(what, State::Fail, error.to_string()).next("update the driver"),
        Ok(profile) => match profile.clock {
            sardonyx::Clock::Submissions { error } => Check::new(
                what,
                State::Warn,
                format!("none: profiles are by submission, within {}", format::duration(describe::ns(error))),
            ),
            _ if profile.runs.iter().any(|run| !run.on_device().is_zero()) => {
                Check::new(what, State::Ok, "they count")
            }
            _ => Check::new(what, State::Warn, "they stand still; profiles show no kernel times"),
        },
    }
}

/// Is there room for models?
fn limits(info: &DeviceInfo) -> Check {
    const LEAST: u64 = 128 << 20;
    let what = format!("{} limits", info.id);
    let Some(caps) = &info.capabilities else { return Check::new(what, State::Ok, "none") };
    let found =
        format!("binding {}, buffer {}", format::bytes(caps.binding_bytes), format::bytes(caps.buffer_bytes));
    if caps.binding_bytes < LEAST {
        return Check::new(what, State::Warn, found)
            .next("tensors beyond that run on the CPU: --fallback allow");
    }
    Check::new(what, State::Ok, found)
}

/// Can compiled kernels be kept?
fn kept(cache: &Cache) -> Check {
    let what = "cache is writable";
    let Some(folder) = cache.folder() else {
        return Check::new(what, State::Ok, "off: kernels are compiled in each process");
    };
    match std::fs::create_dir_all(folder).and_then(|()| write_in(folder)) {
        Ok(()) => Check::new(what, State::Ok, folder.display().to_string()),
        Err(error) => Check::new(what, State::Warn, format!("{}: {error}", folder.display()))
            .next("set SARDONYX_CACHE_DIR to a folder that can be written, or to off"),
    }
}

/// Makes a file in a folder, and removes it.
fn write_in(folder: &Path) -> std::io::Result<()> {
    let file = folder.join(format!("doctor-{}", std::process::id()));
    std::fs::write(&file, b"x").and_then(|()| std::fs::remove_file(&file))
}

/// Can files be made where temporary ones go?
fn folder() -> Check {
    let folder = std::env::temp_dir();
    let what = "temporary folder is writable";
    match write_in(&folder) {
        Ok(()) => Check::new(what, State::Ok, folder.display().to_string()),
        Err(error) => Check::new(what, State::Fail, format!("{}: {error}", folder.display()))
            .next("set TMPDIR to a folder that can be written"),
    }
}

/// Writes the findings as an archive.
fn bundle(path: &Path, document: &Map<String, Value>, devices: &[DeviceInfo]) -> Result<(), Failure> {
    use std::io::Write;
    let fail = |error: &dyn std::fmt::Display| Failure::new(Fault::File, format!("the bundle: {error}"));
    let devices: Vec<String> = devices.iter().map(|info| format!("{info:#?}")).collect();
    let environment: Vec<String> = [
        "VK_ICD_FILENAMES",
        "VK_DRIVER_FILES",
        "VK_ADD_DRIVER_FILES",
        "WGPU_BACKEND",
        "WGPU_ADAPTER_NAME",
        "SARDONYX_DEVICE",
        "SARDONYX_CACHE_DIR",
    ]
    .iter()
    .filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)))
    .collect();
    let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(zip::DateTime::default());
    let doctor = format!("{:#}\n", Value::Object(document.clone()));
    for (name, text) in [
        ("doctor.json", doctor),
        ("devices.txt", devices.join("\n")),
        ("environment.txt", environment.join("\n")),
    ] {
        archive.start_file(name, options).map_err(|error| fail(&error))?;
        archive.write_all(text.as_bytes()).map_err(|error| fail(&error))?;
    }
    atomic::write(path, &archive.finish().map_err(|error| fail(&error))?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiny_model_is_sound() {
        let model = tiny_model().unwrap();
        assert_eq!(model.outputs()[0].shape.as_ref().unwrap().len(), 2);
        assert!(agrees(&Device::cpu()).is_ok());
    }
}
