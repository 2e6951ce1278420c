//! What came out of a suite: lines, tables, files.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use sardonyx::DeviceInfo;
use serde_json::{Map, Value, json};

use super::Args;
use super::case::{Outcome, Status};
use super::suite::Case;
use crate::describe;
use crate::failure::{Failure, Fault};
use crate::formats::read_file;
use crate::output::svg::escape;
use crate::output::table::{Align, Table};
use crate::output::{Console, atomic, format};

/// The most bytes of a file of earlier results.
const MOST_BYTES: u64 = 256 << 20;

/// The outcomes of a suite's cases.
pub struct Report<'a> {
    cases: &'a [Case],
    outcomes: Vec<Option<Outcome>>,
}

/// Counts of an operator's cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    pass: usize,
    skip: usize,
    fail: usize,
}

impl Counts {
    fn add(&mut self, status: Status) {
        match status {
            Status::Pass => self.pass += 1,
            Status::Skip => self.skip += 1,
            Status::Fail => self.fail += 1,
        }
    }
}

/// How results differ from earlier ones.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// `name: pass -> fail`.
    pub worse: Vec<String>,
    /// `name: skip -> pass`.
    pub better: Vec<String>,
}

impl Changes {
    /// Lines for people.
    pub fn lines(&self) -> Vec<String> {
        let worse = self.worse.iter().map(|change| format!("WORSE {change}"));
        let better = (!self.better.is_empty())
            .then(|| format!("{} cases are better than expected", self.better.len()));
        worse.chain(better).collect()
    }
}

impl<'a> Report<'a> {
    /// A report without outcomes.
    pub fn new(cases: &'a [Case]) -> Report<'a> {
        Report { cases, outcomes: vec![None; cases.len()] }
    }

    /// Enters the outcome of a case.
    pub fn set(&mut self, index: usize, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(index) {
            *slot = Some(outcome);
        }
    }

    /// The line of a case that has ended: `PASS name`, `FAIL name reason`.
    pub fn line(&self, index: usize) -> Option<String> {
        let outcome = self.outcomes.get(index)?.as_ref()?;
        let word = outcome.status.name().to_uppercase();
        Some(format!("{word} {} {}", self.cases.get(index)?.name, outcome.reason).trim_end().to_owned())
    }

    fn ended(&self) -> impl Iterator<Item = (&Case, &Outcome)> {
        self.cases.iter().zip(&self.outcomes).filter_map(|(case, outcome)| Some((case, outcome.as_ref()?)))
    }

    /// The number of cases with this status.
    pub fn count(&self, status: Status) -> usize {
        self.ended().filter(|(_, outcome)| outcome.status == status).count()
    }

    /// Counts by operator; cases of several operators are counted under `(several)`.
    fn operators(&self) -> BTreeMap<String, Counts> {
        let mut operators: BTreeMap<String, Counts> = BTreeMap::new();
        for (case, outcome) in self.ended() {
            let operator = case.operator.clone().or_else(|| outcome.operator.clone());
            operators
                .entry(operator.unwrap_or_else(|| "(several)".to_owned()))
                .or_default()
                .add(outcome.status);
        }
        operators
    }

    /// Prints a table of the operators that do not pass everywhere, and the closing line.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn summary(&self, console: &Console) -> Result<(), Failure> {
        let columns = [
            ("operator", Align::Left),
            ("pass", Align::Right),
            ("fail", Align::Right),
            ("skip", Align::Right),
        ];
        let mut table = Table::new(&columns);
        for (operator, counts) in self.operators().iter().filter(|(_, counts)| counts.fail + counts.skip > 0)
        {
            let numbers = [counts.pass, counts.fail, counts.skip].map(|n| n.to_string());
            table.row([format::name(operator, 40)].into_iter().chain(numbers));
        }
        if !table.is_empty() {
            console.line(format!("\n{}\n", table.render()))?;
        }
        let [passed, failed, skipped] = [Status::Pass, Status::Fail, Status::Skip].map(|s| self.count(s));
        console.line(format!("{passed} passed, {failed} failed, {skipped} skipped"))
    }

