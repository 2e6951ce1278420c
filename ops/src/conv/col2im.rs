//! [`Col2Im`](https://onnx.ai/onnx/operators/onnx__Col2Im.html): the blocks of an image, one a column, added up where
//! they lie.

use std::sync::Arc;

use super::window::Window;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats, integer_tensor, integers};
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::movement::assemble::{coordinates, row_major};
use crate::movement::sizes::{self, required, view};
use crate::operator::{Cost, Operator};
use crate::problem::Problem;

/// `Col2Im`; input 1 is the image's extents, input 2 those of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Col2Im {
    /// How blocks lie in the image.
    pub window: Window,
}

/// Builds [`Col2Im`].
///
/// # Errors
/// When there are not three inputs, or an attribute is out of range.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, 3, "3")?;
    Ok(Arc::new(Col2Im { window: Window::read(spec.attributes)? }))
}

/// Where everything lies.
struct Layout {
    /// The output's dimensions.
    dims: Vec<usize>,
    /// Extents of a block.
    block: Vec<usize>,
    /// Blocks along each axis.
    count: Vec<usize>,
}

fn positive(all: &[i64], what: &'static str) -> Result<Vec<usize>, OpError> {
    // Below 2^31 so that positions within an image fit i64.
    let sizes: Option<Vec<usize>> =
        all.iter().map(|&n| i32::try_from(n).ok().filter(|&n| n > 0).map(|n| n as usize)).collect();
    sizes.ok_or_else(|| OpError::constraint(what, "numbers from 1 to 2^31", format!("{all:?}")))
}

impl Col2Im {
    fn layout(&self, columns: &[usize], image: &[i64], block: &[i64]) -> Result<Layout, OpError> {
        let (image, block) = (positive(image, "image_shape")?, positive(block, "block_shape")?);
        if image.len() != block.len() {
            return Err(OpError::constraint("numbers in block_shape", image.len(), block.len()));
        }
        self.window.check(image.len())?;
        let &[batch, rows, blocks] = columns else {
            return Err(OpError::constraint("rank", 3, columns.len()));
        };
        let taps = element_count(&block).ok_or(OpError::Size)?;
        if !rows.is_multiple_of(taps) {
            return Err(OpError::constraint("rows", format!("a multiple of {taps}"), rows));
        }
        let mut count = Vec::new();
        for (axis, (&extent, &own)) in image.iter().zip(&block).enumerate() {
            let blocks = self.window.output(axis, image.len(), &Dim::Known(extent), own)?;
            count.push(blocks.known().ok_or(OpError::Internal("an extent"))?);
        }
        let expected = element_count(&count).ok_or(OpError::Size)?;
        if blocks != expected {
            return Err(OpError::constraint("columns", expected, blocks));
        }
        Ok(Layout { dims: [&[batch, rows / taps], &image[..]].concat(), block, count })
    }

    /// Adds the elements of each block to the image.
    fn gather<T: Copy>(
        &self,
        layout: &Layout,
        data: &[T],
        zero: T,
        add: fn(T, T) -> T,
    ) -> Result<Vec<T>, OpError> {
        let image = &layout.dims[2..];
        let (rank, strides) = (image.len(), row_major(image));
        let mut results = filled(&layout.dims, zero)?;
        let plane: usize = image.iter().product();
        let (taps, blocks) = (layout.block.iter().product::<usize>(), layout.count.iter().product::<usize>());
        if blocks == 0 {
            return Ok(results);
        }
        for (row, line) in data.chunks_exact(blocks).enumerate() {
            let tap = coordinates(row % taps, &layout.block);
            for (index, &x) in line.iter().enumerate() {
                let at =
                    coordinates(index, &layout.count).into_iter().enumerate().try_fold(0, |at, (axis, n)| {
                        let before = self.window.pads(axis, rank).0;
                        let place = n * self.window.stride(axis) + tap[axis] * self.window.dilation(axis);
                        let place = place.checked_sub(before).filter(|&place| place < image[axis])?;
                        Some(at + place * strides[axis])
                    });
                if let Some(at) = at {
                    let slot = &mut results[row / taps * plane + at];
                    *slot = add(*slot, x);
                }
            }
        }
        Ok(results)
    }
}

impl Operator for Col2Im {
    fn name(&self) -> &'static str {
        "Col2Im"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, image, block) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        sizes::expect_indices(image.dtype, 1)?;
        sizes::expect_indices(block.dtype, 2)?;
        if let (Some(columns), Some(image), Some(block)) = (x.dims(), image.integers(), block.integers()) {
            return Ok(vec![Fact::known(x.dtype, &self.layout(&columns, &image, &block)?.dims)]);
        }
        let Some(sizes) = sizes::of(image) else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let (batch, rows) = match x.shape.as_deref() {
            Some([batch, rows, _]) => (batch.clone(), Some(rows)),
            Some(shape) => return Err(OpError::constraint("rank", 3, shape.len())),
            None => (Dim::named("Col2Im.batch"), None),
        };
        let taps = block.integers().and_then(|block| element_count(&positive(&block, "block_shape").ok()?));
        let channels = rows.zip(taps).and_then(|(rows, taps)| rows.div_exact(&Dim::Known(taps)));
        let channels = channels.unwrap_or_else(|| Dim::named("Col2Im.channels"));
        Ok(vec![Fact::new(x.dtype, [&[batch, channels], &sizes[..]].concat())])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, image, block) = (view(inputs, 0)?, view(inputs, 1)?, view(inputs, 2)?);
        let layout = self.layout(x.dims, &sizes::integers(&image, 1)?, &sizes::integers(&block, 2)?)?;
        Ok(vec![if x.dtype.is_float() {
            let sums = self.gather(&layout, &floats(&x)?, 0.0, |a, b| a + b)?;
            float_tensor(x.dtype, &layout.dims, &sums)?
        } else {
            let sums = self.gather(&layout, &integers(&x)?, 0, |a, b| a + b)?;
            integer_tensor(x.dtype, &layout.dims, &sums)?
        }])
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let cost = problem.default_cost();
        Cost { flops: cost.flops.saturating_add(problem.input(0).map_or(0, |x| x.len()) as u64), ..cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_add_up_where_they_overlap() {
        // Blocks of two elements in a row of three: [1, 2] and [3, 4] meet in the middle.
        let x = Tensor::from_slice(&[1, 2, 2], &[1i32, 3, 2, 4]).unwrap();
        let of = |window, image: &[i64], block: &[i64]| {
            let image = Tensor::from_slice(&[image.len()], image).unwrap();
            let block = Tensor::from_slice(&[block.len()], block).unwrap();
            let inputs = [Some(x.view()), Some(image.view()), Some(block.view())];
            Col2Im { window }.reference(&inputs, 1).map(|mut y| y.remove(0).to_vec::<i32>().unwrap())
        };
        assert_eq!(of(Window::default(), &[1, 3], &[1, 2]).unwrap(), [1, 5, 4]);
        let strided = Window { strides: vec![1, 2], ..Window::default() };
        assert_eq!(of(strided, &[1, 4], &[1, 2]).unwrap(), [1, 2, 3, 4]);
        assert!(of(Window::default(), &[1, 4], &[1, 2]).is_err());
    }
}
