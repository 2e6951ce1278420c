//! The function table: one row per pointwise function.

use crate::expr::eval::Lanes;
use crate::expr::function::{Accepts, Function, Gives};
use crate::expr::{Expr, ExprNode};
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;

/// Applies `$float` to floats and `$int` to integers, lane by lane.
macro_rules! binary_numbers {
    ($float:expr, $int:expr, $unsigned:expr) => {
        |args, _params, out| match (args, out) {
            ([Lanes::F32(a), Lanes::F32(b)], Lanes::F32(y)) => zip(y, a, b, $float),
            ([Lanes::F64(a), Lanes::F64(b)], Lanes::F64(y)) => zip(y, a, b, $float),
            ([Lanes::I64(a), Lanes::I64(b)], Lanes::I64(y)) => zip(y, a, b, $int),
            ([Lanes::U64(a), Lanes::U64(b)], Lanes::U64(y)) => zip(y, a, b, $unsigned),
            _ => {}
        }
    };
}

fn zip<T: Copy, U>(out: &mut [U], a: &[T], b: &[T], f: impl Fn(T, T) -> U) {
    for ((y, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *y = f(a, b);
    }
}

/// `a + b`.
pub static ADD: Function = Function {
    name: "add",
    arity: 2,
    params: 0,
    accepts: Accepts::Numbers,
    same_from: 0,
    gives: Gives::Argument(0),
    eval: binary_numbers!(|a, b| a + b, i64::wrapping_add, u64::wrapping_add),
};

/// The sizes carried by a pointwise operator over shape vectors: sums and products of known dimensions.
pub(super) fn sizes(expr: &Expr, facts: &[&Fact]) -> Option<Vec<Dim>> {
    let [.., ExprNode::Call { function, .. }] = expr.nodes.as_slice() else { return None };
    let [a, b] = facts else { return None };
    let (a, b) = (a.sizes.as_ref()?, b.sizes.as_ref()?);
    let len = a.len().max(b.len());
    let at = |all: &[Dim], i: usize| all.get(if all.len() == 1 { 0 } else { i }).cloned();
    (0..len)
        .map(|i| {
            let (a, b) = (at(a, i)?, at(b, i)?);
            match function.name {
                "add" => a.add(&b).ok(),
                "mul" => a.mul(&b).ok(),
                "div" => a.div_exact(&b).or_else(|| a.div_floor(b.known()?).ok()),
                "sub" => a.offset(-i64::try_from(b.known()?).ok()?).ok(),
                _ => None,
            }
        })
        .collect()
}
