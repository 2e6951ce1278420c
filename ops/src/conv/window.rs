//! Sliding windows: the attributes that convolutions share, and the sizes that follow from them.

use crate::error::OpError;
use crate::ir::attributes::Attributes;
use crate::ir::dim::{Dim, DimError};

/// How an input is extended at its edges.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Padding {
    /// Elements before each axis, then elements after each; none when empty.
    Explicit(Vec<usize>),
    /// As many as make the output `ceil(input / stride)` (or, transposed, `input · stride`); an odd one at the end.
    SameUpper,
    /// The same; an odd one at the beginning.
    SameLower,
    /// None.
    Valid,
}

/// The attributes of a window. Lists are empty where every axis has the default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    /// Elements of the window along each axis; when absent, those of the weights.
    pub kernel: Option<Vec<usize>>,
    /// Steps between neighbouring windows.
    pub strides: Vec<usize>,
    /// Steps between neighbouring elements of a window.
    pub dilations: Vec<usize>,
    /// Edges.
    pub padding: Padding,
}

impl Default for Window {
    fn default() -> Window {
        Window {
            kernel: None,
            strides: Vec::new(),
            dilations: Vec::new(),
            padding: Padding::Explicit(Vec::new()),
        }
    }
}

/// A list of small numbers, each at least `least`.
pub(super) fn numbers(
    attributes: &Attributes,
    name: &'static str,
    least: i64,
    expected: &'static str,
) -> Result<Option<Vec<usize>>, OpError> {
    let Some(values) = attributes.ints(name)? else { return Ok(None) };
    let small = |&value: &i64| {
        let small = i32::try_from(value).ok().filter(|&small| i64::from(small) >= least);
        small.and_then(|small| usize::try_from(small).ok())
    };
    let values: Option<Vec<usize>> = values.iter().map(small).collect();
    values.map(Some).ok_or(OpError::Attribute { name, expected })
}

impl Window {
    /// Reads `kernel_shape`, `strides`, `dilations`, `pads` and `auto_pad`.
    ///
    /// # Errors
    /// When one has another type, or a number is out of range.
    pub fn read(attributes: &Attributes) -> Result<Window, OpError> {
        const POSITIVE: &str = "a list of positive integers below 2^31";
        const NATURAL: &str = "a list of integers from 0 to 2^31";
        let pads = numbers(attributes, "pads", 0, NATURAL)?.unwrap_or_default();
        let padding = match attributes.str("auto_pad")? {
            None | Some("NOTSET" | "") => Padding::Explicit(pads),
            Some("SAME_UPPER") => Padding::SameUpper,
            Some("SAME_LOWER") => Padding::SameLower,
            Some("VALID") => Padding::Valid,
            Some(_) => {
                let expected = "NOTSET, SAME_UPPER, SAME_LOWER or VALID";
                return Err(OpError::Attribute { name: "auto_pad", expected });
            }
        };
        Ok(Window {
            kernel: numbers(attributes, "kernel_shape", 1, POSITIVE)?,
            strides: numbers(attributes, "strides", 1, POSITIVE)?.unwrap_or_default(),
            dilations: numbers(attributes, "dilations", 1, POSITIVE)?.unwrap_or_default(),
            padding,
        })
    }

    /// Checks that every list fits a window over `rank` axes.
    ///
    /// # Errors
    /// When one has another length.
    pub fn check(&self, rank: usize) -> Result<(), OpError> {
        let pads = match &self.padding {
            Padding::Explicit(pads) => pads.len(),
            _ => 0,
        };
        let lists = [
            ("kernel_shape", self.kernel.as_ref().map_or(rank, Vec::len), rank, false),
            ("strides", self.strides.len(), rank, true),
            ("dilations", self.dilations.len(), rank, true),
            ("pads", pads, 2 * rank, true),
        ];
        for (what, got, expected, optional) in lists {
            if got != expected && !(optional && got == 0) {
                return Err(OpError::constraint(what, format!("{expected} numbers"), got));
            }
        }
        Ok(())
    }

