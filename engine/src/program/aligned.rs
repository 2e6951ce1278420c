//! Constants on the host at addresses that kernels can read. In a mapped file they may lie anywhere; then they are copied, once for
//! all programs that read them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use bytes::Bytes;
use sardonyx_ops::Tensor;

/// A copy of a constant.
struct Copied {
    bytes: Bytes,
    /// What it was copied from; while this lives, nothing else has its address.
    _source: Bytes,
}

struct Owner(Arc<Copied>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

/// Copies that something still reads, by address and length of what they were copied from.
type Known = HashMap<(usize, usize), Weak<Copied>>;

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// A tensor with its bytes aligned to 8: itself, or a copy.
pub(super) fn aligned(tensor: Tensor) -> Tensor {
    let source = tensor.shared_bytes();
    let key = (source.as_ptr() as usize, source.len());
    let (dtype, dims) = (tensor.dtype(), tensor.dims().to_vec());
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let there = known().get(&key).and_then(Weak::upgrade);
    let copied = there.unwrap_or_else(|| {
        let bytes = tensor.clone().aligned().shared_bytes();
        Arc::new(Copied { bytes, _source: source.clone() })
    });
    if copied.bytes.as_ptr() == source.as_ptr() {
        return tensor;
    }
    let mut known = known();
    if !known.contains_key(&key) {
        known.retain(|_, copied| copied.strong_count() > 0);
    }
    known.insert(key, Arc::downgrade(&copied));
    drop(known);
    Tensor::from_bytes(dtype, &dims, Bytes::from_owner(Owner(copied))).unwrap_or(tensor)
}

#[cfg(test)]
mod tests {
    use sardonyx_ops::DType;

    use super::*;

    #[test]
    fn what_lies_across_words_is_copied_once() {
        let bytes = Bytes::from_owner(vec![1u8; 65]);
        let from = if (bytes.as_ptr() as usize).is_multiple_of(8) { 1 } else { 0 };
        let odd = |len: usize| Tensor::from_bytes(DType::U8, &[len], bytes.slice(from..from + len)).unwrap();
        let address = |tensor: &Tensor| tensor.bytes().as_ptr() as usize;
        let (one, two, other) = (aligned(odd(33)), aligned(odd(33)), aligned(odd(17)));
        assert_eq!((one.bytes(), one.dims()), (&[1u8; 33][..], &[33][..]));
        assert!(address(&one).is_multiple_of(8) && address(&one) == address(&two));
        assert_ne!(address(&one), address(&other));
        let even = aligned(one.clone());
        assert_eq!(address(&even), address(&one), "what is aligned stays");
    }
}
