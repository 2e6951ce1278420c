//! [`QuantizeLinear`](https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html): numbers as multiples of a scale.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::composed::Steps;
use super::granularity::{Granularity, quantized, range, reals, rounded, zero_points};
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::narrow::{self, Narrowing};
use crate::ir::numbers;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Expansion, Operator};
use crate::pointwise::cast_narrow::is_wide;
use crate::pointwise::functions::{ADD, CLIP, DIV, ROUND};
use crate::problem::Problem;

/// `saturate(round(x / scale) + zero point)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuantizeLinear {
    /// The axis that scales go along, unless there is one for all.
    pub axis: i64,
    /// Elements along the axis that share a scale; 0 without blocks.
    pub block: i64,
    /// Narrow floats out of range become the farthest finite number.
    pub saturate: bool,
    /// The type of the output; that of the zero point, else u8, when absent.
    pub to: Option<DType>,
    /// The type that the quotient is rounded to; that of the scale when absent.
    pub precision: Option<DType>,
}

/// Builds [`QuantizeLinear`].
///
/// # Errors
/// When there are not two or three inputs, or an attribute is no type.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 3, "2 or 3")?;
    Ok(Arc::new(QuantizeLinear {
        axis: spec.attributes.int_or("axis", 1)?,
        block: spec.attributes.int_or("block_size", 0)?,
        saturate: spec.attributes.flag("saturate", true)?,
        to: type_attribute(spec, "output_dtype")?,
        precision: type_attribute(spec, "precision")?,
    }))
}

/// An element type by its ONNX number; 0 stands for none.
pub(super) fn type_attribute(spec: &NodeSpec<'_>, name: &'static str) -> Result<Option<DType>, OpError> {
    match spec.attributes.int_or(name, 0)? {
        0 => Ok(None),
        number => {
            DType::from_onnx(number).map(Some).ok_or(OpError::Attribute { name, expected: "an element type" })
        }
    }
}

impl QuantizeLinear {
    /// The type of the output.
    fn output(&self, x: DType, scale: DType, zero_point: Option<DType>) -> Result<DType, OpError> {
        use DType::*;
        if !matches!(x, F32 | F16 | BF16 | I32) {
            return Err(OpError::Type { input: 0, expected: "f32, f16, bf16 or i32", got: x });
        }
        if !matches!(scale, F32 | F16 | BF16 | I32 | F8E8M0) {
            return Err(OpError::Type { input: 1, expected: "f32, f16, bf16, i32 or f8e8m0", got: scale });
        }
        let to = match (self.to, zero_point) {
            (Some(to), Some(got)) if got != to => {
                return Err(OpError::Type { input: 2, expected: "the type output_dtype", got });
            }
            (to, zero_point) => to.or(zero_point).unwrap_or(U8),
        };
        match to {
            F8E8M0 => Err(OpError::unsupported(format!("quantization to {to}"))),
            _ if range(to).is_some() || narrow::is_narrow_float(to) => Ok(to),
            _ => Err(OpError::constraint("quantized type", "an integer or float of at most 16 bits", to)),
        }
    }
}

