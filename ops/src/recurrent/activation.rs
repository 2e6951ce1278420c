//! The activation functions that recurrent operators name in their attributes.

use crate::build::NodeSpec;
use crate::cpu::math;
use crate::error::OpError;

/// A family of functions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Curve {
    /// `alpha · x + beta`.
    Affine,
    /// `x`, below zero `alpha · (e^x - 1)`.
    Elu,
    /// `alpha · x + beta` within 0 and 1.
    HardSigmoid,
    /// `x`, below zero `alpha · x`.
    LeakyRelu,
    /// `x`, below zero 0.
    Relu,
    /// `alpha · tanh(beta · x)`.
    ScaledTanh,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `ln(1 + e^x)`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// The hyperbolic tangent.
    Tanh,
    /// `x`, below `alpha` 0.
    ThresholdedRelu,
}

/// Curves by name, each with the defaults of the parameters that it has.
const CURVES: &[(&str, Curve, Option<f32>, Option<f32>)] = &[
    ("Affine", Curve::Affine, Some(1.0), Some(0.0)),
    ("Elu", Curve::Elu, Some(1.0), None),
    ("HardSigmoid", Curve::HardSigmoid, Some(0.2), Some(0.5)),
    ("LeakyRelu", Curve::LeakyRelu, Some(0.01), None),
    ("Relu", Curve::Relu, None, None),
    ("ScaledTanh", Curve::ScaledTanh, Some(1.0), Some(1.0)),
    ("Sigmoid", Curve::Sigmoid, None, None),
    ("Softplus", Curve::Softplus, None, None),
    ("Softsign", Curve::Softsign, None, None),
    ("Tanh", Curve::Tanh, None, None),
    ("ThresholdedRelu", Curve::ThresholdedRelu, Some(1.0), None),
];

/// A function with its parameters; those that the curve does not have are 0.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Activation {
    /// The family.
    pub curve: Curve,
    /// The first parameter.
    pub alpha: f32,
    /// The second parameter.
    pub beta: f32,
}

impl Activation {
    /// A function without parameters.
    pub const fn plain(curve: Curve) -> Activation {
        Activation { curve, alpha: 0.0, beta: 0.0 }
    }

    /// The functions that a node names, direction by direction. `defaults` are those of one direction. The lists of
    /// parameters have an element for each function that takes one, in order; missing ones have the curve's default.
    ///
    /// # Errors
    /// When an attribute has another type, a name is not known, or there are too few.
    pub fn list(
        spec: &NodeSpec<'_>,
        defaults: &[Curve],
        directions: usize,
    ) -> Result<Vec<Activation>, OpError> {
        let names = spec.attributes.strs("activations")?.unwrap_or_default();
        let mut alphas = spec.attributes.floats("activation_alpha")?.unwrap_or_default().iter().copied();
        let mut betas = spec.attributes.floats("activation_beta")?.unwrap_or_default().iter().copied();
        let needed = defaults.len() * directions;
        if names.is_empty() {
            return Ok(defaults.iter().cycle().take(needed).map(|&curve| Activation::plain(curve)).collect());
        }
        if names.len() < needed {
            return Err(OpError::constraint("activations", needed, names.len()));
        }
        let read = |name: &String| {
            let (_, curve, alpha, beta) =
                CURVES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name)).ok_or_else(|| {
                    let got: String = name.chars().take(32).collect();
                    OpError::constraint("activation", "a known function", got)
                })?;
            Ok(Activation {
                curve: *curve,
                alpha: alpha.map_or(0.0, |default| alphas.next().unwrap_or(default)),
                beta: beta.map_or(0.0, |default| betas.next().unwrap_or(default)),
            })
        };
        names.iter().take(needed).map(read).collect()
    }

    /// The value at one place.
    pub fn at(&self, x: f64) -> f64 {
        let (alpha, beta) = (f64::from(self.alpha), f64::from(self.beta));
        match self.curve {
            Curve::Affine => alpha * x + beta,
            Curve::Elu => {
                if x < 0.0 {
                    alpha * x.exp_m1()
                } else {
                    x
                }
            }
            Curve::HardSigmoid => within(alpha * x + beta, 0.0, 1.0),
            Curve::LeakyRelu => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            Curve::Relu => within(x, 0.0, f64::INFINITY),
            Curve::ScaledTanh => alpha * (beta * x).tanh(),
            Curve::Sigmoid => {
                let z = (-x.abs()).exp();
                (if x < 0.0 { z } else { 1.0 }) / (1.0 + z)
            }
            Curve::Softplus => within(x, 0.0, f64::INFINITY) + (-x.abs()).exp().ln_1p(),
            Curve::Softsign => x / (1.0 + x.abs()),
            Curve::Tanh => x.tanh(),
            Curve::ThresholdedRelu => {
                if x < alpha {
                    0.0
                } else {
                    x
                }
            }
        }
    }

    /// The values at all places of a slice. `x` is overwritten.
    pub fn apply(&self, x: &mut [f32], y: &mut [f32]) {
        let Activation { curve, alpha, beta } = *self;
        match curve {
            Curve::Affine => math::map(x, y, |x| alpha * x + beta),
            Curve::Elu => {
                math::expm1(x, y);
                for (y, &x) in y.iter_mut().zip(&*x) {
                    *y = if x < 0.0 { alpha * *y } else { x };
                }
            }
            Curve::HardSigmoid => math::map(x, y, |x| within(alpha * x + beta, 0.0, 1.0)),
            Curve::LeakyRelu => math::map(x, y, |x| if x < 0.0 { alpha * x } else { x }),
            Curve::Relu => math::map(x, y, |x| within(x, 0.0, f32::INFINITY)),
            Curve::ScaledTanh => {
                x.iter_mut().for_each(|x| *x *= beta);
                math::tanh(x, y);
                y.iter_mut().for_each(|y| *y *= alpha);
            }
            Curve::Sigmoid => math::sigmoid(x, y),
            Curve::Softplus => math::softplus(x, y),
            Curve::Softsign => math::map(x, y, |x| x / (1.0 + x.abs())),
            Curve::Tanh => math::tanh(x, y),
            Curve::ThresholdedRelu => math::map(x, y, |x| if x < alpha { 0.0 } else { x }),
        }
    }
}

