//! [CausalConvWithState](https://onnx.ai/onnx/operators/onnx__CausalConvWithState.html): each channel filtered along
//! time, with the inputs before the first taken from an earlier run.

use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::attributes::Attribute;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::graph::ValueId;
use crate::ir::numbers::{filled, float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Expansion, Operator};
use crate::sketch::{self, Given, Sketch};

const BIAS: usize = 2;
const STATE: usize = 3;

/// Input 0 filtered by input 1. Outputs are the result and the last inputs, for the next run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CausalConv {
    /// Each result is multiplied by its logistic function.
    swish: bool,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 4, "2 to 4")?;
    let swish = match spec.attributes.str_or("activation", "none".to_owned())?.as_str() {
        "none" => false,
        "silu" | "swish" => true,
        _ => return Err(OpError::Attribute { name: "activation", expected: "none, silu or swish" }),
    };
    Ok(Arc::new(CausalConv { swish }))
}

/// Batch, channels, length and taps of the filter, once the dimensions are found to fit.
fn check(
    x: &[usize],
    filter: &[usize],
    bias: Option<&[usize]>,
    state: Option<&[usize]>,
) -> Result<[usize; 4], OpError> {
    let &[batch, channels, length] = x else {
        return Err(OpError::constraint("dimensions of the input", 3, x.len()));
    };
    let taps = filter.get(2).copied().filter(|&taps| taps > 0).unwrap_or(1);
    let expect = |what: &'static str, got: &[usize], expected: &[usize]| {
        if got == expected {
            return Ok(());
        }
        Err(OpError::constraint(what, format!("{expected:?}"), format!("{got:?}")))
    };
    expect("filter", filter, &[channels, 1, taps])?;
    bias.map_or(Ok(()), |bias| expect("bias", bias, &[channels]))?;
    state.map_or(Ok(()), |state| expect("state", state, &[batch, channels, taps - 1]))?;
    Ok([batch, channels, length, taps])
}

impl CausalConv {
    fn draw(&self, sketch: &mut Sketch, given: &Given) -> Result<Vec<ValueId>, OpError> {
        let input = |index: usize| optional(given, index).ok_or(OpError::Internal("an input is missing"));
        let (x, filter) = (input(0)?, input(1)?);
        let (bias, state) = (optional(given, BIAS), optional(given, STATE));
        let dims_of = |value: Option<ValueId>| value.map(|value| sketch.dims(value)).transpose();
        let (bias_dims, state_dims) = (dims_of(bias)?, dims_of(state)?);
        let [batch, channels, length, taps] =
            check(&sketch.dims(x)?, &sketch.dims(filter)?, bias_dims.as_deref(), state_dims.as_deref())?;
        let state = match state {
            Some(state) => state,
            None => {
                let zero = sketch.number(sketch.dtype(x)?, 0.0)?;
                sketch.stretch(zero, &[batch, channels, taps - 1])?
            }
        };
        let all = if taps == 1 { x } else { sketch.concat(2, &[state, x])? };
        let group = i64::try_from(channels).map_err(|_| OpError::Size)?;
        let mut operands = vec![all, filter];
        operands.extend(bias);
        let mut result = sketch.call("Conv", &[("group", Attribute::Int(group))], &operands)?;
        if self.swish {
            result = sketch.call("Swish", &[], &[result])?;
        }
        let end = length.checked_add(taps - 1).ok_or(OpError::Size)?;
        let next = if taps == 1 { state } else { sketch.slice(all, 2, [length, end], 1)? };
        Ok(vec![result, next])
    }
}