impl Operator for QuantizeLinear {
    fn name(&self) -> &'static str {
        "QuantizeLinear"
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        use DType::*;
        let (x, scale) = (required(inputs, 0)?, required(inputs, 1)?);
        let zero_point = optional(inputs, 2);
        let to = self.output(x.dtype, scale.dtype, zero_point.map(|fact| fact.dtype))?;
        let precise = scale.dtype == F32 && matches!(self.precision, None | Some(F32));
        let (Some((least, greatest)), true) = (range(to).filter(|_| is_wide(to)), precise) else {
            return Ok(Expansion::Stays);
        };
        let mut steps = Steps::default();
        let x = steps.operand(0, x.dtype, F32);
        let scale = steps.operand(1, scale.dtype, F32);
        let quotient = steps.call(&DIV, &[x, scale], &[]);
        let mut y = steps.call(&ROUND, &[quotient], &[]);
        if let Some(zero_point) = zero_point {
            let zero_point = steps.operand(2, zero_point.dtype, F32);
            y = steps.call(&ADD, &[y, zero_point], &[]);
        }
        let y = steps.call(&CLIP, &[y], &[least as f32, greatest as f32]);
        let y = steps.cast(y, to);
        steps.expand("QuantizeLinear", y, inputs, self.axis, self.block)
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
        let scales = reals(&scale)?;
        let zero_points = zero_points(zero_point, scales.len())?;
        // A scale that is only a power of two says nothing about the precision of a quotient.
        let precision = match self.precision.unwrap_or(scale.dtype) {
            DType::F8E8M0 => DType::F32,
            other => other,
        };
        let short = || OpError::Internal("fewer scales than the dimensions say");
        let mut quotients = reals(&x)?;
        for (i, x) in quotients.iter_mut().enumerate() {
            let scale = *scales.get(granularity.scale(i)).ok_or_else(short)?;
            *x = rounded(precision, rounded(precision, *x) / rounded(precision, scale));
        }
        let zero_point = |i: usize| match &zero_points {
            Some(all) => all.get(granularity.scale(i)).copied().ok_or_else(short).map(Some),
            None => Ok(None),
        };
        let result = if let Some(range) = range(to) {
            let mut values = Vec::with_capacity(quotients.len());
            for (i, &x) in quotients.iter().enumerate() {
                values.push(quantized(x, zero_point(i)?.unwrap_or(0.0), range));
            }
            numbers::integer_tensor(to, x.dims, &values)?
        } else {
            for (i, x) in quotients.iter_mut().enumerate() {
                if let Some(zero_point) = zero_point(i)? {
                    *x += zero_point;
                }
            }
            let narrowing = Narrowing { saturate: self.saturate, ..Narrowing::default() };
            narrow::float_tensor(to, x.dims, &quotients, narrowing)?
        };
        Ok(vec![result])
    }

    fn lower(&self, _problem: &Problem<'_>, _caps: &Capabilities) -> Lowering {
        Lowering::refused(
            "QuantizeLinear",
            "scales along blocks or types narrower than a byte stay on the CPU",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::composed::tests::agrees;
    use super::*;

    const PLAIN: QuantizeLinear =
        QuantizeLinear { axis: 1, block: 0, saturate: true, to: None, precision: None };

    fn run(op: &QuantizeLinear, x: &Tensor, scale: &Tensor, zero_point: Option<&Tensor>) -> Tensor {
        let inputs = [Some(x.view()), Some(scale.view()), zero_point.map(Tensor::view)];
        op.reference(&inputs, 1).unwrap().remove(0)
    }

    #[test]
    fn halves_go_to_even_and_the_range_holds() {
        // The official case test_quantizelinear.
        let x = Tensor::from_slice(&[6], &[0f32, 2.0, 3.0, 1000.0, -254.0, -1000.0]).unwrap();
        let y = run(&PLAIN, &x, &Tensor::scalar(2f32), Some(&Tensor::scalar(128u8)));
        assert_eq!(y.to_vec::<u8>().unwrap(), [128, 129, 130, 255, 1, 0]);
        let four = QuantizeLinear { to: Some(DType::I4), ..PLAIN };
        let y = run(&four, &x, &Tensor::scalar(2f32), None);
        assert_eq!((y.dtype(), y.bytes()), (DType::I4, &[0x10, 0x72, 0x88][..]));
        // In f16, 2051 is 2052.
        let x = Tensor::from_slice(&[1], &[2051f32]).unwrap();
        let wide = QuantizeLinear { to: Some(DType::I16), precision: Some(DType::F16), ..PLAIN };
        assert_eq!(run(&wide, &x, &Tensor::scalar(2f32), None).to_vec::<i16>().unwrap(), [1026]);
    }

    #[test]
    fn blocks_have_their_own_scales() {
        // The official case test_quantizelinear_blocked_asymmetric.
        let x = [6f32, 12.0, 50.0, 5.0, 1.0, 8.0, 4.0, 5.0, 0.0, 20.0, 10.0, 4.0];
        let x = Tensor::from_slice(&[3, 4], &x).unwrap();
        let scale = Tensor::from_slice(&[3, 2], &[1.5f32, 2.5, 3.0, 4.9, 5.1, 6.9]).unwrap();
        let zero_point = Tensor::from_slice(&[3, 2], &[0u8, 1, 1, 0, 2, 3]).unwrap();
        let y = run(&QuantizeLinear { block: 2, ..PLAIN }, &x, &scale, Some(&zero_point));
        assert_eq!(y.to_vec::<u8>().unwrap(), [4, 8, 21, 3, 1, 4, 1, 1, 2, 6, 4, 4]);
    }

    #[test]
    fn expressions_agree_with_the_reference() {
        let x: Vec<f32> = (0..48).map(|i| i as f32 * 13.5 - 300.0).collect();
        let x = Tensor::from_slice(&[2, 3, 8], &x).unwrap();
        let scale = Tensor::from_slice(&[3], &[1.5f32, 2.0, 0.25]).unwrap();
        let zero_point = Tensor::from_slice(&[3], &[0i8, 5, -5]).unwrap();
        agrees(&PLAIN, &[Some(x.clone()), Some(scale.clone()), Some(zero_point)]);
        agrees(&QuantizeLinear { to: Some(DType::U16), ..PLAIN }, &[Some(x.clone()), Some(scale), None]);
        agrees(&PLAIN, &[Some(x), Some(Tensor::scalar(3f32)), Some(Tensor::scalar(128u8))]);
    }

    #[test]
    fn types_are_checked() {
        let x = Fact::known(DType::F32, &[2]);
        let wrong = QuantizeLinear { to: Some(DType::I8), ..PLAIN };
        assert!(wrong.infer(&[Some(&x), Some(&x), Some(&Fact::known(DType::U8, &[]))], 1).is_err());
        assert!(QuantizeLinear { to: Some(DType::I32), ..PLAIN }.infer(&[Some(&x), Some(&x)], 1).is_err());
        assert_eq!(PLAIN.infer(&[Some(&x), Some(&x)], 1).unwrap()[0].dtype, DType::U8);
    }
}
