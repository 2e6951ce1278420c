//! What pooling operators share: walking windows, the fast path over `f32` planes, and the GPU kernel.

use rayon::prelude::*;
use sardonyx_shaders::expression::{Expression, Output, Step};
use sardonyx_shaders::storage::{Storage, ValueType, Width};
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::window::{Axis, UNIT, Window};
use crate::dispatch::{Binding, Candidate, Dispatch, Ending, Refusal, linear_grid, word};
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::view::View;
use crate::movement::assemble::{coordinates, row_major};
use crate::operator::{Cost, CpuKernel, CpuRun};
use crate::problem::Problem;

/// How the elements of a window become one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// The largest.
    Max,
    /// Their mean; padding counts as zeros if `include_pad`.
    Average {
        /// Padding counts.
        include_pad: bool,
    },
    /// The p-norm.
    Lp(f32),
}

/// The output's fact: batch and channels of the input, and the number of windows along the spatial axes.
///
/// # Errors
/// When the rank does not fit the windows.
pub fn infer(window: &Window, x: &Fact) -> Result<Vec<Dim>, OpError> {
    let Some(dims) = &x.shape else {
        let rank = window.kernel.len() + 2;
        return Ok((0..rank).map(|axis| Dim::named(&format!("pool.{axis}"))).collect());
    };
    if dims.len() < 3 {
        return Err(OpError::constraint("rank", "3 or more", dims.len()));
    }
    let (head, spatial) = dims.split_at(2);
    Ok([head, &window.shape(spatial)?].concat())
}

/// A pooling problem of known sizes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planes {
    /// Batch times channels.
    pub count: usize,
    /// Spatial axes.
    pub axes: Vec<Axis>,
    /// Dimensions of the output.
    pub dims: Vec<usize>,
}

impl Planes {
    /// The windows over an input of these dimensions.
    ///
    /// # Errors
    /// When the rank does not fit the windows, or no window fits.
    pub fn new(window: &Window, dims: &[usize]) -> Result<Planes, OpError> {
        if dims.len() < 3 {
            return Err(OpError::constraint("rank", "3 or more", dims.len()));
        }
        let (head, spatial) = dims.split_at(2);
        let axes = window.over(spatial)?;
        let dims: Vec<usize> = head.iter().copied().chain(axes.iter().map(|axis| axis.output)).collect();
        crate::ir::tensor::element_count(&dims).ok_or(OpError::Size)?;
        Ok(Planes { count: head.iter().product(), axes, dims })
    }

    fn input_plane(&self) -> usize {
        self.axes.iter().map(|axis| axis.input).product()
    }

    fn output_plane(&self) -> usize {
        self.axes.iter().map(|axis| axis.output).product()
    }

    /// Calls `visit(output, window)` for each output element with its coordinates and, in order, the input elements
    /// under its window.
    pub fn each_window(&self, mut visit: impl FnMut(usize, &[usize], &mut dyn Iterator<Item = usize>)) {
        let inputs: Vec<usize> = self.axes.iter().map(|axis| axis.input).collect();
        let outputs: Vec<usize> = self.axes.iter().map(|axis| axis.output).collect();
        let strides = row_major(&inputs);
        let (from, to) = (self.input_plane(), self.output_plane());
        for i in 0..self.count * to {
            let at = coordinates(i % to, &outputs);
            let taps: Vec<_> = self.axes.iter().zip(&at).map(|(axis, &o)| axis.taps(o)).collect();
            let counts: Vec<usize> = taps.iter().map(|taps| taps.len()).collect();
            let mut elements = (0..counts.iter().product()).map(|k: usize| {
                let tap = coordinates(k, &counts);
                let offset = |axis: usize| {
                    self.axes[axis].position(at[axis], taps[axis].start + tap[axis]) * strides[axis]
                };
                i / to * from + (0..at.len()).map(offset).sum::<usize>()
            });
            visit(i, &at, &mut elements);
        }
    }

    /// The number that a mean at these output coordinates is divided by.
    pub fn divisor(&self, at: &[usize], include_pad: bool) -> usize {
        let along = |(axis, &o): (&Axis, &usize)| {
            if include_pad { axis.padded_taps(o) } else { axis.taps(o).len() }
        };
        self.axes.iter().zip(at).map(along).product()
    }

    /// The last three spatial axes, units in front where there are fewer; `None` for more than three.
    fn volume(&self) -> Option<[Axis; 3]> {
        let missing = 3usize.checked_sub(self.axes.len())?;
        let mut all = [UNIT; 3];
        all[missing..].copy_from_slice(&self.axes);
        Some(all)
    }

