//! [`Slice`](https://onnx.ai/onnx/operators/onnx__Slice.html): every `step`-th element from `start` up to `end`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::assemble::row_major;
use super::sizes::{self, Integers, required, view};
use super::strided::{CopyKernel, Strided};
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{CpuKernel, Operator, Role};
use crate::problem::Problem;

/// `Slice` along some axes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slice {
    /// Starts, ends and axes of nodes before opset 10; from there on they are inputs 1 to 3, and steps input 4.
    pub attributes: Option<Bounds>,
}

/// What to take along which axes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// First element of each axis.
    pub starts: Vec<i64>,
    /// Element after the last.
    pub ends: Vec<i64>,
    /// The axes; the first ones when absent.
    pub axes: Option<Vec<i64>>,
    /// Steps; 1 when absent.
    pub steps: Option<Vec<i64>>,
}

/// One axis, worked out: `count` elements from `start` on, `step` apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    start: usize,
    count: usize,
    step: i64,
}

/// Builds [`Slice`].
///
/// # Errors
/// When starts or ends are missing.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    if spec.opset >= 10 {
        spec.expect_inputs(3, 5, "3 to 5")?;
        return Ok(Arc::new(Slice { attributes: None }));
    }
    spec.expect_inputs(1, 1, "1")?;
    let given = |name| spec.attributes.ints(name)?.ok_or(OpError::Attribute { name, expected: "given" });
    Ok(Arc::new(Slice {
        attributes: Some(Bounds {
            starts: given("starts")?.to_vec(),
            ends: given("ends")?.to_vec(),
            axes: spec.attributes.ints("axes")?.map(<[i64]>::to_vec),
            steps: None,
        }),
    }))
}

/// The elements from `start` up to `end` of an axis of `size`, as ONNX clamps them.
fn run(size: usize, start: i64, end: i64, step: i64) -> Result<Run, OpError> {
    let size = i64::try_from(size).map_err(|_| OpError::Size)?;
    let wrap = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
    let (low, high) = if step < 0 { (-1, size - 1) } else { (0, size) };
    let (start, end) = (wrap(start).clamp(low.max(0).min(high), high), wrap(end).clamp(low, high));
    let count = match step {
        0 => return Err(OpError::constraint("steps", "not 0", 0)),
        step if step > 0 => end.saturating_sub(start).max(0).saturating_add(step - 1) / step,
        step => {
            start.saturating_sub(end).max(0).saturating_sub(step.saturating_add(1)) / step.saturating_neg()
        }
    };
    let unsigned = |n: i64| usize::try_from(n.max(0)).map_err(|_| OpError::Size);
    Ok(Run { start: unsigned(start)?, count: unsigned(count)?, step })
}

impl Bounds {
    /// Axes counted from the front, and the steps, one for each start.
    fn axes_and_steps(&self, rank: usize) -> Result<(Vec<usize>, Vec<i64>), OpError> {
        let count = self.starts.len();
        let axes = match &self.axes {
            Some(axes) => sizes::axes(axes, rank)?,
            None if count <= rank => (0..count).collect(),
            None => return Err(OpError::constraint("starts", format!("{rank} at most"), count)),
        };
        let steps = self.steps.clone().unwrap_or_else(|| vec![1; count]);
        if self.ends.len() != count || axes.len() != count || steps.len() != count {
            return Err(OpError::constraint(
                "ends, axes and steps",
                format!("{count} of each"),
                self.ends.len(),
            ));
        }
        Ok((axes, steps))
    }

    /// Each axis of an input of these dimensions.
    fn runs(&self, dims: &[usize]) -> Result<Vec<Run>, OpError> {
        let (axes, steps) = self.axes_and_steps(dims.len())?;
        let mut all: Vec<Run> = dims.iter().map(|&count| Run { start: 0, count, step: 1 }).collect();
        for (index, (&axis, &step)) in axes.iter().zip(&steps).enumerate() {
            all[axis] = run(dims[axis], self.starts[index], self.ends[index], step)?;
        }
        Ok(all)
    }
}

impl Slice {
    fn bounds(&self, integers: &Integers<'_>) -> Result<Bounds, OpError> {
        if let Some(attributes) = &self.attributes {
            return Ok(attributes.clone());
        }
        let missing = OpError::Arity { what: "inputs", expected: "3 to 5", got: 1 };
        Ok(Bounds {
            starts: integers(1)?.ok_or_else(|| missing.clone())?,
            ends: integers(2)?.ok_or(missing)?,
            axes: integers(3)?,
            steps: integers(4)?,
        })
    }

    /// The output's dimensions, and the copy that makes it.
    fn map(&self, dims: &[usize], integers: &Integers<'_>) -> Result<(Vec<usize>, Strided), OpError> {
        let (runs, strides) = (self.bounds(integers)?.runs(dims)?, row_major(dims));
        let shape: Vec<usize> = runs.iter().map(|run| run.count).collect();
        let mut steps = Vec::new();
        for (run, &stride) in runs.iter().zip(&strides) {
            // A step beyond the extent takes one element: how far it goes does not matter.
            let step = if run.count > 1 { run.step } else { 0 };
            let step = isize::try_from(step).ok().and_then(|step| step.checked_mul(stride as isize));
            steps.push(step.ok_or(OpError::Size)?);
        }
        let offset = runs.iter().zip(&strides).map(|(run, stride)| run.start * stride).sum();
        let map = Strided::new(&shape, &steps, offset, dims.iter().product())?;
        Ok((shape, map))
    }
}

