//! [BatchNormalization](https://onnx.ai/onnx/operators/onnx__BatchNormalization.html) with given statistics: a scale and
//! a shift per channel.

use std::sync::Arc;

use sardonyx_shaders::expression::Step;
use sardonyx_shaders::storage::{Storage, ValueType, Width};
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::batch_training::BatchTraining;
use super::cpu;
use super::normalize::reshaped;
use super::parameter::Stretch;
use crate::build::NodeSpec;
use crate::cpu::{fill_floats, floats as wide, is_float};
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, linear_grid, word};
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::numbers::{float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Cost, CpuKernel, CpuRun, Operator, Role};
use crate::problem::{Operand, Problem};
use crate::reduce::gpu::check_len;
use crate::repacked::Repacked;

/// `(x - mean) / √(variance + ε) · scale + bias`; inputs X, scale, bias, mean, variance.
#[derive(Clone, PartialEq, Debug)]
pub struct BatchNormalization {
    /// Added to the variance.
    pub epsilon: f32,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(5, 5, "5")?;
    let epsilon = spec.attributes.float_or("epsilon", 1e-5)?;
    // Only training updates statistics.
    let momentum = spec.attributes.float_or("momentum", 0.9)?;
    let training = match spec.opset {
        ..7 => {
            // Opsets 1 to 5 say which inputs may be overwritten, which is nobody's business here.
            spec.attributes.ints("consumed_inputs")?;
            !spec.attributes.flag("is_test", false)?
        }
        7..14 => false,
        _ => spec.attributes.flag("training_mode", false)?,
    };
    if training && spec.opset >= 14 {
        return Ok(Arc::new(BatchTraining { epsilon, momentum }));
    }
    if training || spec.outputs.iter().skip(1).any(|&wanted| wanted) {
        return Err(OpError::unsupported("BatchNormalization that computes statistics (training)"));
    }
    if spec.opset < 9 && !spec.attributes.flag("spatial", true)? {
        return Err(OpError::unsupported("BatchNormalization with statistics per element (spatial = 0)"));
    }
    Ok(Arc::new(BatchNormalization { epsilon }))
}

