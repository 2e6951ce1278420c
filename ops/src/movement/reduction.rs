//! What scatters do with elements that meet.

use super::number::{Number, by_number};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dtype::{DType, Element};
use crate::ir::view::{View, ViewMut};

/// How an update meets the element it falls on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reduction {
    /// It replaces it.
    None,
    /// Sum.
    Add,
    /// Product.
    Mul,
    /// The smaller one.
    Min,
    /// The larger one.
    Max,
}

impl Reduction {
    /// Reads the attribute `reduction`.
    ///
    /// # Errors
    /// When it is none that ONNX defines.
    pub fn from_spec(spec: &NodeSpec<'_>) -> Result<Reduction, OpError> {
        match spec.attributes.str_or("reduction", "none".to_owned())?.as_str() {
            "none" => Ok(Reduction::None),
            "add" => Ok(Reduction::Add),
            "mul" => Ok(Reduction::Mul),
            "min" => Ok(Reduction::Min),
            "max" => Ok(Reduction::Max),
            other => Err(OpError::constraint("reduction", "none, add, mul, min or max", other)),
        }
    }

    /// Lets update elements fall on a tensor: each pair is (element, first update), `inner` elements in a row.
    ///
    /// # Errors
    /// When the type does not take part in the reduction.
    pub(super) fn scatter(
        self,
        y: &mut ViewMut<'_>,
        updates: &View<'_>,
        pairs: impl Iterator<Item = (usize, usize)>,
        inner: usize,
    ) -> Result<(), OpError> {
        if self == Reduction::None {
            let size = y.dtype.bits() / 8;
            let bytes = inner * size;
            for (to, from) in pairs {
                let (to, from) = (to * size, from * size);
                let source = updates.bytes.get(from..from + bytes).ok_or(OUTSIDE)?;
                y.bytes.get_mut(to..to + bytes).ok_or(OUTSIDE)?.copy_from_slice(source);
            }
            return Ok(());
        }
        if y.dtype == DType::Bool {
            // Of truth values, the smaller one is "and", the larger one "or"; so are product and sum.
            let combine = match self {
                Reduction::Min | Reduction::Mul => |a: u8, b: u8| a & b,
                _ => |a: u8, b: u8| a | b,
            };
            return meet(y.bytes, updates.bytes, pairs, inner, combine);
        }
        by_number!(y.dtype, numbers(self, y, updates, pairs, inner))
    }
}

const OUTSIDE: OpError = OpError::Internal("a scatter outside its output");

fn numbers<T: Number>(
    reduction: Reduction,
    y: &mut ViewMut<'_>,
    updates: &View<'_>,
    pairs: impl Iterator<Item = (usize, usize)>,
    inner: usize,
) -> Result<(), OpError> {
    let (y, updates) = (y.slice::<T>(), updates.slice::<T>());
    match reduction {
        Reduction::Add => meet(y, updates, pairs, inner, T::plus),
        Reduction::Mul => meet(y, updates, pairs, inner, T::times),
        Reduction::Min => meet(y, updates, pairs, inner, |a, b| if b < a || is_nan(b) { b } else { a }),
        Reduction::Max | Reduction::None => {
            meet(y, updates, pairs, inner, |a, b| if b > a || is_nan(b) { b } else { a })
        }
    }
}

/// NaN is the one value without an order to itself; integers always have one.
fn is_nan<T: PartialOrd>(x: T) -> bool {
    x.partial_cmp(&x).is_none()
}

fn meet<T: Element>(
    y: &mut [T],
    updates: &[T],
    pairs: impl Iterator<Item = (usize, usize)>,
    inner: usize,
    combine: impl Fn(T, T) -> T,
) -> Result<(), OpError> {
    for (to, from) in pairs {
        let source = updates.get(from..from + inner).ok_or(OUTSIDE)?;
        for (slot, &update) in y.get_mut(to..to + inner).ok_or(OUTSIDE)?.iter_mut().zip(source) {
            *slot = combine(*slot, update);
        }
    }
    Ok(())
}
