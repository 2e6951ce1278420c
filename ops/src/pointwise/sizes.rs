//! Pointwise operators over shapes: what carries `Shape → Mul → Concat → Reshape` through inference while dimensions are
//! known by name only.

use crate::expr::{Expr, ExprNode, Scalar};
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::movement::sizes::inferred;

/// One element of a small integer or bool tensor.
#[derive(Clone, PartialEq, Debug)]
enum Item {
    /// A size: never negative.
    Size(Dim),
    /// A number below zero.
    Negative(i64),
    /// A truth value.
    Truth(bool),
}

/// The most elements that are followed.
const MOST: usize = 1024;

/// Completes facts about the results of `expr` with the sizes, or constant truth values, that follow from the operands'.
pub(super) fn complete(expr: &Expr, operands: &[&Fact], results: &mut [Fact]) {
    let small = |fact: &&Fact| fact.rank().is_some_and(|rank| rank <= 1);
    if !operands.iter().all(small) || !results.iter().all(|fact| fact.rank().is_some_and(|rank| rank <= 1)) {
        return;
    }
    let mut nodes: Vec<Vec<Option<Item>>> = Vec::with_capacity(expr.nodes.len());
    for node in &expr.nodes {
        let items = match node {
            ExprNode::Accumulator => Vec::new(),
            ExprNode::Operand(index) => operands.get(*index).map(|fact| items(fact)).unwrap_or_default(),
            ExprNode::Constant(DType::Bool, Scalar::Int(n)) => vec![Some(Item::Truth(*n != 0))],
            ExprNode::Constant(_, Scalar::Int(n)) => vec![Some(number(*n))],
            ExprNode::Constant(_, Scalar::Float(_)) => Vec::new(),
            ExprNode::Cast { arg, to } => nodes[*arg].iter().map(|item| cast(item.as_ref()?, *to)).collect(),
            ExprNode::Call { function, args, .. } => {
                let len = args.iter().map(|&arg| nodes[arg].len()).max().unwrap_or(0);
                let empty = args.iter().any(|&arg| nodes[arg].is_empty());
                (0..if empty { 0 } else { len })
                    .map(|i| {
                        let at = |k: usize| {
                            let all: &Vec<Option<Item>> = nodes.get(*args.get(k)?)?;
                            all.get(if all.len() == 1 { 0 } else { i })?.as_ref()
                        };
                        apply(function.name, at(0), at(1), at(2))
                    })
                    .collect()
            }
        };
        nodes.push(items);
    }
    for (fact, &result) in results.iter_mut().zip(&expr.results) {
        let Some(mut items) = nodes[result].iter().cloned().collect::<Option<Vec<Item>>>() else { continue };
        // A result that does not depend on all operands may stretch to their shape.
        if let ([item], Some(&[len @ 0..=MOST])) = (items.as_slice(), fact.dims().as_deref()) {
            items = vec![item.clone(); len];
        }
        // Nothing known looks the same as nothing there.
        if items.is_empty() || fact.dims().is_some_and(|dims| dims.iter().product::<usize>() != items.len()) {
            continue;
        }
        if fact.dtype == DType::Bool {
            let truths = items.iter().map(|item| match item {
                Item::Truth(truth) => Some(*truth),
                _ => None,
            });
            let truths: Option<Vec<bool>> = truths.collect();
            fact.value = truths.zip(fact.dims()).and_then(|(all, dims)| Tensor::from_bools(&dims, &all).ok());
        } else if matches!(fact.dtype, DType::I64 | DType::I32) {
            let sizes = items.into_iter().map(|item| match item {
                Item::Size(dim) => Some(dim),
                Item::Negative(-1) => Some(inferred()),
                _ => None,
            });
            fact.sizes = sizes.collect();
        }
    }
}

/// What is known about each element; empty when the number of elements is not.
fn items(fact: &Fact) -> Vec<Option<Item>> {
    if let Some(sizes) = fact.sizes.as_ref().filter(|sizes| sizes.len() <= MOST) {
        let item = |dim: &Dim| if *dim == inferred() { Item::Negative(-1) } else { Item::Size(dim.clone()) };
        return sizes.iter().map(|dim| Some(item(dim))).collect();
    }
    if let Some(numbers) = fact.integers() {
        return numbers.into_iter().map(|n| Some(number(n))).collect();
    }
    match &fact.value {
        Some(value) if fact.dtype == DType::Bool && value.len() <= MOST => {
            value.bytes().iter().map(|&byte| Some(Item::Truth(byte != 0))).collect()
        }
        _ => Vec::new(),
    }
}

