//! The one operator behind the normalisations: lines brought to a common scale, then scaled and shifted.

use std::borrow::Cow;

use sardonyx_shaders::Capabilities;

use super::cpu;
use super::expansion;
use super::gpu;
use super::parameter::{Parameter, Stretch};
use super::statistic::Statistic;
use crate::broadcast::Strides;
use crate::cpu::{fill_floats, floats as wide, is_float};
use crate::dispatch::{Binding, Lowering};
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Cost, CpuKernel, CpuRun, Expansion, Operator, Role};
use crate::problem::{Operand, Problem};
use crate::reduce::lines::{Lines, axis_index, blocks};

/// Which elements share their statistics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Span {
    /// All dimensions from this one on.
    From(i64),
    /// One dimension.
    Along(i64),
    /// Some dimensions.
    Axes(Vec<i64>),
    /// Groups of neighbouring channels with all that follows; `None` for one channel each.
    Groups(Option<usize>),
}

/// A normalisation.
#[derive(Clone, PartialEq, Debug)]
pub struct Normalize {
    /// The operator's name in ONNX.
    pub name: &'static str,
    /// What lines are divided by.
    pub statistic: Statistic,
    /// Added to a variance, mean square or deviation.
    pub epsilon: f32,
    /// Which elements share their statistics.
    pub span: Span,
    /// How scale (input 1) and bias (input 2), where given, lie over the output.
    pub stretch: Stretch,
    /// The outputs that are wanted, in order.
    pub outputs: Vec<Product>,
    /// The type of means and inverse deviations.
    pub stash: DType,
}

/// An output of a normalisation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Product {
    /// What was normalised.
    Normalized,
    /// Of each line, the mean.
    Mean,
    /// Of each line, what its elements were multiplied by.
    Factor,
}

impl Normalize {
    /// A normalisation whose only output is what was normalised.
    pub(super) fn new(name: &'static str, statistic: Statistic, epsilon: f32, span: Span) -> Normalize {
        let outputs = vec![Product::Normalized];
        let stretch = Stretch::Trailing;
        Normalize { name, statistic, epsilon, span, stretch, outputs, stash: DType::F32 }
    }

    /// The lines, when they are [outer, len, inner].
    pub(super) fn lines(&self, dims: &[usize]) -> Result<Option<Lines>, OpError> {
        let rank = dims.len();
        Ok(Some(match &self.span {
            Span::From(axis) => Lines::from(dims, axis_index(*axis, rank)?),
            Span::Along(axis) => Lines::along(dims, axis_index(*axis, rank)?),
            Span::Axes(_) => {
                let blocks = blocks(dims, &self.marks(rank)?);
                return Ok(<[Lines; 1]>::try_from(blocks).ok().map(|[lines]| lines));
            }
            Span::Groups(groups) => {
                let (&batch, &channels) = match dims {
                    [batch, channels, ..] => (batch, channels),
                    _ => return Err(OpError::constraint("rank of the input", "2 or more", rank)),
                };
                let groups = groups.unwrap_or(channels);
                if groups == 0 || channels % groups != 0 {
                    if channels == 0 {
                        return Ok(Some(Lines { outer: 0, len: 0, inner: 1 }));
                    }
                    return Err(OpError::constraint(
                        "num_groups",
                        format!("a divisor of {channels}"),
                        groups,
                    ));
                }
                let spatial: usize = dims[2..].iter().product();
                Lines { outer: batch * groups, len: channels / groups * spatial, inner: 1 }
            }
        }))
    }

    pub(super) fn marks(&self, rank: usize) -> Result<Vec<bool>, OpError> {
        let mut marks = vec![false; rank];
        if let Span::Axes(axes) = &self.span {
            for &axis in axes {
                marks[axis_index(axis, rank)?] = true;
            }
        }
        Ok(marks)
    }

    /// For each element the line that it belongs to, and the number of lines.
    fn places(&self, dims: &[usize]) -> Result<(Vec<usize>, usize), OpError> {
        let mut places = filled(dims, 0usize)?;
        let lines = self.lines(dims)?;
        if places.is_empty() {
            return Ok((places, lines.map_or(0, |lines| lines.count())));
        }
        if let Some(Lines { len, inner, outer }) = lines {
            for (i, place) in places.iter_mut().enumerate() {
                *place = i / (len * inner) * inner + i % inner;
            }
            return Ok((places, outer * inner));
        }
        let marks = self.marks(dims.len())?;
        let mut lines = 1;
        for (i, place) in places.iter_mut().enumerate() {
            let mut rest = i;
            lines = 1;
            for (&dim, &mark) in dims.iter().zip(&marks).rev() {
                if !mark {
                    *place += rest % dim * lines;
                    lines *= dim;
                }
                rest /= dim;
            }
        }
        Ok((places, lines))
    }