/// Limits from below and above. NaN stays.
pub(super) fn within<T: PartialOrd>(x: T, low: T, high: T) -> T {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    #[test]
    fn parameters_go_to_the_functions_that_have_them() {
        let mut attributes = Attributes::default();
        let names = ["Sigmoid", "hardsigmoid", "LeakyRelu", "Affine"].map(str::to_owned).to_vec();
        attributes.insert("activations", Attribute::Strs(names));
        attributes.insert("activation_alpha", Attribute::Floats(vec![0.25, 0.5]));
        attributes.insert("activation_beta", Attribute::Floats(vec![0.75]));
        let spec = NodeSpec { op_type: "GRU", opset: 14, inputs: &[], outputs: &[], attributes: &attributes };
        let all = Activation::list(&spec, &[Curve::Sigmoid, Curve::Tanh], 2).unwrap();
        let of = |curve, alpha, beta| Activation { curve, alpha, beta };
        let wanted = [
            Activation::plain(Curve::Sigmoid),
            of(Curve::HardSigmoid, 0.25, 0.75),
            of(Curve::LeakyRelu, 0.5, 0.0),
            of(Curve::Affine, 1.0, 0.0),
        ];
        assert_eq!(all, wanted);
        assert!(Activation::list(&spec, &[Curve::Sigmoid, Curve::Tanh, Curve::Tanh], 2).is_err());
    }

    #[test]
    fn slices_agree_with_single_values() {
        let places = [-30.0f32, -2.0, -0.5, -1e-3, 0.0, 0.4, 0.5, 3.0, 30.0];
        for &(name, curve, ..) in CURVES {
            let activation = Activation { curve, alpha: 0.5, beta: 0.25 };
            let mut y = [0.0; 9];
            activation.apply(&mut places.clone(), &mut y);
            for (y, x) in y.iter().zip(places) {
                let exact = activation.at(f64::from(x));
                assert!((f64::from(*y) - exact).abs() <= 3e-7 * exact.abs().max(0.1), "{name}({x}) is {y}");
            }
        }
        assert_eq!(Activation::plain(Curve::Softsign).at(-3.0), -0.75);
        assert_eq!(
            Activation { curve: Curve::HardSigmoid, alpha: 0.2, beta: 0.5 }.at(1.0),
            0.7000000029802322
        );
        assert!(Activation::plain(Curve::Relu).at(f64::NAN).is_nan());
    }
}
