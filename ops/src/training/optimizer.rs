//! [Adagrad](https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Adagrad.html),
//! [Adam](https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Adam.html) and
//! [Momentum](https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Momentum.html): parameters a step along their
//! gradients.

use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{integers, required, view};
use crate::operator::Operator;

/// How a step is made of a gradient.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rule {
    /// Each parameter slows down with the squares of its gradients so far.
    Adagrad {
        /// How the learning rate falls with the number of steps.
        decay: f32,
        /// Added to the root of the squares.
        epsilon: f32,
    },
    /// Running means of the gradient and of its square.
    Adam {
        /// The share of the mean gradient that stays.
        alpha: f32,
        /// The share of the mean square that stays.
        beta: f32,
        /// Added to the root of the mean square.
        epsilon: f32,
        /// How much parameters shrink after the step.
        shrink: f32,
    },
    /// A running sum of gradients.
    Momentum {
        /// The share of the sum that stays.
        alpha: f32,
        /// The factor of the gradient, from the second step on.
        beta: f32,
        /// The step looks ahead, after Nesterov.
        nesterov: bool,
    },
}

/// One step of any number of parameters; inputs: learning rate, number of steps so far, all parameters, all gradients,
/// and each kind of state of all parameters. Outputs: all new parameters, and each kind of state.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Optimizer {
    /// How a step is made.
    pub rule: Rule,
    /// The factor of a parameter that is added to its gradient.
    pub regularization: f32,
}

fn build(spec: &NodeSpec<'_>, rule: Rule) -> Result<Arc<dyn Operator>, OpError> {
    let regularization = spec.attributes.float_or("norm_coefficient", 0.0)?;
    let operator = Optimizer { rule, regularization };
    spec.expect_inputs(spec.inputs.len(), usize::MAX, "inputs without gaps")?;
    operator.parameters(spec.inputs.len())?;
    Ok(Arc::new(operator))
}

/// An attribute that has no default.
fn float(spec: &NodeSpec<'_>, name: &'static str) -> Result<f32, OpError> {
    spec.attributes.float(name)?.copied().ok_or(OpError::Attribute { name, expected: "a float" })
}

pub(super) fn adagrad(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let attributes = spec.attributes;
    let (decay, epsilon) = (attributes.float_or("decay_factor", 0.0)?, attributes.float_or("epsilon", 0.0)?);
    build(spec, Rule::Adagrad { decay, epsilon })
}

pub(super) fn adam(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let attributes = spec.attributes;
    let rule = Rule::Adam {
        alpha: attributes.float_or("alpha", 0.9)?,
        beta: attributes.float_or("beta", 0.999)?,
        epsilon: attributes.float_or("epsilon", 0.0)?,
        shrink: attributes.float_or("norm_coefficient_post", 0.0)?,
    };
    build(spec, rule)
}

pub(super) fn momentum(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let nesterov = match spec.attributes.str("mode")? {
        Some("standard") => false,
        Some("nesterov") => true,
        _ => return Err(OpError::Attribute { name: "mode", expected: "standard or nesterov" }),
    };
    build(spec, Rule::Momentum { alpha: float(spec, "alpha")?, beta: float(spec, "beta")?, nesterov })
}

impl Optimizer {
    /// How many kinds of state there are.
    fn states(&self) -> usize {
        if matches!(self.rule, Rule::Adam { .. }) { 2 } else { 1 }
    }

    /// How many parameters there are with so many inputs.
    fn parameters(&self, inputs: usize) -> Result<usize, OpError> {
        let kinds = 2 + self.states();
        match inputs.checked_sub(2) {
            Some(rest) if rest > 0 && rest.is_multiple_of(kinds) => Ok(rest / kinds),
            _ => Err(OpError::Arity {
                what: "inputs",
                expected: "two, and as many gradients and states as parameters",
                got: inputs,
            }),
        }
    }

