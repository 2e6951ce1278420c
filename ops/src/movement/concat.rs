//! [`Concat`](https://onnx.ai/onnx/operators/onnx__Concat.html): tensors end to end along an axis.

use std::sync::Arc;

use rayon::prelude::*;
use sardonyx_shaders::storage::Width;
use sardonyx_shaders::table::{self, Variant};
use sardonyx_shaders::{Capabilities, Kernel, params};

use super::assemble::Assembly;
use super::sizes;
use crate::build::NodeSpec;
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, linear_grid, word};
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::layout::{Blocking, blockable, blocked_dims};
use crate::operator::{CpuKernel, CpuRun, Operator, Role};
use crate::problem::{Operand, Problem};

/// `Concat` along an axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Concat {
    /// The axis; negative counts from the back.
    pub axis: i64,
}

/// Builds [`Concat`].
///
/// # Errors
/// When there is no input or no axis.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(spec.inputs.len().max(1), usize::MAX, "1 or more")?;
    let axis = spec.attributes.int("axis")?.copied();
    Ok(Arc::new(Concat { axis: axis.ok_or(OpError::Attribute { name: "axis", expected: "an integer" })? }))
}

/// Inputs and output as matrices: rows of all dimensions before the axis, columns of the others.
struct Matrices {
    dims: Vec<usize>,
    rows: usize,
    /// Columns of each input.
    columns: Vec<usize>,
    /// Columns of the output.
    total: usize,
}

impl Concat {
    fn matrices(self, inputs: &[&[usize]]) -> Result<Matrices, OpError> {
        let first = *inputs.first().ok_or(OpError::Internal("Concat of nothing"))?;
        let axis = sizes::axis(self.axis, first.len())?;
        let mut dims = first.to_vec();
        dims[axis] = 0;
        let mut columns = Vec::new();
        for (index, &shape) in inputs.iter().enumerate() {
            let same = shape.len() == first.len()
                && shape.iter().zip(first).enumerate().all(|(at, (a, b))| at == axis || a == b);
            if !same {
                let got = format!("{shape:?} as input {index}");
                return Err(OpError::constraint("dimensions", format!("{first:?} except axis {axis}"), got));
            }
            dims[axis] = dims[axis].checked_add(shape[axis]).ok_or(OpError::Size)?;
            columns.push(shape[axis..].iter().product());
        }
        let rows = dims[..axis].iter().product();
        let total = crate::ir::tensor::element_count(&dims[axis..]).ok_or(OpError::Size)?;
        Ok(Matrices { dims, rows, columns, total })
    }
}

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "Concat"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let facts: Vec<&Fact> = inputs.iter().flatten().copied().collect();
        let dtype = sizes::required(inputs, 0)?.dtype;
        if let Some(input) = facts.iter().position(|fact| fact.dtype != dtype) {
            return Err(OpError::Type { input, expected: "the type of input 0", got: facts[input].dtype });
        }
        let ranked: Vec<&[Dim]> = facts.iter().filter_map(|fact| fact.shape.as_deref()).collect();
        let Some(&first) = ranked.first() else { return Ok(vec![Fact::unranked(dtype)]) };
        let axis = sizes::axis(self.axis, first.len())?;
        let mut shape = first.to_vec();
        let mut extent = Dim::Known(0);
        for dims in &ranked {
            if dims.len() != first.len() {
                return Err(OpError::constraint("rank", first.len(), dims.len()));
            }
            extent = extent.add(&dims[axis])?;
            for (at, (slot, dim)) in shape.iter_mut().zip(dims.iter()).enumerate() {
                match (slot.known(), dim.known()) {
                    (Some(a), Some(b)) if a != b && at != axis => {
                        return Err(OpError::constraint(
                            "dimensions",
                            format!("{first:?} except axis {axis}"),
                            format!("{dims:?}"),
                        ));
                    }
                    (None, Some(_)) => *slot = dim.clone(),
                    _ => {}
                }
            }
        }
        shape[axis] = if ranked.len() == facts.len() { extent } else { Dim::named("Concat.extent") };
        let contents: Option<Vec<Vec<Dim>>> = facts.iter().map(|fact| sizes::of(fact)).collect();
        Ok(vec![sizes::carry(dtype, shape, contents.map(|all| all.concat()))?])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let views: Vec<View<'_>> = inputs.iter().flatten().copied().collect();
        let shapes: Vec<&[usize]> = views.iter().map(|view| view.dims).collect();
        let all = self.matrices(&shapes)?;
        let dtype = sizes::view(inputs, 0)?.dtype;
        let mut result = Assembly::zeroed(dtype, &all.dims)?;
        let mut start = 0;
        for (view, &columns) in views.iter().zip(&all.columns) {
            for i in 0..view.len() {
                result.copy(i / columns * all.total + start + i % columns, view, i)?;
            }
            start += columns;
        }
        Ok(vec![result.finish()?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let bits = problem.input(0).map_or(0, |x| x.dtype.bits());
        Ok((bits >= 8).then(|| Box::new(ConcatKernel { op: *self }) as Box<dyn CpuKernel>))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.candidate(problem, caps))
    }

    fn role(&self) -> Role {
        Role::Anchor
    }

    fn blocked(&self, problem: &Problem<'_>, block: usize, blocked: &[bool]) -> Option<Blocking> {
        let fits = |input: &Option<Operand<'_>>| {
            let x = input.as_ref().filter(|x| blockable(x.dtype));
            x.is_some_and(|x| blocked_dims(x.dims, block).is_some())
        };
        let channels = sizes::axis(self.axis, 4).ok()? == 1;
        let gains = channels && problem.inputs.iter().all(fits) && blocked.contains(&true);
        gains.then(|| Blocking::of_all(Arc::new(Concat { axis: 1 }), problem.inputs.len()))
    }
}

