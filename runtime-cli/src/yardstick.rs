//! A fixed piece of work, done beside what is measured: how fast the machine itself was then. Neighbours on a shared
//! machine, clocks and heat change that from one measurement to a later one, which no number of runs of either shows.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use sardonyx_ops::cpu::roof;
use serde_json::{Value, json};

/// Multiply-adds in registers, some 100 us of them.
const ROUNDS: usize = 1 << 15;
/// Bytes that each thread copies: more than the caches hold that it has for itself.
const COPIED: usize = 2 << 20;
/// The median of so many counts.
const REPEATS: usize = 5;

/// How long each kind of work took, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Multiply-adds.
    pub compute: u64,
    /// Copying memory.
    pub copy: u64,
}

impl Reading {
    /// The median of each kind of work; `None` of nothing.
    pub fn median(readings: &[Reading]) -> Option<Reading> {
        let median = |kind: fn(&Reading) -> u64| {
            let mut all: Vec<u64> = readings.iter().map(kind).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied()
        };
        Some(Reading { compute: median(|r| r.compute)?, copy: median(|r| r.copy)? })
    }

    /// As a field of a document.
    pub fn to_json(self) -> Value {
        json!({"compute": self.compute, "copy": self.copy})
    }

    /// From a field of a document.
    pub fn from_json(value: &Value) -> Option<Reading> {
        let kind = |name: &str| value[name].as_u64().filter(|ns| *ns > 0);
        Some(Reading { compute: kind("compute")?, copy: kind("copy")? })
    }
}

/// The work, with the memory that it needs.
pub struct Yardstick {
    /// For each thread what is copied, and where to.
    buffers: Vec<[Vec<u8>; 2]>,
}

impl Yardstick {
    /// For so many threads at the same time, all of the machine for 0.
    pub fn new(threads: usize) -> Yardstick {
        let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if threads == 0 { all } else { threads.min(all) };
        Yardstick { buffers: (0..threads).map(|_| [vec![1; COPIED], vec![0; COPIED]]).collect() }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        (self.buffers.len() * 2 * COPIED) as u64
    }

    /// Does the work, a few milliseconds, on all threads at once: the mean of theirs.
    pub fn read(&mut self) -> Reading {
        let together = Barrier::new(self.buffers.len());
        let readings: Vec<Reading> = std::thread::scope(|scope| {
            let work = |buffers| {
                let together = &together;
                scope.spawn(move || {
                    together.wait();
                    one_thread(buffers)
                })
            };
            let threads: Vec<_> = self.buffers.iter_mut().map(work).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        let mean =
            |kind: fn(&Reading) -> u64| readings.iter().map(kind).sum::<u64>() / readings.len().max(1) as u64;
        Reading { compute: mean(|r| r.compute), copy: mean(|r| r.copy) }
    }
}

fn one_thread([from, to]: &mut [Vec<u8>; 2]) -> Reading {
    let mut readings = [Reading::default(); REPEATS];
    for reading in &mut readings {
        let start = Instant::now();
        let [factor, summand] = black_box([0.999f32, 0.001]);
        black_box(roof::multiply_add(ROUNDS, factor, summand));
        reading.compute = crate::describe::ns(start.elapsed());
        let start = Instant::now();
        to.copy_from_slice(black_box(from));
        black_box(&mut *to);
        reading.copy = crate::describe::ns(start.elapsed());
    }
    Reading::median(&readings).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_of_work_that_was_done() {
        let mut yardstick = Yardstick::new(2);
        let reading = yardstick.read();
        assert!(reading.compute > 0 && reading.copy > 0, "{reading:?}");
        assert!(yardstick.buffers.iter().all(|[from, to]| from == to));
        let all: usize = yardstick.buffers.iter().flatten().map(Vec::len).sum();
        assert_eq!(yardstick.bytes(), all as u64);
        assert_eq!(Reading::from_json(&reading.to_json()), Some(reading));
        assert_eq!(Reading::from_json(&Value::Null), None);
        let all = [1, 9, 2].map(|ns| Reading { compute: ns, copy: 10 - ns });
        assert_eq!(Reading::median(&all), Some(Reading { compute: 2, copy: 8 }));
        assert_eq!(Reading::median(&[]), None);
    }
}
