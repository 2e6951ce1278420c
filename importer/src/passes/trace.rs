//! Looking backwards through a plan: who writes a value, what is computed there, and where its elements come from.

use std::any::Any;
use std::collections::HashMap;

use sardonyx_ops::Role;
use sardonyx_ops::attention::Spot;
use sardonyx_ops::expr::ExprNode;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::movement::layout::{Factor, Layout};
use sardonyx_ops::movement::strided::Strided;
use sardonyx_ops::plan::{Plan, PlanStep};
use sardonyx_ops::problem::{Operand, Problem};
use sardonyx_ops::reduce::{Axes, Kind, Reduce};

use super::dims;
use super::pointwise_form::number;

/// A plan with its steps by what they write and read.
pub(super) struct Trace<'a> {
    plan: &'a Plan,
    writers: HashMap<ValueId, (usize, usize)>,
    readers: HashMap<ValueId, Vec<usize>>,
}

impl<'a> Trace<'a> {
    pub fn new(plan: &'a Plan) -> Trace<'a> {
        let mut trace = Trace { plan, writers: HashMap::new(), readers: HashMap::new() };
        for (index, step) in plan.steps.iter().enumerate() {
            for (output, id) in step.outputs.iter().enumerate() {
                trace.writers.extend(id.map(|id| (id, (index, output))));
            }
            for id in step.reads() {
                let readers = trace.readers.entry(id).or_default();
                if readers.last() != Some(&index) {
                    readers.push(index);
                }
            }
        }
        trace
    }

    /// The step that writes a value, unless something is fused into it.
    pub fn writer(&self, id: ValueId) -> Option<&'a PlanStep> {
        let (index, _) = self.writers.get(&id)?;
        self.plan.steps.get(*index).filter(|step| step.epilogue.is_none())
    }

    /// The only step that reads a value, and where it stands; `None` when the plan gives the value away as well.
    pub fn reader(&self, id: ValueId) -> Option<(usize, &'a PlanStep)> {
        match self.readers.get(&id)?.as_slice() {
            &[only] if !self.plan.outputs.contains(&id) => Some((only, self.plan.steps.get(only)?)),
            _ => None,
        }
    }

    /// How many steps read a value; giving it away counts as one more.
    pub fn reads(&self, id: ValueId) -> usize {
        let steps = self.readers.get(&id).map_or(0, Vec::len);
        steps + self.plan.outputs.iter().filter(|output| **output == id).count()
    }

    /// The function that a value is the result of, and its arguments.
    pub fn call(&self, id: ValueId) -> Option<(&'static str, Vec<ValueId>)> {
        call(self.writer(id)?)
    }

    /// What a value is the sum, mean, ... of, and which dimensions of it became 1.
    pub fn reduced(&self, id: ValueId, kind: Kind) -> Option<(ValueId, Vec<bool>)> {
        let step = self.writer(id)?;
        let reduce = (step.op.as_ref() as &dyn Any).downcast_ref::<Reduce>()?;
        let x = step.inputs.first().copied().flatten()?;
        if reduce.kind != kind || !reduce.reduced.keepdims {
            return None;
        }
        let given = match &reduce.reduced.axes {
            Axes::Input => {
                let axes =
                    self.plan.values.get(step.inputs.get(1).copied().flatten()?.0)?.constant.as_ref()?;
                axes.clone().aligned().to_vec::<i64>().ok()?
            }
            _ => Vec::new(),
        };
        Some((x, reduce.reduced.mask(dims(self.plan, x).len(), &given).ok()?))
    }

    /// The value of which this is another number format.
    pub fn uncast(&self, id: ValueId) -> ValueId {
        self.writer(id).and_then(cast).unwrap_or(id)
    }

    /// The number that a constant of one element holds.
    pub fn scalar(&self, id: ValueId) -> Option<f64> {
        number(self.plan.values.get(id.0)?.constant.as_ref().filter(|tensor| tensor.len() == 1)?)
    }

