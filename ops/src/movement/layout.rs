//! Where the elements of a tensor lie in another one that they were moved out of: what transpositions, reshapes, slices and
//! expansions come down to when nothing is copied.

use super::strided::Strided;
use crate::ir::tensor::element_count;

/// A run of elements at equal distances.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Factor {
    /// How many.
    pub extent: usize,
    /// Elements between neighbours; 0 where one element is repeated.
    pub stride: usize,
}

/// The elements of a tensor in row-major order, as elements of a dense root: nested runs, outermost first. Dimensions of the
/// tensor are products of neighbouring runs, so a reshape changes nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The root's element that comes first.
    pub offset: usize,
    /// The runs; none has an extent of 1, and none continues its neighbour.
    pub factors: Vec<Factor>,
}

impl Layout {
    /// The root itself, of so many elements.
    pub fn dense(len: usize) -> Layout {
        let mut layout = Layout { offset: 0, factors: Vec::new() };
        layout.push(Factor { extent: len, stride: 1 });
        layout
    }

    /// Every element of a root of `len` elements once and in order.
    pub fn is_dense(&self, len: usize) -> bool {
        *self == Layout::dense(len)
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.factors.iter().map(|factor| factor.extent).product()
    }

    /// No elements at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an inner run.
    fn push(&mut self, inner: Factor) {
        if inner.extent == 1 {
            return;
        }
        match self.factors.last_mut() {
            Some(last) if Some(last.stride) == inner.stride.checked_mul(inner.extent) => {
                *last = Factor { extent: last.extent * inner.extent, stride: inner.stride };
            }
            _ => self.factors.push(inner),
        }
    }

    /// The runs of each of these dimensions; `None` when a run straddles two of them unevenly, or the sizes differ.
    pub fn split(&self, dims: &[usize]) -> Option<Vec<Vec<Factor>>> {
        if element_count(dims)? != self.len() || self.is_empty() {
            return None;
        }
        let mut rest = self.factors.clone();
        let mut all = Vec::with_capacity(dims.len());
        for &dim in dims.iter().rev() {
            let (mut left, mut own) = (dim, Vec::new());
            while left > 1 {
                let last = rest.pop()?;
                let taken = if last.extent <= left { last.extent } else { left };
                if left % taken != 0 || last.extent % taken != 0 {
                    return None;
                }
                own.push(Factor { extent: taken, ..last });
                left /= taken;
                if last.extent > taken {
                    rest.push(Factor {
                        extent: last.extent / taken,
                        stride: last.stride.checked_mul(taken)?,
                    });
                }
            }
            own.reverse();
            all.push(own);
        }
        all.reverse();
        Some(all)
    }

    /// One stride for each of these dimensions; `None` when a dimension is not one run.
    pub fn strides(&self, dims: &[usize]) -> Option<Vec<usize>> {
        let stride = |runs: Vec<Factor>| match runs.as_slice() {
            [] => Some(0),
            [only] => Some(only.stride),
            _ => None,
        };
        self.split(dims)?.into_iter().map(stride).collect()
    }

