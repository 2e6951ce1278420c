//! [`SpaceToDepth`](https://onnx.ai/onnx/operators/onnx__SpaceToDepth.html): blocks of pixels become channels.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::depth_to_space::{block, divided, image};
use super::sizes::{required, view};
use super::strided::{CopyKernel, Strided};
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{CpuKernel, Operator, Role};
use crate::problem::Problem;

/// `SpaceToDepth`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpaceToDepth {
    /// Pixels of a block along each axis.
    pub block: usize,
    /// The channels of a block lie together (`CRD`); otherwise those of one input channel are apart (`DCR`).
    pub column_row_depth: bool,
}

/// Builds [`SpaceToDepth`].
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let column_row_depth = match spec.attributes.str_or("mode", "DCR".to_owned())?.as_str() {
        "DCR" => false,
        "CRD" => true,
        other => return Err(OpError::constraint("mode", "DCR or CRD", other)),
    };
    Ok(Arc::new(SpaceToDepth { block: block(spec)?, column_row_depth }))
}

impl SpaceToDepth {
    fn map(self, dims: &[usize]) -> Result<(Vec<usize>, Strided), OpError> {
        let [n, c, height, width] = image(dims)?;
        let b = self.block;
        if !height.is_multiple_of(b) || !width.is_multiple_of(b) {
            return Err(OpError::constraint("extent", format!("a multiple of {b}"), height.max(width)));
        }
        let (h, w) = (height / b, width / b);
        let (row, column) = ((width) as isize, 1);
        let (batch, channel) = ((c * height * width) as isize, (height * width) as isize);
        let (down, right) = ((b * width) as isize, b as isize);
        // Output channels are (row, column, channel), or with the input channel first.
        let (shape, steps) = if self.column_row_depth {
            ([n, c, b, b, h, w], [batch, channel, row, column, down, right])
        } else {
            ([n, b, b, c, h, w], [batch, row, column, channel, down, right])
        };
        let map = Strided::new(&shape, &steps, 0, n * c * height * width)?;
        let channels = c.checked_mul(b * b).ok_or(OpError::Size)?;
        Ok((vec![n, channels, h, w], map))
    }
}

impl Operator for SpaceToDepth {
    fn name(&self) -> &'static str {
        "SpaceToDepth"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        let Some(dims) = &x.shape else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let [n, c, h, w] = image(dims)?;
        let channels = c.scale(self.block * self.block)?;
        Ok(vec![Fact::new(x.dtype, vec![n, channels, divided(&h, self.block)?, divided(&w, self.block)?])])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let (dims, map) = self.map(x.dims)?;
        Ok(vec![map.reference(&x, &dims)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let op = *self;
        Ok(CopyKernel::prepare(problem, move |inputs| Ok(vec![op.map(view(inputs, 0)?.dims)?.1])))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        match problem.input(0).map(|x| self.map(x.dims)) {
            Some(Ok((_, map))) => map.lower(problem, caps),
            _ => Lowering::refused("SpaceToDepth", "the block does not fit the input"),
        }
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_channels() {
        let data: Vec<i32> = (0..16).collect();
        let x = Tensor::from_slice(&[1, 2, 2, 4], &data).unwrap();
        let of = |column_row_depth| {
            let y = SpaceToDepth { block: 2, column_row_depth }.reference(&[Some(x.view())], 1).unwrap();
            assert_eq!(y[0].dims(), [1, 8, 1, 2]);
            y[0].to_vec::<i32>().unwrap()
        };
        assert_eq!(of(false), [0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15]);
        assert_eq!(of(true), [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15]);
        assert!(SpaceToDepth { block: 3, column_row_depth: false }.reference(&[Some(x.view())], 1).is_err());
    }
}
