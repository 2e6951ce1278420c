//! [`Einsum`](https://onnx.ai/onnx/operators/onnx__Einsum.html): sums of products over the axes that an equation names.

use std::sync::Arc;

use super::contraction;
use super::equation::{Equation, Indices, expect_number};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::{self, Dim};
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats, integer_tensor, integers};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::assemble::row_major;
use crate::operator::{Cost, Expansion, Operator};
use crate::problem::Problem;

/// `Einsum` of any number of operands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Einsum {
    equation: Equation,
}

/// Builds [`Einsum`].
///
/// # Errors
/// When the equation is not one, or has another number of operands than the node.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let expected = OpError::Attribute { name: "equation", expected: "a string" };
    let equation = Equation::parse(spec.attributes.str("equation")?.ok_or(expected)?)?;
    let operands = equation.operands();
    if operands != spec.inputs.len() || !spec.inputs.iter().all(|&given| given) {
        return Err(OpError::constraint("inputs", operands, spec.inputs.len()));
    }
    Ok(Arc::new(Einsum { equation }))
}

impl Einsum {
    /// The indices, and the extent of each; `None` before the ranks are known.
    fn indices(&self, inputs: &[Option<&Fact>]) -> Result<Option<(Indices, Vec<Dim>)>, OpError> {
        let shapes: Option<Vec<&[Dim]>> = inputs.iter().map(|fact| fact.as_ref()?.shape.as_deref()).collect();
        let Some(shapes) = shapes else { return Ok(None) };
        let indices = self.equation.resolve(&shapes.iter().map(|shape| shape.len()).collect::<Vec<_>>())?;
        let extents = indices.extents(&shapes)?;
        Ok(Some((indices, extents)))
    }

