//! The best classes of a classifier's scores.

use serde_json::{Value, json};

use super::labels::Labels;
use super::{Output, floats, misfit};
use crate::failure::Failure;
use crate::output::format;

/// One class of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Number.
    pub class: usize,
    /// Name, if there is one.
    pub label: Option<String>,
    /// The output's own number.
    pub score: f32,
    /// From 0 to 1: the score itself when the scores are probabilities, else its softmax.
    pub probability: f32,
}

/// The best classes, best first.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The output that holds the scores.
    pub output: String,
    /// The scores were no probabilities: softmax was applied.
    pub softmax: bool,
    /// The best classes of each row of the batch.
    pub rows: Vec<Vec<Class>>,
}

/// Finds the best `top` classes in the first output of floats with more than one element in its last dimension
/// that is not 1.
///
/// # Errors
/// When there is no such output.
pub fn classify(outputs: &[Output], labels: &Labels, top: usize) -> Result<Answer, Failure> {
    let scores = outputs.iter().find_map(|output| {
        let classes = output.1.dims().iter().rev().copied().find(|&dim| dim > 1)?;
        let values = floats(output)?;
        // Scores over space (a segmentation) have several dimensions besides the batch.
        let wide = output.1.dims().iter().skip(1).filter(|dim| **dim > 1).count();
        (wide <= 1 && !values.is_empty()).then_some((output, classes, values))
    });
    let (output, classes, values) = scores
        .ok_or_else(|| misfit("no output looks like the scores of a classifier, [N, classes]", outputs))?;
    let is_distribution = |row: &[f32]| {
        row.iter().all(|v| (0.0..=1.0 + 1e-4).contains(v)) && (row.iter().sum::<f32>() - 1.0).abs() < 1e-2
    };
    let softmax = !values.chunks_exact(classes).all(is_distribution);
    let rows = values.chunks_exact(classes).map(|row| best(row, softmax, labels, top)).collect();
    Ok(Answer { output: output.0.clone(), softmax, rows })
}

fn best(row: &[f32], softmax: bool, labels: &Labels, top: usize) -> Vec<Class> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    // NaN sorts last; equal scores stay in the order of their classes.
    let key = |&class: &usize| if row[class].is_nan() { f32::NEG_INFINITY } else { row[class] };
    order.sort_by(|a, b| key(b).total_cmp(&key(a)));
    let highest = order.first().map_or(0.0, key);
    let sum: f32 = row.iter().filter(|score| !score.is_nan()).map(|score| (score - highest).exp()).sum();
    let probability = |score: f32| if softmax { (score - highest).exp() / sum } else { score };
    order
        .into_iter()
        .take(top)
        .map(|class| Class {
            class,
            label: labels.get(class).map(str::to_owned),
            score: row[class],
            probability: probability(row[class]),
        })
        .collect()
}

impl Answer {
    /// As a field of a document.
    pub fn to_json(&self) -> Value {
        let class = |class: &Class| json!({"class": class.class, "label": class.label, "score": class.score, "probability": class.probability});
        let rows: Vec<Vec<Value>> = self.rows.iter().map(|row| row.iter().map(class).collect()).collect();
        json!({"kind": "classify", "output": self.output, "softmax": self.softmax, "rows": rows})
    }

    /// Lines for people.
    pub fn to_lines(&self, labels: &Labels) -> Vec<String> {
        let mut lines = Vec::new();
        for (i, row) in self.rows.iter().enumerate() {
            let of = if self.rows.len() > 1 { format!(" of row {i}") } else { String::new() };
            let how = if self.softmax { "softmax of" } else { "from" };
            lines.push(format!("class   {how} output {}{of}", format::name(&self.output, 40)));
            lines
                .extend(row.iter().map(|class| {
                    format!("        {:>6.3}  {}", class.probability, labels.show(class.class))
                }));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sardonyx_ops::Tensor;

    fn output(dims: &[usize], values: &[f32]) -> Output {
        ("y".to_owned(), Tensor::from_slice(dims, values).unwrap())
    }

    #[test]
    fn logits_and_probabilities() {
        let logits = [output(&[2, 3], &[1.0, 3.0, 2.0, f32::NAN, -1.0, 5.0])];
        let answer = classify(&logits, &Labels::default(), 2).unwrap();
        assert!(answer.softmax);
        assert_eq!(answer.rows[0].iter().map(|c| c.class).collect::<Vec<_>>(), [1, 2]);
        let expected = 1.0 / (1.0 + (-1f32).exp() + (-2f32).exp());
        assert!((answer.rows[0][0].probability - expected).abs() < 1e-6);
        assert_eq!(answer.rows[1][0].class, 2);
        let sure = [output(&[1, 3, 1, 1], &[0.1, 0.2, 0.7])];
        let answer = classify(&sure, &Labels::default(), 5).unwrap();
        assert_eq!((answer.softmax, answer.rows[0].len(), answer.rows[0][0].probability), (false, 3, 0.7));
    }

    #[test]
    fn what_is_no_classifier() {
        let ids = ("y".to_owned(), Tensor::from_slice(&[1, 3], &[1i64, 2, 3]).unwrap());
        let mask = output(&[1, 2, 2, 2], &[0.0; 8]);
        let one = output(&[1, 1], &[0.5]);
        assert_eq!(classify(&[ids, mask, one], &Labels::default(), 5).unwrap_err().status(), 2);
    }
}
