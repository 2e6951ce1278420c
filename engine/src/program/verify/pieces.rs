//! What values stand for that no step writes, because the step that would have moved them does nothing.

use std::any::Any;

use sardonyx_ops::Role;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::movement::concat::Concat;
use sardonyx_ops::movement::layout::Layout;
use sardonyx_ops::plan::PlanStep;

use super::super::place::{Placed, problem};
use super::Verifier;
use super::memory::{Owned, Owner};

/// Elements in a row that a step wrote as a part of this value.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    len: usize,
    owner: usize,
}

/// The pieces of so many elements from `offset` on.
fn cut(pieces: &[Piece], offset: usize, len: usize) -> Vec<Piece> {
    let (mut at, end) = (0, offset + len);
    let mut found = Vec::new();
    for piece in pieces {
        let (from, to) = (at.max(offset), (at + piece.len).min(end));
        if from < to {
            found.push(Piece { len: to - from, ..*piece });
        }
        at += piece.len;
    }
    found
}

impl Verifier<'_> {
    /// Notes what the results of steps stand for that do nothing.
    pub(super) fn leave_out(&mut self) -> Result<(), String> {
        let nothing = |(_, placed): &(&PlanStep, &Placed)| matches!(placed, Placed::View);
        for (step, _) in self.steps.iter().zip(self.placed).filter(nothing) {
            let no_view = || format!("{} does nothing, and is no view", step.name());
            if step.op.role() == Role::View {
                continue;
            }
            let outputs = step.outputs.iter().enumerate().filter_map(|(index, id)| Some((index, (*id)?)));
            for (index, output) in outputs {
                let pieces = if (step.op.as_ref() as &dyn Any).is::<Concat>() {
                    let inputs = step.inputs.iter().flatten().map(|&id| self.pieces_of(id));
                    inputs.collect::<Result<Vec<_>, _>>()?.concat()
                } else {
                    let &input = step.inputs.first().and_then(Option::as_ref).ok_or_else(no_view)?;
                    let problem = problem(&self.program.values, step, &[], &|_| None);
                    let map = step.op.moves(&problem, index).ok_or_else(no_view)?;
                    let lies = Layout::dense(self.len(input)).through(&map).ok_or_else(no_view)?;
                    if lies.factors != Layout::dense(self.len(output)).factors {
                        return Err(no_view());
                    }
                    cut(&self.pieces_of(input)?, lies.offset, self.len(output))
                };
                if pieces.iter().map(|piece| piece.len).sum::<usize>() != self.len(output) {
                    return Err(no_view());
                }
                self.stands_for.insert(output.0, pieces);
            }
        }
        Ok(())
    }

    pub(super) fn len(&self, id: ValueId) -> usize {
        self.program.values[id.0].dims.iter().product()
    }

    /// Whose elements a value is.
    fn pieces_of(&self, id: ValueId) -> Result<Vec<Piece>, String> {
        let root = self.root(id)?;
        let itself = || vec![Piece { len: self.len(root), owner: root.0 }];
        Ok(self.stands_for.get(&root.0).cloned().unwrap_or_else(itself))
    }

    /// The ranges of a value that begins at `start`, with whose they are; `bytes` says how much so many elements take.
    pub(super) fn owned(
        &self,
        id: ValueId,
        start: u64,
        bytes: impl Fn(usize) -> u64,
    ) -> Result<Vec<Owned>, String> {
        let mut at = start;
        let range = |piece: Piece| {
            let (from, bytes) = (at, bytes(piece.len));
            at = at.saturating_add(bytes);
            (from, bytes, Owner::Value(piece.owner))
        };
        Ok(self.pieces_of(id)?.into_iter().map(range).collect())
    }

    /// The same of a value on the host that is neither the caller's nor the model's.
    pub(super) fn owned_on_host(&self, id: ValueId) -> Result<Option<Vec<Owned>>, String> {
        let Some((start, _)) = self.host_range(id)? else { return Ok(None) };
        let dtype = self.program.values[id.0].dtype;
        self.owned(id, start, |len| dtype.bytes_for(len).unwrap_or(0) as u64).map(Some)
    }
}