    /// The layout of a tensor that a map moves out of the one that lies like this.
    pub fn through(&self, map: &Strided) -> Option<Layout> {
        let (shape, steps, offset) = map.parts();
        if self.is_empty() || map.is_empty() {
            return None;
        }
        // Each run with the distance of its neighbours in the tensor, and the coordinate that the map begins at.
        let mut dense = self.len();
        let mut runs = Vec::with_capacity(self.factors.len());
        let (mut left, mut start) = (offset, self.offset);
        for &factor in &self.factors {
            dense /= factor.extent;
            let at = left / dense;
            if at >= factor.extent {
                return None;
            }
            left %= dense;
            start = start.checked_add(at.checked_mul(factor.stride)?)?;
            runs.push((factor, dense, at));
        }
        let mut layout = Layout { offset: start, factors: Vec::new() };
        for (&extent, &step) in shape.iter().zip(steps) {
            if extent == 1 {
                continue;
            }
            let step = usize::try_from(step).ok()?;
            let mut parts = Vec::new();
            let (mut extent, mut step) = (extent, step);
            while extent > 1 {
                if step == 0 {
                    parts.push(Factor { extent, stride: 0 });
                    break;
                }
                let (factor, dense, at) =
                    runs.iter_mut().rev().find(|(f, dense, _)| step < dense.saturating_mul(f.extent))?;
                if step < *dense || step % *dense != 0 {
                    return None;
                }
                let jump = step / *dense;
                let room = factor.extent / jump;
                let taken = if room < extent && factor.extent % jump == 0 { room } else { extent };
                if extent % taken != 0 {
                    return None;
                }
                // The last coordinate that the map reaches in this run, other dimensions of the map included.
                *at = at.checked_add((taken - 1).checked_mul(jump)?)?;
                if *at >= factor.extent || taken < 2 {
                    return None;
                }
                parts.push(Factor { extent: taken, stride: factor.stride.checked_mul(jump)? });
                extent /= taken;
                step = step.checked_mul(taken)?;
            }
            parts.into_iter().rev().for_each(|part| layout.push(part));
        }
        Some(layout)
    }

