//! Parameters of kernels that normalise.

super::params! {
    /// Parameters of `normalize.wgsl` and `normalize_row.wgsl`.
    struct Normalize {
        /// Lines along the normalised dimension: outer * inner.
        lines: u32,
        /// Elements of a line.
        len: u32,
        /// Elements between neighbours of a line.
        inner: u32,
        /// Added to the variance, mean square or deviation.
        epsilon: f32,
    }
    /// Parameters of `lrn.wgsl`.
    struct Lrn {
        /// Elements of the output.
        len: u32,
        /// Channels.
        channels: u32,
        /// Elements of a channel.
        inner: u32,
        /// Channels before the element's own that count.
        before: u32,
        /// Channels after it that count.
        after: u32,
        /// Factor of the sum of squares.
        alpha: f32,
        /// Exponent.
        beta: f32,
        /// Added to the scaled sum.
        bias: f32,
    }
}
