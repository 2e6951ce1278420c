//! Parameters of kernels that reduce or scan one dimension of [outer, len, inner].

super::params! {
    /// Parameters of `reduce.wgsl` and `reduce_row.wgsl`.
    struct Reduce {
        /// Elements of the output: outer * segments * inner.
        outputs: u32,
        /// Extent of the reduced dimension.
        len: u32,
        /// Elements between neighbours along it.
        inner: u32,
        /// Elements reduced into one output; the last segment may have fewer.
        segment: u32,
        /// Segments along the reduced dimension.
        segments: u32,
        /// What a mean divides by.
        scale: f32,
        /// Fills the row of four words.
        pad0: u32,
        /// Fills the row of four words.
        pad1: u32,
    }
    /// Parameters of `argmax.wgsl`, `argmax_row.wgsl`, `softmax.wgsl`, `softmax_row.wgsl` and `cumsum.wgsl`.
    struct Lines {
        /// Lines along the dimension: outer * inner.
        lines: u32,
        /// Elements of a line.
        len: u32,
        /// Elements between neighbours of a line.
        inner: u32,
        /// Fills the row of four words.
        pad: u32,
    }
}
