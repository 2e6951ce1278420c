//! What an adapter can do, as far as kernels care. Capabilities, never vendors.

/// Features and limits that decide which kernel variants may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Kernels that give wrong results there, by the names of what they are launched as; those of several launches are
    /// joined by `+`.
    pub without: Vec<String>,
    /// `enable f16;`: 16-bit floats in storage and arithmetic.
    pub f16: bool,
    /// Subgroup operations, with the smallest and largest subgroup size the adapter may pick.
    pub subgroups: Option<(u32, u32)>,
    /// Other invocations run while some wait for memory: kernels that leave room for many win over those that keep much
    /// in registers. Not so where the adapter is a CPU.
    pub hides_latency: bool,
    /// Storage buffers bound to one kernel.
    pub storage_buffers: u32,
    /// Invocations in one workgroup.
    pub workgroup_invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Workgroups along one axis of a grid.
    pub grid_axis: u32,
    /// Bytes of one storage binding.
    pub binding_bytes: u64,
    /// Bytes of one buffer.
    pub buffer_bytes: u64,
    /// Alignment of a binding's offset, in bytes.
    pub offset_alignment: u32,
}

impl Capabilities {
    /// The limits that every WebGPU implementation has, and no optional feature.
    pub const BASELINE: Capabilities = Capabilities {
        without: Vec::new(),
        f16: false,
        subgroups: None,
        hides_latency: true,
        storage_buffers: 8,
        workgroup_invocations: 256,
        workgroup_memory: 16 << 10,
        grid_axis: 65_535,
        binding_bytes: 128 << 20,
        buffer_bytes: 256 << 20,
        offset_alignment: 256,
    };

    /// The size of every subgroup, where sharing what each invocation loads among all of a subgroup beats leaving room
    /// for more invocations.
    pub fn sharing_subgroup(&self) -> Option<u32> {
        // Four invocations share too little to pay for handing it around.
        self.subgroups
            .filter(|&(least, most)| least == most && least >= 8 && !self.hides_latency)
            .map(|(size, _)| size)
    }

    /// Bytes of a piece of a tensor that is larger than a binding: a power of two.
    pub fn piece_bytes(&self) -> u64 {
        1 << self.binding_bytes.max(16).ilog2()
    }

    /// The bindings that a tensor of so many bytes takes.
    pub fn pieces(&self, bytes: u64) -> u32 {
        match bytes <= self.binding_bytes {
            true => 1,
            false => u32::try_from(bytes.div_ceil(self.piece_bytes())).unwrap_or(u32::MAX),
        }
    }

    /// A grid for `groups` workgroups in a row, folded into two axes where one is too short. Kernels compute their
    /// linear workgroup index as `id.y * count.x + id.x` and leave when it is past the end.
    pub fn linear_grid(&self, groups: u64) -> Option<[u32; 3]> {
        let axis = u64::from(self.grid_axis);
        if groups <= axis {
            return Some([u32::try_from(groups).ok()?, 1, 1]);
        }
        let rows = groups.div_ceil(axis);
        let columns = groups.div_ceil(rows);
        (rows <= axis).then_some([u32::try_from(columns).ok()?, u32::try_from(rows).ok()?, 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_grids_fold() {
        let caps = Capabilities::BASELINE;
        assert_eq!(caps.linear_grid(7), Some([7, 1, 1]));
        let [x, y, z] = caps.linear_grid(200_000).unwrap();
        assert!(x <= 65_535 && y <= 65_535 && z == 1 && u64::from(x) * u64::from(y) >= 200_000);
        assert_eq!(caps.linear_grid(u64::MAX / 2), None);
    }
}
