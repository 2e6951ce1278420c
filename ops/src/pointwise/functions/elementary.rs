//! Exponential, logarithm, trigonometric and hyperbolic functions, and the error function.

use crate::cpu::math;
use crate::expr::Function;
use crate::expr::function::Accepts;
use crate::expr::lanes::{Lanes, LanesMut};

functions! {
    /// `e^x`.
    EXP = Function::new("exp", 1, Accepts::Floats, unary_slices!(math::exp, f64::exp));
    /// The natural logarithm; NaN below zero.
    LOG = Function::new("log", 1, Accepts::Floats, unary_slices!(math::log, f64::ln));
    /// The sine.
    SIN = Function::new("sin", 1, Accepts::Floats, unary_floats!(f32::sin, f64::sin));
    /// The cosine.
    COS = Function::new("cos", 1, Accepts::Floats, unary_floats!(f32::cos, f64::cos));
    /// The tangent.
    TAN = Function::new("tan", 1, Accepts::Floats, unary_floats!(f32::tan, f64::tan));
    /// The inverse sine; NaN outside -1 to 1.
    ASIN = Function::new("asin", 1, Accepts::Floats, unary_floats!(f32::asin, f64::asin));
    /// The inverse cosine; NaN outside -1 to 1.
    ACOS = Function::new("acos", 1, Accepts::Floats, unary_floats!(f32::acos, f64::acos));
    /// The inverse tangent.
    ATAN = Function::new("atan", 1, Accepts::Floats, unary_floats!(f32::atan, f64::atan));
    /// The hyperbolic sine.
    SINH = Function::new("sinh", 1, Accepts::Floats, unary_floats!(f32::sinh, f64::sinh));
    /// The hyperbolic cosine.
    COSH = Function::new("cosh", 1, Accepts::Floats, unary_floats!(f32::cosh, f64::cosh));
    /// The hyperbolic tangent, in -1 to 1.
    TANH = Function::new("tanh", 1, Accepts::Floats, unary_slices!(math::tanh, f64::tanh));
    /// The inverse hyperbolic sine.
    ASINH = Function::new("asinh", 1, Accepts::Floats, unary_floats!(f32::asinh, f64::asinh));
    /// The inverse hyperbolic cosine; NaN below 1.
    ACOSH = Function::new("acosh", 1, Accepts::Floats, unary_floats!(f32::acosh, f64::acosh));
    /// The inverse hyperbolic tangent; infinite at -1 and 1, NaN beyond.
    ATANH = Function::new("atanh", 1, Accepts::Floats, unary_floats!(f32::atanh, f64::atanh));
    /// The error function, in -1 to 1.
    ERF = Function::new("erf", 1, Accepts::Floats, unary_slices!(math::erf, math::erf64));
}
