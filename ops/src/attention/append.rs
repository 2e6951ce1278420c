//! A cache with further keys or values behind those it has, which may be turned by the angles of their positions on the way. It
//! has no name in ONNX; without a cache it is a rotary embedding of heads that lie anywhere. Keys and values may grow together.

use rayon::prelude::*;
use sardonyx_shaders::expression::{Output, Step};
use sardonyx_shaders::storage::{ValueType, Width};
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::attend::Spot;
use crate::cpu::{fill_floats, floats as wide, is_float};
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, linear_grid, word};
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats};
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::{View, ViewMut};
use crate::movement::sizes::{optional, required, view};
use crate::operator::{CpuKernel, CpuRun, Operator, Role};
use crate::problem::Problem;

/// Rows by batch, head, position and element: those of a cache in input 1, where there is one, then those of input 0. With
/// cosines and sines in inputs 2 and 3, these become `x · cos + r · sin`, `r` being the second half of `x`, negative, and then the
/// first. A second cache of the same sizes in input 5 gets the rows in input 4 as they are: output 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Append {
    /// Batch, heads, new positions and elements.
    pub extents: [usize; 4],
    /// Positions in the cache.
    pub past: usize,
    /// Where the new rows lie.
    pub x: Spot,
    /// Where the cosines lie.
    pub cos: Spot,
    /// Where the sines lie.
    pub sin: Spot,
    /// Where the new rows of a second cache lie.
    pub other: Option<Spot>,
}

const CACHE: usize = 1;
const ANGLES: [usize; 2] = [2, 3];
/// New rows of a second cache, and that cache.
const OTHER: [usize; 2] = [4, 5];

impl Append {
    fn rows(&self) -> usize {
        self.past.saturating_add(self.extents[2])
    }

    fn dims(&self) -> [usize; 4] {
        let [batch, heads, _, size] = self.extents;
        [batch, heads, self.rows(), size]
    }

    /// Whether inputs of these many elements hold what is read.
    fn check(&self, lens: &[Option<usize>]) -> Result<(), OpError> {
        let [batch, heads, _, size] = self.extents;
        let cache = element_count(&[batch, heads, self.past, size]);
        let given = |index: usize| lens.get(index).copied().flatten();
        let other = self.other.as_ref().map(|spot| (OTHER[0], spot));
        let spots = [(0, &self.x), (ANGLES[0], &self.cos), (ANGLES[1], &self.sin)].into_iter().chain(other);
        let held = spots
            .into_iter()
            .all(|(index, spot)| given(index).is_none_or(|len| spot.fits(self.extents, len)));
        let cached = [CACHE, OTHER[1]].into_iter().all(|at| given(at).is_none_or(|len| Some(len) == cache));
        let turned = given(ANGLES[0]).is_some();
        let halves = !turned || size.is_multiple_of(2);
        let paired = self.other.is_some() == given(OTHER[0]).is_some()
            && (self.other.is_none() || given(OTHER[1]).is_some() == given(CACHE).is_some());
        if !held || !cached || !halves || !paired || turned != given(ANGLES[1]).is_some() {
            return Err(OpError::Internal("rows beyond their inputs"));
        }
        Ok(())
    }

    /// A cache with rows behind it that lie at `spot` in `x`, turned by cosines and sines.
    fn grown(
        &self,
        x: &[f64],
        cache: &[f64],
        spot: &Spot,
        angles: Option<(Vec<f64>, Vec<f64>)>,
    ) -> Result<Vec<f64>, OpError> {
        let [batch, heads, _, size] = self.extents;
        let mut result = filled(&self.dims(), 0.0)?;
        let half = size / 2;
        for (block, rows) in
            result.chunks_exact_mut((self.rows() * size).max(1)).take(batch * heads).enumerate()
        {
            let (old, new) = rows.split_at_mut(self.past * size);
            if !cache.is_empty() {
                old.copy_from_slice(&cache[block * old.len()..(block + 1) * old.len()]);
            }
            for (at, slot) in new.iter_mut().enumerate() {
                let (row, e) = (at / size, at % size);
                let place = |e: usize| [block / heads, block % heads, row, e];
                let own = x[spot.at(place(e))];
                *slot = match &angles {
                    Some((cos, sin)) => {
                        let far =
                            if e < half { -x[spot.at(place(e + half))] } else { x[spot.at(place(e - half))] };
                        own * cos[self.cos.at(place(e))] + far * sin[self.sin.at(place(e))]
                    }
                    None => own,
                };
            }
        }
        Ok(result)
    }

