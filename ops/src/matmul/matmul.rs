//! [MatMul](https://onnx.ai/onnx/operators/onnx__MatMul.html): the product of matrices, as `numpy.matmul` does it; and
//! [com.microsoft.FusedMatMul](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.FusedMatMul),
//! the same with transposed factors and a scale.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::cpu::ProductKernel;
use super::gpu::Factors;
use super::product::{self, Product};
use super::reference;
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Cost, CpuKernel, Operator, Role, Summed};
use crate::problem::Problem;

/// `alpha · a · b`: matrices are the last two dimensions, those before broadcast; a vector on the left is a row, one on
/// the right a column, and that dimension is left out of the result.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MatMul {
    /// The last two dimensions of `a` are swapped; a vector stays as it is.
    pub trans_a: bool,
    /// The last two dimensions of `b` are swapped; a vector stays as it is.
    pub trans_b: bool,
    /// Factor of every result.
    pub alpha: f32,
}

impl Default for MatMul {
    fn default() -> MatMul {
        MatMul { trans_a: false, trans_b: false, alpha: 1.0 }
    }
}

/// Builds MatMul.
///
/// # Errors
/// When there are not two inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(Arc::new(MatMul::default()))
}

/// Builds com.microsoft.FusedMatMul.
///
/// # Errors
/// When there are not two inputs, or a batch dimension is to be transposed.
pub fn build_fused(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    for name in ["transBatchA", "transBatchB"] {
        if spec.attributes.flag(name, false)? {
            return Err(OpError::unsupported(format!("attribute {name}")));
        }
    }
    Ok(Arc::new(MatMul {
        trans_a: spec.attributes.flag("transA", false)?,
        trans_b: spec.attributes.flag("transB", false)?,
        alpha: spec.attributes.float_or("alpha", 1.0)?,
    }))
}

impl MatMul {
    fn product(&self, problem: &Problem<'_>) -> Option<Product> {
        let (a, b) = (problem.input(0)?, problem.input(1)?);
        Product::new(a.dims, b.dims, self.trans_a, self.trans_b).ok()
    }
}