/// The extent of a slice of a named dimension, if it can be said.
fn named(dim: &Dim, start: i64, end: &End, step: i64) -> Option<Dim> {
    let end = match end {
        End::Size(size) => {
            return if start == 0 && step == 1 { Some(size.clone()) } else { None };
        }
        End::Number(end) => *end,
    };
    let far = i64::from(i32::MAX);
    if step < 0 {
        let all = start >= far - 1 || start == -1;
        return (all && end <= -far).then(|| dim.div_ceil(usize::try_from(-step).ok()?).ok()).flatten();
    }
    let length = match (start, end) {
        (0.., end) if end >= far => dim.offset(-start).ok()?,
        (0.., ..0) => dim.offset(end.checked_sub(start)?).ok()?,
        // Counted from the end, there are as many elements as asked for only if the dimension is long enough.
        _ => return None,
    };
    length.div_ceil(usize::try_from(step).ok()?).ok()
}

/// A name for an extent that cannot be said: the same for the same slice of the same dimension, and for nothing else.
fn unnamed(dim: &Dim, start: i64, end: &End, step: i64) -> Dim {
    let mut hasher = DefaultHasher::new();
    (dim, start, end, step).hash(&mut hasher);
    Dim::named(&format!("Slice.{:016x}", hasher.finish()))
}

/// An end as inference knows it.
#[derive(Hash)]
enum End {
    Number(i64),
    Size(Dim),
}

