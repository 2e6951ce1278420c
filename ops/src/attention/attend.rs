//! The step that attentions come down to: softmax(scale · q · kᵀ with masks) · v for each head, over factors that lie in any
//! order in memory. It has no name in ONNX.

use sardonyx_shaders::Capabilities;

use super::scaled::Sizes;
use super::{attend_cpu, attend_gpu};
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats};
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::movement::assemble::row_major;
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Cost, CpuKernel, Operator, Role};
use crate::problem::Problem;

/// Attention of inputs 0 to 2, queries, keys and values, with a mask in input 3 where there is one. A query that sees no key
/// gives zeros.
#[derive(Clone, PartialEq, Debug)]
pub struct Attend {
    /// What is attended to what.
    pub sizes: Sizes,
    /// Where the queries lie: by batch, head, query and element.
    pub q: Spot,
    /// Where the keys lie.
    pub k: Spot,
    /// Where the values lie.
    pub v: Spot,
    /// Where the mask lies: by batch, head, query and key.
    pub mask: Spot,
    /// How the heads of the result lie.
    pub order: Order,
    /// The result's dimensions, whatever its order is.
    pub dims: Vec<usize>,
    /// Factor of the products of queries and keys.
    pub scale: f32,
    /// Scores beyond this are bent back by a hyperbolic tangent; none when not positive.
    pub softcap: f32,
    /// The score of a key that a mask of truth values hides.
    pub fill: f32,
    /// Query `i` sees keys from `i + low` …
    pub low: Option<i64>,
    /// … to `i + high`.
    pub high: Option<i64>,
    /// Where the cosines and sines in inputs 4 and 5 lie that queries are turned by, as [`super::Append`] turns rows.
    pub turn: Option<[Spot; 2]>,
}

/// Where the elements of a factor lie in its tensor, by four coordinates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spot {
    /// The first element.
    pub offset: usize,
    /// Elements between neighbours along each coordinate; 0 where they share elements.
    pub strides: [usize; 4],
}

/// How the heads of a result lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// By batch, head, query and element.
    Heads,
    /// By batch, query, head and element.
    Rows,
}

/// The input that masks are in.
pub(super) const MASK: usize = 3;
/// The inputs that angles are in.
pub(super) const ANGLES: [usize; 2] = [4, 5];

impl Spot {
    /// All elements of a tensor of these dimensions, in order.
    pub fn dense(dims: [usize; 4]) -> Spot {
        Spot::stretched(&dims)
    }

    /// A tensor of these dimensions, at most four, stretched to the coordinates as ONNX broadcasts.
    pub fn stretched(dims: &[usize]) -> Spot {
        let mut strides = [0; 4];
        let own = row_major(dims).into_iter().zip(dims);
        for (slot, (stride, &dim)) in strides.iter_mut().rev().zip(own.rev()) {
            *slot = if dim == 1 { 0 } else { stride };
        }
        Spot { offset: 0, strides }
    }

    /// The element at these coordinates.
    pub(super) fn at(&self, coordinates: [usize; 4]) -> usize {
        self.offset + self.strides.iter().zip(coordinates).map(|(stride, at)| stride * at).sum::<usize>()
    }

    /// Whether a tensor of `len` elements has all of these coordinates.
    pub(super) fn fits(&self, extents: [usize; 4], len: usize) -> bool {
        let mut last = Some(self.offset);
        for (stride, extent) in self.strides.iter().zip(extents) {
            let Some(most) = extent.checked_sub(1) else { return true };
            last = last.and_then(|last| last.checked_add(stride.checked_mul(most)?));
        }
        last.is_some_and(|last| last < len)
    }
}

impl Attend {
    /// Attention of dense factors in four dimensions: queries, keys and values by batch, head, place and element.
    pub fn dense(sizes: Sizes, scale: f32) -> Attend {
        let Sizes { batch, heads, key_heads, queries, keys, size, value_size } = sizes;
        Attend {
            sizes,
            q: Spot::dense([batch, heads, queries, size]),
            k: Spot::dense([batch, key_heads, keys, size]),
            v: Spot::dense([batch, key_heads, keys, value_size]),
            mask: Spot::default(),
            order: Order::Heads,
            dims: vec![batch, heads, queries, value_size],
            scale,
            softcap: 0.0,
            fill: f32::NEG_INFINITY,
            low: None,
            high: None,
            turn: None,
        }
    }

