//! The loss of logarithms of probabilities: what both losses of this family come down to.

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, floats};
use crate::ir::view::View;
use crate::movement::sizes::{expect_indices, integers, optional, required};
use crate::reduce::lines::Lines;

/// What becomes of the losses of all samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reduction {
    /// One loss for each sample.
    None,
    /// Their sum.
    Sum,
    /// Their sum over the sum of their weights.
    Mean,
}

/// For each sample the negative logarithm of its target's probability, times the target's weight. Input 1 has the
/// targets, input 2 the weights of all classes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Likelihood {
    /// What becomes of the losses.
    pub reduction: Reduction,
    /// The target of samples that do not count; it need not be a class.
    pub ignored: Option<i64>,
}

impl Likelihood {
    /// Reads the attributes that both losses have.
    ///
    /// # Errors
    /// When there are not two or three inputs, or an attribute has a value that ONNX does not define.
    pub fn build(spec: &NodeSpec<'_>) -> Result<Likelihood, OpError> {
        spec.expect_inputs(2, 3, "2 or 3")?;
        let reduction = match spec.attributes.str("reduction")? {
            None | Some("mean") => Reduction::Mean,
            Some("sum") => Reduction::Sum,
            Some("none") => Reduction::None,
            Some(_) => return Err(OpError::Attribute { name: "reduction", expected: "none, sum or mean" }),
        };
        Ok(Likelihood { reduction, ignored: spec.attributes.int("ignore_index")?.copied() })
    }

    /// What is known about the loss.
    ///
    /// # Errors
    /// When types or ranks break a rule.
    pub fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Fact, OpError> {
        let (scores, target) = (required(inputs, 0)?, required(inputs, 1)?);
        if !scores.dtype.is_float() {
            return Err(OpError::Type { input: 0, expected: "a float", got: scores.dtype });
        }
        expect_indices(target.dtype, 1)?;
        if let Some(weight) = optional(inputs, 2)
            && weight.dtype != scores.dtype
        {
            return Err(OpError::Type { input: 2, expected: "the type of input 0", got: weight.dtype });
        }
        let samples = match &scores.shape {
            None => None,
            Some(shape) => match shape.as_slice() {
                [batch, _, rest @ ..] => Some([std::slice::from_ref(batch), rest].concat()),
                short => return Err(OpError::constraint("scores", "2 dimensions or more", short.len())),
            },
        };
        if let (Some(samples), Some(rank)) = (&samples, target.rank())
            && samples.len() != rank
        {
            return Err(OpError::constraint("target", format!("{} dimensions", samples.len()), rank));
        }
        let shape: Option<Vec<Dim>> = match self.reduction {
            Reduction::None => samples.or_else(|| target.shape.clone()),
            Reduction::Sum | Reduction::Mean => Some(Vec::new()),
        };
        Ok(Fact { dtype: scores.dtype, shape, value: None, sizes: None })
    }

    /// The loss of logarithms of probabilities of dimensions `[batch, classes, …]`: its dimensions and elements.
    ///
    /// # Errors
    /// When dimensions do not match, or a target is no class.
    pub fn loss(
        &self,
        logs: &[f64],
        dims: &[usize],
        target: &View<'_>,
        weight: Option<&View<'_>>,
    ) -> Result<(Vec<usize>, Vec<f64>), OpError> {
        let [batch, classes, rest @ ..] = dims else {
            return Err(OpError::constraint("scores", "2 dimensions or more", dims.len()));
        };
        let samples = [&[*batch], rest].concat();
        if target.dims != samples {
            return Err(OpError::constraint("target", format!("{samples:?}"), format!("{:?}", target.dims)));
        }
        let weights = match weight {
            Some(weight) if weight.dims != [*classes] => {
                return Err(OpError::constraint(
                    "weight",
                    format!("[{classes}]"),
                    format!("{:?}", weight.dims),
                ));
            }
            Some(weight) => floats(weight)?,
            None => filled(&[*classes], 1.0)?,
        };
        let targets = integers(target, 1)?;
        let lines = Lines::along(dims, 1);
        let mut losses = Vec::with_capacity(targets.len());
        let (mut total, mut total_weight) = (0.0, 0.0);
        for (sample, &class) in targets.iter().enumerate() {
            if Some(class) == self.ignored {
                losses.push(0.0);
                continue;
            }
            let outside = || OpError::constraint("target", format!("a class below {classes}"), class);
            let class = usize::try_from(class).ok().filter(|class| class < classes).ok_or_else(outside)?;
            let at = lines.first(sample) + class * lines.inner;
            let log = logs.get(at).ok_or(OpError::Internal("fewer scores than samples"))?;
            let weight = weights.get(class).ok_or_else(outside)?;
            losses.push(-log * weight);
            total -= log * weight;
            total_weight += weight;
        }
        Ok(match self.reduction {
            Reduction::None => (samples, losses),
            Reduction::Sum => (Vec::new(), vec![total]),
            Reduction::Mean => (Vec::new(), vec![total / total_weight]),
        })
    }
}
