//! [`DequantizeLinear`](https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html): multiples of a scale as numbers.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::composed::Steps;
use super::granularity::{Granularity, range, reals, rounded, zero_points};
use super::quantize_linear::type_attribute;
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::narrow;
use crate::ir::numbers;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Expansion, Operator};
use crate::pointwise::cast_narrow::is_wide;
use crate::pointwise::functions::{MUL, SUB};
use crate::problem::Problem;

/// `(x − zero point) · scale`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DequantizeLinear {
    /// The axis that scales go along, unless there is one for all.
    pub axis: i64,
    /// Elements along the axis that share a scale; 0 without blocks.
    pub block: i64,
    /// The type of the output; that of the scale when absent.
    pub to: Option<DType>,
}

/// Builds [`DequantizeLinear`].
///
/// # Errors
/// When there are not two or three inputs, or an attribute is no type.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 3, "2 or 3")?;
    Ok(Arc::new(DequantizeLinear {
        axis: spec.attributes.int_or("axis", 1)?,
        block: spec.attributes.int_or("block_size", 0)?,
        to: type_attribute(spec, "output_dtype")?,
    }))
}

impl DequantizeLinear {
    /// The type of the output.
    fn output(&self, x: DType, scale: DType, zero_point: Option<DType>) -> Result<DType, OpError> {
        use DType::*;
        let is_code = narrow::is_narrow_float(x) && x != F8E8M0;
        if !(x == I32 || range(x).is_some() || is_code) {
            return Err(OpError::Type { input: 0, expected: "a quantized type", got: x });
        }
        if let Some(got) = zero_point.filter(|&zero_point| zero_point != x) {
            return Err(OpError::Type { input: 2, expected: "the type of input 0", got });
        }
        if !matches!(scale, F32 | F16 | BF16 | F8E8M0) {
            return Err(OpError::Type { input: 1, expected: "f32, f16, bf16 or f8e8m0", got: scale });
        }
        match self.to.unwrap_or(scale) {
            to @ (F32 | F16 | BF16) => Ok(to),
            to => Err(OpError::constraint("output type", "f32, f16 or bf16", to)),
        }
    }
}

