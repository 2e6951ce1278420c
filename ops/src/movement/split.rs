//! [`Split`](https://onnx.ai/onnx/operators/onnx__Split.html): a tensor cut into parts along an axis.

use std::sync::Arc;

use sardonyx_shaders::{Capabilities, table};

use super::assemble::row_major;
use super::sizes::{self, Integers, required, view};
use super::strided::{CopyKernel, Strided, plain};
use crate::build::NodeSpec;
use crate::dispatch::{Binding, Candidate, Lowering, Refusal};
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{CpuKernel, Operator};
use crate::problem::Problem;

/// `Split` along an axis.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Split {
    /// The axis; negative counts from the back.
    pub axis: i64,
    /// How long the parts are.
    pub lengths: Lengths,
    /// Which outputs are wanted: of the others nothing is copied.
    pub wanted: Vec<bool>,
}

/// How long the parts of a split are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lengths {
    /// These: the attribute before opset 13.
    Attribute(Vec<i64>),
    /// Those in input 1.
    Input,
    /// Equal ones.
    Equal {
        /// The last part may be shorter, as from opset 18 on.
        uneven: bool,
    },
}

/// Builds [`Split`].
///
/// # Errors
/// When the number of inputs or outputs is wrong.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 2, "1 or 2")?;
    let attribute = if spec.opset < 13 { spec.attributes.ints("split")? } else { None };
    let uneven = spec.opset >= 18;
    if let Some(&count) = spec.attributes.int("num_outputs")?
        && usize::try_from(count) != Ok(spec.outputs.len())
    {
        return Err(OpError::constraint("num_outputs", spec.outputs.len(), count));
    }
    let lengths = match attribute {
        Some(lengths) => Lengths::Attribute(lengths.to_vec()),
        None if spec.has_input(1) => Lengths::Input,
        None => Lengths::Equal { uneven },
    };
    let axis = spec.attributes.int_or("axis", 0)?;
    Ok(Arc::new(Split { axis, lengths, wanted: spec.outputs.to_vec() }))
}

impl Split {
    /// The lengths of `outputs` parts of an axis of `extent`.
    fn parts(&self, extent: usize, outputs: usize, integers: &Integers<'_>) -> Result<Vec<usize>, OpError> {
        let given = match &self.lengths {
            Lengths::Attribute(lengths) => lengths.clone(),
            Lengths::Input => integers(1)?.ok_or(OpError::Internal("no lengths"))?,
            Lengths::Equal { uneven } => {
                let count = outputs.max(1);
                if !uneven && !extent.is_multiple_of(count) {
                    return Err(OpError::constraint(
                        "axis to split",
                        format!("a multiple of {count}"),
                        extent,
                    ));
                }
                let length = extent.div_ceil(count);
                let part = |index: usize| length.min(extent.saturating_sub(index.saturating_mul(length)));
                return Ok((0..outputs).map(part).collect());
            }
        };
        let lengths: Option<Vec<usize>> = given.iter().map(|&length| usize::try_from(length).ok()).collect();
        let total = |lengths: &Vec<usize>| lengths.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
        lengths.filter(|lengths| lengths.len() == outputs && total(lengths) == Some(extent)).ok_or_else(
            || {
                OpError::constraint(
                    "split",
                    format!("{outputs} lengths that sum to {extent}"),
                    format!("{given:?}"),
                )
            },
        )
    }

    /// For each part, its dimensions and the copy that makes it.
    fn maps(
        &self,
        dims: &[usize],
        outputs: usize,
        integers: &Integers<'_>,
    ) -> Result<Vec<(Vec<usize>, Strided)>, OpError> {
        let axis = sizes::axis(self.axis, dims.len())?;
        let strides = row_major(dims);
        let steps: Vec<isize> = strides.iter().map(|&stride| stride as isize).collect();
        let mut start = 0;
        let mut all = Vec::new();
        for length in self.parts(dims[axis], outputs, integers)? {
            let mut shape = dims.to_vec();
            shape[axis] = length;
            let map = Strided::new(&shape, &steps, start * strides[axis], dims.iter().product())?;
            all.push((shape, map));
            start += length;
        }
        Ok(all)
    }

    /// The copies that make the parts that are wanted.
    fn wanted_maps(&self, dims: &[usize], integers: &Integers<'_>) -> Result<Vec<Strided>, OpError> {
        let all = self.maps(dims, self.wanted.len(), integers)?;
        Ok(all
            .into_iter()
            .zip(&self.wanted)
            .filter(|(_, wanted)| **wanted)
            .map(|((_, map), _)| map)
            .collect())
    }
}

