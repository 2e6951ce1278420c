//! [Gemm](https://onnx.ai/onnx/operators/onnx__Gemm.html): `alpha · a · b + beta · c` over matrices.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::cpu::ProductKernel;
use super::gpu::Factors;
use super::matmul::check_types;
use super::product::{self, Product};
use super::reference::{self, Addend};
use crate::broadcast;
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Cost, CpuKernel, Operator, Role, Summed};
use crate::problem::Problem;

/// `alpha · a · b + beta · c`, `c` broadcasting to the product. With `beta` 0, `c` is not read.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of `c`.
    pub beta: f32,
    /// `a` is transposed.
    pub trans_a: bool,
    /// `b` is transposed.
    pub trans_b: bool,
}

/// Builds Gemm, from opset 6 on. There `broadcast` says that `c` may stretch; later it always may.
///
/// # Errors
/// When there are not two or three inputs, or an attribute has another type.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 3, "2 or 3")?;
    if spec.opset < 7 {
        spec.attributes.flag("broadcast", false)?;
    }
    Ok(Arc::new(Gemm {
        alpha: spec.attributes.float_or("alpha", 1.0)?,
        beta: spec.attributes.float_or("beta", 1.0)?,
        trans_a: spec.attributes.flag("transA", false)?,
        trans_b: spec.attributes.flag("transB", false)?,
    }))
}

fn two_dimensions(rank: usize) -> Result<(), OpError> {
    if rank == 2 { Ok(()) } else { Err(OpError::constraint("rank of a factor", 2, rank)) }
}

impl Gemm {
    fn product(&self, a: &[usize], b: &[usize]) -> Result<Product, OpError> {
        two_dimensions(a.len())?;
        two_dimensions(b.len())?;
        Product::new(a, b, self.trans_a, self.trans_b)
    }

    /// How `c` is read, when it is.
    fn addend(&self, product: &Product, c: Option<&[usize]>) -> Result<Option<Addend>, OpError> {
        let Some(c) = c.filter(|_| self.beta != 0.0) else { return Ok(None) };
        let output = [product.rows, product.columns];
        if broadcast::dims(&[c, &output])? != output {
            return Err(OpError::constraint(
                "shape of c",
                format!("broadcast to {output:?}"),
                format!("{c:?}"),
            ));
        }
        let columns = c.last().copied().unwrap_or(1);
        let rows = c.len().checked_sub(2).map_or(1, |axis| c[axis]);
        Ok(Some(Addend {
            row_stride: if rows == 1 { 0 } else { columns },
            column_stride: usize::from(columns != 1),
            factor: self.beta,
        }))
    }

    fn prepared(&self, problem: &Problem<'_>) -> Option<(Product, Option<Addend>)> {
        let product = self.product(problem.input(0)?.dims, problem.input(1)?.dims).ok()?;
        let addend = self.addend(&product, problem.input(2).map(|c| c.dims)).ok()?;
        Some((product, addend))
    }
}

