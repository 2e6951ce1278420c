//! Values that are no tensors: sequences and optionals, which planning takes apart.

/// A value: one tensor, or made of others. `T` stands for the tensor: itself, its place in a graph, what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Item<T> {
    /// A tensor.
    Tensor(T),
    /// Values in order.
    Sequence(Vec<Item<T>>),
    /// A value or none.
    Optional(Option<Box<Item<T>>>),
}

/// Where a tensor is found in the inputs of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The input.
    pub input: usize,
    /// Which of its tensors, counted through all that it is made of.
    pub tensor: usize,
}

impl<T> Item<T> {
    /// The tensor, if it is one.
    pub fn tensor(&self) -> Option<&T> {
        match self {
            Item::Tensor(tensor) => Some(tensor),
            Item::Sequence(_) | Item::Optional(_) => None,
        }
    }

    /// The tensors that it is made of, in order.
    pub fn tensors(&self) -> Vec<&T> {
        let mut all = Vec::new();
        self.map(&mut |tensor| all.push(tensor));
        all
    }

    /// The same with other things in place of the tensors.
    pub fn map<'a, U>(&'a self, with: &mut dyn FnMut(&'a T) -> U) -> Item<U> {
        match self {
            Item::Tensor(tensor) => Item::Tensor(with(tensor)),
            Item::Sequence(members) => {
                Item::Sequence(members.iter().map(|member| member.map(&mut *with)).collect())
            }
            Item::Optional(value) => {
                Item::Optional(value.as_ref().map(|value| Box::new(value.map(&mut *with))))
            }
        }
    }

    /// The same with other things in place of the tensors, where there are such for all.
    ///
    /// # Errors
    /// The first of `with`'s.
    pub fn try_map<'a, U, E>(&'a self, with: &mut dyn FnMut(&'a T) -> Result<U, E>) -> Result<Item<U>, E> {
        Ok(match self {
            Item::Tensor(tensor) => Item::Tensor(with(tensor)?),
            Item::Sequence(members) => {
                let members = members.iter().map(|member| member.try_map(&mut *with));
                Item::Sequence(members.collect::<Result<_, E>>()?)
            }
            Item::Optional(None) => Item::Optional(None),
            Item::Optional(Some(value)) => Item::Optional(Some(Box::new(value.try_map(with)?))),
        })
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Item::Tensor(_) => "a tensor",
            Item::Sequence(_) => "a sequence",
            Item::Optional(_) => "an optional",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_counted_through() {
        let pair = Item::Sequence(vec![Item::Tensor('a'), Item::Tensor('b')]);
        let item = Item::Sequence(vec![Item::Optional(Some(Box::new(pair))), Item::Optional(None)]);
        assert_eq!(item.tensors(), [&'a', &'b']);
        let upper = item.map(&mut char::to_ascii_uppercase);
        assert_eq!((upper.tensors(), upper.kind()), (vec![&'A', &'B'], "a sequence"));
        assert_eq!(item.try_map(&mut |c| if *c == 'b' { Err(*c) } else { Ok(()) }), Err('b'));
        assert_eq!(Item::Tensor(1).tensor(), Some(&1));
    }
}
