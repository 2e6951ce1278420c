//! [`Constant`](https://onnx.ai/onnx/operators/onnx__Constant.html): a tensor in the node itself.

use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::attributes::{Attribute, Attributes};
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::Operator;

/// `Constant`: a tensor.
#[derive(Clone, Debug)]
pub struct Constant {
    /// The tensor.
    pub value: Tensor,
}

/// Builds [`Constant`].
///
/// # Errors
/// When the node does not hold exactly one value.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(0, 0, "0")?;
    Ok(Arc::new(Constant { value: value(spec.attributes)? }))
}

/// The tensor that the attributes of a `Constant` node stand for: what an importer makes a constant of its graph of.
///
/// # Errors
/// When they hold none or several values, or one that is not done.
pub fn value(attributes: &Attributes) -> Result<Tensor, OpError> {
    const NAMES: [&str; 8] = [
        "value",
        "value_float",
        "value_floats",
        "value_int",
        "value_ints",
        "value_string",
        "value_strings",
        "sparse_value",
    ];
    let wrong = || OpError::Attribute { name: "value", expected: "the only one, of the kind its name says" };
    let mut given = NAMES.iter().filter_map(|&name| attributes.get(name).map(|value| (name, value)));
    let (Some((name, attribute)), None) = (given.next(), given.next()) else { return Err(wrong()) };
    Ok(match (name, attribute) {
        ("value", Attribute::Tensor(tensor)) => tensor.clone(),
        ("value_float", &Attribute::Float(x)) => Tensor::scalar(x),
        ("value_floats", Attribute::Floats(all)) => Tensor::from_slice(&[all.len()], all)?,
        ("value_int", &Attribute::Int(n)) => Tensor::scalar(n),
        ("value_ints", Attribute::Ints(all)) => Tensor::from_slice(&[all.len()], all)?,
        // Readers cannot tell an empty list of one kind from another's.
        ("value_floats", Attribute::Ints(all)) if all.is_empty() => Tensor::from_slice::<f32>(&[0], &[])?,
        ("value_ints", Attribute::Floats(all)) if all.is_empty() => Tensor::from_slice::<i64>(&[0], &[])?,
        ("value_string", Attribute::Str(text)) => Tensor::from_strings(&[], vec![text.clone()])?,
        ("value_strings", Attribute::Strs(all)) => Tensor::from_strings(&[all.len()], all.clone())?,
        ("sparse_value", _) => return Err(OpError::unsupported("a sparse constant")),
        _ => return Err(wrong()),
    })
}

impl Operator for Constant {
    fn name(&self) -> &'static str {
        "Constant"
    }

    fn infer(&self, _inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::constant(self.value.clone())])
    }

    fn reference(&self, _inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![self.value.clone()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value() {
        let of = |name: &str, attribute: Attribute| {
            let mut attributes = Attributes::default();
            attributes.insert(name, attribute);
            value(&attributes)
        };
        let ints = of("value_ints", Attribute::Ints(vec![3, -1])).unwrap();
        assert_eq!((ints.dims(), ints.to_vec::<i64>().unwrap()), (&[2][..], vec![3, -1]));
        let float = of("value_float", Attribute::Float(1.5)).unwrap();
        assert_eq!((float.dims().len(), float.to_vec::<f32>().unwrap()), (0, vec![1.5]));
        let text = of("value_string", Attribute::Str("x".into())).unwrap();
        assert_eq!(text.strings().unwrap(), ["x"]);
        assert!(of("value_int", Attribute::Float(1.0)).is_err());
        assert!(value(&Attributes::default()).is_err());
    }
}
