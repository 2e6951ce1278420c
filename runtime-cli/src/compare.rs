//! Is a tensor what it should be?

use sardonyx_ops::{DType, Tensor};
use serde_json::{Value, json};

use crate::elements;
use crate::output::format;
use crate::output::statistics::Statistics;

/// `|got - want| <= atol * unit + rtol * |want|` for each element; NaN equals NaN, infinities equal themselves, text is
/// equal exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Part of the wanted element.
    pub rtol: f64,
    /// Part of the unit.
    pub atol: f64,
    /// The unit is the largest finite magnitude of the wanted tensor, not 1.
    pub scaled: bool,
}

impl Tolerance {
    /// That of the official ONNX backend tests: rtol 1e-3 (bfloat16: 2^-6), atol 1e-7.
    pub fn official(dtype: DType) -> Tolerance {
        let rtol = if dtype == DType::BF16 { 1.0 / 64.0 } else { 1e-3 };
        Tolerance { rtol, atol: 1e-7, scaled: false }
    }

    /// What a run is held to when nothing else is asked for: in relation to the largest magnitude of the tensor, since
    /// errors of sums follow the summands and not the sum. Integers are exact.
    pub fn default_for(dtype: DType, half_precision: bool) -> Tolerance {
        let is_half = half_precision || matches!(dtype, DType::F16 | DType::BF16);
        match dtype {
            dtype if !dtype.is_float() => Tolerance { rtol: 0.0, atol: 0.0, scaled: false },
            _ if is_half => Tolerance { rtol: 2e-2, atol: 2e-3, scaled: true },
            _ => Tolerance { rtol: 1e-3, atol: 1e-4, scaled: true },
        }
    }
}

/// How far two tensors are apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Why they cannot be compared element by element: another type or other dimensions.
    pub mismatch: Option<String>,
    /// Elements compared.
    pub count: usize,
    /// Elements out of tolerance.
    pub outside: usize,
    /// The flat index of the first of them.
    pub first: Option<usize>,
    /// Largest absolute difference of finite elements.
    pub max_abs: f64,
    /// Largest difference relative to the wanted element, where that is not 0.
    pub max_rel: f64,
    /// Largest absolute difference relative to the standard deviation of the wanted tensor; 0 when there is none.
    pub of_spread: f64,
    /// Largest finite magnitude of the wanted tensor.
    pub largest: f64,
    /// What was asked for.
    pub tolerance: Tolerance,
}

impl Comparison {
    /// Within tolerance.
    pub fn passes(&self) -> bool {
        self.mismatch.is_none() && self.outside == 0
    }

    /// As a field of a document.
    pub fn to_json(&self) -> Value {
        json!({"pass": self.passes(), "mismatch": self.mismatch, "count": self.count, "outside": self.outside,
               "first_outside": self.first, "max_abs": self.max_abs, "max_rel": self.max_rel,
               "max_abs_of_spread": self.of_spread,
               "tolerance": {"rtol": self.tolerance.rtol, "atol": self.tolerance.atol,
                             "atol_unit": if self.tolerance.scaled { "largest magnitude" } else { "1" }}})
    }

    /// The numbers in one line.
    pub fn to_text(&self) -> String {
        if let Some(mismatch) = &self.mismatch {
            return mismatch.clone();
        }
        let [abs, rel, spread] = [self.max_abs, self.max_rel, self.of_spread].map(format::real);
        let mut text = format!("max abs {abs}  max rel {rel}  of spread {spread}");
        if let Some(first) = self.first {
            text += &format!("  {} of {} outside, first at {first}", self.outside, self.count);
        }
        text
    }
}