    /// One parameter and its states after a step.
    fn step(&self, rate: f64, steps: i64, x: f64, gradient: f64, states: [f64; 2]) -> (f64, [f64; 2]) {
        let wide = f64::from;
        let gradient = wide(self.regularization) * x + gradient;
        let count = steps as f64;
        match self.rule {
            Rule::Adagrad { decay, epsilon } => {
                let squares = states[0] + gradient * gradient;
                let rate = rate / (1.0 + count * wide(decay));
                (x - rate * gradient / (squares.sqrt() + wide(epsilon)), [squares, 0.0])
            }
            Rule::Adam { alpha, beta, epsilon, shrink } => {
                let (alpha, beta) = (wide(alpha), wide(beta));
                let mean = alpha * states[0] + (1.0 - alpha) * gradient;
                let square = beta * states[1] + (1.0 - beta) * gradient * gradient;
                // Means that began at zero are too small at first.
                let rate = match steps {
                    1.. => rate * (1.0 - beta.powf(count)).sqrt() / (1.0 - alpha.powf(count)),
                    _ => rate,
                };
                let x = x - rate * mean / (square.sqrt() + wide(epsilon));
                ((1.0 - wide(shrink)) * x, [mean, square])
            }
            Rule::Momentum { alpha, beta, nesterov } => {
                let beta = if steps > 0 { wide(beta) } else { 1.0 };
                let sum = wide(alpha) * states[0] + beta * gradient;
                let step = if nesterov { gradient + wide(alpha) * sum } else { sum };
                (x - rate * step, [sum, 0.0])
            }
        }
    }
}

impl Operator for Optimizer {
    fn name(&self) -> &'static str {
        match self.rule {
            Rule::Adagrad { .. } => "Adagrad",
            Rule::Adam { .. } => "Adam",
            Rule::Momentum { .. } => "Momentum",
        }
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let count = self.parameters(inputs.len())?;
        let steps = required(inputs, 1)?.dtype;
        if steps != DType::I64 {
            return Err(OpError::Type { input: 1, expected: "i64", got: steps });
        }
        let fact = |input: usize| {
            let fact = required(inputs, input)?;
            if !matches!(fact.dtype, DType::F32 | DType::F64) {
                return Err(OpError::Type { input, expected: "f32 or f64", got: fact.dtype });
            }
            Ok(Fact { dtype: fact.dtype, shape: fact.shape.clone(), value: None, sizes: None })
        };
        (0..count).chain(2 * count..inputs.len() - 2).map(|i| fact(i + 2)).collect()
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let count = self.parameters(inputs.len())?;
        let one = |what| OpError::constraint(what, "one number", "another tensor");
        let &[rate] = floats(&view(inputs, 0)?)?.as_slice() else { return Err(one("learning rate")) };
        let &[steps] = integers(&view(inputs, 1)?, 1)?.as_slice() else { return Err(one("steps")) };
        // The new parameters, then each kind of state.
        let mut results = vec![Vec::new(); 1 + self.states()];
        for i in 0..count {
            let x = view(inputs, 2 + i)?;
            let read = |kind: usize| {
                let other = view(inputs, 2 + kind * count + i)?;
                if other.dims != x.dims || other.dtype != x.dtype {
                    let found = format!("{} {:?}", other.dtype, other.dims);
                    let expected = format!("{} {:?}", x.dtype, x.dims);
                    return Err(OpError::constraint("gradient or state", expected, found));
                }
                floats(&other)
            };
            let (mut values, gradient) = (floats(&x)?, read(1)?);
            let mut states: Vec<Vec<f64>> =
                (0..self.states()).map(|k| read(2 + k)).collect::<Result<_, _>>()?;
            for (at, (value, &gradient)) in values.iter_mut().zip(&gradient).enumerate() {
                let state = |k: usize| states.get(k).and_then(|all| all.get(at)).copied().unwrap_or(0.0);
                let (next, after) = self.step(rate, steps, *value, gradient, [state(0), state(1)]);
                *value = next;
                states.iter_mut().zip(after).for_each(|(all, state)| all[at] = state);
            }
            for (kind, all) in std::iter::once(&values).chain(&states).enumerate() {
                results[kind].push(float_tensor(x.dtype, x.dims, all)?);
            }
        }
        Ok(results.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rule: Rule, regularization: f32, values: &[&[f32]]) -> Vec<Vec<f32>> {
        let (rate, steps) = (Tensor::scalar(0.1f32), Tensor::scalar(0i64));
        let values: Vec<Tensor> = values.iter().map(|x| Tensor::from_slice(&[x.len()], x).unwrap()).collect();
        let mut inputs = vec![Some(rate.view()), Some(steps.view())];
        inputs.extend(values.iter().map(|x| Some(x.view())));
        let y = Optimizer { rule, regularization }.reference(&inputs, 0).unwrap();
        y.iter().map(|y| y.to_vec().unwrap()).collect()
    }

