//! [`Resize`](https://onnx.ai/onnx/operators/onnx__Resize.html), and
//! [`Upsample`](https://onnx.ai/onnx/operators/onnx__Upsample.html) before it.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::separable::{self, ResizeKernel};
use super::table::{Method, Mode, Nearest, Resized, Table, Transform};
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::layout::Blocking;
use crate::movement::sizes::{self, optional, required, view};
use crate::operator::{Cost, CpuKernel, Operator, Role};
use crate::problem::Problem;

/// `Resize` or `Upsample`.
#[derive(Clone, PartialEq, Debug)]
pub struct Resize {
    /// Interpolation and coordinates.
    pub method: Method,
    /// The resized axes; all when absent.
    pub axes: Option<Vec<i64>>,
    /// What coordinates outside a cropped region give.
    pub extrapolation: f32,
    /// How sizes keep the input's proportions.
    pub policy: Policy,
    /// Where scales and sizes are.
    pub inputs: Inputs,
    /// The operator's name in the model.
    pub name: &'static str,
}

/// What the sizes mean for the output's proportions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// The sizes are the output's.
    Stretch,
    /// One scale for all axes: the smallest.
    NotLarger,
    /// One scale for all axes: the largest.
    NotSmaller,
}

/// Where a node has its scales.
#[derive(Clone, PartialEq, Debug)]
pub enum Inputs {
    /// In an attribute: `Upsample` before opset 9.
    Attribute(Vec<f32>),
    /// Input 1: `Upsample` from opset 9 on, `Resize` of opset 10.
    Scales,
    /// Input 2, or sizes in input 3; a region of interest in input 1.
    RegionScalesSizes,
}

/// Builds a `Resize`.
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let attributes = spec.attributes;
    let mode = attributes.str_or("mode", "nearest".to_owned())?;
    if spec.opset < 11 {
        spec.expect_inputs(2, 2, "2")?;
        return Ok(Arc::new(legacy("Resize", &mode, Inputs::Scales)?));
    }
    spec.expect_inputs(1, 4, "1 to 4")?;
    let wrong = |name: &'static str, got: &str| OpError::constraint(name, "a mode that ONNX defines", got);
    let nearest = match attributes.str_or("nearest_mode", "round_prefer_floor".to_owned())?.as_str() {
        "round_prefer_floor" | "" => Nearest::RoundPreferFloor,
        "round_prefer_ceil" => Nearest::RoundPreferCeil,
        "floor" => Nearest::Floor,
        "ceil" => Nearest::Ceil,
        other => return Err(wrong("nearest_mode", other)),
    };
    let transform =
        match attributes.str_or("coordinate_transformation_mode", "half_pixel".to_owned())?.as_str() {
            "half_pixel" => Transform::HalfPixel,
            "half_pixel_symmetric" => Transform::HalfPixelSymmetric,
            "pytorch_half_pixel" => Transform::PytorchHalfPixel,
            "align_corners" => Transform::AlignCorners,
            "asymmetric" => Transform::Asymmetric,
            "tf_half_pixel_for_nn" => Transform::TfHalfPixelForNn,
            "tf_crop_and_resize" => Transform::TfCropAndResize,
            other => return Err(wrong("coordinate_transformation_mode", other)),
        };
    let coefficient = attributes.float_or("cubic_coeff_a", -0.75)?;
    let policy = match attributes.str_or("keep_aspect_ratio_policy", "stretch".to_owned())?.as_str() {
        "stretch" => Policy::Stretch,
        "not_larger" => Policy::NotLarger,
        "not_smaller" => Policy::NotSmaller,
        other => return Err(wrong("keep_aspect_ratio_policy", other)),
    };
    let mode = match mode.as_str() {
        "nearest" => Mode::Nearest(nearest),
        "linear" => Mode::Linear,
        "cubic" => Mode::Cubic(coefficient),
        other => return Err(wrong("mode", other)),
    };
    let antialias = attributes.flag("antialias", false)?;
    if antialias && matches!(mode, Mode::Nearest(_)) {
        return Err(OpError::constraint("antialias", "0 with mode nearest", 1));
    }
    let method =
        Method { mode, transform, antialias, exclude_outside: attributes.flag("exclude_outside", false)? };
    Ok(Arc::new(Resize {
        method,
        axes: attributes.ints("axes")?.map(<[i64]>::to_vec),
        extrapolation: attributes.float_or("extrapolation_value", 0.0)?,
        policy,
        inputs: Inputs::RegionScalesSizes,
        name: "Resize",
    }))
}