    /// How the outcomes differ from earlier ones. Cases that were not there before do not count.
    pub fn against(&self, expected: &BTreeMap<String, Status>) -> Changes {
        let mut changes = Changes::default();
        for (case, outcome) in self.ended() {
            let Some(before) = expected.get(&case.name) else { continue };
            let change =
                format!("{}: {} -> {} {}", case.name, before.name(), outcome.status.name(), outcome.reason);
            match outcome.status.cmp(before) {
                std::cmp::Ordering::Greater => changes.worse.push(change.trim_end().to_owned()),
                std::cmp::Ordering::Less => changes.better.push(change.trim_end().to_owned()),
                std::cmp::Ordering::Equal => {}
            }
        }
        changes
    }

    /// The fields of the document.
    pub fn document(
        &self,
        suite: &Path,
        info: &DeviceInfo,
        arguments: &Args,
        changes: Option<&Changes>,
    ) -> Map<String, Value> {
        let operators: Vec<Value> = self
            .operators()
            .iter()
            .map(|(operator, counts)| {
                json!({"operator": operator, "passed": counts.pass, "failed": counts.fail, "skipped": counts.skip})
            })
            .collect();
        let cases: Vec<Value> = self
            .ended()
            .map(|(case, outcome)| {
                json!({"name": case.name, "status": outcome.status.name(), "reason": outcome.reason,
                       "operator": case.operator.as_ref().or(outcome.operator.as_ref()), "time_ns": outcome.time_ns})
            })
            .collect();
        let mut document = Map::new();
        document.insert("engine".to_owned(), describe::engine());
        document.insert("suite".to_owned(), json!(suite.display().to_string()));
        document.insert("filter".to_owned(), json!(arguments.filter));
        document.insert(
            "device".to_owned(),
            json!({"id": info.id, "name": info.name, "driver": info.driver,
                   "precision": arguments.device.settings.precision.name()}),
        );
        let [passed, failed, skipped] = [Status::Pass, Status::Fail, Status::Skip].map(|s| self.count(s));
        document.insert("passed".to_owned(), json!(passed));
        document.insert("failed".to_owned(), json!(failed));
        document.insert("skipped".to_owned(), json!(skipped));
        document.insert("operators".to_owned(), Value::Array(operators));
        document.insert("cases".to_owned(), Value::Array(cases));
        if let Some(changes) = changes {
            document.insert("changes".to_owned(), json!({"worse": changes.worse, "better": changes.better}));
        }
        document
    }

    /// Writes JUnit XML.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_junit(&self, path: &Path) -> Result<(), Failure> {
        let seconds = |ns: u64| ns as f64 / 1e9;
        let total: u64 = self.ended().map(|(_, outcome)| outcome.time_ns).sum();
        let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(
            text,
            "<testsuite name=\"sardonyx conformance\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{:.3}\">",
            self.ended().count(),
            self.count(Status::Fail),
            self.count(Status::Skip),
            seconds(total)
        );
        for (case, outcome) in self.ended() {
            let name = escape(&case.name);
            let class = escape(case.operator.as_deref().or(outcome.operator.as_deref()).unwrap_or("several"));
            let time = seconds(outcome.time_ns);
            let _ = write!(text, "  <testcase classname=\"{class}\" name=\"{name}\" time=\"{time:.3}\"");
            let reason = escape(&outcome.reason);
            let _ = match outcome.status {
                Status::Pass => writeln!(text, "/>"),
                Status::Fail => writeln!(text, "><failure message=\"{reason}\"/></testcase>"),
                Status::Skip => writeln!(text, "><skipped message=\"{reason}\"/></testcase>"),
            };
        }
        text.push_str("</testsuite>\n");
        atomic::write(path, text.as_bytes())
    }

    /// Writes a table of all operators as Markdown.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_markdown(&self, path: &Path, info: &DeviceInfo) -> Result<(), Failure> {
        let [passed, failed, skipped] = [Status::Pass, Status::Fail, Status::Skip].map(|s| self.count(s));
        let mut text = format!(
            "{passed} passed, {failed} failed, {skipped} skipped on {} ({}).\n\n",
            info.id, info.name
        );
        text.push_str("| operator | pass | fail | skip |\n| --- | ---: | ---: | ---: |\n");
        for (operator, counts) in self.operators() {
            let operator = format::name(&operator, 60).replace('|', "\\|");
            let _ = writeln!(text, "| {operator} | {} | {} | {} |", counts.pass, counts.fail, counts.skip);
        }
        atomic::write(path, text.as_bytes())
    }
}

