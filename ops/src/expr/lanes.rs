//! Tiles of values: what the functions of an expression read and write on the CPU.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::Scalar;
use crate::broadcast::Strides;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::view::View;

/// Elements of a tile: small enough that a chain's intermediates stay in the first-level cache.
pub const TILE: usize = 512;

/// Values to read. Floats of 16 bits compute as `f32` and are rounded after each step, as separate operators would;
/// narrow integers compute in 64 bits and are wrapped after each step.
#[derive(Clone, Copy, Debug)]
pub enum Lanes<'a> {
    /// f32, f16, bf16.
    F32(&'a [f32]),
    /// f64.
    F64(&'a [f64]),
    /// Signed integers, and unsigned ones below 64 bits.
    I64(&'a [i64]),
    /// u64.
    U64(&'a [u64]),
    /// Truth values.
    Bool(&'a [bool]),
}

/// Values to write; kinds as in [`Lanes`].
#[derive(Debug)]
pub enum LanesMut<'a> {
    /// f32, f16, bf16.
    F32(&'a mut [f32]),
    /// f64.
    F64(&'a mut [f64]),
    /// Signed integers, and unsigned ones below 64 bits.
    I64(&'a mut [i64]),
    /// u64.
    U64(&'a mut [u64]),
    /// Truth values.
    Bool(&'a mut [bool]),
}

impl LanesMut<'_> {
    /// The same lanes for a shorter time.
    pub fn reborrow(&mut self) -> LanesMut<'_> {
        match self {
            LanesMut::F32(lanes) => LanesMut::F32(lanes),
            LanesMut::F64(lanes) => LanesMut::F64(lanes),
            LanesMut::I64(lanes) => LanesMut::I64(lanes),
            LanesMut::U64(lanes) => LanesMut::U64(lanes),
            LanesMut::Bool(lanes) => LanesMut::Bool(lanes),
        }
    }
}

/// Memory for a tile of any kind.
#[derive(Debug)]
pub(super) enum Buffer {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
}

impl Buffer {
    /// No memory: what stands in for a buffer that is being written.
    pub(super) const NONE: Buffer = Buffer::Bool(Vec::new());

    pub(super) fn for_type(dtype: DType, len: usize) -> Result<Buffer, OpError> {
        Ok(match dtype {
            DType::F32 | DType::F16 | DType::BF16 => Buffer::F32(vec![0.0; len]),
            DType::F64 => Buffer::F64(vec![0.0; len]),
            DType::I8 | DType::I16 | DType::I32 | DType::I64 => Buffer::I64(vec![0; len]),
            DType::U8 | DType::U16 | DType::U32 => Buffer::I64(vec![0; len]),
            DType::U64 => Buffer::U64(vec![0; len]),
            DType::Bool => Buffer::Bool(vec![false; len]),
            other => return Err(OpError::unsupported(format!("{other} in an expression"))),
        })
    }

    pub(super) fn lanes(&self, len: usize) -> Lanes<'_> {
        match self {
            Buffer::F32(all) => Lanes::F32(&all[..len.min(all.len())]),
            Buffer::F64(all) => Lanes::F64(&all[..len.min(all.len())]),
            Buffer::I64(all) => Lanes::I64(&all[..len.min(all.len())]),
            Buffer::U64(all) => Lanes::U64(&all[..len.min(all.len())]),
            Buffer::Bool(all) => Lanes::Bool(&all[..len.min(all.len())]),
        }
    }

    pub(super) fn lanes_mut(&mut self, len: usize) -> LanesMut<'_> {
        match self {
            Buffer::F32(all) => LanesMut::F32(prefix(all, len)),
            Buffer::F64(all) => LanesMut::F64(prefix(all, len)),
            Buffer::I64(all) => LanesMut::I64(prefix(all, len)),
            Buffer::U64(all) => LanesMut::U64(prefix(all, len)),
            Buffer::Bool(all) => LanesMut::Bool(prefix(all, len)),
        }
    }
}

fn prefix<T>(all: &mut [T], len: usize) -> &mut [T] {
    let len = len.min(all.len());
    &mut all[..len]
}

/// Whether values of this type take part in expressions.
pub(super) fn has_lanes(dtype: DType) -> bool {
    Buffer::for_type(dtype, 0).is_ok()
}

/// Whether elements of this type lie in memory as lanes do.
pub(super) fn is_plain(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64 | DType::I64 | DType::U64)
}

/// Elements of a tensor of a plain type, in place.
pub(super) fn in_place<'a>(view: &View<'a>, range: Range<usize>) -> Option<Lanes<'a>> {
    Some(match view.dtype {
        DType::F32 => Lanes::F32(view.slice().get(range)?),
        DType::F64 => Lanes::F64(view.slice().get(range)?),
        DType::I64 => Lanes::I64(view.slice().get(range)?),
        DType::U64 => Lanes::U64(view.slice().get(range)?),
        _ => return None,
    })
}

/// The memory of elements of a plain type, to write in place.
pub(super) fn in_place_mut(dtype: DType, bytes: &mut [u8]) -> Option<LanesMut<'_>> {
    Some(match dtype {
        DType::F32 => LanesMut::F32(bytemuck::try_cast_slice_mut(bytes).ok()?),
        DType::F64 => LanesMut::F64(bytemuck::try_cast_slice_mut(bytes).ok()?),
        DType::I64 => LanesMut::I64(bytemuck::try_cast_slice_mut(bytes).ok()?),
        DType::U64 => LanesMut::U64(bytemuck::try_cast_slice_mut(bytes).ok()?),
        _ => return None,
    })
}

