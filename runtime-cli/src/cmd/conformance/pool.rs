//! The suite's side: worker processes, each with its time limit, started anew after a crash or a hang.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::case::Outcome;
use super::suite::Case;
use crate::cli::{DeviceArgs, FallbackArg};
use crate::describe;
use crate::failure::{Failure, Fault};

/// Runs all cases in `jobs` workers and hands over each outcome with the index of its case, in the order in which
/// they end.
///
/// # Errors
/// When a worker cannot be started, or `done` fails.
pub fn serve(
    cases: &[Case],
    jobs: usize,
    timeout: Duration,
    device: &DeviceArgs,
    mut done: impl FnMut(usize, Outcome) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    let stopped = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel::<Result<(usize, Outcome), Failure>>();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (sender, next, stopped) = (sender.clone(), &next, &stopped);
            scope.spawn(move || {
                let mut worker: Option<Worker> = None;
                while !stopped.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(index) else { break };
                    let outcome = ask(&mut worker, case, timeout, device).map(|outcome| (index, outcome));
                    // When nobody listens any more, the suite is over.
                    if sender.send(outcome).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let result =
            receiver.iter().try_for_each(|outcome| outcome.and_then(|(index, outcome)| done(index, outcome)));
        stopped.store(true, Ordering::Relaxed);
        result
    })
}

/// Has one case run, in the worker that is there or in a new one.
fn ask(
    worker: &mut Option<Worker>,
    case: &Case,
    timeout: Duration,
    device: &DeviceArgs,
) -> Result<Outcome, Failure> {
    let running = match worker {
        Some(running) => running,
        None => worker.insert(Worker::start(device)?),
    };
    let start = Instant::now();
    let answer = running.ask(case, timeout);
    let time_ns = describe::ns(start.elapsed());
    Ok(match answer {
        Ok(outcome) => outcome,
        Err(reason) => {
            let reason = match worker.take() {
                Some(stopped) => stopped.end(reason),
                None => reason.to_owned(),
            };
            Outcome::failed(reason, time_ns)
        }
    })
}

/// A worker process.
struct Worker {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
}

const HANGS: &str = "no answer within the time limit";
const DIED: &str = "the worker died";

impl Worker {
    fn start(device: &DeviceArgs) -> Result<Worker, Failure> {
        let fail =
            |error: std::io::Error| Failure::new(Fault::File, format!("cannot start a worker: {error}"));
        let program = std::env::current_exe().map_err(fail)?;
        let mut child = Command::new(program)
            .args(arguments(device))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(fail)?;
        let (Some(requests), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::new(Fault::Defect, "a worker has no pipes"));
        };
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            // When nobody listens any more, the worker is given up.
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.map_while(|line| sender.send(line).ok()).for_each(drop);
        });
        Ok(Worker { child, requests, answers })
    }

    fn ask(&mut self, case: &Case, timeout: Duration) -> Result<Outcome, &'static str> {
        let request = json!({"folder": case.folder.to_string_lossy(), "rtol": case.rtol});
        writeln!(self.requests, "{request}").and_then(|()| self.requests.flush()).map_err(|_| DIED)?;
        let line = self.answers.recv_timeout(timeout).map_err(|error| match error {
            RecvTimeoutError::Timeout => HANGS,
            RecvTimeoutError::Disconnected => DIED,
        })?;
        let value = serde_json::from_str(&line).map_err(|_| "the worker's answer is damaged")?;
        Outcome::from_json(&value).ok_or("the worker's answer is damaged")
    }

    /// Ends the process and says how it ended.
    fn end(mut self, reason: &str) -> String {
        if reason != DIED {
            // A process that ended by itself meanwhile cannot be killed, and need not be.
            let _ = self.child.kill();
        }
        match self.child.wait() {
            Ok(status) if reason == DIED => format!("{reason}: {status}"),
            _ => reason.to_owned(),
        }
    }
}

/// A worker that is no longer needed ends when its standard input does; one that hangs is killed.
impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn arguments(device: &DeviceArgs) -> Vec<String> {
    let settings = &device.settings;
    let mut arguments = vec!["conformance".to_owned(), "--worker".to_owned()];
    arguments.push(format!("--device={}", device.device));
    arguments.push(format!("--precision={}", settings.precision.name()));
    // Many small cases at the same time: more threads for each would only compete.
    arguments.push(format!("--threads={}", settings.threads.unwrap_or(1)));
    if let Some(fallback) = settings.fallback {
        let word = if fallback == FallbackArg::Allow { "allow" } else { "deny" };
        arguments.push(format!("--fallback={word}"));
    }
    if let Some(limits) = &settings.limits {
        arguments.push(format!("--limits={limits}"));
    }
    if let Some(folder) = &settings.kernels {
        arguments.push(format!("--kernels={}", folder.display()));
    }
    if let Some(bytes) = settings.memory_budget {
        arguments.push(format!("--memory-budget={bytes}"));
    }
    arguments.extend(settings.disable_pass.iter().map(|pass| format!("--disable-pass={pass}")));
    arguments
}
