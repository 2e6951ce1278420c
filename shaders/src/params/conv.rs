//! Parameters of convolutions.

super::params! {
    /// Parameters of `conv_direct.wgsl`, `conv_slide.wgsl`, `conv_depthwise.wgsl`, `conv_int8.wgsl` and
    /// `conv_int8_depthwise.wgsl`. Spatial lists hold three axes, missing ones first, then a product.
    struct Conv {
        /// Input extents, and the elements of an input channel.
        input: [u32; 4],
        /// Output extents, and the elements of an output channel.
        output: [u32; 4],
        /// Window extents, and the elements of a window.
        kernel: [u32; 4],
        /// Steps between windows.
        strides: [u32; 4],
        /// Steps inside a window.
        dilations: [u32; 4],
        /// Padding before each axis.
        before: [u32; 4],
        /// Elements of the weights between groups, output channels, input channels and window elements. For
        /// `conv_int8.wgsl`: words between input channels, words of a group, and constants of a kind.
        weights: [u32; 4],
        /// Groups of channels.
        groups: u32,
        /// Input channels of a group.
        inputs: u32,
        /// Output channels of a group.
        outputs: u32,
        /// Layers of the grid that an output channel spans.
        folds: u32,
    }
}
