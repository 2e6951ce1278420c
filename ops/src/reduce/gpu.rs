//! Reductions on the GPU: one launch per block of neighbouring dimensions, two where one would leave the device idle.

use sardonyx_shaders::expression::Expression;
use sardonyx_shaders::params;
use sardonyx_shaders::storage::{Storage, Width};
use sardonyx_shaders::{Capabilities, Kernel, table};

use super::kind::{Combine, Complete, Kind, Prepare};
use super::lines::{Lines, blocks};
use crate::dispatch::{Binding, Candidate, Dispatch, Ending, Refusal, Scratch, linear_grid, word};
use crate::ir::dtype::DType;
use crate::problem::Problem;

/// Longest lines for which an invocation to an output beats a workgroup to an output.
pub(crate) const SHORT: usize = 64;
/// Lines longer than this get a workgroup of 256 invocations rather than 64.
pub(crate) const LONG: usize = 2048;
/// Largest tensor that kernels index: positions and four elements more fit 32 bits with room.
const MOST: usize = 1 << 31;

/// Refuses tensors that kernels cannot index, and empty ones, for which there is nothing to launch.
pub(crate) fn check_len(kernel: &'static str, len: usize) -> Result<(), Refusal> {
    if len == 0 || len >= MOST {
        return Err(Refusal { kernel, reason: format!("{len} elements") });
    }
    Ok(())
}

/// One launch: [outer, len, inner] to [outer, segments, inner].
struct Stage {
    lines: Lines,
    segment: usize,
    segments: usize,
}

pub(super) fn lower(
    kind: Kind,
    mask: &[bool],
    problem: &Problem<'_>,
    caps: &Capabilities,
) -> Result<Candidate, Refusal> {
    let kernel = table::REDUCE.name;
    let refuse = |reason: &str| Refusal { kernel, reason: reason.to_owned() };
    let data = problem.input(0).ok_or_else(|| refuse("an input is missing"))?;
    check_len(kernel, data.len())?;
    let storage = problem.stored(kernel, Some(data))?;
    check_type(kind, data.dtype).map_err(|reason| refuse(&reason))?;
    let stages = stages(data.dims, mask, storage);
    let scale = data.dims.iter().zip(mask).filter(|(_, mark)| **mark).map(|(&dim, _)| dim as f32).product();
    // Results in between keep the precision of the arithmetic.
    let between = if storage == Storage::F16 { Storage::F32 } else { storage };
    let mut candidate = Candidate::default();
    let mut read = (Binding::Input(0), storage);
    for (index, stage) in stages.iter().enumerate() {
        let outputs = stage.lines.count() * stage.segments;
        let vector = stage.vector(storage);
        let row = stage.row(storage);
        let write_width = if row { Width::One } else { Width::Four };
        let (ending, write) = if index + 1 == stages.len() {
            (problem.ending(kernel, storage.value(), write_width)?, Binding::Output(0))
        } else {
            candidate.scratch.push(Scratch { storage: between, len: outputs });
            let expression = Expression::store(storage.value(), between, write_width);
            let ending = Ending { expression, reads: Vec::new(), operands: Vec::new() };
            (ending, Binding::Scratch(candidate.scratch.len() - 1))
        };
        let steps = kind.stage(index, stages.len());
        let mut knobs = vec![
            ("PREPARE", steps.prepare as u32),
            ("COMBINE", steps.combine as u32),
            ("COMPLETE", steps.complete as u32),
            ("VECTOR", u32::from(vector)),
        ];
        if row && stage.segment > LONG {
            knobs.push(("WORKGROUP", 256));
        }
        let groups = if row { outputs } else { outputs.div_ceil(4 * 64) };
        let params = params::reduce::Reduce {
            outputs: word(kernel, outputs)?,
            len: word(kernel, stage.lines.len)?,
            inner: word(kernel, stage.lines.inner)?,
            segment: word(kernel, stage.segment)?,
            segments: word(kernel, stage.segments)?,
            scale,
            ..Default::default()
        };
        let mut reads = vec![read.0];
        reads.extend(ending.reads);
        candidate.dispatches.push(Dispatch {
            kernel: Kernel {
                variant: if row { &table::REDUCE_ROW } else { &table::REDUCE },
                inputs: vec![(read.1, if vector { Width::Four } else { Width::One })],
                knobs,
                expression: ending.expression,
            },
            reads,
            writes: vec![write],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: ending.operands,
            grid: linear_grid(kernel, groups, caps)?,
        });
        read = (write, between);
    }
    Ok(candidate)
}

/// Which types a reduction has in the shaders.
fn check_type(kind: Kind, dtype: DType) -> Result<(), String> {
    use DType::*;
    let steps = kind.steps();
    let extreme = matches!(steps.combine, Combine::Largest | Combine::Smallest);
    let integral = steps.prepare != Prepare::Exponential && steps.complete == Complete::None;
    let ok = match dtype {
        F32 | F16 | BF16 => true,
        I32 | U32 => integral,
        I16 | U16 | I8 | U8 | Bool => extreme,
        I64 => extreme || kind == Kind::Sum,
        // Sums of two's complement are the same for both signs; orders are not.
        U64 => kind == Kind::Sum,
        _ => false,
    };
    if ok { Ok(()) } else { Err(format!("{kind:?} over {dtype}")) }
}

fn stages(dims: &[usize], mask: &[bool], storage: Storage) -> Vec<Stage> {
    let mut stages = Vec::new();
    for lines in blocks(dims, mask) {
        let stage = Stage { lines, segment: lines.len, segments: 1 };
        let segment = stage.split(storage);
        let segments = lines.len.div_ceil(segment);
        stages.push(Stage { lines, segment, segments });
        if segments > 1 {
            let lines = Lines { len: segments, ..lines };
            stages.push(Stage { lines, segment: segments, segments: 1 });
        }
    }
    stages
}

impl Stage {
    /// A workgroup to an output: where elements of a line are neighbours, or there are too few lines.
    fn row(&self, storage: Storage) -> bool {
        let Lines { len, inner, .. } = self.lines;
        // Only words are written one at a time.
        let words = storage.writes_single();
        words && len > SHORT && (inner == 1 || (!inner.is_multiple_of(4) && self.lines.count() < 4096))
    }

    /// Four elements at a time.
    fn vector(&self, storage: Storage) -> bool {
        let Lines { len, inner, .. } = self.lines;
        if self.row(storage) {
            return inner == 1 && len.is_multiple_of(4) && self.segment.is_multiple_of(4);
        }
        inner.is_multiple_of(4)
    }

    /// The length of segments: enough of them to occupy a device, each long enough to be worth it.
    fn split(&self, storage: Storage) -> usize {
        const GROUPS: usize = 128;
        let Lines { len, inner, .. } = self.lines;
        let row = self.row(storage);
        let groups = if row { self.lines.count() } else { self.lines.count().div_ceil(4 * 64) };
        let worth = if row { LONG } else { SHORT };
        // Lanes of one invocation share a segment only when they are neighbours.
        if groups >= GROUPS / 2 || len < 2 * worth || (!row && !inner.is_multiple_of(4)) {
            return len;
        }
        let segments = (GROUPS / groups).min(len / worth).max(1);
        len.div_ceil(segments).next_multiple_of(4).min(len)
    }
}