struct ConcatKernel {
    op: Concat,
}

impl CpuKernel for ConcatKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let views: Vec<View<'_>> = run.inputs.iter().flatten().copied().collect();
        let shapes: Vec<&[usize]> = views.iter().map(|view| view.dims).collect();
        let all = self.op.matrices(&shapes)?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("no output"))?;
        let size = output.dtype.bits() / 8;
        let row_bytes = all.total * size;
        if output.bytes.len() != all.rows * row_bytes {
            return Err(OpError::Internal("an output of another size"));
        }
        if output.bytes.is_empty() {
            return Ok(());
        }
        let fill = |(row, y): (usize, &mut [u8])| {
            let mut rest = y;
            for (view, &columns) in views.iter().zip(&all.columns) {
                let bytes = columns * size;
                let (part, after) = rest.split_at_mut(bytes);
                part.copy_from_slice(&view.bytes[row * bytes..(row + 1) * bytes]);
                rest = after;
            }
        };
        const PARALLEL: usize = 1 << 18;
        if output.bytes.len() < PARALLEL {
            output.bytes.chunks_mut(row_bytes).enumerate().for_each(fill);
        } else {
            output
                .bytes
                .par_chunks_mut(row_bytes)
                .enumerate()
                .with_min_len(1 + PARALLEL / 4 / row_bytes)
                .for_each(fill);
        }
        Ok(())
    }
}

