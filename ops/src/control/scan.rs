//! [`Scan`](https://onnx.ai/onnx/operators/onnx__Scan.html): a nested graph over the slices of tensors.

use std::sync::Arc;

use super::evaluate::{evaluate, nothing_of, stacked, tensors};
use super::unroll::{Unrolled, fits};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::graph::{Graph, ValueId};
use crate::ir::item::Item;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::gather::Gather;
use crate::movement::sizes;
use crate::operator::{Expansion, Operator, all_tensors};

/// The body once for each slice. Inputs: states, tensors to slice, what the body captures. Outputs: the last states, then
/// what the body yields along a new axis.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Takes the states and a slice of each tensor; gives the states and what it yields.
    pub body: Arc<Graph>,
    /// Values carried from one iteration to the next.
    pub states: usize,
    /// For each sliced tensor: the axis, and whether it is walked from its end.
    pub scanned: Vec<(i64, bool)>,
    /// For each thing yielded: the new axis, and whether the last iteration comes first.
    pub yielded: Vec<(i64, bool)>,
    /// Before opset 9 all this happens for each element of a batch, along axis 0; the first input says how many slices
    /// each has.
    pub batched: bool,
}

/// Builds [`Scan`].
///
/// # Errors
/// When the body does not fit the node's inputs and outputs, or there is not one axis and direction for each.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let body = spec.attributes.graph("body")?;
    let batched = spec.opset < 9;
    let count = spec.attributes.int("num_scan_inputs")?.copied();
    let count = count.and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
    let count = count.ok_or(OpError::Attribute { name: "num_scan_inputs", expected: "positive" })?;
    let given = spec.inputs.len().saturating_sub(usize::from(batched));
    let states = given.checked_sub(count).filter(|states| *states <= body.outputs.len());
    let states = states.filter(|_| body.inputs.len() == given && spec.outputs.len() <= body.outputs.len());
    let Some(states) = states.filter(|_| spec.inputs.iter().skip(usize::from(batched)).all(|&given| given))
    else {
        let got = format!("{} inputs, {} outputs", body.inputs.len(), body.outputs.len());
        return Err(OpError::constraint("the body of a scan", format!("{given} inputs"), got));
    };
    let outputs = body.outputs.len() - states;
    let list = |name: &'static str, len: usize| match spec.attributes.ints(name)? {
        None => Ok(vec![0; len]),
        Some(all) if all.len() == len => Ok(all.to_vec()),
        Some(all) => Err(OpError::constraint(name, len, all.len())),
    };
    let (axes, directions, new_axes, orders) = match batched {
        true => (vec![0; count], list("directions", count)?, vec![0; outputs], vec![0; outputs]),
        false => (
            list("scan_input_axes", count)?,
            list("scan_input_directions", count)?,
            list("scan_output_axes", outputs)?,
            list("scan_output_directions", outputs)?,
        ),
    };
    let pair = |(axis, direction): (i64, i64)| match direction {
        0 | 1 => Ok((axis, direction == 1)),
        other => Err(OpError::constraint("direction", "0 or 1", other)),
    };
    let scanned = axes.into_iter().zip(directions).map(pair).collect::<Result<_, _>>()?;
    let yielded = new_axes.into_iter().zip(orders).map(pair).collect::<Result<_, _>>()?;
    Ok(Arc::new(Scan { body, states, scanned, yielded, batched }))
}

impl Scan {
    /// The number of slices of tensors with these dimensions.
    fn times(&self, scanned: &[&[usize]]) -> Result<usize, OpError> {
        let mut times = None;
        for (dims, (axis, _)) in scanned.iter().zip(&self.scanned) {
            let extent = dims[sizes::axis(*axis, dims.len())?];
            if times.is_some_and(|times| times != extent) {
                return Err(OpError::constraint("slices", "as many of each tensor", format!("{scanned:?}")));
            }
            times = Some(extent);
        }
        times.ok_or(OpError::Internal("a scan over nothing"))
    }

    /// The slice that an iteration takes.
    fn slice_at(iteration: usize, times: usize, from_end: bool) -> Result<i64, OpError> {
        let at = if from_end { times - 1 - iteration } else { iteration };
        i64::try_from(at).map_err(|_| OpError::Size)
    }