/// Builds an `Upsample`.
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build_upsample(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let mode = spec.attributes.str_or("mode", "nearest".to_owned())?;
    let inputs = if spec.opset < 9 {
        spec.expect_inputs(1, 1, "1")?;
        let scales = spec.attributes.floats("scales")?;
        Inputs::Attribute(scales.ok_or(OpError::Attribute { name: "scales", expected: "given" })?.to_vec())
    } else {
        spec.expect_inputs(2, 2, "2")?;
        Inputs::Scales
    };
    Ok(Arc::new(legacy("Upsample", &mode, inputs)?))
}

/// What resizing meant before opset 11.
fn legacy(name: &'static str, mode: &str, inputs: Inputs) -> Result<Resize, OpError> {
    let mode = match mode {
        "nearest" => Mode::Nearest(Nearest::FloorOrCeil),
        "linear" | "bilinear" => Mode::Linear,
        other => return Err(OpError::constraint("mode", "nearest or linear", other)),
    };
    let method = Method { mode, transform: Transform::Asymmetric, antialias: false, exclude_outside: false };
    Ok(Resize { method, axes: None, extrapolation: 0.0, policy: Policy::Stretch, inputs, name })
}

/// The output's dimensions, and a table for each axis that changes.
pub(super) type Tables = (Vec<usize>, Vec<(usize, Table)>);

/// What the inputs of one run ask for.
struct Request {
    scales: Option<Vec<f32>>,
    sizes: Option<Vec<i64>>,
    region: Option<Vec<f64>>,
}

/// The elements of a float tensor; empty ones count as absent.
fn floats(view: &View<'_>, input: usize) -> Result<Option<Vec<f64>>, OpError> {
    let all: Vec<f64> = match view.dtype {
        DType::F32 => {
            bytemuck::pod_collect_to_vec::<u8, f32>(view.bytes).into_iter().map(f64::from).collect()
        }
        DType::F64 => bytemuck::pod_collect_to_vec(view.bytes),
        DType::F16 => {
            bytemuck::pod_collect_to_vec::<u8, half::f16>(view.bytes).into_iter().map(f64::from).collect()
        }
        DType::BF16 => {
            bytemuck::pod_collect_to_vec::<u8, half::bf16>(view.bytes).into_iter().map(f64::from).collect()
        }
        got => return Err(OpError::Type { input, expected: "a float type", got }),
    };
    Ok((!all.is_empty()).then_some(all))
}

