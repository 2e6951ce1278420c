//! An Einsum as transpositions, sums and matrix products, two operands at a time from the left.

use std::sync::Arc;

use super::equation::Indices;
use super::matmul::MatMul;
use super::reference;
use crate::compose::Composition;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::graph::ValueId;
use crate::ir::tensor::element_count;
use crate::movement::transpose::Transpose;
use crate::operator::Expansion;
use crate::reduce::Kind;

/// A value of the graph, and the index and extent of each of its axes.
struct Operand {
    value: ValueId,
    indices: Vec<usize>,
    dims: Vec<usize>,
}

/// The graph, when this form can say it: sizes are known and not zero, no operand reads a diagonal, no extent that is
/// summed over stretches, and no result is rounded more than once.
pub(super) fn expand(indices: &Indices, facts: &[&Fact]) -> Result<Option<Expansion>, OpError> {
    let Some(first) = facts.first() else { return Ok(None) };
    let exact = !matches!(first.dtype, DType::F16 | DType::BF16);
    let shapes: Option<Vec<Vec<usize>>> = facts.iter().map(|fact| fact.dims()).collect();
    let Some(shapes) = shapes else { return Ok(None) };
    let empty = shapes.iter().flatten().any(|&extent| extent == 0);
    if empty || indices.diagonal() || !reference::takes(first.dtype) || (!exact && facts.len() > 2) {
        return Ok(None);
    }
    let mut extents = vec![1; indices.count];
    for (&index, &extent) in indices.operands.iter().flatten().zip(shapes.iter().flatten()) {
        extents[index] = extent.max(extents[index]);
    }
    let stretched = indices.operands.iter().flatten().zip(shapes.iter().flatten());
    let summed = |index: &usize| !indices.output.contains(index);
    if stretched.into_iter().any(|(index, &extent)| summed(index) && extent != extents[*index]) {
        return Ok(None);
    }
    let mut graph = Composition::default();
    let mut operands = Vec::new();
    for (at, (fact, dims)) in facts.iter().zip(shapes).enumerate() {
        let operand = Operand { value: graph.input(at, fact), indices: indices.operands[at].clone(), dims };
        let elsewhere = |index: &usize| {
            let others = indices.operands.iter().enumerate().filter(|(other, _)| *other != at);
            indices.output.contains(index) || others.flat_map(|(_, own)| own).any(|own| own == index)
        };
        let reduced = operand.indices.iter().any(|index| !elsewhere(index));
        if reduced && !exact && facts.len() > 1 {
            return Ok(None);
        }
        operands.push(operand.sum(&mut graph, elsewhere));
    }
    let mut rest = operands.into_iter();
    let Some(mut all) = rest.next() else { return Ok(None) };
    while let Some(next) = rest.next() {
        let wanted: Vec<usize> =
            rest.as_slice().iter().flat_map(|later| &later.indices).chain(&indices.output).copied().collect();
        all = all.join(next, &wanted, &mut graph)?;
    }
    let result = all.arrange(&indices.output, &mut graph)?;
    Ok(Some(graph.finish(&[result.value])))
}

impl Operand {
    /// Sums over the axes whose index is not kept.
    fn sum(self, graph: &mut Composition, keep: impl Fn(&usize) -> bool) -> Operand {
        let gone: Vec<usize> = (0..self.indices.len()).filter(|&axis| !keep(&self.indices[axis])).collect();
        if gone.is_empty() {
            return self;
        }
        let value = graph.reduce(Kind::Sum, self.value, &gone, false);
        let left = |all: Vec<usize>| {
            all.into_iter().enumerate().filter(|(axis, _)| !gone.contains(axis)).map(|(_, x)| x).collect()
        };
        Operand { value, indices: left(self.indices), dims: left(self.dims) }
    }

