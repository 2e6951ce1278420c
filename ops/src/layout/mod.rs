//! Values whose channels lie in blocks: (N, C, H, W) as (N, C / c, H, W, c), so that neighbouring channels of a pixel are one
//! vector. Chains of convolutions and what stands between them work on such values; [`Reorder`] stands at their borders.

mod ending;
mod reorder;

use std::sync::Arc;

pub(crate) use ending::Ending;
pub use reorder::Reorder;

use crate::cpu::vector::{Isa, LANES};
use crate::ir::dtype::DType;
use crate::operator::Operator;

/// Channels of a block on this processor; `None` where blocks gain nothing.
pub fn block() -> Option<usize> {
    Isa::detect().has_vectors().then_some(LANES)
}

/// Whether values of this type may have their channels in blocks.
pub fn blockable(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::I8 | DType::U8)
}

/// What a step reads in place of its own inputs when it works in blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The input of this index, as it is.
    Plain(usize),
    /// The input of this index, its channels in blocks.
    Blocked(usize),
}

/// A way to do a step on values whose channels lie in blocks.
#[derive(Clone, Debug)]
pub struct Blocking {
    /// What does it.
    pub op: Arc<dyn Operator>,
    /// What it reads.
    pub inputs: Vec<Source>,
    /// Its output has its channels in blocks; else it is as it was.
    pub output: bool,
}

impl Blocking {
    /// The same with another operator: all inputs in blocks, and the output.
    pub fn of_all(op: Arc<dyn Operator>, inputs: usize) -> Blocking {
        Blocking { op, inputs: (0..inputs).map(Source::Blocked).collect(), output: true }
    }
}

/// The dimensions of a value of rank 4 with its channels in blocks; `None` when they do not fill blocks.
pub fn blocked_dims(dims: &[usize], block: usize) -> Option<Vec<usize>> {
    match *dims {
        [n, c, h, w] if block > 0 && c > 0 && c % block == 0 => Some(vec![n, c / block, h, w, block]),
        _ => None,
    }
}

/// The dimensions of a value that stretches over one of dimensions `over`, so that it stretches over it in blocks too:
/// those of rank 4 that blocks make of them, or those with one channel, which only get another name. `None` when neither
/// fits.
pub fn stretched_dims(dims: &[usize], over: &[usize], block: usize) -> Option<Vec<usize>> {
    let [_, channels, ..] = *over else { return None };
    if over.len() != 4 || dims.len() > 4 {
        return None;
    }
    let mut full = vec![1; 4 - dims.len()];
    full.extend_from_slice(dims);
    match full[1] {
        1 => Some([full.as_slice(), &[1]].concat()),
        c if c == channels => blocked_dims(&full, block),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_in_blocks() {
        assert_eq!(blocked_dims(&[2, 24, 5, 7], 8), Some(vec![2, 3, 5, 7, 8]));
        assert_eq!(blocked_dims(&[2, 20, 5, 7], 8), None);
        assert_eq!(blocked_dims(&[2, 24, 5], 8), None);
        assert_eq!(blocked_dims(&[2, 0, 5, 7], 8), None);
        let over = [2, 24, 5, 7];
        assert_eq!(stretched_dims(&[24, 1, 1], &over, 8), Some(vec![1, 3, 1, 1, 8]));
        assert_eq!(stretched_dims(&[5, 1], &over, 8), Some(vec![1, 1, 5, 1, 1]));
        assert_eq!(stretched_dims(&[], &over, 8), Some(vec![1, 1, 1, 1, 1]));
        assert_eq!(stretched_dims(&[1, 2, 3, 4, 5], &over, 8), None);
    }
}
