//! The function table's row type: one pointwise function, on the CPU and by name on the GPU.

use super::eval::Lanes;
use crate::error::OpError;
use crate::ir::dtype::DType;

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

/// One pointwise function. All arguments from `same_from` on have one type.
#[derive(Debug)]
pub struct Function {
    /// Its name; the WGSL library has `NAME_f32`, `NAME_i64` … for the types that run on a GPU.
    pub name: &'static str,
    /// Number of arguments, parameters not counted.
    pub arity: usize,
    /// Number of constant parameters.
    pub params: usize,
    /// Types of the arguments from `same_from` on; those before it are truth values.
    pub accepts: Accepts,
    /// Index of the first argument of the common type: 1 for `select`, else 0.
    pub same_from: usize,
    /// Type of the result.
    pub gives: Gives,
    /// The function over tiles. The output has the kind of the result's type; integers narrower than their lane are
    /// wrapped by the caller.
    pub eval: fn(&[&Lanes], &[f32], &mut Lanes),
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.name == other.name
    }
}

impl Function {
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
            if !fits {
                return Err(OpError::Type { input, expected, got });
            }
            if got != given[self.same_from] {
                return Err(OpError::Type { input, expected: "the type of the other inputs", got });
            }
        }
        match self.gives {
            Gives::Bool => Ok(DType::Bool),
            Gives::Argument(index) => given.get(index).copied().ok_or(OpError::Internal("no such argument")),
        }
    }
}
