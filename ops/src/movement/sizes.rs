//! Shape vectors in inference: reading axes and sizes from facts and views, and carrying them on.

use crate::error::OpError;
use crate::ir::dim::{self, Dim};
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::problem::Problem;

/// Stands in [`Fact::sizes`] for the `-1` that tells `Reshape` to work a dimension out.
pub fn inferred() -> Dim {
    Dim::named("reshape -1")
}

/// The elements of a small integer tensor as sizes: what inference knows of a shape vector.
pub fn of(fact: &Fact) -> Option<Vec<Dim>> {
    if let Some(sizes) = &fact.sizes {
        return Some(sizes.clone());
    }
    let size = |n: i64| if n == -1 { Some(inferred()) } else { usize::try_from(n).ok().map(Dim::Known) };
    fact.integers()?.into_iter().map(size).collect()
}

/// An integer tensor with these contents, of rank 0 or 1: constant when all of them are numbers.
///
/// # Errors
/// When a number does not fit the type.
pub fn fact(dtype: DType, shape: Vec<Dim>, sizes: Vec<Dim>) -> Result<Fact, OpError> {
    let value = match (dim::known(&sizes), dim::known(&shape)) {
        (Some(numbers), Some(dims)) if dims.iter().product::<usize>() == numbers.len() => match dtype {
            DType::I64 => {
                let numbers: Result<Vec<i64>, _> = numbers.into_iter().map(i64::try_from).collect();
                Some(Tensor::from_vec(&dims, numbers.map_err(|_| OpError::Size)?)?)
            }
            DType::I32 => {
                let numbers: Result<Vec<i32>, _> = numbers.into_iter().map(i32::try_from).collect();
                Some(Tensor::from_vec(&dims, numbers.map_err(|_| OpError::Size)?)?)
            }
            _ => None,
        },
        _ => None,
    };
    Ok(Fact { dtype, shape: Some(shape), value, sizes: Some(sizes) })
}

/// A fact of this shape; with the contents of `sizes` when there are as many as the shape has elements.
///
/// # Errors
/// When a number does not fit the type.
pub fn carry(dtype: DType, shape: Vec<Dim>, sizes: Option<Vec<Dim>>) -> Result<Fact, OpError> {
    match (sizes, dim::known(&shape)) {
        (Some(sizes), Some(dims)) if dims.len() <= 1 && dims.iter().product::<usize>() == sizes.len() => {
            fact(dtype, shape, sizes)
        }
        _ => Ok(Fact::new(dtype, shape)),
    }
}

/// The integers (i32 or i64) of a view, in order.
///
/// # Errors
/// When it holds another type.
pub fn integers(view: &View<'_>, input: usize) -> Result<Vec<i64>, OpError> {
    match view.dtype {
        DType::I64 => Ok(bytemuck::pod_collect_to_vec(view.bytes)),
        DType::I32 => {
            Ok(bytemuck::pod_collect_to_vec::<u8, i32>(view.bytes).into_iter().map(i64::from).collect())
        }
        got => Err(OpError::Type { input, expected: "i32 or i64", got }),
    }
}

/// Reads the integers of an input; `None` when it is absent.
pub type Integers<'a> = dyn Fn(usize) -> Result<Option<Vec<i64>>, OpError> + 'a;

/// The integers of a run's inputs.
pub fn of_run<'a>(inputs: &'a [Option<View<'_>>]) -> Box<Integers<'a>> {
    Box::new(|index| optional(inputs, index).map(|view| integers(&view, index)).transpose())
}

/// The integers of a problem's constant inputs; others are an error.
pub fn of_problem<'a>(problem: &'a Problem<'_>) -> Box<Integers<'a>> {
    Box::new(|index| {
        let Some(operand) = problem.input(index) else { return Ok(None) };
        match operand.value {
            Some(value) => Ok(Some(integers(&value.view(), index)?)),
            None => Err(OpError::unsupported(format!("a value of input {index} that a run computes"))),
        }
    })
}

/// Whether a type may hold indices or axes.
///
/// # Errors
/// When it is neither i32 nor i64.
pub fn expect_indices(dtype: DType, input: usize) -> Result<(), OpError> {
    match dtype {
        DType::I32 | DType::I64 => Ok(()),
        got => Err(OpError::Type { input, expected: "i32 or i64", got }),
    }
}

/// Input `index` of inference.
///
/// # Errors
/// When it is absent.
pub fn required<'a>(inputs: &[Option<&'a Fact>], index: usize) -> Result<&'a Fact, OpError> {
    inputs.get(index).copied().flatten().ok_or(OpError::Arity {
        what: "inputs",
        expected: "all that the operator requires",
        got: inputs.len(),
    })
}

/// Input `index`, if given.
pub fn optional<T: Copy>(inputs: &[Option<T>], index: usize) -> Option<T> {
    inputs.get(index).copied().flatten()
}

/// Input `index` of a run.
///
/// # Errors
/// When it is absent.
pub fn view<'a>(inputs: &[Option<View<'a>>], index: usize) -> Result<View<'a>, OpError> {
    inputs.get(index).copied().flatten().ok_or(OpError::Arity {
        what: "inputs",
        expected: "all that the operator requires",
        got: inputs.len(),
    })
}

/// An axis counted from the front.
///
/// # Errors
/// When it is not in `-rank .. rank`.
pub fn axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    let signed = i64::try_from(rank).map_err(|_| OpError::Size)?;
    let wrapped = if axis < 0 { axis.checked_add(signed) } else { Some(axis) };
    wrapped.filter(|&axis| axis < signed).and_then(|axis| usize::try_from(axis).ok()).ok_or_else(|| {
        OpError::constraint("axis", format!("a number from -{rank} to {rank} exclusive"), axis)
    })
}

/// Axes counted from the front, each given once.
///
/// # Errors
/// When one is not in `-rank .. rank`, or given twice.
pub fn axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, OpError> {
    if axes.len() > rank {
        return Err(OpError::constraint("axes", format!("{rank} at most"), axes.len()));
    }
    let mut all = Vec::new();
    for &one in axes {
        let one = axis(one, rank)?;
        if all.contains(&one) {
            return Err(OpError::constraint("axes", "each once", format!("{one} twice")));
        }
        all.push(one);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_become_constants_when_all_are_numbers() {
        let n = Dim::named("n");
        let known = fact(DType::I64, vec![Dim::Known(2)], vec![Dim::Known(3), Dim::Known(4)]).unwrap();
        assert_eq!(known.integers().unwrap(), [3, 4]);
        let symbolic = fact(DType::I64, vec![Dim::Known(2)], vec![n.clone(), Dim::Known(4)]).unwrap();
        assert!(symbolic.value.is_none());
        assert_eq!(of(&symbolic).unwrap(), [n, Dim::Known(4)]);
    }

    #[test]
    fn axes_wrap_and_are_checked() {
        assert_eq!(axes(&[-1, 0], 3).unwrap(), [2, 0]);
        assert!(axes(&[-1, 2], 3).is_err());
        assert!(axis(3, 3).is_err());
        assert!(axis(i64::MIN, 3).is_err());
        assert!(axis(0, 0).is_err());
    }
}
