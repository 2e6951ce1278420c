//! [SkipLayerNormalization and SkipSimplifiedLayerNormalization](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md):
//! a residual connection, and the normalisation of its sum.

use std::sync::Arc;

use sardonyx_shaders::expression::{Expression, Output, Step};
use sardonyx_shaders::storage::{Storage, ValueType, Width};
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::normalize::{Normalize, Parameters, PreparedParameter, Span};
use super::parameter::Parameter;
use super::statistic::Statistic;
use super::{cpu, gpu};
use crate::broadcast::{self, Strides};
use crate::build::NodeSpec;
use crate::cpu::{fill_floats, floats as wide, is_float};
use crate::dispatch::{Binding, Candidate, Dispatch, Ending, Lowering, Refusal, Scratch, linear_grid, word};
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Cost, CpuKernel, CpuRun, Operator, Role};
use crate::problem::Problem;

/// Normalises input 0 + input 1 + bias over the last dimension. The outputs are the result, mean and inverse deviation
/// of each row, and the sum itself.
#[derive(Clone, PartialEq, Debug)]
pub struct SkipNormalize {
    /// What happens to the sum.
    pub normalize: Normalize,
    /// Indices of the inputs that scale and shift the result.
    pub parameters: [usize; 2],
    /// Index of the bias that belongs to the sum.
    pub bias: usize,
    /// Which outputs are wanted.
    pub wanted: [bool; 4],
}

/// No input has this index.
const NONE: usize = usize::MAX;

fn build(
    spec: &NodeSpec<'_>,
    name: &'static str,
    statistic: Statistic,
    parameters: [usize; 2],
    bias: usize,
) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, bias + 1, "3 to 5")?;
    if spec.outputs.len() > 4 {
        return Err(OpError::Arity { what: "outputs", expected: "1 to 4", got: spec.outputs.len() });
    }
    let epsilon = spec.attributes.float_or("epsilon", 1e-12)?;
    let wanted = std::array::from_fn(|index| spec.outputs.get(index).copied().unwrap_or(false));
    let normalize = Normalize::new(name, statistic, epsilon, Span::From(-1));
    Ok(Arc::new(SkipNormalize { normalize, parameters, bias, wanted }))
}

pub(super) fn layer(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    build(spec, "SkipLayerNormalization", Statistic::Variance, [2, 3], 4)
}

pub(super) fn simplified(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    build(spec, "SkipSimplifiedLayerNormalization", Statistic::MeanSquare, [2, NONE], 3)
}

impl SkipNormalize {
    /// The summands besides input 0.
    fn addends(&self) -> [usize; 2] {
        [1, self.bias]
    }

    /// Only the result, and perhaps the sum, are wanted. `Some(true)` with the sum.
    fn simple(&self, problem: &Problem<'_>) -> Option<bool> {
        let sum = match self.wanted {
            [true, false, false, sum] => sum,
            _ => return None,
        };
        (problem.outputs.len() == 1 + usize::from(sum)).then_some(sum)
    }

    fn lower_one(&self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let kernel = table::POINTWISE.name;
        let refuse = |reason: &str| Refusal { kernel, reason: reason.to_owned() };
        let sum = self.simple(problem).ok_or_else(|| refuse("its statistics are wanted"))?;
        let data = problem.input(0).ok_or_else(|| refuse("an input is missing"))?;
        let width = Width::Four;
        let mut ending = Ending {
            expression: Expression {
                accumulator: ValueType::F32,
                operands: Vec::new(),
                steps: vec![Step::Accumulator],
                outputs: vec![Output { step: 0, storage: Storage::F32, width }],
            },
            reads: Vec::new(),
            operands: Vec::new(),
        };
        let mut writes = vec![Binding::Scratch(0)];
        if sum {
            let storage = problem.stored(kernel, problem.outputs.get(1))?;
            ending.expression.outputs.push(Output { step: 0, storage, width });
            writes.push(Binding::Output(1));
        }
        for index in [self.bias, 1, 0] {
            let Some(operand) = problem.input(index) else { continue };
            problem.stored(kernel, Some(operand))?;
            ending
                .add_first(operand, data.dims, width, Binding::Input(index), 1.0)
                .ok_or_else(|| refuse("a broadcast in more than eight dimensions"))?;
        }
        let params = params::pointwise::Pointwise { len: word(kernel, data.len())?, ..Default::default() };
        let read = (Binding::Scratch(0), Storage::F32);
        let mut candidate = gpu::lower(&self.normalize, problem, data.dims, read, self.parameters, caps)?;
        candidate.scratch.push(Scratch { storage: Storage::F32, len: data.len() });
        let add = Dispatch {
            kernel: Kernel {
                variant: &table::POINTWISE,
                inputs: Vec::new(),
                knobs: Vec::new(),
                expression: ending.expression,
            },
            reads: ending.reads,
            writes,
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: ending.operands,
            grid: linear_grid(kernel, data.len().div_ceil(4 * 64), caps)?,
        };
        candidate.dispatches.insert(0, add);
        Ok(candidate)
    }
}

