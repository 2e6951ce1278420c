//! Broadcasting as ONNX defines it: shapes align at their last dimension, and 1 stretches.

use sardonyx_shaders::expression::{OperandParams, Pattern};
use sardonyx_shaders::storage::Width;

use crate::error::OpError;
use crate::ir::dim::Dim;

/// The shape that several shapes broadcast to. A name and 1 give the name; a name and another number give the number,
/// since nothing else can run.
///
/// # Errors
/// When two numbers differ and neither is 1.
pub fn shape(shapes: &[&[Dim]]) -> Result<Vec<Dim>, OpError> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let mut result = vec![Dim::Known(1); rank];
    for shape in shapes {
        for (slot, dim) in result.iter_mut().rev().zip(shape.iter().rev()) {
            if slot == dim || dim.is(1) {
                continue;
            }
            match (&*slot, dim) {
                (Dim::Known(1) | Dim::Symbolic(_), _) => *slot = dim.clone(),
                (Dim::Known(_), Dim::Symbolic(_)) => {}
                (Dim::Known(a), Dim::Known(b)) => {
                    return Err(OpError::constraint("broadcast dimension", format!("1 or {a}"), b));
                }
            }
        }
    }
    Ok(result)
}

/// The same for numbers.
///
/// # Errors
/// When two differ and neither is 1.
pub fn dims(shapes: &[&[usize]]) -> Result<Vec<usize>, OpError> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let mut result = vec![1; rank];
    for shape in shapes {
        for (slot, &dim) in result.iter_mut().rev().zip(shape.iter().rev()) {
            match (*slot, dim) {
                (a, b) if a == b || b == 1 => {}
                (1, b) => *slot = b,
                (a, b) => return Err(OpError::constraint("broadcast dimension", format!("1 or {a}"), b)),
            }
        }
    }
    Ok(result)
}

/// How an operand is read along the output: output dimensions and the operand's strides in elements, innermost first,
/// neighbours merged where one stride continues the other, extents of 1 left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Strides {
    /// Output extents, innermost first.
    pub dims: Vec<usize>,
    /// Operand strides, innermost first; 0 where it stretches.
    pub strides: Vec<usize>,
}

impl Strides {
    /// The strides of `operand` stretched to `output`, which it broadcasts to.
    pub fn new(operand: &[usize], output: &[usize]) -> Strides {
        let mut all = Strides { dims: Vec::new(), strides: Vec::new() };
        let mut next = 1usize;
        for (back, &size) in output.iter().rev().enumerate() {
            let own = operand.len().checked_sub(back + 1).map_or(1, |axis| operand[axis]);
            let stride = if own == 1 { 0 } else { next };
            next *= own;
            if size == 1 {
                continue;
            }
            match (all.dims.last_mut(), all.strides.last()) {
                (Some(dim), Some(&last)) if stride == last * *dim && (last != 0 || stride == 0) => {
                    *dim *= size
                }
                _ => {
                    all.dims.push(size);
                    all.strides.push(stride);
                }
            }
        }
        all
    }

    /// The operand's element for flat output index `i`.
    pub fn offset(&self, i: usize) -> usize {
        let mut rest = i;
        let mut offset = 0;
        for (&dim, &stride) in self.dims.iter().zip(&self.strides) {
            offset += (rest % dim) * stride;
            rest /= dim;
        }
        offset
    }

    /// The pattern a GPU kernel reads the operand with, and its numbers. `width` is that of the operand's binding:
    /// [`Width::Four`] asks for patterns whose groups of four stay aligned. `None` above eight merged dimensions.
    pub fn pattern(&self, width: Width) -> Option<(Pattern, OperandParams)> {
        let mut params = OperandParams { inner: 1, count: 1, ..OperandParams::default() };
        let word = |n: usize| u32::try_from(n).ok();
        let pattern = match (self.dims.as_slice(), self.strides.as_slice()) {
            // One element for one element broadcasts nothing. (A driver was met that converts what all invocations read
            // to f16 as 0.)
            ([], _) | ([1], _) | ([_], [1]) => Pattern::Same,
            (_, strides) if strides.iter().all(|&stride| stride == 0) => Pattern::Scalar,
            ([count, ..], [1, rest @ ..]) if rest.iter().all(|&stride| stride == 0) => {
                params.count = word(*count)?;
                if count % 4 == 0 && width == Width::Four { Pattern::Row } else { Pattern::Channel }
            }
            ([inner, count, ..], [0, 1, rest @ ..]) if rest.iter().all(|&stride| stride == 0) => {
                params.inner = word(*inner)?;
                params.count = word(*count)?;
                if inner % 4 == 0 { Pattern::Splat } else { Pattern::Channel }
            }
            (dims, strides) => {
                params.rank = word(dims.len())?;
                for (slot, &dim) in params.dims.iter_mut().zip(dims) {
                    *slot = word(dim)?;
                }
                for (slot, &stride) in params.strides.iter_mut().zip(strides) {
                    *slot = word(stride)?;
                }
                if dims.len() > params.dims.len() {
                    return None;
                }
                Pattern::Strided
            }
        };
        Some((pattern, params))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_broadcast() {
        assert_eq!(dims(&[&[3, 1, 5], &[4, 1], &[]]).unwrap(), [3, 4, 5]);
        assert!(dims(&[&[3], &[2]]).is_err());
        let n = Dim::named("n");
        assert_eq!(shape(&[&[n.clone(), Dim::Known(1)], &[Dim::Known(7)]]).unwrap(), [n, Dim::Known(7)]);
    }

    #[test]
    fn strides_merge_and_walk() {
        let strides = Strides::new(&[4, 1, 5], &[3, 4, 6, 5]);
        assert_eq!(strides.dims, [5, 6, 4, 3]);
        assert_eq!(strides.strides, [1, 0, 5, 0]);
        assert_eq!(strides.offset(((2 * 4 + 3) * 6 + 5) * 5 + 2), 3 * 5 + 2);
        assert_eq!(Strides::new(&[2, 3, 4], &[2, 3, 4]).dims, [24]);
        let pattern = |operand: &[usize], output: &[usize], width| {
            Strides::new(operand, output).pattern(width).unwrap().0
        };
        assert_eq!(pattern(&[2, 3, 4], &[2, 3, 4], Width::Four), Pattern::Same);
        assert_eq!(pattern(&[1, 1], &[2, 3, 4], Width::Four), Pattern::Scalar);
        assert_eq!(pattern(&[], &[1, 1], Width::Four), Pattern::Same);
        assert_eq!(pattern(&[4], &[2, 3, 4], Width::Four), Pattern::Row);
        assert_eq!(pattern(&[5], &[2, 3, 5], Width::One), Pattern::Channel);
        assert_eq!(pattern(&[3, 1, 1], &[2, 3, 2, 2], Width::One), Pattern::Splat);
        assert_eq!(pattern(&[2, 1, 4], &[2, 3, 4], Width::One), Pattern::Strided);
    }
}
