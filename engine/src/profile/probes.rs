//! Timestamps that a device writes around launches, and their place on the host's clock.

use std::ops::Range;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::device::Gpu;
use crate::error::Result;
use crate::program::WAIT_LIMIT;

/// The most queries of a set, by WebGPU's rules; longer runs take several sets.
const SET: u32 = wgpu::QUERY_SET_MAX_QUERIES;

/// Resolved queries begin at multiples of this.
const ALIGNMENT: u64 = wgpu::QUERY_RESOLVE_BUFFER_ALIGNMENT;

/// What a pair of timestamps stands around.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    /// The part of the model, counted from 0.
    pub(crate) part: usize,
    /// The step within the part.
    pub(crate) step: usize,
    /// Which of the step's kernels.
    pub(crate) kernel: usize,
}

/// Timestamps around the launches of one run.
pub(crate) struct Probes {
    inside: bool,
    /// Nanoseconds of a tick.
    period: f64,
    sets: Vec<wgpu::QuerySet>,
    marks: Vec<Mark>,
    submissions: Vec<Submission>,
}

/// When launches were handed over, and when they were known to be done.
struct Submission {
    marks: Range<usize>,
    from: Instant,
    until: Instant,
}

/// What the timestamps say.
pub(crate) struct Read {
    pub(crate) spans: Vec<(Mark, Duration, Duration)>,
    pub(crate) alignment: Duration,
}

impl Probes {
    /// `None` when the device has no timestamps.
    pub(crate) fn new(gpu: &Gpu) -> Option<Probes> {
        let features = gpu.device().features();
        let period = f64::from(gpu.queue().get_timestamp_period());
        if !features.contains(wgpu::Features::TIMESTAMP_QUERY) || period <= 0.0 {
            return None;
        }
        Some(Probes {
            inside: features.contains(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES),
            period,
            sets: Vec::new(),
            marks: Vec::new(),
            submissions: Vec::new(),
        })
    }

    pub(crate) fn inside_passes(&self) -> bool {
        self.inside
    }

    pub(super) fn clear(&mut self) {
        self.marks.clear();
        self.submissions.clear();
    }

    /// Records launches with timestamps around each.
    pub(crate) fn encode(
        &mut self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        marks: &[Mark],
        mut launch: impl FnMut(&mut wgpu::ComputePass<'_>, usize),
    ) -> Result<()> {
        let first = self.marks.len();
        self.marks.extend_from_slice(marks);
        self.make_sets(gpu)?;
        if self.inside {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for index in 0..marks.len() {
                let (set, query) = self.queries(first + index);
                pass.write_timestamp(set, query);
                launch(&mut pass, index);
                pass.write_timestamp(set, query + 1);
            }
            return Ok(());
        }
        for index in 0..marks.len() {
            let (query_set, query) = self.queries(first + index);
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set,
                    beginning_of_pass_write_index: Some(query),
                    end_of_pass_write_index: Some(query + 1),
                }),
            });
            launch(&mut pass, index);
        }
        Ok(())
    }

    /// The launches recorded since the last call were handed over at `from`, and are known to be done now.
    pub(crate) fn done(&mut self, from: Instant) {
        let first = self.submissions.last().map_or(0, |submission| submission.marks.end);
        let marks = first..self.marks.len();
        if !marks.is_empty() {
            self.submissions.push(Submission { marks, from, until: Instant::now() });
        }
    }

    /// The set of a mark, and the first of its two queries there.
    fn queries(&self, mark: usize) -> (&wgpu::QuerySet, u32) {
        let query = 2 * mark as u32;
        (&self.sets[(query / SET) as usize], query % SET)
    }

    fn make_sets(&mut self, gpu: &Gpu) -> Result<()> {
        while self.sets.len() * SET as usize / 2 < self.marks.len() {
            self.sets.push(gpu.scoped(|| {
                gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("timestamps"),
                    ty: wgpu::QueryType::Timestamp,
                    count: SET,
                })
            })?);
        }
        Ok(())
    }

    /// The spans of all marks, counted from `origin`.
    pub(super) fn read(&self, gpu: &Gpu, origin: Instant) -> Result<Read> {
        let ticks = self.resolve(gpu)?;
        let ns = |tick: u64| tick as f64 * self.period;
        let host = |at: Instant| at.saturating_duration_since(origin).as_nanos() as f64;
        // The device's clock is ahead of the host's by at most what puts a first launch at its submission, and at least
        // what puts a last one at the end of the wait.
        let (mut most, mut least) = (f64::INFINITY, f64::NEG_INFINITY);
        for submission in &self.submissions {
            let pairs = ticks.get(submission.marks.clone()).unwrap_or_default();
            let first = pairs.iter().map(|pair| pair[0]).min().unwrap_or(0);
            let last = pairs.iter().map(|pair| pair[1]).max().unwrap_or(0);
            most = most.min(ns(first) - host(submission.from));
            least = least.max(ns(last) - host(submission.until));
        }
        let (ahead, off) = if most.is_finite() && least.is_finite() {
            (f64::midpoint(most, least), (most - least).abs() / 2.0)
        } else {
            (0.0, 0.0)
        };
        let at = |tick: u64| Duration::from_nanos((ns(tick) - ahead).max(0.0) as u64);
        let spans = self.marks.iter().zip(&ticks).map(|(&mark, &[from, to])| {
            (mark, at(from), Duration::from_nanos(ns(to.saturating_sub(from)) as u64))
        });
        Ok(Read { spans: spans.collect(), alignment: Duration::from_nanos(off as u64) })
    }

    /// The two ticks of each mark.
    fn resolve(&self, gpu: &Gpu) -> Result<Vec<[u64; 2]>> {
        let queries = 2 * self.marks.len() as u32;
        if queries == 0 {
            return Ok(Vec::new());
        }
        let bytes = (u64::from(queries) * 8).next_multiple_of(ALIGNMENT);
        let make = |usage: wgpu::BufferUsages| {
            gpu.scoped(|| {
                gpu.device().create_buffer(&wgpu::BufferDescriptor {
                    label: Some("timestamps"),
                    size: bytes,
                    usage,
                    mapped_at_creation: false,
                })
            })
        };
        let resolved = make(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC)?;
        let staging = make(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)?;
        let mut encoder =
            gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        for (index, set) in self.sets.iter().enumerate() {
            let before = index as u32 * SET;
            let here = queries.saturating_sub(before).min(SET);
            if here > 0 {
                encoder.resolve_query_set(set, 0..here, &resolved, u64::from(before) * 8);
            }
        }
        encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, Some(bytes));
        gpu.queue().submit([encoder.finish()]);
        let (tell, told) = mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // Without a receiver nobody waits for the answer.
            let _ = tell.send(result);
        });
        gpu.wait(None, WAIT_LIMIT)?;
        match told.try_recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(gpu.fault(error.to_string())),
            Err(_) => return Err(gpu.fault("the timestamps were not mapped".to_owned())),
        }
        let range = staging.get_mapped_range(..).map_err(|error| gpu.fault(error.to_string()))?;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&range[..queries as usize * 8]);
        Ok(ticks.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect())
    }
}