impl Operator for SkipNormalize {
    fn name(&self) -> &'static str {
        self.normalize.name
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        for (input, fact) in inputs.iter().enumerate() {
            if let Some(got) = fact.map(|fact| fact.dtype)
                && !got.is_float()
            {
                return Err(OpError::Type { input, expected: "a float", got });
            }
        }
        let data = inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        if let Some(dims) = data.dims() {
            for other in inputs.iter().skip(1).flatten().filter_map(|fact| fact.dims()) {
                if broadcast::dims(&[&other, &dims])? != dims {
                    let got = format!("{other:?}");
                    return Err(OpError::constraint("an addend or scale", format!("within {dims:?}"), got));
                }
            }
        }
        let like = |dtype: DType, shape: Option<Vec<Dim>>| Fact { dtype, shape, value: None, sizes: None };
        let mut statistics = data.shape.clone();
        if let Some(last) = statistics.as_mut().and_then(|shape| shape.last_mut()) {
            *last = Dim::Known(1);
        }
        let mut facts = vec![
            like(data.dtype, data.shape.clone()),
            like(DType::F32, statistics.clone()),
            like(DType::F32, statistics),
            like(data.dtype, data.shape.clone()),
        ];
        facts.truncate(outputs.max(1));
        Ok(facts)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let input = |index: usize| inputs.get(index).and_then(Option::as_ref);
        let data = input(0).ok_or(OpError::Internal("an input is missing"))?;
        let mut values = floats(data)?;
        for addend in self.addends().into_iter().filter_map(input) {
            if broadcast::dims(&[addend.dims, data.dims])? != data.dims {
                return Err(OpError::Internal("an addend beyond the input"));
            }
            let strides = Strides::new(addend.dims, data.dims);
            let numbers = floats(addend)?;
            values.iter_mut().enumerate().for_each(|(i, x)| *x += numbers[strides.offset(i)]);
        }
        let sum = float_tensor(data.dtype, data.dims, &values)?;
        let (means, factors) = self.normalize.compute(&mut values, data.dims)?;
        let parameters = self.parameters.map(input);
        self.normalize.apply_parameters(&mut values, data.dims, parameters)?;
        let mut rows = data.dims.to_vec();
        if let Some(last) = rows.last_mut() {
            *last = 1;
        }
        let mut all = vec![
            float_tensor(data.dtype, data.dims, &values)?,
            float_tensor(DType::F32, &rows, &means)?,
            float_tensor(DType::F32, &rows, &factors)?,
            sum,
        ];
        all.truncate(outputs.max(1));
        Ok(all)
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let Some(data) = problem.input(0) else { return Ok(None) };
        let floats = problem.inputs.iter().flatten().chain(&problem.outputs).all(|x| is_float(x.dtype));
        let (Some(sum), true, false) = (self.simple(problem), floats, data.is_empty()) else {
            return Ok(None);
        };
        let Some(lines) = self.normalize.lines(data.dims)? else { return Ok(None) };
        let parameters = self.normalize.parameter_views(problem, self.parameters)?;
        let addend = |index: usize| Some((index, Strides::new(problem.input(index)?.dims, data.dims)));
        Ok(Some(Box::new(SkipKernel {
            statistic: self.normalize.statistic,
            epsilon: self.normalize.epsilon,
            len: lines.len,
            addends: self.addends().into_iter().filter_map(addend).collect(),
            parameters: parameters.iter().map(PreparedParameter::new).collect(),
            sum,
        })))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.lower_one(problem, caps))
    }

    fn role(&self) -> Role {
        if self.wanted == [true, false, false, false] { Role::Anchor } else { Role::Opaque }
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let cost = problem.default_cost();
        Cost { flops: cost.flops.saturating_mul(9), ..cost }
    }
}

