//! Parameters of matrix products.

super::params! {
    /// Parameters of `matmul_t4x4.wgsl`, `matmul_w64x64.wgsl` and `matvec.wgsl`.
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
}
