//! `sardonyx schema COMMAND`: the form of a command's document.

use crate::cmd::bench;
use crate::failure::{Failure, Fault};
use crate::output::Console;

/// The schema of each command's document.
const SCHEMAS: [(&str, &str); 13] = [
    ("bench", include_str!("../../schemas/bench.json")),
    ("bench-kernel", include_str!("../../schemas/bench-kernel.json")),
    ("check", include_str!("../../schemas/check.json")),
    ("compare", include_str!("../../schemas/compare.json")),
    ("conformance", include_str!("../../schemas/conformance.json")),
    ("devices", include_str!("../../schemas/devices.json")),
    ("doctor", include_str!("../../schemas/doctor.json")),
    ("eval", include_str!("../../schemas/eval.json")),
    ("explain", include_str!("../../schemas/explain.json")),
    ("inspect", include_str!("../../schemas/inspect.json")),
    ("profile", include_str!("../../schemas/profile.json")),
    ("quantize", include_str!("../../schemas/quantize.json")),
    ("run", include_str!("../../schemas/run.json")),
];

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The command whose document is meant
    command: String,
    /// Of bench: the names that --assert takes
    #[arg(long)]
    gates: bool,
}

/// Prints the JSON Schema.
///
/// # Errors
/// When the command has no document, or standard output cannot be written.
pub fn run(arguments: &Args, console: &Console) -> Result<(), Failure> {
    let found = SCHEMAS.iter().find(|(command, _)| *command == arguments.command);
    let Some((command, schema)) = found else {
        let known: Vec<&str> = SCHEMAS.iter().map(|(command, _)| *command).collect();
        let message = format!("{:?} has no document; there are {}", arguments.command, known.join(", "));
        return Err(Failure::new(Fault::Usage, message));
    };
    if !arguments.gates {
        return console.result(schema.trim_end());
    }
    if *command != "bench" {
        return Err(Failure::new(Fault::Usage, "--gates is for bench"));
    }
    bench::GATES.iter().try_for_each(|name| console.result(name))
}