/// Copies lanes of one kind.
pub(super) fn copy(from: Lanes<'_>, to: LanesMut<'_>) {
    match (from, to) {
        (Lanes::F32(a), LanesMut::F32(b)) => copy_slice(a, b),
        (Lanes::F64(a), LanesMut::F64(b)) => copy_slice(a, b),
        (Lanes::I64(a), LanesMut::I64(b)) => copy_slice(a, b),
        (Lanes::U64(a), LanesMut::U64(b)) => copy_slice(a, b),
        (Lanes::Bool(a), LanesMut::Bool(b)) => copy_slice(a, b),
        _ => {}
    }
}

fn copy_slice<T: Copy>(from: &[T], to: &mut [T]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = from;
    }
}

/// Loads the elements of a tensor that belong to output elements from `start` on.
pub(super) fn load(
    out: LanesMut<'_>,
    view: &View<'_>,
    strides: &Strides,
    start: usize,
) -> Result<(), OpError> {
    macro_rules! each {
        ($f:expr) => {
            |from, to| {
                for (to, &x) in to.iter_mut().zip(from) {
                    *to = $f(x);
                }
            }
        };
    }
    match (out, view.dtype) {
        (LanesMut::F32(out), DType::F32) => gather(view.slice::<f32>(), out, strides, start, copy_slice),
        (LanesMut::F32(out), DType::F16) => {
            gather(view.slice::<f16>(), out, strides, start, |from, to| from.convert_to_f32_slice(to))
        }
        (LanesMut::F32(out), DType::BF16) => {
            gather(view.slice::<bf16>(), out, strides, start, |from, to| from.convert_to_f32_slice(to))
        }
        (LanesMut::F64(out), DType::F64) => gather(view.slice::<f64>(), out, strides, start, copy_slice),
        (LanesMut::I64(out), DType::I64) => gather(view.slice::<i64>(), out, strides, start, copy_slice),
        (LanesMut::I64(out), DType::I32) => {
            gather(view.slice::<i32>(), out, strides, start, each!(i64::from))
        }
        (LanesMut::I64(out), DType::I16) => {
            gather(view.slice::<i16>(), out, strides, start, each!(i64::from))
        }
        (LanesMut::I64(out), DType::I8) => gather(view.slice::<i8>(), out, strides, start, each!(i64::from)),
        (LanesMut::I64(out), DType::U32) => {
            gather(view.slice::<u32>(), out, strides, start, each!(i64::from))
        }
        (LanesMut::I64(out), DType::U16) => {
            gather(view.slice::<u16>(), out, strides, start, each!(i64::from))
        }
        (LanesMut::I64(out), DType::U8) => gather(view.slice::<u8>(), out, strides, start, each!(i64::from)),
        (LanesMut::U64(out), DType::U64) => gather(view.slice::<u64>(), out, strides, start, copy_slice),
        (LanesMut::Bool(out), DType::Bool) => {
            gather(view.bytes, out, strides, start, each!(|byte: u8| byte != 0))
        }
        _ => return Err(OpError::Internal("a tile of the wrong kind")),
    }
    .ok_or(OpError::Internal("an operand is smaller than its dimensions say"))
}

/// Fills `out` from `data`, run by run of the innermost dimension. `None` when an element is not there.
fn gather<T: Copy, U: Copy>(
    data: &[T],
    out: &mut [U],
    strides: &Strides,
    start: usize,
    convert: impl Fn(&[T], &mut [U]),
) -> Option<()> {
    let (run, step) = match (strides.dims.first(), strides.strides.first()) {
        (Some(&run), Some(&step)) => (run, step),
        _ => (usize::MAX, 0),
    };
    let mut done = 0;
    while done < out.len() {
        let at = start + done;
        let base = strides.offset(at);
        let count = (run - at % run).min(out.len() - done);
        let part = &mut out[done..done + count];
        match step {
            1 => {
                convert(data.get(base..base + count)?, part);
                if let (true, Some(&0), Some(&times)) =
                    (count == run, strides.strides.get(1), strides.dims.get(1))
                {
                    // The next dimension repeats the run: copies of copies.
                    let all = ((times - at / run % times) * run).min(out.len() - done);
                    let mut have = run;
                    while have < all {
                        let more = have.min(all - have);
                        out.copy_within(done..done + more, done + have);
                        have += more;
                    }
                    done += all;
                    continue;
                }
            }
            0 => {
                let (first, rest) = part.split_at_mut(1);
                convert(data.get(base..=base)?, first);
                rest.fill(first[0]);
            }
            _ => {
                for (k, slot) in part.chunks_mut(1).enumerate() {
                    let at = base + k * step;
                    convert(data.get(at..=at)?, slot);
                }
            }
        }
        done += count;
    }
    Some(())
}