    /// The type of the result: that of the scale where there is one.
    fn result_type(&self, inputs: &[Option<DType>]) -> Result<DType, OpError> {
        for (input, dtype) in inputs.iter().enumerate() {
            if let Some(got) = *dtype
                && !got.is_float()
            {
                return Err(OpError::Type { input, expected: "a float", got });
            }
        }
        let first = inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        Ok(inputs.get(1).copied().flatten().unwrap_or(first))
    }

    /// The statistics' shape: normalised dimensions shrink to 1.
    fn line_shape<T: Clone>(&self, dims: &[T], one: T) -> Result<Vec<T>, OpError> {
        let Span::From(axis) = self.span else { return Err(OpError::Internal("statistics of such lines")) };
        let axis = axis_index(axis, dims.len())?;
        Ok(dims.iter().enumerate().map(|(i, dim)| if i < axis { dim.clone() } else { one.clone() }).collect())
    }

    /// Normalised values, means and factors in f64.
    pub(super) fn compute(
        &self,
        values: &mut [f64],
        dims: &[usize],
    ) -> Result<(Vec<f64>, Vec<f64>), OpError> {
        let (places, lines) = self.places(dims)?;
        let len = values.len().checked_div(lines).unwrap_or(0);
        // The mean of nothing is no number.
        let none = len == 0 && self.statistic.centred();
        let mut means = filled(&[lines], if none { f64::NAN } else { 0.0 })?;
        if self.statistic.centred() {
            for (&place, &x) in places.iter().zip(&*values) {
                means[place] += x / len as f64;
            }
        }
        let mut factors = filled(&[lines], 0.0)?;
        for (&place, &x) in places.iter().zip(&*values) {
            let x = x - means[place];
            factors[place] += if self.statistic == Statistic::L1 { x.abs() } else { x * x };
        }
        for factor in &mut factors {
            *factor = self.statistic.factor(*factor, len, f64::from(self.epsilon));
        }
        for (&place, x) in places.iter().zip(&mut *values) {
            *x = (*x - means[place]) * factors[place];
        }
        Ok((means, factors))
    }

    /// Scales and shifts.
    pub(super) fn apply_parameters(
        &self,
        values: &mut [f64],
        dims: &[usize],
        parameters: [Option<&View<'_>>; 2],
    ) -> Result<(), OpError> {
        for (index, view) in parameters.into_iter().enumerate() {
            let Some(view) = view else { continue };
            let (own, output) = self.stretch.views(view.dims, dims)?;
            let strides = Strides::new(&own, &output);
            let numbers = floats(view)?;
            for (i, x) in values.iter_mut().enumerate() {
                let number = numbers[strides.offset(i)];
                *x = if index == 0 { *x * number } else { *x + number };
            }
        }
        Ok(())
    }

    /// The parameters of a problem, at these inputs.
    pub(super) fn parameter_views(
        &self,
        problem: &Problem<'_>,
        inputs: [usize; 2],
    ) -> Result<Vec<ParameterView>, OpError> {
        let Some(output) = problem.outputs.first() else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for (index, input) in inputs.into_iter().enumerate() {
            if let Some(operand) = problem.input(input) {
                let (own, output) = self.stretch.views(operand.dims, output.dims)?;
                all.push(ParameterView { input, bias: index == 1, own, output });
            }
        }
        Ok(all)
    }
}

/// A scale or bias of a problem as it stretches over the output.
pub(super) struct ParameterView {
    /// The input's index.
    pub input: usize,
    /// It is added; otherwise results are multiplied by it.
    pub bias: bool,
    /// Its dimensions …
    pub own: Vec<usize>,
    /// … which broadcast to these, the output's.
    pub output: Vec<usize>,
}

impl Operator for Normalize {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let types: Vec<Option<DType>> = inputs.iter().map(|fact| fact.map(|fact| fact.dtype)).collect();
        let dtype = self.result_type(&types)?;
        let data = inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        if let Some(dims) = data.dims() {
            self.lines(&dims)?;
            for parameter in inputs.iter().skip(1).flatten().filter_map(|fact| fact.dims()) {
                self.stretch.views(&parameter, &dims)?;
            }
        }
        let mut facts = vec![Fact { dtype, shape: data.shape.clone(), value: None, sizes: None }];
        for _ in 1..outputs.max(1) {
            facts.push(match &data.shape {
                Some(shape) => Fact::new(self.stash, self.line_shape(shape, Dim::Known(1))?),
                None => Fact::unranked(self.stash),
            });
        }
        Ok(facts)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let types: Vec<Option<DType>> = inputs.iter().map(|view| view.map(|view| view.dtype)).collect();
        let dtype = self.result_type(&types)?;
        let data = inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        let mut values = floats(&data)?;
        let (means, factors) = self.compute(&mut values, data.dims)?;
        let parameter = |index: usize| inputs.get(index).and_then(Option::as_ref);
        self.apply_parameters(&mut values, data.dims, [parameter(1), parameter(2)])?;
        let mut all = vec![float_tensor(dtype, data.dims, &values)?];
        for index in 1..outputs.max(1) {
            let dims = self.line_shape(data.dims, 1)?;
            // The second output of a normalisation without means is the factor.
            let statistics = if index == 1 && self.statistic.centred() { &means } else { &factors };
            all.push(float_tensor(self.stash, &dims, statistics)?);
        }
        Ok(all)
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let Some(data) = problem.input(0) else { return Ok(None) };
        let floats = problem.inputs.iter().flatten().chain(&problem.outputs).all(|x| is_float(x.dtype));
        if !floats || data.is_empty() || problem.outputs.len() != 1 || self.outputs != [Product::Normalized] {
            return Ok(None);
        }
        let Some(lines) = self.lines(data.dims)? else { return Ok(None) };
        let parameters = self.parameter_views(problem, [1, 2])?;
        Ok(Some(Box::new(NormalizeKernel {
            statistic: self.statistic,
            epsilon: self.epsilon,
            lines,
            parameters: parameters.iter().map(PreparedParameter::new).collect(),
        })))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        let Some(data) = problem.input(0) else { return Lowering::refused(self.name, "an input is missing") };
        if problem.outputs.len() != 1 || self.outputs != [Product::Normalized] {
            return Lowering::refused(self.name, "its statistics are wanted");
        }
        let storage = match problem.stored(self.name, Some(data)) {
            Ok(storage) => storage,
            Err(refusal) => return Lowering { refused: vec![refusal], ..Lowering::default() },
        };
        let read = (Binding::Input(0), storage);
        Lowering::from_result(gpu::lower(self, problem, data.dims, read, [1, 2], caps))
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        expansion::expand(self, inputs)
    }

