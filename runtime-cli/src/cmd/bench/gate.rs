//! Gates: `p95_ms < 120`.

use std::collections::BTreeMap;

/// What a gate can be on, in readable units.
pub const NAMES: [&str; 21] = [
    "min_ms",
    "p50_ms",
    "p90_ms",
    "p95_ms",
    "p99_ms",
    "max_ms",
    "mean_ms",
    "cv",
    "per_s",
    "first_ms",
    "load_ms",
    "plan_ms",
    "shaders_ms",
    "rss_mib",
    "device_mib",
    "gpu_share",
    "spread",
    "errors_per_1k",
    "pre_ms",
    "run_ms",
    "post_ms",
];

/// A comparison of a measured value with a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// As it was written.
    pub text: String,
    name: &'static str,
    comparison: Comparison,
    limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Gate {
    /// Parses `NAME < LIMIT`.
    ///
    /// # Errors
    /// Text for people when the name or the comparison is unknown, or the limit is no number.
    pub fn parse(text: &str) -> Result<Gate, String> {
        let at = text.find(['<', '>']).ok_or("write NAME < LIMIT, with < <= > or >=")?;
        let (name, rest) = text.split_at(at);
        let (comparison, limit) = match rest.split_at_checked(2) {
            Some(("<=", limit)) => (Comparison::LessOrEqual, limit),
            Some((">=", limit)) => (Comparison::GreaterOrEqual, limit),
            _ if rest.starts_with('<') => (Comparison::Less, &rest[1..]),
            _ => (Comparison::Greater, &rest[1..]),
        };
        let name = name.trim();
        let name = NAMES
            .into_iter()
            .find(|known| *known == name)
            .ok_or_else(|| format!("{name:?} is not measured; there are {}", NAMES.join(" ")))?;
        let limit = limit.trim().parse().map_err(|_| format!("{:?} is no number", limit.trim()))?;
        Ok(Gate { text: text.trim().to_owned(), name, comparison, limit })
    }

    /// The measured value and whether it passes; `None` when it was not measured here.
    pub fn check(&self, values: &BTreeMap<&'static str, f64>) -> Option<(f64, bool)> {
        let value = *values.get(self.name)?;
        let passes = match self.comparison {
            Comparison::Less => value < self.limit,
            Comparison::LessOrEqual => value <= self.limit,
            Comparison::Greater => value > self.limit,
            Comparison::GreaterOrEqual => value >= self.limit,
        };
        Some((value, passes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons() {
        let values = BTreeMap::from([("p95_ms", 5.0), ("gpu_share", 1.0)]);
        for (text, passes) in [
            ("p95_ms < 5", false),
            ("p95_ms<=5", true),
            (" p95_ms > 4.9 ", true),
            ("gpu_share >= 0.95", true),
            ("p95_ms>5", false),
        ] {
            assert_eq!(Gate::parse(text).unwrap().check(&values).unwrap().1, passes, "{text}");
        }
        assert_eq!(Gate::parse("rss_mib < 1").unwrap().check(&values), None);
        for text in ["p95_ms = 5", "p95 < 5", "p95_ms < five", "", "<", "p95_ms <"] {
            assert!(Gate::parse(text).is_err(), "{text}");
        }
    }
}
