//! A cell of the report: what works on a device, and why something does not.
//!
//! Each is a process of its own: what a driver does to one cannot reach the others.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::State;
use crate::failure::{Failure, Fault};
use crate::output::{Console, format};

/// What a cell says.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Does it work? `None`: not asked.
    pub state: Option<State>,
    /// In words, the most important first.
    pub lines: Vec<String>,
    /// Why something does not work, and of how much that is true; the most frequent first.
    pub reasons: Vec<Reason>,
}

/// Why something does not work.
#[derive(Clone, Debug)]
pub struct Reason {
    /// The reason.
    pub why: String,
    /// The cases or nodes.
    pub of: Vec<String>,
}

impl Cell {
    /// A cell of one line.
    pub fn of(state: State, line: impl Into<String>) -> Cell {
        Cell { state: Some(state), lines: vec![line.into()], reasons: Vec::new() }
    }

    /// What was not asked.
    pub fn empty() -> Cell {
        Cell { state: None, lines: Vec::new(), reasons: Vec::new() }
    }

    /// What did not run at all, as the command said it.
    fn failed(document: &Value) -> Cell {
        let said = document.as_str().unwrap_or("it ended without a result");
        Cell::of(State::Fail, format::name(said, 160))
    }

    /// As a field of a document.
    pub fn document(&self, what: &str) -> Value {
        let reasons: Vec<Value> =
            self.reasons.iter().map(|reason| json!({"reason": reason.why, "of": reason.of})).collect();
        json!({"what": what, "state": self.state.map(State::word), "lines": self.lines, "reasons": reasons})
    }
}

/// Runs this command with `arguments`, and gives its exit code and document, or what it said instead as text.
fn ask(arguments: &[&str]) -> Result<(i32, Value), Failure> {
    let fail = |error: std::io::Error| Failure::new(Fault::Defect, format!("a cell of the report: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(fail)?);
    command.args(arguments).args(["--json", "--quiet"]);
    let output = command.stdin(Stdio::null()).output().map_err(fail)?;
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        // A command that ended with an error has no document: its first line says why.
        let text = String::from_utf8_lossy(&output.stderr);
        Value::String(text.lines().next().unwrap_or("it crashed").to_owned())
    });
    Ok((output.status.code().unwrap_or(-1), document))
}

/// Asks on a device, with the row's options.
fn ask_on(words: &[&str], device: &str, options: &[String]) -> Result<(i32, Value), Failure> {
    let options = options.iter().map(String::as_str);
    let words: Vec<&str> = words.iter().copied().chain(["--device", device]).chain(options).collect();
    ask(&words)
}

/// The devices with what they can reach, as of `devices --measure`; without it where one cannot be measured.
pub fn devices(console: &Console) -> Result<Value, Failure> {
    let _progress = console.progress(None, "measuring what the devices can reach");
    for words in [&["devices", "--measure"][..], &["devices"]] {
        let (code, mut document) = ask(words)?;
        if code == 0 {
            return Ok(document["devices"].take());
        }
    }
    Ok(json!([]))
}

/// Which cases pass? Refused is what is said to be unsupported, which is no wrong answer.
pub fn conformance(
    suite: &Path,
    filter: Option<&str>,
    device: &str,
    options: &[String],
) -> Result<Cell, Failure> {
    let suite = suite.to_string_lossy();
    let mut words = vec!["conformance", "--suite", &*suite];
    words.extend(filter.into_iter().flat_map(|filter| ["--filter", filter]));
    let (_, document) = ask_on(&words, device, options)?;
    Ok(document["cases"].as_array().map_or_else(|| Cell::failed(&document), |cases| of_cases(cases)))
}

fn of_cases(cases: &[Value]) -> Cell {
    let count = |status: &str| cases.iter().filter(|case| case["status"] == status).count();
    let (pass, fail, skip) = (count("pass"), count("fail"), count("skip"));
    let state = match (fail, skip) {
        (0, 0) => State::Ok,
        (0, _) => State::Warn,
        _ => State::Fail,
    };
    let mut lines = vec![format!("{pass} of {} pass", cases.len())];
    lines.extend((fail > 0).then(|| format!("{fail} FAIL")));
    lines.extend((skip > 0).then(|| format!("{skip} refused")));
    let bad = cases.iter().filter(|case| case["status"] != "pass");
    let reasons = grouped(bad.map(|case| {
        let text = |field: &str| case[field].as_str().unwrap_or_default().to_owned();
        (format!("{}: {}", text("status"), text("reason")), text("name"))
    }));
    Cell { state: Some(state), lines, reasons }
}

/// Does a model give what the CPU gives, and how long does it take?
pub fn model(path: &Path, duration: &str, device: &str, options: &[String]) -> Result<Cell, Failure> {
    let path = path.to_string_lossy();
    let compared = match device {
        "cpu" => None,
        _ => {
            let (code, document) = ask_on(&["compare", &path, "--against", "cpu"], device, options)?;
            if code != 0 && code != 1 {
                return Ok(Cell::failed(&document));
            }
            Some(document)
        }
    };
    let few = ["--min-runs", "3", "--warmup", "1"];
    let words = [&["bench", &*path, "--fallback", "allow", "--duration", duration], &few[..]].concat();
    let (code, measured) = ask_on(&words, device, options)?;
    if code != 0 {
        return Ok(Cell::failed(&measured));
    }
    Ok(of_model(compared.as_ref(), &measured))
}