impl Operator for Gemm {
    fn name(&self) -> &'static str {
        "Gemm"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let [Some(a), Some(b), rest @ ..] = inputs else {
            return Err(OpError::Arity { what: "inputs", expected: "2 or 3", got: inputs.len() });
        };
        let c = rest.first().copied().flatten();
        let facts: Vec<&Fact> = [Some(*a), Some(*b), c].into_iter().flatten().collect();
        check_types(&facts)?;
        for rank in [a.rank(), b.rank()].into_iter().flatten() {
            two_dimensions(rank)?;
        }
        let any = |name: &str| Dim::named(name);
        let size = |fact: &Fact, axis: usize, name: &str| {
            fact.shape.as_ref().and_then(|shape| shape.get(axis).cloned()).unwrap_or_else(|| any(name))
        };
        if let (Some(a), Some(b)) = (&a.shape, &b.shape) {
            product::shape(a, b, self.trans_a, self.trans_b)?;
        }
        let shape = vec![
            size(a, usize::from(self.trans_a), "Gemm.rows"),
            size(b, usize::from(!self.trans_b), "Gemm.columns"),
        ];
        if let Some(c) = c.and_then(|c| c.shape.as_deref()) {
            let joined = broadcast::shape(&[c, &shape])?;
            let grown = joined
                .iter()
                .zip(&shape)
                .any(|(joined, own)| own.is(1) && !joined.is(1) && joined.known().is_some());
            if joined.len() != 2 || grown {
                return Err(OpError::constraint(
                    "shape of c",
                    format!("broadcast to {shape:?}"),
                    format!("{c:?}"),
                ));
            }
        }
        Ok(vec![Fact::new(a.dtype, shape)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let [Some(a), Some(b), rest @ ..] = inputs else {
            return Err(OpError::Arity { what: "inputs", expected: "2 or 3", got: inputs.len() });
        };
        let product = self.product(a.dims, b.dims)?;
        let c = rest.first().and_then(Option::as_ref);
        let addend = self.addend(&product, c.map(|c| c.dims))?;
        let dims = [product.rows, product.columns];
        Ok(vec![reference::multiply(&product, self.alpha, [a, b], addend.zip(c), &dims)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let Some((product, addend)) = self.prepared(problem) else { return Ok(None) };
        ProductKernel::prepare(problem, product, self.alpha, addend)
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        let Some((product, addend)) = self.prepared(problem) else {
            return Lowering::refused("Gemm", "its sizes do not fit together");
        };
        let addend = addend.zip(problem.input(2)).map(|(addend, c)| (2, c.dims.to_vec(), addend.factor));
        Factors { product, scale: self.alpha, a: 0, b: 1, addend }.lower(problem, caps)
    }

    fn role(&self) -> Role {
        Role::Anchor
    }

    fn summed(&self, problem: &Problem<'_>) -> Option<Summed> {
        product::summed(problem.input(1)?.dims, self.trans_b)
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let flops = self.prepared(problem).map_or(0, |(product, _)| product.flops());
        problem.cost_with(flops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::check::{agrees, random};
    use crate::ir::dtype::DType;

    const PLAIN: Gemm = Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false };

    #[test]
    fn literal_products() {
        let a = Tensor::from_slice(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let c = Tensor::from_slice(&[2], &[10.0f32, 20.0]).unwrap();
        let run = |operator: &Gemm| {
            let inputs = [Some(a.view()), Some(a.view()), Some(c.view())];
            operator.reference(&inputs, 1).unwrap().remove(0).to_vec::<f32>().unwrap()
        };
        assert_eq!(run(&PLAIN), [17.0, 30.0, 25.0, 42.0]);
        assert_eq!(run(&Gemm { alpha: 2.0, beta: 0.5, ..PLAIN }), [19.0, 30.0, 35.0, 54.0]);
        assert_eq!(run(&Gemm { trans_a: true, beta: 0.0, ..PLAIN }), [10.0, 14.0, 14.0, 20.0]);
        assert_eq!(run(&Gemm { trans_b: true, beta: 0.0, ..PLAIN }), [5.0, 11.0, 11.0, 25.0]);
    }

    #[test]
    fn addends_broadcast_one_way_only() {
        let a = Fact::known(DType::F32, &[3, 4]);
        let b = Fact::known(DType::F32, &[4, 5]);
        for c in [&[][..], &[1], &[5], &[1, 5], &[3, 1], &[3, 5]] {
            let c = Fact::known(DType::F32, c);
            let y = PLAIN.infer(&[Some(&a), Some(&b), Some(&c)], 1).unwrap().remove(0);
            assert_eq!(y.dims().unwrap(), [3, 5]);
        }
        for c in [&[2][..], &[3], &[1, 3, 5], &[4, 5]] {
            let c = Fact::known(DType::F32, c);
            assert!(PLAIN.infer(&[Some(&a), Some(&b), Some(&c)], 1).is_err());
        }
        let row = Fact::known(DType::F32, &[1, 4]);
        let tall = Fact::known(DType::F32, &[3, 5]);
        assert!(PLAIN.infer(&[Some(&row), Some(&b), Some(&tall)], 1).is_err());
    }

    #[test]
    fn the_cpu_kernel_agrees_with_the_reference() {
        for (m, n, k) in [(1, 1, 1), (1, 65, 17), (3, 17, 127), (17, 3, 65), (127, 65, 3), (8, 64, 0)] {
            for flags in 0..4 {
                let operator =
                    Gemm { alpha: 0.5, beta: 2.0, trans_a: flags & 1 != 0, trans_b: flags & 2 != 0 };
                let a = random(&if operator.trans_a { [k, m] } else { [m, k] }, 1);
                let b = random(&if operator.trans_b { [n, k] } else { [k, n] }, 2);
                for c in [&[][..], &[n], &[m, 1], &[m, n]] {
                    let inputs = [Some(a.clone()), Some(b.clone()), Some(random(c, 3))];
                    agrees(&operator, &inputs, &[1, 2], 1e-5);
                }
                agrees(&operator, &[Some(a.clone()), Some(b.clone()), None], &[], 1e-5);
            }
        }
    }
}
