//! Values that lie within others. What a concatenation joins is written where the result lies, and what a split or a slice takes
//! out is read where it lies: then such a step moves nothing, and does nothing.

use std::any::Any;
use std::collections::{HashMap, HashSet};

use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::movement::concat::Concat;
use sardonyx_ops::movement::layout::Layout;
use sardonyx_ops::plan::{Plan, PlanStep, PlanValue};
use sardonyx_shaders::Capabilities;

use super::LINE;
use super::place::{Layouts, Placed, problem};

/// Which values lie within which. All are roots, see [`super::schedule::roots`].
#[derive(Default)]
pub(super) struct Parts {
    /// The value that one lies within, and from which element on.
    within: HashMap<ValueId, (ValueId, usize)>,
    /// What a value is made of, which no step writes.
    joined: HashMap<ValueId, Vec<ValueId>>,
    /// Values that no step writes, because they are taken out of others.
    taken: HashSet<ValueId>,
    /// How many values are to be asked whether a value is there; 1 where it is not listed.
    asked: HashMap<ValueId, usize>,
}

/// Most values to be asked for one.
const ASKED: usize = 1024;

impl Parts {
    /// The value that has the memory, and the element of it that a value begins at.
    pub(super) fn holder(&self, root: ValueId) -> (ValueId, usize) {
        let (mut at, mut offset) = (root, 0);
        while let Some(&(whole, from)) = self.within.get(&at) {
            (at, offset) = (whole, offset + from);
        }
        (at, offset)
    }

    /// Gives a value the memory of another one, which nobody wants any more when it is written.
    pub(super) fn put(&mut self, root: ValueId, over: ValueId) {
        self.within.insert(root, (over, 0));
    }

    fn asked(&self, root: ValueId) -> usize {
        self.asked.get(&root).copied().unwrap_or(1)
    }

    /// Whether a value shares bytes with another one: a host cannot bind it elsewhere then.
    pub(super) fn shares(&self, root: ValueId) -> bool {
        self.within.contains_key(&root) || self.within.values().any(|(whole, _)| *whole == root)
    }

    /// Whether `there` holds for everything that steps write of a value.
    pub(super) fn all(&self, root: ValueId, there: &dyn Fn(ValueId) -> bool) -> bool {
        match (self.joined.get(&root), self.within.get(&root)) {
            (Some(parts), _) => parts.iter().all(|&part| self.all(part, there)),
            (None, Some(&(whole, _))) if self.taken.contains(&root) => self.all(whole, there),
            _ => there(root),
        }
    }
}

/// A part is whole groups of four elements of any type, unless it is the last one.
const GROUP: u64 = 32;

/// Finds the steps that need not move anything, and makes views of them. A part begins where the device can bind it, and at a line
/// on the host.
pub(super) fn find(
    plan: &Plan,
    placed: &mut [Placed],
    roots: &[ValueId],
    layouts: Layouts,
    caps: Option<&Capabilities>,
) -> Parts {
    let alignment = caps.map_or(GROUP, |caps| u64::from(caps.offset_alignment).max(GROUP));
    let kept = plan.inputs.iter().map(|id| roots[id.0]).collect();
    let mut search =
        Search { plan, roots, layouts, alignment, kept, written: HashMap::new(), parts: Parts::default() };
    for (step, placed) in plan.steps.iter().zip(placed) {
        let on_device = match placed {
            Placed::View => continue,
            Placed::Device(..) => true,
            Placed::Cpu { .. } => false,
        };
        if step.epilogue.is_none()
            && (search.join(step, on_device).is_some() || search.take(step, on_device).is_some())
        {
            *placed = Placed::View;
        }
        let outputs = step.outputs.iter().flatten().map(|id| (roots[id.0], on_device));
        search.written.extend(outputs);
    }
    search.parts
}

struct Search<'a> {
    plan: &'a Plan,
    roots: &'a [ValueId],
    layouts: Layouts,
    alignment: u64,
    /// What a caller gives lies where the caller says.
    kept: HashSet<ValueId>,
    /// What is written so far, and whether on the device.
    written: HashMap<ValueId, bool>,
    parts: Parts,
}

