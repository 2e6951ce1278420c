//! Parameters of attention.

super::params! {
    /// Parameters of `attend_sg.wgsl`, `attend_tile.wgsl` and `attend_row.wgsl`.
    struct Attend {
        /// Queries of a head.
        queries: u32,
        /// Keys of a head.
        keys: u32,
        /// Elements of a query and of a key.
        size: u32,
        /// Elements of a value.
        value_size: u32,
        /// Heads of queries that share keys.
        group: u32,
        /// Factor of the scores.
        scale: f32,
        /// Bound that scores are bent to; 0 for none.
        softcap: f32,
        /// The score of a key that is not seen.
        fill: f32,
        /// The first key that query 0 sees.
        low: i32,
        /// The last key that query 0 sees.
        high: i32,
        /// Fills the row.
        pad: [u32; 2],
        /// First elements of queries, keys, values and mask.
        offsets: [u32; 4],
        /// Elements between batches, heads, queries and elements.
        q_strides: [u32; 4],
        /// The same of keys.
        k_strides: [u32; 4],
        /// The same of values.
        v_strides: [u32; 4],
        /// Elements between batches, heads, queries and keys.
        mask_strides: [u32; 4],
        /// Elements between batches, heads and queries.
        y_strides: [u32; 4],
        /// First elements of the cosines and sines that queries are turned by.
        turn_offsets: [u32; 4],
        /// Elements between batches, heads, queries and elements of cosines.
        cos_strides: [u32; 4],
        /// The same of sines.
        sin_strides: [u32; 4],
    }
    /// Parameters of `append.wgsl`.
    struct Append {
        /// Elements of the output.
        len: u32,
        /// Heads.
        heads: u32,
        /// Rows of a head in the cache.
        past: u32,
        /// Rows of a head in the output.
        rows: u32,
        /// Elements of a row.
        size: u32,
        /// Half of them.
        half: u32,
        /// Fills the row.
        pad: [u32; 2],
        /// First elements of further rows, cosines, sines and the second cache's further rows.
        offsets: [u32; 4],
        /// Elements between batches, heads, rows and elements.
        x_strides: [u32; 4],
        /// The same of the second cache's rows.
        other_strides: [u32; 4],
        /// The same of cosines.
        cos_strides: [u32; 4],
        /// The same of sines.
        sin_strides: [u32; 4],
    }
}