    fn lower_one(&self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let kernel = table::APPEND.name;
        let refuse = |reason: &str| Refusal { kernel, reason: reason.to_owned() };
        let lens: Vec<Option<usize>> = problem.inputs.iter().map(|x| x.as_ref().map(|x| x.len())).collect();
        self.check(&lens).map_err(|error| refuse(&error.to_string()))?;
        let len = element_count(&self.dims()).filter(|&len| len < 1 << 31);
        let len = len.filter(|_| lens.iter().flatten().all(|&len| len < 1 << 31));
        let len = len.ok_or_else(|| refuse("a tensor of 2^31 elements or more"))?;
        let turned = problem.input(ANGLES[0]).is_some();
        let (cached, paired) = (self.past > 0, self.other.is_some());
        let used = [
            (CACHE, cached),
            (0, true),
            (ANGLES[0], turned),
            (ANGLES[1], turned),
            (OTHER[1], cached && paired),
            (OTHER[0], paired),
        ];
        // What is bound in the place of others is not read.
        let given = used.iter().filter(|(_, used)| *used).map(|(index, _)| *index);
        let spare = given.min_by_key(|&index| lens.get(index).copied().flatten()).unwrap_or_default();
        let (mut inputs, mut reads) = (Vec::new(), Vec::new());
        for (index, used) in used {
            let index = if used { index } else { spare };
            let storage = problem.stored(kernel, problem.input(index))?;
            if storage.value() != ValueType::F32 {
                return Err(refuse("it moves floats only"));
            }
            inputs.push((storage, Width::One));
            reads.push(Binding::Input(index));
        }
        let mut ending = problem.ending(kernel, ValueType::F32, Width::Four)?;
        reads.extend(ending.reads);
        let mut writes = vec![Binding::Output(0)];
        if paired {
            let storage = problem.stored(kernel, problem.outputs.get(1))?;
            ending.expression.steps.push(Step::Second);
            let step = ending.expression.steps.len() - 1;
            ending.expression.outputs.push(Output { step, storage, width: Width::Four });
            writes.push(Binding::Output(1));
        }
        let strides = |spot: &Spot| -> Result<[u32; 4], Refusal> {
            let mut words = [0; 4];
            for (slot, &stride) in words.iter_mut().zip(&spot.strides) {
                *slot = word(kernel, stride)?;
            }
            Ok(words)
        };
        let [_, heads, _, size] = self.extents;
        let offset = |spot: &Spot| word(kernel, spot.offset);
        let other = self.other.unwrap_or_default();
        let params = params::attention::Append {
            len: word(kernel, len)?,
            heads: word(kernel, heads)?,
            past: word(kernel, self.past)?,
            rows: word(kernel, self.rows())?,
            size: word(kernel, size)?,
            half: word(kernel, size / 2)?,
            pad: [0; 2],
            offsets: [offset(&self.x)?, offset(&self.cos)?, offset(&self.sin)?, offset(&other)?],
            x_strides: strides(&self.x)?,
            other_strides: strides(&other)?,
            cos_strides: strides(&self.cos)?,
            sin_strides: strides(&self.sin)?,
        };
        Ok(Candidate {
            dispatches: vec![Dispatch {
                kernel: Kernel {
                    variant: &table::APPEND,
                    inputs,
                    knobs: vec![
                        ("PAST", u32::from(cached)),
                        ("TURN", u32::from(turned)),
                        ("PAIR", u32::from(paired)),
                    ],
                    expression: ending.expression,
                },
                reads,
                writes,
                params: bytemuck::bytes_of(&params).to_vec(),
                operands: ending.operands,
                grid: linear_grid(kernel, len.div_ceil(4 * 64), caps)?,
            }],
            ..Candidate::default()
        })
    }
}

