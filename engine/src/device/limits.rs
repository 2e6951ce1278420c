//! Narrowing what a device may use to what another one has.

use std::collections::BTreeSet;

use sardonyx_shaders::Capabilities;

/// What two devices both have.
pub(super) fn meet(a: &Capabilities, b: &Capabilities) -> Capabilities {
    let both = a.without.iter().chain(&b.without).cloned();
    Capabilities {
        without: both.collect::<BTreeSet<_>>().into_iter().collect(),
        f16: a.f16 && b.f16,
        // Subgroups have the size that the device at hand gives them.
        subgroups: a.subgroups.filter(|_| b.subgroups.is_some()),
        // A profile rehearses the kernels that the narrower device would run.
        hides_latency: a.hides_latency || b.hides_latency,
        storage_buffers: a.storage_buffers.min(b.storage_buffers),
        workgroup_invocations: a.workgroup_invocations.min(b.workgroup_invocations),
        workgroup_memory: a.workgroup_memory.min(b.workgroup_memory),
        grid_axis: a.grid_axis.min(b.grid_axis),
        binding_bytes: a.binding_bytes.min(b.binding_bytes),
        buffer_bytes: a.buffer_bytes.min(b.buffer_bytes),
        offset_alignment: a.offset_alignment.max(b.offset_alignment),
    }
}

/// Takes away features and limits that `narrow` has not, so that the driver's validation refuses what would not run
/// there.
pub(super) fn narrow(narrow: &Capabilities, features: &mut wgpu::Features, limits: &mut wgpu::Limits) {
    if !narrow.f16 {
        features.remove(wgpu::Features::SHADER_F16);
    }
    if narrow.subgroups.is_none() {
        features.remove(wgpu::Features::SUBGROUP);
    }
    let at_most = |limit: &mut u32, most: u32| *limit = (*limit).min(most);
    at_most(&mut limits.max_storage_buffers_per_shader_stage, narrow.storage_buffers);
    at_most(&mut limits.max_compute_invocations_per_workgroup, narrow.workgroup_invocations);
    at_most(&mut limits.max_compute_workgroup_size_x, narrow.workgroup_invocations);
    at_most(&mut limits.max_compute_workgroup_size_y, narrow.workgroup_invocations);
    at_most(&mut limits.max_compute_workgroup_storage_size, narrow.workgroup_memory);
    at_most(&mut limits.max_compute_workgroups_per_dimension, narrow.grid_axis);
    limits.max_storage_buffer_binding_size = limits.max_storage_buffer_binding_size.min(narrow.binding_bytes);
    limits.max_buffer_size = limits.max_buffer_size.min(narrow.buffer_bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_both() {
        let wide = Capabilities {
            f16: true,
            subgroups: Some((8, 32)),
            workgroup_memory: 1 << 16,
            ..Capabilities::BASELINE
        };
        assert_eq!(meet(&wide, &Capabilities::BASELINE), Capabilities::BASELINE);
        assert_eq!(meet(&Capabilities::BASELINE, &wide), Capabilities::BASELINE);
        assert_eq!(meet(&wide, &wide), wide);
        let (mut features, mut limits) = (wgpu::Features::SHADER_F16, wgpu::Limits::default());
        limits.max_compute_workgroup_storage_size = 1 << 16;
        narrow(&Capabilities::BASELINE, &mut features, &mut limits);
        assert!(features.is_empty() && limits.max_compute_workgroup_storage_size == 16 << 10);
    }
}
