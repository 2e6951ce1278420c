//! The report as a page, and as Markdown for a ticket.

use serde_json::Value;

use super::cell::{Cell, Reason};
use super::{Report, State};
use crate::output::svg::escape;
use crate::output::{format, page};

const TITLE: &str = "Portability";
/// Reasons of a cell that are shown; the document has them all.
const REASONS: usize = 12;
/// Cases or nodes of a reason that are named.
const NAMES: usize = 6;

/// A page of its own.
pub fn html(report: &Report) -> String {
    let mut body = String::from("<h2>Devices</h2>\n");
    body += &table(
        &device_heads(),
        device_rows(report).into_iter().map(|cells| cells.map(|cell| tag("td", "", &cell))),
    );
    body += "<h2>What works</h2>\n<p><span class=\"ok\">all of it</span> <span class=\"warn\">not all of it, or not \
             on the device</span> <span class=\"fail\">wrong, or not at all</span></p>\n";
    let rows = report.rows.iter().map(|row| {
        let cells = row.cells.iter().map(|cell| {
            let lines: Vec<String> = cell.lines.iter().map(|line| escape(line)).collect();
            format!("<td class=\"{}\">{}</td>", cell.state.map_or("", State::word), lines.join("<br>"))
        });
        std::iter::once(tag("td", "", &row.name)).chain(cells).collect::<Vec<_>>()
    });
    body += &table(&report.heads, rows);
    for (title, reasons) in explained(report) {
        body += &format!("<h3>{}</h3>\n", escape(&title));
        let heads = ["why", "how often", "where"].map(str::to_owned);
        body += &table(&heads, reasons.into_iter().map(|cells| cells.map(|cell| tag("td", "", &cell))));
    }
    body += "<h2>Machine</h2>\n";
    body += &page::fields(&report.environment);
    body += "<h2>Engine</h2>\n";
    body += &page::fields(&report.engine);
    page::page(TITLE, &body)
}

