//! [`HannWindow`](https://onnx.ai/onnx/operators/onnx__HannWindow.html),
//! [`HammingWindow`](https://onnx.ai/onnx/operators/onnx__HammingWindow.html) and
//! [`BlackmanWindow`](https://onnx.ai/onnx/operators/onnx__BlackmanWindow.html): weights of a stretch of signal, as sums
//! of cosines.

use std::f64::consts::PI;
use std::sync::Arc;

use super::Number;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::filled;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::Operator;

/// A window: the sum of `terms[k] · cos(k · angle)`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Window {
    /// The operator's name in ONNX.
    pub name: &'static str,
    /// Factors of the cosines.
    pub terms: [f64; 3],
    /// The first element follows the last; otherwise both are the same.
    pub periodic: bool,
    /// Element type of the result.
    pub dtype: DType,
}

macro_rules! builders {
    ($($build:ident, $name:literal, $terms:expr;)*) => {$(
        /// Builds this window.
        ///
        /// # Errors
        /// When there is not one input, or the type is no number.
        pub fn $build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
            spec.expect_inputs(1, 1, "1")?;
            Ok(Arc::new(Window {
                name: $name,
                terms: $terms,
                periodic: spec.attributes.flag("periodic", true)?,
                dtype: super::output_datatype(spec)?,
            }))
        }
    )*};
}

builders! {
    build_hann, "HannWindow", [0.5, -0.5, 0.0];
    build_hamming, "HammingWindow", [25.0 / 46.0, -21.0 / 46.0, 0.0];
    build_blackman, "BlackmanWindow", [0.42, -0.5, 0.08];
}

impl Operator for Window {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let size = match Number::of_fact(inputs, 0)? {
            Number::Is(size) => Dim::Known(Number::size(size, "size", 0)?),
            _ => Dim::named("Window.size"),
        };
        Ok(vec![Fact::new(self.dtype, vec![size])])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let size = Number::of_run(inputs, 0)?.ok_or(OpError::Internal("an input is missing"))?;
        let size = Number::size(size, "size", 0)?;
        let mut all = filled(&[size], 0.0)?;
        // A symmetric window of one element is its middle, where all cosines point the same way.
        let period = if self.periodic { size } else { size.saturating_sub(1) };
        for (n, slot) in all.iter_mut().enumerate() {
            let angle = if period == 0 { PI } else { 2.0 * PI * n as f64 / period as f64 };
            *slot = self.terms.iter().zip([0.0, 1.0, 2.0]).map(|(term, k)| term * (k * angle).cos()).sum();
        }
        Ok(vec![super::numbers(self.dtype, &[size], &all)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_four_elements() {
        let of = |terms, periodic, size: i64| {
            let op = Window { name: "HannWindow", terms, periodic, dtype: DType::F64 };
            let size = Tensor::scalar(size);
            op.reference(&[Some(size.view())], 1).unwrap()[0].to_vec::<f64>().unwrap()
        };
        let near = |found: Vec<f64>, expected: &[f64]| {
            assert!(found.len() == expected.len(), "{found:?}");
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        };
        let (hann, blackman) = ([0.5, -0.5, 0.0], [0.42, -0.5, 0.08]);
        near(of(hann, true, 4), &[0.0, 0.5, 1.0, 0.5]);
        near(of(hann, false, 4), &[0.0, 0.75, 0.75, 0.0]);
        near(of(blackman, true, 4), &[0.0, 0.34, 1.0, 0.34]);
        near(of(hann, false, 1), &[1.0]);
        near(of(hann, false, 0), &[]);
    }
}
