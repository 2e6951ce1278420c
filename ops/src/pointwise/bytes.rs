//! Expressions from one or two bytes to a byte on the CPU, such as an addition between quantized tensors: evaluated once for
//! everything that the bytes can be, and looked up from then on.

use rayon::prelude::*;

use super::compute;
use crate::error::OpError;
use crate::expr::Expr;
use crate::ir::dtype::DType;
use crate::ir::view::{View, ViewMut};
use crate::movement::sizes::view;
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::Problem;

/// Elements below which a table costs more than it saves, for each of its entries.
const LEAST: usize = 2;

/// Elements that a thread takes at a time.
const PIECE: usize = 1 << 15;

/// The results for each byte, or each pair of bytes, the first operand's above the second's.
pub(super) struct TableKernel {
    table: Vec<u8>,
    /// The inputs that are given.
    inputs: Vec<usize>,
}

fn is_byte(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8)
}

impl TableKernel {
    /// The kernel for an expression; `None` where it is not from one or two whole tensors of bytes to one.
    ///
    /// # Errors
    /// When the expression does not take the types.
    pub fn prepare(expr: &Expr, problem: &Problem<'_>) -> Result<Option<TableKernel>, OpError> {
        let inputs: Vec<usize> =
            (0..problem.inputs.len()).filter(|&index| problem.input(index).is_some()).collect();
        let [output] = problem.outputs.as_slice() else { return Ok(None) };
        let mut operands = problem.inputs.iter().flatten();
        let fits = is_byte(output.dtype)
            && (1..=2).contains(&inputs.len())
            && operands.all(|operand| is_byte(operand.dtype) && operand.dims == output.dims);
        let entries = 1 << (8 * inputs.len());
        if !fits || output.len() < LEAST * entries {
            return Ok(None);
        }
        let dims = [entries];
        let codes: Vec<Vec<u8>> = (0..inputs.len())
            .map(|operand| (0..entries).map(|i| (i >> (8 * (inputs.len() - 1 - operand))) as u8).collect())
            .collect();
        let mut views = Vec::new();
        for (operand, codes) in problem.inputs.iter().flatten().zip(&codes) {
            views.push(View { dtype: operand.dtype, dims: &dims, bytes: codes, strings: None });
        }
        let mut table = vec![0; entries];
        let results = ViewMut { dtype: output.dtype, dims: &dims, bytes: &mut table };
        compute(expr, &views, &dims, &mut [results])?;
        Ok(Some(TableKernel { table, inputs }))
    }
}

impl CpuKernel for TableKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let output = run.outputs.first_mut().ok_or(OpError::Internal("a missing output"))?;
        let pieces = output.bytes.par_chunks_mut(PIECE);
        let bytes = |at: usize| -> Result<&[u8], OpError> {
            let index = self.inputs.get(at).copied().unwrap_or(usize::MAX);
            Ok(view(run.inputs, index)?.bytes)
        };
        if let Ok(table) = <&[u8; 1 << 16]>::try_from(self.table.as_slice()) {
            let pairs = bytes(0)?.par_chunks(PIECE).zip(bytes(1)?.par_chunks(PIECE));
            pieces.zip(pairs).for_each(|(y, (a, b))| {
                for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                    *y = table[usize::from(u16::from_be_bytes([a, b]))];
                }
            });
        } else if let Ok(table) = <&[u8; 256]>::try_from(self.table.as_slice()) {
            pieces.zip(bytes(0)?.par_chunks(PIECE)).for_each(|(y, x)| {
                y.iter_mut().zip(x).for_each(|(y, &x)| *y = table[usize::from(x)]);
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pointwise;
    use super::super::functions::{ADD, MUL, ROUND};
    use crate::cpu::check::run_cpu;
    use crate::expr::{Expr, ExprNode};
    use crate::ir::dtype::DType;
    use crate::ir::tensor::Tensor;
    use crate::operator::Operator;

    #[test]
    fn tables_give_what_the_expression_gives() {
        for (operands, from, to) in
            [(1, DType::U8, DType::I8), (2, DType::I8, DType::U8), (2, DType::U8, DType::U8)]
        {
            let mut expr = Expr::default();
            let mut sum = None;
            for index in 0..operands {
                let operand = expr.push(ExprNode::Operand(index));
                let wide = expr.push(ExprNode::Cast { arg: operand, to: DType::F32 });
                let square = ExprNode::Call { function: &MUL, args: vec![wide, wide], params: Vec::new() };
                let square = expr.push(square);
                sum = Some(match sum {
                    None => square,
                    Some(sum) => expr.push(ExprNode::Call {
                        function: &ADD,
                        args: vec![sum, wide],
                        params: Vec::new(),
                    }),
                });
            }
            let rounded = ExprNode::Call { function: &ROUND, args: vec![sum.unwrap()], params: Vec::new() };
            let rounded = expr.push(rounded);
            expr.results = vec![expr.push(ExprNode::Cast { arg: rounded, to })];
            let op = Pointwise { name: "Pointwise", expr };
            let len = 140_001;
            let tensors: Vec<Option<Tensor>> = (0..operands)
                .map(|operand| {
                    let all: Vec<u8> = (0..len).map(|i| (i * (7 + operand) % 253) as u8).collect();
                    Some(Tensor::from_bytes(from, &[len], all.into()).unwrap())
                })
                .collect();
            let views: Vec<_> = tensors.iter().map(|x| x.as_ref().map(Tensor::view)).collect();
            let expected = op.reference(&views, 1).unwrap().remove(0);
            let got = run_cpu(&op, &tensors, &[], None).unwrap();
            assert_eq!(got.bytes(), expected.bytes());
        }
    }
}