fn of_model(compared: Option<&Value>, measured: &Value) -> Cell {
    let plan = &measured["plan"];
    let count = |field: &str| plan[field].as_u64().unwrap_or(0);
    let (on_device, operators) = (count("on_device"), count("operators"));
    let right = compared.is_none_or(|document| document["pass"] == true);
    let state = match (right, on_device == operators) {
        (false, _) => State::Fail,
        (true, false) => State::Warn,
        (true, true) => State::Ok,
    };
    let verdict = compared.map_or_else(
        || "the reference".to_owned(),
        |document| {
            let samples = document["samples"].as_array().into_iter().flatten();
            let outputs = samples.flat_map(|sample| sample["outputs"].as_array().into_iter().flatten());
            let worst = outputs.filter_map(|output| output["max_abs_of_spread"].as_f64()).reduce(f64::max);
            let error = match worst {
                Some(0.0) => "exact".to_owned(),
                Some(worst) => format!("error {} of spread", format::real(worst)),
                None => "no error to tell".to_owned(),
            };
            format!("{}, {error}", if right { "right" } else { "WRONG" })
        },
    );
    let time = |field: &str| measured["latency_ns"][field].as_u64().map(format::milliseconds);
    let times = time("p50").zip(time("p95"));
    let times =
        times.map_or_else(|| "not measured".to_owned(), |(p50, p95)| format!("p50 {p50} ms, p95 {p95}"));
    let dispatches = count("dispatches");
    let launched = if dispatches > 0 { format!(", {dispatches} dispatches") } else { String::new() };
    let placed = format!("{on_device}/{operators} on the device{launched}");
    let fallbacks = plan["fallbacks"].as_array().into_iter().flatten();
    let reasons = grouped(fallbacks.flat_map(|step| {
        let text = |field: &str| step[field].as_str().unwrap_or_default();
        let why = format!("{} on the CPU: {}", text("operator"), text("reason"));
        let nodes = step["nodes"].as_array().into_iter().flatten();
        nodes.map(|node| (why.clone(), node.as_str().unwrap_or_default().to_owned())).collect::<Vec<_>>()
    }));
    Cell { state: Some(state), lines: vec![verdict, times, placed], reasons }
}

/// Groups by reason.
fn grouped(all: impl Iterator<Item = (String, String)>) -> Vec<Reason> {
    let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (why, of) in all {
        by_reason.entry(why).or_default().push(of);
    }
    let mut reasons: Vec<Reason> = by_reason.into_iter().map(|(why, of)| Reason { why, of }).collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.of.len()));
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_counted_and_their_reasons_grouped() {
        let case = |name: &str, status: &str, reason: &str| json!({"name": name, "status": status, "reason": reason});
        let all = [
            case("a", "pass", ""),
            case("b", "skip", "no strings"),
            case("c", "skip", "no strings"),
            case("d", "fail", "off by 1"),
        ];
        let cell = of_cases(&all);
        assert_eq!(cell.state, Some(State::Fail));
        assert_eq!(cell.lines, ["1 of 4 pass", "1 FAIL", "2 refused"]);
        assert_eq!(
            (&*cell.reasons[0].why, &*cell.reasons[0].of),
            ("skip: no strings", &["b".into(), "c".into()][..])
        );
        assert_eq!(of_cases(&all[..2]).state, Some(State::Warn));
        assert_eq!(of_cases(&all[..1]).state, Some(State::Ok));
    }

    #[test]
    fn a_model_is_right_or_wrong_on_its_device_or_not() {
        let compared = |pass: bool, error: f64| {
            json!({"pass": pass, "samples": [{"outputs": [
            {"max_abs_of_spread": error}, {"max_abs_of_spread": error / 2.0}]}]})
        };
        let measured = |on_device: u64| {
            json!({"plan": {"operators": 3, "on_device": on_device, "dispatches": 2,
            "fallbacks": [{"operator": "Relu", "reason": "no kernel", "nodes": ["x", "y"]}]},
            "latency_ns": {"p50": 1_500_000, "p95": 2_000_000}})
        };
        let cell = of_model(Some(&compared(true, 0.25)), &measured(3));
        assert_eq!(cell.state, Some(State::Ok));
        let lines =
            ["right, error 0.25 of spread", "p50 1.500 ms, p95 2.000", "3/3 on the device, 2 dispatches"];
        assert_eq!(cell.lines, lines);
        let cell = of_model(Some(&compared(true, 0.0)), &measured(1));
        assert_eq!((cell.state, &*cell.lines[0]), (Some(State::Warn), "right, exact"));
        assert_eq!((&*cell.reasons[0].why, cell.reasons[0].of.len()), ("Relu on the CPU: no kernel", 2));
        assert_eq!(of_model(Some(&compared(false, 1.0)), &measured(3)).state, Some(State::Fail));
        assert_eq!(of_model(None, &measured(3)).lines[0], "the reference");
    }
}
