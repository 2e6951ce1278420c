//! Expressions of one or two tensors of bytes on the CPU, such as numbers for quantized ones, or their sum quantized again:
//! evaluated once for everything that the bytes can be, and looked up from then on.

use rayon::prelude::*;

use super::compute;
use crate::error::OpError;
use crate::expr::Expr;
use crate::ir::dtype::DType;
use crate::ir::view::{View, ViewMut};
use crate::movement::sizes::view;
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::Problem;

/// Runs after which a table has saved what it cost: it is made once, and each entry is evaluated for it.
const RUNS: usize = 8;

/// Elements that a thread takes at a time.
const PIECE: usize = 1 << 15;

/// The results for each byte, or each pair of bytes, the first operand's above the second's.
pub(super) struct TableKernel {
    table: Vec<u8>,
    /// Bytes of a result.
    size: usize,
    /// The inputs that are looked up.
    inputs: Vec<usize>,
}

fn is_byte(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8)
}

impl TableKernel {
    /// The kernel for an expression; `None` where it is not one of a whole tensor of bytes, or of two to one of bytes, and
    /// else of constants for all elements.
    ///
    /// # Errors
    /// When the expression does not take the types.
    pub fn prepare(expr: &Expr, problem: &Problem<'_>) -> Result<Option<TableKernel>, OpError> {
        let [output] = problem.outputs.as_slice() else { return Ok(None) };
        let mut inputs = Vec::new();
        let mut constants = Vec::new();
        for (index, operand) in problem.inputs.iter().enumerate() {
            let Some(operand) = operand else { continue };
            match operand.value {
                None if is_byte(operand.dtype) && operand.dims == output.dims => {
                    inputs.push(index);
                    constants.push(None);
                }
                Some(value) if value.len() == 1 && output.dims.len() >= operand.dims.len() => {
                    constants.push(Some(value.clone().aligned()));
                }
                _ => return Ok(None),
            }
        }
        let size = output.dtype.bits() / 8;
        let fits = match inputs.len() {
            1 => matches!(size, 1 | 2 | 4) && output.dtype.bits() % 8 == 0,
            2 => is_byte(output.dtype),
            _ => false,
        };
        let entries = 1 << (8 * inputs.len().min(2));
        if !fits || output.len() * RUNS < entries {
            return Ok(None);
        }
        let dims = [entries];
        let shift = |operand: usize| 8 * (inputs.len() - 1 - operand);
        let codes: Vec<Vec<u8>> = (0..inputs.len())
            .map(|operand| (0..entries).map(|i| (i >> shift(operand)) as u8).collect())
            .collect();
        let mut codes = codes.iter();
        let mut views = Vec::new();
        for (operand, constant) in problem.inputs.iter().flatten().zip(&constants) {
            views.push(match constant {
                Some(constant) => View { dims: &[], ..constant.view() },
                None => {
                    let bytes = codes.next().map_or(&[][..], Vec::as_slice);
                    View { dtype: operand.dtype, dims: &dims, bytes, strings: None }
                }
            });
        }
        // Whole words, so that results of any type are aligned.
        let mut words = vec![0u64; (entries * size).div_ceil(8)];
        let table = &mut bytemuck::cast_slice_mut(&mut words)[..entries * size];
        compute(expr, &views, &dims, &mut [ViewMut { dtype: output.dtype, dims: &dims, bytes: table }])?;
        Ok(Some(TableKernel { table: table.to_vec(), size, inputs }))
    }

    /// Looks results of `N` bytes up.
    fn look_up<const N: usize>(&self, x: &[u8], y: &mut [u8]) {
        let Ok(table) = <&[[u8; N]; 256]>::try_from(self.table.as_chunks::<N>().0) else { return };
        let pieces = y.par_chunks_mut(PIECE * N).zip(x.par_chunks(PIECE));
        pieces.for_each(|(y, x)| {
            y.as_chunks_mut::<N>().0.iter_mut().zip(x).for_each(|(y, &x)| *y = table[usize::from(x)]);
        });
    }
}

impl CpuKernel for TableKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let output = run.outputs.first_mut().ok_or(OpError::Internal("a missing output"))?;
        let bytes = |at: usize| -> Result<&[u8], OpError> {
            let index = self.inputs.get(at).copied().unwrap_or(usize::MAX);
            Ok(view(run.inputs, index)?.bytes)
        };
        let (first, y) = (bytes(0)?, &mut *output.bytes);
        match (<&[u8; 1 << 16]>::try_from(self.table.as_slice()), self.size) {
            (Ok(table), _) => {
                let pairs = first.par_chunks(PIECE).zip(bytes(1)?.par_chunks(PIECE));
                y.par_chunks_mut(PIECE).zip(pairs).for_each(|(y, (a, b))| {
                    for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                        *y = table[usize::from(u16::from_be_bytes([a, b]))];
                    }
                });
            }
            (_, 1) => self.look_up::<1>(first, y),
            (_, 2) => self.look_up::<2>(first, y),
            _ => self.look_up::<4>(first, y),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pointwise;
    use super::super::functions::{ADD, MUL, ROUND};
    use super::TableKernel;
    use crate::cpu::check::{run_cpu, with_problem};
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

    #[test]
    fn numbers_of_bytes_are_looked_up() {
        for to in [DType::F32, DType::F16, DType::I16] {
            let mut expr = Expr::default();
            let [x, scale] = [0, 1].map(|index| expr.push(ExprNode::Operand(index)));
            let wide = expr.push(ExprNode::Cast { arg: x, to: DType::F32 });
            let product = ExprNode::Call { function: &MUL, args: vec![wide, scale], params: Vec::new() };
            let product = expr.push(product);
            expr.results = vec![expr.push(ExprNode::Cast { arg: product, to })];
            let op = Pointwise { name: "Pointwise", expr };
            let x = Tensor::from_vec(&[3, 257], (0..771).map(|i| (i * 7) as i8).collect()).unwrap();
            let scale = Tensor::from_vec(&[1, 1], vec![0.37f32]).unwrap();
            let expected = op.reference(&[Some(x.view()), Some(scale.view())], 1).unwrap().remove(0);
            let tensors = [Some(x), Some(scale)];
            let looked_up = with_problem(&op, &tensors, &[1], |problem, _| {
                TableKernel::prepare(&op.expr, problem).unwrap().map(|kernel| kernel.size)
            });
            assert_eq!(looked_up, Some(to.bits() / 8));
            let got = run_cpu(&op, &tensors, &[1], None).unwrap();
            assert_eq!(got.bytes(), expected.bytes(), "{to}");
        }
    }
}
