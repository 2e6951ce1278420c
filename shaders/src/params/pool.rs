//! Parameters of the pooling kernel.

super::params! {
    /// Parameters of `pool.wgsl`. Vectors are depth, height, width and a fill.
    struct Pool {
        /// Elements of the output.
        len: u32,
        /// 1 when padding counts in a mean.
        include_pad: u32,
        /// The norm's exponent.
        p: f32,
        /// Fills the row of four words.
        pad: u32,
        /// Extents of the input.
        input: [u32; 4],
        /// Numbers of windows.
        output: [u32; 4],
        /// Taps of a window.
        window: [u32; 4],
        /// Elements from one window to the next.
        stride: [u32; 4],
        /// Elements from one tap to the next.
        dilation: [u32; 4],
        /// Padding before.
        before: [u32; 4],
        /// Padding after.
        after: [u32; 4],
    }
}