/// For a ticket.
pub fn markdown(report: &Report) -> String {
    let mut text = format!("# {TITLE}\n\n## Devices\n\n{}", lined(&device_heads(), device_rows(report)));
    let rows = report.rows.iter().map(|row| {
        let cells = row.cells.iter().map(|cell| cell.lines.join("; "));
        std::iter::once(row.name.clone()).chain(cells).collect::<Vec<_>>()
    });
    text += &format!("\n## What works\n\n{}", lined(&report.heads, rows));
    for (title, reasons) in explained(report) {
        let heads = ["why", "how often", "where"].map(str::to_owned);
        text += &format!("\n### {title}\n\n{}", lined(&heads, reasons));
    }
    for (title, object) in [("Machine", &report.environment), ("Engine", &report.engine)] {
        text += &format!("\n## {title}\n\n");
        for (name, value) in object.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            text +=
                &format!("- {name}: {}\n", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
    text
}

fn tag(name: &str, class: &str, text: &str) -> String {
    format!("<{name} class=\"{class}\">{}</{name}>", escape(text))
}

/// A table of cells with their tags.
fn table<R: IntoIterator<Item = String>>(heads: &[String], rows: impl IntoIterator<Item = R>) -> String {
    let heads: String = heads.iter().map(|head| tag("th", "", head)).collect();
    let mut text = format!("<table class=\"words\"><tr>{heads}</tr>\n");
    for row in rows {
        text += &format!("<tr>{}</tr>\n", row.into_iter().collect::<String>());
    }
    text + "</table>\n"
}

/// A table in Markdown.
fn lined<R: IntoIterator<Item = String>>(heads: &[String], rows: impl IntoIterator<Item = R>) -> String {
    let line = |cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(heads.to_vec());
    text += &format!("|{}\n", "---|".repeat(heads.len()));
    for row in rows {
        text += &line(row.into_iter().collect());
    }
    text
}

fn device_heads() -> [String; 6] {
    ["device", "driver", "kind", "features", "limits", "measured"].map(str::to_owned)
}

fn device_rows(report: &Report) -> Vec<[String; 6]> {
    let row = |device: &Value| {
        let text = |field: &str| device[field].as_str().unwrap_or_default();
        let features = device["features"].as_array().into_iter().flatten();
        let features: Vec<&str> = features.filter_map(Value::as_str).collect();
        let limit = |name: &str| device["limits"][name].as_u64();
        let bytes = |name: &str| limit(name).map(format::bytes);
        let limits = [
            limit("storage_buffers").map(|count| format!("{count} bindings")),
            bytes("binding_bytes").map(|size| format!("of {size}")),
            bytes("buffer_bytes").map(|size| format!("buffer {size}")),
            limit("workgroup_invocations").map(|count| format!("workgroup {count}")),
            bytes("workgroup_memory_bytes").map(|size| format!("with {size}")),
        ];
        let rate = |name: &str, unit: &str| {
            let rate = device["roofs"][name].as_f64()?;
            Some(format!("{} {unit}", format::real((rate / 1e8).round() / 10.0)))
        };
        let rates = [rate("flops_per_second", "GFLOP/s"), rate("bytes_per_second", "GB/s")];
        [
            format!("{} {}", text("id"), text("name")),
            text("driver").to_owned(),
            text("kind").to_owned(),
            features.join(", "),
            limits.into_iter().flatten().collect::<Vec<_>>().join(", "),
            rates.into_iter().flatten().collect::<Vec<_>>().join(", "),
        ]
    };
    report.devices.as_array().into_iter().flatten().map(row).collect()
}

/// What does not work, by row and column, and why.
fn explained(report: &Report) -> Vec<(String, Vec<[String; 3]>)> {
    let of_row = |row: &super::Row| {
        let cells: Vec<(&Cell, &String)> = row.cells.iter().zip(&report.heads[1..]).collect();
        let told = cells.into_iter().filter(|(cell, _)| !cell.reasons.is_empty());
        told.map(|(cell, head)| (format!("{}: {head}", row.name), shown(&cell.reasons))).collect::<Vec<_>>()
    };
    report.rows.iter().flat_map(of_row).collect()
}

fn shown(reasons: &[Reason]) -> Vec<[String; 3]> {
    let mut rows: Vec<[String; 3]> = reasons
        .iter()
        .take(REASONS)
        .map(|reason| {
            let names = reason.of.iter().take(NAMES).map(|name| format::tail(name, 60));
            let mut names: Vec<String> = names.collect();
            names.extend((reason.of.len() > NAMES).then(|| "…".to_owned()));
            [format::name(&reason.why, 200), reason.of.len().to_string(), names.join(", ")]
        })
        .collect();
    let rest: usize = reasons.iter().skip(REASONS).map(|reason| reason.of.len()).sum();
    rows.extend((rest > 0).then(|| ["other reasons".to_owned(), rest.to_string(), String::new()]));
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cmd::doctor::matrix::Row;

    #[test]
    fn both_forms_tell_what_works_and_why_something_does_not() {
        let reason = Reason { why: "no <kernel>".into(), of: vec!["a".into(); 9] };
        let bad =
            Cell { state: Some(State::Fail), lines: vec!["<2".into(), "b|c".into()], reasons: vec![reason] };
        let report = Report {
            engine: json!({"version": "1"}),
            environment: json!({"cpu": "fast", "governor": null}),
            devices: json!([{"id": "cpu", "name": "a|b", "driver": "", "kind": "cpu", "features": ["avx2"],
                             "limits": null, "roofs": {"flops_per_second": 1.23e11, "bytes_per_second": 2e10}}]),
            heads: ["device", "doctor", "conformance"].map(str::to_owned).to_vec(),
            rows: vec![Row {
                name: "cpu a|b".into(),
                device: "cpu".into(),
                options: Vec::new(),
                cells: vec![Cell::of(State::Ok, "ok"), bad],
            }],
        };
        let text = markdown(&report);
        for line in [
            "| cpu a\\|b |  | cpu | avx2 |  | 123 GFLOP/s, 20 GB/s |\n",
            "| cpu a\\|b | ok | <2; b\\|c |\n",
            "### cpu a|b: conformance\n",
            "| no <kernel> | 9 | a, a, a, a, a, a, … |\n",
            "- cpu: fast\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(!text.contains("governor"));
        let page = html(&report);
        assert!(page.contains("<td class=\"fail\">&lt;2<br>b|c</td>"), "{page}");
        assert!(page.contains("no &lt;kernel&gt;"));
        assert_eq!(report.document()["rows"][0]["cells"][1]["reasons"][0]["of"].as_array().unwrap().len(), 9);
    }
}