/// Compares element by element.
pub fn compare(got: &Tensor, want: &Tensor, tolerance: Tolerance) -> Comparison {
    let mut result = Comparison {
        mismatch: None,
        count: want.len(),
        outside: 0,
        first: None,
        max_abs: 0.0,
        max_rel: 0.0,
        of_spread: 0.0,
        largest: 0.0,
        tolerance,
    };
    if got.dtype() != want.dtype() || got.dims() != want.dims() {
        let [got, want] = [got, want].map(|tensor| format::signature(tensor.dtype(), tensor.dims()));
        result.mismatch = Some(format!("got {got}, want {want}"));
        return result;
    }
    // Equal bytes need no arithmetic, and 64-bit integers would lose digits in it.
    if got.dtype() != DType::Str && got.bytes() == want.bytes() {
        return result;
    }
    let mut outside = |i: usize| {
        result.outside += 1;
        result.first.get_or_insert(i);
    };
    if let (Some(got), Some(want)) = (got.strings(), want.strings()) {
        (0..want.len()).filter(|&i| got[i] != want[i]).for_each(&mut outside);
        return result;
    }
    let (Some(gots), Some(wants)) = (elements::to_f64(got), elements::to_f64(want)) else {
        let codes = |tensor: &Tensor| match tensor.dtype().bits() {
            4 => elements::unpack(tensor, 4).collect(),
            _ => tensor.bytes().to_vec(),
        };
        let (got, want) = (codes(got), codes(want));
        (0..want.len()).filter(|&i| got[i] != want[i]).for_each(&mut outside);
        return result;
    };
    let largest =
        wants.iter().copied().filter(|v| v.is_finite()).fold(0.0, |most, v| f64::max(most, v.abs()));
    let unit = if tolerance.scaled { largest } else { 1.0 };
    // Integers beyond 2^53 may be equal as floats and differ all the same.
    let wide = matches!(got.dtype(), DType::I64 | DType::U64) && tolerance.rtol == 0.0;
    let (mut max_abs, mut max_rel) = (0f64, 0f64);
    for (i, (&g, &w)) in gots.iter().zip(&wants).enumerate() {
        if (g.is_nan() && w.is_nan()) || (g == w && !wide) {
            continue;
        }
        if wide && got.bytes().get(8 * i..8 * i + 8) == want.bytes().get(8 * i..8 * i + 8) {
            continue;
        }
        if !g.is_finite() || !w.is_finite() {
            outside(i);
            continue;
        }
        let difference = (g - w).abs();
        max_abs = max_abs.max(difference);
        if w != 0.0 {
            max_rel = max_rel.max(difference / w.abs());
        }
        if difference > tolerance.atol * unit + tolerance.rtol * w.abs() || (wide && difference == 0.0) {
            outside(i);
        }
    }
    let spread = Statistics::of_values(&wants).std;
    let of_spread = if spread > 0.0 { max_abs / spread } else { 0.0 };
    Comparison { max_abs, max_rel, of_spread, largest, ..result }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(values: &[f32]) -> Tensor {
        Tensor::from_slice(&[values.len()], values).unwrap()
    }

    #[test]
    fn the_official_rule() {
        let official = Tolerance::official(DType::F32);
        let want = f32s(&[1.0, -1000.0, 0.0, f32::NAN, f32::INFINITY]);
        assert!(
            compare(&f32s(&[1.0009, -1000.9, 0.9e-7, f32::NAN, f32::INFINITY]), &want, official).passes()
        );
        let off = compare(&f32s(&[1.0, -1002.0, 2e-7, 0.0, f32::NEG_INFINITY]), &want, official);
        assert_eq!((off.outside, off.first, off.max_abs), (4, Some(1), 2.0));
        assert_eq!(off.max_rel, 0.002);
        assert_eq!(Tolerance::official(DType::BF16).rtol, 0.015625);
    }

    #[test]
    fn types_dimensions_and_exact_kinds() {
        let exact = Tolerance::default_for(DType::I64, false);
        let big = Tensor::from_slice(&[2], &[i64::MAX, 1]).unwrap();
        let near = Tensor::from_slice(&[2], &[i64::MAX - 1, 1]).unwrap();
        assert_eq!(compare(&near, &big, exact).first, Some(0));
        assert!(compare(&big, &big, exact).passes());
        let text = |t: &str| Tensor::from_strings(&[1], vec![t.into()]).unwrap();
        assert!(!compare(&text("a"), &text("b"), exact).passes());
        assert!(compare(&text("a"), &text("a"), exact).passes());
        let other = compare(&f32s(&[1.0]), &f32s(&[1.0, 2.0]), exact);
        assert_eq!(other.mismatch.as_deref(), Some("got f32[1], want f32[2]"));
        let code = |byte: u8| Tensor::from_bytes(DType::F8E4M3FN, &[1], vec![byte].into()).unwrap();
        assert!(!compare(&code(1), &code(2), exact).passes());
    }

    #[test]
    fn the_default_follows_the_largest_magnitude() {
        let tolerance = Tolerance::default_for(DType::F32, false);
        let want = f32s(&[100.0, 0.001]);
        assert!(compare(&f32s(&[100.0, 0.0109]), &want, tolerance).passes());
        let off = compare(&f32s(&[100.0, 0.0120]), &want, tolerance);
        assert_eq!(off.outside, 1);
        assert!((off.of_spread - 0.011 / 49.9995).abs() < 1e-6);
        assert_eq!(Tolerance::default_for(DType::F16, false).rtol, 2e-2);
        assert_eq!(Tolerance::default_for(DType::F32, true).rtol, 2e-2);
    }
}
