//! Constants in the layout that a GPU kernel wants.

use crate::error::OpError;
use crate::ir::dtype::Element;
use crate::ir::numbers::filled;
use crate::ir::tensor::Tensor;
use crate::movement::assemble::by_size;
use crate::movement::strided::Strided;

/// A constant in the layout that a kernel wants.
#[derive(Clone, Debug)]
pub enum Repacked {
    /// Made for the kernel.
    Made(Tensor),
    /// A constant of the model with its elements in another order. They are moved when a program takes them to a device:
    /// what is not chosen costs nothing, and what a device has already is not made again.
    Reordered {
        /// The constant.
        source: Tensor,
        /// The order.
        order: Order,
    },
}

/// Where the elements of a constant go. Equal orders of equal constants are equal.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Order {
    map: Strided,
    /// Elements of a row, and of a row with the zeros behind it.
    row: usize,
    padded: usize,
}

impl Repacked {
    /// These values in a row.
    ///
    /// # Errors
    /// When their size overflows.
    pub fn made<T: Element>(values: Vec<T>) -> Result<Repacked, OpError> {
        Ok(Repacked::Made(Tensor::from_vec(&[values.len()], values)?))
    }

    /// `shape` (outermost first) of elements of `source`, of which axis `k` moves by `steps[k]` elements. Rows along the last
    /// axis are filled up with zeros to multiples of `group` elements.
    ///
    /// # Errors
    /// When the map leaves the constant, or the sizes overflow.
    pub fn reordered(
        source: &Tensor,
        shape: &[usize],
        steps: &[usize],
        group: usize,
    ) -> Result<Repacked, OpError> {
        let steps: Result<Vec<isize>, _> = steps.iter().map(|&step| isize::try_from(step)).collect();
        let map = Strided::new(shape, &steps.map_err(|_| OpError::Size)?, 0, source.len())?;
        let row = shape.last().copied().unwrap_or(1);
        let padded = row.checked_next_multiple_of(group).ok_or(OpError::Size)?;
        let order = Order { map, row, padded };
        order.padded_len().ok_or(OpError::Size)?;
        Ok(Repacked::Reordered { source: source.clone(), order })
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Repacked::Made(tensor) => tensor.len(),
            Repacked::Reordered { order, .. } => order.padded_len().unwrap_or(0),
        }
    }

    /// No elements at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Order {
    fn padded_len(&self) -> Option<usize> {
        (self.map.len() / self.row.max(1)).checked_mul(self.padded)
    }

    /// The elements of `source` in this order, on all threads of the current pool.
    ///
    /// # Errors
    /// When `source` has fewer elements than the constant that the order was made for, elements smaller than a byte, or
    /// there is no memory for the result.
    pub fn of(&self, source: &Tensor) -> Result<Tensor, OpError> {
        let (bits, len) = (source.dtype().bits(), self.padded_len().ok_or(OpError::Size)?);
        if bits < 8 || source.len() <= self.map.last() && !self.map.is_empty() {
            return Err(OpError::Internal("an order for another constant"));
        }
        let size = bits / 8;
        let mut ordered = filled(&[self.map.len(), size], 0u8)?;
        by_size!(size, copy(&self.map, source.bytes(), &mut ordered))?;
        if self.padded != self.row {
            let mut all = filled(&[len, size], 0u8)?;
            let rows = ordered.chunks_exact((self.row * size).max(1));
            for (to, from) in all.chunks_exact_mut((self.padded * size).max(1)).zip(rows) {
                to[..from.len()].copy_from_slice(from);
            }
            ordered = all;
        }
        Ok(Tensor::from_bytes(source.dtype(), &[len], ordered.into())?)
    }
}

fn copy<const N: usize>(map: &Strided, x: &[u8], y: &mut [u8]) -> Result<(), OpError> {
    map.copy::<N>(x, y)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reordered(packed: &Repacked) -> Vec<f32> {
        let Repacked::Reordered { source, order } = packed else { panic!("made already") };
        let all = order.of(source).unwrap();
        assert_eq!(all.len(), packed.len());
        all.to_vec().unwrap()
    }

    #[test]
    fn rows_are_moved_and_filled_up() {
        let source = Tensor::from_vec(&[2, 3], vec![0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let turned = Repacked::reordered(&source, &[3, 2], &[1, 3], 4).unwrap();
        assert_eq!(reordered(&turned), [0.0, 3.0, 0.0, 0.0, 1.0, 4.0, 0.0, 0.0, 2.0, 5.0, 0.0, 0.0]);
        let plain = Repacked::reordered(&source, &[3, 2], &[1, 3], 1).unwrap();
        assert_eq!(reordered(&plain), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let empty = Repacked::reordered(&source, &[0, 2], &[1, 3], 4).unwrap();
        assert!(empty.is_empty() && reordered(&empty).is_empty());
        assert!(Repacked::reordered(&source, &[3, 2], &[1, 4], 1).is_err(), "beyond the constant");
        let shorter = Tensor::from_vec(&[5], vec![0.0f32; 5]).unwrap();
        let Repacked::Reordered { order, .. } = plain else { panic!("made already") };
        assert!(order.of(&shorter).is_err());
    }
}