    fn walk(&self, operands: &[View<'_>]) -> Result<Walk, OpError> {
        let ranks: Vec<usize> = operands.iter().map(|operand| operand.dims.len()).collect();
        let indices = self.equation.resolve(&ranks)?;
        let shapes: Vec<Vec<Dim>> = operands.iter().map(|operand| dim::from_known(operand.dims)).collect();
        let extents = indices.extents(&shapes.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let extents = dim::known(&extents).ok_or(OpError::Internal("an extent is not known"))?;
        let inner = (0..indices.count).filter(|index| !indices.output.contains(index)).collect();
        let mut strides = vec![vec![0usize; operands.len()]; indices.count];
        for (at, (operand, own)) in operands.iter().zip(&indices.operands).enumerate() {
            for ((&index, &extent), stride) in own.iter().zip(operand.dims).zip(row_major(operand.dims)) {
                if extent != 1 {
                    strides[index][at] += stride;
                }
            }
        }
        Ok(Walk { output: indices.output, inner, extents, strides })
    }
}

/// How the loops over the indices go through the operands.
struct Walk {
    /// The output's indices, outermost first.
    output: Vec<usize>,
    /// Those summed over.
    inner: Vec<usize>,
    /// The extent of each index.
    extents: Vec<usize>,
    /// For each index the step in each operand.
    strides: Vec<Vec<usize>>,
}

impl Walk {
    fn dims(&self) -> Vec<usize> {
        self.output.iter().map(|&index| self.extents[index]).collect()
    }

    /// Moves to the next place of a loop over `loops`; `false` after the last, when all is as at the start.
    fn step(&self, loops: &[usize], place: &mut [usize], offsets: &mut [usize]) -> bool {
        for &index in loops.iter().rev() {
            let (extent, strides) = (self.extents[index], &self.strides[index]);
            place[index] += 1;
            if place[index] < extent {
                offsets.iter_mut().zip(strides).for_each(|(offset, stride)| *offset += stride);
                return true;
            }
            place[index] = 0;
            offsets.iter_mut().zip(strides).for_each(|(offset, stride)| *offset -= stride * (extent - 1));
        }
        false
    }

    /// Each sum of products.
    fn sums<T: Copy>(
        &self,
        operands: &[Vec<T>],
        [zero, one]: [T; 2],
        add: fn(T, T) -> T,
        times: fn(T, T) -> T,
    ) -> Result<Vec<T>, OpError> {
        let mut results = filled(&self.dims(), zero)?;
        let mut place = vec![0; self.extents.len()];
        let mut offsets = vec![0; operands.len()];
        if self.inner.iter().any(|&index| self.extents[index] == 0) {
            return Ok(results);
        }
        for result in &mut results {
            loop {
                let factors = operands.iter().zip(&offsets).map(|(operand, &offset)| operand[offset]);
                *result = add(*result, factors.fold(one, times));
                if !self.step(&self.inner, &mut place, &mut offsets) {
                    break;
                }
            }
            self.step(&self.output, &mut place, &mut offsets);
        }
        Ok(results)
    }
}

impl Operator for Einsum {
    fn name(&self) -> &'static str {
        "Einsum"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let first = inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        for (at, fact) in inputs.iter().flatten().enumerate() {
            expect_number(fact.dtype, at)?;
            if fact.dtype != first.dtype {
                return Err(OpError::Type { input: at, expected: first.dtype.name(), got: fact.dtype });
            }
        }
        Ok(vec![match self.indices(inputs)? {
            None => Fact::unranked(first.dtype),
            Some((indices, extents)) => {
                Fact::new(first.dtype, indices.output.iter().map(|&index| extents[index].clone()).collect())
            }
        }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let operands: Vec<View<'_>> = inputs.iter().flatten().copied().collect();
        let dtype = operands.first().ok_or(OpError::Internal("an input is missing"))?.dtype;
        let walk = self.walk(&operands)?;
        let dims = walk.dims();
        Ok(vec![if dtype.is_float() {
            let numbers = operands.iter().map(floats).collect::<Result<Vec<_>, _>>()?;
            float_tensor(dtype, &dims, &walk.sums(&numbers, [0.0, 1.0], |a, b| a + b, |a, b| a * b)?)?
        } else {
            let numbers = operands.iter().map(integers).collect::<Result<Vec<_>, _>>()?;
            // What wraps at 128 bits wraps to the same at fewer.
            let sums = walk.sums(&numbers, [0, 1], i128::wrapping_add, i128::wrapping_mul)?;
            integer_tensor(dtype, &dims, &sums)?
        }])
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        let Some((indices, _)) = self.indices(inputs)? else { return Ok(Expansion::Stays) };
        let facts: Vec<&Fact> = inputs.iter().flatten().copied().collect();
        Ok(contraction::expand(&indices, &facts)?.unwrap_or(Expansion::Stays))
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let facts: Vec<Option<Fact>> = problem
            .inputs
            .iter()
            .map(|input| input.as_ref().map(|operand| Fact::known(operand.dtype, operand.dims)))
            .collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let extents = self.indices(&facts).ok().flatten().and_then(|(_, extents)| dim::known(&extents));
        let products = extents.unwrap_or_default().iter().fold(1u64, |n, &m| n.saturating_mul(m as u64));
        Cost { flops: products.saturating_mul(problem.inputs.len() as u64), ..problem.default_cost() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(equation: &str, operands: &[Tensor]) -> Result<(Vec<usize>, Vec<f64>), OpError> {
        let op = Einsum { equation: Equation::parse(equation)? };
        let views: Vec<Option<View<'_>>> = operands.iter().map(|x| Some(x.view())).collect();
        let y = op.reference(&views, 1)?.remove(0);
        let facts: Vec<Fact> = operands.iter().map(|x| Fact::known(x.dtype(), x.dims())).collect();
        let inferred = op.infer(&facts.iter().map(Some).collect::<Vec<_>>(), 1)?;
        assert_eq!(inferred[0].dims().unwrap(), y.dims());
        Ok((y.dims().to_vec(), y.to_vec::<f64>()?))
    }

    #[test]
    fn sums_of_products() {
        let a = Tensor::from_slice(&[2, 2], &[1.0f64, 2.0, 3.0, 4.0]).unwrap();
        let v = Tensor::from_slice(&[2], &[10.0f64, 100.0]).unwrap();
        let of = |equation: &str, all: &[&Tensor]| {
            run(equation, &all.iter().map(|&x| x.clone()).collect::<Vec<_>>()).unwrap()
        };
        assert_eq!(of("ij->ji", &[&a]), (vec![2, 2], vec![1.0, 3.0, 2.0, 4.0]));
        assert_eq!(of("ii->i", &[&a]), (vec![2], vec![1.0, 4.0]));
        assert_eq!(of("ii", &[&a]), (vec![], vec![5.0]));
        assert_eq!(of("ij,jk", &[&a, &a]).1, [7.0, 10.0, 15.0, 22.0]);
        assert_eq!(of("...j,j->...", &[&a, &v]), (vec![2], vec![210.0, 430.0]));
        assert_eq!(of("i,j->ij", &[&v, &v]).1, [100.0, 1000.0, 1000.0, 10000.0]);
        assert_eq!(of("ij,i,j->", &[&a, &v, &v]), (vec![], vec![45100.0]));
        let none = Tensor::from_slice::<f64>(&[0], &[]).unwrap();
        assert_eq!(of("i->", &[&none]), (vec![], vec![0.0]));
        assert!(run("i,i", &[v, Tensor::from_slice(&[3], &[0f64; 3]).unwrap()]).is_err());
    }
}
