//! How much a model may ask for before it is loaded.

/// Limits of loading; the defaults suit a product that loads files it did not make.
///
/// Exceeding one is [`crate::ImportError::BudgetExceeded`]. Make one with `LoadLimits::default()` and change
/// its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadLimits {
    /// Bytes of the model file (2 GiB, protobuf's own limit).
    pub file_bytes: u64,
    /// Nodes of all graphs and subgraphs, after local functions are inlined.
    pub nodes: u64,
    /// Nested subgraphs; values above 128 count as 128, because decoding recurses.
    pub subgraph_depth: u32,
    /// Bytes of memory that names, nodes, attributes and types may take: everything but tensor data.
    pub structure_bytes: u64,
    /// Bytes of one name.
    pub name_bytes: u64,
    /// Dimensions of one tensor.
    pub rank: u64,
    /// Bytes of one tensor.
    pub tensor_bytes: u64,
    /// Distinct files of external data.
    pub external_files: u64,
}

impl Default for LoadLimits {
    fn default() -> LoadLimits {
        LoadLimits {
            file_bytes: 1 << 31,
            nodes: 200_000,
            subgraph_depth: 64,
            structure_bytes: 192 << 20,
            name_bytes: 1 << 16,
            rank: 64,
            tensor_bytes: 1 << 31,
            external_files: 1024,
        }
    }
}

impl LoadLimits {
    /// [`LoadLimits::subgraph_depth`], bounded by what the stack of a small thread carries.
    pub(crate) fn bounded_subgraph_depth(&self) -> u32 {
        self.subgraph_depth.min(128)
    }

    /// Nested protobuf messages: a subgraph is three (node, attribute, graph), and types nest beside it.
    pub(crate) fn message_depth(&self) -> u32 {
        self.bounded_subgraph_depth().saturating_mul(3).saturating_add(24)
    }
}
