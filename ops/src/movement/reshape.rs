//! [`Reshape`](https://onnx.ai/onnx/operators/onnx__Reshape.html): other dimensions for the same elements.

use std::sync::Arc;

use super::relabel::{self, relabels};
use super::sizes::{self, required, view};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::{self, Dim};
use crate::ir::fact::Fact;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::operator::Operator;

/// `Reshape` to the dimensions in input 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reshape {
    /// A 0 means an extent of zero rather than that of the input.
    pub allow_zero: bool,
}

/// Builds [`Reshape`].
///
/// # Errors
/// When there are not two inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(Arc::new(Reshape { allow_zero: spec.attributes.flag("allowzero", false)? }))
}

impl Reshape {
    /// The output's dimensions for a numeric target.
    fn target(self, x: &[usize], shape: &[i64]) -> Result<Vec<usize>, OpError> {
        let mut dims = Vec::with_capacity(shape.len());
        let mut unknown = None;
        for (axis, &size) in shape.iter().enumerate() {
            dims.push(match size {
                0 if !self.allow_zero => *x.get(axis).ok_or_else(|| {
                    OpError::constraint("shape", format!("a 0 only in the first {} places", x.len()), axis)
                })?,
                -1 if unknown.is_none() => {
                    unknown = Some(axis);
                    1
                }
                -1 => return Err(OpError::constraint("shape", "one -1 at most", format!("{shape:?}"))),
                size => usize::try_from(size)
                    .map_err(|_| OpError::constraint("shape", "sizes of -1 or more", size))?,
            });
        }
        let total = element_count(x).ok_or(OpError::Size)?;
        let mismatch = || OpError::constraint("shape", format!("{total} elements"), format!("{shape:?}"));
        let rest = element_count(&dims).ok_or_else(mismatch)?;
        if let Some(axis) = unknown {
            let size = total.checked_div(rest).ok_or_else(mismatch)?;
            dims[axis] = size;
        }
        if element_count(&dims) != Some(total) {
            return Err(mismatch());
        }
        Ok(dims)
    }

    /// The same with names in it.
    fn symbolic(self, x: &[Dim], shape: &[Dim]) -> Result<Vec<Dim>, OpError> {
        let minus_one = sizes::inferred();
        let mut dims = Vec::with_capacity(shape.len());
        for (axis, size) in shape.iter().enumerate() {
            dims.push(if size.is(0) && !self.allow_zero {
                x.get(axis).cloned().ok_or_else(|| {
                    OpError::constraint("shape", format!("a 0 only in the first {} places", x.len()), axis)
                })?
            } else {
                size.clone()
            });
        }
        let Some(unknown) = dims.iter().position(|dim| *dim == minus_one) else { return Ok(dims) };
        if dims.iter().filter(|dim| **dim == minus_one).count() > 1 {
            return Err(OpError::constraint("shape", "one -1 at most", format!("{shape:?}")));
        }
        // Equal factors go first: a sum of names divides by itself, not by products of others.
        let mut left = x.to_vec();
        let mut right = Vec::new();
        for (axis, size) in dims.iter().enumerate() {
            if axis == unknown {
                continue;
            }
            match left.iter().position(|dim| dim == size) {
                Some(at) => drop(left.remove(at)),
                None => right.push(size.clone()),
            }
        }
        let quotient = dim::product(&left)?.div_exact(&dim::product(&right)?);
        dims[unknown] = quotient.unwrap_or_else(|| Dim::named("Reshape.inferred"));
        Ok(dims)
    }
}

