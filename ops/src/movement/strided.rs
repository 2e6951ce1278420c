//! Affine copies: output coordinate `c` is input element `offset + Σ c · stride`. Transposition, slices, expansion,
//! tiling, splitting and space ↔ depth are all of this form.

use rayon::prelude::*;
use sardonyx_shaders::expression::Expression;
use sardonyx_shaders::storage::{Storage, Width};
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::assemble::{by_size, coordinates, elements, elements_mut, select};
use crate::dispatch::{Binding, Candidate, Dispatch, Ending, Lowering, Refusal, linear_grid, word};
use crate::error::OpError;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::Problem;

/// An affine map from the coordinates of an output to the elements of an input.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Strided {
    /// Output dimensions, outermost first.
    shape: Vec<usize>,
    /// Input strides for `shape`.
    steps: Vec<isize>,
    /// Input element of output element 0.
    offset: usize,
    /// Output extents, innermost first, neighbours merged, extents of 1 left out.
    dims: Vec<usize>,
    /// Input strides for `dims`.
    strides: Vec<isize>,
    /// Elements of the output.
    len: usize,
    /// The last input element that is read.
    last: usize,
}

impl Strided {
    /// A map over `shape` (outermost first), whose axis `k` moves `steps[k]` elements of an input of `input` elements.
    ///
    /// # Errors
    /// When the map leaves the input.
    pub fn new(shape: &[usize], steps: &[isize], offset: usize, input: usize) -> Result<Strided, OpError> {
        let len = element_count(shape).ok_or(OpError::Size)?;
        let mut map = Strided {
            shape: shape.to_vec(),
            steps: steps.to_vec(),
            offset,
            dims: Vec::new(),
            strides: Vec::new(),
            len,
            last: offset,
        };
        if steps.len() != shape.len() {
            return Err(OpError::Internal("one stride per dimension"));
        }
        if len == 0 {
            return Ok(map);
        }
        let (mut low, mut high) = (offset, offset);
        for (&dim, &step) in shape.iter().zip(steps).rev() {
            if dim == 1 {
                continue;
            }
            let reach = step.unsigned_abs().checked_mul(dim - 1).ok_or(OpError::Size)?;
            match step < 0 {
                true => low = low.checked_sub(reach).ok_or(OpError::Size)?,
                false => high = high.checked_add(reach).ok_or(OpError::Size)?,
            }
            match (map.dims.last_mut(), map.strides.last()) {
                (Some(last), Some(&inner))
                    if isize::try_from(*last).ok().and_then(|n| inner.checked_mul(n)) == Some(step) =>
                {
                    *last *= dim;
                }
                _ => {
                    map.dims.push(dim);
                    map.strides.push(step);
                }
            }
        }
        if low > high || high >= input {
            return Err(OpError::Internal("a copy that leaves its input"));
        }
        map.last = high;
        Ok(map)
    }

    /// The identity over `shape`.
    ///
    /// # Errors
    /// When the size overflows.
    pub fn contiguous(shape: &[usize]) -> Result<Strided, OpError> {
        let len = element_count(shape).ok_or(OpError::Size)?;
        Ok(Strided {
            shape: vec![len],
            steps: vec![1],
            offset: 0,
            dims: if len > 1 { vec![len] } else { Vec::new() },
            strides: if len > 1 { vec![1] } else { Vec::new() },
            len,
            last: len.saturating_sub(1),
        })
    }

    /// Output dimensions, the input elements that each moves by, and the input element of output element 0.
    pub fn parts(&self) -> (&[usize], &[isize], usize) {
        (&self.shape, &self.steps, self.offset)
    }

    /// Elements of the output.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No elements at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The last element of the input that is read.
    pub fn last(&self) -> usize {
        self.last
    }