    /// The scan of one batch element; `given` are states, sliced tensors and captures.
    fn run(&self, given: &[Tensor], times: usize) -> Result<Vec<Tensor>, OpError> {
        let mut state = given.get(..self.states).ok_or(OpError::Internal("a state is missing"))?.to_vec();
        let (scanned, captures) = given[self.states..].split_at(self.scanned.len());
        let mut yielded: Vec<Vec<Tensor>> = vec![Vec::new(); self.yielded.len()];
        for iteration in 0..times {
            let mut given = std::mem::take(&mut state);
            for (tensor, (axis, from_end)) in scanned.iter().zip(&self.scanned) {
                let index = Tensor::scalar(Scan::slice_at(iteration, times, *from_end)?);
                let views = [Some(tensor.view()), Some(index.view())];
                given.extend(Gather { axis: *axis }.reference(&views, 1)?);
            }
            given.extend(captures.iter().cloned());
            let mut outputs = evaluate(&self.body, given)?.into_iter();
            state = outputs.by_ref().take(self.states).collect();
            yielded.iter_mut().zip(outputs).for_each(|(all, tensor)| all.push(tensor));
        }
        for (mut all, (axis, last_first)) in yielded.into_iter().zip(&self.yielded) {
            if *last_first {
                all.reverse();
            }
            state.push(match all.is_empty() {
                true => return Err(OpError::unsupported("a scan over no slices")),
                false => stacked(&all, *axis)?,
            });
        }
        Ok(state)
    }

    /// The scan of every batch element, put together along axis 0.
    fn run_batch(&self, given: &[Tensor], lengths: Option<Vec<i64>>) -> Result<Vec<Tensor>, OpError> {
        let own = self.states + self.scanned.len();
        let batch = given.first().and_then(|tensor| tensor.dims().first()).copied();
        let batch = batch.ok_or_else(|| OpError::constraint("rank", "1 or more", 0))?;
        let mut all: Vec<Vec<Tensor>> = vec![Vec::new(); self.body.outputs.len()];
        for element in 0..batch {
            let index = Tensor::scalar(i64::try_from(element).map_err(|_| OpError::Size)?);
            let mut one = Vec::with_capacity(given.len());
            for tensor in &given[..own] {
                one.extend(Gather { axis: 0 }.reference(&[Some(tensor.view()), Some(index.view())], 1)?);
            }
            one.extend(given[own..].iter().cloned());
            let dims: Vec<&[usize]> = one[self.states..own].iter().map(Tensor::dims).collect();
            let slices = self.times(&dims)?;
            let times = match &lengths {
                None => slices,
                Some(lengths) => {
                    let length = lengths.get(element).and_then(|&n| usize::try_from(n).ok());
                    length.filter(|&length| length <= slices).ok_or_else(|| {
                        OpError::constraint("sequence_lens", format!("{batch} up to {slices}"), "others")
                    })?
                }
            };
            let outputs = self.run(&one, times)?;
            for (index, (tensors, mut tensor)) in all.iter_mut().zip(outputs).enumerate() {
                if index >= self.states {
                    tensor = padded(tensor, slices)?;
                }
                tensors.push(tensor);
            }
        }
        all.iter().map(|tensors| stacked(tensors, 0)).collect()
    }
}

/// The tensor with zeros behind it, so that axis 0 has this extent.
fn padded(tensor: Tensor, extent: usize) -> Result<Tensor, OpError> {
    let mut dims = tensor.dims().to_vec();
    let missing = dims.first().map_or(0, |have| extent.saturating_sub(*have));
    if missing == 0 {
        return Ok(tensor);
    }
    dims[0] = missing;
    let zeros = Tensor::zeroed(tensor.dtype(), &dims)?;
    let views = [Some(tensor.view()), Some(zeros.view())];
    let joined = crate::movement::concat::Concat { axis: 0 }.reference(&views, 1)?;
    joined.into_iter().next().ok_or(OpError::Internal("Concat gave nothing"))
}

