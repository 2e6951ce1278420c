//! [`NonMaxSuppression`](https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html): of boxes that overlap, the best.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{self, optional, required, view};
use crate::operator::Operator;
use crate::problem::Problem;

/// `NonMaxSuppression`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NonMaxSuppression {
    /// Boxes are centre and size, otherwise two opposite corners with y first.
    pub center: bool,
}

/// Builds [`NonMaxSuppression`].
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 5, "2 to 5")?;
    match spec.attributes.int_or("center_point_box", 0)? {
        0 => Ok(Arc::new(NonMaxSuppression { center: false })),
        1 => Ok(Arc::new(NonMaxSuppression { center: true })),
        other => Err(OpError::constraint("center_point_box", "0 or 1", other)),
    }
}

/// A box as its lower and upper corner.
#[derive(Clone, Copy)]
struct Corners {
    low: [f32; 2],
    high: [f32; 2],
}

impl Corners {
    fn new(given: &[f32], center: bool) -> Corners {
        let at = |i: usize| given.get(i).copied().unwrap_or(0.0);
        let (a, b) = if center {
            // Centre x, centre y, width, height.
            let (half_width, half_height) = (at(2) / 2.0, at(3) / 2.0);
            ([at(1) - half_height, at(0) - half_width], [at(1) + half_height, at(0) + half_width])
        } else {
            ([at(0), at(1)], [at(2), at(3)])
        };
        Corners { low: [a[0].min(b[0]), a[1].min(b[1])], high: [a[0].max(b[0]), a[1].max(b[1])] }
    }

    fn area(self) -> f32 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// Intersection over union.
    fn overlap(self, other: Corners) -> f32 {
        let along = |axis: usize| {
            (self.high[axis].min(other.high[axis]) - self.low[axis].max(other.low[axis])).max(0.0)
        };
        let shared = along(0) * along(1);
        let all = self.area() + other.area() - shared;
        if all > 0.0 { shared / all } else { 0.0 }
    }
}

/// The one number of a threshold, if given.
fn threshold(inputs: &[Option<View<'_>>], index: usize) -> Result<Option<f32>, OpError> {
    match optional(inputs, index).map(|view| view.slice::<f32>()) {
        None => Ok(None),
        Some(&[one]) => Ok(Some(one)),
        Some(all) => Err(OpError::constraint("threshold", "one f32", all.len())),
    }
}

impl Operator for NonMaxSuppression {
    fn name(&self) -> &'static str {
        "NonMaxSuppression"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        for input in 0..2 {
            let fact = required(inputs, input)?;
            if fact.dtype != DType::F32 {
                return Err(OpError::Type { input, expected: "f32", got: fact.dtype });
            }
            if let Some(rank) = fact.rank().filter(|&rank| rank != 3) {
                return Err(OpError::constraint("rank", 3, rank));
            }
        }
        let count = Dim::named("NonMaxSuppression.count");
        Ok(vec![Fact::new(DType::I64, vec![count, Dim::Known(3)])])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (boxes, scores) = (view(inputs, 0)?, view(inputs, 1)?);
        let (&[batches, count, 4], &[same, classes, of]) = (boxes.dims, scores.dims) else {
            let got = format!("{:?} and {:?}", boxes.dims, scores.dims);
            return Err(OpError::constraint(
                "boxes and scores",
                "[n, boxes, 4] and [n, classes, boxes]",
                got,
            ));
        };
        if (same, of) != (batches, count) {
            let expected = format!("[{batches}, classes, {count}]");
            return Err(OpError::constraint("scores", expected, format!("{:?}", scores.dims)));
        }
        let most = match optional(inputs, 2) {
            Some(most) => match sizes::integers(&most, 2)?.as_slice() {
                &[most] => usize::try_from(most.max(0)).unwrap_or(usize::MAX),
                all => {
                    return Err(OpError::constraint("max_output_boxes_per_class", "one number", all.len()));
                }
            },
            None => 0,
        };
        let overlap = threshold(inputs, 3)?.unwrap_or(0.0);
        let least = threshold(inputs, 4)?;
        let (boxes, scores) = (boxes.slice::<f32>(), scores.slice::<f32>());
        let mut chosen: Vec<i64> = Vec::new();
        for batch in 0..batches {
            let corners: Vec<Corners> = (0..count)
                .map(|i| Corners::new(&boxes[(batch * count + i) * 4..][..4], self.center))
                .collect();
            for class in 0..classes {
                let scores = &scores[(batch * classes + class) * count..][..count];
                let above = |&i: &usize| least.is_none_or(|least| scores[i] > least);
                let mut order: Vec<usize> = (0..count).filter(above).collect();
                order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
                let mut kept: Vec<usize> = Vec::new();
                for i in order {
                    if kept.len() >= most {
                        break;
                    }
                    if kept.iter().all(|&other| corners[i].overlap(corners[other]) <= overlap) {
                        kept.push(i);
                    }
                }
                for i in kept {
                    for n in [batch, class, i] {
                        chosen.push(i64::try_from(n).map_err(|_| OpError::Size)?);
                    }
                }
            }
        }
        Ok(vec![Tensor::from_vec(&[chosen.len() / 3, 3], chosen)?])
    }

    fn lower(&self, _problem: &Problem<'_>, _caps: &Capabilities) -> Lowering {
        Lowering::refused("NonMaxSuppression", "the size of its output depends on its inputs' contents")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_overlapping_boxes() {
        let boxes = [
            [0.0f32, 0.0, 1.0, 1.0],
            [0.0, 0.1, 1.0, 1.1],
            [0.0, 10.0, 1.0, 11.0],
            // The corners may come in any order.
            [1.0, 11.1, 0.0, 10.1],
        ];
        let boxes = Tensor::from_slice(&[1, 4, 4], boxes.as_flattened()).unwrap();
        let scores = Tensor::from_slice(&[1, 1, 4], &[0.9f32, 0.75, 0.6, 0.95]).unwrap();
        let run = |most: i64, overlap: f32, least: f32| {
            let (most, overlap, least) =
                (Tensor::scalar(most), Tensor::scalar(overlap), Tensor::scalar(least));
            let inputs = [&boxes, &scores, &most, &overlap, &least].map(|tensor| Some(tensor.view()));
            let y = NonMaxSuppression { center: false }.reference(&inputs, 1).unwrap();
            y[0].to_vec::<i64>().unwrap().chunks(3).map(|row| row[2]).collect::<Vec<_>>()
        };
        assert_eq!(run(3, 0.5, 0.0), [3, 0]);
        assert_eq!(run(1, 0.5, 0.0), [3]);
        assert_eq!(run(9, 0.9, 0.7), [3, 0, 1]);
        assert_eq!(run(0, 0.5, 0.0), [0i64; 0]);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let boxes = Tensor::from_slice(&[1, 1, 4], &[0f32; 4]).unwrap();
        let scores = Tensor::from_slice(&[1, 1, 2], &[0f32; 2]).unwrap();
        let inputs = [Some(boxes.view()), Some(scores.view())];
        assert!(NonMaxSuppression { center: true }.reference(&inputs, 1).is_err());
    }
}
