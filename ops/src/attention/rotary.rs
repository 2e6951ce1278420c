//! [RotaryEmbedding](https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html), and that of
//! [com.microsoft](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).

use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::graph::ValueId;
use crate::ir::numbers::{filled, float_tensor, floats, integers};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Expansion, Operator};
use crate::sketch::{self, Given, Sketch};

/// Turns pairs of elements of each head by angles that depend on the position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RotaryEmbedding {
    /// Pairs are neighbours; otherwise they are half of the turned elements apart.
    interleaved: bool,
    /// The heads in the last dimension of an input of three dimensions; 0 where the angles tell.
    heads: usize,
    /// How many elements of a head are turned; all when 0.
    turned: usize,
    /// Where cosines, sines and positions are among the inputs.
    inputs: [usize; 3],
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, 4, "3 or 4")?;
    from_spec(spec, [1, 2, 3])
}

pub(super) fn contributed(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(4, 4, "4")?;
    if spec.attributes.flag("is_packed_batching", false)? {
        return Err(OpError::unsupported("packed batching"));
    }
    if spec.attributes.float_or("scale", 1.0)? != 1.0 {
        return Err(OpError::unsupported("a scale of rotary embeddings"));
    }
    from_spec(spec, [2, 3, 1])
}

fn from_spec(spec: &NodeSpec<'_>, inputs: [usize; 3]) -> Result<Arc<dyn Operator>, OpError> {
    let size = |name| {
        let number = spec.attributes.int_or(name, 0)?;
        usize::try_from(number).map_err(|_| OpError::Attribute { name, expected: "0 or more" })
    };
    Ok(Arc::new(RotaryEmbedding {
        interleaved: spec.attributes.flag("interleaved", false)?,
        heads: size("num_heads")?,
        turned: size("rotary_embedding_dim")?,
        inputs,
    }))
}

/// The sizes of one problem.
struct Layout {
    /// The input's dimensions with one for heads.
    dims: [usize; 4],
    /// Where the heads are among them: 1 or 2.
    heads: usize,
    /// Half the number of turned elements.
    half: usize,
}

impl Layout {
    fn batch(&self) -> usize {
        self.dims[0]
    }

    fn length(&self) -> usize {
        self.dims[3 - self.heads]
    }
}

impl RotaryEmbedding {
    fn layout(&self, x: &[usize], angles: &[usize]) -> Result<Layout, OpError> {
        let half = angles.last().copied().unwrap_or(0);
        let (dims, heads) = match *x {
            [batch, length, hidden] => {
                let wanted = match self.heads {
                    0 if self.inputs[0] == 1 => {
                        return Err(OpError::Attribute { name: "num_heads", expected: "given" });
                    }
                    0 => hidden / half.saturating_mul(2).max(1),
                    heads => heads,
                };
                let size = hidden.checked_div(wanted).filter(|size| size * wanted == hidden);
                let size = size.ok_or_else(|| {
                    OpError::constraint("hidden size", format!("a multiple of {wanted} heads"), hidden)
                })?;
                ([batch, length, wanted, size], 2)
            }
            [batch, heads, length, size] => ([batch, heads, length, size], 1),
            _ => return Err(OpError::constraint("dimensions of the input", "3 or 4", x.len())),
        };
        let turned = if self.turned == 0 { dims[3] } else { self.turned };
        if turned % 2 != 0 || turned > dims[3] || half != turned / 2 {
            let expected = format!("half of {turned} elements that are turned of {}", dims[3]);
            return Err(OpError::constraint("number of angles", expected, half));
        }
        Ok(Layout { dims, heads, half })
    }

