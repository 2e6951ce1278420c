//! Parameters of the pointwise kernel.

super::params! {
    /// Parameters of `pointwise.wgsl`.
    struct Pointwise {
        /// Elements of the output.
        len: u32,
        /// Fills the row of four words.
        pad0: u32,
        /// Fills the row of four words.
        pad1: u32,
        /// Fills the row of four words.
        pad2: u32,
    }
}