    /// One plane of `f32`.
    fn plane(&self, volume: &[Axis; 3], kind: Kind, x: &[f32], y: &mut [f32]) {
        let [depth, height, width] = volume;
        let rows = y.chunks_mut(width.output.max(1)).enumerate();
        for (row, line) in rows {
            let (z, v) = (row / height.output, row % height.output);
            line.fill(if kind == Kind::Max { f32::NEG_INFINITY } else { 0.0 });
            for a in depth.taps(z) {
                for b in height.taps(v) {
                    let from = (depth.position(z, a) * height.input + height.position(v, b)) * width.input;
                    let x = &x[from..from + width.input];
                    for c in 0..width.kernel.min(width.input + width.before) {
                        along(width, c, x, line, kind);
                    }
                }
            }
            match kind {
                Kind::Max => {}
                Kind::Average { include_pad } => {
                    for (u, slot) in line.iter_mut().enumerate() {
                        let count = |axis: &Axis, o: usize| {
                            if include_pad { axis.padded_taps(o) } else { axis.taps(o).len() }
                        };
                        let divisor = count(depth, z) * count(height, v) * count(width, u);
                        *slot /= divisor.max(1) as f32;
                    }
                }
                Kind::Lp(p) => line.iter_mut().for_each(|slot| *slot = root(*slot, p)),
            }
        }
    }
}

/// The p-th root.
fn root(sum: f32, p: f32) -> f32 {
    if p == 2.0 { sum.sqrt() } else { sum.powf(1.0 / p) }
}

/// Combines tap `tap` of every window of a row into the row's results.
fn along(axis: &Axis, tap: usize, x: &[f32], line: &mut [f32], kind: Kind) {
    let ahead = tap * axis.dilation;
    // Windows whose tap lies inside: before ≤ o · stride + ahead < before + input.
    let first = axis.before.saturating_sub(ahead).div_ceil(axis.stride);
    let last = (axis.before + axis.input).saturating_sub(ahead).div_ceil(axis.stride).min(line.len());
    if first >= last {
        return;
    }
    let from = first * axis.stride + ahead - axis.before;
    let (x, line) = (&x[from..], &mut line[first..last]);
    macro_rules! each {
        ($combine:expr) => {
            if axis.stride == 1 {
                line.iter_mut().zip(x).for_each(|(slot, &x)| *slot = $combine(*slot, x))
            } else {
                line.iter_mut()
                    .zip(x.iter().step_by(axis.stride))
                    .for_each(|(slot, &x)| *slot = $combine(*slot, x))
            }
        };
    }
    match kind {
        Kind::Max => each!(|y: f32, x: f32| if x > y { x } else { y }),
        Kind::Average { .. } => each!(|y: f32, x: f32| y + x),
        Kind::Lp(2.0) => each!(|y: f32, x: f32| y + x * x),
        Kind::Lp(p) => each!(|y: f32, x: f32| y + x.abs().powf(p)),
    }
}

/// Pools planes of `f32` in parallel.
pub struct PoolKernel {
    planes: Planes,
    volume: [Axis; 3],
    kind: Kind,
}

impl PoolKernel {
    /// A kernel for an input of these dimensions; `None` for other types and more than three spatial axes.
    pub fn prepare(window: &Window, kind: Kind, problem: &Problem<'_>) -> Option<Box<dyn CpuKernel>> {
        let x = problem.input(0)?;
        let bytes = kind == Kind::Max && matches!(x.dtype, crate::DType::I8 | crate::DType::U8);
        if (x.dtype != crate::DType::F32 && !bytes) || problem.outputs.len() != 1 {
            return None;
        }
        let planes = Planes::new(window, x.dims).ok()?;
        let volume = planes.volume()?;
        let kernel = PoolKernel { planes, volume, kind };
        Some(if bytes { Box::new(BytesKernel(kernel)) } else { Box::new(kernel) })
    }
}

impl CpuKernel for PoolKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let x: View<'_> = crate::movement::sizes::view(run.inputs, 0)?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("no output"))?;
        let (from, to) = (self.planes.input_plane(), self.planes.output_plane());
        let (x, y) = (x.slice::<f32>(), output.slice::<f32>());
        if x.len() != self.planes.count * from || y.len() != self.planes.count * to {
            return Err(OpError::Internal("a pooling kernel for other sizes"));
        }
        if y.is_empty() || x.is_empty() {
            y.fill(if self.kind == Kind::Max { f32::NEG_INFINITY } else { 0.0 });
            return Ok(());
        }
        y.par_chunks_mut(to).zip(x.par_chunks(from)).enumerate().try_for_each(|(plane, (y, x))| {
            self.planes.plane(&self.volume, self.kind, x, y);
            run.finish.map_or(Ok(()), |finish| finish.apply(y, plane * to))
        })
    }

    fn finishes(&self) -> bool {
        true
    }
}

/// The greatest bytes of windows, plane by plane as `f32`, which holds them exactly.
struct BytesKernel(PoolKernel);

