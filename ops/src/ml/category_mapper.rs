//! [CategoryMapper](https://onnx.ai/onnx/operators/onnx_aionnxml_CategoryMapper.html): strings to integers or back.

use std::sync::Arc;

use super::label_encoder::LabelEncoder;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{required, view};
use crate::operator::Operator;

/// Two tables, of which the type of the input chooses one.
#[derive(Clone, Debug)]
pub struct CategoryMapper {
    to_integers: LabelEncoder,
    to_strings: LabelEncoder,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let strings = spec.attributes.strs("cats_strings")?.unwrap_or_default();
    let integers = spec.attributes.ints("cats_int64s")?.unwrap_or_default();
    let strings = Tensor::from_strings(&[strings.len()], strings.to_vec())?;
    let integers = Tensor::from_slice(&[integers.len()], integers)?;
    let string = spec.attributes.str_or("default_string", "_Unused".to_owned())?;
    let string = Tensor::from_strings(&[1], vec![string])?;
    let integer = Tensor::from_slice(&[1], &[spec.attributes.int_or("default_int64", -1)?])?;
    Ok(Arc::new(CategoryMapper {
        to_integers: LabelEncoder::new(&strings, &integers, integer)?,
        to_strings: LabelEncoder::new(&integers, &strings, string)?,
    }))
}

impl CategoryMapper {
    fn table(&self, x: DType) -> &LabelEncoder {
        if x == DType::Str { &self.to_integers } else { &self.to_strings }
    }
}

impl Operator for CategoryMapper {
    fn name(&self) -> &'static str {
        "CategoryMapper"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        self.table(required(inputs, 0)?.dtype).infer(inputs, outputs)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        self.table(view(inputs, 0)?.dtype).reference(inputs, outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    #[test]
    fn the_type_says_which_way() {
        let mut attributes = Attributes::default();
        attributes.insert("cats_strings", Attribute::Strs(vec!["a".into(), "b".into()]));
        attributes.insert("cats_int64s", Attribute::Ints(vec![4, 6]));
        let (inputs, outputs) = (&[true], &[true]);
        let spec = NodeSpec { op_type: "CategoryMapper", opset: 1, inputs, outputs, attributes: &attributes };
        let op = build(&spec).unwrap();
        let text = Tensor::from_strings(&[2], vec!["b".into(), "c".into()]).unwrap();
        let numbers = op.reference(&[Some(text.view())], 1).unwrap().remove(0);
        assert_eq!(numbers.to_vec::<i64>().unwrap(), [6, -1]);
        let back = op.reference(&[Some(numbers.view())], 1).unwrap().remove(0);
        assert_eq!(back.strings().unwrap(), ["b", "_Unused"]);
    }
}