    /// The value that the elements of another one were moved out of, and where they lie in it.
    pub fn source(&self, id: ValueId) -> (ValueId, Layout) {
        // A longer way is cut: what lies behind is then the source.
        const MOST: usize = 64;
        let dtype = |id: ValueId| self.plan.values.get(id.0).map(|value| value.dtype);
        let len = |id: ValueId| dims(self.plan, id).iter().product();
        let (mut at, mut way) = (id, Vec::new());
        while way.len() < MOST {
            let Some((step, output)) = self.writers.get(&at).copied() else { break };
            let Some(step) = self.plan.steps.get(step).filter(|step| step.epilogue.is_none()) else { break };
            let Some(from) = step.inputs.first().copied().flatten() else { break };
            let map = match step.op.role() {
                Role::View => None,
                _ => match step.op.moves(&problem(self.plan, step), output) {
                    Some(map) => Some(map),
                    None => break,
                },
            };
            if dtype(from) != dtype(at) {
                break;
            }
            way.push((at, map));
            at = from;
        }
        let (mut root, mut layout) = (at, Layout::dense(len(at)));
        for (value, map) in way.into_iter().rev() {
            let moved = map.map_or(Some(layout.clone()), |map| layout.through(&map));
            (root, layout) = match moved {
                Some(moved) => (root, moved),
                None => (value, Layout::dense(len(value))),
            };
        }
        (root, layout)
    }

    /// Where the coordinates of a spot in a value really lie, when that is in another value: this one, the first element, and
    /// the runs of each coordinate.
    pub fn runs(&self, id: ValueId, spot: &Spot, extents: [usize; 4]) -> Option<Found> {
        let (root, layout) = self.source(id);
        let steps: Vec<isize> = spot.strides.iter().map(|&stride| stride as isize).collect();
        let map = Strided::new(&extents, &steps, spot.offset, dims(self.plan, id).iter().product()).ok()?;
        let layout = layout.through(&map)?;
        (root != id).then_some((root, layout.offset, layout.split(&extents)?))
    }

    /// A spot where its elements really lie, and the value that has them.
    pub fn spot(&self, id: ValueId, spot: &Spot, extents: [usize; 4]) -> (ValueId, Spot) {
        let found = self.runs(id, spot, extents);
        let moved = found.and_then(|(root, offset, runs)| Some((root, spot_of(offset, &runs)?)));
        moved.unwrap_or((id, *spot))
    }
}

/// A value, the element that comes first, and the runs of four coordinates.
pub(super) type Found = (ValueId, usize, Vec<Vec<Factor>>);

/// The spot of runs that are one for each coordinate.
pub(super) fn spot_of(offset: usize, runs: &[Vec<Factor>]) -> Option<Spot> {
    let mut spot = Spot { offset, strides: [0; 4] };
    for (slot, runs) in spot.strides.iter_mut().zip(runs) {
        *slot = match runs.as_slice() {
            [] => 0,
            [only] => only.stride,
            _ => return None,
        };
    }
    Some(spot)
}

/// The function that a step calls, and its arguments, when that is all it does.
pub(super) fn call(step: &PlanStep) -> Option<(&'static str, Vec<ValueId>)> {
    let expr = step.op.expression().filter(|expr| expr.results.len() == 1 && step.epilogue.is_none())?;
    let inputs: Vec<ValueId> = step.inputs.iter().flatten().copied().collect();
    let ExprNode::Call { function, args, .. } = expr.nodes.get(*expr.results.first()?)? else { return None };
    let operand = |&arg: &usize| match expr.nodes.get(arg)? {
        ExprNode::Operand(index) => inputs.get(*index).copied(),
        _ => None,
    };
    Some((function.name, args.iter().map(operand).collect::<Option<_>>()?))
}

/// What a step converts to another float type, when that is all it does.
pub(super) fn cast(step: &PlanStep) -> Option<ValueId> {
    let expr = step.op.expression().filter(|expr| expr.results.len() == 1 && step.epilogue.is_none())?;
    let ExprNode::Cast { arg, to } = expr.nodes.get(*expr.results.first()?)? else { return None };
    match expr.nodes.get(*arg)? {
        ExprNode::Operand(0) if to.is_float() => step.inputs.first().copied().flatten(),
        _ => None,
    }
}

/// A step as a problem for no device in particular.
pub(super) fn problem<'p>(plan: &'p Plan, step: &PlanStep) -> Problem<'p> {
    let operand = |id: &ValueId| {
        let value = plan.values.get(id.0)?;
        Some(Operand { dtype: value.dtype, dims: &value.dims, value: value.constant.as_ref(), storage: None })
    };
    Problem {
        inputs: step.inputs.iter().map(|id| id.as_ref().and_then(operand)).collect(),
        outputs: step.outputs.iter().flatten().filter_map(operand).collect(),
        epilogue: None,
    }
}
