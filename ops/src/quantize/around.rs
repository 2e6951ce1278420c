//! Operators of [com.microsoft](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md) that are a
//! standard operator between dequantized inputs and a quantized output: QLinearAdd, QLinearMul, QLinearSigmoid,
//! QLinearLeakyRelu, QLinearConcat, QLinearAveragePool and QLinearGlobalAveragePool.

use std::sync::Arc;

use super::dequantize_linear::DequantizeLinear;
use super::quantize_linear::QuantizeLinear;
use crate::build::{NodeSpec, OperatorRow};
use crate::compose::Composition;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::graph::ValueId;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Expansion, Operator};
use crate::{movement, pointwise, pool, reduce};

/// An operator on numbers, done on quantized ones.
#[derive(Clone, Debug)]
pub struct Around {
    /// The name of the whole.
    name: &'static str,
    /// What is done to the numbers.
    inner: Arc<dyn Operator>,
    /// The index of each quantized input; its scale and zero point follow.
    quantized: Vec<usize>,
    /// The index of the output's scale; its zero point follows.
    output: usize,
}

const DEQUANTIZE: DequantizeLinear = DequantizeLinear { axis: 1, block: 0, to: None };

/// Builds QLinearAdd.
pub(super) fn build_add(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    around(spec, "QLinearAdd", pointwise::OPERATORS, "Add", 2)
}

/// Builds QLinearMul.
pub(super) fn build_mul(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    around(spec, "QLinearMul", pointwise::OPERATORS, "Mul", 2)
}

/// Builds QLinearSigmoid.
pub(super) fn build_sigmoid(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    around(spec, "QLinearSigmoid", pointwise::OPERATORS, "Sigmoid", 1)
}

/// Builds QLinearLeakyRelu.
pub(super) fn build_leaky_relu(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    around(spec, "QLinearLeakyRelu", pointwise::OPERATORS, "LeakyRelu", 1)
}

/// Builds QLinearAveragePool.
pub(super) fn build_average_pool(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    channels_second(spec)?;
    around(spec, "QLinearAveragePool", pool::OPERATORS, "AveragePool", 1)
}

/// Builds QLinearGlobalAveragePool.
pub(super) fn build_global_average_pool(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    channels_second(spec)?;
    around(spec, "QLinearGlobalAveragePool", reduce::OPERATORS, "GlobalAveragePool", 1)
}

/// Builds QLinearConcat, whose inputs follow the scale and zero point of the output.
pub(super) fn build_concat(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let name = "QLinearConcat";
    spec.expect_inputs(5, usize::MAX, "at least 5")?;
    let quantized: Vec<usize> = (2..spec.inputs.len()).step_by(3).collect();
    let inner = standard(spec, movement::OPERATORS, "Concat", quantized.len())?;
    Ok(Arc::new(Around { name, inner, quantized, output: 0 }))
}

/// Refuses channels behind the spatial axes.
fn channels_second(spec: &NodeSpec<'_>) -> Result<(), OpError> {
    match spec.attributes.flag("channels_last", false)? {
        true => Err(OpError::unsupported("attribute channels_last")),
        false => Ok(()),
    }
}

/// An operator of so many quantized inputs; scale and zero point of the output follow them.
fn around(
    spec: &NodeSpec<'_>,
    name: &'static str,
    rows: &[OperatorRow],
    inner: &'static str,
    count: usize,
) -> Result<Arc<dyn Operator>, OpError> {
    let output = 3 * count;
    spec.expect_inputs(2, output + 2, "scale and zero point with each input and for the output")?;
    let inner = standard(spec, rows, inner, count)?;
    Ok(Arc::new(Around { name, inner, quantized: (0..count).map(|input| 3 * input).collect(), output }))
}