/// Reads earlier results: this command's document, or an object from name to status.
///
/// # Errors
/// When the file cannot be read, or has another form.
pub fn read_expected(path: &Path) -> Result<BTreeMap<String, Status>, Failure> {
    let fail = |what: &str| Failure::new(Fault::Malformed, format!("{}: {what}", path.display()));
    let value: Value =
        serde_json::from_slice(&read_file(path, MOST_BYTES)?).map_err(|error| fail(&error.to_string()))?;
    let status = |value: &Value| value.as_str().and_then(Status::from_name);
    let statuses: Option<BTreeMap<String, Status>> = match (&value["cases"], &value) {
        (Value::Array(cases), _) => cases
            .iter()
            .map(|case| Some((case["name"].as_str()?.to_owned(), status(&case["status"])?)))
            .collect(),
        (_, Value::Object(entries)) => {
            entries.iter().map(|(name, value)| Some((name.clone(), status(value)?))).collect()
        }
        _ => None,
    };
    statuses
        .ok_or_else(|| fail("neither results of this command nor an object from name to pass, fail or skip"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    fn cases(names: &[&str]) -> Vec<Case> {
        let case = |name: &&str| Case {
            name: (*name).into(),
            folder: name.into(),
            operator: Some(name.split('_').next().unwrap().into()),
            rtol: None,
        };
        names.iter().map(case).collect()
    }

    fn outcome(status: Status, reason: &str) -> Outcome {
        Outcome { status, reason: reason.into(), operator: None, time_ns: 1_500_000_000 }
    }

    #[test]
    fn lines_counts_and_files() {
        let scratch = Scratch::new("report");
        let cases = cases(&["relu_a", "relu_b", "conv_c"]);
        let mut report = Report::new(&cases);
        report.set(1, outcome(Status::Fail, "y: <off> \"far\""));
        assert_eq!(report.line(0), None);
        report.set(0, outcome(Status::Pass, ""));
        report.set(2, outcome(Status::Skip, "no kernel"));
        assert_eq!(report.line(0).unwrap(), "PASS relu_a");
        assert_eq!(report.line(2).unwrap(), "SKIP conv_c no kernel");
        assert_eq!(report.operators()["relu"], Counts { pass: 1, skip: 0, fail: 1 });
        let junit = scratch.path("j.xml");
        report.write_junit(&junit).unwrap();
        let text = std::fs::read_to_string(&junit).unwrap();
        assert!(text.contains("tests=\"3\" failures=\"1\" skipped=\"1\" time=\"4.500\""), "{text}");
        assert!(text.contains("message=\"y: &lt;off&gt; &quot;far&quot;\""), "{text}");
    }

    #[test]
    fn changes_for_the_worse() {
        let scratch = Scratch::new("expect");
        let cases = cases(&["a_1", "b_2", "c_3", "d_4"]);
        let mut report = Report::new(&cases);
        for (i, status) in [Status::Fail, Status::Pass, Status::Skip, Status::Fail].into_iter().enumerate() {
            report.set(i, outcome(status, ""));
        }
        let known = scratch.write("k.json", br#"{"a_1": "skip", "b_2": "fail", "c_3": "skip"}"#);
        let changes = report.against(&read_expected(&known).unwrap());
        assert_eq!(changes.worse, ["a_1: skip -> fail"]);
        assert_eq!(changes.better, ["b_2: fail -> pass"]);
        let known = scratch.write("k.json", br#"{"cases": [{"name": "c_3", "status": "pass"}]}"#);
        assert_eq!(report.against(&read_expected(&known).unwrap()).worse.len(), 1);
        for text in [&b"[]"[..], b"{\"a\": \"good\"}", b"{"] {
            assert!(read_expected(&scratch.write("k.json", text)).is_err());
        }
    }
}