impl Concat {
    fn candidate(self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let kernel = table::CONCAT2.name;
        let refuse = |reason: String| Refusal { kernel, reason };
        let shapes: Vec<&[usize]> = problem.inputs.iter().flatten().map(|x| x.dims).collect();
        let all = self.matrices(&shapes).map_err(|error| refuse(error.to_string()))?;
        let stored = |input: usize| problem.stored(kernel, problem.input(input));
        let value = stored(0)?.value();
        // Empty inputs have no buffers worth binding.
        let parts: Vec<(usize, usize)> =
            all.columns.iter().copied().enumerate().filter(|(_, columns)| *columns > 0).collect();
        if all.total.saturating_mul(all.rows) > i32::MAX as usize {
            return Err(refuse("more than 2^31 elements".to_owned()));
        }
        let operands = problem.epilogue.map_or(0, |epilogue| epilogue.operands.len());
        let four = operands + table::CONCAT4.inputs.len() < caps.storage_buffers as usize;
        let (most, large): (usize, &'static Variant) =
            if four { (4, &table::CONCAT4) } else { (2, &table::CONCAT2) };
        let single = parts.len() <= most;
        let aligned = all.columns.iter().all(|columns| columns % 4 == 0);
        let width = if single || aligned { Width::Four } else { Width::One };
        let mut candidate = Candidate::default();
        let mut offset = 0;
        for group in parts.chunks(most) {
            let ending = problem.ending(kernel, value, width)?;
            let variant = if group.len() <= 2 { &table::CONCAT2 } else { large };
            let total: usize = group.iter().map(|(_, columns)| columns).sum();
            // One group covers the output: its elements are numbered through. Several write beside each other, row by
            // row.
            let span = if single { all.rows * total } else { total };
            let rows = if single { 1 } else { all.rows };
            let mut ends = [total; 4];
            let mut counts = [0; 4];
            let mut end = 0;
            for (index, (_, columns)) in group.iter().enumerate() {
                end += columns;
                ends[index] = end;
                counts[index] = *columns;
            }
            let words = |from: [usize; 4]| -> Result<[u32; 4], Refusal> {
                let mut to = [0; 4];
                for (slot, from) in to.iter_mut().zip(from) {
                    *slot = word(kernel, from)?;
                }
                Ok(to)
            };
            let params = params::movement::Concat {
                rows: word(kernel, rows)?,
                span: word(kernel, span)?,
                columns: word(kernel, total)?,
                stride: word(kernel, all.total)?,
                offset: word(kernel, offset)?,
                pad0: 0,
                pad1: 0,
                pad2: 0,
                ends: words(ends)?,
                counts: words(counts)?,
            };
            let input = |slot: usize| group.get(slot).or(group.first()).map_or(0, |(index, _)| *index);
            let slots = 0..variant.inputs.len();
            let groups = u32::from(aligned);
            let read_width = if aligned { Width::Four } else { Width::One };
            let read = |slot| Ok::<_, Refusal>((stored(input(slot))?, read_width));
            let inputs = slots.clone().map(read).collect::<Result<_, _>>()?;
            let reads = slots.map(|slot| Binding::Input(input(slot))).chain(ending.reads).collect();
            candidate.dispatches.push(Dispatch {
                kernel: Kernel {
                    variant,
                    inputs,
                    knobs: vec![("FOUR", groups)],
                    expression: ending.expression,
                },
                reads,
                writes: vec![Binding::Output(0)],
                params: bytemuck::bytes_of(&params).to_vec(),
                operands: ending.operands,
                grid: linear_grid(kernel, (rows * span.div_ceil(4)).div_ceil(64), caps)?,
            });
            offset += total;
        }
        Ok(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn columns_stand_beside_each_other() {
        let a = Tensor::from_slice(&[2, 1], &[1i64, 2]).unwrap();
        let b = Tensor::from_slice(&[2, 2], &[3i64, 4, 5, 6]).unwrap();
        let y = Concat { axis: -1 }.reference(&[Some(a.view()), Some(b.view())], 1).unwrap();
        assert_eq!((y[0].dims(), y[0].to_vec::<i64>().unwrap()), (&[2, 3][..], vec![1, 3, 4, 2, 5, 6]));
        assert!(Concat { axis: 0 }.reference(&[Some(a.view()), Some(b.view())], 1).is_err());
        assert!(Concat { axis: 2 }.reference(&[Some(a.view())], 1).is_err());
        let text = Tensor::from_strings(&[1], vec!["a".into()]).unwrap();
        let y = Concat { axis: 0 }.reference(&[Some(text.view()), Some(text.view())], 1).unwrap();
        assert_eq!(y[0].strings().unwrap(), ["a", "a"]);
    }

    #[test]
    fn shape_vectors_join_and_keep_minus_one() {
        let n = Dim::named("n");
        let sizes = Some(vec![n.clone()]);
        let a = Fact { dtype: DType::I64, shape: Some(vec![Dim::Known(1)]), value: None, sizes };
        let b = Fact::constant(Tensor::from_slice(&[2], &[-1i64, 64]).unwrap());
        let y = Concat { axis: 0 }.infer(&[Some(&a), Some(&b)], 1).unwrap();
        assert_eq!(y[0].sizes.as_ref().unwrap(), &[n, sizes::inferred(), Dim::Known(64)]);
    }

    #[test]
    fn named_extents_add_up() {
        let fact = |name: &str| Fact::new(DType::F32, vec![Dim::Known(2), Dim::named(name)]);
        let y = Concat { axis: 1 }.infer(&[Some(&fact("a")), Some(&fact("b"))], 1).unwrap();
        assert_eq!(y[0].shape.as_ref().unwrap()[1].to_string(), "a+b");
    }
}
