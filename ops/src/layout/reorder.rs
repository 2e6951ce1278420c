//! A value with its channels in blocks, or out of them again.

use rayon::prelude::*;

use crate::cpu::vector::LANES;
use crate::error::OpError;
use crate::ir::dim::from_known;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::relabel;
use crate::movement::sizes::{required, view};
use crate::operator::{CpuKernel, CpuRun, Operator, Role};
use crate::problem::Problem;

/// Brings the channels of a value of rank 4 into blocks of `LANES`, or those of a value in blocks out of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reorder {
    dims: Vec<usize>,
    /// Elements of a channel.
    plane: usize,
    into: bool,
    /// No element moves.
    view: bool,
}

impl Reorder {
    /// Into blocks, for a value that has dimensions `dims` and gets `blocked`. Where these end in 1, all channels are
    /// one, and the value only gets other dimensions.
    pub fn into_blocks(dims: &[usize], blocked: Vec<usize>) -> Reorder {
        let plane = dims.iter().rev().take(2).product();
        let view = plane == 1 || blocked.last() != Some(&LANES);
        Reorder { dims: blocked, plane, into: true, view }
    }

    /// Out of blocks, for a value that has dimensions `dims` when it is not in blocks.
    pub fn out_of_blocks(dims: &[usize]) -> Reorder {
        let plane = dims.iter().skip(2).product();
        Reorder { dims: dims.to_vec(), plane, into: false, view: plane == 1 }
    }

    /// Eight channels lie in the same range of memory in both forms, as rows or as columns of a matrix.
    fn run<T: Copy + Send + Sync>(&self, x: &[T], y: &mut [T]) -> Result<(), OpError> {
        /// Elements that are worth a task of their own.
        const TASK: usize = 1 << 15;
        let size = (self.plane * LANES).max(1);
        if x.len() != y.len() || !x.len().is_multiple_of(size) {
            return Err(OpError::Internal("a value that is not in blocks"));
        }
        let each = |(x, y): (&[T], &mut [T])| if self.into { gather(x, y) } else { scatter(x, y) };
        let tasks = (TASK / size).max(1);
        x.par_chunks(size * tasks).zip(y.par_chunks_mut(size * tasks)).for_each(|(x, y)| {
            x.chunks_exact(size).zip(y.chunks_exact_mut(size)).for_each(each);
        });
        Ok(())
    }
}

/// Columns from rows.
fn gather<T: Copy>(x: &[T], y: &mut [T]) {
    let plane = x.len() / LANES;
    let rows: [&[T]; LANES] = std::array::from_fn(|k| &x[k * plane..(k + 1) * plane]);
    for (i, pixel) in y.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        *pixel = rows.map(|row| row[i]);
    }
}

/// Rows from columns.
fn scatter<T: Copy>(x: &[T], y: &mut [T]) {
    // Pixels of all rows that are written before the next: whole lines of cache.
    const RUN: usize = 64;
    let plane = y.len() / LANES;
    for (index, pixels) in x.as_chunks::<LANES>().0.chunks(RUN).enumerate() {
        for (k, row) in y.chunks_exact_mut(plane).enumerate() {
            let row = &mut row[index * RUN..index * RUN + pixels.len()];
            row.iter_mut().zip(pixels).for_each(|(slot, pixel)| *slot = pixel[k]);
        }
    }
}

impl Operator for Reorder {
    fn name(&self) -> &'static str {
        "Reorder"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::new(required(inputs, 0)?.dtype, from_known(&self.dims))])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        if self.view {
            return Ok(vec![relabel::reference(&x, &self.dims)?]);
        }
        let (size, plane) = (x.dtype.bits() / 8, self.plane.max(1));
        let place = |i: usize| {
            let (group, within) = (i / (plane * LANES), i % (plane * LANES));
            let from = match self.into {
                true => within % LANES * plane + within / LANES,
                false => within % plane * LANES + within / plane,
            };
            group * plane * LANES + from
        };
        let mut all = Vec::new();
        all.try_reserve_exact(x.bytes.len()).map_err(|_| OpError::Size)?;
        for i in 0..x.len() {
            let element = x.bytes.get(place(i) * size..(place(i) + 1) * size);
            all.extend_from_slice(element.ok_or(OpError::Internal("a value that is not in blocks"))?);
        }
        Ok(vec![Tensor::from_bytes(x.dtype, &self.dims, all.into())?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        if self.view {
            return Ok(relabel::cpu(problem));
        }
        Ok(Some(Box::new(ReorderKernel { op: self.clone() })))
    }

    fn role(&self) -> Role {
        if self.view { Role::View } else { Role::Opaque }
    }
}

struct ReorderKernel {
    op: Reorder,
}

impl CpuKernel for ReorderKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let x = view(run.inputs, 0)?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("no output"))?;
        match x.dtype {
            DType::F32 => self.op.run(x.slice::<f32>(), output.slice::<f32>()),
            DType::I8 | DType::U8 => self.op.run(x.bytes, output.bytes),
            _ => Err(OpError::Internal("a type that is never in blocks")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocked_dims;
    use super::*;
    use crate::cpu::check::{random, run_cpu};

    #[test]
    fn there_and_back() {
        for dims in [[1, 8, 1, 1], [2, 16, 3, 5], [1, 24, 17, 13], [3, 8, 65, 1]] {
            let x = random(&dims, 5);
            let blocked = blocked_dims(&dims, LANES).unwrap();
            let into = Reorder::into_blocks(&dims, blocked.clone());
            let there = into.reference(&[Some(x.view())], 1).unwrap().remove(0);
            assert_eq!(there.dims(), blocked);
            let (plain, all) = (x.to_vec::<f32>().unwrap(), there.to_vec::<f32>().unwrap());
            let plane = dims[2] * dims[3];
            for (i, &value) in plain.iter().enumerate() {
                let (channel, pixel) = (i / plane, i % plane);
                assert_eq!(all[(channel / LANES * plane + pixel) * LANES + channel % LANES], value);
            }
            assert_eq!(run_cpu(&into, &[Some(x.clone())], &[], None).unwrap().bytes(), there.bytes());
            let back = Reorder::out_of_blocks(&dims);
            assert_eq!(back.reference(&[Some(there.view())], 1).unwrap().remove(0).bytes(), x.bytes());
            assert_eq!(run_cpu(&back, &[Some(there)], &[], None).unwrap().bytes(), x.bytes());
            let bytes = Tensor::from_vec(&dims, (0..plain.len()).map(|i| (i * 7) as u8).collect()).unwrap();
            let there = run_cpu(&into, &[Some(bytes.clone())], &[], None).unwrap();
            assert_eq!(into.reference(&[Some(bytes.view())], 1).unwrap()[0].bytes(), there.bytes());
            assert_eq!(run_cpu(&back, &[Some(there)], &[], None).unwrap().bytes(), bytes.bytes());
        }
    }

    #[test]
    fn single_pixels_and_single_channels_only_get_other_dimensions() {
        assert_eq!(Reorder::into_blocks(&[2, 16, 1, 1], vec![2, 2, 1, 1, 8]).role(), Role::View);
        assert_eq!(Reorder::into_blocks(&[7, 5], vec![1, 1, 7, 5, 1]).role(), Role::View);
        assert_eq!(Reorder::into_blocks(&[1, 16, 1, 2], vec![1, 2, 1, 2, 8]).role(), Role::Opaque);
        assert_eq!(Reorder::out_of_blocks(&[1, 16, 1, 1]).role(), Role::View);
    }
}
