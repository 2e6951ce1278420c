//! What was measured on one device, as plain data: it goes from process to process, into documents and reports.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::baseline::{self, Process};
use super::latency::{Latency, PARTS, Sample, nearest_rank, parts, spread};
use crate::environment::{self, Condition};
use crate::failure::{Failure, Fault};
use crate::yardstick::Reading;

/// The parts of a cold start, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cold {
    /// Opening the model.
    pub load: u64,
    /// Planning and compiling.
    pub plan: u64,
    /// The part of it that kernels were compiled in.
    pub shaders: u64,
    /// The first run.
    pub first: u64,
}

impl Cold {
    /// The median of each part.
    fn median(all: &[Cold]) -> Cold {
        let median = |part: fn(&Cold) -> u64| {
            let mut all: Vec<u64> = all.iter().map(part).collect();
            all.sort_unstable();
            nearest_rank(&all, 50.0)
        };
        Cold {
            load: median(|c| c.load),
            plan: median(|c| c.plan),
            shaders: median(|c| c.shaders),
            first: median(|c| c.first),
        }
    }

    fn to_json(self) -> Value {
        json!({"load": self.load, "plan": self.plan, "shaders": self.shaders, "first": self.first})
    }

    fn from_json(value: &Value) -> Option<Cold> {
        let part = |name: &str| value[name].as_u64();
        Some(Cold {
            load: part("load")?,
            plan: part("plan")?,
            shaders: part("shaders")?,
            first: part("first")?,
        })
    }
}

/// What was measured on one device.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// What ran where, for people.
    pub headline: String,
    /// What `--include` says of it; empty for the first.
    pub include: String,
    /// The model, as documents describe it.
    pub model: Value,
    /// The device, as documents describe it.
    pub device: Value,
    /// The plan, likewise.
    pub plan: Value,
    /// Memory by use, likewise.
    pub memory: Value,
    /// Every run that ended well.
    pub samples: Vec<Sample>,
    /// Runs that ended with an error.
    pub errors: u64,
    /// The cold start of each process.
    pub cold: Vec<Cold>,
    /// What compiling found in the cache, in the words of documents; null when nothing was compiled.
    pub cache: Value,
    /// The cold start of processes that found a cache.
    pub cached: Vec<Cold>,
    /// What compiling found there.
    pub cached_use: Value,
    /// Runs before the measurement, of all processes.
    pub warmup_runs: u64,
    /// The time that the measured runs took, those at the same time counted once.
    pub wall_ns: u64,
    /// The largest resident set of any process.
    pub peak: Option<u64>,
    /// Microjoules that the whole machine took meanwhile, where it tells.
    pub energy: Option<u64>,
    /// What the machine did meanwhile.
    pub conditions: Vec<Condition>,
    /// For each process, how long a fixed piece of work took meanwhile.
    pub machine: Vec<Option<Reading>>,
}

impl Measured {
    /// The device's id.
    pub fn id(&self) -> &str {
        self.device["id"].as_str().unwrap_or_default()
    }

    /// What tells it apart from what was measured with it.
    pub fn name(&self) -> &str {
        let other_device = self.include.is_empty() || self.include.starts_with("device=");
        if other_device { self.id() } else { &self.include }
    }

    /// The statistics.
    ///
    /// # Errors
    /// When there are no samples.
    pub fn latency(&self) -> Result<Latency, Failure> {
        Latency::of(&self.samples).ok_or_else(|| Failure::new(Fault::Defect, "nothing was measured"))
    }

    /// Runs a second, those at the same time counted together.
    pub fn per_second(&self) -> f64 {
        if self.wall_ns > 0 { self.samples.len() as f64 * 1e9 / self.wall_ns as f64 } else { 0.0 }
    }

    /// Of a thousand runs, so many ended with an error.
    pub fn errors_per_1k(&self) -> f64 {
        let runs = self.samples.len() as u64 + self.errors;
        1000.0 * self.errors as f64 / runs.max(1) as f64
    }

    /// The median of each part of the cold starts.
    pub fn cold(&self) -> Cold {
        Cold::median(&self.cold)
    }

    /// The same of the processes that found a cache, if there were some.
    pub fn cached(&self) -> Option<Cold> {
        (!self.cached.is_empty()).then(|| Cold::median(&self.cached))
    }