    /// The extents that each input has, in the coordinates of its place.
    fn extents(&self) -> [([usize; 4], Spot); 6] {
        let Sizes { batch, heads, key_heads, queries, keys, size, value_size } = self.sizes;
        let [cos, sin] = self.turn.unwrap_or_default();
        [
            ([batch, heads, queries, size], self.q),
            ([batch, key_heads, keys, size], self.k),
            ([batch, key_heads, keys, value_size], self.v),
            ([batch, heads, queries, keys], self.mask),
            ([batch, heads, queries, size], cos),
            ([batch, heads, queries, size], sin),
        ]
    }

    /// Whether inputs of these many elements hold what is read.
    pub(super) fn check(&self, lens: &[Option<usize>]) -> Result<(), OpError> {
        let key_heads = self.sizes.key_heads;
        let shared = key_heads > 0 && self.sizes.heads.is_multiple_of(key_heads);
        if !shared || element_count(&self.dims) != element_count(&self.sizes.result()) {
            return Err(OpError::Internal("an attention whose sizes do not fit together"));
        }
        let angles = ANGLES.map(|index| lens.get(index).copied().flatten().is_some());
        if angles != [self.turn.is_some(); 2] || (self.turn.is_some() && !self.sizes.size.is_multiple_of(2)) {
            return Err(OpError::Internal("an attention without the angles of its queries"));
        }
        for ((extents, spot), len) in self.extents().into_iter().zip(lens) {
            if len.is_some_and(|len| !spot.fits(extents, len)) {
                return Err(OpError::Internal("an attention beyond its inputs"));
            }
        }
        Ok(())
    }

    /// The keys that a query may see, masks aside.
    pub(super) fn window(&self, query: usize) -> (usize, usize) {
        let at = i64::try_from(query).unwrap_or(i64::MAX);
        let keys = i64::try_from(self.sizes.keys).unwrap_or(i64::MAX);
        let low = self.low.map_or(0, |low| at.saturating_add(low).clamp(0, keys));
        let end = self.high.map_or(keys, |high| at.saturating_add(high).saturating_add(1).clamp(0, keys));
        (low as usize, end.max(low) as usize)
    }

    /// Where the result lies: by batch, head, query and element.
    pub fn place(&self) -> Spot {
        let Sizes { heads, queries, value_size, .. } = self.sizes;
        let [head, query] = match self.order {
            Order::Heads => [queries * value_size, value_size],
            Order::Rows => [value_size, heads * value_size],
        };
        Spot { offset: 0, strides: [heads * queries * value_size, head, query, 1] }
    }

    /// One query, turned where queries are.
    fn query(&self, [batch, head, query]: [usize; 3], q: &[f64], angles: &[Vec<f64>]) -> Vec<f64> {
        let place = |e: usize| [batch, head, query, e];
        let (size, half) = (self.sizes.size, self.sizes.size / 2);
        let own = |e: usize| q[self.q.at(place(e))];
        let turned = |e: usize| match (self.turn, angles) {
            (Some([cos_spot, sin_spot]), [cos, sin]) => {
                let far = if e < half { -own(e + half) } else { own(e - half) };
                own(e) * cos[cos_spot.at(place(e))] + far * sin[sin_spot.at(place(e))]
            }
            _ => own(e),
        };
        (0..size).map(turned).collect()
    }

    /// The scores of one query in plain numbers.
    fn scores(&self, at: [usize; 3], [q, k]: [&[f64]; 2], mask: Option<&[f64]>, added: bool) -> Vec<f64> {
        let [batch, head, query] = at;
        let key_head = head / (self.sizes.heads / self.sizes.key_heads);
        let (low, end) = self.window(query);
        let score = |key: usize| {
            if !(low..end).contains(&key) {
                return f64::NEG_INFINITY;
            }
            let product = |e: usize| q[e] * k[self.k.at([batch, key_head, key, e])];
            let mut score = (0..self.sizes.size).map(product).sum::<f64>() * f64::from(self.scale);
            if self.softcap > 0.0 {
                let cap = f64::from(self.softcap);
                score = (score / cap).tanh() * cap;
            }
            match mask.map(|mask| mask[self.mask.at([batch, head, query, key])]) {
                None => score,
                Some(number) if added => score + number,
                Some(seen) => {
                    if seen == 0.0 {
                        f64::from(self.fill)
                    } else {
                        score
                    }
                }
            }
        };
        (0..self.sizes.keys).map(score).collect()
    }
}

