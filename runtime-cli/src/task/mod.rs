//! What the outputs mean: classes, boxes, or just numbers.

pub mod answer;
pub mod boxes;
pub mod classify;
pub mod detect;
pub mod draw;
pub mod font;
pub mod labels;

use sardonyx_ops::Tensor;

use crate::elements;
use crate::failure::{Failure, Fault};

/// A named output.
pub type Output = (String, Tensor);

/// The elements of a floating-point output, as `f32`.
fn floats(output: &Output) -> Option<Vec<f32>> {
    if !output.1.dtype().is_float() {
        return None;
    }
    Some(elements::to_f64(&output.1)?.into_iter().map(|value| value as f32).collect())
}

/// A task that the outputs do not fit.
fn misfit(message: impl Into<String>, outputs: &[Output]) -> Failure {
    let shapes: Vec<String> = outputs
        .iter()
        .take(12)
        .map(|(name, tensor)| {
            let signature = crate::output::format::signature(tensor.dtype(), tensor.dims());
            format!("{} {signature}", crate::output::format::name(name, 40))
        })
        .collect();
    Failure::new(Fault::Task, message).why(format!("the outputs are {}", shapes.join(", ")))
}
