//! `--log`: the spans of the engine, each in a line of standard error when it ends.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::failure::{Failure, Fault};

/// Logs what a filter lets through: a level (`info`, `debug`), or levels of targets (`sardonyx::stages=info`).
///
/// # Errors
/// When the filter cannot be understood.
pub fn start(filter: &str) -> Result<(), Failure> {
    let refused =
        |error: &dyn std::fmt::Display| Failure::new(Fault::Usage, format!("--log {filter}: {error}"));
    let targets: Targets =
        filter.parse().map_err(|error: tracing_subscriber::filter::ParseError| refused(&error))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_span_events(FmtSpan::CLOSE);
    tracing_subscriber::registry().with(lines).with(targets).try_init().map_err(|error| refused(&error))
}
