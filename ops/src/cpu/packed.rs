//! Constants in a kernel's own order.

use std::sync::{Arc, LazyLock};

use crate::error::OpError;
use crate::ir::derived::{Derived, Made};
use crate::ir::tensor::Tensor;

/// A constant in another order.
pub(crate) type Packed = Made<Vec<f32>>;

/// How a constant is reordered: the kernel's name, and every number that the order depends on.
pub(crate) type Form = (&'static str, [usize; 6]);

static KNOWN: LazyLock<Derived<Form, Vec<f32>>> = LazyLock::new(Derived::default);

/// `source` in another order, from a kernel that still has it, or from `make`.
///
/// # Errors
/// Those of `make`.
pub(crate) fn shared(
    source: &Tensor,
    form: Form,
    make: impl FnOnce() -> Result<Vec<f32>, OpError>,
) -> Result<Arc<Packed>, OpError> {
    KNOWN.of(source, form, make)
}