fn number(n: i64) -> Item {
    usize::try_from(n).map_or(Item::Negative(n), |n| Item::Size(Dim::Known(n)))
}

/// The number, where it is one.
fn known(item: &Item) -> Option<i64> {
    match item {
        Item::Size(dim) => i64::try_from(dim.known()?).ok(),
        Item::Negative(n) => Some(*n),
        Item::Truth(_) => None,
    }
}

fn cast(item: &Item, to: DType) -> Option<Item> {
    match (item, to) {
        (Item::Truth(truth), DType::I64 | DType::I32) => Some(number(i64::from(*truth))),
        (Item::Truth(_), DType::Bool) | (Item::Size(_) | Item::Negative(_), DType::I64) => Some(item.clone()),
        (Item::Size(Dim::Symbolic(_)), DType::I32) => Some(item.clone()),
        (_, DType::I32) => Some(number(i64::from(i32::try_from(known(item)?).ok()?))),
        (_, DType::Bool) => Some(Item::Truth(known(item)? != 0)),
        _ => None,
    }
}

fn apply(function: &str, a: Option<&Item>, b: Option<&Item>, c: Option<&Item>) -> Option<Item> {
    if function == "select" {
        return match a? {
            Item::Truth(true) => b.cloned(),
            Item::Truth(false) => c.cloned(),
            _ => None,
        };
    }
    let a = a?;
    let Some(b) = b else {
        return match (function, a) {
            ("not", Item::Truth(truth)) => Some(Item::Truth(!truth)),
            ("neg", _) => Some(number(known(a)?.checked_neg()?)),
            ("abs", Item::Size(_)) => Some(a.clone()),
            _ => None,
        };
    };
    if let (Item::Truth(a), Item::Truth(b)) = (a, b) {
        return match function {
            "and" => Some(Item::Truth(a & b)),
            "or" => Some(Item::Truth(a | b)),
            "xor" => Some(Item::Truth(a ^ b)),
            "equal" => Some(Item::Truth(a == b)),
            _ => None,
        };
    }
    if let (Some(a), Some(b)) = (known(a), known(b)) {
        return Some(match function {
            "add" => number(a.checked_add(b)?),
            "sub" => number(a.checked_sub(b)?),
            "mul" => number(a.checked_mul(b)?),
            "div" => number(a.checked_div(b)?),
            "mod" if a >= 0 && b > 0 => number(a % b),
            "min" => number(a.min(b)),
            "max" => number(a.max(b)),
            "equal" => Item::Truth(a == b),
            "less" => Item::Truth(a < b),
            "greater" => Item::Truth(a > b),
            "less_equal" => Item::Truth(a <= b),
            "greater_equal" => Item::Truth(a >= b),
            _ => return None,
        });
    }
    symbolic(function, a, b)
}

/// Where at least one side is known by name only. A name stands for any number from 0 on.
fn symbolic(function: &str, a: &Item, b: &Item) -> Option<Item> {
    match (function, a, b) {
        ("add", Item::Size(a), Item::Size(b)) => a.add(b).ok().map(Item::Size),
        ("add", Item::Size(a), Item::Negative(n)) | ("add", Item::Negative(n), Item::Size(a)) => {
            a.offset(*n).ok().map(Item::Size)
        }
        ("sub", Item::Size(a), Item::Size(b)) => a.sub(b).ok().map(Item::Size),
        ("sub", Item::Size(a), Item::Negative(n)) => a.offset(n.checked_neg()?).ok().map(Item::Size),
        ("mul", Item::Size(a), Item::Size(b)) => a.mul(b).ok().map(Item::Size),
        ("div", Item::Size(a), Item::Size(b)) => {
            a.div_exact(b).or_else(|| a.div_floor(b.known()?).ok()).map(Item::Size)
        }
        ("min" | "max", Item::Size(x), Item::Size(y)) if x == y => Some(a.clone()),
        ("max", Item::Size(_), Item::Negative(_)) | ("min", Item::Negative(_), Item::Size(_)) => {
            Some(a.clone())
        }
        ("max", Item::Negative(_), Item::Size(_)) | ("min", Item::Size(_), Item::Negative(_)) => {
            Some(b.clone())
        }
        ("max", Item::Size(x), Item::Size(Dim::Known(0))) => Some(Item::Size(x.clone())),
        ("max", Item::Size(Dim::Known(0)), Item::Size(y)) => Some(Item::Size(y.clone())),
        ("equal" | "less_equal" | "greater_equal", Item::Size(x), Item::Size(y)) if x == y => {
            Some(Item::Truth(true))
        }
        ("less" | "greater", Item::Size(x), Item::Size(y)) if x == y => Some(Item::Truth(false)),
        ("equal", Item::Size(_), Item::Negative(_)) | ("equal", Item::Negative(_), Item::Size(_)) => {
            Some(Item::Truth(false))
        }
        ("less" | "less_equal", ..) => order(a, b),
        ("greater" | "greater_equal", ..) => order(b, a),
        _ => None,
    }
}

