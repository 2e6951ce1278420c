//! Parameters of kernels that move elements.

super::params! {
    /// Parameters of `strided_copy.wgsl`.
    struct StridedCopy {
        /// Elements of the output.
        len: u32,
        /// Dimensions in use.
        rank: u32,
        /// Input element of output element 0.
        offset: u32,
        /// Fills the row of four words.
        pad: u32,
        /// Output dimensions, innermost first.
        dims: [u32; 8],
        /// Input strides in elements, innermost first; may be negative or zero.
        strides: [i32; 8],
    }
}
