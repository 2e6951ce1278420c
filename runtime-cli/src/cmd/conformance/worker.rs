//! The worker's side: a case's folder and tolerance a line on standard input, its outcome a line on standard output.

use std::io::{BufRead, Write};
use std::panic::AssertUnwindSafe;
use std::path::Path;

use serde_json::Value;

use super::case::{self, Outcome};
use crate::bind;
use crate::cli::DeviceArgs;
use crate::failure::{Failure, Fault};

/// Serves cases until standard input ends.
///
/// # Errors
/// When the device cannot be opened, or a stream fails.
pub fn serve(arguments: &DeviceArgs) -> Result<(), Failure> {
    let device = bind::device(arguments)?;
    let stream =
        |error: std::io::Error| Failure::new(Fault::File, format!("the suite's process is gone: {error}"));
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(stream)?;
        let request: Value = serde_json::from_str(&line)
            .map_err(|error| Failure::new(Fault::Defect, format!("a request is damaged: {error}")))?;
        let folder = Path::new(request["folder"].as_str().unwrap_or(""));
        let rtol = request["rtol"].as_f64();
        let run = AssertUnwindSafe(|| case::run(folder, rtol, &device, &arguments.settings));
        let outcome = std::panic::catch_unwind(run).unwrap_or_else(|panic| {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Outcome::failed(format!("panicked: {message}"), 0)
        });
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{}", outcome.to_json()).and_then(|()| stdout.flush()).map_err(stream)?;
    }
    Ok(())
}