impl Operator for Attend {
    fn name(&self) -> &'static str {
        "Attend"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let q = required(inputs, 0)?;
        for (input, fact) in inputs.iter().enumerate() {
            let Some(got) = fact.map(|fact| fact.dtype) else { continue };
            if got != q.dtype && !(input == MASK && got == DType::Bool) {
                return Err(OpError::Type { input, expected: "the type of input 0", got });
            }
        }
        let lens: Vec<Option<usize>> = inputs.iter().map(|fact| element_count(&(*fact)?.dims()?)).collect();
        self.check(&lens)?;
        Ok(vec![Fact::known(q.dtype, &self.dims)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let lens: Vec<Option<usize>> = inputs.iter().map(|view| view.map(|view| view.len())).collect();
        self.check(&lens)?;
        let (q, k, v) = (view(inputs, 0)?, view(inputs, 1)?, view(inputs, 2)?);
        let dtype = q.dtype;
        let (q, k, v) = (floats(&q)?, floats(&k)?, floats(&v)?);
        let mask = optional(inputs, MASK);
        let added = mask.is_some_and(|mask| mask.dtype != DType::Bool);
        let numbers = mask.map(|mask| match mask.dtype {
            DType::Bool => Ok(mask.bytes.iter().map(|&seen| f64::from(seen)).collect::<Vec<f64>>()),
            _ => floats(&mask),
        });
        let numbers = numbers.transpose()?;
        let angles = ANGLES.iter().filter_map(|&index| optional(inputs, index));
        let angles = angles.map(|angle| floats(&angle)).collect::<Result<Vec<_>, _>>()?;
        let Sizes { batch, heads, key_heads, queries, value_size, .. } = self.sizes;
        let mut result = filled(&self.dims, 0.0)?;
        let place = self.place();
        for line in 0..if result.is_empty() { 0 } else { batch * heads * queries } {
            let (b, head, query) = (line / (heads * queries), line / queries % heads, line % queries);
            let own = self.query([b, head, query], &q, &angles);
            let mut weights = self.scores([b, head, query], [&own, &k], numbers.as_deref(), added);
            let most = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            if most == f64::NEG_INFINITY {
                continue;
            }
            weights.iter_mut().for_each(|x| *x = (*x - most).exp());
            let sum: f64 = weights.iter().sum();
            for element in 0..value_size {
                let terms = weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0);
                let total: f64 = terms
                    .map(|(key, weight)| weight * v[self.v.at([b, head / (heads / key_heads), key, element])])
                    .sum();
                result[place.at([b, head, query, element])] = total / sum;
            }
        }
        Ok(vec![float_tensor(dtype, &self.dims, &result)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        attend_cpu::prepare(self, problem)
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        attend_gpu::lower(self, problem, caps)
    }

    fn role(&self) -> Role {
        Role::Anchor
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let Sizes { batch, heads, queries, keys, size, value_size, .. } = self.sizes;
        let sizes = [batch, heads, queries, keys, size.saturating_add(value_size)];
        let flops = sizes.iter().fold(2u64, |all, &size| all.saturating_mul(size as u64));
        problem.cost_with(flops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::check::{agrees, narrowed, random};

    fn sizes(batch: usize, heads: [usize; 2], places: [usize; 2], elements: [usize; 2]) -> Sizes {
        let ([heads, key_heads], [queries, keys], [size, value_size]) = (heads, places, elements);
        Sizes { batch, heads, key_heads, queries, keys, size, value_size }
    }

    fn operands(op: &Attend) -> Vec<Option<Tensor>> {
        let Sizes { batch, heads, key_heads, queries, keys, size, value_size } = op.sizes;
        vec![
            Some(random(&[batch, heads, queries, size], 1)),
            Some(random(&[batch, key_heads, keys, size], 2)),
            Some(random(&[batch, key_heads, keys, value_size], 3)),
        ]
    }

    #[test]
    fn a_literal_attention() {
        // Equal scores: the mean of the keys that are seen.
        let mut op = Attend::dense(sizes(1, [1, 1], [2, 3], [1, 1]), 1.0);
        let q = Tensor::from_slice(&[1, 1, 2, 1], &[0.0f32, 0.0]).unwrap();
        let v = Tensor::from_slice(&[1, 1, 3, 1], &[3.0f32, 6.0, 12.0]).unwrap();
        let run = |op: &Attend, mask: Option<&Tensor>| {
            let views = [Some(q.view()), Some(v.view()), Some(v.view()), mask.map(Tensor::view)];
            op.reference(&views, 1).unwrap().remove(0).to_vec::<f32>().unwrap()
        };
        assert_eq!(run(&op, None), [7.0, 7.0]);
        op.high = Some(0);
        assert_eq!(run(&op, None), [3.0, 4.5]);
        op.high = Some(-1);
        assert_eq!(run(&op, None), [0.0, 3.0]);
        (op.low, op.high) = (Some(1), None);
        assert_eq!(run(&op, None), [9.0, 12.0]);
        op.low = None;
        op.mask = Spot { offset: 0, strides: [0, 0, 0, 1] };
        let seen = Tensor::from_bools(&[3], &[true, false, true]).unwrap();
        assert_eq!(run(&op, Some(&seen)), [7.5, 7.5]);
        let none = Tensor::from_bools(&[3], &[false; 3]).unwrap();
        assert_eq!(run(&op, Some(&none)), [0.0, 0.0]);
        op.fill = -5.0;
        assert_eq!(run(&op, Some(&none)), [7.0, 7.0]);
        let added = Tensor::from_slice(&[3], &[0.0f32, f32::NEG_INFINITY, 0.0]).unwrap();
        assert_eq!(run(&op, Some(&added)), [7.5, 7.5]);
    }

    #[test]
    fn places_beyond_an_input_are_refused() {
        let mut op = Attend::dense(sizes(1, [2, 1], [3, 4], [5, 5]), 1.0);
        let facts = operands(&op).into_iter().map(|x| x.map(|x| Fact::known(DType::F32, x.dims())));
        let facts: Vec<Option<Fact>> = facts.collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        assert_eq!(op.infer(&facts, 1).unwrap()[0].dims().unwrap(), [1, 2, 3, 5]);
        op.k.offset = 1;
        assert!(op.infer(&facts, 1).is_err());
        op.k.offset = 0;
        op.v.strides[2] = usize::MAX;
        assert!(op.infer(&facts, 1).is_err());
    }

    #[test]
    fn the_cpu_kernel_agrees_with_the_reference() {
        let all = [
            sizes(1, [1, 1], [1, 1], [1, 1]),
            sizes(2, [3, 3], [17, 65], [32, 32]),
            sizes(1, [4, 2], [127, 127], [64, 64]),
            sizes(2, [6, 2], [1, 300], [64, 48]),
            sizes(1, [2, 1], [3, 300], [17, 3]),
            sizes(1, [1, 1], [100, 300], [40, 80]),
        ];
        for (index, sizes) in all.into_iter().enumerate() {
            let dense = Attend::dense(sizes, 0.3);
            let inputs = operands(&dense);
            agrees(&dense, &inputs, &[], 1e-5);
            let mut op = Attend {
                softcap: 2.0,
                high: Some(sizes.keys as i64 - sizes.queries as i64),
                ..dense.clone()
            };
            if index % 2 == 1 {
                op.low = Some(-5);
                op.order = Order::Rows;
            }
            agrees(&op, &inputs, &[], 1e-5);
            let mut masked = inputs.clone();
            masked.push(Some(random(&[sizes.batch, 1, sizes.queries, sizes.keys], 7)));
            let mask = Spot::dense([sizes.batch, 1, sizes.queries, sizes.keys]);
            agrees(&Attend { mask, ..dense.clone() }, &masked, &[], 1e-5);
            let seen: Vec<bool> = (0..sizes.keys).map(|key| key % 3 != 1).collect();
            masked[MASK] = Some(Tensor::from_bools(&[sizes.keys], &seen).unwrap());
            let mask = Spot { offset: 0, strides: [0, 0, 0, 1] };
            agrees(&Attend { mask, fill: -1.0, ..dense.clone() }, &masked, &[], 1e-5);
            let narrow: Vec<_> = inputs.iter().map(|x| x.as_ref().map(|x| narrowed(x, DType::F16))).collect();
            agrees_plainly(&dense, &narrow);
        }
    }

    /// Epilogues are over f32 only.
    fn agrees_plainly(op: &Attend, inputs: &[Option<Tensor>]) {
        let views: Vec<_> = inputs.iter().map(|x| x.as_ref().map(Tensor::view)).collect();
        let exact = crate::cpu::check::numbers(&op.reference(&views, 1).unwrap()[0]);
        let got = crate::cpu::check::run_cpu(op, inputs, &[], None).unwrap();
        for (got, exact) in crate::cpu::check::numbers(&got).iter().zip(&exact) {
            assert!((got - exact).abs() < 2e-3, "{got} {exact}");
        }
    }

    #[test]
    fn queries_are_turned() {
        for sizes in [sizes(2, [3, 3], [17, 20], [8, 8]), sizes(1, [4, 2], [1, 33], [32, 16])] {
            let Sizes { batch, queries, size, .. } = sizes;
            let mut op = Attend::dense(sizes, 0.5);
            let mut inputs = operands(&op);
            inputs.extend([
                None,
                Some(random(&[batch, 1, queries, size], 8)),
                Some(random(&[queries, size], 9)),
            ]);
            op.turn = Some([Spot::stretched(&[batch, 1, queries, size]), Spot::stretched(&[queries, size])]);
            agrees(&op, &inputs, &[], 1e-5);
            // The same in two steps.
            let [x, _, _, _, cos, sin] = <[Option<Tensor>; 6]>::try_from(inputs.clone()).unwrap();
            let append = super::super::Append {
                extents: [batch, sizes.heads, queries, size],
                past: 0,
                x: op.q,
                cos: Spot::stretched(&[batch, 1, queries, size]),
                sin: Spot::stretched(&[queries, size]),
                other: None,
            };
            let views = [
                x.as_ref().map(Tensor::view),
                None,
                cos.as_ref().map(Tensor::view),
                sin.as_ref().map(Tensor::view),
            ];
            let turned = append.reference(&views, 1).unwrap().remove(0);
            let apart = [
                Some(turned.view()),
                inputs[1].as_ref().map(Tensor::view),
                inputs[2].as_ref().map(Tensor::view),
            ];
            let apart = Attend::dense(sizes, 0.5).reference(&apart, 1).unwrap().remove(0);
            let views: Vec<_> = inputs.iter().map(|x| x.as_ref().map(Tensor::view)).collect();
            let whole = op.reference(&views, 1).unwrap().remove(0);
            let pairs = whole.to_vec::<f32>().unwrap().into_iter().zip(apart.to_vec::<f32>().unwrap());
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }

    #[test]
    fn factors_that_lie_anywhere() {
        // [batch, place, 3 · head · element] with keys transposed in a tensor of their own.
        let (batch, heads, length, size) = (2, 3, 37, 16);
        let hidden = 3 * heads * size;
        let packed = random(&[batch, length, hidden], 4);
        let keys = random(&[batch, heads, size, length], 5);
        let side = [length * hidden, size, hidden, 1];
        let op = Attend {
            q: Spot { offset: 0, strides: side },
            k: Spot { offset: 0, strides: [heads * size * length, size * length, 1, length] },
            v: Spot { offset: 2 * heads * size, strides: side },
            order: Order::Rows,
            dims: vec![batch, length, heads * size],
            ..Attend::dense(sizes(batch, [heads, heads], [length, length], [size, size]), 0.25)
        };
        agrees(&op, &[Some(packed.clone()), Some(keys), Some(packed)], &[], 1e-5);
    }
}
