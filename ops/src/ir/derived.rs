//! What is made of constants once, however many programs read it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use super::tensor::Tensor;

/// What was made of a constant.
#[derive(Debug)]
pub struct Made<T> {
    value: T,
    /// The constant's bytes; while this lives, nothing else has their address.
    _source: Bytes,
}

impl<T> Made<T> {
    /// It.
    pub fn value(&self) -> &T {
        &self.value
    }
}

/// What was made of constants and is held by somebody: by address and length of their bytes, and by what tells apart
/// the forms that one constant is made into.
#[derive(Debug)]
pub struct Derived<F, T>(Mutex<Known<F, T>>);

type Known<F, T> = HashMap<(usize, usize, F), Weak<Made<T>>>;

impl<F, T> Default for Derived<F, T> {
    fn default() -> Derived<F, T> {
        Derived(Mutex::default())
    }
}

impl<F: Eq + Hash, T> Derived<F, T> {
    /// What `source` becomes in this form: from somebody who holds it, or from `make`.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn of<E>(
        &self,
        source: &Tensor,
        form: F,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<Made<T>>, E> {
        let bytes = source.shared_bytes();
        let key = (bytes.as_ptr() as usize, bytes.len(), form);
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = known().get(&key).and_then(Weak::upgrade) {
            return Ok(made);
        }
        // Others go on meanwhile. Of two who made the same, one drops it.
        let made = Arc::new(Made { value: make()?, _source: bytes });
        let mut known = known();
        if let Some(made) = known.get(&key).and_then(Weak::upgrade) {
            return Ok(made);
        }
        known.retain(|_, made| made.strong_count() > 0);
        known.insert(key, Arc::downgrade(&made));
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_is_made_once_into_each_form() {
        let known = Derived::default();
        let source = Tensor::from_vec(&[2], vec![1.0f32, 2.0]).unwrap();
        let make = |form: usize| known.of(&source, form, || Ok::<_, ()>(form)).unwrap();
        let (one, again, other) = (make(1), make(1), make(2));
        assert!(Arc::ptr_eq(&one, &again) && !Arc::ptr_eq(&one, &other));
        assert_eq!((one.value(), other.value()), (&1, &2));
        let twin = Tensor::from_vec(&[2], vec![1.0f32, 2.0]).unwrap();
        assert!(!Arc::ptr_eq(&one, &known.of(&twin, 1, || Ok::<_, ()>(1)).unwrap()), "other bytes");
        drop((one, again));
        assert_eq!(known.of(&source, 1, || Err("made again")).err(), Some("made again"));
    }
}
