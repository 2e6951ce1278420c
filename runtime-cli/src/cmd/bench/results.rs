//! What a measurement says: lines, gates, the document, and the files beside it.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::baseline::{self, MachineChange, Process};
use super::latency::{Latency, PARTS, parts, process_medians, spread};
use super::measured::{Cold, Measured};
use super::options::{Args, Form};
use super::page;
use super::verdict::{self, Change, Outcome};
use crate::bind::Opened;
use crate::describe;
use crate::environment;
use crate::failure::{Exit, Failure};
use crate::input::Given;
use crate::output::{Console, atomic, format};

/// One size of a sweep: the sizes, the inputs, and what was measured on each device.
type Point = (Vec<(String, usize)>, Vec<Given>, Vec<Measured>);

/// A gate, and whether it passes.
#[derive(Clone, Debug)]
pub struct Checked {
    /// As it was written.
    pub text: String,
    /// What was measured.
    pub value: Option<f64>,
    /// What that means.
    pub outcome: Outcome,
}

/// What was measured on one device for one size.
#[derive(Debug)]
pub struct Row {
    /// The sizes of a sweep, in words; empty without one.
    pub label: String,
    /// The measurement.
    pub measured: Measured,
    /// Its statistics.
    pub latency: Latency,
    /// Gates on it.
    pub gates: Vec<Checked>,
    /// Changes of percentiles against the baseline; without one, against the first that it was measured in turns with.
    pub changes: Vec<(f64, Change)>,
    /// The baseline, when there is one.
    pub before: Option<Vec<Process>>,
    /// How the machine itself changed since the baseline, where both know.
    machine: Option<MachineChange>,
}

/// All results of a measurement.
pub struct Results<'a> {
    arguments: &'a Args,
    opened: &'a Opened,
    digest: String,
    inputs: Vec<Given>,
    rows: Vec<Row>,
}

