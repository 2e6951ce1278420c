//! [RegexFullMatch](https://onnx.ai/onnx/operators/onnx__RegexFullMatch.html): whether a regular expression matches all
//! of a string.

use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use super::{expect_strings, pattern, strings};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::required;
use crate::operator::Operator;

/// Whether each string matches as a whole.
#[derive(Clone, Debug)]
pub struct RegexFullMatch {
    pattern: Regex,
}

/// Bytes of memory that a compiled pattern may take: what RE2 allows by default.
const LARGEST: usize = 8 << 20;

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let expected = "a regular expression in RE2's syntax, not too large";
    let fail = || OpError::Attribute { name: "pattern", expected };
    let pattern = spec.attributes.str("pattern")?.ok_or_else(fail)?;
    if pattern.len() > LARGEST {
        return Err(fail());
    }
    // On its own first: a bracket out of place must not close what is put around it.
    let translated = pattern::translate(pattern);
    compile(&translated).ok_or_else(fail)?;
    let pattern = compile(&format!(r"\A(?:{translated})\z")).ok_or_else(fail)?;
    Ok(Arc::new(RegexFullMatch { pattern }))
}

fn compile(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(pattern).size_limit(LARGEST).nest_limit(200).build().ok()
}

impl Operator for RegexFullMatch {
    fn name(&self) -> &'static str {
        "RegexFullMatch"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        expect_strings(x, 0)?;
        Ok(vec![Fact { dtype: DType::Bool, shape: x.shape.clone(), value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (dims, texts) = strings(inputs, 0)?;
        let matches: Vec<bool> = texts.iter().map(|text| self.pattern.is_match(text.as_bytes())).collect();
        Ok(vec![Tensor::from_bools(dims, &matches)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    fn run(pattern: &str, texts: &[&str]) -> Result<Vec<u8>, OpError> {
        let mut attributes = Attributes::default();
        attributes.insert("pattern", Attribute::Str(pattern.to_owned()));
        let (inputs, outputs) = (&[true], &[true]);
        let spec =
            NodeSpec { op_type: "RegexFullMatch", opset: 20, inputs, outputs, attributes: &attributes };
        let x = Tensor::from_strings(&[texts.len()], texts.iter().map(|s| s.to_string()).collect()).unwrap();
        Ok(build(&spec)?.reference(&[Some(x.view())], 1)?.remove(0).bytes().to_vec())
    }

    #[test]
    fn patterns_match_whole_strings() {
        let pattern = r"www\.[\w.-]+\.\bcom\b";
        let texts = ["www.google.com", "www.facebook.com", "www.bbc.co.uk", "xwww.google.com"];
        assert_eq!(run(pattern, &texts).unwrap(), [1, 1, 0, 0]);
        let pattern = r"(\W|^)[\w.\-]{0,25}@(yahoo|gmail)\.com(\W|$)";
        assert_eq!(run(pattern, &["account@gmail.com", "account@hotmail.com"]).unwrap(), [1, 0]);
        assert_eq!(run("a|ab", &["ab", "abc", "a", ""]).unwrap(), [1, 0, 1, 0]);
        // Classes of letters are ASCII, other characters are whole.
        assert_eq!(run(r"\w", &["a", "é"]).unwrap(), [1, 0]);
        assert_eq!(run(r"\W.[^x]", &["é中中", "xé中"]).unwrap(), [1, 0]);
        assert_eq!(run(r"(?i)é\B\b?.*", &["É"]).unwrap(), [1]);
    }

    #[test]
    fn bad_and_huge_patterns_are_refused() {
        for pattern in ["a)(b", "(", "[", r"\1", "(?=a)", r"a\", "(((a{999}){999}){999}){999}"] {
            assert!(matches!(run(pattern, &[]), Err(OpError::Attribute { .. })), "{pattern}");
        }
    }
}
