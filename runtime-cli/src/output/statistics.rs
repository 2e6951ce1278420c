//! What a tensor's elements are like.

use sardonyx_ops::Tensor;
use serde_json::{Value, json};

use super::format;
use crate::elements;

/// Smallest, largest, mean and spread of the finite elements, and how many are not finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// Smallest finite element; 0 when there is none.
    pub min: f64,
    /// Largest finite element; 0 when there is none.
    pub max: f64,
    /// Mean of the finite elements.
    pub mean: f64,
    /// Standard deviation of the finite elements (of the population).
    pub std: f64,
    /// Elements that are not a number.
    pub nan: usize,
    /// Infinite elements.
    pub infinite: usize,
}

impl Statistics {
    /// The statistics of a tensor; `None` for text.
    pub fn of(tensor: &Tensor) -> Option<Statistics> {
        Some(Statistics::of_values(&elements::to_f64(tensor)?))
    }

    /// The statistics of numbers.
    pub fn of_values(values: &[f64]) -> Statistics {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let count = finite().count();
        let nan = values.iter().filter(|value| value.is_nan()).count();
        let infinite = values.len() - count - nan;
        if count == 0 {
            return Statistics { min: 0.0, max: 0.0, mean: 0.0, std: 0.0, nan, infinite };
        }
        let mean = finite().sum::<f64>() / count as f64;
        let variance = finite().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64;
        Statistics {
            min: finite().fold(f64::INFINITY, f64::min),
            max: finite().fold(f64::NEG_INFINITY, f64::max),
            mean,
            std: variance.sqrt(),
            nan,
            infinite,
        }
    }

    /// All elements are finite.
    pub fn is_finite(&self) -> bool {
        self.nan == 0 && self.infinite == 0
    }

    /// As a field of a document.
    pub fn to_json(self) -> Value {
        json!({"min": self.min, "max": self.max, "mean": self.mean, "std": self.std,
               "nan": self.nan, "infinite": self.infinite})
    }

    /// As a part of a line.
    pub fn to_text(self) -> String {
        let [min, max, mean, std] = [self.min, self.max, self.mean, self.std].map(format::real);
        let mut text = format!("min {min}  max {max}  mean {mean}  std {std}");
        if !self.is_finite() {
            text += &format!("  nan {}  inf {}", self.nan, self.infinite);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finite_elements_count() {
        let tensor = Tensor::from_vec(&[5], vec![1f32, 3.0, f32::NAN, f32::INFINITY, 5.0]).unwrap();
        let all = Statistics::of(&tensor).unwrap();
        assert_eq!((all.min, all.max, all.mean, all.nan, all.infinite), (1.0, 5.0, 3.0, 1, 1));
        assert!((all.std - (8.0f64 / 3.0).sqrt()).abs() < 1e-12 && !all.is_finite());
        let none = Statistics::of(&Tensor::from_vec::<f32>(&[0], vec![]).unwrap()).unwrap();
        assert_eq!((none.min, none.std), (0.0, 0.0));
    }
}
