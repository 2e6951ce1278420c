//! [`Cast`](https://onnx.ai/onnx/operators/onnx__Cast.html) from and to element types that take no part in expressions:
//! floats and integers of 8 bits and fewer, and text.

use half::{bf16, f16};
use sardonyx_shaders::Capabilities;

use super::cast;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::narrow::{self, Narrowing};
use crate::ir::numbers;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::Operator;
use crate::problem::Problem;

/// A conversion of which one side, or both, takes no part in expressions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CastNarrow {
    /// The type asked for.
    pub to: DType,
    /// How numbers become narrow floats.
    pub narrowing: Narrowing,
}

/// Whether values of this type take part in expressions.
pub(crate) fn is_wide(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, F32 | F64 | F16 | BF16 | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64 | Bool)
}

/// Whether values of this type can be converted at all.
fn check(dtype: DType) -> Result<(), OpError> {
    match dtype {
        DType::C64 | DType::C128 => Err(OpError::unsupported(format!("conversion to or from {dtype}"))),
        _ => Ok(()),
    }
}

impl Operator for CastNarrow {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let [Some(input)] = inputs else {
            return Err(OpError::Arity { what: "inputs", expected: "1", got: inputs.len() });
        };
        check(input.dtype)?;
        check(self.to)?;
        Ok(vec![Fact { dtype: self.to, shape: input.shape.clone(), value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let [Some(x)] = inputs else {
            return Err(OpError::Arity { what: "inputs", expected: "1", got: inputs.len() });
        };
        check(x.dtype)?;
        check(self.to)?;
        let result = match (x.dtype, self.to) {
            (from, to) if from == to => x.to_tensor(),
            (DType::Str, _) => self.parse(x)?,
            (_, DType::Str) => print(x)?,
            // Both steps together round once: the wider types hold every narrow number.
            (from, to) if is_wide(to) && from.is_float() => {
                let wide = numbers::float_tensor(DType::F64, x.dims, &narrow::floats(x)?)?;
                return cast(to).reference(&[Some(wide.view())], 1);
            }
            (_, to) if is_wide(to) => {
                let wide = numbers::integer_tensor(DType::I64, x.dims, &narrow::integers(x)?)?;
                return cast(to).reference(&[Some(wide.view())], 1);
            }
            (from, _) if from.is_float() => self.tensor_of(x.dims, &numbers::floats(x)?)?,
            _ => {
                let values = numbers::integers(x)?;
                if self.to.is_float() {
                    let values: Vec<f64> = values.into_iter().map(|value| value as f64).collect();
                    self.tensor_of(x.dims, &values)?
                } else {
                    numbers::integer_tensor(self.to, x.dims, &values)?
                }
            }
        };
        Ok(vec![result])
    }

    fn lower(&self, problem: &Problem<'_>, _caps: &Capabilities) -> Lowering {
        let input = problem.input(0).map(|input| input.dtype).filter(|&dtype| !is_wide(dtype));
        Lowering::refused("Cast", format!("devices do not hold {}", input.unwrap_or(self.to)))
    }
}

impl CastNarrow {
    /// A tensor of a narrow type. Integers are cut off towards zero and keep their lowest bits.
    fn tensor_of(&self, dims: &[usize], values: &[f64]) -> Result<Tensor, OpError> {
        if self.to.is_float() {
            return narrow::float_tensor(self.to, dims, values, self.narrowing);
        }
        let values: Vec<i128> = values.iter().map(|&x| x as i128).collect();
        numbers::integer_tensor(self.to, dims, &values)
    }

    /// A tensor of the numbers that texts say.
    fn parse(&self, x: &View<'_>) -> Result<Tensor, OpError> {
        let texts = x.strings.filter(|texts| texts.len() == x.len());
        let texts = texts.ok_or(OpError::Internal("a string tensor without its strings"))?;
        macro_rules! read {
            ($read:expr) => {
                texts.iter().map($read).collect::<Result<Vec<_>, OpError>>()?
            };
        }
        Ok(match self.to {
            // Each width is rounded from the text itself.
            DType::F32 => Tensor::from_vec(x.dims, read!(|text| float::<f32>(text)))?,
            DType::F16 => Tensor::from_vec(x.dims, read!(|text| Ok(f16::from_f64(float::<f64>(text)?))))?,
            DType::BF16 => Tensor::from_vec(x.dims, read!(|text| Ok(bf16::from_f64(float::<f64>(text)?))))?,
            to if to.is_float() && is_wide(to) => Tensor::from_vec(x.dims, read!(|text| float::<f64>(text)))?,
            to if to.is_float() => self.tensor_of(x.dims, &read!(|text| float::<f64>(text)))?,
            to => numbers::integer_tensor(to, x.dims, &read!(|text| integer(text)))?,
        })
    }
}

/// The float that a text says: plain or scientific, or `inf` or `nan` in any letter case.
fn float<T: std::str::FromStr>(text: &str) -> Result<T, OpError> {
    let wrong = || OpError::constraint("text to convert", "a number", format!("{:?}", shortened(text)));
    text.trim().parse().map_err(|_| wrong())
}

/// The integer that a text says; a fraction is cut off.
fn integer(text: &str) -> Result<i128, OpError> {
    text.trim().parse().or_else(|_| Ok(float::<f64>(text)? as i128))
}

/// The beginning of a text, for messages.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 40;
    text.chars().take(SHOWN).collect()
}

/// Numbers in plain notation, with as many digits as tell them apart; truth values as 1 and 0.
fn print(x: &View<'_>) -> Result<Tensor, OpError> {
    fn special(x: f64) -> Option<&'static str> {
        match x {
            x if x.is_nan() => Some("NaN"),
            f64::INFINITY => Some("INF"),
            f64::NEG_INFINITY => Some("-INF"),
            _ => None,
        }
    }
    let texts: Vec<String> = if x.dtype.is_float() {
        let text = |x: f64, dtype: DType| match (special(x), dtype) {
            (Some(text), _) => text.to_owned(),
            (None, DType::F64) => x.to_string(),
            // Exact: the value came from a type no wider.
            (None, _) => (x as f32).to_string(),
        };
        numbers::floats(x)?.into_iter().map(|value| text(value, x.dtype)).collect()
    } else {
        numbers::integers(x)?.iter().map(i128::to_string).collect()
    };
    Ok(Tensor::from_strings(x.dims, texts)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::narrow::Rounding;

    fn converted(x: &Tensor, to: DType) -> Tensor {
        let op = CastNarrow { to, narrowing: Narrowing::default() };
        op.reference(&[Some(x.view())], 1).unwrap().remove(0)
    }

    #[test]
    fn floats_become_narrow_ones_and_come_back() {
        // From the official case test_cast_FLOAT_to_FLOAT4E2M1.
        let x = [0.48f32, 0.25, 1.05, -3.5, -8.0, 9.0, 1e6, 1e-7, f32::INFINITY, -4.0, 0.01, -0.0];
        let x = Tensor::from_slice(&[12], &x).unwrap();
        let y = converted(&x, DType::F4E2M1);
        assert_eq!(y.bytes().len(), 6);
        let back = converted(&y, DType::F32).to_vec::<f32>().unwrap();
        assert_eq!(back, [0.5, 0.0, 1.0, -4.0, -6.0, 6.0, 6.0, 0.0, 6.0, -4.0, 0.0, -0.0]);
        let y = converted(&x, DType::F8E4M3FN);
        let back =
            converted(&y, DType::F16).to_vec::<f16>().unwrap().iter().map(|x| x.to_f64()).collect::<Vec<_>>();
        assert_eq!(back[..7], [0.46875, 0.25, 1.0, -3.5, -8.0, 9.0, 448.0]);
        let op = CastNarrow {
            to: DType::F8E4M3FN,
            narrowing: Narrowing { saturate: false, rounding: Rounding::Up },
        };
        assert_eq!(op.reference(&[Some(x.view())], 1).unwrap()[0].bytes()[6], 0x7f);
        assert!(op.infer(&[Some(&Fact::known(DType::C64, &[1]))], 1).is_err());
    }

    #[test]
    fn integers_keep_their_lowest_bits() {
        let x = Tensor::from_slice(&[5], &[-9f32, -8.0, 7.9, 8.0, 15.0]).unwrap();
        let y = converted(&x, DType::I4);
        assert_eq!(y.bytes(), [0x87, 0x87, 0x0f]);
        assert_eq!(converted(&y, DType::I8).to_vec::<i8>().unwrap(), [7, -8, 7, -8, -1]);
        assert_eq!(converted(&y, DType::U2).bytes(), [0b0011_0011, 0b11]);
        assert_eq!(converted(&y, DType::Bool).bytes(), [1; 5]);
        let y = converted(&converted(&x, DType::U4), DType::F32);
        assert_eq!(y.to_vec::<f32>().unwrap(), [7.0, 8.0, 7.0, 8.0, 15.0]);
        let y = converted(&Tensor::from_slice(&[1], &[300i64]).unwrap(), DType::F8E4M3FN);
        assert_eq!(converted(&y, DType::I32).to_vec::<i32>().unwrap(), [288]);
    }

    #[test]
    fn numbers_become_text_and_come_back() {
        let x = [1f32, 0.1, 1e-7, f32::NAN, f32::NEG_INFINITY, std::f32::consts::PI];
        let y = converted(&Tensor::from_slice(&[6], &x).unwrap(), DType::Str);
        let texts = ["1", "0.1", "0.0000001", "NaN", "-INF", "3.1415927"];
        assert_eq!(y.strings().unwrap(), texts);
        let back = converted(&y, DType::F32).to_vec::<f32>().unwrap();
        assert_eq!(back[..3], x[..3]);
        assert!(back[3].is_nan());
        assert_eq!(back[4..], x[4..]);
        let texts = ["100.5", " -7 ", "1e3", "+INF", "300"].map(str::to_owned).to_vec();
        let x = Tensor::from_strings(&[5], texts).unwrap();
        assert_eq!(converted(&x, DType::I16).to_vec::<i16>().unwrap()[..3], [100, -7, 1000]);
        assert_eq!(converted(&x, DType::F64).to_vec::<f64>().unwrap()[3], f64::INFINITY);
        assert_eq!(converted(&x, DType::U8).to_vec::<u8>().unwrap()[4], 44);
        let x = Tensor::from_strings(&[1], vec!["Hello".to_owned()]).unwrap();
        let op = CastNarrow { to: DType::F32, narrowing: Narrowing::default() };
        assert!(matches!(op.reference(&[Some(x.view())], 1), Err(OpError::Constraint { .. })));
        let bools = Tensor::from_bools(&[2], &[true, false]).unwrap();
        assert_eq!(converted(&bools, DType::Str).strings().unwrap(), ["1", "0"]);
    }
}