impl Operator for Append {
    fn name(&self) -> &'static str {
        "Append"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        for (input, fact) in inputs.iter().enumerate() {
            if let Some(got) = fact.map(|fact| fact.dtype).filter(|got| *got != x.dtype) {
                return Err(OpError::Type { input, expected: "the type of input 0", got });
            }
        }
        let lens: Vec<Option<usize>> = inputs.iter().map(|fact| element_count(&(*fact)?.dims()?)).collect();
        self.check(&lens)?;
        Ok(vec![Fact::known(x.dtype, &self.dims()); 1 + usize::from(self.other.is_some())])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let lens: Vec<Option<usize>> = inputs.iter().map(|view| view.map(|view| view.len())).collect();
        self.check(&lens)?;
        let dtype = view(inputs, 0)?.dtype;
        let all = |index: usize| optional(inputs, index).map(|all| floats(&all)).transpose();
        let angles = all(ANGLES[0])?.zip(all(ANGLES[1])?);
        let keys = (0, CACHE, &self.x, angles);
        let values = self.other.as_ref().map(|other| (OTHER[0], OTHER[1], other, None));
        let grown = |(new, cache, spot, angles): (usize, usize, &Spot, Option<_>)| {
            let rows =
                self.grown(&floats(&view(inputs, new)?)?, &all(cache)?.unwrap_or_default(), spot, angles)?;
            float_tensor(dtype, &self.dims(), &rows)
        };
        std::iter::once(keys).chain(values).map(grown).collect()
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let all = problem.inputs.iter().flatten().all(|operand| is_float(operand.dtype));
        Ok(all.then(|| Box::new(AppendKernel(*self)) as Box<dyn CpuKernel>))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.lower_one(problem, caps))
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

struct AppendKernel(Append);

impl CpuKernel for AppendKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let op = &self.0;
        let lens: Vec<Option<usize>> = run.inputs.iter().map(|view| view.map(|view| view.len())).collect();
        op.check(&lens)?;
        let inputs = run.inputs;
        let all = |index: usize| inputs.get(index).and_then(Option::as_ref).map(wide).transpose();
        let rows = |index: usize| all(index)?.ok_or(OpError::Internal("new rows are missing"));
        let mut outputs = run.outputs.iter_mut();
        let angles = all(ANGLES[0])?.zip(all(ANGLES[1])?);
        let angles = angles.as_ref().map(|(cos, sin)| (&**cos, &**sin));
        let keys = outputs.next().ok_or(OpError::Internal("no output"))?;
        op.grow(&rows(0)?, &all(CACHE)?.unwrap_or_default(), &op.x, angles, keys)?;
        match (&op.other, outputs.next()) {
            (Some(spot), Some(values)) => {
                op.grow(&rows(OTHER[0])?, &all(OTHER[1])?.unwrap_or_default(), spot, None, values)
            }
            _ => Ok(()),
        }
    }
}

