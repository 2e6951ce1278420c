//! [EmbedLayerNormalization](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftembedlayernormalization).

use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::attributes::Attribute;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::graph::ValueId;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{optional, required};
use crate::operator::{Expansion, Operator};
use crate::sketch::{self, Given, Sketch};

/// The sum of the embeddings of words, positions and segments, normalised. Outputs are the result, for each batch how
/// many words its mask has, and the sum.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EmbedLayerNormalization {
    epsilon: f32,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 9, "7 to 9")?;
    if ![2, 3, 5, 6].iter().all(|&index| spec.has_input(index)) || spec.has_input(1) != spec.has_input(4) {
        return Err(OpError::Arity { what: "inputs", expected: "7 to 9", got: spec.inputs.len() });
    }
    // What the second output is, where it is wanted at all.
    spec.attributes.int("mask_index_type")?;
    Ok(Arc::new(EmbedLayerNormalization { epsilon: spec.attributes.float_or("epsilon", 1e-12)? }))
}

impl EmbedLayerNormalization {
    fn draw(&self, sketch: &mut Sketch, given: &Given) -> Result<Vec<ValueId>, OpError> {
        let input = |index: usize| optional(given, index).ok_or(OpError::Internal("an input is missing"));
        let words = input(0)?;
        let &[batch, length] = sketch.dims(words)?.as_slice() else {
            return Err(OpError::constraint("words", "2 dimensions", "others"));
        };
        let mut sum = sketch.call("Gather", &[], &[input(2)?, words])?;
        let positions = match optional(given, 8) {
            Some(positions) => sketch.call("Gather", &[], &[input(3)?, positions])?,
            None => sketch.slice(input(3)?, 0, [0, length], 1)?,
        };
        sum = sketch.call("Add", &[], &[sum, positions])?;
        if let (Some(segments), Some(table)) = (optional(given, 1), optional(given, 4)) {
            let segments = sketch.call("Gather", &[], &[table, segments])?;
            sum = sketch.call("Add", &[], &[sum, segments])?;
        }
        let attributes = [("epsilon", Attribute::Float(self.epsilon)), ("axis", Attribute::Int(-1))];
        let result = sketch.call("LayerNormalization", &attributes, &[sum, input(5)?, input(6)?])?;
        let counts = match optional(given, 7) {
            Some(mask) => {
                let mask = sketch.cast(mask, DType::I32)?;
                let one = sketch.constant(Tensor::scalar(1i32));
                let words = sketch.call("Equal", &[], &[mask, one])?;
                let words = sketch.cast(words, DType::I32)?;
                let axis = sketch.constant(Tensor::from_slice(&[1], &[1i64])?);
                sketch.call("ReduceSum", &[("keepdims", Attribute::Int(0))], &[words, axis])?
            }
            None => {
                let zero = sketch.constant(Tensor::scalar(0i32));
                sketch.stretch(zero, &[batch])?
            }
        };
        Ok(vec![result, counts, sum])
    }
}

impl Operator for EmbedLayerNormalization {
    fn name(&self) -> &'static str {
        "EmbedLayerNormalization"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (words, table) = (required(inputs, 0)?, required(inputs, 2)?);
        let mut all =
            vec![Fact::unranked(table.dtype), Fact::unranked(DType::I32), Fact::unranked(table.dtype)];
        if let (Some([batch, length]), Some([_, hidden])) = (words.shape.as_deref(), table.shape.as_deref()) {
            let result: Vec<Dim> = vec![batch.clone(), length.clone(), hidden.clone()];
            for (fact, shape) in all.iter_mut().zip([result.clone(), vec![batch.clone()], result]) {
                fact.shape = Some(shape);
            }
        }
        all.truncate(outputs.max(1));
        Ok(all)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        sketch::evaluate(inputs, outputs, &|sketch, given| self.draw(sketch, given))
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        sketch::expansion(inputs, &|sketch, given| self.draw(sketch, given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are those of ONNX Runtime 1.32 on the CPU.
    #[test]
    fn embeddings_are_summed_and_normalised() {
        let ramp = |dims: &[usize], step: f32| {
            let count: usize = dims.iter().product();
            Tensor::from_vec(dims, (0..count).map(|i| ((i * 7 % 11) as f32 - 5.0) * step).collect()).unwrap()
        };
        let words = Tensor::from_slice(&[2, 2], &[1i32, 0, 2, 1]).unwrap();
        let segments = Tensor::from_slice(&[2, 2], &[1i32, 0, 1, 1]).unwrap();
        let mask = Tensor::from_slice(&[2, 2], &[1i32, 0, 1, 1]).unwrap();
        let gamma = Tensor::from_slice(&[4], &[1.0f32, 2.0, 1.0, 1.0]).unwrap();
        let beta = Tensor::from_slice(&[4], &[0.0f32, 0.0, 0.5, 0.0]).unwrap();
        let (a, b, c) = (ramp(&[3, 4], 0.3), ramp(&[3, 4], 0.2), ramp(&[2, 4], 0.5));
        let inputs = [&words, &segments, &a, &b, &c, &gamma, &beta, &mask].map(|x| Some(x.view()));
        let all = EmbedLayerNormalization { epsilon: 1e-12 }.reference(&inputs, 3).unwrap();
        let close = |tensor: &Tensor, expected: &[f32]| {
            let got = tensor.to_vec::<f32>().unwrap();
            assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-5), "{got:?}");
        };
        close(&all[0], &[-0.343, -2.74398, 1.87199, 0.343, -1.378, 0.636, 0.182, 1.378]);
        close(&all[2], &[-0.2, -2.0, 2.8, 1.0, -3.8, 1.0, -0.8, 4.0]);
        assert_eq!(all[1].to_vec::<i32>().unwrap(), [1, 2]);
    }
}