    fn role(&self) -> Role {
        if self.outputs == [Product::Normalized] { Role::Anchor } else { Role::Opaque }
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let cost = problem.default_cost();
        // Sum, difference, square and sum, product, scale, bias.
        Cost { flops: cost.flops.saturating_mul(7), ..cost }
    }
}

/// A parameter's place in a kernel.
pub(super) struct PreparedParameter {
    input: usize,
    bias: bool,
    strides: Strides,
}

impl PreparedParameter {
    pub(super) fn new(view: &ParameterView) -> PreparedParameter {
        PreparedParameter {
            input: view.input,
            bias: view.bias,
            strides: Strides::new(&view.own, &view.output),
        }
    }
}

/// The parameters of one run.
pub(super) struct Parameters<'a>(Vec<(bool, Cow<'a, [f32]>, &'a Strides)>);

impl<'a> Parameters<'a> {
    pub(super) fn new(
        prepared: &'a [PreparedParameter],
        inputs: &[Option<View<'a>>],
    ) -> Result<Parameters<'a>, OpError> {
        let all = prepared.iter().map(|parameter| {
            let view = inputs.get(parameter.input).copied().flatten();
            let view = view.ok_or(OpError::Internal("an input is missing"))?;
            Ok((parameter.bias, wide(&view)?, &parameter.strides))
        });
        Ok(Parameters(all.collect::<Result<_, OpError>>()?))
    }

    /// Scales and shifts the results from flat output index `start` on.
    pub(super) fn apply(&self, y: &mut [f32], start: usize) {
        for (bias, values, strides) in &self.0 {
            let parameter = Parameter::new(values, strides);
            if *bias {
                parameter.add(y, start);
            } else {
                parameter.scale(y, start);
            }
        }
    }
}

struct NormalizeKernel {
    statistic: Statistic,
    epsilon: f32,
    lines: Lines,
    parameters: Vec<PreparedParameter>,
}

impl CpuKernel for NormalizeKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let data = run.inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("an output is missing"))?;
        let NormalizeKernel { statistic, epsilon, lines, .. } = *self;
        let x = wide(&data)?;
        let parameters = Parameters::new(&self.parameters, run.inputs)?;
        fill_floats(output, |y| {
            if lines.inner == 1 {
                return cpu::rows(y, lines.len, run.finish, |start, row| {
                    row.copy_from_slice(&x[start..start + row.len()]);
                    cpu::normalize_row(statistic, epsilon, row);
                    parameters.apply(row, start);
                });
            }
            cpu::columns(
                &x,
                y,
                lines,
                cpu::floats_of(run.scratch)?,
                run.finish,
                |block, inner, first, a, b| {
                    cpu::normalize_columns((statistic, epsilon), (block, inner, first), a, b);
                },
                |x, means, factors, y| {
                    for (((y, x), mean), factor) in y.iter_mut().zip(x).zip(means).zip(factors) {
                        *y = (x - mean) * factor;
                    }
                },
            )
        })
    }

    fn scratch(&self) -> usize {
        if self.lines.inner == 1 { 0 } else { cpu::columns_scratch(self.lines) }
    }

    fn finishes(&self) -> bool {
        true
    }
}

/// An operand under other dimensions.
pub(super) fn reshaped<'a>(operand: &Operand<'_>, dims: &'a [usize]) -> Operand<'a> {
    Operand { dims, dtype: operand.dtype, value: None, storage: operand.storage }
}
