//! Attention that exporters wrote as products and a softmax: `softmax(scale · q · kᵀ, masked) · v`.
//!
//! The scale may be on the scores, on queries or keys, or on both as a square root; a mask is added, or chooses between the
//! scores and a constant. A softmax whose NaNs become zeros is what a query without keys gives anyway.

use std::sync::Arc;

use sardonyx_ops::DType;
use sardonyx_ops::attention::{Attend, Sizes, Spot};
use sardonyx_ops::broadcast;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::matmul::matmul::MatMul;
use sardonyx_ops::norm::{Form, Softmax};
use sardonyx_ops::plan::{Plan, PlanStep};

use super::trace::Trace;
use super::{Report, dims, replace};

pub(super) fn run(plan: &mut Plan, report: &mut Report) {
    let trace = Trace::new(plan);
    let mut found = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        // The product of weights and values is the last of its steps.
        let Some((weights, values)) = product(step)
            .filter(|(_, _, op)| !op.trans_a && !op.trans_b && op.alpha == 1.0)
            .map(|(a, b, _)| (a, b))
        else {
            continue;
        };
        let Some(softmax) = softmax(plan, &trace, weights) else { continue };
        match attention(plan, &trace, step, &softmax, values) {
            Ok(new) => {
                report.fused(&new);
                found.push((index, new));
            }
            Err(reason) => report.declined(step, reason),
        }
    }
    replace(plan, found);
}

/// The factors of a matrix product.
fn product(step: &PlanStep) -> Option<(ValueId, ValueId, &MatMul)> {
    let op = (step.op.as_ref() as &dyn std::any::Any).downcast_ref::<MatMul>()?;
    match step.inputs.as_slice() {
        &[Some(a), Some(b)] if step.epilogue.is_none() => Some((a, b, op)),
        _ => None,
    }
}

/// A softmax on the way to the values.
struct Weights<'a> {
    /// The step, and those after it.
    steps: Vec<&'a PlanStep>,
    /// What it is taken of.
    scores: ValueId,
    /// Some result of these steps is read elsewhere.
    shared: bool,
}

/// The softmax that weights are the result of, conversions and protection from NaN aside.
fn softmax<'a>(plan: &'a Plan, trace: &Trace<'a>, weights: ValueId) -> Option<Weights<'a>> {
    let mut found = Weights { steps: Vec::new(), scores: weights, shared: false };
    let mut id = weights;
    let mut readers = 1;
    loop {
        let step = trace.writer(id)?;
        found.shared |= trace.reads(id) != readers;
        found.steps.push(step);
        readers = 1;
        if let Some(op) = (step.op.as_ref() as &dyn std::any::Any).downcast_ref::<Softmax>() {
            let rank = dims(plan, id).len() as i64;
            let last = op.axis == -1 || op.axis == rank - 1;
            found.scores = step.inputs.first().copied().flatten()?;
            return (op.form == Form::Soft && last && rank > 0).then_some(found);
        }
        let inner = trace.uncast(id);
        if inner != id {
            id = inner;
            continue;
        }
        let ("select", args) = trace.call(id)? else { return None };
        let &[condition, zero, kept] = args.as_slice() else { return None };
        match trace.call(condition)? {
            ("is_nan", tested) if tested == [kept] && trace.scalar(zero) == Some(0.0) => {}
            _ => return None,
        }
        (id, readers) = (kept, 2);
    }
}

/// What is done to the products of queries and keys.
#[derive(Default)]
struct Scores {
    scale: Option<f64>,
    mask: Option<(ValueId, f32)>,
}

