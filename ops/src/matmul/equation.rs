//! The equation of an Einsum: which axes of its operands are one index.

use crate::broadcast;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;

/// An equation as written, such as `...ij,jk->...ik`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Equation {
    operands: Vec<Vec<Axis>>,
    output: Option<Vec<Axis>>,
}

/// What stands for axes in an equation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Axis {
    /// One axis, by its letter.
    Letter(char),
    /// Any number of axes.
    Ellipsis,
}

/// The indices of an equation for operands of known rank. An index is a number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Indices {
    /// For each operand, the index of each axis.
    pub operands: Vec<Vec<usize>>,
    /// The index of each axis of the output; each once.
    pub output: Vec<usize>,
    /// How many indices there are.
    pub count: usize,
}

impl Equation {
    /// Reads an equation.
    pub(super) fn parse(text: &str) -> Result<Equation, OpError> {
        let wrong = || OpError::constraint("equation", "operands of letters and ..., then maybe ->", text);
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text, None),
        };
        let operands = left.split(',').map(term).collect::<Option<_>>().ok_or_else(wrong)?;
        let output = right.map(|right| term(right).ok_or_else(wrong)).transpose()?;
        Ok(Equation { operands, output })
    }

    /// The number of operands.
    pub(super) fn operands(&self) -> usize {
        self.operands.len()
    }

    /// The indices for operands of these ranks. Those of the ellipses come first and align at their last axis.
    pub(super) fn resolve(&self, ranks: &[usize]) -> Result<Indices, OpError> {
        if ranks.len() != self.operands.len() {
            return Err(OpError::constraint("operands of the equation", ranks.len(), self.operands.len()));
        }
        let mut widest = 0;
        for (axes, &rank) in self.operands.iter().zip(ranks) {
            let letters = axes.iter().filter(|axis| **axis != Axis::Ellipsis).count();
            let open = letters < axes.len();
            if letters > rank || (!open && letters < rank) {
                return Err(OpError::constraint("rank of an operand", letters, rank));
            }
            widest = widest.max(rank - letters);
        }
        let mut letters: Vec<char> = Vec::new();
        let mut operands = Vec::with_capacity(ranks.len());
        for (axes, &rank) in self.operands.iter().zip(ranks) {
            let mut own = Vec::with_capacity(rank);
            for axis in axes {
                match axis {
                    Axis::Ellipsis => own.extend(widest - (rank + 1 - axes.len())..widest),
                    Axis::Letter(letter) => {
                        let known = letters.iter().position(|known| known == letter);
                        own.push(widest + known.unwrap_or(letters.len()));
                        if known.is_none() {
                            letters.push(*letter);
                        }
                    }
                }
            }
            operands.push(own);
        }
        let count = widest + letters.len();
        let output = match &self.output {
            Some(axes) => {
                let mut output = Vec::new();
                for axis in axes {
                    match axis {
                        Axis::Ellipsis => output.extend(0..widest),
                        Axis::Letter(letter) => {
                            let known = letters.iter().position(|known| known == letter);
                            output.push(widest + known.ok_or_else(|| unknown(*letter))?);
                        }
                    }
                }
                output
            }
            // Without a right side: the ellipsis, then the letters that stand once, in their order.
            None => {
                let times = |index: &usize| operands.iter().flatten().filter(|own| *own == index).count();
                let mut once: Vec<usize> = (widest..count).filter(|index| times(index) == 1).collect();
                once.sort_by_key(|&index| letters.get(index - widest).copied());
                (0..widest).chain(once).collect()
            }
        };
        if output.len() > count || (1..output.len()).any(|at| output[..at].contains(&output[at])) {
            return Err(OpError::constraint("right side of the equation", "each index once", "one twice"));
        }
        Ok(Indices { operands, output, count })
    }
}

fn unknown(letter: char) -> OpError {
    OpError::constraint("right side of the equation", "letters of the left side", letter)
}

/// One side's part between commas; `None` when it is not letters and at most one ellipsis.
fn term(text: &str) -> Option<Vec<Axis>> {
    let mut axes = Vec::new();
    let mut rest: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).rev().collect();
    while let Some(c) = rest.pop() {
        if c == '.' {
            let dots = rest.pop() == Some('.') && rest.pop() == Some('.');
            if !dots || axes.contains(&Axis::Ellipsis) {
                return None;
            }
            axes.push(Axis::Ellipsis);
        } else if c.is_ascii_alphabetic() {
            axes.push(Axis::Letter(c));
        } else {
            return None;
        }
    }
    Some(axes)
}

impl Indices {
    /// The extent of each index; an extent of 1 stretches.
    pub(super) fn extents(&self, shapes: &[&[Dim]]) -> Result<Vec<Dim>, OpError> {
        let mut extents = vec![Dim::Known(1); self.count];
        for (own, shape) in self.operands.iter().zip(shapes) {
            for (&index, dim) in own.iter().zip(shape.iter()) {
                let both = broadcast::shape(&[&extents[index..=index], std::slice::from_ref(dim)])?;
                extents[index].clone_from(&both[0]);
            }
        }
        Ok(extents)
    }

    /// Whether an operand reads a diagonal: has an index twice.
    pub(super) fn diagonal(&self) -> bool {
        self.operands.iter().any(|own| (1..own.len()).any(|at| own[..at].contains(&own[at])))
    }
}

/// The element types of an Einsum: numbers.
pub(super) fn expect_number(dtype: DType, input: usize) -> Result<(), OpError> {
    use DType::*;
    match dtype {
        F32 | F64 | F16 | BF16 | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64 => Ok(()),
        got => Err(OpError::Type { input, expected: "a float or an integer of 8 to 64 bits", got }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_of_equations() {
        let of = |text: &str, ranks: &[usize]| Equation::parse(text)?.resolve(ranks);
        let product = of("...ij, ...jk -> ...ik", &[3, 2]).unwrap();
        assert_eq!(product.operands, [vec![0, 1, 2], vec![2, 3]]);
        assert_eq!((product.output, product.count), (vec![0, 1, 3], 4));
        // What stands once, in the order of the alphabet.
        assert_eq!(of("ba", &[2]).unwrap().output, [1, 0]);
        assert_eq!(of("bi,b", &[2, 1]).unwrap().output, [1]);
        assert_eq!(of("->", &[0]).unwrap().output, [0usize; 0]);
        assert!(of("ii->i", &[2]).unwrap().diagonal());
        for (text, rank) in [("ij->k", 2), ("ij->ii", 2), ("i", 2), ("i..j", 2), ("i1", 2), ("......", 2)] {
            assert!(of(text, &[rank]).is_err(), "{text}");
        }
    }
}
