//! Parameters of resizing kernels.

super::params! {
    /// Parameters of `resize.wgsl` and `resize_nearest.wgsl`: the input is outer × a × between × b × inner.
    struct Resize {
        /// Elements of the output.
        len: u32,
        /// Elements within an element of axis b.
        inner: u32,
        /// Elements of the axes between a and b.
        between: u32,
        /// What coordinates outside give.
        extrapolation: f32,
        /// Extent of axis a.
        input_a: u32,
        /// Extent of axis b.
        input_b: u32,
        /// Extent of the resized axis a.
        output_a: u32,
        /// Extent of the resized axis b.
        output_b: u32,
        /// Taps of axis a.
        taps_a: u32,
        /// Taps of axis b.
        taps_b: u32,
        /// Where the tables of axis b begin.
        table_b: u32,
        /// Fills the row of four words.
        pad: u32,
    }

    /// Parameters of `grid_sample.wgsl`.
    struct GridSample {
        /// Elements of the output.
        len: u32,
        /// Spatial axes.
        axes: u32,
        /// Points of the grid for each batch.
        points: u32,
        /// Channels.
        channels: u32,
        /// Depth, height, width of the input, and a fill.
        size: [u32; 4],
    }
}
