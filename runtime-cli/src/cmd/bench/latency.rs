//! Statistics of measured runs.

use serde_json::{Value, json};

/// One measured run, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The process that it was made in, counted from 0.
    pub process: u64,
    /// When it began, since the measurement began in its process.
    pub at: u64,
    /// The turn that it was made in, counted from 0: what is measured in turns has turns of the same number close together.
    pub turn: u64,
    /// From the call to the outputs in host memory; end to end, from the sources of the inputs to the answer.
    pub total: u64,
    /// End to end, the part of it before the run.
    pub pre: u64,
    /// And the part after it.
    pub post: u64,
    /// Writing inputs to the device.
    pub upload: u64,
    /// Recording, submitting and waiting.
    pub compute: u64,
    /// Reading back.
    pub read: u64,
    /// Steps on the CPU.
    pub host: u64,
}

/// What the samples say; times in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// Number of runs.
    pub count: usize,
    /// Fastest.
    pub min: u64,
    /// Median, by nearest rank like all percentiles here.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 95th percentile.
    pub p95: u64,
    /// 99th percentile.
    pub p99: u64,
    /// Slowest.
    pub max: u64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation over mean.
    pub cv: f64,
    /// An interval that holds the true median with 95 % confidence, when runs do not depend on each other.
    pub p50_ci95: [u64; 2],
    /// Mean time of each stage; what is left of the total is the caller's side.
    pub stages: Sample,
}

/// The smallest value that at least `percent` of the sorted values do not exceed.
pub fn nearest_rank(sorted: &[u64], percent: f64) -> u64 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0)
}

/// The medians of the processes that samples were made in.
pub fn process_medians(samples: &[Sample]) -> Vec<u64> {
    let mut by_process: std::collections::BTreeMap<u64, Vec<u64>> = std::collections::BTreeMap::new();
    for sample in samples {
        by_process.entry(sample.process).or_default().push(sample.total);
    }
    let medians = by_process.into_values().map(|mut totals| {
        totals.sort_unstable();
        nearest_rank(&totals, 50.0)
    });
    medians.collect()
}

/// How far the medians of processes are apart: half their range over their mean; 0 for one process.
pub fn spread(samples: &[Sample]) -> f64 {
    let medians = process_medians(samples);
    let (Some(&least), Some(&most)) = (medians.iter().min(), medians.iter().max()) else { return 0.0 };
    let mean = medians.iter().sum::<u64>() as f64 / medians.len() as f64;
    if mean > 0.0 { (most - least) as f64 / 2.0 / mean } else { 0.0 }
}

impl Sample {
    /// As an array of a document.
    pub fn to_json(self) -> Value {
        json!([
            self.process,
            self.at,
            self.total,
            self.upload,
            self.compute,
            self.read,
            self.host,
            self.pre,
            self.post,
            self.turn
        ])
    }

    /// From an array of a document.
    pub fn from_json(value: &Value) -> Option<Sample> {
        let at = |index: usize| value.get(index)?.as_u64();
        Some(Sample {
            process: at(0)?,
            at: at(1)?,
            total: at(2)?,
            upload: at(3)?,
            compute: at(4)?,
            read: at(5)?,
            host: at(6)?,
            pre: at(7)?,
            post: at(8)?,
            turn: at(9)?,
        })
    }
}

/// Median, 95th percentile and mean of a part of the samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Median.
    pub p50: u64,
    /// 95th percentile.
    pub p95: u64,
    /// Mean.
    pub mean: u64,
}

/// Names of the parts that samples taken end to end have.
pub const PARTS: [&str; 3] = ["pre", "run", "post"];

/// What is before the run, the run, and what is after it; `None` when the samples are of runs alone.
pub fn parts(samples: &[Sample]) -> Option<[Part; PARTS.len()]> {
    samples.iter().any(|sample| sample.pre + sample.post > 0).then(|| {
        let run = |sample: &Sample| sample.total.saturating_sub(sample.pre + sample.post);
        [|sample: &Sample| sample.pre, run, |sample: &Sample| sample.post].map(|part| {
            let mut all: Vec<u64> = samples.iter().map(part).collect();
            all.sort_unstable();
            let sum: u128 = all.iter().map(|&ns| u128::from(ns)).sum();
            let mean = u64::try_from(sum / all.len() as u128).unwrap_or(u64::MAX);
            Part { p50: nearest_rank(&all, 50.0), p95: nearest_rank(&all, 95.0), mean }
        })
    })
}

