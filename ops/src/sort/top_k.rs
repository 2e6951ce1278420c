//! [`TopK`](https://onnx.ai/onnx/operators/onnx__TopK.html): the largest or smallest elements of each line.

use std::cmp::Ordering;
use std::sync::Arc;

use rayon::prelude::*;
use sardonyx_shaders::Capabilities;

use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::{View, ViewMut};
use crate::movement::number::{Number, by_number};
use crate::movement::sizes::{self, required, view};
use crate::operator::{CpuKernel, CpuRun, Operator};
use crate::problem::Problem;

/// `TopK` along an axis. Of equal elements the first one is taken, and NaN counts as larger than any number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopK {
    /// The axis; negative counts from the back.
    pub axis: i64,
    /// Takes the largest elements, otherwise the smallest.
    pub largest: bool,
    /// In order of size, otherwise in the order they stand in.
    pub sorted: bool,
    /// How many: the attribute before opset 10, from there on input 1.
    pub k: Option<i64>,
}

/// Builds [`TopK`].
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let k = if spec.opset < 10 {
        spec.expect_inputs(1, 1, "1")?;
        let k = spec.attributes.int("k")?.copied();
        Some(k.ok_or(OpError::Attribute { name: "k", expected: "given" })?)
    } else {
        spec.expect_inputs(2, 2, "2")?;
        None
    };
    Ok(Arc::new(TopK {
        axis: spec.attributes.int_or("axis", -1)?,
        largest: spec.attributes.flag("largest", true)?,
        sorted: spec.attributes.flag("sorted", true)?,
        k,
    }))
}

/// A problem of known sizes: `outer × extent × inner` elements become `outer × k × inner`.
struct Lines {
    dims: Vec<usize>,
    extent: usize,
    inner: usize,
    k: usize,
}

impl TopK {
    fn lines(self, dims: &[usize], k: i64) -> Result<Lines, OpError> {
        let axis = sizes::axis(self.axis, dims.len())?;
        let extent = dims[axis];
        let k = usize::try_from(k)
            .ok()
            .filter(|&k| k <= extent)
            .ok_or_else(|| OpError::constraint("k", format!("0 to {extent}"), k))?;
        let mut output = dims.to_vec();
        output[axis] = k;
        Ok(Lines { dims: output, extent, inner: dims[axis + 1..].iter().product(), k })
    }

