//! The self-test of a device's kernels, and what follows from it.

use std::collections::BTreeSet;
use std::path::Path;

use sardonyx::{Device, KernelTest, Precision};
use serde_json::{Value, json};

use super::{Check, State};
use crate::cache::Cache;
use crate::failure::Failure;
use crate::kernels;
use crate::output::{Console, format};
use crate::quarantine::{self, Faults};

/// Tests every kernel, with the texts of `changed` where that is given, and adds a row for each test. The device without
/// those that are wrong, and the finding.
///
/// # Errors
/// When there is something wrong with `changed`.
pub fn test(
    device: &Device,
    changed: Option<&Path>,
    cache: &Cache,
    console: &Console,
    rows: &mut Vec<Value>,
) -> Result<(Device, Check), Failure> {
    let info = device.info();
    let what = format!("{} kernels", info.id);
    let tested = changed.map_or(Ok(device.clone()), |folder| kernels::change(device, folder))?;
    let solved = console.progress(None, "problems of the self-test");
    let tests = match tested.self_test(&mut || solved.advance()) {
        Ok(tests) => tests,
        Err(error) => {
            let next = "update the driver; choose another device meanwhile";
            return Ok((device.clone(), Check::new(what, State::Fail, error.to_string()).next(next)));
        }
    };
    drop(solved);
    rows.extend(tests.iter().map(|test| row(&info.id, test)));
    let faults = faults(&tests);
    let found = found(&tests, &faults);
    if changed.is_some() {
        let state = if faults.is_empty() { State::Ok } else { State::Fail };
        return Ok((tested, Check::new(what, state, found)));
    }
    let check = match (faults.is_empty(), quarantine::keep(cache, info, &faults)) {
        (true, Ok(_)) => Check::new(what, State::Ok, found),
        (true, Err(_)) => Check::new(what, State::Warn, found)
            .next("what was wrong before is still left out: the cache cannot be written (--cache DIR)"),
        (false, Ok(Some(path))) => {
            let next = format!("they are left out from now on ({}); update the driver", path.display());
            Check::new(what, State::Warn, found).next(next)
        }
        (false, _) => Check::new(what, State::Fail, found)
            .next("that cannot be noted for other commands (--cache DIR): do not use this device"),
    };
    Ok((device.without_kernels(faults.into_keys()), check))
}

/// The kernels that are wrong, each with the first reason.
fn faults(tests: &[KernelTest]) -> Faults {
    let mut faults = Faults::new();
    for test in tests {
        if let Some(fault) = &test.fault {
            let why = || format!("{}, {}: {fault}", test.problem, precision(test));
            faults.entry(test.kernel.clone()).or_insert_with(why);
        }
    }
    faults
}

fn found(tests: &[KernelTest], faults: &Faults) -> String {
    let kernels: BTreeSet<&str> = tests.iter().map(|test| test.kernel.as_str()).collect();
    match faults.first_key_value() {
        None => format!("{} kernels right in {} tests", kernels.len(), tests.len()),
        Some((name, why)) => {
            let more =
                if faults.len() > 1 { format!(", and {} more", faults.len() - 1) } else { String::new() };
            format!("{} of {} kernels WRONG: {name} ({why}){more}", faults.len(), kernels.len())
        }
    }
}

fn precision(test: &KernelTest) -> &'static str {
    if test.precision == Precision::F16 { "f16" } else { "model" }
}

fn row(device: &str, test: &KernelTest) -> Value {
    let error = test.error.is_finite().then_some(test.error);
    json!({"device": device, "kernel": test.kernel, "problem": format::name(&test.problem, 120),
           "precision": precision(test), "error": error, "fault": test.fault})
}
