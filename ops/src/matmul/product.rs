//! The shape of a matrix product: sizes, and where the elements of both factors lie.

use crate::broadcast;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::tensor::element_count;
use crate::operator::Summed;

/// The sizes and strides of `y[batch] = a[batch] · b[batch]`, batch dimensions merged where both factors allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Product {
    /// Rows of a result.
    pub rows: usize,
    /// Columns of a result.
    pub columns: usize,
    /// Columns of `a`, rows of `b`.
    pub depth: usize,
    /// Elements between rows and between columns of `a`.
    pub a: (usize, usize),
    /// Elements between rows and between columns of `b`.
    pub b: (usize, usize),
    /// Batch extents, innermost first; none is 1.
    pub batch: Vec<usize>,
    /// Elements between matrices of `a` along each of them; 0 where `a` is used again.
    pub a_batch: Vec<usize>,
    /// The same for `b`.
    pub b_batch: Vec<usize>,
}

/// Splits dimensions into those of the batch and those of the matrix, as `numpy.matmul` reads them: a vector on the left
/// is a row, one on the right a column.
fn split<T: Clone>(dims: &[T], transposed: bool, vector_is_row: bool, one: T) -> Option<(&[T], T, T)> {
    match dims {
        [] => None,
        [only] if vector_is_row => Some((&[], one, only.clone())),
        [only] => Some((&[], only.clone(), one)),
        [batch @ .., rows, columns] if transposed => Some((batch, columns.clone(), rows.clone())),
        [batch @ .., rows, columns] => Some((batch, rows.clone(), columns.clone())),
    }
}

fn scalar_operand() -> OpError {
    OpError::constraint("rank of a factor", "1 or more", 0)
}

/// The shape of a product: those of the batch broadcast, then rows and columns, those of vectors left out.
///
/// # Errors
/// When a factor is a scalar, the inner dimensions differ, or the batches do not broadcast.
pub(crate) fn shape(a: &[Dim], b: &[Dim], trans_a: bool, trans_b: bool) -> Result<Vec<Dim>, OpError> {
    let one = Dim::Known(1);
    let (a_batch, rows, a_depth) = split(a, trans_a, true, one.clone()).ok_or_else(scalar_operand)?;
    let (b_batch, b_depth, columns) = split(b, trans_b, false, one).ok_or_else(scalar_operand)?;
    if let (Some(left), Some(right)) = (a_depth.known(), b_depth.known())
        && left != right
    {
        return Err(OpError::constraint("inner dimension", left, right));
    }
    let mut result = broadcast::shape(&[a_batch, b_batch])?;
    result.extend((a.len() > 1).then_some(rows));
    result.extend((b.len() > 1).then_some(columns));
    Ok(result)
}

/// How the second factor of a product is summed over.
pub(super) fn summed(b: &[usize], trans_b: bool) -> Option<Summed> {
    let (blocks, len, lines) = match *b {
        [ref outer @ .., rows, len] if trans_b => (outer.iter().product::<usize>() * rows, len, 1),
        [ref outer @ .., len, columns] => (outer.iter().product(), len, columns),
        [len] => (1, len, 1),
        [] => return None,
    };
    Some(Summed { input: 1, blocks, len, lines })
}

impl Product {
    /// The product of factors of these dimensions.
    ///
    /// # Errors
    /// When a factor is a scalar, the inner dimensions differ, the batches do not broadcast, or a size overflows.
    pub fn new(a: &[usize], b: &[usize], trans_a: bool, trans_b: bool) -> Result<Product, OpError> {
        let (a_outer, rows, depth) = split(a, trans_a, true, 1).ok_or_else(scalar_operand)?;
        let (b_outer, b_depth, columns) = split(b, trans_b, false, 1).ok_or_else(scalar_operand)?;
        if depth != b_depth {
            return Err(OpError::constraint("inner dimension", depth, b_depth));
        }
        let outer = broadcast::dims(&[a_outer, b_outer])?;
        for dims in [a, b, &[&outer[..], &[rows, columns]].concat()] {
            element_count(dims).ok_or(OpError::Size)?;
        }
        let mut product = Product {
            rows,
            columns,
            depth,
            a: if trans_a && a.len() > 1 { (1, rows) } else { (depth, 1) },
            b: if trans_b && b.len() > 1 { (1, depth) } else { (columns, 1) },
            batch: Vec::new(),
            a_batch: Vec::new(),
            b_batch: Vec::new(),
        };
        if outer.contains(&0) {
            (product.batch, product.a_batch, product.b_batch) = (vec![0], vec![0], vec![0]);
            return Ok(product);
        }
        let (mut a_next, mut b_next) = (rows * depth, depth * columns);
        for (back, &size) in outer.iter().rev().enumerate() {
            let stride = |own: &[usize], next: &mut usize| {
                let own = own.len().checked_sub(back + 1).map_or(1, |axis| own[axis]);
                let stride = if own == 1 { 0 } else { *next };
                *next *= own;
                stride
            };
            let (a_stride, b_stride) = (stride(a_outer, &mut a_next), stride(b_outer, &mut b_next));
            product.push_batch(size, a_stride, b_stride);
        }
        product.merge_rows();
        Ok(product)
    }

