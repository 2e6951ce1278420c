//! Intervals of shares.

/// The 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// The 95 % interval of a share by Wilson's score: `right` of `count`.
pub fn wilson(right: u64, count: u64) -> [f64; 2] {
    if count == 0 {
        return [0.0, 1.0];
    }
    let n = count as f64;
    let p = right as f64 / n;
    let middle = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    [((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0)]
}

/// Two models on the same inputs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Paired {
    count: u64,
    both: u64,
    only_new: u64,
    only_reference: u64,
}

impl Paired {
    /// Counts an input: which of the models is right.
    pub fn add(&mut self, new: bool, reference: bool) {
        self.count += 1;
        match (new, reference) {
            (true, true) => self.both += 1,
            (true, false) => self.only_new += 1,
            (false, true) => self.only_reference += 1,
            (false, false) => {}
        }
    }

    /// How often the reference is right.
    pub fn reference(&self) -> u64 {
        self.both + self.only_reference
    }

    /// The change in accuracy and its 95 % interval (Agresti and Min 2005: Wald's for pairs, with half an input more in
    /// each of the four cells, which keeps it honest when few or no answers change).
    pub fn delta(&self) -> (f64, [f64; 2]) {
        let (b, c) = (self.only_new as f64, self.only_reference as f64);
        let delta = (b - c) / self.count.max(1) as f64;
        let n = self.count as f64 + 2.0;
        let (b, c) = (b + 0.5, c + 0.5);
        let middle = (b - c) / n;
        let half = Z * (b + c - (b - c) * (b - c) / n).sqrt() / n;
        (delta, [(middle - half).max(-1.0), (middle + half).min(1.0)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: [f64; 2], want: [f64; 2]) {
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-4), "{got:?} {want:?}");
    }

    #[test]
    fn shares() {
        // Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        near(wilson(81, 263), [0.2553, 0.3662]);
        near(wilson(15, 148), [0.0624, 0.1605]);
        near(wilson(0, 20), [0.0, 0.1611]);
        near(wilson(1, 29), [0.0061, 0.1718]);
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
    }

    #[test]
    fn pairs() {
        let mut paired = Paired::default();
        for (new, reference, times) in
            [(true, true, 90), (true, false, 2), (false, true, 6), (false, false, 2)]
        {
            (0..times).for_each(|_| paired.add(new, reference));
        }
        let (delta, interval) = paired.delta();
        assert!((delta + 0.04).abs() < 1e-12 && paired.reference() == 96);
        // (2.5 - 6.5) / 102 +- 1.96 sqrt(9 - 16 / 102) / 102
        near(interval, [-0.0963, 0.0179]);
        assert!(Paired { count: 10, both: 10, ..Paired::default() }.delta().1[0] < 0.0, "ten are few");
    }
}
