//! What a later measurement is compared with: the runs of each process, and how fast the machine itself was meanwhile.

use std::path::Path;

use serde_json::{Value, json};

use super::measured::Measured;
use crate::failure::{Failure, Fault};
use crate::formats::{MOST_BYTES, read_file};
use crate::yardstick::Reading;

/// What a comparison needs to know of a process that measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    /// Its runs, in nanoseconds, sorted.
    pub runs: Vec<u64>,
    /// How long a fixed piece of work took meanwhile.
    pub machine: Option<Reading>,
}

/// What a measurement says of its processes.
pub fn processes(measured: &Measured) -> Vec<Process> {
    let last = measured.samples.iter().map(|sample| sample.process).max().unwrap_or(0);
    let of = |process: u64| {
        let own = measured.samples.iter().filter(|sample| sample.process == process);
        let mut runs: Vec<u64> = own.map(|sample| sample.total).collect();
        runs.sort_unstable();
        let machine = usize::try_from(process).ok().and_then(|at| *measured.machine.get(at)?);
        Process { runs, machine }
    };
    (0..=last).map(of).filter(|process| !process.runs.is_empty()).collect()
}

/// What a saved document keeps of the processes that measured the same device, included as the same.
///
/// # Errors
/// When the file cannot be read, has no such measurement, or one of something else.
pub fn read(path: &Path, measured: &Measured, end_to_end: bool) -> Result<Vec<Process>, Failure> {
    let id = measured.id();
    let bytes = read_file(path, MOST_BYTES)?;
    let document: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(Fault::Malformed, format!("{}: {error}", path.display())))?;
    let included = document["included"].as_array().into_iter().flatten();
    let is_same = |part: &&Value| {
        let include = part["include"].as_str().unwrap_or_default();
        part["device"]["id"] == id && (include == measured.include || include.starts_with("device="))
    };
    let part = std::iter::once(&document).chain(included).find(is_same);
    if part.is_some_and(|part| part["end_to_end_ns"].is_object() != end_to_end) {
        let message =
            format!("{}: one of the two was measured with --end-to-end, the other without", path.display());
        return Err(Failure::new(Fault::Usage, message));
    }
    let processes: Option<Vec<Process>> = part.and_then(|part| {
        let list = part["processes"].as_array()?;
        let process = |process: &Value| {
            let quantiles = process["quantiles_ns"].as_array()?;
            let runs: Vec<u64> = quantiles.iter().map(Value::as_u64).collect::<Option<_>>()?;
            let machine = Reading::from_json(&process["machine_ns"]);
            (!runs.is_empty()).then_some(Process { runs, machine })
        };
        list.iter().map(process).collect()
    });
    processes.filter(|processes| !processes.is_empty()).ok_or_else(|| {
        let message = format!("{}: there is no measurement on {id} to compare with", path.display());
        Failure::new(Fault::Usage, message).help("make one: sardonyx bench MODEL --out FILE")
    })
}

/// How much longer the machine took for a fixed piece of work than at the baseline, as parts of that; below 0, how much
/// shorter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MachineChange {
    /// Multiply-adds.
    pub compute: f64,
    /// Copies of memory.
    pub copy: f64,
}

impl MachineChange {
    /// Over all processes; `None` where one of them did not do the work.
    pub fn between(before: &[Process], after: &[Process]) -> Option<MachineChange> {
        let mean = |processes: &[Process], kind: fn(Reading) -> u64| {
            let all: Option<Vec<u64>> = processes.iter().map(|process| process.machine.map(kind)).collect();
            let all = all.filter(|all| !all.is_empty())?;
            Some(all.iter().map(|&ns| ns as f64).sum::<f64>() / all.len() as f64)
        };
        let change = |kind| Some(mean(after, kind)? / mean(before, kind)?.max(1.0) - 1.0);
        Some(MachineChange { compute: change(|r| r.compute)?, copy: change(|r| r.copy)? })
    }

    /// `machine +12.0 % (computing), +30.1 % (copying)`.
    pub fn to_text(self) -> String {
        let [compute, copy] = [self.compute, self.copy].map(|part| part * 100.0);
        format!("the machine itself {compute:+.1} % (computing), {copy:+.1} % (copying): allowed for")
    }

    /// As a field of a document.
    pub fn to_json(self) -> Value {
        json!({"compute": self.compute, "copy": self.copy})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_change_as_their_processes_do() {
        let process =
            |compute: u64, copy: u64| Process { runs: vec![1], machine: Some(Reading { compute, copy }) };
        let (before, after) = ([process(100, 50), process(300, 50)], [process(300, 50)]);
        let change = MachineChange::between(&before, &after).unwrap();
        assert_eq!(change, MachineChange { compute: 0.5, copy: 0.0 });
        assert_eq!(change.to_text(), "the machine itself +50.0 % (computing), +0.0 % (copying): allowed for");
        assert_eq!(MachineChange::between(&before, &[Process::default()]), None);
        assert_eq!(MachineChange::between(&[], &after), None);
    }
}