impl Latency {
    /// The statistics; `None` without samples.
    pub fn of(samples: &[Sample]) -> Option<Latency> {
        let mut totals: Vec<u64> = samples.iter().map(|sample| sample.total).collect();
        totals.sort_unstable();
        let (min, max) = (*totals.first()?, *totals.last()?);
        let count = totals.len() as f64;
        let mean = totals.iter().map(|&total| total as f64).sum::<f64>() / count;
        let variance = totals.iter().map(|&total| (total as f64 - mean).powi(2)).sum::<f64>() / count;
        let mean_of = |stage: fn(&Sample) -> u64| {
            let sum: u128 = samples.iter().map(|sample| u128::from(stage(sample))).sum();
            u64::try_from(sum / samples.len() as u128).unwrap_or(u64::MAX)
        };
        // The number of samples below the true median is binomial with p = 1/2.
        let half_width = 1.96 * count.sqrt() / 2.0;
        let at = |rank: f64| totals[(rank.max(0.0) as usize).min(totals.len() - 1)];
        Some(Latency {
            count: totals.len(),
            min,
            p50: nearest_rank(&totals, 50.0),
            p90: nearest_rank(&totals, 90.0),
            p95: nearest_rank(&totals, 95.0),
            p99: nearest_rank(&totals, 99.0),
            max,
            mean,
            cv: if mean > 0.0 { variance.sqrt() / mean } else { 0.0 },
            p50_ci95: [at((count / 2.0 - half_width).floor()), at((count / 2.0 + half_width).ceil())],
            stages: Sample {
                total: mean_of(|sample| sample.total),
                upload: mean_of(|sample| sample.upload),
                compute: mean_of(|sample| sample.compute),
                read: mean_of(|sample| sample.read),
                host: mean_of(|sample| sample.host),
                pre: mean_of(|sample| sample.pre),
                post: mean_of(|sample| sample.post),
                ..Sample::default()
            },
        })
    }

    /// As a field of the document.
    pub fn to_json(&self) -> Value {
        let stages = &self.stages;
        json!({"count": self.count, "min": self.min, "p50": self.p50, "p90": self.p90, "p95": self.p95,
               "p99": self.p99, "max": self.max, "mean": self.mean.round() as u64, "cv": self.cv,
               "p50_ci95": self.p50_ci95,
               "stages": {"upload": stages.upload, "compute": stages.compute, "read": stages.read,
                          "host": stages.host}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(totals: impl IntoIterator<Item = u64>) -> Vec<Sample> {
        totals.into_iter().map(|total| Sample { total, upload: total / 2, ..Sample::default() }).collect()
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        // The example of the definition: 15, 20, 35, 40, 50.
        let sorted = [15, 20, 35, 40, 50];
        let ranks = [5.0, 30.0, 40.0, 50.0, 100.0].map(|p| nearest_rank(&sorted, p));
        assert_eq!(ranks, [15, 20, 20, 35, 50]);
        assert_eq!(nearest_rank(&[], 50.0), 0);
        let latency = Latency::of(&samples((1..=100).rev())).unwrap();
        assert_eq!(
            [latency.min, latency.p50, latency.p90, latency.p95, latency.p99, latency.max],
            [1, 50, 90, 95, 99, 100]
        );
        assert_eq!((latency.mean, latency.stages.upload), (50.5, 25));
        assert!((latency.cv - (833.25f64).sqrt() / 50.5).abs() < 1e-12);
        assert_eq!(latency.p50_ci95, [41, 61]);
        assert!(latency.p50_ci95[0] <= latency.p50 && latency.p50 <= latency.p50_ci95[1]);
    }

    #[test]
    fn processes_and_documents() {
        let mut all = samples([10, 11, 12, 20, 22, 24]);
        all.iter_mut().skip(3).for_each(|sample| sample.process = 1);
        assert_eq!(process_medians(&all), [11, 22]);
        assert!((spread(&all) - 5.5 / 16.5).abs() < 1e-12 && spread(&all[..3]) == 0.0);
        assert_eq!(Sample::from_json(&all[4].to_json()), Some(all[4]));
        assert_eq!(Sample::from_json(&json!([1, 2])), None);
    }

    #[test]
    fn parts_of_samples_taken_end_to_end() {
        assert_eq!(parts(&samples(1..=100)), None);
        let whole = |total: u64| Sample { total, pre: total / 2, post: 1, ..Sample::default() };
        let [pre, run, post] = parts(&[10, 20, 30].map(whole)).unwrap();
        assert_eq!(pre, Part { p50: 10, p95: 15, mean: 10 });
        assert_eq!(run, Part { p50: 9, p95: 14, mean: 9 });
        assert_eq!(post, Part { p50: 1, p95: 1, mean: 1 });
    }

    #[test]
    fn one_sample_and_none() {
        assert!(Latency::of(&[]).is_none());
        let one = Latency::of(&samples([7])).unwrap();
        assert_eq!((one.p50, one.p99, one.cv, one.p50_ci95), (7, 7, 0.0, [7, 7]));
    }
}