struct SkipKernel {
    statistic: Statistic,
    epsilon: f32,
    len: usize,
    addends: Vec<(usize, Strides)>,
    parameters: Vec<PreparedParameter>,
    sum: bool,
}

impl CpuKernel for SkipKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let input = |index: usize| {
            run.inputs.get(index).copied().flatten().ok_or(OpError::Internal("an input is missing"))
        };
        let x = wide(&input(0)?)?;
        let mut addends = Vec::with_capacity(self.addends.len());
        for (index, strides) in &self.addends {
            addends.push((wide(&input(*index)?)?, strides));
        }
        let parameters = Parameters::new(&self.parameters, run.inputs)?;
        let add = |start: usize, row: &mut [f32]| {
            row.copy_from_slice(&x[start..start + row.len()]);
            for (values, strides) in &addends {
                Parameter::new(values, strides).add(row, start);
            }
        };
        let normalize = |start: usize, row: &mut [f32]| {
            cpu::normalize_row(self.statistic, self.epsilon, row);
            parameters.apply(row, start);
        };
        let (output, rest) =
            run.outputs.split_first_mut().ok_or(OpError::Internal("an output is missing"))?;
        if !self.sum {
            return fill_floats(output, |y| {
                cpu::rows(y, self.len, run.finish, |start, row| {
                    add(start, row);
                    normalize(start, row);
                })
            });
        }
        let sum = rest.first_mut().ok_or(OpError::Internal("an output is missing"))?;
        fill_floats(sum, |sum| {
            cpu::rows(sum, self.len, None, add)?;
            fill_floats(output, |y| {
                cpu::rows(y, self.len, run.finish, |start, row| {
                    row.copy_from_slice(&sum[start..start + row.len()]);
                    normalize(start, row);
                })
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
    fn the_sum_is_normalised_and_handed_on() {
        let mut attributes = Attributes::default();
        attributes.insert("epsilon", Attribute::Float(0.0));
        let spec = NodeSpec {
            op_type: "SkipLayerNormalization",
            opset: 1,
            inputs: &[true; 5],
            outputs: &[true, false, false, true],
            attributes: &attributes,
        };
        let op = layer(&spec).unwrap();
        let tensor = |dims: &[usize], all: &[f32]| Tensor::from_slice(dims, all).unwrap();
        let x = tensor(&[1, 2, 2], &[1.0, 2.0, 3.0, 0.0]);
        let skip = tensor(&[2, 2], &[0.0, 1.0, 1.0, 1.0]);
        let (gamma, beta, bias) =
            (tensor(&[2], &[2.0, 1.0]), tensor(&[2], &[0.0, 5.0]), tensor(&[2], &[0.5, 0.5]));
        let views = [&x, &skip, &gamma, &beta, &bias].map(|tensor| Some(tensor.view()));
        let all = op.reference(&views, 4).unwrap();
        assert_eq!(all[3].to_vec::<f32>().unwrap(), [1.5, 3.5, 4.5, 1.5]);
        assert_eq!(all[0].to_vec::<f32>().unwrap(), [-2.0, 6.0, 2.0, 4.0]);
        assert_eq!((all[1].dims(), all[1].to_vec::<f32>().unwrap()), (&[1, 2, 1][..], vec![2.5, 3.0]));
        assert_eq!(op.role(), Role::Opaque);
    }
}
