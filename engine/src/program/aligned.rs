//! Constants on the host at addresses that kernels can read. In a mapped file they may lie anywhere; then they are copied, once for
//! all programs that read them.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use sardonyx_ops::Tensor;
use sardonyx_ops::ir::derived::{Derived, Made};

struct Owner(Arc<Made<Bytes>>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}

static COPIES: LazyLock<Derived<(), Bytes>> = LazyLock::new(Derived::default);

/// A tensor with its bytes aligned to 8: itself, or a copy.
pub(super) fn aligned(tensor: Tensor) -> Tensor {
    if (tensor.bytes().as_ptr() as usize).is_multiple_of(8) {
        return tensor;
    }
    let copy = || Ok::<_, Infallible>(tensor.clone().aligned().shared_bytes());
    let Ok(copied) = COPIES.of(&tensor, (), copy);
    let (dtype, dims) = (tensor.dtype(), tensor.dims().to_vec());
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
