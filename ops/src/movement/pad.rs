//! [`Pad`](https://onnx.ai/onnx/operators/onnx__Pad.html): elements added around a tensor, or taken away.

use std::sync::Arc;

use rayon::prelude::*;
use sardonyx_shaders::storage::Width;
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::assemble::{by_size, coordinates, elements, elements_mut, row_major, select};
use super::constant_of_shape::filled;
use super::sizes::{self, Integers, optional, required, view};
use crate::build::NodeSpec;
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, linear_grid, word};
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::operator::{CpuKernel, CpuRun, Operator, Role};
use crate::problem::Problem;
use crate::repacked::Repacked;

/// `Pad`.
#[derive(Clone, PartialEq, Debug)]
pub struct Pad {
    /// What the added elements are.
    pub mode: Mode,
    /// Pads and value of nodes before opset 11; from there on they are inputs 1 and 2, and axes input 3.
    pub attributes: Option<(Vec<i64>, f32)>,
}

/// What the elements around a tensor are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// One value.
    Constant,
    /// The tensor mirrored at its outermost elements.
    Reflect,
    /// Its outermost elements.
    Edge,
    /// The tensor again, as on a torus.
    Wrap,
}

/// Builds [`Pad`].
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let mode = match spec.attributes.str_or("mode", "constant".to_owned())?.as_str() {
        "constant" => Mode::Constant,
        "reflect" => Mode::Reflect,
        "edge" => Mode::Edge,
        "wrap" => Mode::Wrap,
        other => return Err(OpError::constraint("mode", "constant, reflect, edge or wrap", other)),
    };
    if spec.opset >= 11 {
        spec.expect_inputs(2, 4, "2 to 4")?;
        return Ok(Arc::new(Pad { mode, attributes: None }));
    }
    spec.expect_inputs(1, 1, "1")?;
    let pads = spec.attributes.ints("pads")?.ok_or(OpError::Attribute { name: "pads", expected: "given" })?;
    let value = spec.attributes.float_or("value", 0.0)?;
    Ok(Arc::new(Pad { mode, attributes: Some((pads.to_vec(), value)) }))
}

/// Elements of a dimension before and after; negative ones are taken away.
type Sides = Vec<(i64, i64)>;

impl Mode {
    /// The input element at coordinate `at` of an axis of `extent` elements; `None` outside a constant padding.
    fn source(self, at: i64, extent: i64) -> Option<i64> {
        if (0..extent).contains(&at) {
            return Some(at);
        }
        match self {
            Mode::Constant => None,
            Mode::Edge => Some(at.clamp(0, extent - 1)),
            Mode::Wrap => Some(at.rem_euclid(extent)),
            Mode::Reflect => {
                let period = (2 * (extent - 1)).max(1);
                let folded = at.rem_euclid(period);
                Some(folded.min(period - folded).min(extent - 1))
            }
        }
    }
}

impl Pad {
    /// The sides of each axis.
    fn sides(&self, rank: usize, integers: &Integers<'_>) -> Result<Sides, OpError> {
        let (pads, axes) = match &self.attributes {
            Some((pads, _)) => (pads.clone(), None),
            None => (integers(1)?.ok_or(OpError::Internal("no pads"))?, integers(3)?),
        };
        let axes = match axes {
            Some(axes) => sizes::axes(&axes, rank)?,
            None => (0..rank).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(OpError::constraint("pads", format!("{} numbers", 2 * axes.len()), pads.len()));
        }
        let mut sides = vec![(0, 0); rank];
        for (index, &axis) in axes.iter().enumerate() {
            sides[axis] = (pads[index], pads[axes.len() + index]);
        }
        Ok(sides)
    }