    fn draw(&self, sketch: &mut Sketch, given: &Given) -> Result<Vec<ValueId>, OpError> {
        let input = |index: usize| optional(given, index).ok_or(OpError::Internal("an input is missing"));
        let [cosines, sines, positions] = self.inputs;
        let x = input(0)?;
        let outer = sketch.dims(x)?;
        let layout = self.layout(&outer, &sketch.dims(input(cosines)?)?)?;
        let mut angles = [input(cosines)?, input(sines)?];
        if sketch.dims(angles[1])? != sketch.dims(angles[0])? {
            return Err(OpError::constraint("sines", "as many as cosines", "others"));
        }
        let at = match optional(given, positions) {
            Some(at) if sketch.dims(at)? == [layout.batch(), layout.length()] => Some(at),
            Some(at) if sketch.dims(at)?.iter().all(|&n| n == 1) => {
                let steps = sketch.range(&[1, layout.length()])?;
                let at = sketch.cast(at, DType::I64)?;
                let first = sketch.reshape(at, &[])?;
                Some(sketch.call("Add", &[], &[first, steps])?)
            }
            Some(at) => return Err(wrong_positions(&layout, &sketch.dims(at)?)),
            None => None,
        };
        for part in &mut angles {
            let all = match at {
                Some(at) => sketch.call("Gather", &[], &[*part, at])?,
                None => *part,
            };
            let &[batch, length, half] = sketch.dims(all)?.as_slice() else {
                return Err(OpError::constraint("angles", "one row for each position", "others"));
            };
            if length != layout.length() || (batch != 1 && batch != layout.batch()) {
                return Err(OpError::constraint("angles", layout.length(), length));
            }
            let dims = if layout.heads == 1 { [batch, 1, length, half] } else { [batch, length, 1, half] };
            *part = sketch.reshape(all, &dims)?;
        }
        let x = sketch.reshape(x, &layout.dims)?;
        let turned = turn(sketch, x, angles, self.interleaved)?;
        Ok(vec![sketch.reshape(turned, &outer)?])
    }