fn attention(
    plan: &Plan,
    trace: &Trace<'_>,
    last: &PlanStep,
    weights: &Weights<'_>,
    values: ValueId,
) -> Result<PlanStep, String> {
    let mut nodes = last.nodes.clone();
    nodes.extend(weights.steps.iter().rev().flat_map(|step| step.nodes.iter().cloned()));
    if weights.shared {
        return Err("the weights have other readers".to_owned());
    }
    let mut scores = Scores::default();
    let mut id = weights.scores;
    let (mut q, mut k, op) = loop {
        let step = trace.writer(id).ok_or("the scores are no product")?;
        if trace.reads(id) != 1 {
            return Err(format!("the result of {} has other readers", step.name()));
        }
        nodes.extend(step.nodes.iter().cloned());
        if let Some(factors) = product(step) {
            break factors;
        }
        let inner = trace.uncast(id);
        id = if inner != id { inner } else { before(plan, trace, id, &mut scores)? };
    };
    if op.trans_a {
        return Err("the queries are transposed".to_owned());
    }
    let mut scale = scores.scale.unwrap_or(1.0) * f64::from(op.alpha);
    for factor in [&mut q, &mut k] {
        while let Some((inner, number)) = scaled(plan, trace, *factor) {
            scale *= number;
            *factor = inner;
        }
    }
    let dtype = |id: ValueId| plan.values.get(id.0).map(|value| value.dtype);
    let result = last.outputs.first().copied().flatten().ok_or("it has no result")?;
    if [q, k, values].iter().any(|&id| dtype(id) != dtype(result))
        || !matches!(dtype(result), Some(DType::F32 | DType::F16 | DType::BF16))
    {
        return Err("its factors are not floats of one type".to_owned());
    }
    let (q_dims, k_dims, v_dims) = (dims(plan, q), dims(plan, k), dims(plan, values));
    let (batch, heads) = match q_dims {
        [_, _] => (1, 1),
        [heads, _, _] => (1, *heads),
        [batch, heads, _, _] => (*batch, *heads),
        _ => return Err(format!("{} dimensions", q_dims.len())),
    };
    let outer = q_dims.len() - 2;
    if k_dims.get(..outer) != q_dims.get(..outer)
        || v_dims.get(..outer) != q_dims.get(..outer)
        || k_dims.len() != q_dims.len()
        || v_dims.len() != q_dims.len()
    {
        return Err("its factors stretch".to_owned());
    }
    let matrix = |all: &[usize]| <[usize; 2]>::try_from(all.get(outer..)?).ok();
    let (Some([queries, size]), Some([a, b]), Some([keys, value_size])) =
        (matrix(q_dims), matrix(k_dims), matrix(v_dims))
    else {
        return Err("its factors are no matrices".to_owned());
    };
    let sizes = Sizes { batch, heads, key_heads: heads, queries, keys, size, value_size };
    let given = if op.trans_b { (a, b) } else { (b, a) };
    if given != (keys, size) || sizes.scores().contains(&0) || size == 0 || value_size == 0 {
        return Err("its sizes do not fit together".to_owned());
    }
    let mut attend = Attend::dense(sizes, scale as f32);
    if !op.trans_b {
        let [outer, head, ..] = Spot::dense([batch, heads, size, keys]).strides;
        attend.k = Spot { offset: 0, strides: [outer, head, 1, keys] };
    }
    attend.dims = dims(plan, result).to_vec();
    let mut inputs = vec![Some(q), Some(k), Some(values)];
    if let Some((mask, fill)) = scores.mask {
        let own = dims(plan, mask);
        let all = [q_dims.get(..outer).unwrap_or(&[]), &[queries, keys]].concat();
        if broadcast::dims(&[own, &all]).ok().as_ref() != Some(&all) {
            return Err("its mask is larger than the scores".to_owned());
        }
        if dtype(mask) != Some(DType::Bool) && dtype(mask) != dtype(q) {
            return Err("its mask is of another type".to_owned());
        }
        (attend.mask, attend.fill) = (Spot::stretched(own), fill);
        inputs.push(Some(mask));
    }
    Ok(PlanStep { op: Arc::new(attend), inputs, outputs: vec![Some(result)], epilogue: None, nodes })
}

/// The value that scores were before one operation, which is noted.
fn before(plan: &Plan, trace: &Trace<'_>, id: ValueId, scores: &mut Scores) -> Result<ValueId, String> {
    if let Some((inner, number)) = scaled(plan, trace, id) {
        scores.scale = Some(scores.scale.unwrap_or(1.0) * number);
        return Ok(inner);
    }
    let (name, args) = trace.call(id).ok_or("the scores are no product")?;
    if scores.mask.is_some() {
        return Err("it has several masks".to_owned());
    }
    if scores.scale.is_some() {
        return Err("its mask is scaled".to_owned());
    }
    let leads = |id: ValueId| leads_to_product(trace, id);
    let (inner, mask) = match (name, args.as_slice()) {
        ("add", &[a, b]) if leads(a) && dims(plan, a) == dims(plan, id) => (a, (b, f32::NEG_INFINITY)),
        ("add", &[a, b]) if leads(b) && dims(plan, b) == dims(plan, id) => (b, (a, f32::NEG_INFINITY)),
        ("select", &[seen, a, fill]) if leads(a) && dims(plan, a) == dims(plan, id) => {
            let fill = trace.scalar(fill).ok_or("its mask chooses between scores and other values")?;
            (a, (seen, fill as f32))
        }
        ("select", _) => return Err("its mask hides what is true".to_owned()),
        _ => return Err(format!("{name} is done to the scores")),
    };
    scores.mask = Some(mask);
    Ok(inner)
}

/// Whether a value is a matrix product, other numbers aside.
fn leads_to_product(trace: &Trace<'_>, id: ValueId) -> bool {
    const MOST: usize = 8;
    let mut id = id;
    for _ in 0..MOST {
        let Some(step) = trace.writer(id) else { return false };
        if product(step).is_some() {
            return true;
        }
        let inner = trace.uncast(id);
        let next = match trace.call(id) {
            _ if inner != id => Some(inner),
            Some(("mul" | "div" | "add", args)) => {
                args.into_iter().find(|&arg| trace.scalar(arg).is_none() && trace.writer(arg).is_some())
            }
            Some(("select", args)) => args.get(1).copied(),
            _ => None,
        };
        let Some(next) = next else { return false };
        id = next;
    }
    false
}

/// A value times a number: the value, and the number.
fn scaled(plan: &Plan, trace: &Trace<'_>, id: ValueId) -> Option<(ValueId, f64)> {
    let (name, args) = trace.call(id)?;
    let &[a, b] = args.as_slice() else { return None };
    let (inner, number) = match (name, trace.scalar(a), trace.scalar(b)) {
        ("mul", _, Some(number)) => (a, number),
        ("mul", Some(number), None) => (b, number),
        ("div", _, Some(number)) if number != 0.0 => (a, 1.0 / number),
        _ => return None,
    };
    (number.is_finite() && dims(plan, inner) == dims(plan, id)).then_some((inner, number))
}