impl<'a> Results<'a> {
    /// Sums up what was measured.
    ///
    /// # Errors
    /// When nothing was, or the baseline cannot be read.
    pub fn new(arguments: &'a Args, opened: &'a Opened, points: Vec<Point>) -> Result<Results<'a>, Failure> {
        let mut rows = Vec::new();
        let mut inputs = Vec::new();
        for (dims, given, all) in points {
            let label: Vec<String> = dims.iter().map(|(name, size)| format!("{name}={size}")).collect();
            for measured in &all {
                let first = all.first().filter(|_| !measured.include.is_empty());
                rows.push(Row::new(arguments, label.join(" "), measured.clone(), first)?);
            }
            inputs = given;
        }
        Ok(Results { arguments, opened, digest: opened.digest(), inputs, rows })
    }

    /// Prints, writes, and says whether all gates passed.
    ///
    /// # Errors
    /// When something cannot be written; [`Failure::Gate`] when a gate failed, and with exit code 8 when noise hides
    /// whether it did.
    pub fn finish(self, console: &Console) -> Result<(), Failure> {
        match self.arguments.format {
            None => self.rows.iter().try_for_each(|row| row.print(self.arguments, console))?,
            Some(Form::Md) => console.line(self.markdown())?,
            Some(Form::Csv) => console.line(self.csv())?,
        }
        let files = &self.arguments.files;
        if let Some(path) = &files.samples {
            atomic::write(path, self.samples().as_bytes())?;
        }
        if let Some(path) = &files.report {
            let title = format!("{} {}", self.opened.name(), self.digest);
            atomic::write(path, page::page(&title, &environment::describe(), &self.rows).as_bytes())?;
        }
        if let Some(path) = &files.junit {
            atomic::write(path, self.junit().as_bytes())?;
        }
        console.finish("bench", self.document())?;
        let outcomes = || self.rows.iter().flat_map(|row| &row.gates).map(|gate| gate.outcome);
        if outcomes().any(|outcome| outcome == Outcome::Fail) {
            return Err(Failure::Gate);
        }
        if outcomes().any(|outcome| outcome == Outcome::Inconclusive) {
            return Err(Failure::with_code(
                Exit::Inconclusive,
                "SDX-0808",
                "the noise is larger than what --regress asks for",
            )
            .help("measure longer and more often: --duration 30s --repeat 10"));
        }
        Ok(())
    }

    /// The document: the first row at the top, other devices in `included`, other sizes in `sweep`.
    fn document(&self) -> Map<String, Value> {
        let mut document = Map::new();
        document.insert("engine".to_owned(), describe::engine());
        document.insert("model".to_owned(), describe::model(self.opened, &self.digest));
        document.insert("environment".to_owned(), environment::describe());
        let inputs: Vec<Value> = self
            .inputs
            .iter()
            .map(|given| {
                json!({"name": given.name, "dtype": given.tensor.dtype().name(),
                       "dims": given.tensor.dims(), "source": given.source, "recipe": given.recipe})
            })
            .collect();
        let arguments = self.arguments;
        document.insert(
            "settings".to_owned(),
            json!({"duration_ns": describe::ns(arguments.duration), "min_runs": arguments.min_runs,
                   "warmup": format!("{:?}", arguments.warmup).to_lowercase(),
                   "repeat": arguments.repeats(), "concurrency": arguments.concurrency,
                   "rate_hz": arguments.rate, "cold": arguments.cold,
                   "end_to_end": arguments.end_to_end, "batch": arguments.batch,
                   "threads": arguments.device.settings.threads,
                   "precision": arguments.device.settings.precision.name(), "inputs": inputs}),
        );
        let part = |row: &Row| row.document(self.arguments.baseline.as_deref());
        let mut rows = self.rows.iter();
        let Some(first) = rows.next() else { return document };
        if let Value::Object(fields) = part(first) {
            document.extend(fields);
        }
        let included: Vec<Value> = rows.clone().filter(|row| row.label == first.label).map(part).collect();
        if !included.is_empty() {
            document.insert("included".to_owned(), Value::Array(included));
        }
        let sweep: Vec<Value> = rows.filter(|row| row.label != first.label).map(part).collect();
        if !sweep.is_empty() {
            document.insert("sweep".to_owned(), Value::Array(sweep));
        }
        document
    }

    fn samples(&self) -> String {
        let mut text = String::from(
            "device,size,process,turn,run,at_ns,total_ns,upload_ns,compute_ns,read_ns,host_ns,pre_ns,post_ns\n",
        );
        for row in &self.rows {
            for (run, sample) in row.measured.samples.iter().enumerate() {
                let stages = [sample.upload, sample.compute, sample.read, sample.host];
                let times = [sample.at, sample.total].into_iter().chain(stages);
                let numbers: Vec<String> =
                    times.chain([sample.pre, sample.post]).map(|ns| ns.to_string()).collect();
                let (name, label) = (row.measured.name(), &row.label);
                let (process, turn) = (sample.process, sample.turn);
                text += &format!("{name},{label},{process},{turn},{run},{}\n", numbers.join(","));
            }
        }
        text
    }

    fn cells(row: &Row) -> [String; 10] {
        let ms = |ns: u64| format::milliseconds(ns);
        let mib = |bytes: Option<u64>| {
            bytes.map_or_else(String::new, |bytes| format!("{:.0}", bytes as f64 / f64::from(1 << 20)))
        };
        [
            row.measured.name().to_owned(),
            row.label.clone(),
            ms(row.latency.p50),
            ms(row.latency.p95),
            ms(row.latency.p99),
            format!("{:.1}", row.latency.cv * 100.0),
            format::real(row.measured.per_second()),
            ms(row.measured.cold().first),
            mib(row.measured.peak),
            row.changes.first().map_or_else(String::new, |(_, change)| change.to_text()),
        ]
    }

    fn markdown(&self) -> String {
        let mut text = format!("{} `{}`\n\n", self.opened.name(), self.digest);
        text += "| device | size | p50 ms | p95 ms | p99 ms | cv % | per s | first ms | RSS MiB | change |\n";
        text += "|---|---|---|---|---|---|---|---|---|---|";
        for row in &self.rows {
            text += &format!("\n| {} |", Results::cells(row).join(" | "));
        }
        text
    }

    fn csv(&self) -> String {
        let mut text =
            String::from("device,size,p50_ms,p95_ms,p99_ms,cv_percent,per_s,first_ms,rss_mib,change");
        for row in &self.rows {
            let mut cells = Results::cells(row);
            cells[9] = row.changes.first().map_or_else(String::new, |(_, c)| format!("{:.5}", c.change));
            text += &format!("\n{}", cells.join(","));
        }
        text
    }

    fn junit(&self) -> String {
        use crate::output::svg::escape;
        let all: Vec<(&Row, &Checked)> =
            self.rows.iter().flat_map(|row| row.gates.iter().map(move |gate| (row, gate))).collect();
        let count = |outcome| all.iter().filter(|(_, gate)| gate.outcome == outcome).count();
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"bench {}\" tests=\"{}\" \
             failures=\"{}\" skipped=\"{}\">\n",
            escape(&self.opened.name()),
            all.len(),
            count(Outcome::Fail),
            count(Outcome::Inconclusive)
        );
        for (row, gate) in all {
            let class = format!("{} {}", row.measured.name(), row.label);
            text += &format!(
                "  <testcase classname=\"{}\" name=\"{}\">",
                escape(class.trim()),
                escape(&gate.text)
            );
            let value = gate.value.map_or_else(|| "not measured".to_owned(), format::real);
            text += &match gate.outcome {
                Outcome::Pass => String::new(),
                Outcome::Fail => format!("<failure message=\"{value}\"/>"),
                Outcome::Inconclusive => format!("<skipped message=\"inconclusive: {value}\"/>"),
            };
            text += "</testcase>\n";
        }
        text + "</testsuite>\n"
    }
}