    /// Adds the cold start of a process that found a cache.
    pub fn join_cached(&mut self, other: Measured) {
        self.cached.extend(other.cold);
        self.cached_use = other.cache;
    }

    /// Adds what another process measured.
    pub fn join(&mut self, other: Measured, process: u64) {
        self.samples.extend(other.samples.into_iter().map(|sample| Sample { process, ..sample }));
        self.errors += other.errors;
        self.cold.extend(other.cold);
        self.warmup_runs += other.warmup_runs;
        self.wall_ns += other.wall_ns;
        self.peak = self.peak.max(other.peak);
        self.energy = self.energy.zip(other.energy).map(|(own, other)| own + other);
        self.conditions.extend(other.conditions);
        self.machine.extend(other.machine);
    }

    /// The values that gates can be on.
    pub fn values(&self, latency: &Latency) -> BTreeMap<&'static str, f64> {
        let ms = |ns: u64| ns as f64 / 1e6;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let cold = self.cold();
        let mut values = BTreeMap::from([
            ("min_ms", ms(latency.min)),
            ("p50_ms", ms(latency.p50)),
            ("p90_ms", ms(latency.p90)),
            ("p95_ms", ms(latency.p95)),
            ("p99_ms", ms(latency.p99)),
            ("max_ms", ms(latency.max)),
            ("mean_ms", latency.mean / 1e6),
            ("cv", latency.cv),
            ("per_s", self.per_second()),
            ("first_ms", ms(cold.first)),
            ("load_ms", ms(cold.load)),
            ("plan_ms", ms(cold.plan)),
            ("shaders_ms", ms(cold.shaders)),
            ("device_mib", mib(self.memory["device_peak"].as_u64().unwrap_or(0))),
            ("spread", spread(&self.samples)),
            ("errors_per_1k", self.errors_per_1k()),
        ]);
        if let Some(peak) = self.peak {
            values.insert("rss_mib", mib(peak));
        }
        for (name, part) in
            ["pre_ms", "run_ms", "post_ms"].into_iter().zip(parts(&self.samples).into_iter().flatten())
        {
            values.insert(name, ms(part.p50));
        }
        // On the CPU no operator is on a GPU.
        let count = |name: &str| self.plan[name].as_f64().unwrap_or(0.0);
        let on_gpu = self.device["kind"] != "cpu" && count("operators") > 0.0;
        values.insert("gpu_share", if on_gpu { count("on_device") / count("operators") } else { 0.0 });
        values
    }

    /// The device's part of the document.
    pub fn document(&self, latency: &Latency, gates: Vec<Value>) -> Value {
        let mut memory = json!({"rss_peak": self.peak});
        if let (Some(all), Some(own)) = (memory.as_object_mut(), self.memory.as_object()) {
            all.extend(own.clone());
        }
        json!({"device": self.device, "plan": self.plan, "latency_ns": latency.to_json(),
               "end_to_end_ns": self.end_to_end(),
               "warmup_runs": self.warmup_runs, "throughput_per_s": self.per_second(),
               "cold_ns": self.cold().to_json(), "cached_ns": self.cached().map(Cold::to_json),
               "cache": {"cold": self.cache, "cached": self.cached_use},
               "memory_bytes": memory, "processes": self.processes(),
               "between_process_spread": spread(&self.samples), "errors": self.errors,
               "energy_j_per_run": self.energy.map(|all| all as f64 / 1e6 / self.samples.len().max(1) as f64),
               "throttled": environment::throttled(&self.conditions),
               "gates": gates})
    }

    /// What is around the runs, and the runs alone; null when only they were measured.
    fn end_to_end(&self) -> Value {
        let Some(parts) = parts(&self.samples) else { return Value::Null };
        let part = |(name, part): (&str, super::latency::Part)| {
            ((*name).to_owned(), json!({"p50": part.p50, "p95": part.p95, "mean": part.mean}))
        };
        Value::Object(PARTS.into_iter().zip(parts).map(part).collect())
    }

    /// For each process a hundred quantiles of its runs, and how fast the machine was: what a later measurement is compared
    /// with.
    fn processes(&self) -> Vec<Value> {
        let quantiles = |process: Process| {
            let runs = process.runs;
            let all: Vec<u64> = (0..100).map(|i| nearest_rank(&runs, f64::from(i) + 0.5)).collect();
            json!({"runs": runs.len(), "quantiles_ns": all, "machine_ns": process.machine.map(Reading::to_json)})
        };
        baseline::processes(self).into_iter().map(quantiles).collect()
    }

    /// Everything, for another process.
    pub fn to_json(&self) -> Value {
        let cold: Vec<Value> = self.cold.iter().map(|cold| cold.to_json()).collect();
        json!({"headline": self.headline, "include": self.include, "model": self.model, "device": self.device, "plan": self.plan, "memory": self.memory,
               "samples": self.samples.iter().map(|sample| sample.to_json()).collect::<Vec<_>>(),
               "errors": self.errors, "cold": cold, "cache": self.cache, "warmup_runs": self.warmup_runs,
               "wall_ns": self.wall_ns, "peak": self.peak, "energy": self.energy,
               "conditions": self.conditions.iter().map(|c| c.to_json()).collect::<Vec<_>>(),
               "machine": self.machine.iter().map(|m| m.map(Reading::to_json)).collect::<Vec<_>>()})
    }

    /// From another process; `None` when something is missing.
    pub fn from_json(value: &Value) -> Option<Measured> {
        let list = |name: &str| value[name].as_array();
        Some(Measured {
            headline: value["headline"].as_str()?.to_owned(),
            include: value["include"].as_str()?.to_owned(),
            model: value["model"].clone(),
            device: value["device"].clone(),
            plan: value["plan"].clone(),
            memory: value["memory"].clone(),
            samples: list("samples")?.iter().map(Sample::from_json).collect::<Option<_>>()?,
            errors: value["errors"].as_u64()?,
            cold: list("cold")?.iter().map(Cold::from_json).collect::<Option<_>>()?,
            cache: value["cache"].clone(),
            warmup_runs: value["warmup_runs"].as_u64()?,
            wall_ns: value["wall_ns"].as_u64()?,
            peak: value["peak"].as_u64(),
            energy: value["energy"].as_u64(),
            conditions: list("conditions")?.iter().map(Condition::from_json).collect::<Option<_>>()?,
            machine: list("machine")?.iter().map(Reading::from_json).collect(),
            ..Measured::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_process_to_process() {
        let sample = |total: u64| Sample { total, at: 1, ..Sample::default() };
        let one = Measured {
            headline: "m on cpu".into(),
            device: json!({"id": "cpu", "kind": "cpu"}),
            samples: vec![sample(10), sample(30), sample(20)],
            cold: vec![Cold { load: 1, plan: 2, shaders: 1, first: 3 }],
            cache: json!("off"),
            wall_ns: 60,
            peak: Some(5),
            machine: vec![Some(Reading { compute: 3, copy: 4 })],
            ..Measured::default()
        };
        let mut all = Measured::from_json(&one.to_json()).unwrap();
        assert_eq!((all.samples.clone(), all.cold(), all.id()), (one.samples.clone(), one.cold(), "cpu"));
        all.join(Measured { peak: Some(9), errors: 4, ..one }, 1);
        assert_eq!((all.errors, all.errors_per_1k()), (4, 400.0));
        assert_eq!((all.samples.len(), all.samples[4].process, all.peak, all.wall_ns), (6, 1, Some(9), 120));
        let faster = Cold { shaders: 0, ..all.cold() };
        all.join_cached(Measured { cold: vec![faster], cache: json!("hit"), ..Measured::default() });
        let document = all.document(&all.latency().unwrap(), Vec::new());
        assert_eq!(document["processes"].as_array().unwrap().len(), 2);
        assert_eq!(document["processes"][1]["machine_ns"], json!({"compute": 3, "copy": 4}));
        assert_eq!(
            (&document["cold_ns"]["shaders"], &document["cached_ns"]["shaders"]),
            (&json!(1), &json!(0))
        );
        assert_eq!(document["cache"], json!({"cold": "off", "cached": "hit"}));
        assert_eq!(document["throughput_per_s"], 5e7);
        assert!(Measured::from_json(&json!({})).is_none());
    }
}