    /// The step between windows along an axis.
    pub fn stride(&self, axis: usize) -> usize {
        self.strides.get(axis).copied().unwrap_or(1)
    }

    /// The step inside a window along an axis.
    pub fn dilation(&self, axis: usize) -> usize {
        self.dilations.get(axis).copied().unwrap_or(1)
    }

    /// Elements that a window of `kernel` elements spans along an axis.
    pub fn span(&self, axis: usize, kernel: usize) -> Result<usize, DimError> {
        let steps = kernel.checked_sub(1).ok_or(DimError)?;
        steps.checked_mul(self.dilation(axis)).and_then(|n| n.checked_add(1)).ok_or(DimError)
    }

    /// Explicit padding before and after an axis of `rank`; none when it follows from sizes.
    pub fn pads(&self, axis: usize, rank: usize) -> (usize, usize) {
        match &self.padding {
            Padding::Explicit(pads) => {
                let at = |index: usize| pads.get(index).copied().unwrap_or(0);
                (at(axis), at(axis + rank))
            }
            _ => (0, 0),
        }
    }

    /// Splits padding whose sum is given.
    pub fn split(&self, total: usize) -> (usize, usize) {
        match self.padding {
            Padding::SameLower => (total - total / 2, total / 2),
            _ => (total / 2, total - total / 2),
        }
    }

    /// The output's extent along an axis.
    ///
    /// # Errors
    /// When the window is known not to fit the padded input.
    pub fn output(&self, axis: usize, rank: usize, input: &Dim, kernel: usize) -> Result<Dim, OpError> {
        let stride = self.stride(axis);
        if matches!(self.padding, Padding::SameUpper | Padding::SameLower) {
            return Ok(input.div_ceil(stride)?);
        }
        let (before, after) = self.pads(axis, rank);
        let span = i64::try_from(self.span(axis, kernel)?).map_err(|_| DimError)?;
        let pads = i64::try_from(before + after).map_err(|_| DimError)?;
        Ok(input.offset(pads - span)?.div_floor(stride)?.offset(1)?)
    }

    /// Padding before an axis of known sizes.
    ///
    /// # Errors
    /// When a size overflows.
    pub fn before(
        &self,
        axis: usize,
        rank: usize,
        input: usize,
        kernel: usize,
        output: usize,
    ) -> Result<usize, DimError> {
        match self.padding {
            Padding::SameUpper | Padding::SameLower => {
                let steps = output.saturating_sub(1).checked_mul(self.stride(axis)).ok_or(DimError)?;
                let reach = steps.checked_add(self.span(axis, kernel)?).ok_or(DimError)?;
                Ok(self.split(reach.saturating_sub(input)).0)
            }
            _ => Ok(self.pads(axis, rank).0),
        }
    }
}

/// A convolution over known sizes, with three spatial axes: missing ones have extent 1 and stand first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sizes {
    /// Images.
    pub batch: usize,
    /// Groups of channels.
    pub groups: usize,
    /// Input channels of a group.
    pub inputs: usize,
    /// Output channels of a group.
    pub outputs: usize,
    /// Spatial extents of the input.
    pub input: [usize; 3],
    /// Spatial extents of the window.
    pub kernel: [usize; 3],
    /// Spatial extents of the output.
    pub output: [usize; 3],
    /// Steps between windows: in the input, or transposed, in the output.
    pub strides: [usize; 3],
    /// Steps inside a window.
    pub dilations: [usize; 3],
    /// Padding before each axis: of the input, or transposed, what is cut off the output.
    pub before: [usize; 3],
}

impl Sizes {
    /// Elements of an input channel.
    pub fn input_plane(&self) -> usize {
        self.input.iter().product()
    }

    /// Elements of an output channel.
    pub fn output_plane(&self) -> usize {
        self.output.iter().product()
    }

