// How fast a device copies: every invocation moves its share of 16-byte pieces.

@group(0) @binding(0) var<storage, read> from_memory: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> to_memory: array<vec4<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let count = arrayLength(&to_memory);
    let stride = groups.x * 64u;
    for (var i = id.x; i < count; i += stride) {
        to_memory[i] = from_memory[i];
    }
}