impl Row {
    /// `first` is what it was measured in turns with.
    fn new(
        arguments: &Args,
        label: String,
        measured: Measured,
        first: Option<&Measured>,
    ) -> Result<Row, Failure> {
        let latency = measured.latency()?;
        let values = measured.values(&latency);
        let mut gates: Vec<Checked> = arguments
            .gates
            .iter()
            .map(|gate| {
                let checked = gate.check(&values);
                let passes = checked.is_some_and(|(_, passes)| passes);
                Checked {
                    text: gate.text.clone(),
                    value: checked.map(|(value, _)| value),
                    outcome: if passes { Outcome::Pass } else { Outcome::Fail },
                }
            })
            .collect();
        let before = match &arguments.baseline {
            Some(path) => Some(baseline::read(path, &measured, arguments.end_to_end)?),
            None => None,
        };
        let after = baseline::processes(&measured);
        let machine = before.as_ref().and_then(|before| MachineChange::between(before, &after));
        let mut changes = Vec::new();
        if before.is_some() || first.is_some() {
            let change = |percent| match (&before, first) {
                (Some(before), _) => verdict::change(before, &after, percent)
                    .map(|change| machine.map_or(change, |machine| change.allowing_for(machine))),
                (None, Some(first)) => verdict::paired(first, &measured, percent),
                (None, None) => None,
            };
            let mut percents = vec![50.0, 95.0];
            percents.extend(arguments.regress.iter().map(|gate| gate.percent));
            percents.sort_by(f64::total_cmp);
            percents.dedup();
            for percent in percents {
                changes.extend(change(percent).map(|change| (percent, change)));
            }
            for gate in &arguments.regress {
                let change = changes.iter().find(|(percent, _)| *percent == gate.percent);
                gates.push(Checked {
                    text: format!("p{} grows by at most {} %", gate.percent, gate.limit * 100.0),
                    value: change.map(|(_, change)| change.change * 100.0),
                    outcome: change.map_or(Outcome::Fail, |(_, change)| gate.check(change)),
                });
            }
        }
        Ok(Row { label, measured, latency, gates, changes, before, machine })
    }

    fn document(&self, baseline: Option<&Path>) -> Value {
        let gates: Vec<Value> = self
            .gates
            .iter()
            .map(|gate| {
                json!({"expr": gate.text, "value": gate.value, "pass": gate.outcome == Outcome::Pass,
                       "inconclusive": gate.outcome == Outcome::Inconclusive})
            })
            .collect();
        let mut document = self.measured.document(&self.latency, gates);
        if !self.label.is_empty() {
            document["size"] = json!(self.label);
        }
        document["baseline"] =
            baseline.map_or(Value::Null, |file| verdict::document(Some(file), self.machine, &self.changes));
        if !self.measured.include.is_empty() {
            document["include"] = json!(self.measured.include);
            document["model"] = self.measured.model.clone();
            if baseline.is_none() && !self.changes.is_empty() {
                document["against_first"] = verdict::document(None, None, &self.changes);
            }
        }
        document
    }

