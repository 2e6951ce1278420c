//! [`RoiAlign`](https://onnx.ai/onnx/operators/onnx__RoiAlign.html): regions of a feature map, each in a grid of bins,
//! from samples between the elements.

use std::sync::Arc;

use super::max_roi_pool::{self, Extents};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{self, required, view};
use crate::operator::{Cost, Operator};
use crate::problem::Problem;

/// `RoiAlign`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RoiAlign {
    /// A bin is its largest sample; else their mean.
    pub max: bool,
    /// Coordinates 0 and 1 are the edges of the first element; else its centre and that of the second.
    pub half_pixel: bool,
    /// Bins of a region.
    pub pooled: Extents,
    /// Samples along each side of a bin; as many as it has elements when 0.
    pub sampling_ratio: usize,
    /// What the regions' coordinates are multiplied with.
    pub spatial_scale: f32,
}

/// Samples along a side of a bin: more than any feature map needs, few enough to end.
const MOST_SAMPLES: usize = 1 << 10;

/// Builds [`RoiAlign`].
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, 3, "3")?;
    let attributes = spec.attributes;
    let max = match attributes.str_or("mode", "avg".to_owned())?.as_str() {
        "avg" => false,
        "max" => true,
        other => return Err(OpError::constraint("mode", "avg or max", other)),
    };
    let half_pixel = spec.opset >= 16
        && match attributes.str_or("coordinate_transformation_mode", "half_pixel".to_owned())?.as_str() {
            "half_pixel" => true,
            "output_half_pixel" => false,
            other => {
                let expected = "half_pixel or output_half_pixel";
                return Err(OpError::constraint("coordinate_transformation_mode", expected, other));
            }
        };
    let size = |name| max_roi_pool::extent(name, attributes.int_or(name, 1)?);
    let ratio = attributes.int_or("sampling_ratio", 0)?;
    let sampling_ratio = usize::try_from(ratio).ok().filter(|&ratio| ratio <= MOST_SAMPLES);
    let expected = || OpError::constraint("sampling_ratio", format!("0 to {MOST_SAMPLES}"), ratio);
    Ok(Arc::new(RoiAlign {
        max,
        half_pixel,
        pooled: [size("output_height")?, size("output_width")?],
        sampling_ratio: sampling_ratio.ok_or_else(expected)?,
        spatial_scale: attributes.float_or("spatial_scale", 1.0)?,
    }))
}

/// One axis of a region: where it begins, how long a bin is, and how many samples it takes.
#[derive(Clone, Copy)]
struct Side {
    start: f64,
    bin: f64,
    samples: usize,
}

/// Two neighbouring elements of an axis and their weights.
type Pair = [(usize, f64); 2];

impl RoiAlign {
    /// One axis of a region from `start` to `end`. Computed in 32 bits unless the tensors have more: whether one more
    /// sample is taken depends on the last bit.
    fn side(&self, start: f64, end: f64, bins: usize, wide: bool) -> Result<Side, OpError> {
        let round = |x: f64| if wide { x } else { f64::from(x as f32) };
        let offset = if self.half_pixel { 0.5 } else { 0.0 };
        let place = |x: f64| round(round(x * f64::from(self.spatial_scale)) - offset);
        let start = place(start);
        let length = round(place(end) - start);
        let length = if self.half_pixel { length } else { length.max(1.0) };
        let bin = round(length / bins as f64);
        if !bin.is_finite() {
            return Err(OpError::constraint("region", "finite coordinates", bin));
        }
        let samples = match self.sampling_ratio {
            0 => bin.ceil().max(0.0) as usize,
            ratio => ratio,
        };
        if samples > MOST_SAMPLES {
            return Err(OpError::constraint("samples of a bin", format!("{MOST_SAMPLES} at most"), samples));
        }
        Ok(Side { start, bin, samples })
    }
}

impl Side {
    /// What sample `sample` of a bin reads of an axis of `extent` elements; `None` outside.
    fn pair(&self, bin: usize, sample: usize, extent: usize) -> Option<Pair> {
        let within = (sample as f64 + 0.5) * self.bin / self.samples as f64;
        let at = self.start + bin as f64 * self.bin + within;
        if !(-1.0..=extent as f64).contains(&at) {
            return None;
        }
        let at = at.max(0.0);
        let (low, last) = (at as usize, extent.checked_sub(1)?);
        if low >= last {
            return Some([(last, 1.0), (last, 0.0)]);
        }
        let right = at - low as f64;
        Some([(low, 1.0 - right), (low + 1, right)])
    }
}

