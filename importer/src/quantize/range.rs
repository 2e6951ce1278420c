//! Which range of an activation 8-bit codes cover, from what was seen of it.

use crate::error::ImportError;

/// How a range follows from what was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// From the lowest to the highest element.
    MinMax,
    /// This share of the elements, in percent; the rest is cut off at both ends alike.
    Percentile(f64),
    /// The range whose codes have the least Kullback-Leibler divergence from the elements.
    Entropy,
    /// The range whose codes have the least mean squared error.
    Mse,
}

/// A range that codes cover. It holds 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Lowest element.
    pub low: f32,
    /// Highest element.
    pub high: f32,
}

impl Range {
    /// The range of no elements: 0 alone.
    pub const EMPTY: Range = Range { low: 0.0, high: 0.0 };

    /// Widened to hold these elements; what is not finite is left out.
    pub fn with(self, values: &[f32]) -> Range {
        let finite = values.iter().filter(|v| v.is_finite());
        finite.fold(self, |range, v| Range { low: range.low.min(*v), high: range.high.max(*v) })
    }

    /// Scale and zero point of unsigned codes of 8 bits: `code = round(x / scale) + zero`.
    pub(super) fn codes(self) -> (f32, u8) {
        let scale = (f64::from(self.high) - f64::from(self.low)) / 255.0;
        if scale < f64::from(f32::MIN_POSITIVE) {
            return (1.0, 0);
        }
        // The zero point of the scale as it is stored.
        let scale = scale as f32;
        (scale, (-self.low / scale).round_ties_even().clamp(0.0, 255.0) as u8)
    }

    fn scaled(self, part: f32) -> Range {
        Range { low: self.low * part, high: self.high * part }
    }
}

/// How elements are spread over a range.
#[derive(Debug, Clone)]
pub struct Histogram {
    range: Range,
    counts: Vec<u64>,
}

/// Bins of a histogram: eight for each code.
const BINS: usize = 2048;

/// Ranges that are tried, as percents of the whole.
const TRIED: std::ops::RangeInclusive<u8> = 20..=100;

impl Histogram {
    /// An empty histogram over a range.
    pub fn new(range: Range) -> Histogram {
        Histogram { range, counts: vec![0; BINS] }
    }

    fn width(&self) -> f64 {
        (f64::from(self.range.high) - f64::from(self.range.low)) / BINS as f64
    }

    /// Counts elements; those outside count at the end, those that are not finite nowhere.
    pub fn add(&mut self, values: &[f32]) {
        let width = self.width();
        if width <= 0.0 {
            return;
        }
        for value in values.iter().filter(|v| v.is_finite()) {
            let bin = ((f64::from(*value) - f64::from(self.range.low)) / width) as usize;
            if let Some(count) = self.counts.get_mut(bin.min(BINS - 1)) {
                *count += 1;
            }
        }
    }

    /// The middle of a bin.
    fn middle(&self, bin: usize) -> f64 {
        f64::from(self.range.low) + (bin as f64 + 0.5) * self.width()
    }

    /// The range that the codes should cover.
    pub fn range(&self, method: Method) -> Range {
        let least = |cost: &dyn Fn(Range) -> f64| {
            let tried = TRIED.rev().map(|percent| self.range.scaled(f32::from(percent) / 100.0));
            let costs = tried.map(|range| (range, cost(range)));
            let best = costs.reduce(|best, next| if next.1 < best.1 { next } else { best });
            best.map_or(self.range, |(range, _)| range)
        };
        match method {
            Method::MinMax => self.range,
            Method::Percentile(share) => self.percentile(share),
            Method::Mse => least(&|range| self.squared_error(range)),
            Method::Entropy => least(&|range| self.divergence(range)),
        }
    }

    fn percentile(&self, share: f64) -> Range {
        let total: u64 = self.counts.iter().sum();
        let cut = total as f64 * (1.0 - share / 100.0) / 2.0;
        let end = |counts: &mut dyn Iterator<Item = &u64>| {
            let mut seen = 0.0;
            counts
                .take_while(|count| {
                    seen += **count as f64;
                    seen <= cut
                })
                .count() as f64
        };
        let (low, high) = (end(&mut self.counts.iter()), end(&mut self.counts.iter().rev()));
        Range {
            low: ((f64::from(self.range.low) + low * self.width()) as f32).min(0.0),
            high: ((f64::from(self.range.high) - high * self.width()) as f32).max(0.0),
        }
    }

