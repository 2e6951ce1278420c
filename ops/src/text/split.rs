//! [StringSplit](https://onnx.ai/onnx/operators/onnx__StringSplit.html): the parts of strings between delimiters.

use std::sync::Arc;

use super::{expect_strings, strings};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::filled;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::required;
use crate::operator::Operator;

/// The parts of each string, along a new last dimension that empty strings fill up, and their number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StringSplit {
    /// What separates parts: any stretch of white space when absent.
    pub delimiter: Option<String>,
    /// How often a string is split at most.
    pub most: Option<usize>,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let delimiter = spec.attributes.str("delimiter")?.filter(|text| !text.is_empty()).map(str::to_owned);
    // As in Python, a negative number sets no limit.
    let most = spec.attributes.int("maxsplit")?.and_then(|&most| usize::try_from(most).ok());
    Ok(Arc::new(StringSplit { delimiter, most }))
}

impl StringSplit {
    fn parts<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let most = self.most.unwrap_or(usize::MAX);
        if let Some(delimiter) = &self.delimiter {
            return text.splitn(most.saturating_add(1), delimiter.as_str()).collect();
        }
        let mut parts = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let end = if parts.len() < most { rest.find(char::is_whitespace) } else { None };
            let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
            parts.push(part);
            rest = after.trim_start();
        }
        parts
    }
}

impl Operator for StringSplit {
    fn name(&self) -> &'static str {
        "StringSplit"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        expect_strings(x, 0)?;
        let all = match &x.shape {
            Some(shape) => {
                let mut parts = shape.clone();
                parts.push(Dim::named("StringSplit.parts"));
                [Fact::new(DType::Str, parts), Fact::new(DType::I64, shape.clone())]
            }
            None => [Fact::unranked(DType::Str), Fact::unranked(DType::I64)],
        };
        Ok(all.into_iter().take(outputs.max(1)).collect())
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (dims, texts) = strings(inputs, 0)?;
        let all: Vec<Vec<&str>> = texts.iter().map(|text| self.parts(text)).collect();
        let longest = all.iter().map(Vec::len).max().unwrap_or(0);
        let split_dims = [dims, &[longest]].concat();
        let mut split = filled(&split_dims, String::new())?;
        for (parts, row) in all.iter().zip(split.chunks_mut(longest.max(1))) {
            row.iter_mut().zip(parts).for_each(|(slot, part)| slot.push_str(part));
        }
        let counts: Result<Vec<i64>, _> = all.iter().map(|parts| i64::try_from(parts.len())).collect();
        let counts = Tensor::from_vec(dims, counts.map_err(|_| OpError::Size)?)?;
        let all = [Tensor::from_strings(&split_dims, split)?, counts];
        Ok(all.into_iter().take(outputs.max(1)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(delimiter: Option<&str>, most: Option<usize>, text: &str) -> Vec<String> {
        let op = StringSplit { delimiter: delimiter.map(str::to_owned), most };
        op.parts(text).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn strings_are_split_as_python_does() {
        assert_eq!(parts(Some("-"), None, "o-n--x-"), ["o", "n", "", "x", ""]);
        assert_eq!(parts(Some("-"), Some(1), "o-n--x-"), ["o", "n--x-"]);
        assert_eq!(parts(Some("-"), None, ""), [""]);
        assert_eq!(parts(None, None, "  hello   world ! "), ["hello", "world", "!"]);
        assert_eq!(parts(None, Some(1), "  hello   world ! "), ["hello", "world ! "]);
        assert_eq!(parts(None, Some(0), " a b "), ["a b "]);
        assert!(parts(None, None, " \t").is_empty());
    }

    #[test]
    fn short_rows_are_filled_up() {
        let run = |dims: &[usize], all: &[&str]| {
            let x = Tensor::from_strings(dims, all.iter().map(|s| s.to_string()).collect()).unwrap();
            let mut y =
                StringSplit { delimiter: None, most: Some(2) }.reference(&[Some(x.view())], 2).unwrap();
            let counts = y.pop().unwrap().to_vec::<i64>().unwrap();
            (y[0].dims().to_vec(), y[0].strings().unwrap().join("|"), counts)
        };
        let expected = (vec![2, 3], "hello|world||o|n|n x".to_owned(), vec![2, 3]);
        assert_eq!(run(&[2], &["hello world", "o n n x"]), expected);
        assert_eq!(run(&[0], &[]), (vec![0, 0], String::new(), vec![]));
    }
}
