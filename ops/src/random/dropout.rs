//! [Dropout](https://onnx.ai/onnx/operators/onnx__Dropout.html) that a run can tell to train: zeros at random places,
//! and the rest scaled up to make up for them.

use std::sync::Arc;

use super::generator::Seed;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::graph::{Graph, Node};
use crate::ir::numbers::{float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::dropout::{self, Dropout};
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Expansion, Operator};

/// `Dropout` with an input that says whether it trains; inputs: data, ratio, training_mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrainingDropout {
    /// What it is when it does not train.
    pub inference: Dropout,
    /// Where the numbers begin.
    pub seed: Seed,
}

/// Without the input that says so it does not train.
pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    if !spec.has_input(2) {
        return dropout::build(spec);
    }
    spec.expect_inputs(1, 3, "1 to 3")?;
    let mask = spec.outputs.get(1).copied().unwrap_or(false);
    let inference = Dropout { mask, bool_mask: true };
    Ok(Arc::new(TrainingDropout { inference, seed: Seed::of_integer(spec)? }))
}

fn trains(mode: &View<'_>) -> bool {
    mode.bytes.first().is_some_and(|&byte| byte != 0)
}

/// The share of elements to drop.
fn ratio(inputs: &[Option<View<'_>>]) -> Result<f64, OpError> {
    let Some(given) = optional(inputs, 1) else { return Ok(0.5) };
    match floats(&given)?.as_slice() {
        &[ratio] if (0.0..1.0).contains(&ratio) => Ok(ratio),
        other => Err(OpError::constraint("ratio", "one number from 0 to 1 exclusive", format!("{other:?}"))),
    }
}

impl Operator for TrainingDropout {
    fn name(&self) -> &'static str {
        "Dropout"
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        let (data, mode) = (required(inputs, 0)?, required(inputs, 2)?);
        if mode.value.as_ref().is_none_or(|mode| trains(&mode.view())) {
            return Ok(Expansion::Stays);
        }
        let mut graph = Graph::default();
        let x = graph.add_value("data");
        graph.inputs.push((x, data.clone()));
        graph.outputs = vec![graph.add_value("output")];
        if self.inference.mask {
            let mask = graph.add_value("mask");
            graph.outputs.push(mask);
        }
        graph.nodes.push(Node {
            name: "inference".into(),
            op: Arc::new(self.inference),
            inputs: vec![Some(x)],
            outputs: graph.outputs.iter().copied().map(Some).collect(),
        });
        Ok(Expansion::Graph { graph: Arc::new(graph), inputs: vec![0] })
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (data, mode) = (required(inputs, 0)?, required(inputs, 2)?);
        if !data.dtype.is_float() {
            return Err(OpError::Type { input: 0, expected: "a float", got: data.dtype });
        }
        if mode.dtype != DType::Bool {
            return Err(OpError::Type { input: 2, expected: "bool", got: mode.dtype });
        }
        let fact = |dtype| Fact { dtype, shape: data.shape.clone(), value: None, sizes: None };
        Ok([fact(data.dtype), fact(DType::Bool)].into_iter().take(outputs.max(1)).collect())
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        if !trains(&view(inputs, 2)?) {
            return self.inference.reference(&[Some(x)], outputs);
        }
        let ratio = ratio(inputs)?;
        let mut generator = self.seed.generator();
        let mut values = floats(&x)?;
        let kept: Vec<bool> = values.iter().map(|_| generator.uniform() >= ratio).collect();
        for (x, &keep) in values.iter_mut().zip(&kept) {
            *x = if keep { *x / (1.0 - ratio) } else { 0.0 };
        }
        let mut all = vec![float_tensor(x.dtype, x.dims, &values)?];
        if outputs > 1 {
            all.push(Tensor::from_bools(x.dims, &kept)?);
        }
        Ok(all)
    }

    fn folds(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(ratio: f32, mode: bool) -> Result<(Vec<f32>, Vec<u8>), OpError> {
        let x = Tensor::from_slice(&[5], &[1.0f32, 2.0, 3.0, -4.0, 5.0]).unwrap();
        let (ratio, mode) = (Tensor::scalar(ratio), Tensor::from_bools(&[], &[mode]).unwrap());
        let inference = Dropout { mask: true, bool_mask: true };
        let op = TrainingDropout { inference, seed: Seed(Some(0)) };
        let y = op.reference(&[Some(x.view()), Some(ratio.view()), Some(mode.view())], 2)?;
        Ok((y[0].to_vec().unwrap(), y[1].bytes().to_vec()))
    }

    #[test]
    fn elements_are_dropped_at_random() {
        // The official case of seed 0: the mask of its first five elements at a ratio of one half.
        let (y, mask) = run(0.5, true).unwrap();
        assert_eq!((y, mask), (vec![2.0, 4.0, 6.0, -8.0, 0.0], vec![1, 1, 1, 1, 0]));
        assert_eq!(run(0.0, true).unwrap(), (vec![1.0, 2.0, 3.0, -4.0, 5.0], vec![1; 5]));
        assert_eq!(run(0.5, false).unwrap(), (vec![1.0, 2.0, 3.0, -4.0, 5.0], vec![1; 5]));
        assert!(run(1.0, true).is_err() && run(f32::NAN, true).is_err());
    }

    #[test]
    fn a_constant_that_says_no_leaves_the_inference_form() {
        let op = TrainingDropout { inference: Dropout { mask: true, bool_mask: true }, seed: Seed(None) };
        let x = Fact::known(DType::F32, &[3]);
        let expand = |mode: &Fact| op.expand(&[Some(&x), None, Some(mode)]).unwrap();
        let mode = |on| Fact::constant(Tensor::from_bools(&[], &[on]).unwrap());
        assert!(matches!(expand(&mode(true)), Expansion::Stays));
        assert!(matches!(expand(&Fact::known(DType::Bool, &[])), Expansion::Stays));
        let Expansion::Graph { graph, inputs } = expand(&mode(false)) else { panic!("no graph") };
        assert_eq!((graph.nodes.len(), graph.outputs.len(), inputs), (1, 2, vec![0]));
    }
}