/// The same value in every lane.
pub(super) fn fill(mut out: LanesMut<'_>, dtype: DType, scalar: Scalar) {
    let float = match scalar {
        Scalar::Float(x) => x,
        Scalar::Int(x) => x as f64,
    };
    let int = match scalar {
        Scalar::Float(x) => x as i64,
        Scalar::Int(x) => x,
    };
    match &mut out {
        LanesMut::F32(lanes) => lanes.fill(float as f32),
        LanesMut::F64(lanes) => lanes.fill(float),
        LanesMut::I64(lanes) => lanes.fill(int),
        LanesMut::U64(lanes) => lanes.fill(int as u64),
        LanesMut::Bool(lanes) => lanes.fill(int != 0),
    }
    wrap(out, dtype);
}

/// Brings computed values back into the range and precision of their type.
pub(super) fn wrap(lanes: LanesMut<'_>, dtype: DType) {
    macro_rules! each {
        ($lanes:expr, $f:expr) => {
            $lanes.iter_mut().for_each(|x| *x = $f(*x))
        };
    }
    match (lanes, dtype) {
        (LanesMut::F32(lanes), DType::F16) => round_halves(lanes, [f16::ZERO; TILE]),
        (LanesMut::F32(lanes), DType::BF16) => round_halves(lanes, [bf16::ZERO; TILE]),
        (LanesMut::I64(lanes), DType::I8) => each!(lanes, |x| i64::from(x as i8)),
        (LanesMut::I64(lanes), DType::I16) => each!(lanes, |x| i64::from(x as i16)),
        (LanesMut::I64(lanes), DType::I32) => each!(lanes, |x| i64::from(x as i32)),
        (LanesMut::I64(lanes), DType::U8) => each!(lanes, |x| i64::from(x as u8)),
        (LanesMut::I64(lanes), DType::U16) => each!(lanes, |x| i64::from(x as u16)),
        (LanesMut::I64(lanes), DType::U32) => each!(lanes, |x| i64::from(x as u32)),
        _ => {}
    }
}

fn round_halves<H>(lanes: &mut [f32], mut halves: [H; TILE])
where
    [H]: HalfFloatSliceExt,
{
    for part in lanes.chunks_mut(TILE) {
        let halves = &mut halves[..part.len()];
        halves.convert_from_f32_slice(part);
        halves.convert_to_f32_slice(part);
    }
}

/// Stores a tile into the packed bytes of elements of type `dtype`.
pub(super) fn store(lanes: Lanes<'_>, dtype: DType, bytes: &mut [u8]) -> Result<(), OpError> {
    macro_rules! store {
        ($lanes:expr, $rust:ty, $convert:expr) => {{
            let out: &mut [$rust] = elements(bytes)?;
            for (slot, &x) in out.iter_mut().zip($lanes) {
                *slot = $convert(x);
            }
        }};
    }
    match (lanes, dtype) {
        (Lanes::F32(lanes), DType::F32) => copy_slice(lanes, elements(bytes)?),
        (Lanes::F32(lanes), DType::F16) => {
            let out: &mut [f16] = elements(bytes)?;
            let len = out.len().min(lanes.len());
            out[..len].convert_from_f32_slice(&lanes[..len]);
        }
        (Lanes::F32(lanes), DType::BF16) => {
            let out: &mut [bf16] = elements(bytes)?;
            let len = out.len().min(lanes.len());
            out[..len].convert_from_f32_slice(&lanes[..len]);
        }
        (Lanes::F64(lanes), DType::F64) => copy_slice(lanes, elements(bytes)?),
        (Lanes::I64(lanes), DType::I64) => copy_slice(lanes, elements(bytes)?),
        (Lanes::I64(lanes), DType::I32) => store!(lanes, i32, |x| x as i32),
        (Lanes::I64(lanes), DType::I16) => store!(lanes, i16, |x| x as i16),
        (Lanes::I64(lanes), DType::I8) => store!(lanes, i8, |x| x as i8),
        (Lanes::I64(lanes), DType::U32) => store!(lanes, u32, |x| x as u32),
        (Lanes::I64(lanes), DType::U16) => store!(lanes, u16, |x| x as u16),
        (Lanes::I64(lanes), DType::U8) => store!(lanes, u8, |x| x as u8),
        (Lanes::U64(lanes), DType::U64) => copy_slice(lanes, elements(bytes)?),
        (Lanes::Bool(lanes), DType::Bool) => store!(lanes, u8, u8::from),
        _ => return Err(OpError::Internal("a tile of the wrong kind")),
    }
    Ok(())
}

fn elements<T: bytemuck::Pod>(bytes: &mut [u8]) -> Result<&mut [T], OpError> {
    bytemuck::try_cast_slice_mut(bytes).map_err(|_| OpError::Internal("an output is not aligned"))
}