impl Operator for Reshape {
    fn name(&self) -> &'static str {
        "Reshape"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, shape) = (required(inputs, 0)?, required(inputs, 1)?);
        sizes::expect_indices(shape.dtype, 1)?;
        let dims = match (x.dims(), shape.integers(), sizes::of(shape)) {
            (Some(x), Some(shape), _) => dim::from_known(&self.target(&x, &shape)?),
            (_, _, Some(target)) => match &x.shape {
                Some(x) => self.symbolic(x, &target)?,
                None => {
                    let copied = |dim: &Dim| (dim.is(0) && !self.allow_zero) || *dim == sizes::inferred();
                    let named = |dim: Dim| if copied(&dim) { Dim::named("Reshape.inferred") } else { dim };
                    target.into_iter().map(named).collect()
                }
            },
            _ => match shape.dims().as_deref() {
                Some(&[rank]) if rank <= 64 => {
                    (0..rank).map(|axis| Dim::named(&format!("Reshape.{axis}"))).collect()
                }
                _ => return Ok(vec![Fact::unranked(x.dtype)]),
            },
        };
        Ok(vec![sizes::carry(x.dtype, dims, sizes::of(x))?])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, shape) = (view(inputs, 0)?, view(inputs, 1)?);
        let dims = self.target(x.dims, &sizes::integers(&shape, 1)?)?;
        Ok(vec![relabel::reference(&x, &dims)?])
    }

    relabels!();
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Reshape = Reshape { allow_zero: false };

    #[test]
    fn zeros_copy_and_minus_one_is_worked_out() {
        assert_eq!(PLAIN.target(&[2, 3, 4], &[0, -1]).unwrap(), [2, 12]);
        assert_eq!(PLAIN.target(&[2, 3, 4], &[4, 0, 1, -1]).unwrap(), [4, 3, 1, 2]);
        assert_eq!(Reshape { allow_zero: true }.target(&[0, 3, 4], &[3, 4, 0]).unwrap(), [3, 4, 0]);
        assert_eq!(PLAIN.target(&[], &[-1]).unwrap(), [1]);
        for wrong in [&[5, -1][..], &[-1, -1], &[2, 3, 4, 0], &[-2], &[i64::MAX, i64::MAX]] {
            assert!(PLAIN.target(&[2, 3, 4], wrong).is_err(), "{wrong:?}");
        }
        assert!(Reshape { allow_zero: true }.target(&[0, 3], &[0, -1]).is_err());
    }

    #[test]
    fn names_are_carried_through() {
        let (n, h) = (Dim::named("n"), Dim::named("h").offset(1).unwrap());
        let x = Fact::new(crate::DType::F32, vec![n.clone(), h.clone(), Dim::Known(64)]);
        let with = |sizes: Vec<Dim>| Fact {
            dtype: crate::DType::I64,
            shape: Some(vec![Dim::Known(sizes.len())]),
            value: None,
            sizes: Some(sizes),
        };
        let infer = |sizes: Vec<Dim>| {
            let shape = with(sizes);
            PLAIN.infer(&[Some(&x), Some(&shape)], 1).unwrap()[0].shape.clone().unwrap()
        };
        let shape = infer(vec![n.clone(), sizes::inferred(), Dim::Known(8), Dim::Known(8)]);
        assert_eq!(shape, [n.clone(), h.clone(), Dim::Known(8), Dim::Known(8)]);
        let shape = infer(vec![Dim::Known(0), sizes::inferred()]);
        assert_eq!(shape, [n.clone(), h.scale(64).unwrap()]);
        let shape = infer(vec![sizes::inferred(), h.clone(), Dim::Known(32)]);
        assert_eq!(shape, [n.scale(2).unwrap(), h, Dim::Known(32)]);
    }

    #[test]
    fn strings_reshape_too() {
        let x = Tensor::from_strings(&[2, 1], vec!["a".into(), "b".into()]).unwrap();
        let shape = Tensor::from_slice(&[1], &[2i64]).unwrap();
        let y = PLAIN.reference(&[Some(x.view()), Some(shape.view())], 1).unwrap();
        assert_eq!((y[0].dims(), y[0].strings().unwrap()[1].as_str()), (&[2][..], "b"));
    }
}