    /// The output's dimensions.
    fn dims(&self, dims: &[usize], sides: &Sides) -> Result<Vec<usize>, OpError> {
        let mut output = Vec::new();
        for (&dim, &(before, after)) in dims.iter().zip(sides) {
            let extent = i64::try_from(dim).ok().and_then(|n| n.checked_add(before)?.checked_add(after));
            let extent = extent.and_then(|n| usize::try_from(n).ok());
            let extent = extent.ok_or_else(|| {
                OpError::constraint("pads", "an extent of 0 or more", format!("{dim}{before:+}{after:+}"))
            })?;
            if dim == 0 && extent > 0 && self.mode != Mode::Constant {
                return Err(OpError::constraint("padded axis", "elements to repeat", 0));
            }
            output.push(extent);
        }
        element_count(&output).ok_or(OpError::Size)?;
        Ok(output)
    }

    /// One element: the value of a constant padding.
    fn value(&self, dtype: DType, given: Option<View<'_>>) -> Result<Tensor, OpError> {
        match (&self.attributes, given) {
            (Some((_, value)), _) => filled(dtype, &[1], f64::from(*value)),
            (None, Some(value)) if value.dtype == dtype && value.len() == 1 => {
                Ok(value.to_tensor().reshaped(&[1])?)
            }
            (None, Some(value)) => Err(OpError::constraint(
                "constant_value",
                format!("one {dtype}"),
                format!("{} {:?}", value.dtype, value.dims),
            )),
            (None, None) => super::assemble::Assembly::zeroed(dtype, &[1])?.finish(),
        }
    }
}

impl Pad {
    /// How many zeros go before and after each axis, when nothing else is done and the problem says so.
    pub fn zeros(&self, problem: &Problem<'_>) -> Option<Vec<(usize, usize)>> {
        let x = problem.input(0)?;
        let sides = self.sides(x.dims.len(), &*sizes::of_problem(problem)).ok()?;
        let given = match (&self.attributes, problem.input(2)) {
            (None, Some(value)) => Some(value.value?.clone().aligned()),
            _ => None,
        };
        let value = self.value(x.dtype, given.as_ref().map(Tensor::view)).ok()?;
        let zero = value.bytes().iter().all(|&byte| byte == 0);
        let whole =
            |(before, after): (i64, i64)| Some((usize::try_from(before).ok()?, usize::try_from(after).ok()?));
        sides
            .into_iter()
            .map(whole)
            .collect::<Option<Vec<_>>>()
            .filter(|_| zero && self.mode == Mode::Constant)
    }
}

impl Operator for Pad {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        let Some(dims) = &x.shape else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let unknown = OpError::Internal("not constant");
        let sides = self.sides(dims.len(), &|index| match optional(inputs, index) {
            None => Ok(None),
            Some(fact) => fact.integers().map(Some).ok_or_else(|| unknown.clone()),
        });
        let shape = match (sides, x.dims()) {
            (Ok(sides), Some(numbers)) => self.dims(&numbers, &sides)?.into_iter().map(Dim::Known).collect(),
            (Ok(sides), None) => {
                let pad = |(dim, &(before, after)): (&Dim, &(i64, i64))| {
                    Ok(dim.offset(before.checked_add(after).ok_or(OpError::Size)?)?)
                };
                dims.iter().zip(&sides).map(pad).collect::<Result<_, OpError>>()?
            }
            (Err(error), _) if error != unknown => return Err(error),
            _ => (0..dims.len()).map(|axis| Dim::named(&format!("Pad.{axis}"))).collect(),
        };
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let sides = self.sides(x.dims.len(), &*sizes::of_run(inputs))?;
        let (dims, strides) = (self.dims(x.dims, &sides)?, row_major(x.dims));
        let value = self.value(x.dtype, optional(inputs, 2))?;
        let y = select(&x, &dims, Some(&value.view()), |i| {
            let mut from = 0;
            for (axis, c) in coordinates(i, &dims).into_iter().enumerate() {
                let at = self.mode.source(c as i64 - sides[axis].0, x.dims[axis] as i64)?;
                from += usize::try_from(at).ok()? * strides[axis];
            }
            Some(from)
        })?;
        Ok(vec![y])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let bits = problem.input(0).map_or(0, |x| x.dtype.bits());
        Ok((bits >= 8).then(|| Box::new(PadKernel { op: self.clone() }) as Box<dyn CpuKernel>))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.candidate(problem, caps))
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

struct PadKernel {
    op: Pad,
}

