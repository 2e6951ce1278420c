//! [`Unique`](https://onnx.ai/onnx/operators/onnx__Unique.html): each element or slice once.

use std::cmp::Ordering;
use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::assemble::select;
use crate::movement::number::{Number, by_number};
use crate::movement::sizes::{self, required, view};
use crate::operator::Operator;
use crate::problem::Problem;

/// `Unique` over slices along an axis, or over all elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unique {
    /// The axis; the input is flattened when absent.
    pub axis: Option<i64>,
    /// In ascending order, otherwise as they first occur.
    pub sorted: bool,
}

/// Builds [`Unique`].
///
/// # Errors
/// When there is not one input.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let axis = spec.attributes.int("axis")?.copied();
    Ok(Arc::new(Unique { axis, sorted: spec.attributes.flag("sorted", true)? }))
}

/// The input as `outer × extent × inner`: its slices are what is compared.
struct Slices {
    outer: usize,
    extent: usize,
    inner: usize,
}

impl Slices {
    /// The elements of slice `slice`.
    fn elements(&self, slice: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.outer * self.inner)
            .map(move |k| (k / self.inner * self.extent + slice) * self.inner + k % self.inner)
    }
}

/// Slices in ascending order, equal ones as they stand.
fn order<T: Number>(x: &View<'_>, slices: &Slices) -> Result<Vec<Vec<usize>>, OpError> {
    let data = x.slice::<T>();
    Ok(group(slices, |a, b| data[a].partial_cmp(&data[b]).unwrap_or(Ordering::Equal)))
}

/// Groups of equal slices, ascending; within a group ascending by position.
fn group(slices: &Slices, compare: impl Fn(usize, usize) -> Ordering) -> Vec<Vec<usize>> {
    let lexical = |&a: &usize, &b: &usize| {
        let pairs = slices.elements(a).zip(slices.elements(b));
        pairs.map(|(a, b)| compare(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    };
    let mut all: Vec<usize> = (0..slices.extent).collect();
    all.sort_by(lexical);
    all.chunk_by(|a, b| lexical(a, b).is_eq()).map(<[usize]>::to_vec).collect()
}

impl Operator for Unique {
    fn name(&self) -> &'static str {
        "Unique"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        let count = Dim::named("Unique.count");
        let (shape, slices) = match (self.axis, &x.shape) {
            (None, Some(dims)) => (Some(vec![count.clone()]), crate::ir::dim::product(dims)?),
            (None, None) => (Some(vec![count.clone()]), Dim::named("Unique.slices")),
            (Some(axis), Some(dims)) => {
                let axis = sizes::axis(axis, dims.len())?;
                let mut shape = dims.clone();
                shape[axis] = count.clone();
                (Some(shape), dims[axis].clone())
            }
            (Some(_), None) => (None, Dim::named("Unique.slices")),
        };
        let long = |dim: &Dim| Fact::new(DType::I64, vec![dim.clone()]);
        let y = Fact { dtype: x.dtype, shape, value: None, sizes: None };
        Ok([y, long(&count), long(&slices), long(&count)].into_iter().take(outputs.max(1)).collect())
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let flat = [x.len()];
        let (dims, axis) = match self.axis {
            Some(axis) => (x.dims, sizes::axis(axis, x.dims.len())?),
            None => (&flat[..], 0),
        };
        let slices = Slices {
            outer: dims[..axis].iter().product(),
            extent: dims[axis],
            inner: dims[axis + 1..].iter().product(),
        };
        let mut groups = match (x.dtype, x.strings) {
            (_, Some(strings)) => group(&slices, |a, b| strings[a].cmp(&strings[b])),
            (DType::Bool, _) => group(&slices, |a, b| x.bytes[a].cmp(&x.bytes[b])),
            (dtype, None) => by_number!(dtype, order(&x, &slices))?,
        };
        if !self.sorted {
            groups.sort_by_key(|group| group.first().copied());
        }
        let firsts: Vec<usize> = groups.iter().filter_map(|group| group.first().copied()).collect();
        let mut shape = dims.to_vec();
        shape[axis] = firsts.len();
        let y = select(&x, &shape, None, |i| {
            let (slice, within) = (i / slices.inner, i % slices.inner);
            let (outer, rank) = (slice / firsts.len(), slice % firsts.len());
            Some((outer * slices.extent + firsts[rank]) * slices.inner + within)
        })?;
        let long = |all: Vec<usize>| -> Result<Tensor, OpError> {
            let all: Result<Vec<i64>, _> = all.into_iter().map(i64::try_from).collect();
            let all = all.map_err(|_| OpError::Size)?;
            Ok(Tensor::from_vec(&[all.len()], all)?)
        };
        let mut inverse = vec![0; slices.extent];
        for (rank, group) in groups.iter().enumerate() {
            group.iter().for_each(|&slice| inverse[slice] = rank);
        }
        let counts = groups.iter().map(Vec::len).collect();
        let all = [y, long(firsts)?, long(inverse)?, long(counts)?];
        Ok(all.into_iter().take(outputs.max(1)).collect())
    }

    fn lower(&self, _problem: &Problem<'_>, _caps: &Capabilities) -> Lowering {
        Lowering::refused("Unique", "the size of its output depends on its input's contents")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_slices() {
        let x = Tensor::from_slice(&[6], &[2f32, 1.0, 1.0, 3.0, 4.0, 3.0]).unwrap();
        let run = |sorted| {
            let y = Unique { axis: None, sorted }.reference(&[Some(x.view())], 4).unwrap();
            let long = |i: usize| y[i].to_vec::<i64>().unwrap();
            (y[0].to_vec::<f32>().unwrap(), long(1), long(2), long(3))
        };
        assert_eq!(
            run(false),
            (vec![2.0, 1.0, 3.0, 4.0], vec![0, 1, 3, 4], vec![0, 1, 1, 2, 3, 2], vec![1, 2, 2, 1])
        );
        assert_eq!(run(true).0, [1.0, 2.0, 3.0, 4.0]);
        let x = Tensor::from_slice(&[3, 2], &[1i64, 0, 1, 0, 2, 3]).unwrap();
        let y = Unique { axis: Some(0), sorted: true }.reference(&[Some(x.view())], 4).unwrap();
        assert_eq!((y[0].dims(), y[0].to_vec::<i64>().unwrap()), (&[2, 2][..], vec![1, 0, 2, 3]));
    }
}
