// A chain of pointwise operators. The generated `emit4` loads the operands, computes and stores;
// this kernel only walks over the output, four elements to an invocation.

const WORKGROUP = 64u;

struct Params { len: u32, pad0: u32, pad1: u32, pad2: u32 }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let i = (id.y * count.x * WORKGROUP + id.x) * 4u;
  if (i < params.len) {
    emit4(vec4<f32>(0.0), i, min(4u, params.len - i));
  }
}