impl CpuKernel for PadKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let x = view(run.inputs, 0)?;
        let sides = self.op.sides(x.dims.len(), &*sizes::of_run(run.inputs))?;
        let dims = self.op.dims(x.dims, &sides)?;
        let value = self.op.value(x.dtype, optional(run.inputs, 2))?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("no output"))?;
        if output.dims != dims.as_slice() {
            return Err(OpError::Internal("an output of another size"));
        }
        by_size!(x.dtype.bits() / 8, rows(self.op.mode, &x, &sides, &dims, &value, output.bytes))
    }
}

/// Pads row by row: the part of a row that lies in the input is one copy.
fn rows<const N: usize>(
    mode: Mode,
    x: &View<'_>,
    sides: &Sides,
    dims: &[usize],
    value: &Tensor,
    y: &mut [u8],
) -> Result<(), OpError> {
    let (data, y) = (elements::<N>(x.bytes), elements_mut::<N>(y));
    let &[fill] = elements::<N>(value.bytes()) else { return Err(OpError::Internal("one value")) };
    if y.is_empty() {
        return Ok(());
    }
    let (Some((&row, outer)), Some((&(before, _), outer_sides))) = (dims.split_last(), sides.split_last())
    else {
        y.copy_from_slice(data);
        return Ok(());
    };
    let (strides, extent) = (row_major(x.dims), x.dims.last().copied().unwrap_or(1));
    // Where in a row the input begins and ends, and from which of its elements on.
    let begin = usize::try_from(before.max(0)).map_err(|_| OpError::Size)?.min(row);
    let skipped = usize::try_from((-before).max(0)).map_err(|_| OpError::Size)?.min(extent);
    let end = (begin + extent - skipped).min(row);
    let pad = |(index, line): (usize, &mut [[u8; N]])| {
        let mut from = 0usize;
        for (axis, c) in coordinates(index, outer).into_iter().enumerate() {
            match mode.source(c as i64 - outer_sides[axis].0, x.dims[axis] as i64) {
                Some(at) => from += at as usize * strides[axis],
                None => return line.fill(fill),
            }
        }
        let source = &data[from..from + extent];
        line[begin..end].copy_from_slice(&source[skipped..skipped + end - begin]);
        for c in (0..begin).chain(end..row) {
            line[c] = match mode.source(c as i64 - before, extent as i64) {
                Some(at) => source[at as usize],
                None => fill,
            };
        }
    };
    const PARALLEL: usize = 1 << 16;
    if y.len() < PARALLEL {
        y.chunks_mut(row).enumerate().for_each(pad);
    } else {
        y.par_chunks_mut(row).enumerate().with_min_len(1 + PARALLEL / 4 / row).for_each(pad);
    }
    Ok(())
}

