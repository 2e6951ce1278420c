//! [TensorScatter](https://onnx.ai/onnx/operators/onnx__TensorScatter.html): new keys or values written into a cache.

use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::attributes::Attribute;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::graph::ValueId;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::movement::assemble::Assembly;
use crate::movement::sizes::{self, optional, required, view};
use crate::operator::{Expansion, Operator};
use crate::sketch::{self, Given, Sketch};

/// Input 0 with input 1 in place of a part along an axis, which begins for each batch where input 2 says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TensorScatter {
    axis: i64,
    /// Positions beyond the end begin again at the front.
    circular: bool,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 3, "2 or 3")?;
    let circular = match spec.attributes.str_or("mode", "linear".to_owned())?.as_str() {
        "linear" => false,
        "circular" => true,
        _ => return Err(OpError::Attribute { name: "mode", expected: "linear or circular" }),
    };
    Ok(Arc::new(TensorScatter { axis: spec.attributes.int_or("axis", -2)?, circular }))
}

impl TensorScatter {
    /// The axis, once the dimensions are found to fit.
    fn axis(&self, cache: &[usize], update: &[usize], starts: Option<&[usize]>) -> Result<usize, OpError> {
        let axis = sizes::axis(self.axis, cache.len())?;
        if axis == 0 {
            return Err(OpError::Attribute { name: "axis", expected: "not the first dimension" });
        }
        let fits =
            |(at, (own, whole)): (usize, (&usize, &usize))| own == whole || (at == axis && own < whole);
        if update.len() != cache.len() || !update.iter().zip(cache).enumerate().all(fits) {
            let expected = format!("{cache:?} but for axis {axis}");
            return Err(OpError::constraint("update", expected, format!("{update:?}")));
        }
        match starts {
            Some(starts) if starts != [cache[0]] => {
                Err(OpError::constraint("write indices", format!("[{}]", cache[0]), format!("{starts:?}")))
            }
            _ => Ok(axis),
        }
    }

    fn draw(&self, sketch: &mut Sketch, given: &Given) -> Result<Vec<ValueId>, OpError> {
        let input = |index: usize| optional(given, index).ok_or(OpError::Internal("an input is missing"));
        let (cache, update) = (input(0)?, input(1)?);
        let starts = optional(given, 2);
        let (dims, own) = (sketch.dims(cache)?, sketch.dims(update)?);
        let start_dims = starts.map(|starts| sketch.dims(starts)).transpose()?;
        let axis = self.axis(&dims, &own, start_dims.as_deref())?;
        write(sketch, cache, update, starts, axis, self.circular).map(|value| vec![value])
    }
}

/// Draws a cache with `update` written along `axis`, from `starts` (for each batch) or the front on.
pub(super) fn write(
    sketch: &mut Sketch,
    cache: ValueId,
    update: ValueId,
    starts: Option<ValueId>,
    axis: usize,
    circular: bool,
) -> Result<ValueId, OpError> {
    let (dims, own) = (sketch.dims(cache)?, sketch.dims(update)?);
    let (&length, &written) =
        dims.get(axis).zip(own.get(axis)).ok_or(OpError::Internal("an axis that there is not"))?;
    if dims.contains(&0) || written == 0 {
        return Ok(cache);
    }
    let along = Attribute::Int(axis as i64);
    let Some(starts) = starts else {
        if written == length {
            return Ok(update);
        }
        let rest = sketch.slice(cache, axis as i64, [written, length], 1)?;
        return sketch.concat(axis as i64, &[update, rest]);
    };
    let mut shape = vec![1; dims.len()];
    shape[0] = dims[0];
    let starts = sketch.reshape(starts, &shape)?;
    shape[0] = 1;
    shape[axis] = length;
    let positions = sketch.range(&shape)?;
    let mut from = sketch.call("Sub", &[], &[positions, starts])?;
    let mut integer = |n: usize| -> Result<ValueId, OpError> {
        Ok(sketch.constant(Tensor::scalar(i64::try_from(n).map_err(|_| OpError::Size)?)))
    };
    let (zero, last, length) = (integer(0)?, integer(written - 1)?, integer(length)?);
    if circular {
        from = sketch.call("Mod", &[], &[from, length])?;
    }
    let low = sketch.call("GreaterOrEqual", &[], &[from, zero])?;
    let high = sketch.call("LessOrEqual", &[], &[from, last])?;
    let inside = sketch.call("And", &[], &[low, high])?;
    let from = sketch.call("Clip", &[], &[from, zero, last])?;
    let from = sketch.stretch(from, &dims)?;
    let moved = sketch.call("GatherElements", &[("axis", along)], &[update, from])?;
    sketch.call("Where", &[], &[inside, moved, cache])
}

