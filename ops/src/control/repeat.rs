//! [`Loop`](https://onnx.ai/onnx/operators/onnx__Loop.html): a nested graph again and again.

use std::sync::Arc;

use super::evaluate::{evaluate, nothing_of, stacked, tensors, truth};
use super::unroll::{Unrolled, fits};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::graph::{Graph, ValueId};
use crate::ir::item::Item;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes;
use crate::operator::{Expansion, Operator, Role, all_tensors};
use crate::sequence;

/// The most iterations that a loop makes: a condition that never ends is an error, not a hang.
const MOST: usize = 1 << 24;

/// The same where each iteration is planned by itself.
const MOST_ONE_BY_ONE: usize = 512;

/// `while count < limit && condition { body }`. Inputs: limit, condition, states, what the body captures. Outputs: the last
/// states, then what the body yields in all iterations along a new first axis.
#[derive(Clone, Debug)]
pub struct Loop {
    /// Takes the iteration's number, the condition and the states; gives the condition, states and what it yields.
    pub body: Arc<Graph>,
    /// Values carried from one iteration to the next.
    pub states: usize,
    /// The number of the first iteration: more than 0 where those before it have been taken off.
    pub first: usize,
}

/// Builds [`Loop`].
///
/// # Errors
/// When the body does not fit the node's inputs and outputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(0, usize::MAX, "2 or more")?;
    let body = spec.attributes.graph("body")?;
    let states = spec.inputs.len().saturating_sub(2);
    let fits = body.inputs.len() == states + 2
        && body.outputs.len() > states
        && spec.outputs.len() < body.outputs.len()
        && spec.inputs.iter().skip(2).all(|&given| given);
    if !fits {
        let expected = format!("{} inputs and outputs for {states} states", states + 2);
        let got = format!("{} inputs, {} outputs", body.inputs.len(), body.outputs.len());
        return Err(OpError::constraint("the body of a loop", expected, got));
    }
    Ok(Arc::new(Loop { body, states, first: 0 }))
}

impl Loop {
    /// Whether the body hands on the condition it is given, or gives a constant one that is true.
    fn never_ends_early(&self) -> bool {
        let Some(&(mut id)) = self.body.outputs.first() else { return false };
        let given = self.body.inputs.get(1).map(|(id, _)| *id);
        loop {
            if Some(id) == given {
                return true;
            }
            if let Some(tensor) = self.body.constants.get(&id) {
                return truth(&tensor.view(), 1).unwrap_or(false);
            }
            let writer = self.body.nodes.iter().find(|node| node.outputs.first() == Some(&Some(id)));
            match writer.map(|node| (node.op.role(), node.inputs.as_slice())) {
                Some((Role::View, [Some(source), ..])) => id = *source,
                _ => return false,
            }
        }
    }

    /// One iteration on the host.
    fn once(&self, iteration: usize, state: &[Tensor], captures: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
        let count = i64::try_from(self.first + iteration).map_err(|_| OpError::Size)?;
        let mut given = vec![Tensor::scalar(count), Tensor::from_bools(&[], &[true])?];
        given.extend(state.iter().chain(captures).cloned());
        evaluate(&self.body, given)
    }

    /// The number of iterations, when it is sure. `None` when the limit is not known yet.
    fn times(&self, inputs: &[Option<&Fact>]) -> Result<Option<usize>, OpError> {
        let Some(limit) = inputs.first().copied().flatten() else { return Ok(None) };
        let Some(limit) = limit.integers() else { return Ok(None) };
        let [limit] = limit[..] else { return Err(OpError::constraint("limit", "one element", limit.len())) };
        Ok(Some(usize::try_from(limit).unwrap_or(0).saturating_sub(self.first)))
    }

    /// Whether it carries sequences or optionals, as far as the body declares what it takes.
    fn carries_items(&self) -> bool {
        self.body.inputs.iter().any(|(id, _)| self.body.items.contains_key(id))
    }

    /// The values that the states are when no iteration runs.
    fn unchanged(&self, inputs: &[Option<Item<&Fact>>]) -> Result<Expansion, OpError> {
        let states = (2..2 + self.states).map(|index| sequence::parts(inputs, index));
        Ok(Expansion::Values(states.collect::<Result<_, _>>()?))
    }

    /// One iteration, and the loop that goes on from there: what a loop over sequences is while nobody can say how often
    /// it runs.
    fn one_by_one(&self, limited: bool) -> Result<Expansion, OpError> {
        if self.body.outputs.len() > 1 + self.states {
            let what = "a loop that carries a sequence, yields values, and ends when data says so";
            return Err(OpError::unsupported(what));
        }
        if self.first >= MOST_ONE_BY_ONE {
            let what = format!("a loop over sequences that runs more than {MOST_ONE_BY_ONE} times");
            return Err(OpError::unsupported(what));
        }
        let captures = 2 + self.states;
        let mut unrolled = Unrolled::new(&self.body, captures);
        let limit = limited.then(|| unrolled.input(0));
        let count = i64::try_from(self.first).map_err(|_| OpError::Size)?;
        let count = unrolled.graph.constant(Tensor::scalar(count));
        let condition = unrolled.graph.constant(Tensor::from_bools(&[], &[true])?);
        let states = (2..captures).map(|index| unrolled.input(index));
        let given: Vec<ValueId> = [count, condition].into_iter().chain(states.collect::<Vec<_>>()).collect();
        let outputs = unrolled.iterate(self.first, &given)?;
        let captured = (captures..captures + self.body.captures.len()).map(|index| unrolled.input(index));
        let captured: Vec<ValueId> = captured.collect();
        let inputs: Vec<Option<ValueId>> =
            std::iter::once(limit).chain(outputs.into_iter().chain(captured).map(Some)).collect();
        let next = Arc::new(Loop { first: self.first + 1, ..self.clone() });
        let states = unrolled.graph.nodes(next, &inputs, self.states);
        Ok(unrolled.graph.finish(&states))
    }
}