impl Append {
    /// Writes what [`Append::grown`] returns.
    fn grow(
        &self,
        x: &[f32],
        cache: &[f32],
        spot: &Spot,
        angles: Option<(&[f32], &[f32])>,
        output: &mut ViewMut<'_>,
    ) -> Result<(), OpError> {
        let [_, heads, _, size] = self.extents;
        let (half, block) = (size / 2, self.rows() * size);
        fill_floats(output, |output| {
            output.par_chunks_mut(block.max(1)).enumerate().for_each(|(index, rows)| {
                let (old, new) = rows.split_at_mut(self.past * size);
                if let Some(from) = cache.get(index * old.len()..(index + 1) * old.len()) {
                    old.copy_from_slice(from);
                }
                for (row, slots) in new.chunks_exact_mut(size.max(1)).enumerate() {
                    let place = [index / heads, index % heads, row, 0];
                    let (from, step) = (spot.at(place), spot.strides[3]);
                    let Some((cos, sin)) = angles else {
                        match x.get(from..from + size).filter(|_| step == 1) {
                            Some(row) => slots.copy_from_slice(row),
                            None => slots.iter_mut().enumerate().for_each(|(e, y)| *y = x[from + e * step]),
                        }
                        continue;
                    };
                    let (cos_from, sin_from) = (self.cos.at(place), self.sin.at(place));
                    for (e, slot) in slots.iter_mut().enumerate() {
                        let far =
                            if e < half { -x[from + (e + half) * step] } else { x[from + (e - half) * step] };
                        let (c, s) = (
                            cos[cos_from + e * self.cos.strides[3]],
                            sin[sin_from + e * self.sin.strides[3]],
                        );
                        *slot = x[from + e * step] * c + far * s;
                    }
                }
            });
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::check::{numbers, random, run_cpu};

    #[test]
    fn rows_are_turned_and_appended() {
        // [1, 2 rows, 2 heads, 2 elements] behind one row of each head.
        let x = Tensor::from_slice(&[1, 2, 2, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]).unwrap();
        let past = Tensor::from_slice(&[1, 2, 1, 2], &[-1.0f32, -2.0, -3.0, -4.0]).unwrap();
        let op = Append {
            extents: [1, 2, 2, 2],
            past: 1,
            x: Spot { offset: 0, strides: [0, 2, 4, 1] },
            cos: Spot::stretched(&[2, 2]),
            sin: Spot::stretched(&[2, 2]),
            other: None,
        };
        let plain = op.reference(&[Some(x.view()), Some(past.view())], 1).unwrap().remove(0);
        let expected = [-1.0, -2.0, 1.0, 2.0, 5.0, 6.0, -3.0, -4.0, 3.0, 4.0, 7.0, 8.0];
        assert_eq!((plain.dims(), plain.to_vec::<f32>().unwrap()), (&[1, 2, 3, 2][..], expected.to_vec()));
        let cos = Tensor::from_slice(&[2, 2], &[1.0f32, 1.0, 0.0, 0.0]).unwrap();
        let sin = Tensor::from_slice(&[2, 2], &[0.0f32, 0.0, 1.0, 1.0]).unwrap();
        let views = [Some(x.view()), None, Some(cos.view()), Some(sin.view())];
        let turned = Append { past: 0, ..op }.reference(&views, 1).unwrap().remove(0);
        assert_eq!(turned.to_vec::<f32>().unwrap(), [1.0, 2.0, -6.0, 5.0, 3.0, 4.0, -8.0, 7.0]);
        assert!(Append { past: 2, ..op }.reference(&[Some(x.view()), Some(past.view())], 1).is_err());
        let pair = Append { other: Some(op.x), ..op };
        let both = [Some(x.view()), Some(past.view()), views[2], views[3], Some(x.view()), Some(past.view())];
        let both = pair.reference(&both, 2).unwrap();
        let keys = [-1.0, -2.0, 1.0, 2.0, -6.0, 5.0, -3.0, -4.0, 3.0, 4.0, -8.0, 7.0];
        assert_eq!(both[0].to_vec::<f32>().unwrap(), keys);
        assert_eq!(both[1].to_vec::<f32>().unwrap(), expected);
        assert!(pair.reference(&both.iter().map(|x| Some(x.view())).collect::<Vec<_>>(), 2).is_err());
    }

    #[test]
    fn the_cpu_kernel_agrees_with_the_reference() {
        for (extents, past) in [([1, 1, 1, 2], 0), ([2, 3, 5, 16], 7), ([1, 2, 17, 6], 65)] {
            let [batch, heads, count, size] = extents;
            let op = Append {
                extents,
                past,
                x: Spot { offset: 0, strides: [count * heads * size, size, heads * size, 1] },
                cos: Spot::stretched(&[batch, 1, count, size]),
                sin: Spot::stretched(&[count, size]),
                other: None,
            };
            let inputs = vec![
                Some(random(&[batch, count, heads, size], 1)),
                (past > 0).then(|| random(&[batch, heads, past, size], 2)),
                Some(random(&[batch, 1, count, size], 3)),
                Some(random(&[count, size], 4)),
            ];
            for inputs in [inputs.clone(), inputs[..2].to_vec()] {
                let views: Vec<_> = inputs.iter().map(|x| x.as_ref().map(Tensor::view)).collect();
                let exact = numbers(&op.reference(&views, 1).unwrap()[0]);
                let got = numbers(&run_cpu(&op, &inputs, &[], None).unwrap());
                assert!(got.iter().zip(&exact).all(|(a, b)| (a - b).abs() < 1e-6));
            }
        }
    }
}
