//! Scatters on the GPU: every element looks through the updates that may fall on it, so that equal problems give equal
//! results and any layout can be written.

use sardonyx_shaders::storage::{Storage, Width};
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::reduction::Reduction;
use crate::dispatch::{Binding, Candidate, Dispatch, Refusal, linear_grid, word};
use crate::ir::dtype::DType;
use crate::problem::Problem;

/// Pairs of an element and an update that are worth looking through.
const MOST_PAIRS: usize = 1 << 30;

/// Where updates fall.
pub(super) enum Layout<'a> {
    /// Each by one index along an axis of the data.
    Along(usize),
    /// Slices, each by a tuple of this many indices.
    Tuples {
        /// Indices of a tuple.
        depth: usize,
        /// Strides of the data.
        strides: &'a [usize],
    },
}

/// The kernel for a problem whose dimensions have been checked.
pub(super) fn candidate(
    reduction: Reduction,
    problem: &Problem<'_>,
    layout: &Layout<'_>,
    caps: &Capabilities,
) -> Result<Candidate, Refusal> {
    let variant = &table::SCATTER;
    let kernel = variant.name;
    let refuse = |reason: String| Refusal { kernel, reason };
    let (Some(x), Some(indices), Some(updates)) = (problem.input(0), problem.input(1), problem.input(2))
    else {
        return Err(refuse("an input is missing".to_owned()));
    };
    let from = problem.stored(kernel, Some(x))?;
    let (at, with) = (problem.stored(kernel, Some(indices))?, problem.stored(kernel, Some(updates))?);
    let number = match reduction {
        Reduction::None => 0,
        Reduction::Add => 1,
        Reduction::Mul => 2,
        Reduction::Max => 3,
        Reduction::Min => 4,
    };
    let narrow = !matches!(x.dtype, DType::F32 | DType::F16 | DType::BF16 | DType::I32 | DType::U32);
    let sum = from == Storage::I64 && reduction == Reduction::Add;
    if reduction != Reduction::None && narrow && !sum {
        return Err(refuse(format!("it does not combine {}", x.dtype)));
    }
    if x.len().max(updates.len()).max(indices.len()) > i32::MAX as usize {
        return Err(refuse("more than 2^31 elements".to_owned()));
    }
    let mut params =
        params::movement::Scatter { len: word(kernel, x.len())?, inner: 1, ..Default::default() };
    let tuples = match *layout {
        Layout::Along(axis) => {
            let rank = x.dims.len();
            if rank > params.dims.len() {
                return Err(refuse("more than eight dimensions".to_owned()));
            }
            let strides = super::assemble::row_major(indices.dims);
            params.rank = word(kernel, rank)?;
            params.depth = word(kernel, rank - 1 - axis)?;
            params.steps = word(kernel, indices.dims[axis])?;
            params.step = word(kernel, strides[axis])?;
            for (slot, own) in (0..rank).rev().enumerate() {
                params.dims[slot] = word(kernel, x.dims[own])?;
                params.bounds[slot] = word(kernel, indices.dims[own])?;
                params.strides[slot] = word(kernel, strides[own])?;
            }
            false
        }
        Layout::Tuples { depth, strides } => {
            if depth > params.dims.len() {
                return Err(refuse("tuples of more than eight indices".to_owned()));
            }
            let inner: usize = x.dims[depth..].iter().product();
            params.inner = word(kernel, inner.max(1))?;
            params.depth = word(kernel, depth)?;
            let outer: usize = indices.dims[..indices.dims.len() - 1].iter().product();
            params.steps = word(kernel, outer)?;
            params.step = params.inner;
            for (j, (&extent, &stride)) in x.dims.iter().zip(strides).take(depth).enumerate() {
                params.dims[j] = word(kernel, extent)?;
                params.strides[j] = word(kernel, stride / inner.max(1))?;
            }
            true
        }
    };
    let each = params.steps as usize * if tuples { params.depth.max(1) as usize } else { 1 };
    if x.len().saturating_mul(each) > MOST_PAIRS {
        return Err(refuse(format!("each of {} elements would look through {each} indices", x.len())));
    }
    if indices.is_empty() {
        return Err(refuse("there are no updates".to_owned()));
    }
    let ending = problem.ending(kernel, from.value(), Width::Four)?;
    let dispatch = Dispatch {
        kernel: Kernel {
            variant,
            inputs: vec![(from, Width::One), (at, Width::One), (with, Width::One)],
            knobs: vec![("ND", u32::from(tuples)), ("REDUCTION", number)],
            expression: ending.expression,
        },
        reads: [Binding::Input(0), Binding::Input(1), Binding::Input(2)]
            .into_iter()
            .chain(ending.reads)
            .collect(),
        writes: vec![Binding::Output(0)],
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: ending.operands,
        grid: linear_grid(kernel, x.len().div_ceil(4 * 64), caps)?,
    };
    Ok(Candidate { dispatches: vec![dispatch], ..Candidate::default() })
}
