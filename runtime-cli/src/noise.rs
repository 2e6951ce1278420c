//! How much of a value is left in another that should be the same: signal to quantization noise, and the angle.

use sardonyx::Tensor;

use crate::elements;

/// Sums over all elements seen.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Noise {
    signal: f64,
    noise: f64,
    other: f64,
    product: f64,
}

impl Noise {
    /// Adds a value and what became of it.
    pub fn add(&mut self, float: &Tensor, quantized: &Tensor) {
        let (Some(a), Some(b)) = (elements::to_f64(float), elements::to_f64(quantized)) else { return };
        for (a, b) in a.iter().zip(&b).filter(|(a, b)| a.is_finite() && b.is_finite()) {
            self.signal += a * a;
            self.noise += (a - b) * (a - b);
            self.other += b * b;
            self.product += a * b;
        }
    }

    /// Signal to quantization noise in dB; infinite without noise, `None` when nothing was seen.
    pub fn decibels(self) -> Option<f64> {
        match (self.signal > 0.0, self.noise > 0.0) {
            (_, true) => Some(10.0 * (self.signal / self.noise).log10()),
            (true, false) => Some(f64::INFINITY),
            (false, false) => None,
        }
    }

    /// [`Noise::decibels`] for documents: JSON has no infinity.
    pub fn finite(self) -> Option<f64> {
        self.decibels().filter(|value| value.is_finite())
    }

    /// [`Noise::decibels`] for people.
    pub fn show(self) -> String {
        match self.decibels() {
            None => "-".to_owned(),
            Some(value) if value.is_infinite() => "exact".to_owned(),
            Some(value) => format!("{value:.1} dB"),
        }
    }

    /// The cosine of the angle between both sides as vectors; `None` when one side is 0.
    pub fn cosine(self) -> Option<f64> {
        let lengths = (self.signal * self.other).sqrt();
        (lengths > 0.0).then(|| (self.product / lengths).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signal_to_noise() {
        let tensor = |values: &[f32]| Tensor::from_slice(&[values.len()], values).unwrap();
        let mut noise = Noise::default();
        assert_eq!(noise.decibels(), None);
        noise.add(&tensor(&[3.0, f32::NAN]), &tensor(&[3.0, 1.0]));
        assert_eq!(noise.decibels(), Some(f64::INFINITY));
        noise.add(&tensor(&[1.0]), &tensor(&[0.0]));
        assert!((noise.decibels().unwrap() - 10.0).abs() < 1e-12, "10 to 1");
        assert!((noise.cosine().unwrap() - 0.9f64.sqrt()).abs() < 1e-12);
    }
}