impl Operator for Loop {
    fn name(&self) -> &'static str {
        "Loop"
    }

    fn infer(&self, _inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        Err(OpError::Internal("a loop waits until it is unrolled or run"))
    }

    fn expand_items(&self, inputs: &[Option<Item<&Fact>>]) -> Result<Expansion, OpError> {
        let own: Vec<Option<&Fact>> =
            all_tensors(inputs.get(..2).ok_or(OpError::Internal("a loop without inputs"))?)?;
        let condition = match sizes::optional(&own, 1) {
            None => Some(true),
            Some(fact) => fact.value.as_ref().map(|value| truth(&value.view(), 1)).transpose()?,
        };
        let times = self.times(&own)?;
        let carries = inputs.get(2..2 + self.states).unwrap_or_default();
        let carries = carries.iter().flatten().any(|item| item.tensor().is_none());
        let times = match (condition, times) {
            (Some(true), Some(times)) if times > 0 && fits(&self.body, times) && self.never_ends_early() => {
                times
            }
            // What zero iterations yield has a shape that only the reference works out.
            (Some(false), _) | (_, Some(0)) if carries && self.body.outputs.len() == 1 + self.states => {
                return self.unchanged(inputs);
            }
            (Some(true), times) if carries && (own[0].is_none() || times.is_some()) => {
                return self.one_by_one(own[0].is_some());
            }
            _ => return Ok(Expansion::Waits),
        };
        let mut unrolled = Unrolled::new(&self.body, 2 + self.states);
        let condition = unrolled.graph.constant(Tensor::from_bools(&[], &[true])?);
        let mut state: Vec<ValueId> = (2..2 + self.states).map(|index| unrolled.input(index)).collect();
        let mut yielded: Vec<Vec<ValueId>> = vec![Vec::new(); self.body.outputs.len() - 1 - self.states];
        for iteration in 0..times {
            let count = i64::try_from(self.first + iteration).map_err(|_| OpError::Size)?;
            let count = unrolled.graph.constant(Tensor::scalar(count));
            let given: Vec<ValueId> = [count, condition].into_iter().chain(state.iter().copied()).collect();
            let mut outputs = unrolled.iterate(iteration, &given)?.split_off(1);
            for (all, value) in yielded.iter_mut().zip(outputs.split_off(self.states)) {
                all.push(value);
            }
            state = outputs;
        }
        state.extend(yielded.iter().map(|all| unrolled.stack(0, all)));
        Ok(unrolled.graph.finish(&state))
    }

    fn wants_value(&self, input: usize) -> bool {
        input < 2 && (self.carries_items() || self.never_ends_early())
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let limit = match sizes::optional(inputs, 0) {
            None => usize::MAX,
            Some(limit) => match sizes::integers(&limit, 0)?[..] {
                [limit] => usize::try_from(limit).unwrap_or(0).saturating_sub(self.first),
                _ => return Err(OpError::constraint("limit", "one element", limit.len())),
            },
        };
        let mut condition = match sizes::optional(inputs, 1) {
            None => true,
            Some(condition) => truth(&condition, 1)?,
        };
        let given = inputs.get(2..).ok_or(OpError::Internal("a loop without inputs"))?;
        let mut state = tensors(given)?;
        let captures = state.split_off(self.states.min(state.len()));
        let mut yielded: Vec<Vec<Tensor>> = vec![Vec::new(); self.body.outputs.len() - 1 - self.states];
        let runs = condition && limit > 0;
        if !runs && !yielded.is_empty() {
            // The body says in which type and shape it would have yielded something.
            let outputs = self.once(0, &state, &captures)?;
            state
                .extend(outputs.iter().skip(1 + self.states).map(nothing_of).collect::<Result<Vec<_>, _>>()?);
            return Ok(state);
        }
        let mut iteration = 0;
        while condition && iteration < limit {
            if iteration >= MOST {
                return Err(OpError::unsupported(format!("a loop of more than {MOST} iterations")));
            }
            let mut outputs = self.once(iteration, &state, &captures)?.into_iter();
            let first = outputs.next().ok_or(OpError::Internal("a body without outputs"))?;
            condition = truth(&first.view(), 1)?;
            state = outputs.by_ref().take(self.states).collect();
            yielded.iter_mut().zip(outputs).for_each(|(all, tensor)| all.push(tensor));
            iteration += 1;
        }
        state.extend(yielded.iter().map(|all| stacked(all, 0)).collect::<Result<Vec<_>, _>>()?);
        Ok(state)
    }
}
