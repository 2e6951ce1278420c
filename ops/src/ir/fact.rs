//! What is known about a value before a run.

use super::dim::{self, Dim};
use super::dtype::DType;
use super::tensor::Tensor;

/// The element type of a value, and as much of its shape and contents as is known.
#[derive(Clone, Debug)]
pub struct Fact {
    /// Element type.
    pub dtype: DType,
    /// Dimensions; `None` when not even the rank is known.
    pub shape: Option<Vec<Dim>>,
    /// The contents, when constant.
    pub value: Option<Tensor>,
    /// The contents of a small integer vector or scalar as dimensions, when they are known by name:
    /// what carries `Shape → Gather → Concat → Reshape` through inference.
    pub sizes: Option<Vec<Dim>>,
}

impl Fact {
    /// A value of known type and shape.
    pub fn new(dtype: DType, shape: Vec<Dim>) -> Fact {
        Fact { dtype, shape: Some(shape), value: None, sizes: None }
    }

    /// A value of known type and numeric dimensions.
    pub fn known(dtype: DType, dims: &[usize]) -> Fact {
        Fact::new(dtype, dim::from_known(dims))
    }

    /// A value of unknown rank.
    pub fn unranked(dtype: DType) -> Fact {
        Fact { dtype, shape: None, value: None, sizes: None }
    }

    /// A constant.
    pub fn constant(value: Tensor) -> Fact {
        Fact {
            dtype: value.dtype(),
            shape: Some(dim::from_known(value.dims())),
            sizes: integers(&value)
                .and_then(|all| all.into_iter().map(|n| usize::try_from(n).ok().map(Dim::Known)).collect()),
            value: Some(value),
        }
    }

    /// The dimensions, when all are numbers.
    pub fn dims(&self) -> Option<Vec<usize>> {
        dim::known(self.shape.as_deref()?)
    }

    /// The number of dimensions.
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// The contents of an integer tensor (i32 or i64) of rank 0 or 1, when constant.
    pub fn integers(&self) -> Option<Vec<i64>> {
        integers(self.value.as_ref()?)
    }
}

/// The contents of an integer tensor (i32 or i64) of rank 0 or 1 and at most 1024 elements.
fn integers(value: &Tensor) -> Option<Vec<i64>> {
    const MOST: usize = 1024;
    if value.dims().len() > 1 || value.len() > MOST {
        return None;
    }
    match value.dtype() {
        DType::I64 => value.to_vec::<i64>().ok(),
        DType::I32 => Some(value.elements::<i32>().ok()?.iter().map(|&n| i64::from(n)).collect()),
        _ => None,
    }
}