    /// Elements of a window.
    pub fn window(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Each output element depends on the input element at its place, channels apart.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1; 3] && self.strides == [1; 3] && self.before == [0; 3] && self.input == self.output
    }

    /// Each input channel is a group of its own.
    pub fn is_depthwise(&self) -> bool {
        self.inputs == 1 && self.groups > 1
    }

    /// Whether every product of sizes that kernels form fits the address space.
    pub fn fits(&self) -> bool {
        let product = |sizes: &[usize]| crate::ir::tensor::element_count(sizes);
        let reach = |axis: usize| {
            let windows = self.output[axis].max(self.input[axis]).checked_mul(self.strides[axis])?;
            let inside = self.kernel[axis].checked_mul(self.dilations[axis])?;
            windows.checked_add(inside)?.checked_add(self.before[axis])
        };
        let whole = |plane: [usize; 3], channels: usize| {
            product(&[plane[0], plane[1], plane[2], channels, self.groups, self.batch])
        };
        let columns = || product(&[self.window(), self.inputs.max(self.outputs), 4]);
        whole(self.input, self.inputs).is_some()
            && whole(self.output, self.outputs).is_some()
            && product(&[self.kernel[0], self.kernel[1], self.kernel[2]]).is_some()
            && columns().is_some()
            && (0..3).all(|axis| reach(axis).is_some_and(|reach| reach < 1 << 40))
    }

    /// Multiplications and additions of the whole, edges included.
    pub fn flops(&self, transposed: bool) -> u64 {
        let plane = if transposed { self.input_plane() } else { self.output_plane() };
        [self.batch, self.groups, self.inputs, self.outputs, self.window(), plane]
            .iter()
            .fold(2u64, |all, &size| all.saturating_mul(size as u64))
    }
}

/// Up to three numbers behind as many of `fill` as are missing. More than three keep the first three.
pub(super) fn three(values: impl ExactSizeIterator<Item = usize>, fill: usize) -> [usize; 3] {
    let mut all = [fill; 3];
    let skip = 3usize.saturating_sub(values.len());
    for (slot, value) in all.iter_mut().skip(skip).zip(values) {
        *slot = value;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(padding: Padding) -> Window {
        Window { strides: vec![2], padding, ..Window::default() }
    }

    #[test]
    fn outputs_follow_padding() {
        let n = Dim::named("n");
        let size = |window: &Window, n: usize| window.output(0, 1, &Dim::Known(n), 3).unwrap().known();
        let explicit = window(Padding::Explicit(vec![1, 1]));
        assert_eq!((size(&explicit, 224), size(&explicit, 7)), (Some(112), Some(4)));
        assert_eq!(explicit.output(0, 1, &n, 3).unwrap().to_string(), "floor((n-1)/2)+1");
        let valid = window(Padding::Valid);
        assert_eq!((size(&valid, 7), size(&valid, 3)), (Some(3), Some(1)));
        assert!(valid.output(0, 1, &Dim::Known(2), 4).is_err());
        let upper = window(Padding::SameUpper);
        assert_eq!(size(&upper, 7), Some(4));
        assert_eq!((upper.before(0, 1, 224, 3, 112), upper.before(0, 1, 7, 3, 4)), (Ok(0), Ok(1)));
        let lower = window(Padding::SameLower);
        assert_eq!((lower.before(0, 1, 224, 3, 112), lower.before(0, 1, 7, 3, 4)), (Ok(1), Ok(1)));
    }

    #[test]
    fn lists_of_the_wrong_length_are_refused() {
        let pads = Window { padding: Padding::Explicit(vec![1, 1, 1]), ..Window::default() };
        assert!(pads.check(2).is_err());
        assert!(Window { strides: vec![1], ..Window::default() }.check(2).is_err());
        assert!(Window { kernel: Some(vec![]), ..Window::default() }.check(2).is_err());
        assert!(Window::default().check(2).is_ok());
    }

    #[test]
    fn missing_axes_stand_first() {
        assert_eq!(three([5, 7].into_iter(), 1), [1, 5, 7]);
        assert_eq!(three([9].into_iter(), 0), [0, 0, 9]);
    }
}