/// The standard operator, with the attributes of the whole.
fn standard(
    spec: &NodeSpec<'_>,
    rows: &[OperatorRow],
    name: &'static str,
    inputs: usize,
) -> Result<Arc<dyn Operator>, OpError> {
    // A version in which these operators have the attributes that their quantized forms have.
    const OPSET: i64 = 14;
    let rows = rows.iter().filter(|row| row.domain.is_empty() && row.name == name && row.since <= OPSET);
    let row = rows.max_by_key(|row| row.since).ok_or(OpError::Internal("no such operator"))?;
    let inputs = vec![true; inputs];
    let outputs = &[true];
    (row.build)(&NodeSpec {
        op_type: name,
        opset: OPSET,
        inputs: &inputs,
        outputs,
        attributes: spec.attributes,
    })
}

impl Around {
    /// The operator that quantizes the output, whose type is that of the inputs where a zero point does not say it.
    fn quantize(&self, input: DType, zero_point: Option<DType>) -> Result<QuantizeLinear, OpError> {
        if !matches!(input, DType::I8 | DType::U8) {
            return Err(OpError::Type { input: self.quantized[0], expected: "i8 or u8", got: input });
        }
        let to = Some(zero_point.unwrap_or(input));
        Ok(QuantizeLinear { axis: 1, block: 0, saturate: true, to, precision: None })
    }
}

