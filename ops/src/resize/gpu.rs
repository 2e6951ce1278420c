//! Resizing on a GPU: two axes to a launch, with indices and weights from tables made on the host.

use sardonyx_shaders::expression::Expression;
use sardonyx_shaders::storage::{Storage, ValueType, Width};
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::resize::Resize;
use super::table::{Mode, Table};
use crate::dispatch::{Binding, Candidate, Dispatch, Ending, Refusal, Scratch, linear_grid, word};
use crate::problem::Problem;
use crate::repacked::Repacked;

/// An axis that stays as it is.
fn unit() -> Table {
    Table { taps: 1, index: vec![0], weight: vec![1.0] }
}

/// The launches for a problem whose scales and sizes are constant.
///
/// # Errors
/// When they are not, or the type is not one that is interpolated on GPUs.
pub(super) fn candidate(
    op: &Resize,
    problem: &Problem<'_>,
    caps: &Capabilities,
) -> Result<Candidate, Refusal> {
    let nearest = matches!(op.method.mode, Mode::Nearest(_));
    let variant = if nearest { &table::RESIZE_NEAREST } else { &table::RESIZE };
    let kernel = variant.name;
    let refuse = |reason: String| Refusal { kernel, reason };
    let (dims, tables) = op.tables_of_problem(problem).map_err(|error| refuse(error.to_string()))?;
    let storage = problem.stored(kernel, problem.input(0))?;
    let x = problem.input(0).ok_or_else(|| refuse("an input is missing".to_owned()))?;
    if storage.value() != ValueType::F32 {
        if !nearest {
            return Err(refuse(format!("it interpolates floats, not {}", x.dtype)));
        }
        if tables.iter().any(|(_, table)| table.index.contains(&-1)) {
            return Err(refuse("it extrapolates floats only".to_owned()));
        }
    }
    let len: usize = dims.iter().product();
    if len.max(x.len()) > i32::MAX as usize {
        return Err(refuse("more than 2^31 elements".to_owned()));
    }
    let mut candidate = Candidate::default();
    let mut shape = x.dims.to_vec();
    let mut read = (Binding::Input(0), storage);
    let nothing = [(0, unit())];
    let tables = if tables.is_empty() && !shape.is_empty() { &nothing[..] } else { &tables[..] };
    if tables == &nothing[..] {
        // A copy: as a scale of one along an axis of one element that stands before all others.
        shape.insert(0, 1);
    }
    let groups: Vec<&[(usize, Table)]> = tables.chunks(2).collect();
    if groups.is_empty() {
        return Err(refuse("no axis to resize".to_owned()));
    }
    for (launch, group) in groups.iter().enumerate() {
        let [a, b] = match group {
            [a, b] => [(a.0, a.1.clone()), (b.0, b.1.clone())],
            // One axis: the other is a unit right before it.
            [b] => [(b.0, unit()), (b.0, b.1.clone())],
            _ => return Err(refuse("no axis to resize".to_owned())),
        };
        let single = group.len() == 1;
        let count = |table: &Table| table.index.len() / table.taps;
        let inner: usize = shape[b.0 + 1..].iter().product();
        let between: usize = if single { 1 } else { shape[a.0 + 1..b.0].iter().product() };
        let (input_a, input_b) = (if single { 1 } else { shape[a.0] }, shape[b.0]);
        if !single {
            shape[a.0] = count(&a.1);
        }
        shape[b.0] = count(&b.1);
        let launched: usize = shape.iter().product();
        let index: Vec<i32> = a.1.index.iter().chain(&b.1.index).copied().collect();
        let weight: Vec<f32> = a.1.weight.iter().chain(&b.1.weight).map(|&weight| weight as f32).collect();
        let packed = candidate.packed.len();
        let made = |error: crate::OpError| refuse(error.to_string());
        candidate.packed.push((Repacked::made(index).map_err(made)?, Storage::I32));
        let mut reads = vec![read.0, Binding::Packed(packed)];
        if !nearest {
            candidate.packed.push((Repacked::made(weight).map_err(made)?, Storage::F32));
            reads.push(Binding::Packed(packed + 1));
        }
        let last = launch + 1 == groups.len();
        let between_storage = if storage == Storage::F16 { Storage::F32 } else { storage };
        let (ending, write, next) = if last {
            (problem.ending(kernel, storage.value(), Width::Four)?, Binding::Output(0), storage)
        } else {
            candidate.scratch.push(Scratch { storage: between_storage, len: launched });
            let expression = Expression::store(storage.value(), between_storage, Width::Four);
            let ending = Ending { expression, reads: Vec::new(), operands: Vec::new() };
            (ending, Binding::Scratch(candidate.scratch.len() - 1), between_storage)
        };
        let aligned = inner.is_multiple_of(4);
        let params = params::resize::Resize {
            len: word(kernel, launched)?,
            inner: word(kernel, inner)?,
            between: word(kernel, between)?,
            extrapolation: op.extrapolation,
            input_a: word(kernel, input_a)?,
            input_b: word(kernel, input_b)?,
            output_a: word(kernel, count(&a.1))?,
            output_b: word(kernel, count(&b.1))?,
            taps_a: word(kernel, a.1.taps)?,
            taps_b: word(kernel, b.1.taps)?,
            table_b: word(kernel, a.1.index.len())?,
            pad: 0,
        };
        let x_width = if aligned { Width::Four } else { Width::One };
        let mut inputs = vec![(read.1, x_width), (Storage::I32, Width::One)];
        if !nearest {
            inputs.push((Storage::F32, Width::One));
        }
        candidate.dispatches.push(Dispatch {
            kernel: Kernel {
                variant,
                inputs,
                knobs: vec![("FOUR", u32::from(aligned))],
                expression: ending.expression,
            },
            reads: reads.into_iter().chain(ending.reads).collect(),
            writes: vec![write],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: ending.operands,
            grid: linear_grid(kernel, launched.div_ceil(4 * 64), caps)?,
        });
        read = (write, next);
    }
    Ok(candidate)
}
