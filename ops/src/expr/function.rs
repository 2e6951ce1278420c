//! The function table's row type: one pointwise function, on the CPU and by name on the GPU.

use super::lanes::{Lanes, LanesMut};
use crate::error::OpError;
use crate::ir::dtype::DType;

/// The most arguments that a function has.
pub const MAX_ARITY: usize = 3;

/// Which element types a function takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepts {
    /// Floating-point types.
    Floats,
    /// Floating-point and integer types.
    Numbers,
    /// Integer types.
    Integers,
    /// Truth values.
    Bools,
    /// Any type of fixed size.
    Any,
}

/// The type of a function's result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gives {
    /// That of the argument with this index.
    Argument(usize),
    /// Truth values.
    Bool,
}

/// A function over tiles: arguments, parameters, result. The result has the kind of the result's type; integers narrower
/// than their lane and floats of 16 bits are brought into range by the caller.
pub type Eval = fn(&[Lanes<'_>], &[f32], LanesMut<'_>);

/// One pointwise function.
#[derive(Debug)]
pub struct Function {
    /// Its name; the WGSL library has `NAME_f32`, `NAME_i64` … for the types that run on a GPU.
    pub name: &'static str,
    /// Number of arguments, parameters not counted; at most [`MAX_ARITY`].
    pub arity: usize,
    /// Number of constant parameters.
    pub params: usize,
    /// Types of the arguments from `same_from` on; those before it are truth values.
    pub accepts: Accepts,
    /// Index of the first argument of the common type: 1 for `select`, else 0.
    pub same_from: usize,
    /// Later arguments may have another type than the first, as the exponent of a power does.
    pub mixes: bool,
    /// Type of the result.
    pub gives: Gives,
    /// The function over tiles.
    pub eval: Eval,
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.name == other.name
    }
}

impl Function {
    /// A function of `arity` arguments of one type, which is also that of the result.
    pub const fn new(name: &'static str, arity: usize, accepts: Accepts, eval: Eval) -> Function {
        Function {
            name,
            arity,
            params: 0,
            accepts,
            same_from: 0,
            mixes: false,
            gives: Gives::Argument(0),
            eval,
        }
    }

    /// The same with constant parameters.
    pub const fn with_params(self, params: usize) -> Function {
        Function { params, ..self }
    }

    /// The same with truth values as result.
    pub const fn giving_bool(self) -> Function {
        Function { gives: Gives::Bool, ..self }
    }

    /// The type of the result for arguments of these types.
    ///
    /// # Errors
    /// When the function does not take them.
    pub fn result(&self, given: &[DType]) -> Result<DType, OpError> {
        if given.len() != self.arity {
            return Err(OpError::Arity {
                what: "arguments",
                expected: "the function's own",
                got: given.len(),
            });
        }
        let expected = match self.accepts {
            Accepts::Floats => "a float type",
            Accepts::Numbers => "a number type",
            Accepts::Integers => "an integer type",
            Accepts::Bools => "bool",
            Accepts::Any => "a type of fixed size",
        };
        for (input, &got) in given.iter().enumerate() {
            if input < self.same_from {
                if got != DType::Bool {
                    return Err(OpError::Type { input, expected: "bool", got });
                }
                continue;
            }
            let fits = match self.accepts {
                Accepts::Floats => got.is_float(),
                Accepts::Numbers => got.is_float() || got.is_integer(),
                Accepts::Integers => got.is_integer(),
                Accepts::Bools => got == DType::Bool,
                Accepts::Any => got != DType::Str,
            };
            if got == DType::Str {
                return Err(OpError::unsupported(format!("{} of strings", self.name)));
            }
            if !fits {
                return Err(OpError::Type { input, expected, got });
            }
            if !self.mixes && got != given[self.same_from] {
                return Err(OpError::Type { input, expected: "the type of the other inputs", got });
            }
        }
        match self.gives {
            Gives::Bool => Ok(DType::Bool),
            Gives::Argument(index) => given.get(index).copied().ok_or(OpError::Internal("no such argument")),
        }
    }
}
