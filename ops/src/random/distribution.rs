//! [RandomNormal](https://onnx.ai/onnx/operators/onnx__RandomNormal.html),
//! [RandomNormalLike](https://onnx.ai/onnx/operators/onnx__RandomNormalLike.html),
//! [RandomUniform](https://onnx.ai/onnx/operators/onnx__RandomUniform.html) and
//! [RandomUniformLike](https://onnx.ai/onnx/operators/onnx__RandomUniformLike.html): tensors of random floats.

use std::sync::Arc;

use super::generator::Seed;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{required, view};
use crate::operator::Operator;

/// How the numbers are distributed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Distribution {
    /// Normally.
    Normal {
        /// Mean.
        mean: f32,
        /// Standard deviation.
        scale: f32,
    },
    /// Evenly.
    Uniform {
        /// Least number.
        low: f32,
        /// Bound above.
        high: f32,
    },
}

/// A tensor of random floats.
#[derive(Clone, PartialEq, Debug)]
pub struct Random {
    /// How they are distributed.
    pub distribution: Distribution,
    /// The dimensions; those of the input when absent.
    pub dims: Option<Vec<usize>>,
    /// Element type; the input's when absent.
    pub dtype: Option<DType>,
    /// Where the numbers begin.
    pub seed: Seed,
}

pub(super) fn normal(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    build(spec, normal_of(spec)?, false)
}

pub(super) fn normal_like(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    build(spec, normal_of(spec)?, true)
}

pub(super) fn uniform(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    build(spec, uniform_of(spec)?, false)
}

pub(super) fn uniform_like(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    build(spec, uniform_of(spec)?, true)
}

fn normal_of(spec: &NodeSpec<'_>) -> Result<Distribution, OpError> {
    let (mean, scale) = (spec.attributes.float_or("mean", 0.0)?, spec.attributes.float_or("scale", 1.0)?);
    Ok(Distribution::Normal { mean, scale })
}

fn uniform_of(spec: &NodeSpec<'_>) -> Result<Distribution, OpError> {
    let (low, high) = (spec.attributes.float_or("low", 0.0)?, spec.attributes.float_or("high", 1.0)?);
    Ok(Distribution::Uniform { low, high })
}

/// The attribute `dtype`.
pub(super) fn dtype_of(spec: &NodeSpec<'_>) -> Result<Option<DType>, OpError> {
    let known = |&number: &i64| {
        DType::from_onnx(number).ok_or(OpError::Attribute { name: "dtype", expected: "a type of ONNX" })
    };
    spec.attributes.int("dtype")?.map(known).transpose()
}

fn build(spec: &NodeSpec<'_>, distribution: Distribution, like: bool) -> Result<Arc<dyn Operator>, OpError> {
    let (dtype, seed) = (dtype_of(spec)?, Seed::of_float(spec)?);
    if like {
        spec.expect_inputs(1, 1, "1")?;
        return Ok(Arc::new(Random { distribution, dims: None, dtype, seed }));
    }
    spec.expect_inputs(0, 0, "none")?;
    let expected = OpError::Attribute { name: "shape", expected: "a list of sizes of 0 or more" };
    let shape = spec.attributes.ints("shape")?.ok_or(expected.clone())?;
    let dims: Result<Vec<usize>, _> = shape.iter().map(|&size| usize::try_from(size)).collect();
    let dtype = Some(dtype.unwrap_or(DType::F32));
    Ok(Arc::new(Random { distribution, dims: Some(dims.map_err(|_| expected)?), dtype, seed }))
}

impl Random {
    fn dtype(&self, input: Option<DType>) -> Result<DType, OpError> {
        match self.dtype.or(input) {
            Some(dtype @ (DType::F32 | DType::F64 | DType::F16 | DType::BF16)) => Ok(dtype),
            _ => Err(OpError::Attribute { name: "dtype", expected: "f32, f64, f16 or bf16" }),
        }
    }
}

impl Operator for Random {
    fn name(&self) -> &'static str {
        match (self.distribution, self.dims.is_some()) {
            (Distribution::Normal { .. }, true) => "RandomNormal",
            (Distribution::Normal { .. }, false) => "RandomNormalLike",
            (Distribution::Uniform { .. }, true) => "RandomUniform",
            (Distribution::Uniform { .. }, false) => "RandomUniformLike",
        }
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        if let Some(dims) = &self.dims {
            return Ok(vec![Fact::new(self.dtype(None)?, dim::from_known(dims))]);
        }
        let like = required(inputs, 0)?;
        let dtype = self.dtype(Some(like.dtype))?;
        Ok(vec![Fact { dtype, shape: like.shape.clone(), value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (dims, dtype) = match &self.dims {
            Some(dims) => (dims.as_slice(), self.dtype(None)?),
            None => {
                let like = view(inputs, 0)?;
                (like.dims, self.dtype(Some(like.dtype))?)
            }
        };
        let mut generator = self.seed.generator();
        let mut all = filled(dims, 0.0)?;
        for x in &mut all {
            *x = match self.distribution {
                Distribution::Normal { mean, scale } => {
                    generator.normal() * f64::from(scale) + f64::from(mean)
                }
                Distribution::Uniform { low, high } => {
                    let (low, high) = (f64::from(low), f64::from(high));
                    low + (high - low) * generator.uniform()
                }
            };
        }
        Ok(vec![float_tensor(dtype, dims, &all)?])
    }

    fn folds(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fill_the_shape() {
        // numpy.random.RandomState(0): 2 + 2 · uniform(size=2), and 1 + 10 · randn(2).
        let uniform = Random {
            distribution: Distribution::Uniform { low: 2.0, high: 4.0 },
            dims: Some(vec![2, 1]),
            dtype: Some(DType::F64),
            seed: Seed(Some(0)),
        };
        let y = uniform.reference(&[], 1).unwrap().remove(0);
        assert_eq!(y.dims(), [2, 1]);
        assert_eq!(y.to_vec::<f64>().unwrap(), [3.097_627_007_854_649_5, 3.430_378_732_744_839]);
        let normal = Random {
            distribution: Distribution::Normal { mean: 1.0, scale: 10.0 },
            dims: None,
            dtype: None,
            seed: Seed(Some(0)),
        };
        let like = Tensor::from_slice(&[2], &[0f32; 2]).unwrap();
        let y = normal.reference(&[Some(like.view())], 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<f32>().unwrap(), [18.640_524, 5.001_572]);
        let text = Tensor::from_strings(&[1], vec![String::new()]).unwrap();
        assert!(normal.reference(&[Some(text.view())], 1).is_err());
        assert!(!normal.folds());
    }
}