    fn count(self, inputs: &[Option<View<'_>>]) -> Result<i64, OpError> {
        match self.k {
            Some(k) => Ok(k),
            None => match sizes::integers(&view(inputs, 1)?, 1)?.as_slice() {
                &[k] => Ok(k),
                all => Err(OpError::constraint("k", "one number", all.len())),
            },
        }
    }

    /// Which of two elements of a line comes first.
    fn order<T: Number>(self, a: (T, usize), b: (T, usize)) -> Ordering {
        let (x, y) = (a.0, b.0);
        // Only NaN differs from itself.
        let by_value = x.partial_cmp(&y).unwrap_or_else(|| is_nan(x).cmp(&is_nan(y)));
        let by_value = if self.largest { by_value.reverse() } else { by_value };
        by_value.then(a.1.cmp(&b.1))
    }
}

fn is_nan<T: Number>(x: T) -> bool {
    x.partial_cmp(&x).is_none()
}

/// Fills values and positions, line by line.
fn take<T: Number>(
    op: TopK,
    lines: &Lines,
    x: &View<'_>,
    values: &mut ViewMut<'_>,
    positions: &mut ViewMut<'_>,
) -> Result<(), OpError> {
    let (x, values, positions) = (x.slice::<T>(), values.slice::<T>(), positions.slice::<i64>());
    let (block, from) = (lines.k * lines.inner, lines.extent * lines.inner);
    if block == 0 {
        return Ok(());
    }
    let outer = values.par_chunks_mut(block).zip(positions.par_chunks_mut(block)).zip(x.par_chunks(from));
    outer.for_each_init(Vec::new, |line: &mut Vec<(T, usize)>, ((values, positions), x)| {
        for c in 0..lines.inner {
            line.clear();
            line.extend((0..lines.extent).map(|i| (x[i * lines.inner + c], i)));
            if lines.k < lines.extent {
                line.select_nth_unstable_by(lines.k - 1, |&a, &b| op.order(a, b));
                line.truncate(lines.k);
            }
            if op.sorted {
                line.sort_unstable_by(|&a, &b| op.order(a, b));
            } else {
                line.sort_unstable_by_key(|&(_, position)| position);
            }
            for (rank, &(value, position)) in line.iter().enumerate() {
                values[rank * lines.inner + c] = value;
                positions[rank * lines.inner + c] = position as i64;
            }
        }
    });
    Ok(())
}

/// The oracle: a full stable sort of each line.
fn sorted<T: Number>(op: TopK, lines: &Lines, x: &View<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = x.slice::<T>();
    let len: usize = lines.dims.iter().product();
    let (mut values, mut positions) = (Vec::new(), vec![0i64; len]);
    values.try_reserve_exact(len).map_err(|_| OpError::Size)?;
    values.resize(len, T::from_f64(0.0));
    let outer = x.len().checked_div(lines.extent * lines.inner).unwrap_or(0);
    for line in 0..outer * lines.inner {
        let (o, c) = (line / lines.inner, line % lines.inner);
        let at = |i: usize| (o * lines.extent + i) * lines.inner + c;
        let mut all: Vec<(T, usize)> = (0..lines.extent).map(|i| (x[at(i)], i)).collect();
        all.sort_by(|&a, &b| op.order(a, b));
        all.truncate(lines.k);
        if !op.sorted {
            all.sort_by_key(|&(_, position)| position);
        }
        for (rank, (value, position)) in all.into_iter().enumerate() {
            let to = (o * lines.k + rank) * lines.inner + c;
            (values[to], positions[to]) = (value, position as i64);
        }
    }
    Ok(vec![Tensor::from_vec(&lines.dims, values)?, Tensor::from_vec(&lines.dims, positions)?])
}

impl Operator for TopK {
    fn name(&self) -> &'static str {
        "TopK"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        let Some(dims) = &x.shape else {
            return Ok(vec![Fact::unranked(x.dtype), Fact::unranked(DType::I64)]);
        };
        let axis = sizes::axis(self.axis, dims.len())?;
        let given = match self.k {
            Some(k) => Some(vec![Dim::Known(usize::try_from(k).map_err(|_| OpError::Size)?)]),
            None => sizes::of(required(inputs, 1)?),
        };
        let k = match given.as_deref() {
            Some([k]) => k.clone(),
            _ => Dim::named("TopK.k"),
        };
        if let (Some(k), Some(extent)) = (k.known(), dims[axis].known())
            && k > extent
        {
            return Err(OpError::constraint("k", format!("0 to {extent}"), k));
        }
        let mut shape = dims.clone();
        shape[axis] = k;
        Ok(vec![Fact::new(x.dtype, shape.clone()), Fact::new(DType::I64, shape)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let lines = self.lines(x.dims, self.count(inputs)?)?;
        by_number!(x.dtype, sorted(*self, &lines, &x))
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let both = problem.outputs.len() == 2;
        Ok(both.then(|| Box::new(TopKKernel { op: *self }) as Box<dyn CpuKernel>))
    }

    fn lower(&self, _problem: &Problem<'_>, _caps: &Capabilities) -> Lowering {
        Lowering::refused("TopK", "lines are sorted on the CPU")
    }
}

struct TopKKernel {
    op: TopK,
}

impl CpuKernel for TopKKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let x = view(run.inputs, 0)?;
        let lines = self.op.lines(x.dims, self.op.count(run.inputs)?)?;
        let [values, positions] = run.outputs else { return Err(OpError::Internal("two outputs")) };
        if values.dims != lines.dims || positions.dims != lines.dims {
            return Err(OpError::Internal("an output of another size"));
        }
        by_number!(x.dtype, take(self.op, &lines, &x, values, positions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(op: TopK, dims: &[usize], data: &[f32]) -> (Vec<f32>, Vec<i64>) {
        let x = Tensor::from_slice(dims, data).unwrap();
        let y = op.reference(&[Some(x.view())], 2).unwrap();
        (y[0].to_vec::<f32>().unwrap(), y[1].to_vec::<i64>().unwrap())
    }

    #[test]
    fn ties_take_the_first() {
        let op = TopK { axis: -1, largest: true, sorted: true, k: Some(2) };
        assert_eq!(run(op, &[4], &[1.0, 3.0, 3.0, 2.0]), (vec![3.0, 3.0], vec![1, 2]));
        let op = TopK { largest: false, ..op };
        assert_eq!(run(op, &[4], &[2.0, 1.0, 3.0, 1.0]), (vec![1.0, 1.0], vec![1, 3]));
        let op = TopK { sorted: false, largest: true, ..op };
        assert_eq!(run(op, &[4], &[2.0, 1.0, 3.0, 1.0]), (vec![2.0, 3.0], vec![0, 2]));
        let (values, positions) = run(TopK { sorted: true, ..op }, &[3], &[1.0, f32::NAN, 2.0]);
        assert!(values[0].is_nan() && values[1] == 2.0 && positions == [1, 2]);
    }

    #[test]
    fn columns_and_counts() {
        let op = TopK { axis: 0, largest: true, sorted: true, k: Some(1) };
        assert_eq!(run(op, &[2, 2], &[1.0, 4.0, 3.0, 2.0]), (vec![3.0, 4.0], vec![1, 0]));
        let x = Tensor::from_slice(&[2], &[1u64, u64::MAX]).unwrap();
        let y = op.reference(&[Some(x.view())], 2).unwrap();
        assert_eq!(y[0].to_vec::<u64>().unwrap(), [u64::MAX]);
        assert!(TopK { k: Some(3), ..op }.reference(&[Some(x.view())], 2).is_err());
        assert!(TopK { k: Some(-1), ..op }.reference(&[Some(x.view())], 2).is_err());
        assert_eq!(TopK { k: Some(0), ..op }.reference(&[Some(x.view())], 2).unwrap()[0].dims(), [0]);
    }
}
