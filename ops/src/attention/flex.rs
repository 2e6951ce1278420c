//! [FlexAttention](https://onnx.ai/onnx/operators/onnx_ai_onnx_preview_FlexAttention.html).

use std::sync::Arc;

use super::padding::scale_of;
use super::scaled::{self, Sizes};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::attributes::Attribute;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::graph::{Graph, ValueId};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{optional, required};
use crate::operator::{Expansion, Operator};
use crate::sketch::{self, Given, Sketch};

/// Attention whose scores and weights pass through graphs of the model.
#[derive(Clone, Debug)]
pub struct FlexAttention {
    scale: Option<f32>,
    precision: Option<DType>,
    weights: Option<Arc<Graph>>,
    scores: Option<Arc<Graph>>,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, 3, "3")?;
    let graph = |name| spec.attributes.get(name).is_some().then(|| spec.attributes.graph(name)).transpose();
    let precision = match spec.attributes.int("softmax_precision")? {
        None => None,
        Some(&number) => Some(
            DType::from_onnx(number)
                .filter(|dtype| matches!(dtype, DType::F32 | DType::F16 | DType::F64 | DType::BF16))
                .ok_or(OpError::Attribute { name: "softmax_precision", expected: "a float type" })?,
        ),
    };
    Ok(Arc::new(FlexAttention {
        scale: spec.attributes.float("scale")?.copied(),
        precision,
        weights: graph("prob_mod")?,
        scores: graph("score_mod")?,
    }))
}

/// One value through a graph that keeps its type and dimensions.
fn through(
    sketch: &mut Sketch,
    graph: Option<&Arc<Graph>>,
    value: ValueId,
    captures: &[ValueId],
) -> Result<ValueId, OpError> {
    let Some(graph) = graph else { return Ok(value) };
    let given: Vec<ValueId> = std::iter::once(value).chain(captures.iter().copied()).collect();
    let outputs = sketch.inline(graph, &given)?;
    let &[result] = outputs.as_slice() else {
        return Err(OpError::Arity { what: "outputs", expected: "1", got: outputs.len() });
    };
    let (expected, got) = (sketch.dims(value)?, sketch.dims(result)?);
    if expected != got || sketch.dtype(value)? != sketch.dtype(result)? {
        return Err(OpError::constraint("a modified tensor", format!("{expected:?}"), format!("{got:?}")));
    }
    Ok(result)
}

impl FlexAttention {
    fn draw(&self, sketch: &mut Sketch, given: &Given) -> Result<Vec<ValueId>, OpError> {
        let input = |index: usize| optional(given, index).ok_or(OpError::Internal("an input is missing"));
        let (q, k, v) = (input(0)?, input(1)?, input(2)?);
        // The graphs' captures come in the order of the attributes' names.
        let count = |graph: &Option<Arc<Graph>>| graph.as_ref().map_or(0, |graph| graph.captures.len());
        let captures: Vec<ValueId> = given.iter().skip(3).copied().flatten().collect();
        let lost = || OpError::Internal("a captured value is missing");
        let (of_weights, of_scores) = captures.split_at_checked(count(&self.weights)).ok_or_else(lost)?;
        let sizes = Sizes::new(&sketch.dims(q)?, &sketch.dims(k)?, &sketch.dims(v)?)?;
        let dtype = sketch.dtype(q)?;
        let default = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let precise = self.precision.unwrap_or(default);
        let scores = scaled::products(sketch, [q, k], scale_of(self.scale, sizes.size), &sizes)?;
        let scores = sketch.cast(scores, precise)?;
        let scores = through(sketch, self.scores.as_ref(), scores, of_scores)?;
        let weights = sketch.call("Softmax", &[("axis", Attribute::Int(-1))], &[scores])?;
        let weights = through(sketch, self.weights.as_ref(), weights, of_weights)?;
        let values = sketch.cast(v, precise)?;
        let result = scaled::gather(sketch, weights, values, &sizes)?;
        Ok(vec![sketch.cast(result, dtype)?])
    }
}

impl Operator for FlexAttention {
    fn name(&self) -> &'static str {
        "FlexAttention"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (q, v) = (required(inputs, 0)?, required(inputs, 2)?);
        let mut fact = Fact::unranked(q.dtype);
        if let (Some([batch, heads, length, _]), Some([_, _, _, size])) =
            (q.shape.as_deref(), v.shape.as_deref())
        {
            fact.shape = Some([batch, heads, length, size].map(Clone::clone).to_vec());
        }
        Ok(vec![fact])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        sketch::evaluate(inputs, outputs, &|sketch, given| self.draw(sketch, given))
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        sketch::expansion(inputs, &|sketch, given| self.draw(sketch, given))
    }
}