impl Operator for Scan {
    fn name(&self) -> &'static str {
        "Scan"
    }

    fn infer(&self, _inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        Err(OpError::Internal("a scan waits until it is unrolled or run"))
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        if self.batched {
            return Ok(Expansion::Waits);
        }
        let own = self.states + self.scanned.len();
        let facts = inputs.get(self.states..own).ok_or(OpError::Internal("an input is missing"))?;
        let dims: Option<Vec<Vec<usize>>> = facts.iter().map(|fact| fact.and_then(Fact::dims)).collect();
        let Some(dims) = dims else { return Ok(Expansion::Waits) };
        let times = self.times(&dims.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        if times == 0 || !fits(&self.body, times) {
            return Ok(Expansion::Waits);
        }
        let mut unrolled = Unrolled::new(&self.body, own);
        let mut state: Vec<ValueId> = (0..own).map(|index| unrolled.input(index)).collect();
        let scanned = state.split_off(self.states);
        let mut yielded: Vec<Vec<ValueId>> = vec![Vec::new(); self.yielded.len()];
        for iteration in 0..times {
            let mut given = state;
            for (value, (axis, from_end)) in scanned.iter().zip(&self.scanned) {
                let at = Tensor::scalar(Scan::slice_at(iteration, times, *from_end)?);
                let at = unrolled.graph.constant(at);
                given.push(unrolled.graph.node(Arc::new(Gather { axis: *axis }), &[*value, at]));
            }
            let mut outputs = unrolled.iterate(iteration, &given)?;
            for (all, value) in yielded.iter_mut().zip(outputs.split_off(self.states)) {
                all.push(value);
            }
            state = outputs;
        }
        for (mut all, (axis, last_first)) in yielded.into_iter().zip(&self.yielded) {
            if *last_first {
                all.reverse();
            }
            state.push(unrolled.stack(*axis, &all));
        }
        Ok(unrolled.graph.finish(&state))
    }

    fn expand_items(&self, inputs: &[Option<Item<&Fact>>]) -> Result<Expansion, OpError> {
        // States and what the body captures may be anything: only what is sliced is looked at.
        let own = self.states + self.scanned.len();
        all_tensors(inputs.get(self.states..own).ok_or(OpError::Internal("an input is missing"))?)?;
        let facts: Vec<Option<&Fact>> = inputs.iter().map(|item| item.as_ref()?.tensor().copied()).collect();
        self.expand(&facts)
    }

    fn wants_value(&self, _input: usize) -> bool {
        false
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        if self.batched {
            let lengths = sizes::optional(inputs, 0).map(|view| sizes::integers(&view, 0)).transpose()?;
            let given = inputs.get(1..).ok_or(OpError::Internal("a scan without inputs"))?;
            return self.run_batch(&tensors(given)?, lengths);
        }
        let given = tensors(inputs)?;
        let own = self.states + self.scanned.len();
        let scanned = given.get(self.states..own).ok_or(OpError::Internal("an input is missing"))?;
        let times = self.times(&scanned.iter().map(Tensor::dims).collect::<Vec<_>>())?;
        if times > 0 {
            return self.run(&given, times);
        }
        // One slice of zeros says in which type and shape the body would have yielded something.
        let mut one = given.clone();
        for (tensor, (axis, _)) in one[self.states..own].iter_mut().zip(&self.scanned) {
            let mut dims = tensor.dims().to_vec();
            let at = sizes::axis(*axis, dims.len())?;
            dims[at] = 1;
            *tensor = Tensor::zeroed(tensor.dtype(), &dims)?;
        }
        let plain = Scan { yielded: vec![(0, false); self.yielded.len()], ..self.clone() };
        let outputs = plain.run(&one, 1)?;
        let mut results = given[..self.states].to_vec();
        for (tensor, (axis, _)) in outputs[self.states..].iter().zip(&self.yielded) {
            let slice = tensor.reshaped(&tensor.dims()[1..])?;
            let empty = nothing_of(&slice)?;
            let mut dims = slice.dims().to_vec();
            dims.insert(sizes::axis(*axis, dims.len() + 1)?, 0);
            results.push(empty.reshaped(&dims)?);
        }
        Ok(results)
    }
}
