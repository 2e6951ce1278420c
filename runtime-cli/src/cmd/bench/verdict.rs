//! Is it faster? Bootstrap intervals of the change of a percentile, and gates on it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::baseline::{MachineChange, Process};
use super::latency::nearest_rank;
use super::measured::Measured;

/// Two measurements of the same thing differ by chance in 1 of 100.
const CONFIDENCE: f64 = 0.99;
const RESAMPLES: usize = 2000;
/// Fewer pairs of turns say nothing about how they vary.
const PAIRS: usize = 5;
/// Fewer processes say too little about how they differ.
const FEW: usize = 3;
/// How much wider than what varies within a process an interval is that rests on one: it says nothing about the spread
/// between processes, which is held to be as large.
const LONE: f64 = 2.0;

/// What the interval of a change says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval is below 0.
    Faster,
    /// The whole interval is above 0.
    Slower,
    /// It holds 0.
    NoDifference,
}

impl Verdict {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::NoDifference => "no difference shown",
        }
    }
}

/// The change of a percentile against a baseline, as parts of the baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The change.
    pub change: f64,
    /// Its interval.
    pub interval: [f64; 2],
}

impl Change {
    /// What it says.
    pub fn verdict(&self) -> Verdict {
        match self.interval {
            [_, most] if most < 0.0 => Verdict::Faster,
            [least, _] if least > 0.0 => Verdict::Slower,
            _ => Verdict::NoDifference,
        }
    }

    /// With an interval that allows for what the machine itself did between the two: how much of that met what was
    /// measured is not known, from nothing to all of what either kind of work met.
    pub fn allowing_for(self, machine: MachineChange) -> Change {
        let [least, most] = self.interval;
        let without =
            |end: f64| [0.0, machine.compute, machine.copy].map(|part| (1.0 + end) / (1.0 + part) - 1.0);
        let interval = [
            without(least).into_iter().fold(least, f64::min),
            without(most).into_iter().fold(most, f64::max),
        ];
        Change { interval, ..self }
    }

    /// `-3.1 % [-3.6, -2.5] faster`.
    pub fn to_text(self) -> String {
        let [least, most] = self.interval.map(|part| part * 100.0);
        format!("{:+.1} % [{least:+.1}, {most:+.1}] {}", self.change * 100.0, self.verdict().words())
    }
}

/// A small generator (xorshift64*): the same measurement has the same interval always.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n.max(1) as u64) as usize
    }
}

/// The mean of a percentile over processes: each process counts alike, whatever number of runs it managed.
fn percentile(processes: &[Process], percent: f64) -> f64 {
    let sum: f64 = processes.iter().map(|process| nearest_rank(&process.runs, percent) as f64).sum();
    sum / processes.len().max(1) as f64
}

