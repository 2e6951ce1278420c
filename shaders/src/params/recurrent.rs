//! Parameters of recurrent networks.

super::params! {
    /// Parameters of `recurrent.wgsl`. Distances are in elements.
    struct Recurrent {
        /// Elements of a sequence.
        steps: u32,
        /// Sequences.
        batch: u32,
        /// Ways that each is read.
        directions: u32,
        /// Numbers of a state.
        hidden: u32,
        /// Between the products of neighbouring steps.
        product_step: u32,
        /// Between those of neighbouring sequences.
        product_sequence: u32,
        /// Between rows of the recurrent weights.
        weight_row: u32,
        /// Between columns of the recurrent weights.
        weight_column: u32,
        /// Between the results of neighbouring steps.
        output_step: u32,
        /// Between those of the directions.
        output_direction: u32,
        /// Between those of neighbouring sequences.
        output_sequence: u32,
        /// Where the last hidden states begin.
        states: u32,
        /// Between the states of the directions.
        state_direction: u32,
        /// Between those of neighbouring sequences.
        state_sequence: u32,
        /// Where the last cell states begin.
        cells: u32,
        /// A bit for each direction: it runs from the end.
        reversed: u32,
        /// The two parameters of each function, three functions to a direction.
        functions: [f32; 24],
        /// What enters a function stays within this distance of zero.
        clip: f32,
        /// Fills the row of four words.
        pad0: u32,
        /// Fills the row of four words.
        pad1: u32,
        /// Fills the row of four words.
        pad2: u32,
    }
}
