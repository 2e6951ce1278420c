//! Windows that slide over the spatial dimensions of a tensor, as ONNX pooling operators describe them.

use std::ops::Range;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;

/// How windows are padded when the node gives no numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AutoPad {
    /// By the numbers in `pads`.
    NotSet,
    /// As many windows as strides fit, an odd element of padding at the end.
    SameUpper,
    /// The same, the odd element at the start.
    SameLower,
    /// Not at all.
    Valid,
}

/// The attributes that describe windows; one number per spatial axis, two for pads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    /// Elements of the window along each axis.
    pub kernel: Vec<usize>,
    /// Elements from one window to the next.
    pub strides: Vec<usize>,
    /// Elements from one tap of a window to the next.
    pub dilations: Vec<usize>,
    /// Padding before each axis, then after each.
    pub pads: Vec<usize>,
    /// How to pad without numbers.
    pub auto_pad: AutoPad,
    /// A last window may begin inside and end outside.
    pub ceil: bool,
}

/// The windows along one axis of known extent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Axis {
    /// Elements of the input.
    pub input: usize,
    /// Number of windows.
    pub output: usize,
    /// Taps of a window.
    pub kernel: usize,
    /// Elements from one window to the next.
    pub stride: usize,
    /// Elements from one tap to the next.
    pub dilation: usize,
    /// Padding before.
    pub before: usize,
    /// Padding after.
    pub after: usize,
}

/// An axis of one element under a window of one tap.
pub const UNIT: Axis = Axis { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, before: 0, after: 0 };

/// No window, stride or padding is larger: keeps sums of them far from overflow.
const MOST: usize = 1 << 31;

impl Window {
    /// Reads the attributes of a pooling node.
    ///
    /// # Errors
    /// When one is missing, negative, or not one per axis.
    pub fn from_spec(spec: &NodeSpec<'_>) -> Result<Window, OpError> {
        let attributes = spec.attributes;
        let kernel = attributes
            .ints("kernel_shape")?
            .ok_or(OpError::Attribute { name: "kernel_shape", expected: "given" })?;
        let rank = kernel.len();
        let numbers = |name: &'static str,
                       given: Option<&[i64]>,
                       count: usize,
                       least: i64,
                       default: usize| {
            let Some(all) = given else { return Ok(vec![default; count]) };
            let fits = |&n: &i64| usize::try_from(n).ok().filter(|&u| n >= least && u < MOST);
            let all: Option<Vec<usize>> = all.iter().map(fits).collect();
            all.filter(|all| all.len() == count).ok_or_else(|| {
                OpError::constraint(name, format!("{count} numbers from {least} on"), format!("{given:?}"))
            })
        };
        let auto_pad = match attributes.str_or("auto_pad", "NOTSET".to_owned())?.as_str() {
            "NOTSET" | "" => AutoPad::NotSet,
            "SAME_UPPER" => AutoPad::SameUpper,
            "SAME_LOWER" => AutoPad::SameLower,
            "VALID" => AutoPad::Valid,
            other => {
                return Err(OpError::constraint(
                    "auto_pad",
                    "NOTSET, SAME_UPPER, SAME_LOWER or VALID",
                    other,
                ));
            }
        };
        let mut window = Window {
            kernel: numbers("kernel_shape", Some(kernel), rank, 1, 1)?,
            strides: numbers("strides", attributes.ints("strides")?, rank, 1, 1)?,
            dilations: numbers("dilations", attributes.ints("dilations")?, rank, 1, 1)?,
            pads: numbers("pads", attributes.ints("pads")?, 2 * rank, 0, 0)?,
            auto_pad,
            ceil: attributes.flag("ceil_mode", false)?,
        };
        if auto_pad != AutoPad::NotSet {
            window.pads = vec![0; 2 * rank];
        }
        for (axis, &kernel) in window.kernel.iter().enumerate() {
            let reach = reach(kernel, window.dilations[axis])?;
            for pad in [window.pads[axis], window.pads[axis + rank]] {
                if pad >= reach {
                    return Err(OpError::constraint("pads", format!("less than the window's {reach}"), pad));
                }
            }
        }
        Ok(window)
    }

    /// The windows over spatial dimensions of these extents.
    ///
    /// # Errors
    /// When their number is wrong, or no window fits.
    pub fn over(&self, spatial: &[usize]) -> Result<Vec<Axis>, OpError> {
        self.expect_rank(spatial.len())?;
        spatial.iter().enumerate().map(|(axis, &input)| self.axis(axis, input)).collect()
    }

    fn expect_rank(&self, spatial: usize) -> Result<(), OpError> {
        if spatial != self.kernel.len() {
            return Err(OpError::constraint("spatial dimensions", self.kernel.len(), spatial));
        }
        Ok(())
    }

    fn axis(&self, axis: usize, input: usize) -> Result<Axis, OpError> {
        let (kernel, stride, dilation) = (self.kernel[axis], self.strides[axis], self.dilations[axis]);
        let reach = reach(kernel, dilation)?;
        let (mut before, mut after) = (self.pads[axis], self.pads[axis + self.kernel.len()]);
        let output = match self.auto_pad {
            AutoPad::SameUpper | AutoPad::SameLower => {
                let output = input.div_ceil(stride);
                let last = output.saturating_sub(1).checked_mul(stride).ok_or(OpError::Size)?;
                let total = last.saturating_add(reach).saturating_sub(input);
                let (half, rest) = (total / 2, total - total / 2);
                (before, after) =
                    if self.auto_pad == AutoPad::SameUpper { (half, rest) } else { (rest, half) };
                output
            }
            AutoPad::NotSet | AutoPad::Valid => {
                let padded = input.checked_add(before + after).ok_or(OpError::Size)?;
                let room = padded.checked_sub(reach).ok_or_else(|| {
                    OpError::constraint("window", format!("{padded} elements at most"), reach)
                })?;
                let ceil = self.ceil && self.auto_pad == AutoPad::NotSet;
                let output = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
                // A window that would begin in the padding behind the input is left out.
                let beyond = ceil && (output - 1).saturating_mul(stride) >= input + before;
                output - usize::from(beyond)
            }
        };
        Ok(Axis { input, output, kernel, stride, dilation, before, after })
    }