/// Whether `a` is below `b`, when one is negative and the other a size.
fn order(a: &Item, b: &Item) -> Option<Item> {
    match (a, b) {
        (Item::Negative(_), Item::Size(_)) => Some(Item::Truth(true)),
        (Item::Size(_), Item::Negative(_)) => Some(Item::Truth(false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::Operator;
    use crate::pointwise::Pointwise;
    use crate::pointwise::functions::{ADD, DIV, EQUAL, MUL, SELECT, SUB};

    fn sizes(dims: &[Dim]) -> Fact {
        Fact { sizes: Some(dims.to_vec()), ..Fact::known(DType::I64, &[dims.len()]) }
    }

    fn constant(numbers: &[i64]) -> Fact {
        Fact::constant(Tensor::from_slice(&[numbers.len()], numbers).unwrap())
    }

    fn infer(function: &'static crate::expr::Function, inputs: &[&Fact]) -> Fact {
        let op = Pointwise { name: "Test", expr: Expr::call(function, inputs.len(), Vec::new()) };
        let inputs: Vec<Option<&Fact>> = inputs.iter().map(|&fact| Some(fact)).collect();
        op.infer(&inputs, 1).unwrap().remove(0)
    }

    #[test]
    fn names_pass_through_arithmetic() {
        let (n, m) = (Dim::named("n"), Dim::named("m"));
        let shape = sizes(&[n.clone(), Dim::Known(6)]);
        let text = |fact: Fact| format!("{:?}", fact.sizes);
        assert_eq!(text(infer(&ADD, &[&shape, &constant(&[-1])])), "Some([n-1, 5])");
        assert_eq!(text(infer(&MUL, &[&shape, &sizes(&[m.clone(), Dim::Known(2)])])), "Some([m*n, 12])");
        assert_eq!(text(infer(&DIV, &[&shape, &constant(&[2, 4])])), "Some([floor((n)/2), 1])");
        assert_eq!(text(infer(&SUB, &[&shape, &shape])), "Some([0, 0])");
        // A negative number is no size.
        assert_eq!(text(infer(&SUB, &[&constant(&[1]), &shape])), "None");
    }

    #[test]
    fn the_way_exporters_write_expand_is_followed() {
        let n = Dim::named("n");
        let target = sizes(&[n.clone(), Dim::Known(4)]);
        let wanted = constant(&[3, -1]);
        let is_kept = infer(&EQUAL, &[&wanted, &constant(&[-1])]);
        assert_eq!(is_kept.value.as_ref().unwrap().bytes(), [0, 1]);
        let chosen = infer(&SELECT, &[&is_kept, &target, &wanted]);
        assert_eq!(chosen.sizes, Some(vec![Dim::Known(3), Dim::Known(4)]));
        // A -1 among names is seen as such, and stays one.
        let mixed = sizes(&[n.clone(), inferred()]);
        assert_eq!(infer(&EQUAL, &[&mixed, &constant(&[-1])]).value.unwrap().bytes(), [0, 1]);
        let kept = infer(&SELECT, &[&infer(&EQUAL, &[&mixed, &constant(&[-1])]), &constant(&[1]), &mixed]);
        assert_eq!(kept.sizes, Some(vec![n.clone(), Dim::Known(1)]));
        assert_eq!(
            infer(&MUL, &[&constant(&[1, 1]), &constant(&[-1])]).sizes,
            Some(vec![inferred(), inferred()])
        );
        // A size known by name is never -1, but it may be 3.
        assert_eq!(infer(&EQUAL, &[&target, &constant(&[-1])]).value.unwrap().bytes(), [0, 0]);
        assert!(infer(&EQUAL, &[&target, &constant(&[3])]).value.is_none());
    }
}
