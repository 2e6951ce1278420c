//! What a profile says: lines, the document, CSV.

use sardonyx::{Clock, Placement, Profile, Roofs};
use serde_json::{Map, Value, json};

use super::rows::{By, Row, Rows};
use crate::cmd::devices::roofs_document;
use crate::describe;
use crate::failure::Failure;
use crate::output::table::{Align, Table};
use crate::output::{Console, format};

/// A profile with what it is held against.
#[derive(Debug)]
pub struct Report {
    /// The rows.
    pub rows: Rows,
    /// What the device can reach, when known.
    pub roofs: Option<Roofs>,
    by: By,
    runs: usize,
    clock: Clock,
    /// The median plain and the median profiled run.
    plain_ns: u64,
    profiled_ns: u64,
    device_ns: f64,
    wait_ns: f64,
    alignment_ns: u64,
}

/// How fast a group of steps was, and what holds it back.
struct Speed {
    flops: f64,
    bytes: f64,
    bound: &'static str,
    of_roof: Option<f64>,
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

impl Report {
    /// Sums up a profile.
    pub fn new(profile: &Profile, rows: Rows, roofs: Option<Roofs>, by: By) -> Report {
        let runs = profile.runs.len().max(1) as f64;
        // Some drivers do the work within the submission, before anybody waits.
        let wait = |run: &sardonyx::ProfiledRun| {
            describe::ns(run.stage(sardonyx::HostStage::Wait).max(run.on_device())) as f64
        };
        Report {
            rows,
            roofs,
            by,
            runs: profile.runs.len(),
            clock: profile.clock,
            plain_ns: median(profile.plain.iter().map(|time| describe::ns(*time)).collect()),
            profiled_ns: median(profile.runs.iter().map(|run| describe::ns(run.total)).collect()),
            device_ns: profile.runs.iter().map(|run| describe::ns(run.on_device()) as f64).sum::<f64>()
                / runs,
            wait_ns: profile.runs.iter().map(wait).sum::<f64>() / runs,
            alignment_ns: median(profile.runs.iter().map(|run| describe::ns(run.alignment)).collect()),
        }
    }

    fn speed(&self, row: &Row) -> Option<Speed> {
        if row.ns <= 0.0 || (row.flops == 0 && row.bytes == 0) {
            return None;
        }
        let (flops, bytes) = (row.flops as f64 / row.ns, row.bytes as f64 / row.ns);
        let Some(roofs) = &self.roofs else { return Some(Speed { flops, bytes, bound: "", of_roof: None }) };
        let compute = flops * 1e9 / roofs.flops_per_second;
        let memory = bytes * 1e9 / roofs.bytes_per_second;
        let bound = if compute >= memory { "compute" } else { "memory" };
        Some(Speed { flops, bytes, bound, of_roof: Some(compute.max(memory)) })
    }

    fn clock_words(&self) -> String {
        match self.clock {
            Clock::Host => "host clock".to_owned(),
            Clock::InsidePasses | Clock::Passes => "device clock".to_owned(),
            Clock::Submissions { error } => {
                format!("no timestamps: by submission, each within {}", format::duration(describe::ns(error)))
            }
            _ => "device clock".to_owned(),
        }
    }

    /// Prints the profile: at most `top` rows of steps, then what is no step.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn print(&self, placement: &Placement, top: usize, console: &Console) -> Result<(), Failure> {
        let (_, operators) = placement.on_device();
        let runs = self.runs;
        let launched = if placement.dispatches > 0 {
            format!("{operators} operators in {} dispatches", placement.dispatches)
        } else {
            format!("{operators} operators in {} steps", placement.steps.len())
        };
        console.line(format!("{runs} runs, {launched}, {}", self.clock_words()))?;
        if self.device_ns > 0.0 {
            let between = (self.wait_ns - self.device_ns).max(0.0) / self.wait_ns.max(1.0) * 100.0;
            console.line(format!(
                "sum of kernels {} of {} ms waited ({between:.1} % between)",
                format::milliseconds(self.device_ns as u64),
                format::milliseconds(self.wait_ns as u64)
            ))?;
        }
        if !self.rows.steps.is_empty() {
            console.line(self.table(top).render())?;
        }
        let left = self.rows.steps.len().saturating_sub(top);
        if left > 0 {
            let ns: f64 = self.rows.steps.iter().skip(top).map(|row| row.ns).sum();
            console.line(format!(
                "and {left} more, {} ms ({:.1} %)",
                format::milliseconds(ns as u64),
                self.percent(ns)
            ))?;
        }
        let mut stages = Table::new(&[("stage", Align::Left), ("ms", Align::Right), ("%", Align::Right)]);
        for row in &self.rows.stages {
            let percent = format!("{:.1}", self.percent(row.ns));
            stages.row([row.name.clone(), format::milliseconds(row.ns as u64), percent]);
        }
        console.line(stages.render())?;
        let sum = self.rows.sum_ns();
        console.line(format!(
            "sum     {} ms of {} ms wall ({:+.2} %)",
            format::milliseconds(sum as u64),
            format::milliseconds(self.rows.total_ns as u64),
            (sum / self.rows.total_ns.max(1.0) - 1.0) * 100.0
        ))?;
        console.line(format!(
            "cost    a plain run takes {} ms, a profiled one {} ms ({:.3} x)",
            format::milliseconds(self.plain_ns),
            format::milliseconds(self.profiled_ns),
            self.profiled_ns as f64 / self.plain_ns.max(1) as f64
        ))?;
        if let Some(roofs) = &self.roofs {
            console.line(format!(
                "roofs   {} GFLOP/s, {} GB/s, measured here",
                format::real(roofs.flops_per_second / 1e9),
                format::real(roofs.bytes_per_second / 1e9)
            ))?;
        }
        Ok(())
    }