impl Operator for Slice {
    fn name(&self) -> &'static str {
        "Slice"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        let Some(dims) = &x.shape else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let mut symbolic_ends = None;
        let known = |index: usize| match sizes::optional(inputs, index) {
            None => Ok(None),
            Some(fact) => match fact.integers() {
                Some(all) => Ok(Some(all)),
                None => Err(OpError::Internal("not constant")),
            },
        };
        let bounds = match self.bounds(&known) {
            Ok(bounds) => bounds,
            Err(OpError::Internal(_)) => {
                // Ends alone may be known by name.
                let ends = sizes::optional(inputs, 2).and_then(|fact| fact.sizes.clone());
                let (Some(starts), Some(ends)) = (sizes::optional(inputs, 1).and_then(Fact::integers), ends)
                else {
                    return Ok(vec![self.unknown(x, dims, inputs)]);
                };
                let (Ok(axes), Ok(steps)) = (known(3), known(4)) else {
                    return Ok(vec![self.unknown(x, dims, inputs)]);
                };
                let numbers = vec![i64::MAX; ends.len()];
                symbolic_ends = Some(ends);
                Bounds { starts, ends: numbers, axes, steps }
            }
            Err(error) => return Err(error),
        };
        let (axes, steps) = bounds.axes_and_steps(dims.len())?;
        let mut shape = dims.clone();
        for (index, (&axis, &step)) in axes.iter().zip(&steps).enumerate() {
            let end = match symbolic_ends.as_ref().and_then(|ends| ends.get(index)) {
                Some(size) => match size.known() {
                    Some(n) => End::Number(i64::try_from(n).unwrap_or(i64::MAX)),
                    None => End::Size(size.clone()),
                },
                None => End::Number(bounds.ends[index]),
            };
            shape[axis] = match (dims[axis].known(), &end) {
                (Some(size), End::Number(end)) => {
                    Dim::Known(run(size, bounds.starts[index], *end, step)?.count)
                }
                _ => named(&dims[axis], bounds.starts[index], &end, step)
                    .unwrap_or_else(|| unnamed(&dims[axis], bounds.starts[index], &end, step)),
            };
        }
        let contents = match (sizes::of(x), dims.as_slice(), axes.as_slice()) {
            (Some(sizes), [_], [0]) if symbolic_ends.is_none() => {
                let run = run(sizes.len(), bounds.starts[0], bounds.ends[0], steps[0])?;
                let at = |k: usize| run.start as i64 + k as i64 * run.step;
                (0..run.count).map(|k| sizes.get(usize::try_from(at(k)).ok()?).cloned()).collect()
            }
            (contents, _, []) => contents,
            _ => None,
        };
        Ok(vec![sizes::carry(x.dtype, shape, contents)?])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let (dims, map) = self.map(x.dims, &*sizes::of_run(inputs))?;
        Ok(vec![map.reference(&x, &dims)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let op = self.clone();
        Ok(CopyKernel::prepare(problem, move |inputs| {
            Ok(vec![op.map(view(inputs, 0)?.dims, &*sizes::of_run(inputs))?.1])
        }))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        match problem.input(0).map(|x| self.map(x.dims, &*sizes::of_problem(problem))) {
            Some(Ok((_, map))) => map.lower(problem, caps),
            Some(Err(error)) => Lowering::refused("Slice", error.to_string()),
            None => Lowering::refused("Slice", "an input is missing"),
        }
    }

    fn moves(&self, problem: &Problem<'_>, _output: usize) -> Option<Strided> {
        let map = self.map(problem.input(0)?.dims, &*sizes::of_problem(problem));
        map.ok().map(|(_, map)| map)
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

impl Slice {
    /// The output when bounds are not known: the same rank, other extents along the axes that are.
    fn unknown(&self, x: &Fact, dims: &[Dim], inputs: &[Option<&Fact>]) -> Fact {
        let axes = match sizes::optional(inputs, 3) {
            Some(fact) => fact.integers().and_then(|axes| sizes::axes(&axes, dims.len()).ok()),
            None => match sizes::optional(inputs, 1).and_then(Fact::dims).as_deref() {
                Some(&[count]) => Some((0..count).collect()),
                _ => None,
            },
        };
        let touched = |axis: usize| axes.as_ref().is_none_or(|axes| axes.contains(&axis));
        let shape = dims.iter().enumerate().map(|(axis, dim)| {
            if touched(axis) { Dim::named(&format!("Slice.{axis}")) } else { dim.clone() }
        });
        Fact::new(x.dtype, shape.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn ends_clamp_as_onnx_says() {
        let at = |size, start, end, step| run(size, start, end, step).unwrap();
        assert_eq!(at(10, 0, i64::MAX, 1), Run { start: 0, count: 10, step: 1 });
        assert_eq!(at(10, -3, i64::MAX, 2), Run { start: 7, count: 2, step: 2 });
        assert_eq!(at(10, 20, 0, -1), Run { start: 9, count: 9, step: -1 });
        assert_eq!(at(10, -1, i64::MIN, -1), Run { start: 9, count: 10, step: -1 });
        assert_eq!(at(10, -1, i64::MIN + 1, -4), Run { start: 9, count: 3, step: -4 });
        assert_eq!(at(10, 5, 2, 1).count, 0);
        assert_eq!(at(10, 12, 20, 1).count, 0);
        assert_eq!(at(10, 2, 5, -1).count, 0);
        assert_eq!(at(0, 0, 5, 1).count, 0);
        assert_eq!(at(0, 0, -5, -1).count, 0);
        assert_eq!(at(10, 3, 9, i64::MAX).count, 1);
        assert_eq!(at(10, 3, 0, i64::MIN).count, 1);
        assert!(run(10, 0, 5, 0).is_err());
    }

    #[test]
    fn rows_and_columns() {
        let data: Vec<i32> = (0..20).collect();
        let x = Tensor::from_slice(&[4, 5], &data).unwrap();
        let ints = |all: &[i64]| Tensor::from_slice(&[all.len()], all).unwrap();
        let (starts, ends) = (ints(&[-1, 1]), ints(&[-5, 100]));
        let (axes, steps) = (ints(&[0, -1]), ints(&[-2, 2]));
        let inputs: Vec<_> = [&x, &starts, &ends, &axes, &steps].map(|t| Some(t.view())).into();
        let y = Slice { attributes: None }.reference(&inputs, 1).unwrap();
        assert_eq!(y[0].dims(), [2, 2]);
        assert_eq!(y[0].to_vec::<i32>().unwrap(), [16, 18, 6, 8]);
    }

    #[test]
    fn shape_vectors_are_sliced_by_name() {
        let n = Dim::named("n");
        let sizes = vec![n.clone(), Dim::Known(3), Dim::Known(8), Dim::Known(9)];
        let x = Fact { dtype: DType::I64, shape: Some(vec![Dim::Known(4)]), value: None, sizes: Some(sizes) };
        let of = |starts: i64, ends: i64| {
            let bounds = Bounds { starts: vec![starts], ends: vec![ends], axes: None, steps: None };
            Slice { attributes: Some(bounds) }.infer(&[Some(&x)], 1).unwrap().remove(0)
        };
        assert_eq!(of(0, 2).sizes.unwrap(), [n, Dim::Known(3)]);
        assert_eq!(of(-2, i64::MAX).integers().unwrap(), [8, 9]);
    }

    #[test]
    fn named_extents_shrink() {
        let x = Fact::new(DType::F32, vec![Dim::named("n"), Dim::named("h")]);
        let bounds =
            Bounds { starts: vec![1, 0], ends: vec![i64::MAX, -2], axes: None, steps: Some(vec![2, 1]) };
        let y = Slice { attributes: Some(bounds) }.infer(&[Some(&x)], 1).unwrap();
        let shape: Vec<String> = y[0].shape.as_ref().unwrap().iter().map(Dim::to_string).collect();
        assert_eq!(shape, ["floor((n)/2)", "h-2"]);
        // Of one element there are no last three.
        let bounds = Bounds { starts: vec![-3], ends: vec![i64::MAX], axes: None, steps: None };
        let y = Slice { attributes: Some(bounds) }.infer(&[Some(&x)], 1).unwrap();
        assert_eq!(y[0].shape.as_ref().unwrap()[0].known(), None);
    }
}
