//! The parameters of kernels: one `repr(C)` struct each, the twin of `struct Params` in the kernel's file.
//!
//! A test compares names, offsets and sizes with what naga reads from the WGSL.

/// A member of a parameter struct.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name, the same in Rust and WGSL.
    pub name: &'static str,
    /// Byte offset.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
}

/// A parameter struct of a kernel.
pub trait Params: bytemuck::Pod {
    /// Its members in order.
    const FIELDS: &'static [Field];
}

/// Declares parameter structs; arrays must have a multiple of four elements, as WGSL's uniform layout asks.
macro_rules! params {
    ($($(#[$doc:meta])* struct $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $crate::params::Params for $name {
            const FIELDS: &'static [$crate::params::Field] = &[$($crate::params::Field {
                name: stringify!($field),
                offset: core::mem::offset_of!($name, $field),
                size: size_of::<$type>(),
            },)*];
        }
    )*};
}

pub(crate) use params;

pub mod attention;
pub mod conv;
pub mod matmul;
pub mod movement;
pub mod norm;
pub mod pointwise;
pub mod pool;
pub mod recurrent;
pub mod reduce;
pub mod resize;