    /// The copy element by element, for any element type.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn reference(&self, x: &View<'_>, dims: &[usize]) -> Result<Tensor, OpError> {
        select(x, dims, None, |i| {
            let at = coordinates(i, &self.shape);
            let moved: isize = at.iter().zip(&self.steps).map(|(&c, &step)| c as isize * step).sum();
            self.offset.checked_add_signed(moved)
        })
    }

    /// The input element of the first element of row `row`, a row being a run of the innermost merged dimension.
    fn row(&self, mut row: usize) -> isize {
        let mut at = self.offset as isize;
        for (&dim, &stride) in self.dims.iter().zip(&self.strides).skip(1) {
            at += (row % dim) as isize * stride;
            row /= dim;
        }
        at
    }

    /// The copy over elements of `N` bytes, on all threads of the current pool.
    ///
    /// # Errors
    /// When the output has another length than the map.
    pub fn copy<const N: usize>(&self, x: &[u8], y: &mut [u8]) -> Result<(), OpError> {
        const CHUNK: usize = 1 << 15;
        let (x, y) = (elements::<N>(x), elements_mut::<N>(y));
        if y.len() != self.len {
            return Err(OpError::Internal("a copy into an output of another length"));
        }
        let (inner, stride) = match (self.dims.first(), self.strides.first()) {
            (Some(&dim), Some(&stride)) => (dim, stride),
            _ => (1, 1),
        };
        if y.is_empty() {
            return Ok(());
        }
        if stride == 1 && inner == self.len {
            let x = &x[self.offset..self.offset + inner];
            y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| y.copy_from_slice(x));
            return Ok(());
        }
        let rows = (CHUNK / inner).max(1);
        if self.len <= CHUNK {
            self.rows(x, y, 0, inner, stride);
        } else {
            y.par_chunks_mut(rows * inner)
                .enumerate()
                .for_each(|(index, part)| self.rows(x, part, index * rows, inner, stride));
        }
        Ok(())
    }

    /// Fills `y` with rows from `first` on.
    fn rows<T: Copy>(&self, x: &[T], y: &mut [T], first: usize, inner: usize, stride: isize) {
        // Rows that begin at neighbouring elements are read together, so that a cache line serves all of them.
        const BLOCK: usize = 16;
        if stride != 1 && self.strides.get(1) == Some(&1) {
            let beside = self.dims.get(1).copied().unwrap_or(1);
            let count = y.len() / inner;
            let mut row = 0;
            while row < count {
                let run = BLOCK.min(beside - (first + row) % beside).min(count - row);
                let base = self.row(first + row);
                let block = &mut y[row * inner..(row + run) * inner];
                for start in (0..inner).step_by(BLOCK) {
                    let end = inner.min(start + BLOCK);
                    for (j, line) in block.chunks_exact_mut(inner).enumerate() {
                        let mut at = base + j as isize + start as isize * stride;
                        for slot in &mut line[start..end] {
                            *slot = x[at as usize];
                            at += stride;
                        }
                    }
                }
                row += run;
            }
            return;
        }
        let mut walk = Walk::new(self, first);
        for line in y.chunks_exact_mut(inner) {
            let base = walk.at;
            match stride {
                1 => line.copy_from_slice(&x[base as usize..base as usize + inner]),
                0 => line.fill(x[base as usize]),
                _ => {
                    let mut at = base;
                    for slot in line {
                        *slot = x[at as usize];
                        at += stride;
                    }
                }
            }
            walk.advance();
        }
    }

    /// The copy as one launch of `strided_copy` that reads `read`.
    ///
    /// # Errors
    /// When there are more than eight merged dimensions, or numbers beyond the kernel's parameters.
    pub fn dispatch(
        &self,
        read: (Binding, Storage),
        write: Binding,
        ending: Ending,
        caps: &Capabilities,
    ) -> Result<Dispatch, Refusal> {
        let variant = &table::STRIDED_COPY;
        let kernel = variant.name;
        let mut params = params::movement::StridedCopy {
            len: word(kernel, self.len)?,
            rank: word(kernel, self.dims.len())?,
            offset: word(kernel, self.offset)?,
            ..Default::default()
        };
        if self.last.max(self.len) > i32::MAX as usize {
            return Err(Refusal { kernel, reason: "more than 2^31 elements".to_owned() });
        }
        if self.dims.len() > params.dims.len() {
            return Err(Refusal { kernel, reason: "more than eight dimensions after merging".to_owned() });
        }
        for (slot, &dim) in params.dims.iter_mut().zip(&self.dims) {
            *slot = word(kernel, dim)?;
        }
        for (slot, &stride) in params.strides.iter_mut().zip(&self.strides) {
            *slot = i32::try_from(stride)
                .map_err(|_| Refusal { kernel, reason: format!("a stride of {stride} elements") })?;
        }
        let rows_aligned = match self.dims.as_slice() {
            [] | [_] => true,
            [inner, ..] => inner % 4 == 0,
        };
        let groups = self.strides.first() == Some(&1)
            && rows_aligned
            && self.offset.is_multiple_of(4)
            && self.strides.iter().skip(1).all(|stride| stride % 4 == 0);
        Ok(Dispatch {
            kernel: Kernel {
                variant,
                inputs: vec![(read.1, if groups { Width::Four } else { Width::One })],
                knobs: vec![("FOUR", u32::from(groups))],
                expression: ending.expression,
            },
            reads: std::iter::once(read.0).chain(ending.reads).collect(),
            writes: vec![write],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: ending.operands,
            grid: linear_grid(kernel, self.len.div_ceil(4 * 64), caps)?,
        })
    }

    /// Output 0 of a problem as this copy of input 0.
    pub fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.candidate(problem, caps))
    }

    fn candidate(&self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let kernel = table::STRIDED_COPY.name;
        let storage = problem.stored(kernel, problem.input(0))?;
        let ending = problem.ending(kernel, storage.value(), Width::Four)?;
        let dispatch = self.dispatch((Binding::Input(0), storage), Binding::Output(0), ending, caps)?;
        Ok(Candidate { dispatches: vec![dispatch], ..Candidate::default() })
    }
}

