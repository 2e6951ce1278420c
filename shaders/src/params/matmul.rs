//! Parameters of matrix products.

super::params! {
    /// Parameters of `matmul_t4x4.wgsl`, `matmul_w64x64.wgsl`, `matmul_sg.wgsl` and `matvec.wgsl`.
    struct Matmul {
        /// Rows of a result.
        rows: u32,
        /// Columns of a result.
        columns: u32,
        /// Columns of `a`, rows of `b`.
        depth: u32,
        /// Factor of every result.
        alpha: f32,
        /// Elements between rows of `a`.
        a_row: u32,
        /// Elements between columns of `a`.
        a_step: u32,
        /// Elements between rows of `b`.
        b_step: u32,
        /// Elements between columns of `b`.
        b_column: u32,
        /// Batch extents, innermost first; 1 where not in use.
        batch: [u32; 4],
        /// Elements between matrices of `a` along them.
        a_batch: [u32; 4],
        /// Elements between matrices of `b` along them.
        b_batch: [u32; 4],
    }

    /// Parameters of `matmul_nbits.wgsl`.
    struct MatmulNbits {
        /// Rows of the result.
        rows: u32,
        /// Columns of the result.
        columns: u32,
        /// Columns of `a`.
        depth: u32,
        /// Codes of a block.
        block: u32,
        /// Blocks of a row of `b`.
        blocks: u32,
        /// Fills the row of four words.
        pad0: u32,
        /// Fills the row of four words.
        pad1: u32,
        /// Fills the row of four words.
        pad2: u32,
    }

    /// Parameters of `matmul_int8.wgsl`.
    struct MatmulInt8 {
        /// Rows of the result.
        rows: u32,
        /// Columns of the result.
        columns: u32,
        /// Columns of `a`.
        depth: u32,
        /// Words between rows of `b`.
        stride: u32,
    }
}
