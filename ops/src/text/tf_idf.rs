//! [TfIdfVectorizer](https://onnx.ai/onnx/operators/onnx__TfIdfVectorizer.html): how often known sequences of tokens
//! occur.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::strings;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::filled;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{integers, required, view};
use crate::operator::Operator;

/// What becomes of the counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// They are the result.
    Frequency,
    /// What occurs counts once, and is weighted.
    Inverse,
    /// They are weighted.
    Both,
}

/// Known sequences of tokens, and where in the output each is counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pool {
    /// Of integers.
    Integers(HashMap<Vec<i64>, usize>),
    /// Of strings.
    Strings(HashMap<Vec<String>, usize>),
}

/// Counts of n-grams in each row.
#[derive(Clone, PartialEq, Debug)]
pub struct TfIdfVectorizer {
    /// What becomes of the counts.
    pub mode: Mode,
    /// Fewest tokens of an n-gram.
    pub shortest: usize,
    /// Most tokens of an n-gram.
    pub longest: usize,
    /// Up to so many tokens are left out between two tokens of an n-gram.
    pub skips: usize,
    /// The n-grams.
    pub pool: Pool,
    /// One factor for each element of a row of the output.
    pub weights: Vec<f32>,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let attributes = spec.attributes;
    let size = |name| -> Result<usize, OpError> {
        let fail = OpError::Attribute { name, expected: "a number of 0 or more" };
        usize::try_from(*attributes.int(name)?.ok_or(fail.clone())?).map_err(|_| fail)
    };
    let sizes = |name| -> Result<Vec<usize>, OpError> {
        let fail = OpError::Attribute { name, expected: "a list of numbers of 0 or more" };
        let all = attributes.ints(name)?.ok_or(fail.clone())?;
        all.iter().map(|&n| usize::try_from(n)).collect::<Result<_, _>>().map_err(|_| fail)
    };
    let mode = match attributes.str("mode")? {
        Some("TF") => Mode::Frequency,
        Some("IDF") => Mode::Inverse,
        Some("TFIDF") => Mode::Both,
        _ => return Err(OpError::Attribute { name: "mode", expected: "TF, IDF or TFIDF" }),
    };
    let (starts, places) = (sizes("ngram_counts")?, sizes("ngram_indexes")?);
    let pool = match (attributes.ints("pool_int64s")?, attributes.strs("pool_strings")?) {
        (Some(tokens), None | Some([])) => Pool::Integers(n_grams(tokens, &starts, &places)?),
        (None | Some([]), Some(tokens)) => Pool::Strings(n_grams(tokens, &starts, &places)?),
        _ => {
            let expected = "given where pool_strings is not";
            return Err(OpError::Attribute { name: "pool_int64s", expected });
        }
    };
    let width = places.iter().max().map_or(Some(0), |&last| last.checked_add(1)).ok_or(OpError::Size)?;
    let mut weights = filled(&[width], 1.0)?;
    if let Some(given) = attributes.floats("weights")?.filter(|given| !given.is_empty()) {
        if given.len() != places.len() {
            let expected = "as many numbers as ngram_indexes";
            return Err(OpError::Attribute { name: "weights", expected });
        }
        places.iter().zip(given).for_each(|(&place, &weight)| weights[place] = weight);
    }
    let (shortest, longest) = (size("min_gram_length")?.max(1), size("max_gram_length")?);
    Ok(Arc::new(TfIdfVectorizer { mode, shortest, longest, skips: size("max_skip_count")?, pool, weights }))
}

/// The n-grams of a pool: those of `n` tokens begin at `starts[n - 1]`, and the i-th of all is counted at `places[i]`.
fn n_grams<T: Clone + Hash + Eq>(
    tokens: &[T],
    starts: &[usize],
    places: &[usize],
) -> Result<HashMap<Vec<T>, usize>, OpError> {
    let mut all = HashMap::new();
    let mut places = places.iter();
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(tokens.len());
        let expected = "places in the pool in ascending order";
        let fail = OpError::Attribute { name: "ngram_counts", expected };
        for n_gram in tokens.get(start..end).ok_or(fail)?.chunks_exact(index + 1) {
            let expected = "as many numbers as the pool has n-grams";
            let place = places.next().ok_or(OpError::Attribute { name: "ngram_indexes", expected })?;
            all.insert(n_gram.to_vec(), *place);
        }
    }
    Ok(all)
}

impl TfIdfVectorizer {
    /// Counts the n-grams of a row.
    fn count<T: Clone + Hash + Eq>(&self, row: &[T], pool: &HashMap<Vec<T>, usize>, counts: &mut [f32]) {
        let known = pool.keys().map(Vec::len).max().unwrap_or(0);
        for length in self.shortest..=self.longest.min(known).min(row.len()) {
            // A single token skips nothing. Otherwise there is no room for more than a row's worth.
            let skips = if length == 1 { 0 } else { self.skips.min(row.len()) };
            for step in 1..=skips + 1 {
                let span = (length - 1).saturating_mul(step);
                for start in 0..row.len().saturating_sub(span) {
                    let n_gram: Vec<T> = row[start..].iter().step_by(step).take(length).cloned().collect();
                    if let Some(slot) = pool.get(&n_gram).and_then(|&place| counts.get_mut(place)) {
                        *slot += 1.0;
                    }
                }
            }
        }
    }
}

