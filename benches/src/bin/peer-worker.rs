//! Sardonyx as a worker of a comparison of engines: see [`sardonyx_benches`] for the protocol.

#![allow(clippy::print_stdout, reason = "the protocol is spoken on standard output")]

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Instant;

use sardonyx::{Device, Fallback, Model, Precision, Select, Session, Tensor};
use sardonyx_benches::{Arguments, numpy_name};
use serde_json::{Value, json};

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err((stage, message)) => {
            say(&json!({"event": "error", "stage": stage, "message": message}));
            ExitCode::FAILURE
        }
    }
}

fn say(event: &Value) {
    println!("{event}");
    // The other side is gone when this fails; the next read ends the worker.
    let _ = std::io::stdout().flush();
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn serve() -> Result<(), (&'static str, String)> {
    let at = |stage: &'static str| move |error: &dyn std::fmt::Display| (stage, error.to_string());
    let arguments = Arguments::parse(std::env::args().skip(1)).map_err(|e| at("inputs")(&e))?;
    let start = Instant::now();
    let device = Device::open(Select::parse(&arguments.device)).map_err(|e| at("load")(&e))?;
    let model = Model::open(&arguments.model).map_err(|e| at("load")(&e))?;
    let mut builder = Session::builder()
        .device(device)
        .fallback(Fallback::Allow)
        .threads(arguments.threads)
        .precision(if arguments.f16 { Precision::F16 } else { Precision::Model });
    for (name, tensor) in &arguments.inputs {
        builder = builder.shape(name, tensor.dims());
    }
    let session = builder.build(&model).map_err(|e| at("load")(&e))?;
    say(&json!({"event": "ready", "load_ms": milliseconds(start)}));
    let inputs: Vec<(&str, &Tensor)> =
        arguments.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| at("run")(&e))?;
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["first"] => {
                let start = Instant::now();
                let outputs = session.run(inputs.clone()).map_err(|e| at("first")(&e))?;
                let ms = milliseconds(start);
                let mut described = Vec::new();
                for (index, (name, tensor)) in outputs.iter().enumerate() {
                    let file = arguments.out.join(format!("{index}.raw"));
                    std::fs::write(&file, tensor.bytes()).map_err(|e| at("first")(&e))?;
                    described.push(json!({
                        "name": name,
                        "dtype": numpy_name(tensor.dtype()),
                        "shape": tensor.dims(),
                        "file": file.to_string_lossy(),
                    }));
                }
                say(&json!({"event": "first", "ms": ms, "outputs": described}));
            }
            ["run", count] => {
                let count: usize = count.parse().map_err(|e| at("run")(&e))?;
                let mut times = Vec::with_capacity(count);
                for _ in 0..count {
                    let start = Instant::now();
                    session.run(inputs.clone()).map_err(|e| at("run")(&e))?;
                    times.push(milliseconds(start));
                }
                say(&json!({"event": "run", "ms": times}));
            }
            ["quit"] => break,
            _ => return Err(("run", format!("unknown command \"{line}\""))),
        }
    }
    Ok(())
}
