//! Lets convolutions pad their input themselves where a step before them adds zeros: exporters from TensorFlow write it so.

use std::any::Any;
use std::sync::Arc;

use sardonyx_ops::Operator;
use sardonyx_ops::conv::conv::Conv;
use sardonyx_ops::conv::window::{Padding, Window};
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::movement::pad::Pad;
use sardonyx_ops::plan::{Plan, PlanStep};
use sardonyx_ops::pool::average_pool::AveragePool;
use sardonyx_ops::pool::window::{self as pool, AutoPad};

use super::trace::{Trace, problem};
use super::{Report, replace};

pub(super) fn run(plan: &mut Plan, report: &mut Report) {
    let trace = Trace::new(plan);
    let mut found = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let input = step.inputs.first().copied().flatten();
        let Some(pad) = input.and_then(|id| trace.writer(id)) else { continue };
        let Some(op) = (pad.op.as_ref() as &dyn Any).downcast_ref::<Pad>() else { continue };
        match wider(plan, step, pad, op) {
            Some((op, x)) => {
                let mut new = PlanStep { op, ..step.clone() };
                new.inputs.iter_mut().take(1).for_each(|slot| *slot = Some(x));
                new.nodes.extend(pad.nodes.iter().cloned());
                report.fused(&new);
                found.push((index, new));
            }
            None => {
                report.declined(step, format!("{} does more than adding zeros around a window", pad.name()))
            }
        }
    }
    replace(plan, found);
}

/// The operator that pads by itself, and what it reads then.
fn wider(plan: &Plan, step: &PlanStep, pad: &PlanStep, op: &Pad) -> Option<(Arc<dyn Operator>, ValueId)> {
    let zeros = op.zeros(&problem(plan, pad))?;
    let x = pad.inputs.first().copied().flatten()?;
    // Batches and channels have no window.
    let (outer, spatial) = zeros.split_at_checked(2)?;
    if outer.iter().any(|&sides| sides != (0, 0)) {
        return None;
    }
    let own = step.op.as_ref() as &dyn Any;
    if let Some(Conv { window, groups }) = own.downcast_ref() {
        let rank = spatial.len();
        let pads = match &window.padding {
            Padding::Explicit(_) | Padding::Valid => (0..rank).map(|axis| window.pads(axis, rank)),
            Padding::SameUpper | Padding::SameLower => return None,
        };
        let padding = Padding::Explicit(sum(pads, spatial)?);
        return Some((Arc::new(Conv { window: Window { padding, ..window.clone() }, groups: *groups }), x));
    }
    let AveragePool { window, include_pad } = own.downcast_ref()?;
    // The zeros counted; so must all padding, and a window that begins behind it would not.
    let counts = *include_pad || window.pads.iter().all(|&n| n == 0);
    if !counts || window.ceil || !matches!(window.auto_pad, AutoPad::NotSet | AutoPad::Valid) {
        return None;
    }
    let (before, after) = window.pads.split_at_checked(spatial.len())?;
    let pads = before.iter().copied().zip(after.iter().copied());
    let window = pool::Window { pads: sum(pads, spatial)?, auto_pad: AutoPad::NotSet, ..window.clone() };
    Some((Arc::new(AveragePool { window, include_pad: true }), x))
}

/// Sums of paddings before each axis, then after each.
fn sum(own: impl Iterator<Item = (usize, usize)>, more: &[(usize, usize)]) -> Option<Vec<usize>> {
    // Further than any window reaches.
    const MOST: usize = 1 << 20;
    let both = |(own, more): ((usize, usize), &(usize, usize))| {
        Some((own.0.checked_add(more.0)?, own.1.checked_add(more.1)?))
    };
    let sides: Vec<(usize, usize)> = own.zip(more).map(both).collect::<Option<_>>()?;
    let pads: Vec<usize> = sides.iter().map(|side| side.0).chain(sides.iter().map(|side| side.1)).collect();
    pads.iter().all(|&n| n <= MOST).then_some(pads)
}