    fn print(&self, arguments: &Args, console: &Console) -> Result<(), Failure> {
        let f = format::milliseconds;
        let (latency, stages) = (&self.latency, &self.latency.stages);
        let cold = self.measured.cold();
        let memory = |name: &str| self.measured.memory[name].as_u64().unwrap_or(0);
        let start = |label: &str, cold: Cold, cache: &Value| {
            let cache = cache.as_str().map_or_else(String::new, |word| format!(", cache {word}"));
            let [load, plan, shaders, first] = [cold.load, cold.plan, cold.shaders, cold.first].map(f);
            format!("{label:<9} load {load} · plan {plan} (shaders {shaders}{cache}) · first {first} ms")
        };
        let peak = self.measured.peak.map_or_else(|| "unknown".to_owned(), format::bytes);
        console.line(&self.measured.headline)?;
        if !self.measured.include.is_empty() {
            console.line(format!("included  {}", format::name(&self.measured.include, 100)))?;
        }
        if !self.label.is_empty() {
            console.line(format!("size      {}", self.label))?;
        }
        let mut lines = vec![
            format!("warm-up   {} runs", self.measured.warmup_runs),
            format!(
                "latency   p50 {}   p90 {}   p95 {}   p99 {} ms{}",
                f(latency.p50),
                f(latency.p90),
                f(latency.p95),
                f(latency.p99),
                if arguments.end_to_end { ", end to end" } else { "" }
            ),
            format!(
                "          min {}   max {}   mean {} ms",
                f(latency.min),
                f(latency.max),
                f(latency.mean as u64)
            ),
            format!(
                "          {} runs, cv {:.1} %, p50 within {} to {} ms",
                latency.count,
                latency.cv * 100.0,
                f(latency.p50_ci95[0]),
                f(latency.p50_ci95[1])
            ),
            format!(
                "          upload {} · compute {} · read {} · host {} ms",
                f(stages.upload),
                f(stages.compute),
                f(stages.read),
                f(stages.host)
            ),
            format!("through   {} /s", format::real(self.measured.per_second())),
            start("cold", cold, &self.measured.cache),
            format!(
                "memory    peak RSS {peak} · device {} · host {}",
                format::bytes(memory("device_peak")),
                format::bytes(memory("host_activations") + memory("host_scratch"))
            ),
        ];
        let around = PARTS.into_iter().zip(parts(&self.measured.samples).into_iter().flatten());
        let around = around.map(|(name, part)| {
            let [p50, p95, mean] = [part.p50, part.p95, part.mean].map(f);
            format!("{name:<9} p50 {p50}   p95 {p95}   mean {mean} ms")
        });
        lines.splice(5..5, around);
        if let Some(cached) = self.measured.cached() {
            lines.insert(lines.len() - 1, start("cached", cached, &self.measured.cached_use));
        }
        lines.push(self.stability());
        if self.measured.errors > 0 {
            lines.push(format!("errors    {} of all runs ended with an error", self.measured.errors));
        }
        for (index, gate) in self.gates.iter().enumerate() {
            let verdict = match gate.outcome {
                Outcome::Pass => "pass",
                Outcome::Fail => "FAIL",
                Outcome::Inconclusive => "????",
            };
            let shown = gate.value.map_or_else(|| "not measured".to_owned(), format::real);
            let label = if index == 0 { "gate" } else { "" };
            lines.push(format!("{label:<9} {verdict}  {}  ({shown})", gate.text));
        }
        if !self.changes.is_empty() {
            let with = arguments.baseline.as_ref().map(|path| path.display().to_string());
            let with = with.unwrap_or_else(|| "with the first, turn by turn".to_owned());
            lines.push(format!("compare   {with}"));
            for (percent, change) in &self.changes {
                lines.push(format!("          p{percent} {}", change.to_text()));
            }
            lines.extend(self.machine.map(|machine| format!("          {}", machine.to_text())));
        }
        lines.iter().try_for_each(|line| console.line(line))
    }

    fn stability(&self) -> String {
        let processes = process_medians(&self.measured.samples).len();
        let mut text = match processes {
            1 => "stable    one process: what differs between processes is not seen".to_owned(),
            n => format!("stable    between {n} processes +-{:.1} %", spread(&self.measured.samples) * 100.0),
        };
        match environment::throttled(&self.measured.conditions) {
            Some(true) => text += "; the clock fell by more than a tenth: throttled",
            Some(false) => text += "; no throttling seen",
            None => {}
        }
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let busiest = self.measured.conditions.iter().filter_map(|c| c.load1).fold(0.0, f64::max);
        if busiest > threads as f64 * 1.2 {
            text += &format!("; load {busiest:.1} on {threads} processors: others were busy");
        }
        text
    }
}
