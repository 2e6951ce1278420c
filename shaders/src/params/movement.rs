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

    /// Parameters of `concat2.wgsl` and `concat4.wgsl`.
    struct Concat {
        /// Runs of output elements.
        rows: u32,
        /// Elements of a run.
        span: u32,
        /// Columns of the inputs together.
        columns: u32,
        /// Output elements from one run to the next.
        stride: u32,
        /// Output element of the first run.
        offset: u32,
        /// Fills the row of four words.
        pad0: u32,
        /// Fills the row of four words.
        pad1: u32,
        /// Fills the row of four words.
        pad2: u32,
        /// Column after the last of each input.
        ends: [u32; 4],
        /// Columns of each input.
        counts: [u32; 4],
    }

    /// Parameters of `gather.wgsl`.
    struct Gather {
        /// Elements of the output.
        len: u32,
        /// Number of indices.
        count: u32,
        /// Extent of the axis.
        extent: u32,
        /// Elements of a slice.
        inner: u32,
    }

    /// Parameters of `gather_elements.wgsl`.
    struct GatherElements {
        /// Elements of the output.
        len: u32,
        /// Dimensions in use.
        rank: u32,
        /// Extent of the axis.
        extent: u32,
        /// Its stride in the input.
        stride: u32,
        /// Output dimensions, innermost first.
        dims: [u32; 8],
        /// Input strides, innermost first; 0 for the axis.
        strides: [u32; 8],
    }

    /// Parameters of `scatter.wgsl`.
    struct Scatter {
        /// Elements of the output.
        len: u32,
        /// Updates that each element looks through.
        steps: u32,
        /// How far apart they are.
        step: u32,
        /// Elements of a slice.
        inner: u32,
        /// Indices of a tuple; for single indices the axis, counted from the innermost.
        depth: u32,
        /// Dimensions in use.
        rank: u32,
        /// Fills the row of four words.
        pad0: u32,
        /// Fills the row of four words.
        pad1: u32,
        /// Dimensions of the data, innermost first; extents of each index of a tuple.
        dims: [u32; 8],
        /// How many elements of each dimension have updates.
        bounds: [u32; 8],
        /// Strides of the updates; of each index of a tuple, in slices.
        strides: [u32; 8],
    }

    /// Parameters of `gather_nd.wgsl`.
    struct GatherNd {
        /// Elements of the output.
        len: u32,
        /// Indices of a tuple.
        depth: u32,
        /// Elements of a slice.
        inner: u32,
        /// Tuples of a batch.
        per_batch: u32,
        /// Input elements of a batch.
        batch: u32,
        /// Fills the row of four words.
        pad0: u32,
        /// Fills the row of four words.
        pad1: u32,
        /// Fills the row of four words.
        pad2: u32,
        /// The extent that each index of a tuple picks from.
        dims: [u32; 8],
        /// Its stride in the input.
        strides: [u32; 8],
    }

    /// Parameters of `pad.wgsl`; dimensions are innermost first.
    struct Pad {
        /// Elements of the output.
        len: u32,
        /// Dimensions in use.
        rank: u32,
        /// Fills the row of four words.
        pad0: u32,
        /// Fills the row of four words.
        pad1: u32,
        /// Output dimensions.
        dims: [u32; 8],
        /// Input dimensions.
        extents: [u32; 8],
        /// Input strides.
        strides: [u32; 8],
        /// Elements added before; negative where some are taken away.
        before: [i32; 8],
    }

    /// Parameters of `trilu.wgsl`.
    struct Trilu {
        /// Elements of the output.
        len: u32,
        /// Rows of a matrix.
        rows: u32,
        /// Columns of a matrix.
        columns: u32,
        /// How far the diagonal lies above the main one.
        offset: i32,
    }
}
