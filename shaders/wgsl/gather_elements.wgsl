// Single elements along an axis, an index to each. Output coordinate c is input element
// sum(c * stride) + index * params.stride, where the axis itself has stride 0. Indices are as in gather.

const WORKGROUP = 64u;

struct Params {
  len: u32,
  rank: u32,
  extent: u32,
  stride: u32,
  dims: array<vec4<u32>, 2>,
  strides: array<vec4<u32>, 2>,
}

fn source(i: u32) -> u32 {
  let extent = i32(params.extent);
  var index = position_of_indices(indices_at(i));
  index = clamp(select(index, index + extent, index < 0), 0, extent - 1);
  var at = u32(index) * params.stride;
  var rest = i;
  for (var d = 0u; d < params.rank; d++) {
    let size = params.dims[d >> 2u][d & 3u];
    at += (rest % size) * params.strides[d >> 2u][d & 3u];
    rest /= size;
  }
  return at;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let i = (id.y * count.x * WORKGROUP + id.x) * 4u;
  if (i >= params.len) {
    return;
  }
  // Lanes past the end repeat the last element.
  let last = params.len - 1u;
  let four = x_pack(
    x_at(source(i)),
    x_at(source(min(i + 1u, last))),
    x_at(source(min(i + 2u, last))),
    x_at(source(min(i + 3u, last))),
  );
  emit4(four, i, min(4u, params.len - i));
}
