//! Expressions on the CPU: tile by tile, each node over a tile before the next, so that inner loops vectorise. Operands
//! that lie in memory as lanes do are read in place, and the last node writes straight into the output.

use std::ops::Range;

use super::convert::convert;
use super::lanes::{self, Buffer, Lanes};
use super::{Expr, ExprNode};
use crate::broadcast::Strides;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::view::View;

pub use super::lanes::TILE;

/// Where the tile of a node is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In an operand.
    Operand(usize),
    /// In the accumulator.
    Accumulator,
    /// In a buffer of the workspace.
    Buffer(usize),
}

/// A prepared evaluation of an expression for one output shape.
#[derive(Debug)]
pub struct Evaluation<'a> {
    expr: &'a Expr,
    types: Vec<DType>,
    strides: Vec<Strides>,
    places: Vec<Place>,
    buffers: Vec<DType>,
}

/// The tiles of one thread.
#[derive(Debug)]
pub struct Workspace {
    buffers: Vec<Buffer>,
}

/// Where results go.
#[derive(Debug)]
pub struct Target<'o, 'b> {
    /// The packed bytes of each result, for the elements from `first` on.
    pub outputs: &'o mut [&'b mut [u8]],
    /// The output element that they begin with.
    pub first: usize,
}

impl Target<'_, '_> {
    /// The bytes of `range` in output `index`.
    fn bytes(&mut self, index: usize, dtype: DType, range: &Range<usize>) -> Result<&mut [u8], OpError> {
        let at = |element: usize| dtype.bytes_for(element.checked_sub(self.first)?);
        let bytes = at(range.start).zip(at(range.end)).map(|(start, end)| start..end);
        let output = self.outputs.get_mut(index);
        let part = output.zip(bytes).and_then(|(output, bytes)| output.get_mut(bytes));
        part.ok_or(OpError::Internal("an output is smaller than its dimensions say"))
    }
}