impl CpuKernel for BytesKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let x: View<'_> = crate::movement::sizes::view(run.inputs, 0)?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("no output"))?;
        let PoolKernel { planes, volume, kind } = &self.0;
        let (from, to, signed) = (planes.input_plane(), planes.output_plane(), x.dtype == crate::DType::I8);
        if x.bytes.len() != planes.count * from || output.bytes.len() != planes.count * to {
            return Err(OpError::Internal("a pooling kernel for other sizes"));
        }
        if output.bytes.is_empty() || x.is_empty() {
            output.bytes.fill(if signed { i8::MIN as u8 } else { u8::MIN });
            return Ok(());
        }
        let each = output.bytes.par_chunks_mut(to).zip(x.bytes.par_chunks(from));
        each.for_each_init(
            || (vec![0.0; from], vec![0.0; to]),
            |(wide, results), (y, x)| {
                if signed {
                    wide.iter_mut().zip(x).for_each(|(slot, &x)| *slot = f32::from(x as i8));
                } else {
                    wide.iter_mut().zip(x).for_each(|(slot, &x)| *slot = f32::from(x));
                }
                planes.plane(volume, *kind, wide, results);
                // Windows outside the input are the least byte.
                if signed {
                    y.iter_mut().zip(&*results).for_each(|(slot, &x)| *slot = x as i8 as u8);
                } else {
                    y.iter_mut().zip(&*results).for_each(|(slot, &x)| *slot = x as u8);
                }
            },
        );
        Ok(())
    }
}

/// The GPU kernel for a problem.
///
/// # Errors
/// When there are more than three spatial axes, or the types are not floats.
pub fn candidate(
    window: &Window,
    kind: Kind,
    problem: &Problem<'_>,
    caps: &Capabilities,
) -> Result<Candidate, Refusal> {
    let variant = &table::POOL;
    let kernel = variant.name;
    let refuse = |reason: String| Refusal { kernel, reason };
    let x = problem.input(0).ok_or_else(|| refuse("an input is missing".to_owned()))?;
    let storage = problem.stored(kernel, Some(x))?;
    let bytes = kind == Kind::Max && matches!(storage, Storage::I8 | Storage::U8);
    if storage.value() != ValueType::F32 && !bytes {
        return Err(refuse(format!("it pools floats and greatest bytes, not {}", x.dtype)));
    }
    let planes = Planes::new(window, x.dims).map_err(|error| refuse(error.to_string()))?;
    let volume = planes.volume().ok_or_else(|| refuse("more than three spatial axes".to_owned()))?;
    let len: usize = planes.dims.iter().product();
    if len.max(x.len()) > i32::MAX as usize || x.is_empty() {
        return Err(refuse("no elements, or more than 2^31".to_owned()));
    }
    let each = |get: fn(&Axis) -> usize| -> Result<[u32; 4], Refusal> {
        let [a, b, c] = volume.each_ref().map(get);
        let small = |n: usize| match n < 1 << 30 {
            true => word(kernel, n),
            false => Err(refuse("a window beyond 2^30 elements".to_owned())),
        };
        Ok([small(a)?, small(b)?, small(c)?, 0])
    };
    let (knob, p) = match kind {
        Kind::Max => (0, 0.0),
        Kind::Average { .. } => (1, 0.0),
        Kind::Lp(p) => (2, p),
    };
    let params = params::pool::Pool {
        len: word(kernel, len)?,
        include_pad: u32::from(kind == Kind::Average { include_pad: true }),
        p,
        pad: 0,
        input: each(|axis| axis.input)?,
        output: each(|axis| axis.output)?,
        window: each(|axis| axis.kernel)?,
        stride: each(|axis| axis.stride)?,
        dilation: each(|axis| axis.dilation)?,
        before: each(|axis| axis.before)?,
        after: each(|axis| axis.after)?,
    };
    let ending = if bytes {
        let value = storage.value();
        let function = format!("cast_f32_{}", x.dtype);
        let cast = Step::Call { function, args: vec![0], params: Vec::new(), value };
        let outputs = vec![Output { step: 1, storage, width: Width::Four }];
        let steps = vec![Step::Accumulator, cast];
        let expression = Expression { accumulator: ValueType::F32, operands: Vec::new(), steps, outputs };
        Ending { expression, reads: Vec::new(), operands: Vec::new() }
    } else {
        problem.ending(kernel, ValueType::F32, Width::Four)?
    };
    let dispatch = Dispatch {
        kernel: Kernel {
            variant,
            inputs: vec![(storage, Width::One)],
            knobs: vec![("KIND", knob)],
            expression: ending.expression,
        },
        reads: std::iter::once(Binding::Input(0)).chain(ending.reads).collect(),
        writes: vec![Binding::Output(0)],
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: ending.operands,
        grid: linear_grid(kernel, len.div_ceil(4 * 64), caps)?,
    };
    Ok(Candidate { dispatches: vec![dispatch], ..Candidate::default() })
}

/// Every byte once, and one operation per tap of each window.
pub fn cost(window: &Window, problem: &Problem<'_>) -> Cost {
    let taps = window.kernel.iter().fold(1u64, |product, &kernel| product.saturating_mul(kernel as u64));
    let cost = problem.default_cost();
    Cost { flops: cost.flops.saturating_mul(taps), ..cost }
}
