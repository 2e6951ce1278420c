//! [LinearAttention](https://onnx.ai/onnx/operators/onnx__LinearAttention.html): attention through a matrix for each
//! head that keys and values are written into, token after token, and queries read from.

use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Cost, Operator};
use crate::problem::Problem;

const STATE: usize = 3;
const DECAY: usize = 4;
const RATE: usize = 5;

/// Queries, keys and values are inputs 0 to 2; inputs 3 to 5 are the state before, its decay, and the rate of updates.
/// Outputs are the result and the state after.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LinearAttention {
    heads: usize,
    key_heads: usize,
    /// Factor of the result; from the size of the keys when absent.
    scale: Option<f32>,
    /// The state fades before each update.
    gated: bool,
    /// What is written is how far the value is from what the state has for the key.
    delta: bool,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, 6, "3 to 6")?;
    // How the work is cut; it has no effect on results.
    spec.attributes.int("chunk_size")?;
    let heads = |name| {
        let number = spec.attributes.int_or(name, 0)?;
        let positive = usize::try_from(number).ok().filter(|&n| n > 0);
        positive.ok_or(OpError::Attribute { name, expected: "positive" })
    };
    let (gated, delta) = match spec.attributes.str_or("update_rule", "gated_delta".to_owned())?.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        _ => {
            let expected = "linear, gated, delta or gated_delta";
            return Err(OpError::Attribute { name: "update_rule", expected });
        }
    };
    for (wanted, index) in [(gated, DECAY), (delta, RATE)] {
        if spec.has_input(index) != wanted {
            let expected = if wanted { "input" } else { "no input" };
            return Err(OpError::constraint("update rule", format!("{expected} {index}"), "the other"));
        }
    }
    let (heads, key_heads) = (heads("q_num_heads")?, heads("kv_num_heads")?);
    if heads % key_heads != 0 {
        return Err(OpError::constraint("heads of queries", format!("a multiple of {key_heads}"), heads));
    }
    let scale = spec.attributes.float_or("scale", 0.0)?;
    Ok(Arc::new(LinearAttention { heads, key_heads, scale: (scale != 0.0).then_some(scale), gated, delta }))
}

/// The sizes of one problem.
struct Sizes {
    batch: usize,
    length: usize,
    key: usize,
    value: usize,
}

impl LinearAttention {
    fn sizes(&self, q: &[usize], k: &[usize], v: &[usize]) -> Result<Sizes, OpError> {
        let (&[batch, length, q_hidden], &[_, _, _], &[_, _, v_hidden]) = (q, k, v) else {
            return Err(OpError::constraint("dimensions of queries, keys and values", 3, q.len()));
        };
        let (key, value) = (q_hidden / self.heads, v_hidden / self.key_heads);
        let expect = |what: &'static str, got: &[usize], heads: usize, size: usize| {
            let expected = [batch, length, heads.saturating_mul(size)];
            if got == expected {
                return Ok(());
            }
            Err(OpError::constraint(what, format!("{expected:?}"), format!("{got:?}")))
        };
        expect("queries", q, self.heads, key)?;
        expect("keys", k, self.key_heads, key)?;
        expect("values", v, self.key_heads, value)?;
        Ok(Sizes { batch, length, key, value })
    }

    /// How many numbers for each token input `index` has; one of `allowed`.
    fn columns(view: &View<'_>, index: usize, sizes: &Sizes, allowed: [usize; 2]) -> Result<usize, OpError> {
        match *view.dims {
            [batch, length, columns]
                if (batch, length) == (sizes.batch, sizes.length) && allowed.contains(&columns) =>
            {
                Ok(columns)
            }
            _ => {
                let expected = format!("[{}, {}, one of {allowed:?}]", sizes.batch, sizes.length);
                let what = if index == DECAY { "decay" } else { "rate" };
                Err(OpError::constraint(what, expected, format!("{:?}", view.dims)))
            }
        }
    }
}

