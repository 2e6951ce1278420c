//! [`GridSample`](https://onnx.ai/onnx/operators/onnx__GridSample.html): a tensor read at coordinates that another one
//! gives.

use std::sync::Arc;

use rayon::prelude::*;
use sardonyx_shaders::storage::{ValueType, Width};
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use crate::build::NodeSpec;
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, linear_grid, word};
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::movement::assemble::{coordinates, row_major};
use crate::movement::number::{Number, by_number};
use crate::movement::sizes::{required, view};
use crate::operator::{CpuKernel, CpuRun, Operator, Role};
use crate::problem::Problem;

/// `GridSample` over one to three spatial dimensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GridSample {
    /// How elements are interpolated.
    pub interpolation: Interpolation,
    /// What lies outside.
    pub padding: Padding,
    /// -1 and 1 are the centres of the outermost elements, otherwise their outer edges.
    pub align_corners: bool,
}

/// How elements are interpolated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interpolation {
    /// The nearest one; halves go to the even one.
    Nearest,
    /// The two beside, along each axis.
    Linear,
    /// The four around, along each axis.
    Cubic,
}

/// What lies outside the tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Padding {
    /// Zeros.
    Zeros,
    /// The outermost elements.
    Border,
    /// The tensor mirrored.
    Reflection,
}

/// Builds [`GridSample`].
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    let attributes = spec.attributes;
    let default = if spec.opset < 20 { "bilinear" } else { "linear" };
    let interpolation = match attributes.str_or("mode", default.to_owned())?.as_str() {
        "nearest" => Interpolation::Nearest,
        "linear" | "bilinear" => Interpolation::Linear,
        "cubic" | "bicubic" => Interpolation::Cubic,
        other => return Err(OpError::constraint("mode", "nearest, linear or cubic", other)),
    };
    let padding = match attributes.str_or("padding_mode", "zeros".to_owned())?.as_str() {
        "zeros" => Padding::Zeros,
        "border" => Padding::Border,
        "reflection" => Padding::Reflection,
        other => return Err(OpError::constraint("padding_mode", "zeros, border or reflection", other)),
    };
    let align_corners = attributes.flag("align_corners", false)?;
    Ok(Arc::new(GridSample { interpolation, padding, align_corners }))
}

/// The input elements of a plane that make one output element, with their weights.
type Taps = Vec<(usize, f64)>;

/// A problem of known sizes.
struct Sizes {
    dims: Vec<usize>,
    spatial: Vec<usize>,
    /// Elements of an input plane.
    plane: usize,
    /// Points of the grid for each batch.
    points: usize,
}

impl GridSample {
    fn sizes(x: &[usize], grid: &[usize]) -> Result<Sizes, OpError> {
        let wrong = || {
            let expected = "input [n, c, spatial…] and grid [n, output…, spatial rank]";
            OpError::constraint("dimensions", expected, format!("{x:?} and {grid:?}"))
        };
        let (&[batch, channels], spatial) = x.split_first_chunk::<2>().ok_or_else(wrong)?;
        let (&[same], rest) = grid.split_first_chunk::<1>().ok_or_else(wrong)?;
        let (&axes, output) = rest.split_last().ok_or_else(wrong)?;
        if same != batch || axes != spatial.len() || output.len() != axes || !(1..=3).contains(&axes) {
            return Err(wrong());
        }
        let dims = [&[batch, channels], output].concat();
        let len = element_count(&dims).ok_or(OpError::Size)?;
        let plane = spatial.iter().product();
        if plane == 0 && len > 0 {
            return Err(OpError::constraint("input", "elements to sample", 0));
        }
        Ok(Sizes { points: output.iter().product(), dims, spatial: spatial.to_vec(), plane })
    }

    /// The element at a coordinate outside or inside an axis of `n` elements.
    fn element(self, at: f64, n: usize) -> Option<usize> {
        let last = n as f64 - 1.0;
        let inside = match self.padding {
            _ if (0.0..=last).contains(&at) => at,
            Padding::Zeros => return None,
            Padding::Border => at.clamp(0.0, last),
            Padding::Reflection => self.reflect(at, n).clamp(0.0, last),
        };
        Some(inside as usize)
    }

    /// A coordinate mirrored at the outermost elements or their edges until it lies between.
    fn reflect(self, at: f64, n: usize) -> f64 {
        let (low, high) = if self.align_corners { (0.0, n as f64 - 1.0) } else { (-0.5, n as f64 - 0.5) };
        let range = high - low;
        if range <= 0.0 || !at.is_finite() {
            return 0.0;
        }
        let folded = (at - low).rem_euclid(2.0 * range);
        low + folded.min(2.0 * range - folded)
    }