impl Search<'_> {
    fn value(&self, id: ValueId) -> &PlanValue {
        &self.plan.values[id.0]
    }

    fn len(&self, id: ValueId) -> usize {
        self.value(id).dims.iter().product()
    }

    fn root(&self, id: Option<ValueId>) -> Option<ValueId> {
        Some(self.roots[id?.0])
    }

    /// Whether a part may begin at an element of a value.
    fn aligned(&self, whole: ValueId, offset: usize, on_device: bool) -> bool {
        let value = self.value(whole);
        let (bytes, alignment) = match on_device {
            true => (self.layouts.storage(value).map(|storage| storage.bytes()), self.alignment),
            false => (Some(value.dtype.bits() / 8), LINE),
        };
        let at = bytes.filter(|&bytes| bytes > 0).and_then(|bytes| offset.checked_mul(bytes));
        at.is_some_and(|at| (at as u64).is_multiple_of(alignment))
    }

    /// A value that steps write on this side, and whose place is free to choose.
    fn is_free(&self, root: ValueId, on_device: bool) -> bool {
        self.written.get(&root) == Some(&on_device) && !self.kept.contains(&root) && self.len(root) > 0
    }

    /// Puts what a step joins where its result lies. `None` when it has to copy.
    fn join(&mut self, step: &PlanStep, on_device: bool) -> Option<()> {
        let concat = (step.op.as_ref() as &dyn Any).downcast_ref::<Concat>()?;
        let &[Some(whole)] = step.outputs.as_slice() else { return None };
        let dims = &self.value(whole).dims;
        let rank = i64::try_from(dims.len()).ok()?;
        let axis = if concat.axis < 0 { concat.axis + rank } else { concat.axis };
        let outer = dims.get(..usize::try_from(axis).ok()?)?;
        if self.kept.contains(&whole) || outer.iter().any(|&n| n != 1) {
            return None;
        }
        let layout = |id: ValueId| (self.value(id).dtype, self.layouts.storage(self.value(id)));
        let (mut parts, mut offset) = (Vec::new(), 0);
        let mut inputs = step.inputs.iter();
        while let Some(&input) = inputs.next() {
            let mut part = self.root(input)?;
            // All parts of a value, one after the other, are that value.
            if let Some(&(source, 0)) = self.parts.within.get(&part) {
                let mut end = self.len(part);
                while end < self.len(source) {
                    let next = self.root(*inputs.next()?)?;
                    let follows = self.parts.within.get(&next) == Some(&(source, end));
                    end += follows.then(|| self.len(next))?;
                }
                part = source;
            }
            let new = !self.parts.within.contains_key(&part) && parts.iter().all(|&(other, _)| other != part);
            let fits = layout(part) == layout(whole) && self.aligned(whole, offset, on_device);
            if !new || !fits || !self.is_free(part, on_device) {
                return None;
            }
            parts.push((part, offset));
            offset += self.len(part);
        }
        let asked = 1 + parts.iter().map(|&(part, _)| self.parts.asked(part)).sum::<usize>();
        if asked > ASKED {
            return None;
        }
        self.parts.asked.insert(whole, asked);
        self.parts.joined.insert(whole, parts.iter().map(|&(part, _)| part).collect());
        self.parts.within.extend(parts.into_iter().map(|(part, offset)| (part, (whole, offset))));
        Some(())
    }

    /// Leaves what a step takes out of a value where it lies. `None` when it has to copy.
    fn take(&mut self, step: &PlanStep, on_device: bool) -> Option<()> {
        let source = self.root(*step.inputs.first()?).filter(|&source| self.is_free(source, on_device))?;
        let storage = |value: &PlanValue| self.layouts.storage(value);
        let problem = problem(&self.plan.values, step, &[], &storage);
        let (len, mut taken) = (self.len(source), Vec::new());
        for (index, &output) in step.outputs.iter().enumerate() {
            let Some(part) = output else { continue };
            let lies = Layout::dense(len).through(&step.op.moves(&problem, index)?)?;
            let whole = lies.factors == Layout::dense(self.len(part)).factors;
            if !whole || self.kept.contains(&part) || !self.aligned(source, lies.offset, on_device) {
                return None;
            }
            taken.push((part, (source, lies.offset)));
        }
        let asked = 1 + self.parts.asked(source);
        if asked > ASKED {
            return None;
        }
        self.parts.asked.extend(taken.iter().map(|&(part, _)| (part, asked)));
        self.parts.taken.extend(taken.iter().map(|&(part, _)| part));
        self.parts.within.extend(taken);
        Some(())
    }
}