    fn squared_error(&self, range: Range) -> f64 {
        let (scale, zero) = range.codes();
        let (scale, zero) = (f64::from(scale), f64::from(zero));
        let error = |(bin, count): (usize, &u64)| {
            let value = self.middle(bin);
            let back = ((value / scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero;
            *count as f64 * (value - back * scale).powi(2)
        };
        self.counts.iter().enumerate().map(error).sum()
    }

    /// `sum p log(p / q)`, where `p` are the bins with what lies outside the range counted at its ends, and `q` the bins
    /// within as codes see them: each gets the mean of the bins that are not empty and have its code.
    fn divergence(&self, range: Range) -> f64 {
        let (scale, zero) = range.codes();
        let code = |bin: usize| {
            let code = (self.middle(bin) / f64::from(scale)).round_ties_even() + f64::from(zero);
            code.clamp(0.0, 255.0) as usize
        };
        let inside = |bin: usize| {
            let middle = self.middle(bin);
            middle >= f64::from(range.low) && middle <= f64::from(range.high)
        };
        let (mut sums, mut filled) = ([0f64; 256], [0f64; 256]);
        let (mut p, mut below, mut above) = (vec![0f64; BINS], 0f64, 0f64);
        for (bin, (count, place)) in self.counts.iter().zip(&mut p).enumerate() {
            let count = *count as f64;
            match inside(bin) {
                true => {
                    *place = count;
                    if let (Some(sum), Some(n)) = (sums.get_mut(code(bin)), filled.get_mut(code(bin))) {
                        *sum += count;
                        *n += if count > 0.0 { 1.0 } else { 0.0 };
                    }
                }
                false if self.middle(bin) < 0.0 => below += count,
                false => above += count,
            }
        }
        let within: Vec<usize> = (0..BINS).filter(|bin| inside(*bin)).collect();
        for (end, more) in [(within.first(), below), (within.last(), above)] {
            if let Some(place) = end.and_then(|bin| p.get_mut(*bin)) {
                *place += more;
            }
        }
        let (total, kept) = (p.iter().sum::<f64>(), sums.iter().sum::<f64>());
        let term = |bin: &usize| {
            let p = p.get(*bin).copied().unwrap_or_default() / total;
            let (sum, n) = (sums.get(code(*bin)), filled.get(code(*bin)));
            let q = sum.zip(n).map_or(0.0, |(sum, n)| sum / n.max(1.0)) / kept;
            match p > 0.0 {
                // A bin that only what lies outside fills has no code of its own: as unlikely as it gets.
                true => p * (p / q.max(1e-9)).ln(),
                false => 0.0,
            }
        };
        within.iter().map(term).sum()
    }
}

/// A range for each value that was asked for.
pub(super) fn missing(name: &std::sync::Arc<str>) -> ImportError {
    let name = name.clone();
    ImportError::Input { name, detail: "its range is not known: it was not seen during calibration".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 000 elements between -1 and 1, most near 0, and one at 100.
    fn outlier() -> Histogram {
        let mut values: Vec<f32> = (0..10_000).map(|i| ((i as f32) / 5000.0 - 1.0).powi(3)).collect();
        values.push(100.0);
        let mut histogram = Histogram::new(Range::EMPTY.with(&values));
        histogram.add(&values);
        histogram
    }

    #[test]
    fn ranges() {
        let histogram = outlier();
        assert_eq!(histogram.range(Method::MinMax), Range { low: -1.0, high: 100.0 });
        let cut = histogram.range(Method::Percentile(99.9));
        assert!(cut.high < 1.1 && cut.low < -0.9, "{cut:?}");
        assert_eq!(histogram.range(Method::Percentile(100.0)), Range { low: -1.0, high: 100.0 });
        // One element far away is worth more to the squared error than to the distribution.
        assert!(histogram.range(Method::Entropy).high <= histogram.range(Method::Mse).high);
        let mut flat = Histogram::new(Range { low: 0.0, high: 1.0 });
        flat.add(&(0..=1000).map(|i| i as f32 / 1000.0).collect::<Vec<f32>>());
        assert!(flat.range(Method::Mse).high > 0.97, "nothing to cut: {:?}", flat.range(Method::Mse));
        let mut none = Histogram::new(Range::EMPTY);
        none.add(&[0.0, 0.0]);
        for method in [Method::MinMax, Method::Percentile(99.0), Method::Entropy, Method::Mse] {
            assert_eq!(none.range(method), Range::EMPTY);
        }
    }

    #[test]
    fn codes() {
        assert_eq!(Range { low: -1.0, high: 254.0 }.codes(), (1.0, 1));
        assert_eq!(Range { low: 0.0, high: 6.0 }.codes().1, 0);
        assert_eq!(Range { low: -6.0, high: 0.0 }.codes().1, 255);
        assert_eq!(Range::EMPTY.codes(), (1.0, 0));
    }
}