    /// The elements of one axis that a normalised coordinate reads, with their weights.
    fn along(self, normalised: f64, n: usize) -> Vec<(Option<usize>, f64)> {
        let size = n as f64;
        let at = if self.align_corners {
            (normalised + 1.0) / 2.0 * (size - 1.0)
        } else {
            ((normalised + 1.0) * size - 1.0) / 2.0
        };
        // Coordinates are 32-bit floats, so that rounding to the nearest element goes as elsewhere.
        let mut at = f64::from(at as f32);
        if self.interpolation == Interpolation::Nearest {
            at = at.round_ties_even();
        }
        let (low, high) = if self.align_corners { (0.0, size - 1.0) } else { (-0.5, size - 0.5) };
        if at < low || at > high {
            match self.padding {
                Padding::Zeros => {}
                Padding::Border => at = at.clamp(0.0, size - 1.0),
                Padding::Reflection => at = self.reflect(at, n),
            }
        }
        if !at.is_finite() {
            return vec![(None, 1.0)];
        }
        let left = at.floor();
        let t = at - left;
        let tap = |offset: f64, weight: f64| (self.element(left + offset, n), weight);
        match self.interpolation {
            Interpolation::Nearest => vec![(self.element(at, n), 1.0)],
            Interpolation::Linear => vec![tap(0.0, 1.0 - t), tap(1.0, t)],
            Interpolation::Cubic => {
                let weights =
                    [t + 1.0, t, 1.0 - t, 2.0 - t].map(|distance| super::table::cubic(distance, -0.75));
                (0..4).map(|k| tap(f64::from(k) - 1.0, weights[k as usize])).collect()
            }
        }
    }

    /// The taps of one point, whose coordinates stand innermost axis first.
    fn taps(self, point: &[f64], sizes: &Sizes) -> Taps {
        let strides = row_major(&sizes.spatial);
        let mut taps: Taps = vec![(0, 1.0)];
        for (axis, &coordinate) in point.iter().rev().enumerate() {
            let (own, stride) = (self.along(coordinate, sizes.spatial[axis]), strides[axis]);
            let join = |&(offset, weight): &(usize, f64)| {
                let further = own.iter().filter_map(move |&(element, factor)| {
                    Some((offset + element? * stride, weight * factor))
                });
                further.collect::<Taps>()
            };
            taps = taps.iter().flat_map(join).collect();
        }
        taps
    }
}

/// The grid's numbers.
fn numbers<T: Number>(view: &View<'_>) -> Result<Vec<f64>, OpError> {
    Ok(view.slice::<T>().iter().map(|x| x.to_f64()).collect())
}

fn sample<T: Number>(op: GridSample, x: &View<'_>, grid: &[f64], sizes: &Sizes) -> Result<Tensor, OpError> {
    let (data, axes) = (x.slice::<T>(), sizes.spatial.len());
    let len: usize = sizes.dims.iter().product();
    let mut y = Vec::new();
    y.try_reserve_exact(len).map_err(|_| OpError::Size)?;
    for i in 0..len {
        let (plane, point) = (i / sizes.points, i % sizes.points);
        let batch = coordinates(plane, &sizes.dims[..2])[0];
        let at = (batch * sizes.points + point) * axes;
        let taps = op.taps(&grid[at..at + axes], sizes);
        let source = &data[plane * sizes.plane..(plane + 1) * sizes.plane];
        y.push(T::from_f64(taps.iter().map(|&(offset, weight)| weight * source[offset].to_f64()).sum()));
    }
    Ok(Tensor::from_vec(&sizes.dims, y)?)
}