impl Operator for TensorScatter {
    fn name(&self) -> &'static str {
        "TensorScatter"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (cache, update) = (required(inputs, 0)?, required(inputs, 1)?);
        if cache.dtype != update.dtype {
            return Err(OpError::Type { input: 1, expected: "that of the cache", got: update.dtype });
        }
        if let Some(starts) = optional(inputs, 2)
            && starts.dtype != DType::I64
        {
            return Err(OpError::Type { input: 2, expected: "i64", got: starts.dtype });
        }
        if let (Some(dims), Some(own)) = (cache.dims(), update.dims()) {
            let starts = optional(inputs, 2).and_then(Fact::dims);
            self.axis(&dims, &own, starts.as_deref())?;
        }
        Ok(vec![Fact { value: None, sizes: None, ..cache.clone() }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (cache, update) = (view(inputs, 0)?, view(inputs, 1)?);
        let starts = optional(inputs, 2);
        let axis = self.axis(cache.dims, update.dims, starts.map(|starts| starts.dims))?;
        let starts = starts.map(|starts| sizes::integers(&starts, 2)).transpose()?;
        let mut result = Assembly::zeroed(cache.dtype, cache.dims)?;
        for i in 0..result.len() {
            result.copy(i, &cache, i)?;
        }
        let (length, written) = (cache.dims[axis], update.dims[axis]);
        let inner = element_count(&cache.dims[axis + 1..]).ok_or(OpError::Size)?;
        let lines = element_count(&cache.dims[1..axis]).ok_or(OpError::Size)?;
        for i in 0..update.len() {
            let (row, k) = (i / inner, i % inner);
            let (line, step) = (row / written, row % written);
            let start = starts.as_ref().and_then(|all| all.get(line / lines)).copied().unwrap_or(0);
            let mut at = i128::from(start) + step as i128;
            if self.circular {
                at = at.rem_euclid(length as i128);
            }
            let at = usize::try_from(at).ok().filter(|&at| at < length);
            let at =
                at.ok_or_else(|| OpError::constraint("write index", format!("below {length}"), start))?;
            result.copy((line * length + at) * inner + k, &update, i)?;
        }
        Ok(vec![result.finish()?])
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        use DType::*;
        let dtype = required(inputs, 0)?.dtype;
        if !matches!(dtype, F32 | F64 | F16 | BF16 | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64 | Bool) {
            return Ok(Expansion::Stays);
        }
        sketch::expansion(inputs, &|sketch, given| self.draw(sketch, given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_lie_where_the_indices_say() {
        let cache = Tensor::from_slice(&[2, 3, 1], &[1i32, 2, 3, 4, 5, 6]).unwrap();
        let update = Tensor::from_slice(&[2, 2, 1], &[10i32, 20, 30, 40]).unwrap();
        let starts = Tensor::from_slice(&[2], &[1i64, 2]).unwrap();
        let check = |circular: bool, inputs: &[&Tensor], expected: [i32; 6]| {
            let op = TensorScatter { axis: -2, circular };
            let views: Vec<_> = inputs.iter().map(|x| Some(x.view())).collect();
            let plain = op.reference(&views, 1).unwrap().remove(0);
            let drawn =
                sketch::evaluate(&views, 1, &|sketch, given| op.draw(sketch, given)).unwrap().remove(0);
            for all in [plain, drawn] {
                assert_eq!((all.dims(), all.to_vec::<i32>().unwrap()), (cache.dims(), expected.to_vec()));
            }
        };
        check(true, &[&cache, &update, &starts], [1, 10, 20, 40, 5, 30]);
        check(false, &[&cache, &update], [10, 20, 3, 30, 40, 6]);
        let views = [&cache, &update, &starts].map(|x| Some(x.view()));
        assert!(TensorScatter { axis: -2, circular: false }.reference(&views, 1).is_err());
        assert!(TensorScatter { axis: 0, circular: false }.reference(&views, 1).is_err());
    }
}