/// A walk over the rows of a map.
struct Walk<'a> {
    map: &'a Strided,
    coordinates: Vec<usize>,
    at: isize,
}

impl<'a> Walk<'a> {
    fn new(map: &'a Strided, row: usize) -> Walk<'a> {
        let mut rest = row;
        let coordinates = map.dims.iter().skip(1).map(|&dim| {
            let at = rest % dim;
            rest /= dim;
            at
        });
        Walk { map, coordinates: coordinates.collect(), at: map.row(row) }
    }

    fn advance(&mut self) {
        for (axis, at) in self.coordinates.iter_mut().enumerate() {
            let (dim, stride) = (self.map.dims[axis + 1], self.map.strides[axis + 1]);
            *at += 1;
            self.at += stride;
            if *at < dim {
                return;
            }
            self.at -= stride * dim as isize;
            *at = 0;
        }
    }
}

/// The end of a launch that stores elements of `storage` as they are, four at a time.
pub fn plain(storage: Storage) -> Ending {
    Ending {
        expression: Expression::store(storage.value(), storage, Width::Four),
        reads: Vec::new(),
        operands: Vec::new(),
    }
}

/// The maps of a run, one per output, worked out from the inputs.
type Maps = dyn Fn(&[Option<View<'_>>]) -> Result<Vec<Strided>, OpError> + Send + Sync;

/// Copies input 0 to each output by a map of its own.
pub struct CopyKernel {
    maps: Box<Maps>,
}

impl CopyKernel {
    /// A kernel for this problem; `None` for elements that do not fill bytes.
    pub fn prepare(
        problem: &Problem<'_>,
        maps: impl Fn(&[Option<View<'_>>]) -> Result<Vec<Strided>, OpError> + Send + Sync + 'static,
    ) -> Option<Box<dyn CpuKernel>> {
        let bits = problem.input(0)?.dtype.bits();
        (bits >= 8).then(|| Box::new(CopyKernel { maps: Box::new(maps) }) as Box<dyn CpuKernel>)
    }
}

impl CpuKernel for CopyKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let x = super::sizes::view(run.inputs, 0)?;
        let size = x.dtype.bits() / 8;
        for (map, output) in (self.maps)(run.inputs)?.iter().zip(run.outputs.iter_mut()) {
            by_size!(size, copy(map, x.bytes, output.bytes))?;
        }
        Ok(())
    }
}

fn copy<const N: usize>(map: &Strided, x: &[u8], y: &mut [u8]) -> Result<(), OpError> {
    map.copy::<N>(x, y)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Copies by the fast path and compares with the element-wise one.
    fn check(shape: &[usize], steps: &[isize], offset: usize, input: usize) -> Strided {
        let map = Strided::new(shape, steps, offset, input).unwrap();
        let data: Vec<u16> = (0..input as u32).map(|i| (i.wrapping_mul(40503) >> 3) as u16).collect();
        let x = Tensor::from_slice(&[input], &data).unwrap();
        let slow = map.reference(&x.view(), shape).unwrap();
        let mut fast = vec![0u8; map.len() * 2];
        map.copy::<2>(x.bytes(), &mut fast).unwrap();
        assert_eq!(fast, slow.bytes(), "{shape:?} {steps:?}");
        map
    }

    #[test]
    fn fast_copies_agree_with_the_plain_loop() {
        check(&[17, 65, 3], &[1, 17, 17 * 65], 0, 17 * 65 * 3);
        check(&[127, 513], &[1, 127], 0, 127 * 513);
        check(&[3, 5, 40, 33], &[5 * 33 * 40, 33 * 40, 1, 40], 0, 3 * 5 * 40 * 33);
        check(&[7, 129, 90], &[129 * 90, -90, 1], 128 * 90, 7 * 129 * 90);
        check(&[200, 3, 101], &[101, 0, 1], 0, 200 * 101);
        check(&[65, 800], &[1, 0], 0, 65);
        check(&[90_001], &[-2], 180_000, 180_001);
        check(&[100_001], &[1], 5, 100_006);
        check(&[], &[], 3, 4);
    }

    #[test]
    fn neighbours_merge_and_bounds_hold() {
        assert_eq!(check(&[2, 3, 4], &[12, 4, 1], 0, 24).dims, [24]);
        let map = check(&[2, 1, 3, 4], &[4, 9, 8, 1], 0, 24);
        assert_eq!((map.dims.as_slice(), map.strides.as_slice()), (&[4, 3, 2][..], &[1, 8, 4][..]));
        assert!(Strided::new(&[4], &[1], 1, 4).is_err());
        assert!(Strided::new(&[4], &[-1], 2, 4).is_err());
        assert!(Strided::new(&[0, 4], &[9, 9], 0, 0).is_ok());
    }
}
