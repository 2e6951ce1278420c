//! [`DepthToSpace`](https://onnx.ai/onnx/operators/onnx__DepthToSpace.html): channels become blocks of pixels.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::sizes::{required, view};
use super::strided::{CopyKernel, Strided};
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{CpuKernel, Operator, Role};
use crate::problem::Problem;

/// `DepthToSpace`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DepthToSpace {
    /// Pixels of a block along each axis.
    pub block: usize,
    /// A block's channels lie together (`CRD`); otherwise they are as far apart as there are channels left (`DCR`).
    pub column_row_depth: bool,
}

/// Reads the attribute `blocksize`.
///
/// # Errors
/// When it is not positive.
pub(super) fn block(spec: &NodeSpec<'_>) -> Result<usize, OpError> {
    let block = spec.attributes.int_or("blocksize", 0)?;
    usize::try_from(block)
        .ok()
        .filter(|n| (1..1 << 16).contains(n))
        .ok_or_else(|| OpError::constraint("blocksize", "1 or more", block))
}

/// Batch, channels, height and width.
///
/// # Errors
/// When there are not four dimensions.
pub(super) fn image<D: Clone>(dims: &[D]) -> Result<[D; 4], OpError> {
    <&[D; 4]>::try_from(dims).cloned().map_err(|_| OpError::constraint("rank", 4, dims.len()))
}

/// A dimension divided by a number that divides it, or a name.
///
/// # Errors
/// When a number does not divide it.
pub(super) fn divided(dim: &Dim, by: usize) -> Result<Dim, OpError> {
    match (dim.known(), dim.div_exact(&Dim::Known(by))) {
        (_, Some(quotient)) => Ok(quotient),
        (Some(n), None) => Err(OpError::constraint("extent", format!("a multiple of {by}"), n)),
        (None, None) => Ok(dim.div_floor(by)?),
    }
}

/// Builds [`DepthToSpace`].
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
    Ok(Arc::new(DepthToSpace { block: block(spec)?, column_row_depth }))
}

impl DepthToSpace {
    fn map(self, dims: &[usize]) -> Result<(Vec<usize>, Strided), OpError> {
        let [n, c, h, w] = image(dims)?;
        let b = self.block;
        if !c.is_multiple_of(b * b) {
            return Err(OpError::constraint("channels", format!("a multiple of {}", b * b), c));
        }
        let left = c / (b * b);
        let plane = h * w;
        // In channels: how far apart the rows, the columns of a block and the channels left are.
        let (row, column, channel) = if self.column_row_depth { (b, 1, b * b) } else { (b * left, left, 1) };
        let step = |channels: usize| (channels * plane) as isize;
        let shape = [n, left, h, b, w, b];
        let steps = [(c * plane) as isize, step(channel), w as isize, step(row), 1, step(column)];
        let map = Strided::new(&shape, &steps, 0, n * c * plane)?;
        let output = [h, w].map(|n| n.checked_mul(b).ok_or(OpError::Size));
        let [height, width] = output;
        Ok((vec![n, left, height?, width?], map))
    }
}

impl Operator for DepthToSpace {
    fn name(&self) -> &'static str {
        "DepthToSpace"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        let Some(dims) = &x.shape else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let [n, c, h, w] = image(dims)?;
        let left = divided(&c, self.block * self.block)?;
        Ok(vec![Fact::new(x.dtype, vec![n, left, h.scale(self.block)?, w.scale(self.block)?])])
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
            _ => Lowering::refused("DepthToSpace", "the block does not fit the input"),
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
    fn both_orders_of_channels() {
        let data: Vec<i32> = (0..8).collect();
        let x = Tensor::from_slice(&[1, 8, 1, 1], &data).unwrap();
        let of = |column_row_depth| {
            let y = DepthToSpace { block: 2, column_row_depth }.reference(&[Some(x.view())], 1).unwrap();
            assert_eq!(y[0].dims(), [1, 2, 2, 2]);
            y[0].to_vec::<i32>().unwrap()
        };
        assert_eq!(of(false), [0, 2, 4, 6, 1, 3, 5, 7]);
        assert_eq!(of(true), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(DepthToSpace { block: 3, column_row_depth: true }.reference(&[Some(x.view())], 1).is_err());
    }
}