    /// Adds the next outer batch dimension.
    pub fn push_batch(&mut self, size: usize, a_stride: usize, b_stride: usize) {
        if size == 1 {
            return;
        }
        if let (Some(last), Some(&a), Some(&b)) =
            (self.batch.last_mut(), self.a_batch.last(), self.b_batch.last())
            && a_stride == a * *last
            && b_stride == b * *last
        {
            *last *= size;
            return;
        }
        self.batch.push(size);
        self.a_batch.push(a_stride);
        self.b_batch.push(b_stride);
    }

    /// Many products with the same `b` are one with more rows, when the rows of `a` follow each other.
    fn merge_rows(&mut self) {
        while let (Some(&size), Some(&a), Some(0)) =
            (self.batch.first(), self.a_batch.first(), self.b_batch.first())
        {
            let follows = self.a == (self.depth, 1) && a == self.rows * self.depth;
            if !follows {
                return;
            }
            self.rows *= size;
            self.batch.remove(0);
            self.a_batch.remove(0);
            self.b_batch.remove(0);
        }
    }

    /// The number of products.
    pub fn count(&self) -> usize {
        self.batch.iter().product()
    }

    /// Where the factors of product `index` begin.
    pub fn offsets(&self, index: usize) -> (usize, usize) {
        let (mut rest, mut a, mut b) = (index, 0, 0);
        for ((&size, &a_stride), &b_stride) in self.batch.iter().zip(&self.a_batch).zip(&self.b_batch) {
            a += rest % size * a_stride;
            b += rest % size * b_stride;
            rest /= size;
        }
        (a, b)
    }

    /// Multiplications and additions of the whole.
    pub fn flops(&self) -> u64 {
        [self.count(), self.rows, self.columns, self.depth]
            .iter()
            .fold(2u64, |all, &size| all.saturating_mul(size as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_lose_their_dimension() {
        let dims = |known: &[usize]| crate::ir::dim::from_known(known);
        let of = |a: &[usize], b: &[usize]| shape(&dims(a), &dims(b), false, false);
        assert_eq!(of(&[3], &[3]).unwrap(), []);
        assert_eq!(of(&[2, 3], &[3]).unwrap(), dims(&[2]));
        assert_eq!(of(&[3], &[7, 3, 5]).unwrap(), dims(&[7, 5]));
        assert!(of(&[2], &[3]).is_err());
        assert!(of(&[], &[3]).is_err());
        let n = Dim::named("n");
        let transposed = shape(&[Dim::Known(4), n.clone()], &[Dim::Known(5), Dim::Known(4)], true, true);
        assert_eq!(transposed.unwrap(), [n, Dim::Known(5)]);
    }

    #[test]
    fn batches_merge_and_broadcast() {
        let product = Product::new(&[2, 3, 4, 5], &[2, 3, 5, 6], false, false).unwrap();
        assert_eq!((product.batch.as_slice(), product.rows), ([6].as_slice(), 4));
        let shared = Product::new(&[2, 3, 4, 5], &[5, 6], false, false).unwrap();
        assert_eq!((shared.count(), shared.rows), (1, 24));
        let transposed = Product::new(&[2, 4, 5], &[4, 6], true, false).unwrap();
        assert_eq!((transposed.count(), transposed.rows, transposed.a), (2, 5, (1, 5)));
        let mixed = Product::new(&[2, 1, 4, 5], &[3, 5, 6], false, false).unwrap();
        assert_eq!((mixed.batch.clone(), mixed.a_batch.clone()), (vec![3, 2], vec![0, 20]));
        assert_eq!(mixed.offsets(4), (20, 30));
        assert_eq!(mixed.flops(), 2 * 6 * 4 * 5 * 6);
        assert_eq!(Product::new(&[0, 4, 5], &[5, 6], false, false).unwrap().count(), 0);
        assert!(Product::new(&[usize::MAX, 2], &[2, 3], false, false).is_err());
    }
}