impl BatchNormalization {
    /// Factors and summands per channel, such that the result is `x · factor + summand`.
    ///
    /// # Errors
    /// When the tensors are not floats of one length.
    pub fn folded(&self, parameters: [&View<'_>; 4]) -> Result<(Vec<f64>, Vec<f64>), OpError> {
        let [scale, bias, mean, variance] = parameters.map(floats);
        let (scale, bias, mean, variance) = (scale?, bias?, mean?, variance?);
        let count = scale.len();
        if [bias.len(), mean.len(), variance.len()] != [count; 3] {
            return Err(OpError::constraint("parameters", format!("of length {count}"), "other lengths"));
        }
        let epsilon = f64::from(self.epsilon);
        let factors: Vec<f64> = scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
        let summands = bias.iter().zip(&mean).zip(&factors).map(|((b, m), f)| b - m * f).collect();
        Ok((factors, summands))
    }

    fn lower_one(&self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let kernel = table::POINTWISE.name;
        let refuse = |reason: String| Refusal { kernel, reason };
        let missing = || refuse("an input is missing".to_owned());
        let data = problem.input(0).ok_or_else(missing)?;
        check_len(kernel, data.len())?;
        let storage = problem.stored(kernel, Some(data))?;
        let width = Width::Four;
        let mut ending = problem.ending(kernel, ValueType::F32, width)?;
        let mut candidate = Candidate::default();
        let constants: Option<Vec<View<'_>>> =
            (1..5).map(|index| Some(problem.input(index)?.value?.view())).collect();
        let push = "a broadcast in more than eight dimensions";
        if let Some([scale, bias, mean, variance]) = constants.as_deref() {
            let error = |error: OpError| refuse(error.to_string());
            let (factors, summands) = self.folded([scale, bias, mean, variance]).map_err(error)?;
            let (own, output) = Stretch::Channels.views(&[factors.len()], data.dims).map_err(error)?;
            for values in [summands, factors] {
                let values = values.iter().map(|&x| x as f32).collect();
                let tensor = Tensor::from_vec(&[own[0]], values).map_err(|e| refuse(e.to_string()))?;
                let binding = Binding::Packed(candidate.packed.len());
                let storage = Some(Storage::F32);
                let operand = Operand { dtype: tensor.dtype(), dims: &own, value: None, storage };
                // What is put first last happens first: the factor before the summand.
                match candidate.packed.is_empty() {
                    true => ending.add_first(&operand, &output, width, binding, 1.0),
                    false => ending.multiply_first(&operand, &output, width, binding),
                }
                .ok_or_else(|| refuse(push.to_owned()))?;
                candidate.packed.push((Repacked::Made(tensor), Storage::F32));
            }
            let data = reshaped(data, data.dims);
            ending
                .add_first(&data, data.dims, width, Binding::Input(0), 1.0)
                .ok_or_else(|| refuse(push.to_owned()))?;
        } else {
            let first = ending.expression.operands.len();
            ending
                .push_operand(data, storage, data.dims, width, Binding::Input(0))
                .ok_or_else(|| refuse(push.to_owned()))?;
            for index in 1..5 {
                let operand = problem.input(index).ok_or_else(missing)?;
                let storage = problem.stored(kernel, Some(operand))?;
                let views = Stretch::Channels.views(operand.dims, data.dims);
                let (own, output) = views.map_err(|error| refuse(error.to_string()))?;
                ending
                    .push_operand(&reshaped(operand, &own), storage, &output, width, Binding::Input(index))
                    .ok_or_else(|| refuse(push.to_owned()))?;
            }
            let mut steps: Vec<Step> = (first..first + 5).map(Step::Operand).collect();
            if !self.epsilon.is_finite() {
                return Err(refuse("an epsilon without a WGSL literal".to_owned()));
            }
            steps.push(Step::Call {
                function: "batch_norm_f32".to_owned(),
                args: (0..5).collect(),
                params: vec![format!("f32({:?})", self.epsilon)],
                value: ValueType::F32,
            });
            ending.prepend(steps).ok_or_else(|| refuse("an epilogue out of order".to_owned()))?;
        }
        if ending.reads.len() + 1 > caps.storage_buffers as usize {
            return Err(refuse("more tensors than the device binds".to_owned()));
        }
        let params = params::pointwise::Pointwise { len: word(kernel, data.len())?, ..Default::default() };
        candidate.dispatches.push(Dispatch {
            kernel: Kernel {
                variant: &table::POINTWISE,
                inputs: Vec::new(),
                knobs: Vec::new(),
                expression: ending.expression,
            },
            reads: ending.reads,
            writes: vec![Binding::Output(0)],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: ending.operands,
            grid: linear_grid(kernel, data.len().div_ceil(4 * 64), caps)?,
        });
        Ok(candidate)
    }
}

impl Operator for BatchNormalization {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        for (input, fact) in inputs.iter().enumerate() {
            let fact = fact.ok_or(OpError::Internal("an input is missing"))?;
            if !fact.dtype.is_float() {
                return Err(OpError::Type { input, expected: "a float", got: fact.dtype });
            }
        }
        let data = inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        if let Some(dims) = data.dims() {
            for parameter in inputs.iter().skip(1).flatten().filter_map(|fact| fact.dims()) {
                Stretch::Channels.views(&parameter, &dims)?;
            }
        }
        Ok(vec![Fact { dtype: data.dtype, shape: data.shape.clone(), value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let [Some(x), Some(scale), Some(bias), Some(mean), Some(variance)] = inputs else {
            return Err(OpError::Internal("an input is missing"));
        };
        for parameter in [scale, bias, mean, variance] {
            Stretch::Channels.views(parameter.dims, x.dims)?;
        }
        let mut values = floats(x)?;
        let (scale, bias, mean, variance) = (floats(scale)?, floats(bias)?, floats(mean)?, floats(variance)?);
        let channel: usize = x.dims.iter().skip(2).product();
        for (i, x) in values.iter_mut().enumerate() {
            let c = i / channel % scale.len();
            *x = (*x - mean[c]) / (variance[c] + f64::from(self.epsilon)).sqrt() * scale[c] + bias[c];
        }
        Ok(vec![float_tensor(x.dtype, x.dims, &values)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let Some(data) = problem.input(0) else { return Ok(None) };
        if !is_float(data.dtype) || data.is_empty() {
            return Ok(None);
        }
        let channel = data.dims.iter().skip(2).product();
        Ok(Some(Box::new(BatchNormKernel { operator: self.clone(), channel })))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.lower_one(problem, caps))
    }

    fn role(&self) -> Role {
        Role::Anchor
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let cost = problem.default_cost();
        Cost { flops: cost.flops.saturating_mul(2), ..cost }
    }
}

struct BatchNormKernel {
    operator: BatchNormalization,
    /// Elements of a channel.
    channel: usize,
}

impl CpuKernel for BatchNormKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let [Some(x), Some(scale), Some(bias), Some(mean), Some(variance)] = run.inputs else {
            return Err(OpError::Internal("an input is missing"));
        };
        let output = run.outputs.first_mut().ok_or(OpError::Internal("an output is missing"))?;
        let (factors, summands) = self.operator.folded([scale, bias, mean, variance])?;
        let x = wide(x)?;
        fill_floats(output, |y| {
            cpu::rows(y, self.channel, run.finish, |start, row| {
                let c = start / self.channel % factors.len();
                let (factor, summand) = (factors[c] as f32, summands[c] as f32);
                row.iter_mut().zip(&x[start..]).for_each(|(y, x)| *y = x * factor + summand);
            })
        })
    }

    fn finishes(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    #[test]
    fn channels_are_scaled_and_shifted() {
        let op = BatchNormalization { epsilon: 1.0 };
        let x = Tensor::from_vec(&[2, 2, 1], vec![1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let [scale, bias, mean, variance] = [[2.0f32, 3.0], [10.0, 20.0], [1.0, 0.0], [3.0, 8.0]]
            .map(|all| Tensor::from_slice(&[2], &all).unwrap());
        let views = [&x, &scale, &bias, &mean, &variance].map(|tensor| Some(tensor.view()));
        let y = op.reference(&views, 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<f32>().unwrap(), [10.0, 22.0, 12.0, 24.0]);
        let [_, scale, bias, mean, variance] = views.map(Option::unwrap);
        let folded = op.folded([&scale, &bias, &mean, &variance]).unwrap();
        assert_eq!(folded, (vec![1.0, 1.0], vec![9.0, 20.0]));
    }

    #[test]
    fn statistics_are_given_only_by_training() {
        fn refused(opset: i64, attributes: &Attributes, outputs: &[bool]) -> bool {
            let inputs = &[true; 5];
            let spec = NodeSpec { op_type: "BatchNormalization", opset, inputs, outputs, attributes };
            matches!(build(&spec), Err(OpError::Unsupported { .. }))
        }
        let mut attributes = Attributes::default();
        assert!(!refused(15, &attributes, &[true, false]));
        assert!(refused(15, &attributes, &[true, true]));
        assert!(refused(9, &attributes, &[true; 5]));
        attributes.insert("training_mode", Attribute::Int(1));
        assert!(!refused(15, &attributes, &[true; 3]));
    }
}