impl Operator for DequantizeLinear {
    fn name(&self) -> &'static str {
        "DequantizeLinear"
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        let (x, scale) = (required(inputs, 0)?, required(inputs, 1)?);
        let zero_point = optional(inputs, 2);
        let to = self.output(x.dtype, scale.dtype, zero_point.map(|fact| fact.dtype))?;
        // The difference of two i32 is not that of their floats.
        let is_exact = x.dtype != DType::I32 || zero_point.is_none();
        if !(is_wide(x.dtype) && is_wide(scale.dtype) && is_exact) {
            return Ok(Expansion::Stays);
        }
        let mut steps = Steps::default();
        let mut y = steps.operand(0, x.dtype, DType::F32);
        if let Some(zero_point) = zero_point {
            let zero_point = steps.operand(2, zero_point.dtype, DType::F32);
            y = steps.call(&SUB, &[y, zero_point], &[]);
        }
        let scale = steps.operand(1, scale.dtype, DType::F32);
        let y = steps.call(&MUL, &[y, scale], &[]);
        let y = steps.cast(y, to);
        steps.expand("DequantizeLinear", y, inputs, self.axis, self.block)
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, scale) = (required(inputs, 0)?, required(inputs, 1)?);
        let dtype = self.output(x.dtype, scale.dtype, optional(inputs, 2).map(|fact| fact.dtype))?;
        Ok(vec![Fact { dtype, shape: x.shape.clone(), value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, scale, zero_point) = (view(inputs, 0)?, view(inputs, 1)?, optional(inputs, 2));
        let to = self.output(x.dtype, scale.dtype, zero_point.map(|view| view.dtype))?;
        let granularity = Granularity::new(x.dims, scale.dims, self.axis, self.block)?;
        let scales = numbers::floats(&scale)?;
        let zero_points = zero_points(zero_point, scales.len())?;
        let short = || OpError::Internal("fewer scales than the dimensions say");
        let mut values = reals(&x)?;
        for (i, x) in values.iter_mut().enumerate() {
            let at = granularity.scale(i);
            let zero_point = match &zero_points {
                Some(all) => *all.get(at).ok_or_else(short)?,
                None => 0.0,
            };
            // The product of two f32 is exact here, so that it is rounded once.
            *x = rounded(DType::F32, *x - zero_point) * scales.get(at).ok_or_else(short)?;
        }
        Ok(vec![numbers::float_tensor(to, x.dims, &values)?])
    }

    fn lower(&self, _problem: &Problem<'_>, _caps: &Capabilities) -> Lowering {
        Lowering::refused(
            "DequantizeLinear",
            "scales along blocks or types narrower than a byte stay on the CPU",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::composed::tests::agrees;
    use super::*;

    const PLAIN: DequantizeLinear = DequantizeLinear { axis: 1, block: 0, to: None };

    fn run(op: &DequantizeLinear, x: &Tensor, scale: &Tensor, zero_point: Option<&Tensor>) -> Tensor {
        let inputs = [Some(x.view()), Some(scale.view()), zero_point.map(Tensor::view)];
        op.reference(&inputs, 1).unwrap().remove(0)
    }

    #[test]
    fn tensors_and_axes() {
        // The official case test_dequantizelinear.
        let x = Tensor::from_slice(&[4], &[0u8, 3, 128, 255]).unwrap();
        let y = run(&PLAIN, &x, &Tensor::scalar(2f32), Some(&Tensor::scalar(128u8)));
        assert_eq!(y.to_vec::<f32>().unwrap(), [-256.0, -250.0, 0.0, 254.0]);
        let x = Tensor::from_slice(&[2, 2], &[1i8, -2, 3, -4]).unwrap();
        let scale = Tensor::from_slice(&[2], &[0.5f32, 10.0]).unwrap();
        assert_eq!(run(&PLAIN, &x, &scale, None).to_vec::<f32>().unwrap(), [0.5, -20.0, 1.5, -40.0]);
        let rows = DequantizeLinear { axis: -2, ..PLAIN };
        assert_eq!(run(&rows, &x, &scale, None).to_vec::<f32>().unwrap(), [0.5, -1.0, 30.0, -40.0]);
    }

    #[test]
    fn expressions_agree_with_the_reference() {
        let x: Vec<u8> = (0..48).map(|i| i * 5).collect();
        let x = Tensor::from_slice(&[2, 3, 8], &x).unwrap();
        let scale = Tensor::from_slice(&[3], &[1.5f32, 2.0, 0.3]).unwrap();
        let zero_point = Tensor::from_slice(&[3], &[0u8, 5, 128]).unwrap();
        agrees(&PLAIN, &[Some(x.clone()), Some(scale), Some(zero_point)]);
        let half = Tensor::scalar(half::f16::from_f32(0.3));
        agrees(&PLAIN, &[Some(x.clone()), Some(half), None]);
        let scale = Tensor::from_slice(&[8], &[0.1f32; 8]).unwrap();
        agrees(&DequantizeLinear { axis: 2, ..PLAIN }, &[Some(x), Some(scale), None]);
    }

    #[test]
    fn narrow_types_and_scales() {
        let x = Tensor::from_bytes(DType::I4, &[3], vec![0x8f, 0x07].into()).unwrap();
        let scale = narrow::from_codes(DType::F8E8M0, &[], &[128]).unwrap();
        let half = DequantizeLinear { to: Some(DType::F16), ..PLAIN };
        let y = run(&half, &x, &scale, None);
        assert_eq!(numbers::floats(&y.view()).unwrap(), [-2.0, -16.0, 14.0]);
        let fact = Fact::known(DType::I4, &[3]);
        let scale = Fact::known(DType::F8E8M0, &[]);
        assert!(PLAIN.infer(&[Some(&fact), Some(&scale)], 1).is_err());
        assert!(half.infer(&[Some(&fact), Some(&scale), Some(&Fact::known(DType::U4, &[]))], 1).is_err());
    }
}
