//! Tensors seen as lines along one dimension: [outer, len, inner].

use crate::error::OpError;

/// A tensor as `outer * inner` lines of `len` elements, `inner` elements apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lines {
    /// Product of the dimensions before.
    pub outer: usize,
    /// Extent of the dimension.
    pub len: usize,
    /// Product of the dimensions after.
    pub inner: usize,
}

impl Lines {
    /// The lines along one dimension.
    pub fn along(dims: &[usize], axis: usize) -> Lines {
        let split = |range: &[usize]| range.iter().product();
        let before = dims.get(..axis).unwrap_or(&[]);
        let after = dims.get(axis + 1..).unwrap_or(&[]);
        Lines { outer: split(before), len: dims.get(axis).copied().unwrap_or(1), inner: split(after) }
    }

    /// The lines over all dimensions from `axis` on.
    pub fn from(dims: &[usize], axis: usize) -> Lines {
        let (before, after) = dims.split_at(axis.min(dims.len()));
        Lines { outer: before.iter().product(), len: after.iter().product(), inner: 1 }
    }

    /// The number of lines.
    pub fn count(&self) -> usize {
        self.outer * self.inner
    }

    /// The first element of line `line`.
    pub fn first(&self, line: usize) -> usize {
        line / self.inner * self.len * self.inner + line % self.inner
    }
}

/// The lines to reduce one after the other so that all marked dimensions are: each takes the result of the one before,
/// the innermost block of neighbouring marked dimensions first. At least one; its lines have one element when nothing
/// is marked.
pub fn blocks(dims: &[usize], reduced: &[bool]) -> Vec<Lines> {
    let mut merged: Vec<(usize, bool)> = Vec::new();
    for (&size, &mark) in dims.iter().zip(reduced) {
        match merged.last_mut() {
            _ if size == 1 => {}
            Some((last, same)) if *same == mark => *last *= size,
            _ => merged.push((size, mark)),
        }
    }
    let mut blocks = Vec::new();
    let mut inner = 1;
    for (index, &(size, mark)) in merged.iter().enumerate().rev() {
        if mark {
            let outer = merged[..index].iter().map(|(size, _)| size).product();
            blocks.push(Lines { outer, len: size, inner });
        } else {
            inner *= size;
        }
    }
    if blocks.is_empty() {
        blocks.push(Lines { outer: dims.iter().product(), len: 1, inner: 1 });
    }
    blocks
}

/// A dimension given as in ONNX, counted from the end when negative.
///
/// # Errors
/// When there is no such dimension.
pub fn axis_index(axis: i64, rank: usize) -> Result<usize, OpError> {
    let size = i64::try_from(rank).map_err(|_| OpError::Size)?;
    let index = if axis < 0 { axis.checked_add(size).unwrap_or(-1) } else { axis };
    usize::try_from(index)
        .ok()
        .filter(|&index| index < rank)
        .ok_or_else(|| OpError::constraint("axis", format!("-{rank} to {rank} exclusive"), axis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_dimensions_become_blocks() {
        let lines = |outer, len, inner| Lines { outer, len, inner };
        assert_eq!(blocks(&[2, 3, 4, 5], &[false, false, true, true]), [lines(6, 20, 1)]);
        assert_eq!(blocks(&[2, 3, 4, 5], &[true, false, true, true]), [lines(6, 20, 1), lines(1, 2, 3)]);
        assert_eq!(blocks(&[2, 1, 4, 5], &[true, false, true, false]), [lines(1, 8, 5)]);
        assert_eq!(blocks(&[2, 3], &[false, false]), [lines(6, 1, 1)]);
        assert_eq!(blocks(&[], &[]), [lines(1, 1, 1)]);
        assert_eq!(Lines::along(&[2, 3, 4], 1), lines(2, 3, 4));
        assert_eq!(Lines::along(&[2, 3, 4], 1).first(5), 13);
        assert_eq!(Lines::from(&[2, 3, 4], 1), lines(2, 12, 1));
    }

    #[test]
    fn axes_count_from_both_ends() {
        assert_eq!(axis_index(-1, 3), Ok(2));
        assert_eq!(axis_index(0, 3), Ok(0));
        assert!(axis_index(3, 3).is_err() && axis_index(-4, 3).is_err() && axis_index(i64::MIN, 3).is_err());
    }
}
