//! Which dimensions a reduction takes away.

use super::lines::axis_index;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::view::View;
use crate::problem::Problem;

/// Where a reduction's axes come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Axes {
    /// An attribute; no axes when empty or absent.
    Attribute(Vec<i64>),
    /// Input 1, where given.
    Input,
    /// All dimensions after batch and channels.
    Spatial,
}

/// The axes of a reduction, and what becomes of the dimensions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reduced {
    /// Where the axes come from.
    pub axes: Axes,
    /// Reduced dimensions stay, with extent 1.
    pub keepdims: bool,
    /// Without axes nothing is reduced; otherwise everything is.
    pub noop_with_empty_axes: bool,
}

impl Reduced {
    /// The attributes of a `Reduce…` node; `input_since` is the opset in which the axes became an input.
    pub(super) fn from_spec(spec: &NodeSpec<'_>, input_since: i64) -> Result<Reduced, OpError> {
        let keepdims = spec.attributes.flag("keepdims", true)?;
        if spec.opset < input_since {
            spec.expect_inputs(1, 1, "1")?;
            let axes = Axes::Attribute(spec.attributes.ints_or("axes", Vec::new())?);
            return Ok(Reduced { axes, keepdims, noop_with_empty_axes: false });
        }
        spec.expect_inputs(1, 2, "1 or 2")?;
        let axes = if spec.has_input(1) { Axes::Input } else { Axes::Attribute(Vec::new()) };
        let noop_with_empty_axes = spec.attributes.flag("noop_with_empty_axes", false)?;
        Ok(Reduced { axes, keepdims, noop_with_empty_axes })
    }

    /// Which of `rank` dimensions are reduced. `input` is the contents of input 1.
    ///
    /// # Errors
    /// When an axis does not exist.
    pub fn mask(&self, rank: usize, input: &[i64]) -> Result<Vec<bool>, OpError> {
        let axes = match &self.axes {
            Axes::Attribute(axes) => axes,
            Axes::Input => input,
            Axes::Spatial => return Ok((0..rank).map(|axis| axis >= 2).collect()),
        };
        if axes.is_empty() {
            return Ok(vec![!self.noop_with_empty_axes; rank]);
        }
        let mut mask = vec![false; rank];
        for &axis in axes {
            mask[axis_index(axis, rank)?] = true;
        }
        Ok(mask)
    }

    /// The shape of the result; `None` when the axes or the rank are not known yet.
    ///
    /// # Errors
    /// When an axis does not exist, or the axes have a wrong type.
    pub fn shape(&self, data: &Fact, axes: Option<&Fact>) -> Result<Option<Vec<Dim>>, OpError> {
        let Some(shape) = &data.shape else { return Ok(None) };
        let mut input = Vec::new();
        if let (Axes::Input, Some(axes)) = (&self.axes, axes) {
            if axes.dtype != DType::I64 {
                return Err(OpError::Type { input: 1, expected: "i64", got: axes.dtype });
            }
            match axes.integers() {
                Some(known) => input = known,
                // A vector of no elements says all without being constant.
                None if axes.dims().is_some_and(|dims| dims == [0]) => {}
                None => return Ok(None),
            }
        }
        let mask = self.mask(shape.len(), &input)?;
        Ok(Some(self.remaining(shape, &mask, Dim::Known(1))))
    }

    /// The dimensions of the result: those not marked, and `one` for those marked if they are kept.
    pub fn remaining<T: Clone>(&self, dims: &[T], mask: &[bool], one: T) -> Vec<T> {
        let each = dims.iter().zip(mask);
        if self.keepdims {
            return each.map(|(dim, &mark)| if mark { one.clone() } else { dim.clone() }).collect();
        }
        each.filter(|(_, mark)| !**mark).map(|(dim, _)| dim.clone()).collect()
    }

    /// Which dimensions are reduced, given the inputs' contents.
    pub(super) fn mask_of(&self, inputs: &[Option<View<'_>>], rank: usize) -> Result<Vec<bool>, OpError> {
        let axes = match inputs.get(1) {
            Some(Some(view)) if view.dtype == DType::I64 => view.slice::<i64>(),
            Some(Some(view)) => return Err(OpError::Type { input: 1, expected: "i64", got: view.dtype }),
            _ => &[],
        };
        self.mask(rank, axes)
    }

    /// The same for a problem, where the axes must be constant.
    pub(super) fn mask_in(&self, problem: &Problem<'_>) -> Option<Vec<bool>> {
        let rank = problem.input(0)?.dims.len();
        match problem.input(1) {
            Some(axes) if !axes.is_empty() => self.mask(rank, &axes.value?.to_vec::<i64>().ok()?).ok(),
            // A vector of no elements says all without being constant.
            _ => self.mask(rank, &[]).ok(),
        }
    }
}
