//! [LinearRegressor](https://onnx.ai/onnx/operators/onnx_aionnxml_LinearRegressor.html) and
//! [LinearClassifier](https://onnx.ai/onnx/operators/onnx_aionnxml_LinearClassifier.html): weighted sums of features.

use std::sync::Arc;

use super::rows::Rows;
use super::scores::{After, Classes, largest};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::Operator;

/// Sums of weighted features, one for each target.
#[derive(Clone, PartialEq, Debug)]
struct Sums {
    /// Weights, target by target.
    weights: Vec<f64>,
    /// What is added for each target.
    intercepts: Vec<f64>,
    targets: usize,
}

impl Sums {
    fn from_spec(spec: &NodeSpec<'_>, targets: Option<usize>) -> Result<Sums, OpError> {
        let wide = |all: &[f32]| all.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let weights = wide(spec.attributes.floats("coefficients")?.unwrap_or_default());
        let intercepts = wide(spec.attributes.floats("intercepts")?.unwrap_or_default());
        let targets = targets.unwrap_or(intercepts.len());
        if targets == 0 || weights.is_empty() || !weights.len().is_multiple_of(targets) {
            let expected = format!("as many for each of {targets} targets");
            return Err(OpError::constraint("coefficients", expected, weights.len()));
        }
        if !(intercepts.is_empty() || intercepts.len() == targets) {
            return Err(OpError::constraint("intercepts", targets, intercepts.len()));
        }
        let intercepts = if intercepts.is_empty() { vec![0.0; targets] } else { intercepts };
        Ok(Sums { weights, intercepts, targets })
    }

    /// The sums of all rows, row by row.
    fn of(&self, rows: &Rows) -> Result<Vec<f64>, OpError> {
        let features = self.weights.len() / self.targets;
        if rows.features() != features {
            return Err(OpError::constraint("features", features, rows.features()));
        }
        let mut all = filled(&[rows.count, self.targets], 0.0)?;
        for (row, sums) in rows.iter().zip(all.chunks_mut(self.targets)) {
            for ((sum, weights), start) in
                sums.iter_mut().zip(self.weights.chunks(features)).zip(&self.intercepts)
            {
                *sum = start + row.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>();
            }
        }
        Ok(all)
    }
}

/// For each row the sums of its weighted features.
#[derive(Clone, PartialEq, Debug)]
struct LinearRegressor {
    sums: Sums,
    after: After,
}

/// For each row a class, and the scores of all classes.
#[derive(Clone, PartialEq, Debug)]
pub struct LinearClassifier {
    sums: Sums,
    after: After,
    classes: Classes,
}

pub(super) fn regressor(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let targets = usize::try_from(spec.attributes.int_or("targets", 1)?).map_err(|_| OpError::Size)?;
    Ok(Arc::new(LinearRegressor {
        sums: Sums::from_spec(spec, Some(targets))?,
        after: After::from_spec(spec)?,
    }))
}

pub(super) fn classifier(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    // Whether one sum speaks for several classes: known from their number.
    spec.attributes.int("multi_class")?;
    let classes = Classes::from_spec(spec, "classlabels_ints")?;
    let sums = Sums::from_spec(spec, None)?;
    let fits = sums.targets == classes.len() || (sums.targets, classes.len()) == (1, 2);
    if !fits {
        return Err(OpError::constraint("intercepts", classes.len(), sums.targets));
    }
    Ok(Arc::new(LinearClassifier { sums, after: After::from_spec(spec)?, classes }))
}

impl Operator for LinearRegressor {
    fn name(&self) -> &'static str {
        "LinearRegressor"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::new(DType::F32, vec![Rows::infer(inputs)?, Dim::Known(self.sums.targets)])])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let rows = Rows::new(inputs)?;
        let mut all = self.sums.of(&rows)?;
        all.chunks_mut(self.sums.targets).try_for_each(|scores| self.after.apply(scores))?;
        Ok(vec![float_tensor(DType::F32, &[rows.count, self.sums.targets], &all)?])
    }
}

impl Operator for LinearClassifier {
    fn name(&self) -> &'static str {
        "LinearClassifier"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let batch = Rows::infer(inputs)?;
        let classes = Fact::new(self.classes.dtype(), vec![batch.clone()]);
        let scores = Fact::new(DType::F32, vec![batch, Dim::Known(self.classes.len())]);
        Ok([classes, scores].into_iter().take(outputs.max(1)).collect())
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let rows = Rows::new(inputs)?;
        let sums = self.sums.of(&rows)?;
        let mut chosen = Vec::with_capacity(rows.count);
        let mut all = Vec::with_capacity(sums.len());
        for sums in sums.chunks(self.sums.targets) {
            match (sums, self.classes.len()) {
                ([score], 2) => {
                    chosen.push(usize::from(*score > 0.0));
                    let mut share = [*score];
                    self.after.apply(&mut share)?;
                    all.extend(self.after.of_two(share[0], true));
                }
                _ => {
                    chosen.push(largest(sums.iter().copied()));
                    let mut scores = sums.to_vec();
                    self.after.apply(&mut scores)?;
                    all.extend(scores);
                }
            }
        }
        let scores = float_tensor(DType::F32, &[rows.count, self.classes.len()], &all)?;
        Ok([self.classes.tensor(&chosen)?, scores].into_iter().take(outputs.max(1)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    #[test]
    fn one_sum_speaks_for_two_classes() {
        let mut attributes = Attributes::default();
        attributes.insert("coefficients", Attribute::Floats(vec![1.0, -1.0]));
        attributes.insert("intercepts", Attribute::Floats(vec![0.5]));
        attributes.insert("classlabels_ints", Attribute::Ints(vec![10, 20]));
        attributes.insert("post_transform", Attribute::Str("LOGISTIC".into()));
        let (inputs, outputs) = (&[true], &[true, true]);
        let spec =
            NodeSpec { op_type: "LinearClassifier", opset: 1, inputs, outputs, attributes: &attributes };
        let x = Tensor::from_slice(&[2, 2], &[1.0f32, 1.5, 2.0, 0.0]).unwrap();
        let all = classifier(&spec).unwrap().reference(&[Some(x.view())], 2).unwrap();
        assert_eq!(all[0].to_vec::<i64>().unwrap(), [10, 20]);
        let scores: Vec<f32> = all[1].to_vec().unwrap();
        assert_eq!(scores[..2], [0.5, 0.5]);
        assert!((scores[3] - 0.924_141_8).abs() < 1e-6 && (scores[2] + scores[3] - 1.0).abs() < 1e-6);
        let wide = Tensor::zeroed(DType::F32, &[1, 3]).unwrap();
        assert!(classifier(&spec).unwrap().reference(&[Some(wide.view())], 2).is_err());
    }
}
