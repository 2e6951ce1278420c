//! Constants in a kernel's own order: made once, however many programs read them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use bytes::Bytes;

use crate::error::OpError;
use crate::ir::tensor::Tensor;

/// A constant in another order.
#[derive(Debug)]
pub(crate) struct Packed {
    data: Vec<f32>,
    /// What it was made of; while this lives, nothing else has its address.
    _source: Bytes,
}

impl Packed {
    /// The elements.
    pub fn data(&self) -> &[f32] {
        &self.data
    }
}

/// How a constant is reordered: the kernel's name, and every number that the order depends on.
pub(crate) type Form = (&'static str, [usize; 6]);

type Known = HashMap<(usize, usize, Form), Weak<Packed>>;

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// `source` in another order, from a kernel that still has it, or from `make`.
///
/// # Errors
/// Those of `make`.
pub(crate) fn shared(
    source: &Tensor,
    form: Form,
    make: impl FnOnce() -> Result<Vec<f32>, OpError>,
) -> Result<Arc<Packed>, OpError> {
    let bytes = source.shared_bytes();
    let key = (bytes.as_ptr() as usize, bytes.len(), form);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(packed) = known().get(&key).and_then(Weak::upgrade) {
        return Ok(packed);
    }
    let packed = Arc::new(Packed { data: make()?, _source: bytes });
    let mut known = known();
    known.retain(|_, packed| packed.strong_count() > 0);
    known.insert(key, Arc::downgrade(&packed));
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_is_packed_once_for_each_form() {
        let source = Tensor::from_vec(&[2], vec![1.0f32, 2.0]).unwrap();
        let pack = |form: usize| shared(&source, ("test", [form; 6]), || Ok(vec![form as f32])).unwrap();
        let (one, again, other) = (pack(1), pack(1), pack(2));
        assert!(Arc::ptr_eq(&one, &again) && !Arc::ptr_eq(&one, &other));
        assert_eq!((one.data(), other.data()), (&[1.0][..], &[2.0][..]));
        drop((one, again));
        let failed = shared(&source, ("test", [1; 6]), || Err(OpError::Size));
        assert!(failed.is_err(), "what nobody holds is gone");
    }
}