impl Operator for MatMul {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let [Some(a), Some(b)] = inputs else {
            return Err(OpError::Arity { what: "inputs", expected: "2", got: inputs.len() });
        };
        check_types(&[*a, *b])?;
        let shape = match (&a.shape, &b.shape) {
            (Some(a), Some(b)) => Some(product::shape(a, b, self.trans_a, self.trans_b)?),
            _ => None,
        };
        Ok(vec![Fact { dtype: a.dtype, shape, value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let [Some(a), Some(b)] = inputs else {
            return Err(OpError::Arity { what: "inputs", expected: "2", got: inputs.len() });
        };
        let product = Product::new(a.dims, b.dims, self.trans_a, self.trans_b)?;
        let known = |dims: &[usize]| crate::ir::dim::from_known(dims);
        let shape = product::shape(&known(a.dims), &known(b.dims), self.trans_a, self.trans_b)?;
        let dims: Vec<usize> = shape.iter().filter_map(|dim| dim.known()).collect();
        Ok(vec![reference::multiply(&product, self.alpha, [a, b], None, &dims)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let Some(product) = self.product(problem) else { return Ok(None) };
        ProductKernel::prepare(problem, product, self.alpha, None)
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        let Some(product) = self.product(problem) else {
            return Lowering::refused("MatMul", "its sizes do not fit together");
        };
        Factors { product, scale: self.alpha, a: 0, b: 1, addend: None }.lower(problem, caps)
    }

    fn role(&self) -> Role {
        Role::Anchor
    }

    fn summed(&self, problem: &Problem<'_>) -> Option<Summed> {
        product::summed(problem.input(1)?.dims, self.trans_b)
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let flops = self.product(problem).map_or(0, |product| product.flops());
        problem.cost_with(flops)
    }
}

/// Checks that all factors and addends have the same type, one that matrix products are defined on.
pub(super) fn check_types(facts: &[&Fact]) -> Result<(), OpError> {
    let dtype = facts.first().map(|fact| fact.dtype);
    for (input, fact) in facts.iter().enumerate() {
        if !reference::takes(fact.dtype) {
            return Err(OpError::Type { input, expected: reference::TYPES, got: fact.dtype });
        }
        if Some(fact.dtype) != dtype {
            return Err(OpError::Type { input, expected: "the type of input 0", got: fact.dtype });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::check::{agrees, narrowed, random};
    use crate::ir::attributes::{Attribute, Attributes};
    use crate::ir::dim::Dim;
    use crate::ir::dtype::DType;

    fn reference(operator: &MatMul, a: &Tensor, b: &Tensor) -> Tensor {
        operator.reference(&[Some(a.view()), Some(b.view())], 1).unwrap().remove(0)
    }

    #[test]
    fn literal_products() {
        let a = Tensor::from_slice(&[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let b = Tensor::from_slice(&[3, 2], &[1.0f32, -1.0, 0.5, 2.0, 0.0, 1.0]).unwrap();
        let got = reference(&MatMul::default(), &a, &b);
        assert_eq!(got.to_vec::<f32>().unwrap(), [2.0, 6.0, 6.5, 12.0]);
        let swapped = MatMul { trans_a: true, trans_b: true, alpha: 0.5 };
        let got = reference(&swapped, &a, &b);
        assert_eq!(got.dims(), [3, 3]);
        assert_eq!(got.to_vec::<f32>().unwrap(), [-1.5, 4.25, 2.0, -1.5, 5.5, 2.5, -1.5, 6.75, 3.0]);
        let row = Tensor::from_slice(&[3], &[1.0f32, 0.0, -1.0]).unwrap();
        assert_eq!(reference(&MatMul::default(), &row, &b).to_vec::<f32>().unwrap(), [1.0, -2.0]);
        let got = reference(&MatMul::default(), &a, &row);
        assert_eq!((got.dims(), got.to_vec::<f32>().unwrap()), ([2].as_slice(), vec![-2.0, -2.0]));
        let integers = Tensor::from_slice(&[2, 2], &[1i32, i32::MAX, 2, 3]).unwrap();
        let got = reference(&MatMul::default(), &integers, &integers);
        assert_eq!(
            got.to_vec::<i32>().unwrap(),
            [
                1i32.wrapping_add(i32::MAX.wrapping_mul(2)),
                i32::MAX.wrapping_mul(3).wrapping_add(i32::MAX),
                8,
                i32::MAX.wrapping_mul(2).wrapping_add(9)
            ]
        );
        let empty = Tensor::from_slice::<f32>(&[2, 0], &[]).unwrap();
        let wide = Tensor::from_slice::<f32>(&[0, 3], &[]).unwrap();
        assert_eq!(reference(&MatMul::default(), &empty, &wide).to_vec::<f32>().unwrap(), [0.0; 6]);
    }

    #[test]
    fn shapes_keep_names() {
        let a = Fact::new(DType::F32, vec![Dim::named("n"), Dim::Known(12), Dim::named("s"), Dim::Known(64)]);
        let b = Fact::new(DType::F32, vec![Dim::Known(1), Dim::Known(12), Dim::Known(64), Dim::named("t")]);
        let y = MatMul::default().infer(&[Some(&a), Some(&b)], 1).unwrap().remove(0);
        let expected = [Dim::named("n"), Dim::Known(12), Dim::named("s"), Dim::named("t")];
        assert_eq!(y.shape.as_deref(), Some(expected.as_slice()));
        let unknown = Fact::unranked(DType::F32);
        assert!(MatMul::default().infer(&[Some(&a), Some(&unknown)], 1).unwrap()[0].shape.is_none());
        let whole = Fact::new(DType::I64, vec![Dim::Known(64), Dim::Known(2)]);
        assert!(MatMul::default().infer(&[Some(&a), Some(&whole)], 1).is_err());
    }

    #[test]
    fn fused_products_refuse_batch_transposes() {
        let mut attributes = Attributes::default();
        attributes.insert("transB", Attribute::Int(1));
        fn spec(attributes: &Attributes) -> NodeSpec<'_> {
            let inputs = &[true, true];
            NodeSpec { op_type: "FusedMatMul", opset: 1, inputs, outputs: &[true], attributes }
        }
        build_fused(&spec(&attributes)).unwrap();
        assert!(attributes.unread().is_empty());
        attributes.insert("transBatchA", Attribute::Int(1));
        assert!(matches!(build_fused(&spec(&attributes)), Err(OpError::Unsupported { .. })));
    }

    #[test]
    fn the_cpu_kernel_agrees_with_the_reference() {
        let sizes = [1usize, 3, 17, 65, 127];
        for (i, &m) in sizes.iter().enumerate() {
            for (j, &n) in sizes.iter().enumerate() {
                let k = sizes[(i * 2 + j) % sizes.len()];
                for flags in 0..4 {
                    let operator = MatMul { trans_a: flags & 1 != 0, trans_b: flags & 2 != 0, alpha: 0.5 };
                    let a = random(&if operator.trans_a { [2, k, m] } else { [2, m, k] }, 1);
                    let b = random(&if operator.trans_b { [n, k] } else { [k, n] }, 2);
                    for constant in [&[][..], &[1]] {
                        agrees(&operator, &[Some(a.clone()), Some(b.clone())], constant, 1e-5);
                    }
                }
            }
        }
    }

    #[test]
    fn batches_vectors_and_narrow_floats_on_the_cpu() {
        let cases: [(&[usize], &[usize]); 6] = [
            (&[17], &[17]),
            (&[17], &[3, 17, 5]),
            (&[2, 1, 7, 17], &[3, 17, 65]),
            (&[5, 17], &[2, 3, 17, 9]),
            (&[3, 4, 17], &[17]),
            (&[300, 200], &[200, 300]),
        ];
        for (a, b) in cases {
            let (a, b) = (random(a, 3), random(b, 4));
            agrees(&MatMul::default(), &[Some(a.clone()), Some(b.clone())], &[], 1e-5);
            for dtype in [DType::F16, DType::BF16] {
                let tolerance = if dtype == DType::F16 { 2e-3 } else { 1.6e-2 };
                let inputs = [Some(narrowed(&a, dtype)), Some(narrowed(&b, dtype))];
                agrees(&MatMul::default(), &inputs, &[1], tolerance);
            }
        }
        // Batches of a transposed constant, where each matrix is transposed by itself.
        let operator = MatMul { trans_b: true, ..MatMul::default() };
        agrees(&operator, &[Some(random(&[3, 4, 17], 5)), Some(random(&[3, 9, 17], 6))], &[1], 1e-5);
    }
}