    fn percent(&self, ns: f64) -> f64 {
        ns / self.rows.total_ns.max(1.0) * 100.0
    }

    fn table(&self, top: usize) -> Table {
        let name = match self.by {
            By::Op => "operator",
            By::Kernel => "kernel",
            By::Shape => "shape",
            By::Node | By::Stage => "node",
        };
        let (wide, second) = match self.by {
            By::Node => (34, "kernel"),
            _ => (44, "calls"),
        };
        let second_align = if self.by == By::Node { Align::Left } else { Align::Right };
        let mut table = Table::new(&[
            (name, Align::Left),
            (second, second_align),
            ("ms", Align::Right),
            ("%", Align::Right),
            ("GFLOP/s", Align::Right),
            ("GB/s", Align::Right),
            ("bound", Align::Left),
            ("roof", Align::Right),
        ]);
        for row in self.rows.steps.iter().take(top) {
            let speed = self.speed(row);
            let number = |of: fn(&Speed) -> f64| {
                speed.as_ref().map_or_else(String::new, |speed| format!("{:.1}", of(speed)))
            };
            let roof = speed.as_ref().and_then(|speed| speed.of_roof);
            let mark = if row.place == "cpu" && self.device_ns > 0.0 { " (cpu)" } else { "" };
            table.row([
                format!("{}{mark}", format::tail(&row.name, wide)),
                if self.by == By::Node { format::tail(&row.what, 20) } else { row.calls.to_string() },
                format::milliseconds(row.ns as u64),
                format!("{:.1}", self.percent(row.ns)),
                number(|speed| speed.flops),
                number(|speed| speed.bytes),
                speed.as_ref().map_or("", |speed| speed.bound).to_owned(),
                roof.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0)),
            ]);
        }
        table
    }

    /// The fields of the document.
    pub fn document(&self) -> Map<String, Value> {
        let (clock, error) = match self.clock {
            Clock::Host => ("host", 0),
            Clock::InsidePasses => ("device, inside passes", 0),
            Clock::Passes => ("device, by pass", 0),
            Clock::Submissions { error } => ("host, by submission", describe::ns(error)),
            _ => ("device", 0),
        };
        let rows: Vec<Value> = self
            .rows
            .steps
            .iter()
            .map(|row| {
                let speed = self.speed(row);
                let bound = speed.as_ref().map(|speed| speed.bound).filter(|bound| !bound.is_empty());
                json!({"name": row.name, "kernels": row.what, "place": row.place, "ns": row.ns.round() as u64,
                       "share": row.ns / self.rows.total_ns.max(1.0), "calls": row.calls,
                       "flops": row.flops, "bytes": row.bytes, "bound": bound,
                       "of_roof": speed.and_then(|speed| speed.of_roof)})
            })
            .collect();
        let stages: Vec<Value> = self
            .rows
            .stages
            .iter()
            .map(|row| {
                json!({"name": row.name, "ns": row.ns.round() as u64,
                              "share": row.ns / self.rows.total_ns.max(1.0)})
            })
            .collect();
        let roofs = self.roofs.as_ref().map(roofs_document);
        Map::from_iter([
            (
                "clock".to_owned(),
                json!({"source": clock, "step_error_ns": error, "alignment_ns": self.alignment_ns}),
            ),
            ("total_ns".to_owned(), json!(self.rows.total_ns.round() as u64)),
            ("sum_ns".to_owned(), json!(self.rows.sum_ns().round() as u64)),
            ("profiled_ns".to_owned(), json!(self.profiled_ns)),
            ("plain_ns".to_owned(), json!(self.plain_ns)),
            ("kernels_ns".to_owned(), json!(self.device_ns.round() as u64)),
            ("rows".to_owned(), Value::Array(rows)),
            ("stages".to_owned(), Value::Array(stages)),
            ("roofs".to_owned(), json!(roofs)),
        ])
    }

    /// All rows as CSV.
    pub fn csv(&self) -> String {
        let mut text = String::from("name,kernels,place,ns,share,calls,flops,bytes,bound,of_roof\n");
        for row in self.rows.steps.iter().chain(&self.rows.stages) {
            let speed = self.speed(row);
            let fields = [
                quoted(&row.name),
                quoted(&row.what),
                row.place.to_owned(),
                format!("{:.0}", row.ns),
                format!("{:.6}", row.ns / self.rows.total_ns.max(1.0)),
                row.calls.to_string(),
                row.flops.to_string(),
                row.bytes.to_string(),
                speed.as_ref().map_or("", |speed| speed.bound).to_owned(),
                speed.and_then(|s| s.of_roof).map_or_else(String::new, |share| format!("{share:.4}")),
            ];
            text.push_str(&fields.join(","));
            text.push('\n');
        }
        text
    }
}

/// A field of CSV. A leading `=`, `+`, `-` or `@` gets an apostrophe, so that no spreadsheet computes it.
fn quoted(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
    if text.contains([',', '"', '\n', '\r']) || !guard.is_empty() {
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_and_medians() {
        assert_eq!(quoted("a,b\"c"), "\"a,b\"\"c\"");
        assert_eq!(quoted("=1+1"), "\"'=1+1\"");
        assert_eq!(median(vec![3, 1, 2]), 2);
    }
}
