//! What the operators over sequences have in common: they are taken apart, never run.

use std::any::Any;
use std::fmt::Debug;

use crate::compose::Composition;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::graph::ValueId;
use crate::ir::item::{Item, Part};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Expansion, Operator};

/// The most members of a sequence.
pub(super) const MOST: usize = 4096;

/// What is known of the inputs of an operator.
pub(super) type Given<'a, 'f> = &'a [Option<Item<&'f Fact>>];

/// An operator that planning takes apart.
pub(super) trait Dissolving: Any + Debug + Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// What it stands for.
    fn dissolve(&self, inputs: Given<'_, '_>) -> Result<Expansion, OpError>;

    /// The input whose contents say what it stands for: a position, lengths.
    fn place(&self) -> Option<usize> {
        None
    }
}

/// A use of an operator that planning takes apart.
#[derive(Debug)]
pub(super) struct Dissolved<T>(pub(super) T);

impl<T: Dissolving> Operator for Dissolved<T> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn infer(&self, _inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        Err(OpError::Internal("a sequence was not taken apart"))
    }

    fn reference(&self, _inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        Err(OpError::unsupported("a sequence whose members a run would find out"))
    }

    fn expand_items(&self, inputs: Given<'_, '_>) -> Result<Expansion, OpError> {
        self.0.dissolve(inputs)
    }

    fn gives_items(&self) -> bool {
        true
    }

    fn wants_value(&self, input: usize) -> bool {
        self.0.place() == Some(input)
    }
}

/// What input `index` is made of, as parts.
pub(crate) fn parts(inputs: Given<'_, '_>, index: usize) -> Result<Item<Part>, OpError> {
    let mut tensor = 0;
    let item = given(inputs, index)?.map(&mut |_| {
        tensor += 1;
        Part { input: index, tensor: tensor - 1 }
    });
    Ok(item)
}

/// Input `index`.
pub(super) fn given<'a, 'f>(inputs: Given<'a, 'f>, index: usize) -> Result<&'a Item<&'f Fact>, OpError> {
    inputs.get(index).and_then(Option::as_ref).ok_or(OpError::Arity {
        what: "inputs",
        expected: "all that the operator requires",
        got: inputs.len(),
    })
}

/// The members of a sequence.
pub(super) fn members<T>(item: Item<T>) -> Result<Vec<Item<T>>, OpError> {
    match item {
        Item::Sequence(members) => Ok(members),
        other => Err(OpError::constraint("an input", "a sequence", other.kind())),
    }
}

/// Refuses longer sequences than any model needs.
pub(super) fn check_length(members: usize) -> Result<(), OpError> {
    if members > MOST {
        return Err(OpError::unsupported(format!("a sequence of more than {MOST} members")));
    }
    Ok(())
}

/// The place that the scalar of input `index` names in a sequence of `members`, negative ones counted from the end and
/// `last` among the places; `None` while its contents are not known.
pub(super) fn position(
    inputs: Given<'_, '_>,
    index: usize,
    members: usize,
    last: usize,
) -> Result<Option<usize>, OpError> {
    let Item::Tensor(fact) = given(inputs, index)? else {
        return Err(OpError::constraint("position", "a tensor", "another value"));
    };
    crate::movement::sizes::expect_indices(fact.dtype, index)?;
    if fact.value.is_none() {
        return Ok(None);
    }
    let place = match fact.integers().as_deref() {
        Some([place]) => *place,
        _ => return Err(OpError::constraint("position", "one integer", format!("{:?}", fact.shape))),
    };
    let from_start = if place < 0 { i64::try_from(members).ok().map(|n| n + place) } else { Some(place) };
    let place_of = from_start.and_then(|place| usize::try_from(place).ok()).filter(|&place| place <= last);
    let expected = || format!("within a sequence of {members} members");
    place_of.map(Some).ok_or_else(|| OpError::constraint("position", expected(), place))
}

/// A graph that gives one constant.
pub(super) fn constant(tensor: Tensor) -> Expansion {
    let mut graph = Composition::default();
    let value = graph.constant(tensor);
    graph.finish(&[value])
}

/// Input `index` of a node in a graph that stands for it, whatever it is.
pub(super) fn input(graph: &mut Composition, index: usize) -> ValueId {
    graph.input(index, &Fact::unranked(crate::DType::F32))
}