impl Operator for Split {
    fn name(&self) -> &'static str {
        "Split"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        let Some(dims) = &x.shape else { return Ok(vec![Fact::unranked(x.dtype); outputs]) };
        let axis = sizes::axis(self.axis, dims.len())?;
        let constant = match &self.lengths {
            Lengths::Attribute(lengths) => Some(lengths.clone()),
            Lengths::Input => required(inputs, 1)?.integers(),
            Lengths::Equal { .. } => None,
        };
        let lengths: Vec<Dim> = match (dims[axis].known(), &constant, &self.lengths) {
            (Some(extent), Some(_), _) | (Some(extent), None, Lengths::Equal { .. }) => {
                let parts = self.parts(extent, outputs, &|_| Ok(constant.clone()))?;
                parts.into_iter().map(Dim::Known).collect()
            }
            (None, Some(lengths), _) if lengths.len() == outputs => {
                let length = |&n: &i64| usize::try_from(n).map(Dim::Known).map_err(|_| OpError::Size);
                lengths.iter().map(length).collect::<Result<_, _>>()?
            }
            (None, None, Lengths::Equal { uneven: false }) => {
                vec![dims[axis].div_floor(outputs.max(1))?; outputs]
            }
            _ => match required(inputs, 0).map(|_| sizes::optional(inputs, 1).and_then(sizes::of))? {
                Some(sizes) if sizes.len() == outputs => sizes,
                _ => (0..outputs).map(|index| Dim::named(&format!("Split.{index}"))).collect(),
            },
        };
        let mut contents = sizes::of(x).filter(|sizes| dims.len() == 1 && dims[0].is(sizes.len()));
        let parts = lengths.into_iter().map(|length| {
            let mut shape = dims.clone();
            let own = match (&mut contents, length.known()) {
                (Some(rest), Some(count)) if count <= rest.len() => Some(rest.drain(..count).collect()),
                _ => None,
            };
            shape[axis] = length;
            sizes::carry(x.dtype, shape, own)
        });
        parts.collect()
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let maps = self.maps(x.dims, outputs, &*sizes::of_run(inputs))?;
        maps.iter().map(|(dims, map)| map.reference(&x, dims)).collect()
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let op = self.clone();
        Ok(CopyKernel::prepare(problem, move |inputs| {
            op.wanted_maps(view(inputs, 0)?.dims, &*sizes::of_run(inputs))
        }))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.candidate(problem, caps))
    }

    fn moves(&self, problem: &Problem<'_>, output: usize) -> Option<Strided> {
        let dims = problem.input(0)?.dims;
        let maps = self.maps(dims, self.wanted.len(), &*sizes::of_problem(problem)).ok()?;
        maps.into_iter().nth(output).map(|(_, map)| map)
    }
}

impl Split {
    fn candidate(&self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let kernel = table::STRIDED_COPY.name;
        let refuse = |reason: String| Refusal { kernel, reason };
        let x = problem.input(0).ok_or_else(|| refuse("an input is missing".to_owned()))?;
        let storage = problem.stored(kernel, Some(x))?;
        let maps = self.wanted_maps(x.dims, &*sizes::of_problem(problem));
        let maps = maps.map_err(|error| refuse(error.to_string()))?;
        let mut candidate = Candidate::default();
        for (index, map) in maps.iter().enumerate().filter(|(_, map)| !map.is_empty()) {
            let read = (Binding::Input(0), storage);
            candidate.dispatches.push(map.dispatch(read, Binding::Output(index), plain(storage), caps)?);
        }
        Ok(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_sum_to_the_axis() {
        let none = |_| Ok(None);
        let of = |lengths, extent, outputs| {
            Split { axis: 0, lengths, wanted: Vec::new() }.parts(extent, outputs, &none)
        };
        assert_eq!(of(Lengths::Equal { uneven: true }, 7, 4).unwrap(), [2, 2, 2, 1]);
        assert_eq!(of(Lengths::Equal { uneven: true }, 3, 5).unwrap(), [1, 1, 1, 0, 0]);
        assert!(of(Lengths::Equal { uneven: false }, 7, 4).is_err());
        assert_eq!(of(Lengths::Attribute(vec![2, 0, 4]), 6, 3).unwrap(), [2, 0, 4]);
        for wrong in [vec![2, 4], vec![2, -1, 5], vec![i64::MAX, i64::MAX, 8], vec![1, 1, 1]] {
            assert!(of(Lengths::Attribute(wrong), 6, 3).is_err());
        }
    }

    #[test]
    fn columns_are_cut() {
        let x = Tensor::from_slice(&[2, 3], &[1i32, 2, 3, 4, 5, 6]).unwrap();
        let op = Split { axis: 1, lengths: Lengths::Attribute(vec![1, 2]), wanted: vec![true; 2] };
        let y = op.reference(&[Some(x.view())], 2).unwrap();
        assert_eq!(y[0].to_vec::<i32>().unwrap(), [1, 4]);
        assert_eq!((y[1].dims(), y[1].to_vec::<i32>().unwrap()), (&[2, 2][..], vec![2, 3, 5, 6]));
    }
}
