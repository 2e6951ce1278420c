//! The portability report: every adapter of this machine, and what smaller devices would do, as one matrix, with the
//! reasons for what does not work.

mod cell;
mod forms;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::State;
use crate::bind;
use crate::describe;
use crate::environment;
use crate::failure::{Failure, Fault};
use crate::output::{Console, atomic};
use cell::Cell;

/// What the report is made of.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Portability report")]
pub struct MatrixArgs {
    /// Write a matrix of devices and what works there to FILE.md or FILE.html
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Conformance cases of the report: a folder of ONNX backend tests
    #[arg(long, value_name = "DIR", requires = "report")]
    suite: Option<PathBuf>,
    /// Only cases that fit, as of `conformance`
    #[arg(long, value_name = "PATTERN", requires = "suite")]
    filter: Option<String>,
    /// Models of the report: compared with the CPU, and measured
    #[arg(long, value_name = "MODEL,...", value_delimiter = ',', requires = "report")]
    models: Vec<PathBuf>,
    /// Rows for the first adapter narrowed to these limits, as of --limits
    #[arg(long, value_name = "PROFILE,...", value_delimiter = ',', requires = "report")]
    narrowed: Vec<String>,
    /// Rows for adapters that have f16, with --precision f16
    #[arg(long, requires = "report")]
    f16: bool,
    /// Measured time of each model on each device
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "report")]
    duration: String,
}

/// A row: a device, perhaps narrowed, and what works there.
struct Row {
    name: String,
    device: String,
    /// What the commands are told besides.
    options: Vec<String>,
    cells: Vec<Cell>,
}

/// The report.
pub struct Report {
    engine: Value,
    environment: Value,
    /// As of `devices --measure`.
    devices: Value,
    heads: Vec<String>,
    rows: Vec<Row>,
}

/// How a report is written.
pub type Form = fn(&Report) -> String;

impl MatrixArgs {
    /// Where the report goes, and in which form.
    ///
    /// # Errors
    /// When the file's ending says no form.
    pub fn target(&self) -> Result<Option<(&Path, Form)>, Failure> {
        let Some(path) = &self.report else { return Ok(None) };
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("html") => Ok(Some((path, forms::html))),
            Some("md") => Ok(Some((path, forms::markdown))),
            _ => {
                let message = format!("{}: a report is .md or .html", path.display());
                Err(Failure::new(Fault::Usage, message))
            }
        }
    }
}

/// Makes the report, writes it, and gives its document. `states` has each device's id, and the worst state of its own
/// checks.
///
/// # Errors
/// When a file cannot be written.
pub fn write(
    arguments: &MatrixArgs,
    (path, form): (&Path, Form),
    states: &[(String, State)],
    console: &Console,
) -> Result<Value, Failure> {
    let devices = cell::devices(console)?;
    let mut rows = rows(arguments, &devices, states);
    let mut heads = vec!["device".to_owned(), "doctor".to_owned()];
    let steps = rows.len() * (arguments.models.len() + usize::from(arguments.suite.is_some()));
    let filled = console.progress(steps as u64, "cells");
    if let Some(suite) = &arguments.suite {
        heads.push("conformance".to_owned());
        for row in &mut rows {
            let cell = cell::conformance(suite, arguments.filter.as_deref(), &row.device, &row.options)?;
            row.cells.push(cell);
            filled.advance();
        }
    }
    for model in &arguments.models {
        heads.push(bind::file_name(model));
        for row in &mut rows {
            row.cells.push(cell::model(model, &arguments.duration, &row.device, &row.options)?);
            filled.advance();
        }
    }
    drop(filled);
    let report =
        Report { engine: describe::engine(), environment: environment::describe(), devices, heads, rows };
    atomic::write(path, form(&report).as_bytes())?;
    console.note(format!("report written to {}", path.display()));
    Ok(report.document())
}

/// The rows: every device; those with f16 again with it; the first adapter narrowed.
fn rows(arguments: &MatrixArgs, devices: &Value, states: &[(String, State)]) -> Vec<Row> {
    let listed = || devices.as_array().into_iter().flatten();
    let row = |device: &Value, words: &str, options: &[&str]| {
        let id = device["id"].as_str().unwrap_or_default();
        let checks = states.iter().find(|(of, _)| of == id && options.is_empty());
        Row {
            name: format!("{id} {}{words}", device["name"].as_str().unwrap_or_default()),
            device: id.to_owned(),
            options: options.iter().map(|word| (*word).to_owned()).collect(),
            cells: vec![checks.map_or_else(Cell::empty, |(_, state)| Cell::of(*state, state.word()))],
        }
    };
    let has_f16 =
        |device: &&Value| device["features"].as_array().is_some_and(|all| all.contains(&json!("f16")));
    let mut rows: Vec<Row> = listed().map(|device| row(device, "", &[])).collect();
    if arguments.f16 {
        rows.extend(listed().filter(has_f16).map(|device| row(device, " in f16", &["--precision", "f16"])));
    }
    if let Some(first) = listed().find(|device| device["kind"] != "cpu") {
        let narrowed = arguments.narrowed.iter();
        rows.extend(narrowed.map(|limits| row(first, &format!(" as {limits}"), &["--limits", limits])));
    }
    rows
}

impl Report {
    fn document(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let cells = row.cells.iter().zip(&self.heads[1..]);
                let cells: Vec<Value> = cells.map(|(cell, head)| cell.document(head)).collect();
                json!({"device": row.device, "name": row.name, "options": row.options, "cells": cells})
            })
            .collect();
        json!({"environment": self.environment, "devices": self.devices, "rows": rows})
    }
}