/// The change of a percentile from `before` to `after`. Processes are drawn with replacement, and runs within them; the
/// interval is widened by what so few processes ask for. `None` without runs.
pub fn change(before: &[Process], after: &[Process], percent: f64) -> Option<Change> {
    let [old, new] = [before, after].map(|processes| percentile(processes, percent));
    if before.is_empty() || after.is_empty() || old <= 0.0 {
        return None;
    }
    let change = new / old - 1.0;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut resample = |processes: &[Process]| {
        let drawn: Vec<f64> = (0..processes.len())
            .map(|_| {
                let own = &processes[random.below(processes.len())].runs;
                // A percentile of a resample is the percentile at a rank that varies like a binomial's.
                let n = own.len() as f64;
                let p = percent / 100.0;
                let normal =
                    (0..12).map(|_| random.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0;
                let rank = (n * p + normal * (n * p * (1.0 - p)).sqrt()).clamp(0.0, n - 1.0);
                own[rank as usize] as f64
            })
            .collect();
        mean(&drawn)
    };
    let mut changes: Vec<f64> =
        (0..RESAMPLES).map(|_| resample(after) / resample(before).max(1.0) - 1.0).collect();
    let wide = widening(before.len(), after.len());
    Some(Change { change, interval: tails(&mut changes).map(|end| change + (end - change) * wide) })
}

/// The runs of each turn of a process, sorted.
type Turns = BTreeMap<(u64, u64), Vec<u64>>;

fn turns(measured: &Measured) -> Turns {
    let mut turns = Turns::new();
    for sample in &measured.samples {
        turns.entry((sample.process, sample.turn)).or_default().push(sample.total);
    }
    turns.values_mut().for_each(|totals| totals.sort_unstable());
    turns
}

/// The change of a percentile from the first of two that were measured in turns to the other one: the median of the changes
/// from turn to turn, which what disturbs the machine for longer meets alike, as a mean over processes. `None` with too few
/// turns of both.
pub fn paired(first: &Measured, other: &Measured, percent: f64) -> Option<Change> {
    let (first, other) = (turns(first), turns(other));
    let mut by_process: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (key, before) in &first {
        if let Some(after) = other.get(key) {
            let [before, after] = [before, after].map(|totals| nearest_rank(totals, percent) as f64);
            by_process.entry(key.0).or_default().push(after / before.max(1.0) - 1.0);
        }
    }
    let processes: Vec<Vec<f64>> = by_process.into_values().collect();
    if processes.iter().map(Vec::len).sum::<usize>() < PAIRS {
        return None;
    }
    let medians: Vec<f64> = processes.iter().cloned().map(median).collect();
    let change = mean(&medians);
    let interval = match processes.len() {
        0..FEW => within(&processes.concat()).map(|end| change + end),
        n => {
            // Student's interval. What varies within processes shows in their medians too: drawing turns besides would
            // count it twice.
            let squares: f64 = medians.iter().map(|median| (median - change).powi(2)).sum();
            let half = student(n - 1) * (squares / (n * (n - 1)) as f64).sqrt();
            [change - half, change + half]
        }
    };
    Some(Change { change, interval })
}

/// How far the median of these changes may be off, to both sides, where too few processes show how they differ: a bootstrap
/// over turns. What differs between processes is held to be as much as that within.
fn within(changes: &[f64]) -> [f64; 2] {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut resample = || median((0..changes.len()).map(|_| changes[random.below(changes.len())]).collect());
    let mut drawn: Vec<f64> = (0..RESAMPLES).map(|_| resample()).collect();
    let center = median(changes.to_vec());
    tails(&mut drawn).map(|end| (end - center) * LONE)
}

/// What all but the outermost values lie between.
fn tails(drawn: &mut [f64]) -> [f64; 2] {
    drawn.sort_by(f64::total_cmp);
    let tail = ((1.0 - CONFIDENCE) / 2.0 * drawn.len() as f64) as usize;
    [drawn[tail], drawn[drawn.len() - 1 - tail]]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// How much wider than the bootstrap's an interval is that rests on so few processes: the quantile of Student's
/// distribution over that of the normal one, and the bias of the variance of few.
fn widening(before: usize, after: usize) -> f64 {
    let few = before.min(after);
    if few < 2 {
        return LONE;
    }
    student(before + after - 2) / NORMAL * (few as f64 / (few as f64 - 1.0)).sqrt()
}

/// The quantile of the normal distribution at 0.995.
const NORMAL: f64 = 2.576;

/// The quantile of Student's distribution at 0.995.
fn student(freedom: usize) -> f64 {
    // By degrees of freedom, from 1.
    const QUANTILES: [f64; 12] = [63.66, 9.92, 5.84, 4.60, 4.03, 3.71, 3.50, 3.36, 3.25, 3.17, 3.11, 3.05];
    let known = freedom.checked_sub(1).and_then(|at| QUANTILES.get(at).copied());
    known.unwrap_or(NORMAL + 5.6 / freedom.max(1) as f64)
}

/// `--regress p95=5%`: the percentile may grow by that part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regress {
    /// The percentile.
    pub percent: f64,
    /// The part.
    pub limit: f64,
}

/// What a gate on a change says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The whole interval is within the limit.
    Pass,
    /// The whole interval is beyond it.
    Fail,
    /// The noise is larger than the limit asks for.
    Inconclusive,
}

impl Regress {
    /// Parses `p95=5%`.
    ///
    /// # Errors
    /// Text for people.
    pub fn parse(text: &str) -> Result<Regress, String> {
        let (name, limit) = text.split_once('=').ok_or("write p95=5%")?;
        let percent = name.trim().strip_prefix('p').and_then(|digits| digits.parse::<f64>().ok());
        let percent = percent.filter(|percent| (0.0..=100.0).contains(percent) && *percent > 0.0);
        let percent = percent.ok_or_else(|| format!("{name:?} is no percentile: p50, p95"))?;
        let limit = limit.trim().strip_suffix('%').and_then(|digits| digits.trim().parse::<f64>().ok());
        let limit = limit.filter(|limit| limit.is_finite() && *limit >= 0.0);
        Ok(Regress { percent, limit: limit.ok_or("the limit is a percentage: 5%")? / 100.0 })
    }

    /// What a change means for the gate.
    pub fn check(&self, change: &Change) -> Outcome {
        match change.interval {
            [_, most] if most <= self.limit => Outcome::Pass,
            [least, _] if least > self.limit => Outcome::Fail,
            _ => Outcome::Inconclusive,
        }
    }
}

/// Changes as a field of a document: against the baseline of a file, or against the first of what was measured in turns.
pub fn document(file: Option<&Path>, machine: Option<MachineChange>, changes: &[(f64, Change)]) -> Value {
    let mut fields = file.map_or_else(
        || json!({}),
        |file| json!({"file": file.display().to_string(), "machine": machine.map(MachineChange::to_json)}),
    );
    for (percent, change) in changes {
        let [least, most] = change.interval;
        fields[format!("p{percent}_change")] = json!([change.change, least, most]);
        fields[format!("p{percent}_verdict")] = json!(change.verdict().words());
    }
    fields["verdict"] = fields["p50_verdict"].clone();
    fields
}

#[cfg(test)]
mod tests {
    use super::super::baseline::processes;
    use super::super::latency::Sample;
    use super::*;

