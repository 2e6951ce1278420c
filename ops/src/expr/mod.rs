//! Pointwise expressions: what a chain of element-by-element operators computes, as a small program over operands that
//! broadcast to one output. The same expression runs on the CPU tile by tile ([`eval`]) and becomes the end of a GPU
//! kernel ([`Expr::to_wgsl`]).

mod convert;
mod display;
pub mod eval;
pub mod function;
pub mod lanes;
#[cfg(test)]
mod tests;
mod wgsl;

pub use function::Function;
pub use wgsl::WgslSteps;

use crate::error::OpError;
use crate::ir::dtype::DType;

/// A constant inside an expression.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scalar {
    /// Of a floating-point type.
    Float(f64),
    /// Of a signed or unsigned integer type, or a truth value.
    Int(i64),
}

/// One node of an expression; nodes refer to earlier ones by index.
#[derive(Clone, PartialEq, Debug)]
pub enum ExprNode {
    /// The result of the anchor that the expression finishes.
    Accumulator,
    /// An operand, by index.
    Operand(usize),
    /// A constant of this type.
    Constant(DType, Scalar),
    /// A function of earlier nodes, with constant parameters.
    Call {
        /// The row of the function table.
        function: &'static Function,
        /// Earlier nodes.
        args: Vec<usize>,
        /// Parameters, such as the slope of a LeakyRelu.
        params: Vec<f32>,
    },
    /// A conversion as ONNX `Cast` defines it.
    Cast {
        /// Earlier node.
        arg: usize,
        /// Type of the result.
        to: DType,
    },
}

impl ExprNode {
    /// The earlier nodes that this one reads.
    pub fn args(&self) -> &[usize] {
        match self {
            ExprNode::Call { args, .. } => args,
            ExprNode::Cast { arg, .. } => std::slice::from_ref(arg),
            _ => &[],
        }
    }
}

/// A pointwise expression with one or more results.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Expr {
    /// Nodes in order.
    pub nodes: Vec<ExprNode>,
    /// Indices of the nodes that are results.
    pub results: Vec<usize>,
}

impl Expr {
    /// `function(operand 0, operand 1, …)`.
    pub fn call(function: &'static Function, operands: usize, params: Vec<f32>) -> Expr {
        let mut nodes: Vec<_> = (0..operands).map(ExprNode::Operand).collect();
        nodes.push(ExprNode::Call { function, args: (0..operands).collect(), params });
        Expr { results: vec![nodes.len() - 1], nodes }
    }

    /// Adds a node and returns its index.
    pub fn push(&mut self, node: ExprNode) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// The number of operands read.
    pub fn operands(&self) -> usize {
        let index = |node: &ExprNode| match node {
            ExprNode::Operand(index) => Some(index + 1),
            _ => None,
        };
        self.nodes.iter().filter_map(index).max().unwrap_or(0)
    }

    /// The number of operations per element.
    pub fn calls(&self) -> usize {
        self.nodes.iter().filter(|node| matches!(node, ExprNode::Call { .. } | ExprNode::Cast { .. })).count()
    }

    /// The type of every node.
    ///
    /// # Errors
    /// When a function does not take the types it is given, or a type does not take part in expressions.
    pub fn types(&self, accumulator: Option<DType>, operands: &[DType]) -> Result<Vec<DType>, OpError> {
        let mut types: Vec<DType> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let dtype = match node {
                ExprNode::Accumulator => accumulator.ok_or(OpError::Internal("no accumulator"))?,
                ExprNode::Operand(index) => {
                    *operands.get(*index).ok_or(OpError::Internal("an operand is missing"))?
                }
                ExprNode::Constant(dtype, _) => *dtype,
                ExprNode::Call { function, args, .. } => {
                    let given: Vec<DType> = args.iter().filter_map(|&arg| types.get(arg).copied()).collect();
                    function.result(&given)?
                }
                ExprNode::Cast { to, .. } => *to,
            };
            if !lanes::has_lanes(dtype) {
                return Err(OpError::unsupported(format!("{dtype} in an expression")));
            }
            types.push(dtype);
        }
        Ok(types)
    }

    /// Replaces each operand: `Ok(i)` renumbers it, `Err(node)` puts another node in its place.
    pub fn map_operands(&self, mut replace: impl FnMut(usize) -> Result<usize, ExprNode>) -> Expr {
        let nodes = self.nodes.iter().map(|node| match node {
            ExprNode::Operand(index) => match replace(*index) {
                Ok(index) => ExprNode::Operand(index),
                Err(node) => node,
            },
            other => other.clone(),
        });
        Expr { nodes: nodes.collect(), results: self.results.clone() }
    }

    /// This expression with operand `at` computed by `inner`, whose single result it takes. Operands of `inner` follow
    /// this expression's own; operand `at` itself is read no more.
    pub fn inline(&self, at: usize, inner: &Expr) -> Expr {
        let shift = self.operands();
        let mut nodes: Vec<ExprNode> = inner.map_operands(|index| Ok(index + shift)).nodes;
        let result = inner.results.first().copied().unwrap_or(0);
        let mut place: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            if *node == ExprNode::Operand(at) {
                place.push(result);
                continue;
            }
            let moved = match node {
                ExprNode::Call { function, args, params } => ExprNode::Call {
                    function,
                    args: args.iter().map(|&arg| place[arg]).collect(),
                    params: params.clone(),
                },
                ExprNode::Cast { arg, to } => ExprNode::Cast { arg: place[*arg], to: *to },
                other => other.clone(),
            };
            nodes.push(moved);
            place.push(nodes.len() - 1);
        }
        Expr { nodes, results: self.results.iter().map(|&result| place[result]).collect() }
    }

    /// The same without repeated nodes and without nodes that no result needs.
    pub fn tidied(&self) -> Expr {
        let mut needed = vec![false; self.nodes.len()];
        self.results.iter().for_each(|&result| needed[result] = true);
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if needed[index] {
                node.args().iter().for_each(|&arg| needed[arg] = true);
            }
        }
        let mut nodes: Vec<ExprNode> = Vec::new();
        let mut place = vec![0; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().filter(|&(index, _)| needed[index]) {
            let mut moved = node.clone();
            match &mut moved {
                ExprNode::Call { args, .. } => args.iter_mut().for_each(|arg| *arg = place[*arg]),
                ExprNode::Cast { arg, .. } => *arg = place[*arg],
                _ => {}
            }
            place[index] = nodes.iter().position(|earlier| *earlier == moved).unwrap_or_else(|| {
                nodes.push(moved);
                nodes.len() - 1
            });
        }
        Expr { nodes, results: self.results.iter().map(|&result| place[result]).collect() }
    }
}
