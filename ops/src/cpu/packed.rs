//! Constants in a kernel's own order.

use std::sync::{Arc, LazyLock};

use crate::error::OpError;
use crate::ir::derived::{Derived, Made};
use crate::ir::tensor::Tensor;

/// A constant in another order.
pub(crate) type Packed<T = f32> = Made<Vec<T>>;

/// How a constant is reordered: the kernel's name, and every number that the order depends on.
pub(crate) type Form = (&'static str, [usize; 6]);

/// Elements of packed constants.
pub(crate) trait Element: Sized + 'static {
    /// The packed constants that kernels have.
    fn known() -> &'static Derived<Form, Vec<Self>>;
}

impl Element for f32 {
    fn known() -> &'static Derived<Form, Vec<f32>> {
        static KNOWN: LazyLock<Derived<Form, Vec<f32>>> = LazyLock::new(Derived::default);
        &KNOWN
    }
}

impl Element for i8 {
    fn known() -> &'static Derived<Form, Vec<i8>> {
        static KNOWN: LazyLock<Derived<Form, Vec<i8>>> = LazyLock::new(Derived::default);
        &KNOWN
    }
}

impl Element for i16 {
    fn known() -> &'static Derived<Form, Vec<i16>> {
        static KNOWN: LazyLock<Derived<Form, Vec<i16>>> = LazyLock::new(Derived::default);
        &KNOWN
    }
}

/// `source` in another order, from a kernel that still has it, or from `make`.
///
/// # Errors
/// Those of `make`.
pub(crate) fn shared<T: Element>(
    source: &Tensor,
    form: Form,
    make: impl FnOnce() -> Result<Vec<T>, OpError>,
) -> Result<Arc<Packed<T>>, OpError> {
    T::known().of(source, form, make)
}