    /// The same with its axes in this order, which names each.
    fn arrange(self, order: &[usize], graph: &mut Composition) -> Result<Operand, OpError> {
        if order == self.indices {
            return Ok(self);
        }
        let axis = |index: &usize| self.indices.iter().position(|own| own == index);
        let perm: Option<Vec<usize>> = order.iter().map(axis).collect();
        let perm = perm.ok_or(OpError::Internal("an index of another operand"))?;
        let op = Transpose { perm: Some(perm.iter().map(|&axis| axis as i64).collect()) };
        Ok(Operand {
            value: graph.node(Arc::new(op), &[self.value]),
            indices: order.to_vec(),
            dims: perm.iter().map(|&axis| self.dims[axis]).collect(),
        })
    }

    /// The extents of some indices, one after another.
    fn extents(&self, indices: &[usize]) -> Vec<usize> {
        let extent = |index: &usize| self.indices.iter().position(|own| own == index).map(|at| self.dims[at]);
        indices.iter().filter_map(extent).collect()
    }

    /// The product with another operand, summed over the indices that both have and nobody wants.
    fn join(self, other: Operand, wanted: &[usize], graph: &mut Composition) -> Result<Operand, OpError> {
        let (shared, rows): (Vec<usize>, Vec<usize>) =
            self.indices.iter().partition(|index| other.indices.contains(index));
        let (batch, summed): (Vec<usize>, Vec<usize>) =
            shared.into_iter().partition(|index| wanted.contains(index));
        let columns: Vec<usize> =
            other.indices.iter().copied().filter(|index| !self.indices.contains(index)).collect();
        let (left, right) = (self.extents(&batch), other.extents(&batch));
        let stretched: Vec<usize> = left.iter().zip(&right).map(|(&a, &b)| a.max(b)).collect();
        let (row_dims, column_dims) = (self.extents(&rows), other.extents(&columns));
        let indices = [&batch[..], &rows, &columns].concat();
        let dims = [&stretched[..], &row_dims, &column_dims].concat();
        if summed.is_empty() {
            let a = self.arrange(&[&batch[..], &rows].concat(), graph)?;
            let b = other.arrange(&[&batch[..], &columns].concat(), graph)?;
            let a =
                reshape(a.value, &a.dims, &[&left[..], &row_dims, &vec![1; columns.len()]].concat(), graph)?;
            let b =
                reshape(b.value, &b.dims, &[&right[..], &vec![1; rows.len()], &column_dims].concat(), graph)?;
            return Ok(Operand { value: graph.pointwise("Mul", &[a, b])?, indices, dims });
        }
        let depth = count(&self.extents(&summed))?;
        let (height, width) = (count(&row_dims)?, count(&column_dims)?);
        // One axis for the whole batch, unless it stretches.
        let batches = if left == right { [vec![count(&left)?], vec![count(&right)?]] } else { [left, right] };
        let a = self.arrange(&[&batch[..], &rows, &summed].concat(), graph)?;
        let b = other.arrange(&[&batch[..], &summed, &columns].concat(), graph)?;
        let [left, right] = batches.map(|batch| if batch == [1] { Vec::new() } else { batch });
        let a = reshape(a.value, &a.dims, &[&left[..], &[height, depth]].concat(), graph)?;
        let b = reshape(b.value, &b.dims, &[&right[..], &[depth, width]].concat(), graph)?;
        let product = graph.node(Arc::new(MatMul::default()), &[a, b]);
        let both: Vec<usize> = left.iter().zip(&right).map(|(&a, &b)| a.max(b)).collect();
        let value = reshape(product, &[&both[..], &[height, width]].concat(), &dims, graph)?;
        Ok(Operand { value, indices, dims })
    }
}

fn count(dims: &[usize]) -> Result<usize, OpError> {
    element_count(dims).ok_or(OpError::Size)
}

/// The value under other dimensions.
fn reshape(
    value: ValueId,
    from: &[usize],
    to: &[usize],
    graph: &mut Composition,
) -> Result<ValueId, OpError> {
    if from == to { Ok(value) } else { graph.reshape(value, to) }
}