impl Resize {
    fn request<'v>(
        &self,
        input: &dyn Fn(usize) -> Result<Option<View<'v>>, OpError>,
    ) -> Result<Request, OpError> {
        let scales_at = |index: usize| -> Result<Option<Vec<f32>>, OpError> {
            let Some(view) = input(index)? else { return Ok(None) };
            Ok(floats(&view, index)?.map(|all| all.into_iter().map(|x| x as f32).collect()))
        };
        match &self.inputs {
            Inputs::Attribute(scales) => {
                Ok(Request { scales: Some(scales.clone()), sizes: None, region: None })
            }
            Inputs::Scales => Ok(Request { scales: scales_at(1)?, sizes: None, region: None }),
            Inputs::RegionScalesSizes => {
                let sizes = input(3)?.map(|view| sizes::integers(&view, 3)).transpose()?;
                let region = match self.method.transform {
                    Transform::TfCropAndResize => match input(1)? {
                        Some(view) => floats(&view, 1)?,
                        None => None,
                    },
                    _ => None,
                };
                let sizes = sizes.filter(|sizes| !sizes.is_empty());
                let scales = if sizes.is_some() { None } else { scales_at(2)? };
                Ok(Request { scales, sizes, region })
            }
        }
    }

    fn axes(&self, rank: usize) -> Result<Vec<usize>, OpError> {
        match &self.axes {
            Some(axes) => sizes::axes(axes, rank),
            None => Ok((0..rank).collect()),
        }
    }

    /// Each axis of an input of these dimensions.
    fn resized(&self, dims: &[usize], request: &Request) -> Result<Vec<Resized>, OpError> {
        let axes = self.axes(dims.len())?;
        let mut all: Vec<Resized> = dims
            .iter()
            .map(|&n| Resized { input: n, output: n, scale: 1.0, width: n as f64, region: (0.0, 1.0) })
            .collect();
        let expect = |what: &'static str, got: usize, want: usize| {
            if got == want { Ok(()) } else { Err(OpError::constraint(what, format!("{want} elements"), got)) }
        };
        match (&request.scales, &request.sizes) {
            (_, Some(sizes)) => {
                expect("sizes", sizes.len(), axes.len())?;
                let ratio = |(&axis, &size): (&usize, &i64)| size as f64 / dims[axis] as f64;
                let ratios = axes.iter().zip(sizes).map(ratio);
                let common = match self.policy {
                    Policy::Stretch => None,
                    Policy::NotLarger => Some(ratios.fold(f64::INFINITY, f64::min)),
                    Policy::NotSmaller => Some(ratios.fold(0.0, f64::max)),
                };
                for (&axis, &size) in axes.iter().zip(sizes) {
                    let size =
                        usize::try_from(size).map_err(|_| OpError::constraint("sizes", "0 or more", size))?;
                    let slot = &mut all[axis];
                    slot.output = match common {
                        Some(scale) => extent((scale * dims[axis] as f64 + 0.5).floor())?,
                        None => size,
                    };
                    slot.scale = common.unwrap_or(size as f64 / dims[axis] as f64);
                    slot.width = if common.is_some() { slot.scale * dims[axis] as f64 } else { size as f64 };
                }
            }
            (Some(scales), None) => {
                expect("scales", scales.len(), axes.len())?;
                for (&axis, &scale) in axes.iter().zip(scales) {
                    if !(scale.is_finite() && scale > 0.0) {
                        return Err(OpError::constraint("scales", "positive numbers", scale));
                    }
                    let slot = &mut all[axis];
                    // In 32 bits, as shape inference has it: 0.7 of 10 elements are 7, not 6.
                    slot.output = extent(f64::from((dims[axis] as f32 * scale).floor()))?;
                    slot.scale = f64::from(scale);
                    slot.width = slot.scale * dims[axis] as f64;
                }
            }
            (None, None) => {
                return Err(OpError::Arity { what: "inputs", expected: "scales or sizes", got: 1 });
            }
        }
        if let Some(region) = &request.region {
            expect("roi", region.len(), 2 * axes.len())?;
            for (index, &axis) in axes.iter().enumerate() {
                all[axis].region = (region[index], region[axes.len() + index]);
            }
        }
        element_count(&all.iter().map(|axis| axis.output).collect::<Vec<_>>()).ok_or(OpError::Size)?;
        Ok(all)
    }

    /// The output's dimensions, and a table for each axis that changes.
    fn tables_of(&self, dims: &[usize], request: &Request) -> Result<Tables, OpError> {
        let all = self.resized(dims, request)?;
        let output: Vec<usize> = all.iter().map(|axis| axis.output).collect();
        let mut tables = Vec::new();
        if output.contains(&0) || dims.contains(&0) {
            return if dims.contains(&0) && !output.contains(&0) {
                Err(OpError::constraint("input", "elements to interpolate", 0))
            } else {
                Ok((output, tables))
            };
        }
        for (axis, resized) in all.iter().enumerate() {
            if !resized.is_identity(self.method.transform) {
                tables.push((axis, resized.table(&self.method)?));
            }
        }
        Ok((output, tables))
    }

    /// The same for a run.
    pub(super) fn tables_of_run(&self, inputs: &[Option<View<'_>>]) -> Result<Tables, OpError> {
        let request = self.request(&|index| Ok(optional(inputs, index)))?;
        self.tables_of(view(inputs, 0)?.dims, &request)
    }

    /// The same for a problem whose scales and sizes are constant.
    pub(super) fn tables_of_problem(&self, problem: &Problem<'_>) -> Result<Tables, OpError> {
        let request = self.request(&|index| match problem.input(index) {
            None => Ok(None),
            Some(operand) if operand.is_empty() => Ok(None),
            Some(operand) => match operand.value {
                Some(value) => Ok(Some(value.view())),
                None => Err(OpError::unsupported(format!("a value of input {index} that a run computes"))),
            },
        })?;
        let x = problem.input(0).ok_or(OpError::Internal("no input"))?;
        self.tables_of(x.dims, &request)
    }
}

