//! How far two tensors are apart, by several measures.

use sardonyx::Tensor;
use serde_json::{Value, json};

use crate::compare::{Comparison, Tolerance, compare};
use crate::elements;
use crate::output::format;

/// What decides whether an output is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Metric {
    /// Every element within tolerance.
    Elemwise,
    /// The largest difference within the absolute tolerance.
    Max,
    /// The mean difference within the absolute tolerance.
    Mean,
    /// The cosine of the angle at least 0.9999.
    Cosine,
    /// A peak signal-to-noise ratio of at least 40 dB.
    Psnr,
    /// The same largest element along the last axis.
    Top1,
    /// The same five largest elements along the last axis, in any order.
    Top5,
}

/// All measures of two tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// Element by element.
    pub comparison: Comparison,
    /// Mean absolute difference.
    pub mean_abs: f64,
    /// Cosine of the angle between them as vectors.
    pub cosine: f64,
    /// Peak signal-to-noise ratio in dB; infinite when they are equal.
    pub psnr: f64,
    /// The share of rows with the same largest element.
    pub top1: f64,
    /// The share of rows with the same five largest elements.
    pub top5: f64,
}

impl Metrics {
    /// Measures `got` against `want`.
    pub fn of(got: &Tensor, want: &Tensor, tolerance: Tolerance) -> Metrics {
        let comparison = compare(got, want, tolerance);
        let mut metrics =
            Metrics { comparison, mean_abs: 0.0, cosine: 1.0, psnr: f64::INFINITY, top1: 1.0, top5: 1.0 };
        if metrics.comparison.mismatch.is_some() {
            return Metrics { cosine: 0.0, psnr: 0.0, top1: 0.0, top5: 0.0, ..metrics };
        }
        let (Some(a), Some(b)) = (elements::to_f64(got), elements::to_f64(want)) else { return metrics };
        if a.is_empty() {
            return metrics;
        }
        let (mut dot, mut aa, mut bb, mut abs, mut square) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (&a, &b) in a.iter().zip(&b).filter(|(a, b)| a.is_finite() && b.is_finite()) {
            dot += a * b;
            aa += a * a;
            bb += b * b;
            abs += (a - b).abs();
            square += (a - b) * (a - b);
        }
        let count = a.len() as f64;
        metrics.mean_abs = abs / count;
        metrics.cosine = match aa * bb {
            product if product > 0.0 => (dot / product.sqrt()).min(1.0),
            _ if aa == bb => 1.0,
            _ => 0.0,
        };
        let peak = b.iter().filter(|b| b.is_finite()).fold(0.0, |most: f64, b| most.max(b.abs()));
        if square > 0.0 {
            metrics.psnr = 10.0 * (peak * peak / (square / count)).log10();
        }
        let row = want.dims().last().copied().unwrap_or(1).max(1);
        metrics.top1 = same_tops(&a, &b, row, 1);
        metrics.top5 = same_tops(&a, &b, row, 5);
        metrics
    }

    /// Right by a metric.
    pub fn passes(&self, metric: Metric) -> bool {
        let limit = self.comparison.tolerance.atol * self.unit();
        match metric {
            _ if self.comparison.mismatch.is_some() => false,
            Metric::Elemwise => self.comparison.passes(),
            Metric::Max => self.comparison.max_abs <= limit,
            Metric::Mean => self.mean_abs <= limit,
            Metric::Cosine => self.cosine >= 0.9999,
            Metric::Psnr => self.psnr >= 40.0,
            Metric::Top1 => self.top1 >= 1.0,
            Metric::Top5 => self.top5 >= 1.0,
        }
    }

    /// What the absolute tolerance counts in.
    fn unit(&self) -> f64 {
        if self.comparison.tolerance.scaled { self.comparison.largest } else { 1.0 }
    }

    /// The largest difference as a part of the largest wanted element.
    pub fn relative(&self) -> f64 {
        match self.comparison.largest {
            largest if largest > 0.0 => self.comparison.max_abs / largest,
            _ => self.comparison.max_abs,
        }
    }

    /// In one line.
    pub fn to_text(&self) -> String {
        if let Some(mismatch) = &self.comparison.mismatch {
            return mismatch.clone();
        }
        let mut text = format!(
            "max abs {}  max rel {}  cosine {:.7}",
            format::real(self.comparison.max_abs),
            format::real(self.comparison.max_rel),
            self.cosine
        );
        if self.psnr.is_finite() {
            text += &format!("  psnr {:.0} dB", self.psnr);
        }
        if self.comparison.outside > 0 {
            text += &format!("  {} of {} outside", self.comparison.outside, self.comparison.count);
        }
        text
    }

    /// As fields of a document.
    pub fn to_json(&self) -> Value {
        let mut fields = self.comparison.to_json();
        fields["mean_abs"] = json!(self.mean_abs);
        fields["cosine"] = json!(self.cosine);
        fields["psnr_db"] = if self.psnr.is_finite() { json!(self.psnr) } else { Value::Null };
        fields["same_top1"] = json!(self.top1);
        fields["same_top5"] = json!(self.top5);
        fields
    }
}

/// The share of rows of which the `k` largest elements are the same.
fn same_tops(a: &[f64], b: &[f64], row: usize, k: usize) -> f64 {
    let tops = |row: &[f64]| {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&i, &j| row[j].total_cmp(&row[i]).then(i.cmp(&j)));
        order.truncate(k);
        order.sort_unstable();
        order
    };
    let rows = a.chunks(row).zip(b.chunks(row));
    let count = rows.len().max(1);
    rows.filter(|(a, b)| tops(a) == tops(b)).count() as f64 / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use sardonyx::DType;

    #[test]
    fn measures() {
        let tensor = |values: &[f32]| Tensor::from_slice(&[1, values.len()], values).unwrap();
        let tolerance = Tolerance::default_for(DType::F32, false);
        let want = tensor(&[1.0, 2.0, 3.0, -4.0]);
        let equal = Metrics::of(&want, &want, tolerance);
        assert!((equal.cosine - 1.0).abs() < 1e-12 && equal.psnr.is_infinite());
        let off = Metrics::of(&tensor(&[1.0, 2.0, 3.0, -4.4]), &want, tolerance);
        assert!(!off.passes(Metric::Elemwise) && !off.passes(Metric::Max) && off.passes(Metric::Top1));
        assert!((off.mean_abs - 0.1).abs() < 1e-6 && (off.relative() - 0.1).abs() < 1e-6);
        assert!((off.psnr - 10.0 * (16.0f64 / 0.04).log10()).abs() < 1e-4);
        let swapped = Metrics::of(&tensor(&[3.0, 2.0, 1.0, -4.0]), &want, tolerance);
        assert!(!swapped.passes(Metric::Top1) && swapped.passes(Metric::Top5));
        assert!(!Metrics::of(&tensor(&[1.0]), &want, tolerance).passes(Metric::Cosine));
    }
}
