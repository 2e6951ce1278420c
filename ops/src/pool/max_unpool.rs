//! [`MaxUnpool`](https://onnx.ai/onnx/operators/onnx__MaxUnpool.html): elements back at the places where a `MaxPool`
//! found them, among zeros.

use std::sync::Arc;

use super::window::Window;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::movement::assemble::{Assembly, coordinates, row_major};
use crate::movement::sizes::{self, optional, required, view};
use crate::operator::Operator;

/// `MaxUnpool` of a pooling with this window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MaxUnpool {
    /// The window of the pooling.
    pub window: Window,
}

/// Builds [`MaxUnpool`].
///
/// # Errors
/// When the window's attributes break a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 3, "2 or 3")?;
    Ok(Arc::new(MaxUnpool { window: Window::from_spec(spec)? }))
}

impl MaxUnpool {
    /// The extents that a pooling with this window makes `dims` of, where it leaves nothing over.
    fn pooled(&self, dims: &[Dim]) -> Result<Vec<Dim>, OpError> {
        let window = &self.window;
        let axes = window.kernel.len();
        if dims.len() != axes + 2 {
            return Err(OpError::constraint("rank", axes + 2, dims.len()));
        }
        let mut shape = dims[..2].to_vec();
        for (axis, dim) in dims[2..].iter().enumerate() {
            // All of these are below 2^31.
            let shift = window.kernel[axis] as i64
                - window.strides[axis] as i64
                - (window.pads[axis] + window.pads[axes + axis]) as i64;
            shape.push(dim.scale(window.strides[axis])?.offset(shift)?);
        }
        Ok(shape)
    }
}

impl Operator for MaxUnpool {
    fn name(&self) -> &'static str {
        "MaxUnpool"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, places) = (required(inputs, 0)?, required(inputs, 1)?);
        if !x.dtype.is_float() {
            return Err(OpError::Type { input: 0, expected: "a float type", got: x.dtype });
        }
        if places.dtype != DType::I64 {
            return Err(OpError::Type { input: 1, expected: "i64", got: places.dtype });
        }
        let rank = self.window.kernel.len() + 2;
        let named = || (0..rank).map(|axis| Dim::named(&format!("MaxUnpool.{axis}"))).collect();
        let shape = match (optional(inputs, 2), &x.shape) {
            (Some(given), _) => sizes::of(given).filter(|sizes| sizes.len() == rank).unwrap_or_else(named),
            (None, Some(dims)) => self.pooled(dims)?,
            (None, None) => named(),
        };
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, places) = (view(inputs, 0)?, view(inputs, 1)?);
        let dims = |shape: &[Dim]| crate::ir::dim::known(shape).ok_or(OpError::Internal("an extent"));
        let pooled = dims(&self.pooled(&crate::ir::dim::from_known(x.dims))?)?;
        let target = match optional(inputs, 2) {
            None => pooled.clone(),
            Some(given) => {
                let given = sizes::integers(&given, 2)?;
                let sizes: Option<Vec<usize>> = given.iter().map(|&n| usize::try_from(n).ok()).collect();
                let fits = |sizes: &Vec<usize>| {
                    sizes.len() == pooled.len() && sizes.iter().zip(&pooled).all(|(own, least)| own >= least)
                };
                let expected = || format!("{pooled:?} or more");
                sizes
                    .filter(fits)
                    .ok_or_else(|| OpError::constraint("output_shape", expected(), format!("{given:?}")))?
            }
        };
        if places.dims != x.dims {
            let (expected, got) = (format!("{:?}", x.dims), format!("{:?}", places.dims));
            return Err(OpError::constraint("dimensions of the indices", expected, got));
        }
        let count = element_count(&pooled).ok_or(OpError::Size)?;
        let strides = row_major(&target);
        let mut y = Assembly::zeroed(x.dtype, &target)?;
        for (from, place) in sizes::integers(&places, 1)?.into_iter().enumerate() {
            let place = usize::try_from(place).ok().filter(|&place| place < count);
            let place = place.ok_or_else(|| {
                OpError::constraint("index", format!("0 to {}", count.saturating_sub(1)), "one outside")
            })?;
            // Positions count in the pooled tensor, which lies at the front of a larger one.
            let at = coordinates(place, &pooled).iter().zip(&strides).map(|(c, stride)| c * stride).sum();
            y.copy(at, &x, from)?;
        }
        Ok(vec![y.finish()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::window::AutoPad;

    #[test]
    fn elements_return_to_their_places() {
        let window = Window {
            kernel: vec![2],
            strides: vec![2],
            dilations: vec![1],
            pads: vec![0, 0],
            auto_pad: AutoPad::NotSet,
            ceil: false,
        };
        let op = MaxUnpool { window };
        let x = Tensor::from_slice(&[1, 2, 2], &[1f32, 2.0, 3.0, 4.0]).unwrap();
        let places = Tensor::from_slice(&[1, 2, 2], &[1i64, 2, 4, 7]).unwrap();
        let run = |shape: Option<&Tensor>| {
            let inputs = [Some(x.view()), Some(places.view()), shape.map(Tensor::view)];
            op.reference(&inputs, 1).map(|mut y| y.remove(0).to_vec::<f32>().unwrap())
        };
        assert_eq!(run(None).unwrap(), [0.0, 1.0, 2.0, 0.0, 3.0, 0.0, 0.0, 4.0]);
        let larger = Tensor::from_slice(&[3], &[1i64, 2, 5]).unwrap();
        assert_eq!(run(Some(&larger)).unwrap(), [0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 4.0, 0.0]);
        assert!(run(Some(&Tensor::from_slice(&[3], &[1i64, 2, 3]).unwrap())).is_err());
    }
}