impl Operator for CausalConv {
    fn name(&self) -> &'static str {
        "CausalConvWithState"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, filter) = (required(inputs, 0)?, required(inputs, 1)?);
        if !matches!(x.dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64) {
            return Err(OpError::Type { input: 0, expected: "a float", got: x.dtype });
        }
        if let (Some(x), Some(filter)) = (x.dims(), filter.dims()) {
            let dims = |index| optional(inputs, index).and_then(Fact::dims);
            check(&x, &filter, dims(BIAS).as_deref(), dims(STATE).as_deref())?;
        }
        let state = match (x.shape.as_deref(), filter.shape.as_deref()) {
            (Some([batch, channels, _]), Some([_, _, taps])) => {
                Fact::new(x.dtype, vec![batch.clone(), channels.clone(), taps.offset(-1)?])
            }
            _ => Fact::unranked(x.dtype),
        };
        let mut all = vec![Fact { value: None, sizes: None, ..x.clone() }, state];
        all.truncate(outputs.max(1));
        Ok(all)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, filter) = (view(inputs, 0)?, view(inputs, 1)?);
        let (bias, state) = (optional(inputs, BIAS), optional(inputs, STATE));
        let [batch, channels, length, taps] =
            check(x.dims, filter.dims, bias.map(|bias| bias.dims), state.map(|state| state.dims))?;
        let dtype = x.dtype;
        let (x, filter) = (floats(&x)?, floats(&filter)?);
        let bias = bias.map(|bias| floats(&bias)).transpose()?;
        let state = state.map(|state| floats(&state)).transpose()?;
        let mut result = filled(&[batch, channels, length], 0.0)?;
        let mut next = filled(&[batch, channels, taps - 1], 0.0)?;
        // The line of a channel, with the state in front.
        let at = |line: usize, position: usize| match position.checked_sub(taps - 1) {
            Some(position) => x[line * length + position],
            None => state.as_ref().map_or(0.0, |state| state[line * (taps - 1) + position]),
        };
        for (i, slot) in result.iter_mut().enumerate() {
            let (line, position) = (i / length, i % length);
            let channel = line % channels;
            let filter = &filter[channel * taps..(channel + 1) * taps];
            let products = filter.iter().enumerate().map(|(tap, w)| w * at(line, position + tap));
            let sum = products.sum::<f64>() + bias.as_ref().map_or(0.0, |bias| bias[channel]);
            *slot = if self.swish { sum / (1.0 + (-sum).exp()) } else { sum };
        }
        for (i, slot) in next.iter_mut().enumerate() {
            *slot = at(i / (taps - 1), length + i % (taps - 1));
        }
        let mut all = vec![
            float_tensor(dtype, &[batch, channels, length], &result)?,
            float_tensor(dtype, &[batch, channels, taps - 1], &next)?,
        ];
        all.truncate(outputs.max(1));
        Ok(all)
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        // A convolution of nothing is not one.
        if inputs
            .iter()
            .flatten()
            .filter_map(|fact| fact.dims())
            .any(|dims| dims.len() == 3 && dims[..2].contains(&0))
        {
            return Ok(Expansion::Stays);
        }
        sketch::expansion(inputs, &|sketch, given| self.draw(sketch, given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_inputs_come_before_the_first() {
        let tensor = |dims: &[usize], all: &[f32]| Tensor::from_slice(dims, all).unwrap();
        let x = tensor(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let filter = tensor(&[2, 1, 3], &[1.0, 10.0, 100.0, 0.0, 0.0, 1.0]);
        let (bias, state) = (tensor(&[2], &[0.5, 0.0]), tensor(&[1, 2, 2], &[8.0, 9.0, 6.0, 7.0]));
        let check = |op: CausalConv, inputs: &[&Tensor], expected: [&[f32]; 2]| {
            let views: Vec<_> = inputs.iter().map(|x| Some(x.view())).collect();
            let plain = op.reference(&views, 2).unwrap();
            let drawn = sketch::evaluate(&views, 2, &|sketch, given| op.draw(sketch, given)).unwrap();
            for all in [plain, drawn] {
                for (tensor, expected) in all.iter().zip(expected) {
                    let got = tensor.to_vec::<f32>().unwrap();
                    assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?}");
                    assert_eq!(tensor.dims(), [1, 2, 2]);
                }
            }
        };
        let plain = CausalConv { swish: false };
        check(plain, &[&x, &filter], [&[100.0, 210.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.0]]);
        check(plain, &[&x, &filter, &bias, &state], [&[198.5, 219.5, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.0]]);
        let swish = |x: f32| x / (1.0 + (-x).exp());
        let expected = [100.0, 210.0, swish(3.0), swish(4.0)];
        check(CausalConv { swish: true }, &[&x, &filter], [&expected, &[1.0, 2.0, 3.0, 4.0]]);
        let views = [&x, &bias].map(|x| Some(x.view()));
        assert!(plain.reference(&views, 1).is_err());
    }
}