    /// Where the root's elements lie in the tensor, for each dimension of the root: the way back. `None` when the tensor does
    /// not hold each element once.
    pub fn inverse(&self, root: &[usize]) -> Option<Layout> {
        let len = element_count(root)?;
        if self.offset != 0 || self.len() != len {
            return None;
        }
        let mut inner = len;
        let mut moved: Vec<(Factor, usize)> = Vec::with_capacity(self.factors.len());
        for &factor in &self.factors {
            inner /= factor.extent;
            moved.push((factor, inner));
        }
        moved.sort_by_key(|(factor, _)| std::cmp::Reverse(factor.stride));
        let mut expected = len;
        let mut layout = Layout { offset: 0, factors: Vec::new() };
        for (factor, place) in moved {
            if factor.stride.checked_mul(factor.extent) != Some(expected) {
                return None;
            }
            expected = factor.stride;
            layout.push(Factor { extent: factor.extent, stride: place });
        }
        (expected == 1).then_some(layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(from: &Layout, shape: &[usize], steps: &[isize], offset: usize) -> Option<Layout> {
        from.through(&Strided::new(shape, steps, offset, from.len()).unwrap())
    }

    /// The elements one by one.
    fn elements(layout: &Layout) -> Vec<usize> {
        let mut all = vec![layout.offset];
        for factor in &layout.factors {
            all = all.iter().flat_map(|at| (0..factor.extent).map(move |i| at + i * factor.stride)).collect();
        }
        all
    }

    #[test]
    fn heads_are_found_behind_reshapes_and_transpositions() {
        // [2, 5, 12] as [2, 5, 3, 4], transposed to [2, 3, 5, 4], then to [6, 5, 4] and [6, 4, 5].
        let heads = moved(&Layout::dense(120), &[2, 3, 5, 4], &[60, 4, 12, 1], 0).unwrap();
        assert_eq!(heads.strides(&[2, 3, 5, 4]).unwrap(), [60, 4, 12, 1]);
        assert!(heads.strides(&[6, 5, 4]).is_none());
        let swapped = moved(&heads, &[6, 4, 5], &[20, 1, 4], 0).unwrap();
        assert_eq!(swapped.strides(&[2, 3, 4, 5]).unwrap(), [60, 4, 1, 12]);
        assert_eq!(elements(&swapped)[..6], [0, 12, 24, 36, 48, 1]);
        let back = heads.inverse(&[2, 5, 3, 4]).unwrap();
        assert_eq!(back.strides(&[2, 5, 3, 4]).unwrap(), [60, 4, 20, 1]);
        assert_eq!(moved(&heads, &[2, 5, 3, 4], &[60, 4, 20, 1], 0).unwrap(), Layout::dense(120));
    }

    #[test]
    fn slices_and_repetitions() {
        // The second of three parts of the last dimension of [5, 12].
        let part = moved(&Layout::dense(60), &[5, 4], &[12, 1], 4).unwrap();
        assert_eq!((part.offset, part.strides(&[5, 4]).unwrap()), (4, vec![12, 1]));
        // Each row three times, and then as [15, 4].
        let repeated = moved(&part, &[5, 3, 4], &[4, 0, 1], 0).unwrap();
        let runs = repeated.split(&[15, 4]).unwrap();
        assert_eq!(runs[0], [Factor { extent: 5, stride: 12 }, Factor { extent: 3, stride: 0 }]);
        // Every second row from the second on.
        let some = moved(&part, &[2, 4], &[8, 1], 4).unwrap();
        assert_eq!(elements(&some), [16, 17, 18, 19, 40, 41, 42, 43]);
        assert!(repeated.inverse(&[5, 12]).is_none());
        assert!(part.inverse(&[5, 4]).is_none());
    }

    #[test]
    fn maps_that_cross_runs_are_refused() {
        let part = moved(&Layout::dense(60), &[5, 4], &[12, 1], 4).unwrap();
        // Elements 2 to 5 of [5, 4] lie in two rows.
        assert!(moved(&part, &[4], &[1], 2).is_none());
        assert_eq!(elements(&moved(&part, &[8], &[1], 4).unwrap()), [16, 17, 18, 19, 28, 29, 30, 31]);
        assert!(moved(&part, &[4], &[-1], 3).is_none());
        assert!(part.split(&[20, 2]).is_none());
        assert!(Layout::dense(0).split(&[0, 2]).is_none());
        assert_eq!(Layout::dense(1).strides(&[1, 1]).unwrap(), [0, 0]);
    }

    #[test]
    fn random_chains_name_the_right_elements() {
        let mut state = 5u32;
        let mut random = |n: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize % n
        };
        let mut found = 0;
        for _ in 0..2000 {
            let dims = [1 + random(3), 2, 3, 1 + random(4)];
            let len: usize = dims.iter().product();
            let (mut layout, mut plain): (Layout, Vec<usize>) = (Layout::dense(len), (0..len).collect());
            let mut shape = dims.to_vec();
            for _ in 0..3 {
                let strides = crate::movement::assemble::row_major(&shape);
                let (mut next, mut steps): (Vec<usize>, Vec<isize>) =
                    (shape.clone(), strides.iter().map(|&s| s as isize).collect());
                let mut offset = 0;
                let axis = random(shape.len());
                match random(3) {
                    0 => {
                        let other = random(shape.len());
                        next.swap(axis, other);
                        steps.swap(axis, other);
                    }
                    1 => {
                        let start = random(shape[axis]);
                        offset = start * strides[axis];
                        next[axis] = 1 + random(shape[axis] - start);
                    }
                    _ => {
                        next.insert(axis, 2);
                        steps.insert(axis, 0);
                    }
                }
                let map = Strided::new(&next, &steps, offset, plain.len()).unwrap();
                let moved = Layout { offset, factors: Vec::new() };
                let mut at = vec![moved.offset as isize];
                for (&extent, &step) in next.iter().zip(&steps) {
                    at = at.iter().flat_map(|a| (0..extent).map(move |i| a + i as isize * step)).collect();
                }
                plain = at.into_iter().map(|i| plain[i as usize]).collect();
                let Some(new) = layout.through(&map) else { break };
                layout = new;
                assert_eq!(elements(&layout), plain, "{shape:?} to {next:?}");
                found += 1;
                // Two neighbouring dimensions become one now and then.
                shape = next;
                if shape.len() > 2 && random(2) == 0 {
                    let gone = shape.remove(1);
                    shape[0] *= gone;
                }
            }
        }
        assert!(found > 4000, "{found}");
    }
}