    /// Runs of some processes: each has an offset of its own, and runs vary within it.
    fn made(random: &mut Random, processes: usize, level: f64) -> Vec<Process> {
        let mut noise = |size: f64| (random.below(20001) as f64 / 10000.0 - 1.0) * size;
        (0..processes)
            .map(|_| {
                let own = level * (1.0 + noise(0.01));
                let mut runs: Vec<u64> = (0..60).map(|_| (own * (1.0 + noise(0.05))) as u64).collect();
                runs.sort_unstable();
                Process { runs, machine: None }
            })
            .collect()
    }

    #[test]
    fn equal_builds_are_equal_and_slow_ones_slow() {
        let mut random = Random(7);
        let (mut equal, mut found) = (0, 0);
        for _ in 0..100 {
            let (a, b) = (made(&mut random, 5, 1e6), made(&mut random, 5, 1e6));
            equal += usize::from(change(&a, &b, 50.0).unwrap().verdict() == Verdict::NoDifference);
            let slow = made(&mut random, 5, 1.05e6);
            found += usize::from(change(&a, &slow, 50.0).unwrap().verdict() == Verdict::Slower);
        }
        assert!(equal >= 95, "{equal}");
        assert!(found >= 95, "{found}");
        assert!(change(&[], &[], 50.0).is_none());
    }

    #[test]
    fn a_slower_machine_is_not_a_slower_build() {
        let machine = MachineChange { compute: 0.2, copy: 0.5 };
        let change = |part: f64| Change { change: part, interval: [part - 0.02, part + 0.02] };
        for (part, verdict) in [
            (0.3, Verdict::NoDifference),
            (0.6, Verdict::Slower),
            (0.03, Verdict::NoDifference),
            (-0.1, Verdict::Faster),
        ] {
            assert_eq!(change(part).allowing_for(machine).verdict(), verdict, "{part}");
        }
        let faster = MachineChange { compute: -0.2, copy: 0.0 };
        assert_eq!(change(-0.2).allowing_for(faster).verdict(), Verdict::NoDifference);
        let same = change(0.1).allowing_for(MachineChange { compute: 0.0, copy: 0.0 });
        let off = same.interval.iter().zip([0.08, 0.12]).map(|(end, same)| (end - same).abs());
        assert!(same.change == 0.1 && off.fold(0.0, f64::max) < 1e-12, "{same:?}");
    }

    /// What was measured in turns of one run each: the machine is up to twice as slow from turn to turn, for all alike.
    fn in_turns(random: &mut Random, processes: u64, changes: [f64; 2]) -> [Measured; 2] {
        let mut samples = [Vec::new(), Vec::new()];
        for (process, turn) in (0..processes).flat_map(|process| (0..25).map(move |turn| (process, turn))) {
            let mut noise = |size: f64| 1.0 + random.below(10001) as f64 / 10000.0 * size;
            let machine = noise(1.0);
            for (own, change) in samples.iter_mut().zip(changes) {
                let total = (1e6 * machine * (1.0 + change) * noise(0.04)) as u64;
                own.push(Sample { process, turn, total, ..Sample::default() });
            }
        }
        samples.map(|samples| Measured { samples, ..Measured::default() })
    }

    #[test]
    fn turns_show_what_a_busy_machine_hides() {
        let mut random = Random(3);
        let (mut equal, mut found, mut hidden, mut lone) = (0, 0, 0, 0);
        for _ in 0..100 {
            let [a, b] = in_turns(&mut random, 5, [0.0, 0.0]);
            equal += usize::from(paired(&a, &b, 50.0).unwrap().verdict() == Verdict::NoDifference);
            let [a, b] = in_turns(&mut random, 5, [0.0, 0.05]);
            found += usize::from(paired(&a, &b, 50.0).unwrap().verdict() == Verdict::Slower);
            let apart = change(&processes(&a), &processes(&b), 50.0).unwrap();
            hidden += usize::from(apart.verdict() == Verdict::NoDifference);
            let [a, b] = in_turns(&mut random, 1, [0.0, 0.0]);
            lone += usize::from(paired(&a, &b, 50.0).unwrap().verdict() == Verdict::NoDifference);
        }
        assert!(equal >= 95, "{equal}");
        assert!(found >= 95, "{found}");
        assert!(hidden >= 95, "{hidden}");
        assert!(lone >= 95, "{lone}");
        let [a, _] = in_turns(&mut random, 1, [0.0, 0.0]);
        assert!(paired(&a, &Measured::default(), 50.0).is_none());
    }

    #[test]
    fn gates_on_changes() {
        let regress = Regress::parse("p95=5%").unwrap();
        assert_eq!(regress, Regress { percent: 95.0, limit: 0.05 });
        let change = |least: f64, most: f64| Change { change: 0.0, interval: [least, most] };
        assert_eq!(regress.check(&change(-0.1, 0.04)), Outcome::Pass);
        assert_eq!(regress.check(&change(0.06, 0.07)), Outcome::Fail);
        assert_eq!(regress.check(&change(-0.1, 0.3)), Outcome::Inconclusive);
        for text in ["p95", "95=5%", "p95=5", "p0=5%", "p95=-1%", "p101=5%"] {
            assert!(Regress::parse(text).is_err(), "{text}");
        }
    }
}
