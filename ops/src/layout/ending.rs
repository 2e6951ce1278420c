//! Epilogues that kernels over blocks do in registers.

use crate::expr::{Expr, ExprNode, Function, Scalar};
use crate::ir::dtype::DType;
use crate::operator::CpuRun;
use crate::pointwise::functions::{ADD, CLIP, MAX, MIN, RELU};
use crate::problem::Problem;

/// A sum with an operand of the output's dimensions, then limits from below and above.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Ending {
    /// The operand of the epilogue that is added.
    pub added: Option<usize>,
    /// The lower limit.
    pub low: f32,
    /// The upper limit, which wins.
    pub high: f32,
}

impl Ending {
    /// Results as they are.
    pub const NONE: Ending = Ending { added: None, low: f32::NEG_INFINITY, high: f32::INFINITY };

    /// The epilogue of a problem, if it has one of this kind.
    pub fn of(problem: &Problem<'_>) -> Option<Ending> {
        let epilogue = problem.epilogue?;
        let output = problem.outputs.first()?;
        let full = |index: usize| {
            let operand = epilogue.operands.get(index);
            operand.is_some_and(|operand| operand.dtype == DType::F32 && operand.dims == output.dims)
        };
        Ending::read(epilogue.expr, full)
    }

    fn read(expr: &Expr, full: impl Fn(usize) -> bool) -> Option<Ending> {
        let mut ending = Ending::NONE;
        let [result] = *expr.results.as_slice() else { return None };
        // From the accumulator forwards, each function on the result of the one before.
        let mut at = expr.nodes.iter().position(|node| *node == ExprNode::Accumulator)?;
        while at != result {
            let mut readers = (0..expr.nodes.len()).filter(|&next| expr.nodes[next].args().contains(&at));
            let (Some(next), None) = (readers.next(), readers.next()) else { return None };
            let ExprNode::Call { function, args, params } = &expr.nodes[next] else { return None };
            let function: &Function = function;
            let other = args.iter().copied().find(|&arg| arg != at).map(|arg| &expr.nodes[arg]);
            let bound = match other {
                Some(ExprNode::Constant(DType::F32, Scalar::Float(x))) if !x.is_nan() => Some(*x as f32),
                _ => None,
            };
            let limited = ending.low != f32::NEG_INFINITY || ending.high != f32::INFINITY;
            match (function, params.as_slice()) {
                (f, []) if *f == ADD && !limited && ending.added.is_none() => match other {
                    Some(&ExprNode::Operand(index)) if full(index) => ending.added = Some(index),
                    _ => return None,
                },
                (f, []) if *f == RELU && !limited => ending.low = 0.0,
                (f, &[low, high]) if *f == CLIP && !limited && low <= high => {
                    (ending.low, ending.high) = (low, high);
                }
                (f, []) if *f == MAX && !limited => ending.low = bound?,
                (f, []) if *f == MIN && ending.high == f32::INFINITY => ending.high = bound?,
                _ => return None,
            }
            at = next;
        }
        Some(ending)
    }

    /// The elements of the operand that is added, if any.
    pub fn operand<'a>(&self, run: &CpuRun<'a, '_>) -> Option<&'a [f32]> {
        let operand = run.finish?.operand(self.added?)?;
        Some(operand.slice::<f32>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pointwise::functions::{MUL, SIGMOID};

    fn call(function: &'static Function, args: &[usize], params: &[f32]) -> ExprNode {
        ExprNode::Call { function, args: args.to_vec(), params: params.to_vec() }
    }

    fn read(nodes: Vec<ExprNode>) -> Option<Ending> {
        let results = vec![nodes.len() - 1];
        Ending::read(&Expr { nodes, results }, |index| index == 0)
    }

    #[test]
    fn sums_and_limits_are_known() {
        let six = ExprNode::Constant(DType::F32, Scalar::Float(6.0));
        let (acc, operand) = (ExprNode::Accumulator, ExprNode::Operand(0));
        let relu = Some(Ending { low: 0.0, ..Ending::NONE });
        assert_eq!(read(vec![acc.clone()]), Some(Ending::NONE));
        assert_eq!(read(vec![acc.clone(), call(&RELU, &[0], &[])]), relu);
        let clip = read(vec![acc.clone(), call(&CLIP, &[0], &[-1.0, 6.0])]);
        assert_eq!(clip, Some(Ending { added: None, low: -1.0, high: 6.0 }));
        let sum = vec![operand.clone(), acc.clone(), call(&ADD, &[0, 1], &[]), call(&RELU, &[2], &[])];
        assert_eq!(read(sum), Some(Ending { added: Some(0), low: 0.0, ..Ending::NONE }));
        let chain = [six.clone(), acc.clone(), call(&RELU, &[1], &[]), call(&MIN, &[2, 0], &[])];
        assert_eq!(read(chain.to_vec()), Some(Ending { added: None, low: 0.0, high: 6.0 }));
    }

    #[test]
    fn others_are_not() {
        let (acc, operand) = (ExprNode::Accumulator, ExprNode::Operand(0));
        let swish = vec![acc.clone(), call(&SIGMOID, &[0], &[]), call(&MUL, &[0, 1], &[])];
        assert_eq!(read(swish), None);
        let late = vec![acc.clone(), operand, call(&RELU, &[0], &[]), call(&ADD, &[2, 1], &[])];
        assert_eq!(read(late), None);
        assert_eq!(read(vec![acc.clone(), ExprNode::Operand(1), call(&ADD, &[0, 1], &[])]), None);
        assert_eq!(read(vec![acc.clone(), call(&ADD, &[0, 0], &[])]), None);
        assert_eq!(read(vec![acc, call(&CLIP, &[0], &[2.0, 1.0])]), None);
    }
}