impl Operator for RoiAlign {
    fn name(&self) -> &'static str {
        "RoiAlign"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let batches = required(inputs, 2)?;
        sizes::expect_indices(batches.dtype, 2)?;
        let count = batches.shape.as_ref().and_then(|dims| dims.first().cloned());
        max_roi_pool::infer(inputs, 4, count, self.pooled)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, rois, batches) = (view(inputs, 0)?, view(inputs, 1)?, view(inputs, 2)?);
        let batches = sizes::integers(&batches, 2)?;
        let (&[batch, channels, height, width], &[count, 4]) = (x.dims, rois.dims) else {
            return Err(max_roi_pool::wrong_dims(x.dims, rois.dims));
        };
        if batches.len() != count {
            return Err(OpError::constraint("batch indices", count, batches.len()));
        }
        let wide = x.dtype == DType::F64;
        let [rows, columns] = self.pooled;
        let dims = [count, channels, rows, columns];
        let (data, regions, plane) = (floats(&x)?, floats(&rois)?, height * width);
        let mut results = filled(&dims, 0.0)?;
        for (index, slot) in results.iter_mut().enumerate() {
            let (bin, channel) = (index % (rows * columns), index / (rows * columns) % channels);
            let roi = index / (rows * columns) / channels;
            let n = usize::try_from(batches[roi]).ok().filter(|&n| n < batch);
            let n =
                n.ok_or_else(|| OpError::constraint("batch index", format!("below {batch}"), batches[roi]))?;
            let &[left, top, right, bottom] = &regions[roi * 4..roi * 4 + 4] else { continue };
            let y = self.side(top, bottom, rows, wide)?;
            let x = self.side(left, right, columns, wide)?;
            let source = &data[(n * channels + channel) * plane..][..plane];
            let (mut sum, mut largest) = (0.0, None);
            for sample in 0..y.samples * x.samples {
                let (i, j) = (sample / x.samples, sample % x.samples);
                let pairs = y.pair(bin / columns, i, height).zip(x.pair(bin % columns, j, width));
                // Of the four elements around, weighted; what lies outside counts as zero.
                let parts = pairs.map_or([0.0; 4], |(down, across)| {
                    [0, 1, 2, 3].map(|k: usize| {
                        let ((row, a), (column, b)) = (down[k / 2], across[k % 2]);
                        a * b * source[row * width + column]
                    })
                });
                sum += parts.iter().sum::<f64>();
                let own = parts.into_iter().fold(f64::NEG_INFINITY, f64::max);
                largest = Some(largest.map_or(own, |largest: f64| largest.max(own)));
            }
            *slot =
                if self.max { largest.unwrap_or(0.0) } else { sum / (y.samples * x.samples).max(1) as f64 };
        }
        Ok(vec![float_tensor(x.dtype, &dims, &results)?])
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let cost = problem.default_cost();
        let samples = (self.sampling_ratio.max(2) as u64).pow(2);
        Cost { flops: cost.flops.saturating_mul(samples.saturating_mul(16)), ..cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_of_a_ramp() {
        // Rows of 0, 1, 2, 3: a bin's mean is its middle.
        let data: Vec<f32> = (0..16).map(|i| (i % 4) as f32).collect();
        let x = Tensor::from_slice(&[1, 1, 4, 4], &data).unwrap();
        let rois = Tensor::from_slice(&[1, 4], &[0f32, 0.0, 3.0, 3.0]).unwrap();
        let of = |op: RoiAlign, n: i64| {
            let batches = Tensor::from_slice(&[1], &[n]).unwrap();
            let inputs = [Some(x.view()), Some(rois.view()), Some(batches.view())];
            op.reference(&inputs, 1).map(|mut y| y.remove(0).to_vec::<f32>().unwrap())
        };
        let op =
            RoiAlign { max: false, half_pixel: false, pooled: [1, 2], sampling_ratio: 2, spatial_scale: 1.0 };
        assert_eq!(of(op, 0).unwrap(), [0.75, 2.25]);
        // Half an element to the left: the first sample is held at the edge.
        assert_eq!(of(RoiAlign { half_pixel: true, ..op }, 0).unwrap(), [0.3125, 1.75]);
        assert_eq!(of(RoiAlign { sampling_ratio: 0, ..op }, 0).unwrap(), [0.75, 2.25]);
        assert!(of(op, 1).is_err() && of(op, -1).is_err());
    }
}