impl Operator for GridSample {
    fn name(&self) -> &'static str {
        "GridSample"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, grid) = (required(inputs, 0)?, required(inputs, 1)?);
        if !grid.dtype.is_float() {
            return Err(OpError::Type { input: 1, expected: "a float type", got: grid.dtype });
        }
        if let (Some(x), Some(grid)) = (x.dims(), grid.dims()) {
            GridSample::sizes(&x, &grid)?;
        }
        let (Some(dims), Some(points)) = (&x.shape, &grid.shape) else {
            return Ok(vec![Fact::unranked(x.dtype)]);
        };
        if dims.len() < 3 || points.len() != dims.len() {
            return Err(OpError::constraint("rank of the grid", dims.len(), points.len()));
        }
        let shape: Vec<Dim> = [&dims[..2], &points[1..points.len() - 1]].concat();
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, grid) = (view(inputs, 0)?, view(inputs, 1)?);
        let sizes = GridSample::sizes(x.dims, grid.dims)?;
        let grid = by_number!(grid.dtype, numbers(&grid))?;
        Ok(vec![by_number!(x.dtype, sample(*self, &x, &grid, &sizes))?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let floats = problem.input(0).is_some_and(|x| x.dtype == DType::F32);
        Ok(floats.then(|| Box::new(GridKernel { op: *self }) as Box<dyn CpuKernel>))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.candidate(problem, caps))
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

impl GridSample {
    fn candidate(self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let variant = &table::GRID_SAMPLE;
        let kernel = variant.name;
        let refuse = |reason: String| Refusal { kernel, reason };
        let (Some(x), Some(grid)) = (problem.input(0), problem.input(1)) else {
            return Err(refuse("an input is missing".to_owned()));
        };
        let (from, at) = (problem.stored(kernel, Some(x))?, problem.stored(kernel, Some(grid))?);
        if from.value() != ValueType::F32 || at.value() != ValueType::F32 {
            return Err(refuse(format!("it samples floats, not {}", x.dtype)));
        }
        let sizes = GridSample::sizes(x.dims, grid.dims).map_err(|error| refuse(error.to_string()))?;
        let len: usize = sizes.dims.iter().product();
        if len.max(x.len()).max(grid.len()) > i32::MAX as usize {
            return Err(refuse("more than 2^31 elements".to_owned()));
        }
        let axes = sizes.spatial.len();
        let mut size = [1, 1, 1, 0];
        for (slot, &extent) in size[3 - axes..].iter_mut().zip(&sizes.spatial) {
            *slot = word(kernel, extent)?;
        }
        let params = params::resize::GridSample {
            len: word(kernel, len)?,
            axes: word(kernel, axes)?,
            points: word(kernel, sizes.points)?,
            channels: word(kernel, sizes.dims[1])?,
            size,
        };
        let mode = match self.interpolation {
            Interpolation::Nearest => 0,
            Interpolation::Linear => 1,
            Interpolation::Cubic => 2,
        };
        let padding = match self.padding {
            Padding::Zeros => 0,
            Padding::Border => 1,
            Padding::Reflection => 2,
        };
        let ending = problem.ending(kernel, ValueType::F32, Width::Four)?;
        let dispatch = Dispatch {
            kernel: Kernel {
                variant,
                inputs: vec![(from, Width::One), (at, Width::One)],
                knobs: vec![("MODE", mode), ("PADDING", padding), ("ALIGN", u32::from(self.align_corners))],
                expression: ending.expression,
            },
            reads: [Binding::Input(0), Binding::Input(1)].into_iter().chain(ending.reads).collect(),
            writes: vec![Binding::Output(0)],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: ending.operands,
            grid: linear_grid(kernel, len.div_ceil(4 * 64), caps)?,
        };
        Ok(Candidate { dispatches: vec![dispatch], ..Candidate::default() })
    }
}

struct GridKernel {
    op: GridSample,
}

impl CpuKernel for GridKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (x, grid) = (view(run.inputs, 0)?, view(run.inputs, 1)?);
        let sizes = GridSample::sizes(x.dims, grid.dims)?;
        let grid = by_number!(grid.dtype, numbers(&grid))?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("no output"))?;
        if output.dims != sizes.dims {
            return Err(OpError::Internal("an output of another size"));
        }
        let (data, axes, channels) = (x.slice::<f32>(), sizes.spatial.len(), sizes.dims[1]);
        let batch = channels * sizes.points;
        if batch == 0 {
            return Ok(());
        }
        for (n, y) in output.slice::<f32>().chunks_mut(batch).enumerate() {
            let points = &grid[n * sizes.points * axes..(n + 1) * sizes.points * axes];
            // All channels read at the same places.
            let taps: Vec<Taps> = points.par_chunks(axes).map(|point| self.op.taps(point, &sizes)).collect();
            y.par_chunks_mut(sizes.points).enumerate().for_each(|(c, y)| {
                let source = &data[(n * channels + c) * sizes.plane..][..sizes.plane];
                for (slot, taps) in y.iter_mut().zip(&taps) {
                    *slot = taps.iter().map(|&(offset, weight)| weight as f32 * source[offset]).sum();
                }
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(op: GridSample, at: &[f32]) -> Vec<f32> {
        let x = Tensor::from_slice(&[1, 1, 4], &[1f32, 2.0, 4.0, 8.0]).unwrap();
        let grid = Tensor::from_slice(&[1, at.len(), 1], at).unwrap();
        op.reference(&[Some(x.view()), Some(grid.view())], 1).unwrap()[0].to_vec::<f32>().unwrap()
    }

    #[test]
    fn coordinates_inside_and_outside() {
        let op = |padding| GridSample { interpolation: Interpolation::Linear, padding, align_corners: true };
        assert_eq!(row(op(Padding::Zeros), &[-1.0, 0.0, 1.0]), [1.0, 3.0, 8.0]);
        // Three elements are a distance of 2: 5/3 lies one element outside.
        let outside = [1.0 + 1.0 / 3.0, 1.0 + 2.0 / 3.0];
        assert_eq!(row(op(Padding::Zeros), &outside)[1], 0.0);
        assert_eq!(row(op(Padding::Border), &outside), [8.0, 8.0]);
        assert!((row(op(Padding::Reflection), &outside)[1] - 4.0).abs() < 1e-5);
        let nearest = GridSample { interpolation: Interpolation::Nearest, ..op(Padding::Border) };
        assert_eq!(row(nearest, &[-0.4, 9.0, f32::NAN, f32::INFINITY])[..2], [2.0, 8.0]);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        assert!(GridSample::sizes(&[1, 1, 4], &[2, 3, 1]).is_err());
        assert!(GridSample::sizes(&[1, 1, 4, 4], &[1, 3, 3, 3]).is_err());
        assert!(GridSample::sizes(&[1, 1, 0], &[1, 3, 1]).is_err());
    }
}