impl Operator for Around {
    fn name(&self) -> &'static str {
        self.name
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        let mut graph = Composition::default();
        let mut given = Vec::new();
        let zero_point = optional(inputs, self.output + 1);
        let mut output = vec![graph.input(self.output, required(inputs, self.output)?)];
        output.extend(zero_point.map(|fact| graph.input(self.output + 1, fact)));
        let first = required(inputs, self.quantized[0])?.dtype;
        let quantize: Arc<dyn Operator> = Arc::new(self.quantize(first, zero_point.map(|fact| fact.dtype))?);
        let quantized = |graph: &mut Composition, x: ValueId| {
            graph.node(Arc::clone(&quantize), &[&[x], output.as_slice()].concat())
        };
        // What only moves elements moves bytes, quantized element by element before.
        let moves = self.inner.name() == "Concat";
        for &first in &self.quantized {
            let mut operands = vec![graph.input(first, required(inputs, first)?)];
            operands.push(graph.input(first + 1, required(inputs, first + 1)?));
            operands.extend(optional(inputs, first + 2).map(|fact| graph.input(first + 2, fact)));
            let x = graph.node(Arc::new(DEQUANTIZE), &operands);
            given.push(if moves { quantized(&mut graph, x) } else { x });
        }
        let result = graph.node(Arc::clone(&self.inner), &given);
        let y = if moves { result } else { quantized(&mut graph, result) };
        Ok(graph.finish(&[y]))
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let mut given = Vec::new();
        for &first in &self.quantized {
            let operands = [first, first + 1, first + 2].map(|index| optional(inputs, index));
            given.extend(DEQUANTIZE.infer(&operands, 1)?);
        }
        let given: Vec<Option<&Fact>> = given.iter().map(Some).collect();
        let result = self.inner.infer(&given, 1)?;
        let zero_point = optional(inputs, self.output + 1);
        let first = required(inputs, self.quantized[0])?.dtype;
        let quantize = self.quantize(first, zero_point.map(|fact| fact.dtype))?;
        quantize.infer(&[result.first(), optional(inputs, self.output), zero_point], 1)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let mut given = Vec::new();
        for &first in &self.quantized {
            let operands = [first, first + 1, first + 2].map(|index| optional(inputs, index));
            given.extend(DEQUANTIZE.reference(&operands, 1)?);
        }
        let given: Vec<Option<View<'_>>> = given.iter().map(|tensor| Some(tensor.view())).collect();
        let result = self.inner.reference(&given, 1)?;
        let zero_point = optional(inputs, self.output + 1);
        let quantize =
            self.quantize(view(inputs, self.quantized[0])?.dtype, zero_point.map(|view| view.dtype))?;
        quantize.reference(&[result.first().map(Tensor::view), optional(inputs, self.output), zero_point], 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    fn bytes(x: &[u8]) -> Option<Tensor> {
        Some(Tensor::from_slice(&[x.len()], x).unwrap())
    }

    fn scale(x: f32) -> Option<Tensor> {
        Some(Tensor::scalar(x))
    }

    fn zero(x: u8) -> Option<Tensor> {
        Some(Tensor::scalar(x))
    }

    type Build = fn(&NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError>;

    fn run(build: Build, inputs: &[Option<Tensor>], attributes: &[(&str, Attribute)]) -> Vec<u8> {
        let mut all = Attributes::default();
        attributes.iter().for_each(|(name, value)| all.insert(*name, value.clone()));
        let given: Vec<bool> = inputs.iter().map(Option::is_some).collect();
        let spec = NodeSpec { op_type: "", opset: 1, inputs: &given, outputs: &[true], attributes: &all };
        let op = build(&spec).unwrap();
        assert!(all.unread().is_empty());
        let facts: Vec<_> =
            inputs.iter().map(|x| x.as_ref().map(|x| Fact::known(x.dtype(), x.dims()))).collect();
        let facts: Vec<_> = facts.iter().map(Option::as_ref).collect();
        assert!(matches!(op.expand(&facts).unwrap(), Expansion::Graph { .. }));
        let views: Vec<_> = inputs.iter().map(|x| x.as_ref().map(Tensor::view)).collect();
        let y = op.reference(&views, 1).unwrap().remove(0);
        let fact = op.infer(&facts, 1).unwrap().remove(0);
        assert_eq!((fact.dtype, fact.dims().unwrap().as_slice()), (y.dtype(), y.dims()));
        y.bytes().to_vec()
    }

    // The numbers are those of ONNX Runtime 1.32.
    #[test]
    fn element_by_element() {
        let (a, b) = (bytes(&[0, 10, 100, 128, 200, 255]), bytes(&[255, 3, 128, 90, 17, 128]));
        let two = [a.clone(), scale(0.05), zero(128), b, scale(0.02), zero(100), scale(0.1), zero(130)];
        assert_eq!(run(build_add, &two, &[]), [97, 52, 122, 128, 149, 199]);
        assert_eq!(run(build_mul, &two, &[]), [0, 244, 122, 130, 70, 166]);
        let one = [a.clone(), scale(0.05), zero(128), scale(1.0 / 256.0), zero(0)];
        assert_eq!(run(build_sigmoid, &one, &[]), [0, 1, 51, 128, 249, 255]);
        let signed = Some(Tensor::from_slice(&[4], &[-128i8, 10, 100, -56]).unwrap());
        let one = [signed, scale(0.05), None, scale(0.04)];
        let y = run(build_leaky_relu, &one, &[("alpha", Attribute::Float(0.1))]);
        assert_eq!(y.iter().map(|&x| x as i8).collect::<Vec<_>>(), [-16, 12, 125, -7]);
    }

    #[test]
    fn joined_and_pooled() {
        let (a, b) = (bytes(&[0, 100, 255]), bytes(&[7, 200]));
        let all = [scale(0.1), zero(10), a, scale(0.05), zero(128), b, scale(0.2), zero(0)];
        assert_eq!(run(build_concat, &all, &[("axis", Attribute::Int(0))]), [0, 0, 74, 24, 255]);
        let x: Vec<u8> = (0..16).map(|i| i * 13).collect();
        let x = Tensor::from_slice(&[1, 1, 4, 4], &x).unwrap();
        let all = [Some(x.clone()), scale(0.05), zero(100), scale(0.06), zero(90)];
        let mut attributes = vec![
            ("kernel_shape", Attribute::Ints(vec![3, 3])),
            ("pads", Attribute::Ints(vec![1; 4])),
            ("strides", Attribute::Ints(vec![2, 2])),
        ];
        assert_eq!(run(build_average_pool, &all, &attributes), [34, 50, 99, 115]);
        attributes.push(("count_include_pad", Attribute::Int(1)));
        assert_eq!(run(build_average_pool, &all, &attributes), [65, 63, 96, 115]);
        let all = [Some(x), scale(0.05), zero(100), scale(0.03), zero(90)];
        assert_eq!(run(build_global_average_pool, &all, &[("channels_last", Attribute::Int(0))]), [86]);
    }
}