    fn close(got: &[Vec<f32>], expected: &[&[f32]]) {
        assert_eq!(got.len(), expected.len());
        for (a, b) in got.iter().flatten().zip(expected.iter().copied().flatten()) {
            assert!((a - b).abs() < 1e-5, "{got:?} {expected:?}");
        }
    }

    #[test]
    fn steps_are_those_of_the_official_cases() {
        let rule = Rule::Adagrad { decay: 0.1, epsilon: 1e-5 };
        let values: [&[f32]; 6] = [&[1.0], &[1.0, 2.0], &[-1.0], &[-1.0, -3.0], &[2.0], &[4.0, 1.0]];
        let expected: [&[f32]; 4] =
            [&[1.057_696_2], &[1.044_685_4, 2.094_861_7], &[2.998_001], &[4.998_001, 9.988_004]];
        close(&run(rule, 0.001, &values), &expected);
        let rule = Rule::Adam { alpha: 0.95, beta: 0.1, epsilon: 1e-7, shrink: 0.0 };
        let values: [&[f32]; 4] = [&[1.2, 2.8], &[-0.94, -2.5], &[1.7, 3.6], &[0.1, 0.1]];
        let expected: [&[f32]; 3] =
            [&[1.025_036_3, 2.661_032_7], &[1.568_06, 3.295_139_8], &[0.803_210_8, 5.622_407]];
        close(&run(rule, 0.001, &values), &expected);
        let rule = Rule::Momentum { alpha: 0.95, beta: 0.1, nesterov: false };
        let expected: [&[f32]; 2] = [&[1.132_38, 2.707_72], &[0.676_2, 0.922_8]];
        close(&run(rule, 0.001, &values[..3]), &expected);
        let rule = Rule::Momentum { alpha: 0.95, beta: 1.0, nesterov: true };
        let expected: [&[f32]; 2] = [&[1.227_535, 2.957_14], &[0.687, 0.948]];
        close(&run(rule, 0.01, &values[..3]), &expected);
    }

    #[test]
    fn inputs_come_in_groups() {
        let op = Optimizer {
            rule: Rule::Momentum { alpha: 0.9, beta: 1.0, nesterov: false },
            regularization: 0.0,
        };
        assert_eq!(op.parameters(8).unwrap(), 2);
        assert!(op.parameters(2).is_err() && op.parameters(7).is_err() && op.parameters(0).is_err());
        let (rate, steps) = (Fact::known(DType::F32, &[]), Fact::known(DType::I64, &[]));
        let (a, b) = (Fact::known(DType::F32, &[1]), Fact::known(DType::F64, &[2]));
        let inputs = [&rate, &steps, &a, &b, &a, &b, &a, &b].map(Some);
        let facts = op.infer(&inputs, 4).unwrap();
        assert_eq!(
            facts.iter().map(|f| f.dtype).collect::<Vec<_>>(),
            [DType::F32, DType::F64, DType::F32, DType::F64]
        );
    }
}