impl<'a> Evaluation<'a> {
    /// Prepares `expr` for operands of these types and dimensions, each broadcasting to `output`.
    ///
    /// # Errors
    /// When a function does not take the types.
    pub fn new(
        expr: &'a Expr,
        accumulator: Option<DType>,
        operands: &[(DType, &[usize])],
        output: &[usize],
    ) -> Result<Evaluation<'a>, OpError> {
        let dtypes: Vec<DType> = operands.iter().map(|(dtype, _)| *dtype).collect();
        let mut all = Evaluation {
            types: expr.types(accumulator, &dtypes)?,
            strides: operands.iter().map(|(_, dims)| Strides::new(dims, output)).collect(),
            expr,
            places: Vec::with_capacity(expr.nodes.len()),
            buffers: Vec::new(),
        };
        all.place();
        Ok(all)
    }

    /// Gives each node a place; buffers are used again once nothing reads them any more.
    fn place(&mut self) {
        let nodes = &self.expr.nodes;
        let mut last_use: Vec<usize> = (0..nodes.len()).collect();
        for (index, node) in nodes.iter().enumerate() {
            node.args().iter().for_each(|&arg| last_use[arg] = index);
        }
        self.expr.results.iter().for_each(|&result| last_use[result] = usize::MAX);
        let mut free: Vec<usize> = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let dtype = self.types[index];
            let place = match node {
                ExprNode::Accumulator => Place::Accumulator,
                ExprNode::Operand(operand)
                    if lanes::is_plain(dtype) && self.strides[*operand].strides == [1] =>
                {
                    Place::Operand(*operand)
                }
                _ => match free.iter().position(|&slot| self.buffers[slot] == dtype) {
                    Some(at) => Place::Buffer(free.swap_remove(at)),
                    None => {
                        self.buffers.push(dtype);
                        Place::Buffer(self.buffers.len() - 1)
                    }
                },
            };
            self.places.push(place);
            for &arg in node.args() {
                if last_use[arg] == index
                    && let Place::Buffer(slot) = self.places[arg]
                    && !free.contains(&slot)
                {
                    free.push(slot);
                }
            }
        }
    }

    /// The types of the results.
    pub fn results(&self) -> Vec<DType> {
        self.expr.results.iter().map(|&result| self.types[result]).collect()
    }

    /// Tiles for one thread, of at most `len` elements.
    ///
    /// # Errors
    /// When a type does not take part in expressions.
    pub fn workspace(&self, len: usize) -> Result<Workspace, OpError> {
        let len = len.min(TILE);
        let buffers: Result<_, _> = self.buffers.iter().map(|&dtype| Buffer::for_type(dtype, len)).collect();
        Ok(Workspace { buffers: buffers? })
    }

    /// Computes the results for the output elements of `range` (no more than the workspace is for), and stores them.
    /// `accumulator` is read by nodes that ask for it.
    ///
    /// # Errors
    /// When an operand or output is smaller than its dimensions say.
    pub fn tile(
        &self,
        workspace: &mut Workspace,
        operands: &[View<'_>],
        accumulator: Option<Lanes<'_>>,
        range: Range<usize>,
        target: &mut Target<'_, '_>,
    ) -> Result<(), OpError> {
        let last = self.expr.nodes.len().checked_sub(1).ok_or(OpError::Internal("an empty expression"))?;
        for (index, node) in self.expr.nodes.iter().enumerate() {
            let Place::Buffer(slot) = self.places[index] else { continue };
            let dtype = self.types[index];
            let mut buffer = std::mem::replace(&mut workspace.buffers[slot], Buffer::NONE);
            let straight = match self.expr.results.as_slice() {
                [result] if *result == index && index == last => {
                    lanes::in_place_mut(dtype, target.bytes(0, dtype, &range)?)
                }
                _ => None,
            };
            let is_stored = straight.is_some();
            let mut out = straight.unwrap_or_else(|| buffer.lanes_mut(range.len()));
            match node {
                ExprNode::Accumulator => {}
                ExprNode::Operand(operand) => {
                    let view = operands.get(*operand).ok_or(OpError::Internal("an operand is missing"))?;
                    lanes::load(out, view, &self.strides[*operand], range.start)?;
                }
                ExprNode::Constant(dtype, scalar) => lanes::fill(out, *dtype, *scalar),
                ExprNode::Call { function, args, params } => {
                    let mut given = [Lanes::Bool(&[]); super::function::MAX_ARITY];
                    for (slot, &arg) in given.iter_mut().zip(args) {
                        *slot = self.lanes(arg, workspace, operands, accumulator, &range)?;
                    }
                    (function.eval)(&given[..args.len().min(given.len())], params, out.reborrow());
                    lanes::wrap(out, dtype);
                }
                ExprNode::Cast { arg, to } => {
                    convert(self.lanes(*arg, workspace, operands, accumulator, &range)?, out, *to);
                }
            }
            workspace.buffers[slot] = buffer;
            if is_stored {
                return Ok(());
            }
        }
        for (index, &result) in self.expr.results.iter().enumerate() {
            let lanes = self.lanes(result, workspace, operands, accumulator, &range)?;
            let dtype = self.types[result];
            lanes::store(lanes, dtype, target.bytes(index, dtype, &range)?)?;
        }
        Ok(())
    }

    fn lanes<'l>(
        &self,
        node: usize,
        workspace: &'l Workspace,
        operands: &[View<'l>],
        accumulator: Option<Lanes<'l>>,
        range: &Range<usize>,
    ) -> Result<Lanes<'l>, OpError> {
        match self.places[node] {
            Place::Buffer(slot) => Ok(workspace.buffers[slot].lanes(range.len())),
            Place::Accumulator => accumulator.ok_or(OpError::Internal("no accumulator")),
            Place::Operand(operand) => operands
                .get(operand)
                .and_then(|view| lanes::in_place(view, range.clone()))
                .ok_or(OpError::Internal("an operand is smaller than its dimensions say")),
        }
    }
}
