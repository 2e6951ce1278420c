//! Normalisations that come down to reductions and arithmetic: those whose statistics are wanted, and those whose lines
//! lie in several pieces.

use std::sync::Arc;

use super::normalize::{Normalize, Product, Span};
use super::statistic::Statistic;
use crate::compose::Composition;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::graph::ValueId;
use crate::ir::numbers::float_tensor;
use crate::operator::Expansion;
use crate::reduce::Kind;
use crate::reduce::lines::axis_index;

/// The nodes that a normalisation stands for, if it does not stay one. Types that round every step stay.
pub(super) fn expand(op: &Normalize, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
    let Some(data) = inputs.first().copied().flatten() else { return Ok(Expansion::Stays) };
    let exact = matches!(data.dtype, DType::F32 | DType::F64);
    match (data.rank(), data.dims()) {
        (Some(rank), _) if op.outputs != [Product::Normalized] && exact && data.dtype == op.stash => {
            statistics(op, inputs, rank)
        }
        (_, Some(dims)) if op.statistic == Statistic::Deviation && exact && op.lines(&dims)?.is_none() => {
            pieces(op, data, dims.len())
        }
        _ => Ok(Expansion::Stays),
    }
}

/// Differences from the mean, then the mean itself, and the mean of their squares.
fn moments(
    graph: &mut Composition,
    x: ValueId,
    axes: &[usize],
    centred: bool,
) -> Result<(ValueId, Option<ValueId>, ValueId), OpError> {
    let mean = centred.then(|| graph.reduce(Kind::Mean, x, axes, true));
    let apart = mean.map(|mean| graph.pointwise("Sub", &[x, mean])).transpose()?.unwrap_or(x);
    let squares = graph.pointwise("Mul", &[apart, apart])?;
    Ok((apart, mean, graph.reduce(Kind::Mean, squares, axes, true)))
}

/// A normalisation without statistics, and the statistics by themselves.
fn statistics(op: &Normalize, inputs: &[Option<&Fact>], rank: usize) -> Result<Expansion, OpError> {
    let (Span::From(axis), Statistic::Variance | Statistic::MeanSquare) = (&op.span, op.statistic) else {
        return Ok(Expansion::Stays);
    };
    let axes: Vec<usize> = (axis_index(*axis, rank)?..rank).collect();
    let mut graph = Composition::default();
    let mut all = Vec::new();
    for (index, fact) in inputs.iter().enumerate() {
        if let Some(fact) = fact {
            all.push(graph.input(index, fact));
        }
    }
    let Some(&x) = all.first() else { return Ok(Expansion::Stays) };
    let single = Normalize { outputs: vec![Product::Normalized], ..op.clone() };
    let mut outputs = vec![graph.node(Arc::new(single), &all)];
    let (_, mean, square) = moments(&mut graph, x, &axes, op.statistic.centred())?;
    outputs.extend(mean);
    let epsilon = graph.constant(float_tensor(op.stash, &[], &[f64::from(op.epsilon)])?);
    let sum = graph.pointwise("Add", &[square, epsilon])?;
    let root = graph.pointwise("Sqrt", &[sum])?;
    outputs.push(graph.pointwise("Reciprocal", &[root])?);
    Ok(graph.finish(&outputs))
}

/// Division by the deviation over axes with others between them.
fn pieces(op: &Normalize, data: &Fact, rank: usize) -> Result<Expansion, OpError> {
    let marks = op.marks(rank)?;
    let axes: Vec<usize> = (0..rank).filter(|&axis| marks.get(axis) == Some(&true)).collect();
    if axes.is_empty() {
        return Ok(Expansion::Stays);
    }
    let mut graph = Composition::default();
    let x = graph.input(0, data);
    let (apart, _, square) = moments(&mut graph, x, &axes, true)?;
    let root = graph.pointwise("Sqrt", &[square])?;
    let epsilon = graph.constant(float_tensor(data.dtype, &[], &[f64::from(op.epsilon)])?);
    let deviation = graph.pointwise("Add", &[root, epsilon])?;
    let y = graph.pointwise("Div", &[apart, deviation])?;
    Ok(graph.finish(&[y]))
}
