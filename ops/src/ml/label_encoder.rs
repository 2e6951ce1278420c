//! [LabelEncoder](https://onnx.ai/onnx/operators/onnx_aionnxml_LabelEncoder.html): each element looked up in a table.

use std::collections::HashMap;
use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{floats, integers};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::assemble::select;
use crate::movement::sizes::{required, view};
use crate::operator::Operator;

/// Where each key stands. Of equal keys the last one counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Keys {
    Strings(HashMap<String, usize>),
    Integers(HashMap<i128, usize>),
    /// By their bits, as [`bits`] has them.
    Floats(HashMap<u64, usize>),
}

/// The same bits for all NaN, and for both zeros.
fn bits(x: f64) -> u64 {
    if x.is_nan() { f64::NAN.to_bits() } else { (x + 0.0).to_bits() }
}

impl Keys {
    pub(super) fn new(keys: &View<'_>) -> Result<Keys, OpError> {
        Ok(match (keys.strings, keys.dtype.is_float()) {
            (Some(strings), _) => {
                Keys::Strings(strings.iter().enumerate().map(|(i, key)| (key.clone(), i)).collect())
            }
            (None, true) => {
                Keys::Floats(floats(keys)?.into_iter().enumerate().map(|(i, x)| (bits(x), i)).collect())
            }
            (None, false) => {
                Keys::Integers(integers(keys)?.into_iter().enumerate().map(|(i, x)| (x, i)).collect())
            }
        })
    }

    /// Where the elements of a tensor stand.
    pub(super) fn find(&self, x: &View<'_>) -> Result<Vec<Option<usize>>, OpError> {
        Ok(match (self, x.strings) {
            (Keys::Strings(keys), Some(strings)) => {
                strings.iter().map(|key| keys.get(key).copied()).collect()
            }
            (Keys::Strings(_), None) => {
                return Err(OpError::Type { input: 0, expected: "str", got: x.dtype });
            }
            (Keys::Integers(keys), _) => integers(x)?.iter().map(|key| keys.get(key).copied()).collect(),
            (Keys::Floats(keys), _) => floats(x)?.into_iter().map(|x| keys.get(&bits(x)).copied()).collect(),
        })
    }
}

/// A value for each key, and one for all else.
#[derive(Clone, Debug)]
pub struct LabelEncoder {
    keys: Keys,
    key_type: DType,
    values: Tensor,
    default: Tensor,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let keys = one_of(spec, ["keys_tensor", "keys_strings", "keys_int64s", "keys_floats"])?;
    let values = one_of(spec, ["values_tensor", "values_strings", "values_int64s", "values_floats"])?;
    let float = spec.attributes.float_or("default_float", -0.0)?;
    let integer = spec.attributes.int_or("default_int64", -1)?;
    let string = spec.attributes.str_or("default_string", "_Unused".to_owned())?;
    let expected = "one element of the type of the values";
    let fail = || OpError::Attribute { name: "default_tensor", expected };
    let default = match (spec.attributes.tensor("default_tensor")?, values.dtype()) {
        (Some(given), dtype) if given.dtype() == dtype && given.len() == 1 => given.clone(),
        (Some(_), _) => return Err(fail()),
        (None, DType::Str) => Tensor::from_strings(&[1], vec![string])?,
        (None, DType::F32) => Tensor::scalar(float),
        (None, DType::F64) => Tensor::scalar(f64::from(float)),
        (None, DType::I64) => Tensor::scalar(integer),
        (None, DType::I32) => Tensor::scalar(-1i32),
        (None, DType::I16) => Tensor::scalar(-1i16),
        (None, _) => return Err(fail()),
    };
    Ok(Arc::new(LabelEncoder::new(&keys, &values, default)?))
}

impl LabelEncoder {
    /// A table with one value for each key.
    pub(super) fn new(keys: &Tensor, values: &Tensor, default: Tensor) -> Result<LabelEncoder, OpError> {
        if keys.len() != values.len() {
            return Err(OpError::constraint(
                "values",
                format!("as many as keys, {}", keys.len()),
                values.len(),
            ));
        }
        Ok(LabelEncoder {
            keys: Keys::new(&keys.clone().aligned().view())?,
            key_type: keys.dtype(),
            values: values.clone().aligned(),
            default: default.aligned(),
        })
    }
}