/// The number of rows of an input, and the dimensions of the output before the last.
fn rows(dims: &[usize]) -> Result<(usize, &[usize]), OpError> {
    match dims {
        [] | [_] => Ok((1, &[])),
        [batch, _] => Ok((*batch, &dims[..1])),
        other => Err(OpError::constraint("input", "1 or 2 dimensions", other.len())),
    }
}

impl Operator for TfIdfVectorizer {
    fn name(&self) -> &'static str {
        "TfIdfVectorizer"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        match (&self.pool, x.dtype) {
            (Pool::Strings(_), DType::Str) | (Pool::Integers(_), DType::I32 | DType::I64) => {}
            (Pool::Strings(_), got) => return Err(OpError::Type { input: 0, expected: "str", got }),
            (Pool::Integers(_), got) => return Err(OpError::Type { input: 0, expected: "i32 or i64", got }),
        }
        let width = Dim::Known(self.weights.len());
        Ok(vec![match x.shape.as_deref() {
            None => Fact::unranked(DType::F32),
            Some([] | [_]) => Fact::new(DType::F32, vec![width]),
            Some([batch, _]) => Fact::new(DType::F32, vec![batch.clone(), width]),
            Some(other) => return Err(OpError::constraint("input", "1 or 2 dimensions", other.len())),
        }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let (count, outer) = rows(x.dims)?;
        let width = self.weights.len();
        let dims = [outer, &[width]].concat();
        let mut counts: Vec<f32> = filled(&dims, 0.0)?;
        let length = x.len().checked_div(count).unwrap_or(0);
        if length > 0 && width > 0 {
            let lines = counts.chunks_mut(width);
            match &self.pool {
                Pool::Integers(pool) => {
                    let tokens = integers(&x, 0)?;
                    tokens.chunks(length).zip(lines).for_each(|(row, line)| self.count(row, pool, line));
                }
                Pool::Strings(pool) => {
                    let (_, tokens) = strings(inputs, 0)?;
                    tokens.chunks(length).zip(lines).for_each(|(row, line)| self.count(row, pool, line));
                }
            }
            for line in counts.chunks_mut(width) {
                for (count, weight) in line.iter_mut().zip(&self.weights) {
                    *count = match self.mode {
                        Mode::Frequency => *count,
                        Mode::Inverse => count.min(1.0) * weight,
                        Mode::Both => *count * weight,
                    };
                }
            }
        }
        Ok(vec![Tensor::from_vec(&dims, counts)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    fn attributes(mode: &str, lengths: [i64; 2], skips: i64) -> Attributes {
        let mut all = Attributes::default();
        all.insert("mode", Attribute::Str(mode.to_owned()));
        all.insert("min_gram_length", Attribute::Int(lengths[0]));
        all.insert("max_gram_length", Attribute::Int(lengths[1]));
        all.insert("max_skip_count", Attribute::Int(skips));
        all.insert("ngram_counts", Attribute::Ints(vec![0, 4]));
        all.insert("ngram_indexes", Attribute::Ints(vec![0, 1, 2, 3, 4, 5, 6]));
        all
    }

    fn run(attributes: &Attributes, x: &Tensor) -> Result<Vec<f32>, OpError> {
        let (inputs, outputs) = (&[true], &[true]);
        let spec = NodeSpec { op_type: "TfIdfVectorizer", opset: 9, inputs, outputs, attributes };
        Ok(build(&spec)?.reference(&[Some(x.view())], 1)?.remove(0).to_vec().unwrap())
    }

    #[test]
    fn n_grams_are_counted_as_the_official_cases_do() {
        let x = Tensor::from_slice(&[12], &[1i32, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8]).unwrap();
        let pool = Attribute::Ints(vec![2, 3, 5, 4, 5, 6, 7, 8, 6, 7]);
        let case = |mode, lengths, skips, weights: Option<Vec<f32>>| {
            let mut all = attributes(mode, lengths, skips);
            all.insert("pool_int64s", pool.clone());
            if let Some(weights) = weights {
                all.insert("weights", Attribute::Floats(weights));
            }
            run(&all, &x)
        };
        assert_eq!(case("TF", [2, 2], 0, None).unwrap(), [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        assert_eq!(case("TF", [2, 2], 5, None).unwrap(), [0.0, 0.0, 0.0, 0.0, 1.0, 3.0, 1.0]);
        assert_eq!(case("TF", [1, 2], 5, None).unwrap(), [0.0, 3.0, 1.0, 0.0, 1.0, 3.0, 1.0]);
        let weights = Some((1..=7).map(|w| w as f32).collect());
        assert_eq!(case("IDF", [1, 2], i64::MAX, weights.clone()).unwrap()[1..3], [2.0, 3.0]);
        assert_eq!(case("TFIDF", [1, 2], 5, weights).unwrap(), [0.0, 6.0, 3.0, 0.0, 5.0, 18.0, 7.0]);
        assert!(case("TF", [2, 2], -1, None).is_err());
        assert!(case("TFIDF", [1, 2], 5, Some(vec![1.0])).is_err());
    }

    #[test]
    fn strings_are_tokens_too() {
        let words = |all: &str| all.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let mut all = attributes("TF", [1, 2], 0);
        all.insert("pool_strings", Attribute::Strs(words("a b c d a b b c c d")));
        let x = Tensor::from_strings(&[2, 3], words("a b c d d a")).unwrap();
        let expected = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0];
        assert_eq!(run(&all, &x).unwrap(), expected);
        all.insert("ngram_indexes", Attribute::Ints(vec![0, 1]));
        assert!(run(&all, &x).is_err());
    }
}
