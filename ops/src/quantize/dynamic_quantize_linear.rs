//! [`DynamicQuantizeLinear`](https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html): floats as bytes, with the
//! scale and the zero point that suit them.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::granularity::quantized;
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{required, view};
use crate::operator::Operator;
use crate::problem::Problem;

/// Bytes, scale, zero point: such that 0 and every element are in range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DynamicQuantizeLinear;

/// Builds [`DynamicQuantizeLinear`].
///
/// # Errors
/// When there is not one input.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(DynamicQuantizeLinear))
}

fn expect_f32(dtype: DType) -> Result<(), OpError> {
    match dtype {
        DType::F32 => Ok(()),
        got => Err(OpError::Type { input: 0, expected: "f32", got }),
    }
}

/// The scale and the zero point that suit these numbers.
fn suited(x: &[f32]) -> (f32, f32) {
    let (least, greatest) =
        x.iter().fold((0f32, 0f32), |(least, greatest), &x| (least.min(x), greatest.max(x)));
    let scale = (greatest - least) / 255.0;
    // Nothing but zeros can have any scale.
    let scale = if scale == 0.0 { 1.0 } else { scale };
    (scale, (0.0 - least / scale).clamp(0.0, 255.0).round_ties_even())
}

impl Operator for DynamicQuantizeLinear {
    fn name(&self) -> &'static str {
        "DynamicQuantizeLinear"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        expect_f32(x.dtype)?;
        let y = Fact { dtype: DType::U8, shape: x.shape.clone(), value: None, sizes: None };
        let all = [y, Fact::known(DType::F32, &[]), Fact::known(DType::U8, &[])];
        Ok(all.into_iter().take(outputs.max(1)).collect())
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        expect_f32(x.dtype)?;
        let data: Vec<f32> = numbers::floats(&x)?.into_iter().map(|x| x as f32).collect();
        let (scale, zero_point) = suited(&data);
        let byte = |x: f32| quantized(f64::from(x / scale), f64::from(zero_point), (0.0, 255.0)) as u8;
        let y = Tensor::from_vec(x.dims, data.into_iter().map(byte).collect::<Vec<u8>>())?;
        let all = [y, Tensor::scalar(scale), Tensor::scalar(zero_point as u8)];
        Ok(all.into_iter().take(outputs.max(1)).collect())
    }

    fn lower(&self, _problem: &Problem<'_>, _caps: &Capabilities) -> Lowering {
        Lowering::refused("DynamicQuantizeLinear", "it looks at all elements before it converts the first")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(x: &[f32]) -> (Vec<u8>, f32, u8) {
        let x = Tensor::from_slice(&[x.len()], x).unwrap();
        let y = DynamicQuantizeLinear.reference(&[Some(x.view())], 3).unwrap();
        (y[0].to_vec().unwrap(), y[1].to_vec().unwrap()[0], y[2].to_vec().unwrap()[0])
    }

    #[test]
    fn the_official_cases() {
        let y = run(&[0.0, 2.0, -3.0, -2.5, 1.34, 0.5]);
        assert_eq!(y, (vec![153, 255, 0, 26, 221, 179], 0.019_607_844, 153));
        assert_eq!(
            run(&[-1.0, -2.1, -1.3, -2.5, -3.34, -4.0]),
            (vec![191, 121, 172, 96, 42, 0], 0.015_686_275, 255)
        );
        assert_eq!(run(&[0.0, 0.0]), (vec![0, 0], 1.0, 0));
        assert_eq!(run(&[]), (vec![], 1.0, 0));
    }
}