/// An extent from a number.
fn extent(x: f64) -> Result<usize, OpError> {
    if (0.0..1e12).contains(&x) { Ok(x as usize) } else { Err(OpError::Size) }
}

/// A named extent times a scale, if it can be said.
fn scaled(dim: &Dim, scale: f32) -> Dim {
    let exact = if scale >= 1.0 && scale.fract() == 0.0 && scale < 1e6 {
        dim.scale(scale as usize).ok()
    } else if scale > 0.0 && (1.0 / scale).fract() == 0.0 && 1.0 / scale < 1e6 {
        dim.div_floor((1.0 / scale) as usize).ok()
    } else {
        None
    };
    exact.unwrap_or_else(|| Dim::named("Resize.extent"))
}

impl Operator for Resize {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        let Some(dims) = &x.shape else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let unknown = OpError::Internal("not constant");
        let request = self.request(&|index| match optional(inputs, index) {
            None => Ok(None),
            Some(fact) if fact.dims().is_some_and(|dims| dims.contains(&0)) => Ok(None),
            Some(fact) => fact.value.as_ref().map(|value| Some(value.view())).ok_or_else(|| unknown.clone()),
        });
        let axes = self.axes(dims.len())?;
        let shape = match (request, x.dims()) {
            (Ok(request), Some(numbers)) => {
                self.resized(&numbers, &request)?.iter().map(|axis| Dim::Known(axis.output)).collect()
            }
            (Ok(Request { scales: Some(scales), sizes: None, .. }), None) if scales.len() == axes.len() => {
                let mut shape = dims.clone();
                for (&axis, &scale) in axes.iter().zip(&scales) {
                    shape[axis] = match dims[axis].known() {
                        Some(n) => Dim::Known(extent(f64::from((n as f32 * scale).floor()))?),
                        None => scaled(&dims[axis], scale),
                    };
                }
                shape
            }
            (Err(error), _) if error != unknown => return Err(error),
            _ => {
                // Sizes may be known by name.
                let sizes = match (&self.inputs, self.policy) {
                    (Inputs::RegionScalesSizes, Policy::Stretch) => optional(inputs, 3).and_then(sizes::of),
                    _ => None,
                };
                let mut shape = dims.clone();
                for (index, &axis) in axes.iter().enumerate() {
                    let size = sizes.as_ref().filter(|sizes| sizes.len() == axes.len());
                    shape[axis] =
                        size.map_or_else(|| Dim::named("Resize.extent"), |sizes| sizes[index].clone());
                }
                shape
            }
        };
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (dims, tables) = self.tables_of_run(inputs)?;
        let x = view(inputs, 0)?;
        Ok(vec![separable::reference(self, &x, &dims, &tables)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        Ok(ResizeKernel::prepare(self, problem))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(super::gpu::candidate(self, problem, caps))
    }

    fn role(&self) -> Role {
        Role::Anchor
    }

    fn blocked(&self, problem: &Problem<'_>, block: usize, blocked: &[bool]) -> Option<Blocking> {
        super::blocked::blocking(self, problem, block, blocked)
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let cost = problem.default_cost();
        let taps = match self.method.mode {
            Mode::Nearest(_) => 1,
            Mode::Linear => 8,
            Mode::Cubic(_) => 32,
        };
        Cost { flops: cost.flops.saturating_mul(taps), ..cost }
    }
}
