//! The portability report: every adapter of this machine, and what smaller devices would do, as one matrix.
//!
//! Each cell is a process of its own: what a driver does to one cannot reach the others.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::bind;
use crate::failure::{Failure, Fault};
use crate::output::svg::escape;
use crate::output::{Console, atomic, format};

/// What the report is made of.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Portability report")]
pub struct MatrixArgs {
    /// Write a matrix of devices and what works there to FILE.md or FILE.html
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
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
    /// Measured time of each model on each device
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "report")]
    duration: String,
}

/// A cell: what it says, and whether it is good.
#[derive(Clone, Debug, PartialEq)]
struct Cell {
    text: String,
    good: bool,
}

impl Cell {
    fn good(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), good: true }
    }

    fn bad(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), good: false }
    }
}

/// A row: a device, perhaps narrowed, and what works there.
struct Row {
    name: String,
    device: String,
    limits: Option<String>,
    cells: Vec<Cell>,
}

/// Makes the report. `devices` are ids with names; `checked` is the worst state of each device's own checks.
///
/// # Errors
/// When a file cannot be written, or its ending says no form.
pub fn write(
    arguments: &MatrixArgs,
    path: &Path,
    devices: &[(String, String, &'static str)],
    console: &Console,
) -> Result<(), Failure> {
    let html = match path.extension().and_then(|ending| ending.to_str()) {
        Some("html") => true,
        Some("md") => false,
        _ => {
            let message = format!("{}: a report is .md or .html", path.display());
            return Err(Failure::new(Fault::Usage, message));
        }
    };
    let mut heads = vec!["device".to_owned(), "self-test".to_owned()];
    if arguments.suite.is_some() {
        heads.push("conformance".to_owned());
    }
    heads.extend(arguments.models.iter().map(|model| bind::file_name(model)));
    let mut rows: Vec<Row> = devices
        .iter()
        .map(|(id, name, state)| Row {
            name: format!("{id} {name}"),
            device: id.clone(),
            limits: None,
            cells: vec![if *state == "fail" { Cell::bad(*state) } else { Cell::good(*state) }],
        })
        .collect();
    if let Some((id, name, _)) = devices.iter().find(|(id, ..)| id != "cpu") {
        rows.extend(arguments.narrowed.iter().map(|limits| Row {
            name: format!("{id} {name} as {limits}"),
            device: id.clone(),
            limits: Some(limits.clone()),
            cells: vec![Cell::good("")],
        }));
    }
    let steps = rows.len() * (arguments.models.len() + usize::from(arguments.suite.is_some()));
    let filled = console.progress(steps as u64, "cells");
    for row in &mut rows {
        if let Some(suite) = &arguments.suite {
            row.cells.push(conformance(arguments, suite, &row.device, row.limits.as_deref())?);
            filled.advance();
        }
        for path in &arguments.models {
            row.cells.push(model(arguments, path, &row.device, row.limits.as_deref())?);
            filled.advance();
        }
    }
    drop(filled);
    let text = if html { page(&heads, &rows) } else { markdown(&heads, &rows) };
    atomic::write(path, text.as_bytes())?;
    console.note(format!("report written to {}", path.display()));
    Ok(())
}

/// Runs this command with `arguments`, and gives its exit code and document.
fn ask(arguments: &[&str], device: &str, limits: Option<&str>) -> Result<(i32, Value), Failure> {
    let fail = |error: std::io::Error| Failure::new(Fault::Defect, format!("a cell of the report: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(fail)?);
    command.args(arguments).args(["--json", "--quiet", "--device", device]);
    if let Some(limits) = limits {
        command.args(["--limits", limits]);
    }
    let output = command.stdin(Stdio::null()).output().map_err(fail)?;
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        // A command that ended with an error has no document: its first line says why.
        let text = String::from_utf8_lossy(&output.stderr);
        Value::String(text.lines().next().unwrap_or("it crashed").to_owned())
    });
    Ok((output.status.code().unwrap_or(-1), document))
}

fn conformance(
    arguments: &MatrixArgs,
    suite: &Path,
    device: &str,
    limits: Option<&str>,
) -> Result<Cell, Failure> {
    let suite = suite.to_string_lossy();
    let mut words = vec!["conformance", "--suite", &*suite];
    if let Some(filter) = &arguments.filter {
        words.extend(["--filter", filter]);
    }
    let (_, document) = ask(&words, device, limits)?;
    let Some(cases) = document["cases"].as_array() else { return Ok(Cell::bad(said(&document))) };
    let count = |status: &str| cases.iter().filter(|case| case["status"] == status).count();
    let (pass, fail, skip) = (count("pass"), count("fail"), count("skip"));
    let text = format!("{pass} pass, {fail} fail, {skip} refused");
    Ok(if fail == 0 { Cell::good(text) } else { Cell::bad(text) })
}

/// Does a model give what the CPU gives, and how long does it take?
fn model(arguments: &MatrixArgs, path: &Path, device: &str, limits: Option<&str>) -> Result<Cell, Failure> {
    let path = path.to_string_lossy();
    let (code, document) = ask(&["compare", &path, "--against", "cpu"], device, limits)?;
    if code != 0 && code != 1 {
        return Ok(Cell::bad(said(&document)));
    }
    let (on_device, all) = (document["plan"]["on_device"].as_u64(), document["plan"]["operators"].as_u64());
    let right = document["pass"] == true;
    let bench = [
        "bench",
        &path,
        "--fallback",
        "allow",
        "--duration",
        &arguments.duration,
        "--min-runs",
        "3",
        "--warmup",
        "1",
    ];
    let (_, measured) = ask(&bench, device, limits)?;
    let time = measured["latency_ns"]["p50"].as_u64();
    let text = format!(
        "{}, {}/{} on the device, {}",
        if right { "right" } else { "WRONG" },
        on_device.unwrap_or(0),
        all.unwrap_or(0),
        time.map_or_else(|| "not measured".to_owned(), |ns| format!("{} ms", format::milliseconds(ns)))
    );
    Ok(if right { Cell::good(text) } else { Cell::bad(text) })
}

fn said(document: &Value) -> String {
    format::name(document.as_str().unwrap_or("it ended without a result"), 160)
}

fn markdown(heads: &[String], rows: &[Row]) -> String {
    let bar = |text: &str| text.replace('|', "\\|");
    let mut text = String::from("# Portability\n\n");
    text += &format!("| {} |\n", heads.iter().map(|head| bar(head)).collect::<Vec<_>>().join(" | "));
    text += &format!("|{}\n", "---|".repeat(heads.len()));
    for row in rows {
        let cells: Vec<String> = row.cells.iter().map(|cell| bar(&cell.text)).collect();
        text += &format!("| {} | {} |\n", bar(&row.name), cells.join(" | "));
    }
    text
}

fn page(heads: &[String], rows: &[Row]) -> String {
    let mut table = String::from("<tr>");
    for head in heads {
        table += &format!("<th>{}</th>", escape(head));
    }
    table += "</tr>\n";
    for row in rows {
        table += &format!("<tr><td>{}</td>", escape(&row.name));
        for cell in &row.cells {
            let class = if cell.good { "g" } else { "b" };
            table += &format!("<td class=\"{class}\">{}</td>", escape(&cell.text));
        }
        table += "</tr>\n";
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Portability</title><style>\
         body{{font:14px/1.4 Helvetica,Arial,sans-serif;margin:2em;color:#222}}table{{border-collapse:collapse}}\
         td,th{{border:1px solid #ccc;padding:4px 10px;text-align:left;vertical-align:top}}.g{{background:#eaf5ec}}\
         .b{{background:#fbe9e7;font-weight:bold}}</style></head>\n<body><h1>Portability</h1>\n<table>{table}</table>\
         </body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let row = Row {
            name: "cpu a|b".into(),
            device: "cpu".into(),
            limits: None,
            cells: vec![Cell::good("ok"), Cell::bad("<2 fail")],
        };
        let heads = ["device", "self-test", "conformance"].map(str::to_owned);
        let text = markdown(&heads, std::slice::from_ref(&row));
        assert!(text.ends_with("| cpu a\\|b | ok | <2 fail |\n"), "{text}");
        assert!(page(&heads, &[row]).contains("<td class=\"b\">&lt;2 fail</td>"));
    }
}