/// The one attribute of four that is given: a tensor, strings, integers, or floats.
fn one_of(spec: &NodeSpec<'_>, names: [&'static str; 4]) -> Result<Tensor, OpError> {
    let [tensor, strings, integers, floats] = names;
    let attributes = spec.attributes;
    let mut all: Vec<Tensor> = attributes.tensor(tensor)?.cloned().into_iter().collect();
    if let Some(strings) = attributes.strs(strings)? {
        all.push(Tensor::from_strings(&[strings.len()], strings.to_vec())?);
    }
    if let Some(integers) = attributes.ints(integers)? {
        all.push(Tensor::from_slice(&[integers.len()], integers)?);
    }
    if let Some(floats) = attributes.floats(floats)? {
        all.push(Tensor::from_slice(&[floats.len()], floats)?);
    }
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => Err(OpError::Attribute { name: tensor, expected: "given, or one of its kin, but no two" }),
    }
}

impl Operator for LabelEncoder {
    fn name(&self) -> &'static str {
        "LabelEncoder"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        if x.dtype != self.key_type {
            return Err(OpError::Type { input: 0, expected: "the type of the keys", got: x.dtype });
        }
        Ok(vec![Fact { dtype: self.values.dtype(), shape: x.shape.clone(), value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let found = self.keys.find(&x)?;
        let default = self.default.view();
        let at = |i: usize| found.get(i).copied().flatten();
        Ok(vec![select(&self.values.view(), x.dims, Some(&default), at)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    fn encoder(all: Vec<(&str, Attribute)>) -> Result<Arc<dyn Operator>, OpError> {
        let mut attributes = Attributes::default();
        all.into_iter().for_each(|(name, value)| attributes.insert(name, value));
        let (inputs, outputs) = (&[true], &[true]);
        build(&NodeSpec { op_type: "LabelEncoder", opset: 4, inputs, outputs, attributes: &attributes })
    }

    fn words(all: &[&str]) -> Vec<String> {
        all.iter().map(|s| s.to_string()).collect()
    }

    #[test]
    fn strings_become_integers_and_back() {
        let keys = || ("keys_strings", Attribute::Strs(words(&["a", "b", "c"])));
        let x = Tensor::from_strings(&[5], words(&["a", "b", "d", "c", "g"])).unwrap();
        let op = encoder(vec![keys(), ("values_int64s", Attribute::Ints(vec![0, 1, 2]))]).unwrap();
        let y = op.reference(&[Some(x.view())], 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<i64>().unwrap(), [0, 1, -1, 2, -1]);
        let values = Tensor::from_slice(&[3], &[0i16, 1, 2]).unwrap();
        let default = Tensor::from_slice(&[1], &[42i16]).unwrap();
        let all = vec![
            keys(),
            ("values_tensor", Attribute::Tensor(values)),
            ("default_tensor", Attribute::Tensor(default)),
        ];
        let y = encoder(all).unwrap().reference(&[Some(x.view())], 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<i16>().unwrap(), [0, 1, 42, 2, 42]);
        let all = vec![
            ("keys_int64s", Attribute::Ints(vec![5, 5])),
            ("values_strings", Attribute::Strs(words(&["x", "y"]))),
        ];
        let x = Tensor::from_slice(&[2, 1], &[5i64, 6]).unwrap();
        let y = encoder(all).unwrap().reference(&[Some(x.view())], 1).unwrap().remove(0);
        assert_eq!((y.dims(), y.strings().unwrap()), (&[2, 1][..], &words(&["y", "_Unused"])[..]));
    }

    #[test]
    fn float_keys_match_as_numbers() {
        let keys = ("keys_floats", Attribute::Floats(vec![0.0, f32::NAN]));
        let op = encoder(vec![keys, ("values_floats", Attribute::Floats(vec![1.0, 2.0]))]).unwrap();
        let x = Tensor::from_slice(&[3], &[-0.0f32, -f32::NAN, 3.0]).unwrap();
        let y = op.reference(&[Some(x.view())], 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<f32>().unwrap(), [1.0, 2.0, 0.0]);
        assert!(op.infer(&[Some(&Fact::known(DType::F64, &[1]))], 1).is_err());
    }

    #[test]
    fn tables_must_match() {
        let ints = |n| Attribute::Ints((0..n).collect());
        assert!(encoder(vec![("keys_int64s", ints(2)), ("values_int64s", ints(3))]).is_err());
        assert!(encoder(vec![("keys_int64s", ints(2))]).is_err());
        let both = vec![
            ("keys_int64s", ints(1)),
            ("keys_floats", Attribute::Floats(vec![0.0])),
            ("values_int64s", ints(1)),
        ];
        assert!(encoder(both).is_err());
    }
}