    /// The position of each token, as a row of the angles.
    fn rows(&self, inputs: &[Option<View<'_>>], layout: &Layout, most: usize) -> Result<Vec<usize>, OpError> {
        let (batch, length) = (layout.batch(), layout.length());
        let Some(positions) = optional(inputs, self.inputs[2]) else {
            return Ok((0..batch.saturating_mul(length).min(most)).collect());
        };
        let given = integers(&positions)?;
        let mut rows = filled(&[batch, length], 0usize)?;
        let single = given.len() == 1;
        if !single && positions.dims != [batch, length] {
            return Err(wrong_positions(layout, positions.dims));
        }
        for (index, slot) in rows.iter_mut().enumerate() {
            let step = if single { (index % length) as i128 } else { 0 };
            let at = given.get(if single { 0 } else { index }).map_or(-1, |at| at + step);
            // As in Gather, negative positions count from the back.
            let at = if at < 0 { at + most as i128 } else { at };
            *slot = usize::try_from(at)
                .ok()
                .filter(|&at| at < most)
                .ok_or_else(|| OpError::constraint("position", format!("less than {most}"), at))?;
        }
        Ok(rows)
    }
}

fn wrong_positions(layout: &Layout, got: &[usize]) -> OpError {
    let expected = format!("[{}, {}]", layout.batch(), layout.length());
    OpError::constraint("positions", expected, format!("{got:?}"))
}

/// Turns the first elements of the last dimension by angles, given as cosines and sines of half as many columns.
pub(super) fn turn(
    sketch: &mut Sketch,
    x: ValueId,
    [cosines, sines]: [ValueId; 2],
    interleaved: bool,
) -> Result<ValueId, OpError> {
    let mut dims = sketch.dims(x)?;
    let half = sketch.dims(cosines)?.last().copied().unwrap_or(0);
    let size = dims.last().copied().unwrap_or(0);
    let (a, b) = if interleaved {
        (sketch.slice(x, -1, [0, 2 * half], 2)?, sketch.slice(x, -1, [1, 2 * half], 2)?)
    } else {
        (sketch.slice(x, -1, [0, half], 1)?, sketch.slice(x, -1, [half, 2 * half], 1)?)
    };
    let mut product = |a: ValueId, b: ValueId| sketch.call("Mul", &[], &[a, b]);
    let (ac, bs) = (product(a, cosines)?, product(b, sines)?);
    let (a_s, bc) = (product(a, sines)?, product(b, cosines)?);
    let real = sketch.call("Sub", &[], &[ac, bs])?;
    let imaginary = sketch.call("Add", &[], &[a_s, bc])?;
    let mut parts = if interleaved {
        let mut pairs = sketch.dims(real)?;
        pairs.push(1);
        let parts = [sketch.reshape(real, &pairs)?, sketch.reshape(imaginary, &pairs)?];
        let turned = sketch.concat(-1, &parts)?;
        if let Some(last) = dims.last_mut() {
            *last = 2 * half;
        }
        vec![sketch.reshape(turned, &dims)?]
    } else {
        vec![real, imaginary]
    };
    if size > 2 * half {
        parts.push(sketch.slice(x, -1, [2 * half, size], 1)?);
    }
    match parts[..] {
        [all] => Ok(all),
        _ => sketch.concat(-1, &parts),
    }
}

impl Operator for RotaryEmbedding {
    fn name(&self) -> &'static str {
        "RotaryEmbedding"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        if !matches!(x.dtype, DType::F32 | DType::F16 | DType::BF16) {
            return Err(OpError::Type { input: 0, expected: "a float", got: x.dtype });
        }
        if let (Some(dims), Some(angles)) = (x.dims(), required(inputs, self.inputs[0])?.dims()) {
            self.layout(&dims, &angles)?;
        }
        Ok(vec![Fact { value: None, sizes: None, ..x.clone() }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let (cosines, sines) = (view(inputs, self.inputs[0])?, view(inputs, self.inputs[1])?);
        if cosines.dims != sines.dims {
            return Err(OpError::constraint(
                "sines",
                format!("{:?}", cosines.dims),
                format!("{:?}", sines.dims),
            ));
        }
        let layout = self.layout(x.dims, cosines.dims)?;
        if x.dims.contains(&0) {
            return Ok(vec![x.to_tensor()]);
        }
        let half = layout.half;
        let (cosines, sines) = (floats(&cosines)?, floats(&sines)?);
        let most = cosines.len().checked_div(half).unwrap_or(0);
        let rows = if half == 0 { Vec::new() } else { self.rows(inputs, &layout, most)? };
        let mut values = floats(&x)?;
        let [_, first, second, size] = layout.dims;
        let stride = if self.interleaved { (2, 1) } else { (1, half) };
        for (index, head) in values.chunks_exact_mut(size.max(1)).enumerate() {
            let (batch, token) = match layout.heads {
                1 => (index / (first * second), index % second),
                _ => (index / (first * second), index / second % first),
            };
            for i in 0..half {
                let row = rows.get(batch * layout.length() + token);
                let &row = row.ok_or_else(|| OpError::constraint("angles", "one row a token", most))?;
                let (cosine, sine) = (cosines[row * half + i], sines[row * half + i]);
                let (at, other) = (i * stride.0, i * stride.0 + stride.1);
                let (a, b) = (head[at], head[other]);
                (head[at], head[other]) = (a * cosine - b * sine, a * sine + b * cosine);
            }
        }
        Ok(vec![float_tensor(x.dtype, x.dims, &values)?])
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        sketch::expansion(inputs, &|sketch, given| self.draw(sketch, given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(op: RotaryEmbedding, inputs: &[&Tensor]) -> Vec<f32> {
        let views: Vec<_> = inputs.iter().map(|x| Some(x.view())).collect();
        let plain = op.reference(&views, 1).unwrap().remove(0);
        let drawn = sketch::evaluate(&views, 1, &|sketch, given| op.draw(sketch, given)).unwrap().remove(0);
        assert_eq!(plain.dims(), drawn.dims());
        assert_eq!(plain.to_vec::<f32>().unwrap(), drawn.to_vec::<f32>().unwrap());
        plain.to_vec().unwrap()
    }

    #[test]
    fn pairs_turn_by_the_angle_of_their_position() {
        let cosines = Tensor::from_slice(&[2, 1], &[1.0f32, 0.0]).unwrap();
        let sines = Tensor::from_slice(&[2, 1], &[0.0f32, 1.0]).unwrap();
        let at = Tensor::from_slice(&[1, 2], &[1i64, 0]).unwrap();
        // Two tokens, one head of three elements, two of which turn.
        let x = Tensor::from_slice(&[1, 2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        for interleaved in [false, true] {
            let op = RotaryEmbedding { interleaved, heads: 1, turned: 2, inputs: [1, 2, 3] };
            let turned = both(op, &[&x, &cosines, &sines, &at]);
            assert_eq!(turned, [-2.0, 1.0, 3.0, 4.0, 5.0, 6.0]);
            let op = RotaryEmbedding { inputs: [2, 3, 1], ..op };
            let first = Tensor::from_slice(&[1], &[0i64]).unwrap();
            let turned = both(op, &[&x, &first, &cosines, &sines]);
            assert_eq!(turned, [1.0, 2.0, 3.0, -5.0, 4.0, 6.0]);
        }
        // Four dimensions: heads come before tokens.
        let x = Tensor::from_slice(&[1, 2, 2, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]).unwrap();
        let op = RotaryEmbedding { interleaved: false, heads: 0, turned: 0, inputs: [1, 2, 3] };
        assert_eq!(both(op, &[&x, &cosines, &sines, &at]), [-2.0, 1.0, 3.0, 4.0, -6.0, 5.0, 7.0, 8.0]);
        let wrong = Tensor::from_slice(&[1, 2], &[2i64, 0]).unwrap();
        let views = [&x, &cosines, &sines, &wrong].map(|x| Some(x.view()));
        assert!(op.reference(&views, 1).is_err());
    }
}
