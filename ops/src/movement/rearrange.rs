//! Several steps that move elements as one copy: what a plan makes of transpositions, slices and expansions that follow each
//! other. It has no name in ONNX.

use sardonyx_shaders::Capabilities;

use super::layout::Layout;
use super::sizes::{required, view};
use super::strided::{CopyKernel, Strided};
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{CpuKernel, Operator, Role};
use crate::problem::Problem;

/// The elements of input 0 where a layout says, under some dimensions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rearrange {
    dims: Vec<usize>,
    map: Strided,
}

impl Rearrange {
    /// The copy of a layout over a root of `len` elements.
    ///
    /// # Errors
    /// When the layout leaves the root, or has another size than the dimensions.
    pub fn new(layout: &Layout, len: usize, dims: &[usize]) -> Result<Rearrange, OpError> {
        let shape: Vec<usize> = layout.factors.iter().map(|factor| factor.extent).collect();
        let steps = layout.factors.iter().map(|factor| isize::try_from(factor.stride));
        let steps: Vec<isize> = steps.collect::<Result<_, _>>().map_err(|_| OpError::Size)?;
        let map = Strided::new(&shape, &steps, layout.offset, len)?;
        if crate::ir::tensor::element_count(dims) != Some(map.len()) {
            return Err(OpError::Internal("a copy of another size"));
        }
        Ok(Rearrange { dims: dims.to_vec(), map })
    }
}

impl Operator for Rearrange {
    fn name(&self) -> &'static str {
        "Rearrange"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::known(required(inputs, 0)?.dtype, &self.dims)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![self.map.reference(&view(inputs, 0)?, &self.dims)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let map = self.map.clone();
        Ok(CopyKernel::prepare(problem, move |_| Ok(vec![map.clone()])))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        self.map.lower(problem, caps)
    }

    fn role(&self) -> Role {
        Role::Anchor
    }

    fn moves(&self, _problem: &Problem<'_>, _output: usize) -> Option<Strided> {
        Some(self.map.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::movement::layout::Factor;

    #[test]
    fn the_second_half_of_each_row_turned() {
        let factors = vec![Factor { extent: 2, stride: 1 }, Factor { extent: 3, stride: 4 }];
        let layout = Layout { offset: 2, factors };
        let op = Rearrange::new(&layout, 12, &[2, 3]).unwrap();
        let x = Tensor::from_vec(&[3, 4], (0..12).collect::<Vec<i32>>()).unwrap();
        let y = op.reference(&[Some(x.view())], 1).unwrap().remove(0);
        assert_eq!((y.dims(), y.to_vec::<i32>().unwrap()), (&[2, 3][..], vec![2, 6, 10, 3, 7, 11]));
        assert!(Rearrange::new(&layout, 11, &[2, 3]).is_err());
        assert!(Rearrange::new(&layout, 12, &[2, 2]).is_err());
    }
}