    /// The number of windows over spatial dimensions that may be named.
    ///
    /// # Errors
    /// When their number is wrong, or no window fits.
    pub fn shape(&self, spatial: &[Dim]) -> Result<Vec<Dim>, OpError> {
        self.expect_rank(spatial.len())?;
        let one = |(axis, dim): (usize, &Dim)| -> Result<Dim, OpError> {
            if let Some(input) = dim.known() {
                return Ok(Dim::Known(self.axis(axis, input)?.output));
            }
            let (stride, reach) = (self.strides[axis], reach(self.kernel[axis], self.dilations[axis])?);
            if matches!(self.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
                return Ok(dim.div_ceil(stride)?);
            }
            let after = self.pads[axis + self.kernel.len()];
            let more = (self.pads[axis] + after) as i64 - reach as i64;
            let room = dim.offset(more)?;
            if !self.ceil || self.auto_pad == AutoPad::Valid {
                return Ok(room.div_floor(stride)?.offset(1)?);
            }
            // Otherwise whether the last window begins in the padding depends on the extent.
            if after == 0 && reach >= stride {
                return Ok(room.div_ceil(stride)?.offset(1)?);
            }
            Ok(Dim::named("pool.windows"))
        };
        spatial.iter().enumerate().map(one).collect()
    }
}

/// Elements from the first tap of a window to behind the last.
fn reach(kernel: usize, dilation: usize) -> Result<usize, OpError> {
    (kernel - 1)
        .checked_mul(dilation)
        .and_then(|n| n.checked_add(1))
        .filter(|&n| n < 1 << 62)
        .ok_or(OpError::Size)
}

impl Axis {
    /// The taps of window `output` that lie inside the input.
    pub fn taps(&self, output: usize) -> Range<usize> {
        let start = output * self.stride;
        let first = self.before.saturating_sub(start).div_ceil(self.dilation);
        let behind = (self.input + self.before).saturating_sub(start).div_ceil(self.dilation);
        let end = behind.min(self.kernel);
        first.min(end)..end
    }

    /// The input element under tap `tap` of window `output`; only for taps inside.
    pub fn position(&self, output: usize, tap: usize) -> usize {
        (output * self.stride + tap * self.dilation).saturating_sub(self.before)
    }

    /// The taps of window `output` that lie inside the input or its padding.
    pub fn padded_taps(&self, output: usize) -> usize {
        let behind = (self.before + self.input + self.after).saturating_sub(output * self.stride);
        behind.div_ceil(self.dilation).min(self.kernel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: usize, stride: usize, pads: [usize; 2], auto_pad: AutoPad, ceil: bool) -> Window {
        Window {
            kernel: vec![kernel],
            strides: vec![stride],
            dilations: vec![1],
            pads: pads.to_vec(),
            auto_pad,
            ceil,
        }
    }

    #[test]
    fn windows_are_counted_as_onnx_says() {
        let output = |w: Window, input| w.over(&[input]).map(|axes| axes[0].output);
        assert_eq!(output(window(3, 2, [0, 0], AutoPad::NotSet, false), 4).unwrap(), 1);
        assert_eq!(output(window(3, 2, [0, 0], AutoPad::NotSet, true), 4).unwrap(), 2);
        assert_eq!(output(window(3, 2, [1, 1], AutoPad::NotSet, false), 32).unwrap(), 16);
        // The fifth window would begin in the padding.
        assert_eq!(output(window(1, 2, [0, 0], AutoPad::NotSet, true), 8).unwrap(), 4);
        assert!(output(window(3, 1, [0, 0], AutoPad::NotSet, false), 2).is_err());
        let same = window(3, 2, [0, 0], AutoPad::SameUpper, false).over(&[4]).unwrap()[0];
        assert_eq!((same.output, same.before, same.after), (2, 0, 1));
        let same = window(3, 2, [0, 0], AutoPad::SameLower, false).over(&[4]).unwrap()[0];
        assert_eq!((same.output, same.before, same.after), (2, 1, 0));
    }

    #[test]
    fn taps_stay_inside() {
        let axis = Axis { input: 5, output: 5, kernel: 3, stride: 1, dilation: 2, before: 2, after: 2 };
        assert_eq!(axis.taps(0), 1..3);
        assert_eq!(axis.taps(2), 0..3);
        assert_eq!(axis.taps(4), 0..2);
        assert_eq!(axis.position(0, 1), 0);
        assert_eq!(axis.position(4, 1), 4);
        assert_eq!(axis.padded_taps(4), 3);
    }

    #[test]
    fn named_extents() {
        let h = Dim::named("h");
        let shape = window(3, 2, [1, 1], AutoPad::NotSet, false).shape(std::slice::from_ref(&h)).unwrap();
        assert_eq!(shape[0].to_string(), "floor((h-1)/2)+1");
        let shape = window(2, 2, [0, 0], AutoPad::SameUpper, false).shape(&[h]).unwrap();
        assert_eq!(shape[0].to_string(), "floor((h+1)/2)");
    }
}