impl Pad {
    fn candidate(&self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let variant = &table::PAD;
        let kernel = variant.name;
        let refuse = |reason: String| Refusal { kernel, reason };
        let x = problem.input(0).ok_or_else(|| refuse("an input is missing".to_owned()))?;
        let storage = problem.stored(kernel, Some(x))?;
        let sides = self
            .sides(x.dims.len(), &*sizes::of_problem(problem))
            .map_err(|error| refuse(error.to_string()))?;
        let dims = self.dims(x.dims, &sides).map_err(|error| refuse(error.to_string()))?;
        let len: usize = dims.iter().product();
        if len.max(x.len()) > i32::MAX as usize || x.is_empty() {
            return Err(refuse("no elements, or more than 2^31".to_owned()));
        }
        let mut params = params::movement::Pad { len: word(kernel, len)?, ..Default::default() };
        let mut used = 0usize;
        let mut stride = 1usize;
        for axis in (0..x.dims.len()).rev() {
            let (before, after) = sides[axis];
            // Axes that keep all their elements join the one inside, if that does too.
            let whole = (before, after) == (0, 0);
            let inside = used
                .checked_sub(1)
                .filter(|&last| params.before[last] == 0 && params.dims[last] == params.extents[last]);
            match inside {
                Some(last) if whole => {
                    params.dims[last] = params.dims[last].saturating_mul(word(kernel, dims[axis])?);
                    params.extents[last] = params.dims[last];
                }
                _ => {
                    if used == params.dims.len() {
                        return Err(refuse("more than eight dimensions after merging".to_owned()));
                    }
                    params.dims[used] = word(kernel, dims[axis])?;
                    params.extents[used] = word(kernel, x.dims[axis])?;
                    params.strides[used] = word(kernel, stride)?;
                    params.before[used] =
                        i32::try_from(before).map_err(|_| refuse("pads beyond 2^31".to_owned()))?;
                    used += 1;
                }
            }
            stride *= x.dims[axis];
        }
        params.rank = word(kernel, used)?;
        let mut candidate = Candidate::default();
        let given = self.attributes.is_none().then(|| problem.input(2)).flatten();
        let value = match given {
            Some(_) => Binding::Input(2),
            None => {
                let value = self.value(x.dtype, None).map_err(|error| refuse(error.to_string()))?;
                candidate.packed.push((Repacked::Made(value), storage));
                Binding::Packed(0)
            }
        };
        let mode = match self.mode {
            Mode::Constant => 0,
            Mode::Reflect => 1,
            Mode::Edge => 2,
            Mode::Wrap => 3,
        };
        let ending = problem.ending(kernel, storage.value(), Width::Four)?;
        candidate.dispatches.push(Dispatch {
            kernel: Kernel {
                variant,
                inputs: vec![(storage, Width::One), (storage, Width::One)],
                knobs: vec![("MODE", mode)],
                expression: ending.expression,
            },
            reads: [Binding::Input(0), value].into_iter().chain(ending.reads).collect(),
            writes: vec![Binding::Output(0)],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: ending.operands,
            grid: linear_grid(kernel, len.div_ceil(4 * 64), caps)?,
        });
        Ok(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_on_a_row() {
        let x = Tensor::from_slice(&[3], &[1i32, 2, 3]).unwrap();
        let of = |mode, before, after| {
            let op = Pad { mode, attributes: Some((vec![before, after], 9.0)) };
            op.reference(&[Some(x.view())], 1).map(|all| all[0].to_vec::<i32>().unwrap())
        };
        assert_eq!(of(Mode::Constant, 2, 1).unwrap(), [9, 9, 1, 2, 3, 9]);
        assert_eq!(of(Mode::Reflect, 2, 2).unwrap(), [3, 2, 1, 2, 3, 2, 1]);
        assert_eq!(of(Mode::Reflect, 5, 0).unwrap(), [2, 1, 2, 3, 2, 1, 2, 3]);
        assert_eq!(of(Mode::Edge, 2, 1).unwrap(), [1, 1, 1, 2, 3, 3]);
        assert_eq!(of(Mode::Wrap, 2, 4).unwrap(), [2, 3, 1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(of(Mode::Constant, -1, 1).unwrap(), [2, 3, 9]);
        assert_eq!(of(Mode::Edge, -1, 1).unwrap(), [2, 3, 3]);
        assert!(of(Mode::Constant, -2, -2).is_err());
        assert!(of(Mode::Constant, i64::MAX, 1).is_err());
    }

    #[test]
    fn axes_and_values_from_inputs() {
        let x = Tensor::from_slice(&[1, 2], &[1i64, 2]).unwrap();
        let pads = Tensor::from_slice(&[2], &[1i64, 0]).unwrap();
        let (value, axes) = (Tensor::scalar(-7i64), Tensor::from_slice(&[1], &[-1i64]).unwrap());
        let inputs = [&x, &pads, &value, &axes].map(|tensor| Some(tensor.view()));
        let y = Pad { mode: Mode::Constant, attributes: None }.reference(&inputs, 1).unwrap();
        assert_eq!((y[0].dims(), y[0].to_vec::<i64>().unwrap()), (&[1, 3][..], vec![-7, 1, 2]));
        let wrong = Tensor::scalar(1f32);
        let inputs = [Some(x.view()), Some(pads.view()), Some(wrong.view()), Some(axes.view())];
        assert!(Pad { mode: Mode::Constant, attributes: None }.reference(&inputs, 1).is_err());
    }
}
