//! [`MaxRoiPool`](https://onnx.ai/onnx/operators/onnx__MaxRoiPool.html): regions of a feature map, each in a grid of
//! bins, from their largest elements.

use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{required, view};
use crate::operator::{Cost, Operator};
use crate::problem::Problem;

/// Rows and columns.
pub type Extents = [usize; 2];

/// `MaxRoiPool`. A region is the index of its batch, then its left, top, right and bottom.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MaxRoiPool {
    /// Bins of a region.
    pub pooled: Extents,
    /// What the regions' coordinates are multiplied with.
    pub spatial_scale: f32,
}

/// Builds [`MaxRoiPool`].
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    let Some(&[rows, columns]) = spec.attributes.ints("pooled_shape")? else {
        return Err(OpError::Attribute { name: "pooled_shape", expected: "two integers" });
    };
    let size = |number| extent("pooled_shape", number);
    let spatial_scale = spec.attributes.float_or("spatial_scale", 1.0)?;
    Ok(Arc::new(MaxRoiPool { pooled: [size(rows)?, size(columns)?], spatial_scale }))
}

/// A number of bins.
pub(super) fn extent(what: &'static str, number: i64) -> Result<usize, OpError> {
    let size = u32::try_from(number).ok().filter(|&size| size > 0);
    size.map(|size| size as usize).ok_or_else(|| OpError::constraint(what, "1 to 2^32", number))
}

/// The error for a feature map or regions of other dimensions.
pub(super) fn wrong_dims(x: &[usize], rois: &[usize]) -> OpError {
    OpError::constraint(
        "dimensions",
        "a feature map of rank 4 and regions of rank 2",
        format!("{x:?} and {rois:?}"),
    )
}

/// The output's fact, for regions of `numbers` numbers each. `count` may say how many regions there are.
pub(super) fn infer(
    inputs: &[Option<&Fact>],
    numbers: usize,
    count: Option<Dim>,
    pooled: Extents,
) -> Result<Vec<Fact>, OpError> {
    let (x, rois) = (required(inputs, 0)?, required(inputs, 1)?);
    if !x.dtype.is_float() {
        return Err(OpError::Type { input: 0, expected: "a float type", got: x.dtype });
    }
    if rois.dtype != x.dtype {
        return Err(OpError::Type { input: 1, expected: "the type of input 0", got: rois.dtype });
    }
    let regions = match rois.shape.as_deref() {
        None => None,
        Some([count, each]) if each.known().is_none_or(|each| each == numbers) => Some(count.clone()),
        Some(shape) => {
            return Err(OpError::constraint("regions", format!("[count, {numbers}]"), format!("{shape:?}")));
        }
    };
    let channels = match x.shape.as_deref() {
        None => Dim::named("RoiPool.channels"),
        Some([_, channels, _, _]) => channels.clone(),
        Some(shape) => return Err(OpError::constraint("rank", 4, shape.len())),
    };
    let count = regions.filter(|dim| dim.known().is_some()).or(count);
    let count = count.unwrap_or_else(|| Dim::named("RoiPool.regions"));
    let [rows, columns] = pooled.map(Dim::Known);
    Ok(vec![Fact::new(x.dtype, vec![count, channels, rows, columns])])
}

/// The elements of bin `bin` of `bins`, of an axis of `extent` elements, in a region between two of them.
fn elements(start: f64, end: f64, bin: usize, bins: usize, extent: usize) -> std::ops::Range<usize> {
    let size = (end - start + 1.0).max(1.0) / bins as f64;
    let inside = |at: f64| at.clamp(0.0, extent as f64) as usize;
    inside((bin as f64 * size).floor() + start)..inside(((bin + 1) as f64 * size).ceil() + start)
}

impl Operator for MaxRoiPool {
    fn name(&self) -> &'static str {
        "MaxRoiPool"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        infer(inputs, 5, None, self.pooled)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, rois) = (view(inputs, 0)?, view(inputs, 1)?);
        let (&[batch, channels, height, width], &[count, 5]) = (x.dims, rois.dims) else {
            return Err(wrong_dims(x.dims, rois.dims));
        };
        let [rows, columns] = self.pooled;
        let dims = [count, channels, rows, columns];
        let (data, regions, plane) = (floats(&x)?, floats(&rois)?, height * width);
        let mut results = filled(&dims, 0.0)?;
        for (index, slot) in results.iter_mut().enumerate() {
            let (bin, channel) = (index % (rows * columns), index / (rows * columns) % channels);
            let roi = index / (rows * columns) / channels;
            let &[n, ref sides @ ..] = &regions[roi * 5..roi * 5 + 5] else { continue };
            if !(n >= 0.0 && n < batch as f64) {
                return Err(OpError::constraint("batch index", format!("below {batch}"), n));
            }
            let place = |x: &f64| (x * f64::from(self.spatial_scale)).round();
            let [left, top, right, bottom] =
                [0, 1, 2, 3].map(|side: usize| sides.get(side).map_or(0.0, place));
            let source = &data[(n as usize * channels + channel) * plane..][..plane];
            let mut largest = None;
            for row in elements(top, bottom, bin / columns, rows, height) {
                for column in elements(left, right, bin % columns, columns, width) {
                    let own = source[row * width + column];
                    largest = Some(largest.map_or(own, |largest: f64| largest.max(own)));
                }
            }
            // A bin outside the feature map is zero.
            *slot = largest.unwrap_or(0.0);
        }
        Ok(vec![float_tensor(x.dtype, &dims, &results)?])
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let cost = problem.default_cost();
        let plane: usize = problem.input(0).map_or(1, |x| x.dims.iter().skip(2).product());
        Cost { flops: cost.flops.saturating_mul(plane as u64), ..cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_each_bin() {
        let data: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let x = Tensor::from_slice(&[1, 1, 4, 4], &data).unwrap();
        let of = |rois: &[f32; 5]| {
            let rois = Tensor::from_slice(&[1, 5], rois).unwrap();
            let op = MaxRoiPool { pooled: [2, 2], spatial_scale: 0.5 };
            let y = op.reference(&[Some(x.view()), Some(rois.view())], 1);
            y.map(|mut y| y.remove(0).to_vec::<f32>().unwrap())
        };
        assert_eq!(of(&[0.0, 0.0, 0.0, 6.0, 6.0]).unwrap(), [5.0, 7.0, 13.0, 15.0]);
        // From column 2 on and two columns beyond the last.
        assert_eq!(of(&[0.0, 4.0, 0.0, 10.0, 2.0]).unwrap(), [3.0, 0.0, 7.0, 0.0]);
        assert!(of(&[1.0, 0.0, 0.0, 6.0, 6.0]).is_err() && of(&[f32::NAN, 0.0, 0.0, 6.0, 6.0]).is_err());
    }
}
