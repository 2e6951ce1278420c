//! [StringNormalizer](https://onnx.ai/onnx/operators/onnx__StringNormalizer.html): words without those on a list, in
//! upper or lower case.

use std::collections::HashSet;
use std::sync::Arc;

use super::{expect_strings, strings};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::required;
use crate::operator::Operator;

/// The case of the words that remain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Case {
    /// As it is.
    Same,
    /// Lower.
    Lower,
    /// Upper.
    Upper,
}

/// The elements of a tensor of dimensions `[C]` or `[1, C]` that are no stop words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StringNormalizer {
    /// The case of the results. It goes by Unicode, whatever the attribute `locale` says.
    pub case: Case,
    /// Stop words in another case are other words.
    pub sensitive: bool,
    /// The words to leave out; in lower case where case does not matter.
    pub stop_words: HashSet<String>,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let case = match spec.attributes.str("case_change_action")? {
        None | Some("NONE") => Case::Same,
        Some("LOWER") => Case::Lower,
        Some("UPPER") => Case::Upper,
        Some(_) => {
            let expected = "LOWER, UPPER or NONE";
            return Err(OpError::Attribute { name: "case_change_action", expected });
        }
    };
    spec.attributes.str("locale")?;
    let sensitive = spec.attributes.flag("is_case_sensitive", false)?;
    let words = spec.attributes.strs("stopwords")?.unwrap_or(&[]);
    let stop_words = words.iter().map(|word| if sensitive { word.clone() } else { word.to_lowercase() });
    Ok(Arc::new(StringNormalizer { case, sensitive, stop_words: stop_words.collect() }))
}

impl StringNormalizer {
    fn stays(&self, word: &str) -> bool {
        match self.sensitive {
            true => !self.stop_words.contains(word),
            false => !self.stop_words.contains(&word.to_lowercase()),
        }
    }
}

impl Operator for StringNormalizer {
    fn name(&self) -> &'static str {
        "StringNormalizer"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        expect_strings(x, 0)?;
        let count = Dim::named("StringNormalizer.count");
        Ok(vec![match x.rank() {
            Some(1) => Fact::new(DType::Str, vec![count]),
            Some(2) => Fact::new(DType::Str, vec![Dim::Known(1), count]),
            Some(other) => return Err(OpError::constraint("input", "dimensions [C] or [1, C]", other)),
            None => Fact::unranked(DType::Str),
        }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (dims, words) = strings(inputs, 0)?;
        let mut kept: Vec<String> = words
            .iter()
            .filter(|word| self.stays(word))
            .map(|word| match self.case {
                Case::Same => word.clone(),
                Case::Lower => word.to_lowercase(),
                Case::Upper => word.to_uppercase(),
            })
            .collect();
        if kept.is_empty() {
            kept.push(String::new());
        }
        let count = kept.len();
        Ok(vec![match dims {
            [_] => Tensor::from_strings(&[count], kept)?,
            [1, _] => Tensor::from_strings(&[1, count], kept)?,
            other => {
                return Err(OpError::constraint("input", "dimensions [C] or [1, C]", format!("{other:?}")));
            }
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    fn run(
        case: &str,
        sensitive: bool,
        dims: &[usize],
        words: &[&str],
    ) -> Result<(Vec<usize>, String), OpError> {
        let mut attributes = Attributes::default();
        attributes.insert("case_change_action", Attribute::Str(case.to_owned()));
        attributes.insert("is_case_sensitive", Attribute::Int(i64::from(sensitive)));
        attributes.insert("stopwords", Attribute::Strs(vec!["monday".to_owned()]));
        let (inputs, outputs) = (&[true], &[true]);
        let spec =
            NodeSpec { op_type: "StringNormalizer", opset: 10, inputs, outputs, attributes: &attributes };
        let x = Tensor::from_strings(dims, words.iter().map(|s| s.to_string()).collect()).unwrap();
        let y = build(&spec)?.reference(&[Some(x.view())], 1)?.remove(0);
        Ok((y.dims().to_vec(), y.strings().unwrap().join(" ")))
    }

    #[test]
    fn stop_words_go_and_case_changes() {
        let words = ["Monday", "monday", "Tuesday"];
        assert_eq!(run("NONE", true, &[3], &words).unwrap(), (vec![2], "Monday Tuesday".to_owned()));
        assert_eq!(run("UPPER", false, &[1, 3], &words).unwrap(), (vec![1, 1], "TUESDAY".to_owned()));
        assert_eq!(run("LOWER", true, &[3], &words).unwrap(), (vec![2], "monday tuesday".to_owned()));
        assert_eq!(run("UPPER", false, &[1], &["monday"]).unwrap(), (vec![1], String::new()));
        assert_eq!(run("UPPER", false, &[1, 0], &[]).unwrap(), (vec![1, 1], String::new()));
        assert!(run("NONE", true, &[3, 1], &words).is_err());
        assert!(run("Title", true, &[3], &words).is_err());
    }
}