impl Operator for LinearAttention {
    fn name(&self) -> &'static str {
        "LinearAttention"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let facts = [required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?];
        for (input, fact) in facts.iter().enumerate() {
            if !matches!(fact.dtype, DType::F32 | DType::F16 | DType::BF16) {
                return Err(OpError::Type { input, expected: "a float", got: fact.dtype });
            }
        }
        let [q, k, v] = facts;
        if let (Some(q), Some(k), Some(v)) = (q.dims(), k.dims(), v.dims()) {
            self.sizes(&q, &k, &v)?;
        }
        let state_type = optional(inputs, STATE).map_or(q.dtype, |state| state.dtype);
        let mut all = vec![Fact::unranked(q.dtype), Fact::unranked(state_type)];
        if let (Some([batch, length, q_hidden]), Some([_, _, v_hidden])) =
            (q.shape.as_deref(), v.shape.as_deref())
        {
            let (key, value) = (q_hidden.div_floor(self.heads)?, v_hidden.div_floor(self.key_heads)?);
            all[0].shape = Some(vec![batch.clone(), length.clone(), value.scale(self.heads)?]);
            all[1].shape = Some(vec![batch.clone(), Dim::Known(self.key_heads), key, value]);
        }
        all.truncate(outputs.max(1));
        Ok(all)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (q_view, k, v) = (view(inputs, 0)?, view(inputs, 1)?, view(inputs, 2)?);
        let sizes = self.sizes(q_view.dims, k.dims, v.dims)?;
        let Sizes { batch, length, key: rows, value: columns } = sizes;
        let (q, k, v) = (floats(&q_view)?, floats(&k)?, floats(&v)?);
        let gate = |index: usize, allowed: [usize; 2]| -> Result<Option<(usize, Vec<f64>)>, OpError> {
            let Some(view) = optional(inputs, index) else { return Ok(None) };
            Ok(Some((LinearAttention::columns(&view, index, &sizes, allowed)?, floats(&view)?)))
        };
        let per_row = self.key_heads.saturating_mul(rows);
        let decay = gate(DECAY, [self.key_heads, per_row])?;
        let rate = gate(RATE, [self.key_heads, 1])?;
        let state_dims = [batch, self.key_heads, rows, columns];
        let (state_type, mut states) = match optional(inputs, STATE) {
            Some(state) if state.dims == state_dims => (state.dtype, floats(&state)?),
            Some(state) => {
                let got = format!("{:?}", state.dims);
                return Err(OpError::constraint("state", format!("{state_dims:?}"), got));
            }
            None => (q_view.dtype, filled(&state_dims, 0.0)?),
        };
        let dims = [batch, length, self.heads.checked_mul(columns).ok_or(OpError::Size)?];
        let mut result = filled(&dims, 0.0)?;
        let scale = self.scale.map_or_else(|| 1.0 / (rows.max(1) as f64).sqrt(), f64::from);
        let group = self.heads / self.key_heads;
        let mut change = filled(&[columns], 0.0)?;
        let steps = if result.is_empty() && states.is_empty() { 0 } else { length };
        for (block, state) in states.chunks_exact_mut(rows.saturating_mul(columns).max(1)).enumerate() {
            let (b, head) = (block / self.key_heads, block % self.key_heads);
            for token in (0..steps).map(|step| b * length + step) {
                let place = token * self.key_heads + head;
                let key = &k[place * rows..(place + 1) * rows];
                change.copy_from_slice(&v[place * columns..(place + 1) * columns]);
                if let Some((count, decay)) = &decay {
                    let own = count / self.key_heads;
                    for (row, line) in state.chunks_exact_mut(columns).enumerate() {
                        let at = place * own + if own == 1 { 0 } else { row };
                        let factor = decay[at].exp();
                        line.iter_mut().for_each(|x| *x *= factor);
                    }
                }
                if let Some((count, rate)) = &rate {
                    for (line, x) in state.chunks_exact(columns).zip(key) {
                        change.iter_mut().zip(line).for_each(|(change, s)| *change -= s * x);
                    }
                    let rate = rate[if *count == 1 { token } else { place }];
                    change.iter_mut().for_each(|change| *change *= rate);
                }
                for (line, x) in state.chunks_exact_mut(columns).zip(key) {
                    line.iter_mut().zip(&change).for_each(|(s, change)| *s += x * change);
                }
                for reader in head * group..(head + 1) * group {
                    let place = token * self.heads + reader;
                    let query = &q[place * rows..(place + 1) * rows];
                    let out = &mut result[place * columns..(place + 1) * columns];
                    for (line, x) in state.chunks_exact(columns).zip(query) {
                        out.iter_mut().zip(line).for_each(|(sum, s)| *sum += scale * x * s);
                    }
                }
            }
        }
        let mut all = vec![
            float_tensor(q_view.dtype, &dims, &result)?,
            float_tensor(state_type, &state_dims, &states)?,
        ];
        all.truncate(outputs.max(1));
        Ok(all)
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let cost = problem.default_cost();
        let dims = problem.input(0).map_or(&[][..], |q| q.dims);
        let tokens = dims.iter().take(2).fold(1u64, |all, &n| all.saturating_mul(n as u64));
        let batch = dims.first().map_or(1, |&n| n.max(1) as u64);
        let state = problem.outputs.get(1).map_or(0, |state| state.len() as u64 / batch);
        Cost { flops: tokens.saturating_mul(state).saturating_mul(8), ..cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_fade_and_learn() {
        let row = |all: &[f32]| Tensor::from_slice(&[1, all.len(), 1], all).unwrap();
        let (q, k, v) = (row(&[1.0, 2.0]), row(&[1.0, 0.5]), row(&[4.0, 6.0]));
        let (decay, rate) = (row(&[0.0, 0.5f32.ln()]), row(&[1.0, 0.5]));
        let state = Tensor::from_slice(&[1, 1, 1, 1], &[2.0f32]).unwrap();
        let run = |gated: bool, delta: bool| {
            let op = LinearAttention { heads: 1, key_heads: 1, scale: None, gated, delta };
            let inputs = [Some(&q), Some(&k), Some(&v), Some(&state)].into_iter();
            let inputs = inputs.chain([gated.then_some(&decay), delta.then_some(&rate)]);
            let views: Vec<_> = inputs.map(|x| x.map(Tensor::view)).collect();
            let all = op.reference(&views, 2).unwrap();
            (all[0].to_vec::<f32>().unwrap(), all[1].to_vec::<f32>().unwrap())
        };
        assert_eq!(run(false, false), (vec![6.0, 18.0], vec![9.0]));
        assert_eq!(run(true, false), (vec![6.0, 12.0], vec![6.0]));
        // 2 + (4 - 2), then 4 + 0.5 * 0.5 * (6 - 4 * 0.5).
        assert_eq!(run(false, true), (vec![4.0, 10.0], vec![5.0]));
        // 4 / 2 + 0.5 * 0.5 * (6 - 2 * 0.5).
        assert_eq!(run(true, true), (vec![4.0, 6.5], vec![3.25]));
    }

    #[test]
    fn query_heads_share_states() {
        let tensor = |dims: &[usize], all: &[f32]| Tensor::from_slice(dims, all).unwrap();
        let q = tensor(&[1, 1, 4], &[1.0, 0.0, 0.0, 1.0]);
        let (k, v) = (tensor(&[1, 1, 2], &[2.0, 3.0]), tensor(&[1, 1, 1], &[5.0]));
        let op = LinearAttention { heads: 2, key_heads: 1, scale: Some(1.0), gated: false, delta: false };
        let all = op.reference(&[&q, &k, &v].map(|x| Some(x.view())), 2).unwrap();
        assert_eq!(all[0].to_vec::<f32>().unwrap(), [10.0, 15.0]);
        assert_eq!((all[1].dims(), all[1].to_vec::<f32>().unwrap()), (&[1, 1, 2, 1][..], vec![10.0, 15.0]));
        assert!(op.reference(&[&q, &v, &v].map(|x| Some(x.view())), 2).is_err());
    }
}
