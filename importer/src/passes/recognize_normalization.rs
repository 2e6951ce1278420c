//! Layer and root-mean-square normalisations that exporters wrote as means, differences and square roots.
//!
//! What is looked for is `d / √(mean(d²) + ε)` over trailing dimensions, `d` being a value or its difference from its mean,
//! then a scale and a bias where they follow. Between, narrow floats may be wide.

use std::sync::Arc;

use sardonyx_ops::DType;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::norm::{Normalize, Product, Span, Statistic, Stretch};
use sardonyx_ops::plan::{Plan, PlanStep};
use sardonyx_ops::reduce::Kind;

use super::trace::{Trace, call, cast};
use super::{Report, dims, replace};

pub(super) fn run(plan: &mut Plan, report: &mut Report) {
    let trace = Trace::new(plan);
    let mut found = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let Some(core) = core(&trace, step) else { continue };
        let (place, new) = complete(plan, &trace, index, step, &core);
        report.fused(&new);
        found.push((place, new));
    }
    replace(plan, found);
}

/// The heart of a normalisation.
struct Core {
    /// What is normalised.
    x: ValueId,
    statistic: Statistic,
    epsilon: f32,
    /// The first normalised dimension.
    axis: usize,
}

fn core(trace: &Trace<'_>, step: &PlanStep) -> Option<Core> {
    let (name, args) = call(step)?;
    let &[a, b] = args.as_slice() else { return None };
    let (d, spread) = match name {
        "div" => (a, root(trace, b)?),
        "mul" => match (inverse_root(trace, b), inverse_root(trace, a)) {
            (Some(spread), _) => (a, spread),
            (None, Some(spread)) => (b, spread),
            (None, None) => return None,
        },
        _ => return None,
    };
    let ("add", terms) = trace.call(spread)? else { return None };
    let &[a, b] = terms.as_slice() else { return None };
    let (variance, epsilon) = match (trace.scalar(b), trace.scalar(a)) {
        (Some(epsilon), _) => (a, epsilon),
        (None, Some(epsilon)) => (b, epsilon),
        (None, None) => return None,
    };
    let (square, axis) = mean(trace, variance)?;
    let (name, args) = trace.call(square)?;
    let squared = match (name, args.as_slice()) {
        ("pow", &[base, exponent]) if trace.scalar(exponent) == Some(2.0) => base,
        ("mul", &[a, b]) if a == b => a,
        _ => return None,
    };
    if squared != d {
        return None;
    }
    let epsilon = epsilon as f32;
    if let Some(("sub", args)) = trace.call(d)
        && let &[x, centre] = args.as_slice()
        && mean(trace, centre) == Some((x, axis))
    {
        return Some(Core { x, statistic: Statistic::Variance, epsilon, axis });
    }
    Some(Core { x: d, statistic: Statistic::MeanSquare, epsilon, axis })
}

/// What the square root is taken of.
fn root(trace: &Trace<'_>, id: ValueId) -> Option<ValueId> {
    match trace.call(id)? {
        ("sqrt", args) => args.first().copied(),
        _ => None,
    }
}

/// What the inverse of the square root is taken of.
fn inverse_root(trace: &Trace<'_>, id: ValueId) -> Option<ValueId> {
    let (name, args) = trace.call(id)?;
    match (name, args.as_slice()) {
        ("reciprocal", &[below]) => root(trace, below),
        ("div", &[one, below]) if trace.scalar(one) == Some(1.0) => root(trace, below),
        ("pow", &[base, exponent]) if trace.scalar(exponent) == Some(-0.5) => Some(base),
        _ => None,
    }
}

/// What a mean over trailing dimensions, which stay as 1, is taken of, and the first of them.
fn mean(trace: &Trace<'_>, id: ValueId) -> Option<(ValueId, usize)> {
    let (x, mask) = trace.reduced(id, Kind::Mean)?;
    let axis = mask.iter().position(|&reduced| reduced)?;
    mask.iter().skip(axis).all(|&reduced| reduced).then_some((x, axis))
}

/// The whole normalisation, and the place of the last step that it stands for.
fn complete(plan: &Plan, trace: &Trace<'_>, index: usize, step: &PlanStep, core: &Core) -> (usize, PlanStep) {
    let dtype = |id: ValueId| plan.values.get(id.0).map(|value| value.dtype);
    let (mut place, mut result) = (index, step.outputs.first().copied().flatten());
    let mut inputs = vec![Some(core.x)];
    let mut nodes = step.nodes.clone();
    // Of what was narrow and becomes narrow again, the wide form is not needed.
    let narrow = trace.uncast(core.x);
    if let Some(id) = result.filter(|_| dtype(narrow) == Some(DType::F16))
        && let Some((at, next)) = trace.reader(id)
        && cast(next) == Some(id)
        && let Some(Some(cast)) = next.outputs.first()
        && dtype(*cast) == Some(DType::F16)
    {
        inputs = vec![Some(narrow)];
        nodes.extend(next.nodes.iter().cloned());
        (place, result) = (at, Some(*cast));
    }
    for wanted in ["mul", "add"] {
        let Some((id, (at, next))) = result.and_then(|id| Some((id, trace.reader(id)?))) else { break };
        let Some((name, args)) = call(next) else { break };
        let &[a, b] = args.as_slice() else { break };
        let other = if a == id { b } else { a };
        let fits = name == wanted && parameter(plan, other, id, core.axis) && dtype(other) == dtype(id);
        if !fits || a == b {
            break;
        }
        inputs.push(Some(other));
        nodes.extend(next.nodes.iter().cloned());
        (place, result) = (at, next.outputs.first().copied().flatten());
    }
    let name = match core.statistic {
        Statistic::Variance => "LayerNormalization",
        _ => "RMSNormalization",
    };
    let op = Normalize {
        name,
        statistic: core.statistic,
        epsilon: core.epsilon,
        span: Span::From(core.axis as i64),
        stretch: Stretch::Trailing,
        outputs: vec![Product::Normalized],
        stash: DType::F32,
    };
    (place, PlanStep { op: Arc::new(op), inputs, outputs: vec![result], epilogue: None, nodes })
}

/// Whether a value lies over the normalised dimensions, and over no others.
fn parameter(plan: &Plan, id: ValueId, data: ValueId, axis: usize) -> bool {
    let (own, data) = (dims(plan, id), dims(plan, data));
    let inner = data.get(axis..).unwrap_or(&[]);
    let ahead = own.len().saturating_sub(inner.len());
    own.len() <= data.len() && own.iter().take(ahead).all(|&n| n == 1) && own.get(ahead..) == Some(inner)
}
