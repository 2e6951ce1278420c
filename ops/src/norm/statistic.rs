//! What a line of numbers is normalised by.

/// What the elements of a line, or their differences from the mean, are divided by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Statistic {
    /// The mean is taken away; √(variance + ε).
    Variance,
    /// √(mean of squares + ε)
    MeanSquare,
    /// Σ |x|; a line of zeros stays.
    L1,
    /// √ Σ x²; a line of zeros stays.
    L2,
    /// The mean is taken away; √variance + ε.
    Deviation,
}

impl Statistic {
    /// The number of the statistic in `normalize.wgsl`.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The mean is taken away first.
    pub fn centred(self) -> bool {
        matches!(self, Statistic::Variance | Statistic::Deviation)
    }

    /// What to multiply by, from the sum of squares (of magnitudes for [`Statistic::L1`]) of `len` elements.
    pub fn factor(self, sum: f64, len: usize, epsilon: f64) -> f64 {
        let mean = sum / len as f64;
        match self {
            Statistic::Variance | Statistic::MeanSquare => 1.0 / (mean + epsilon).sqrt(),
            Statistic::L1 | Statistic::L2 if sum == 0.0 => 0.0,
            Statistic::L1 => 1.0 / sum,
            Statistic::L2 => 1.0 / sum.sqrt(),
            Statistic::Deviation => 1.0 / (mean.sqrt() + epsilon),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_have_their_numbers() {
        assert_eq!(Statistic::Variance.factor(12.0, 4, 1.0), 0.5);
        assert_eq!(Statistic::L2.factor(16.0, 4, 1.0), 0.25);
        assert_eq!(Statistic::L1.factor(16.0, 4, 1.0), 0.0625);
        assert_eq!(Statistic::L1.factor(0.0, 4, 1.0), 0.0);
        assert_eq!(Statistic::Deviation.factor(16.0, 4, 2.0), 0.25);
        assert_eq!(Statistic::Deviation.number(), 4);
    }
}
