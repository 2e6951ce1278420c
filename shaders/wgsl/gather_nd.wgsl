// Slices of `inner` elements picked by tuples of `depth` indices, `per_batch` tuples to each `batch` input elements.
// Indices are as in gather.

const WORKGROUP = 64u;
// 1: slices are whole groups of four.
const FOUR = 0u;

struct Params {
  len: u32,
  depth: u32,
  inner: u32,
  per_batch: u32,
  batch: u32,
  pad0: u32,
  pad1: u32,
  pad2: u32,
  dims: array<vec4<u32>, 2>,
  strides: array<vec4<u32>, 2>,
}

fn source(i: u32) -> u32 {
  let tuple = i / params.inner;
  var at = tuple / params.per_batch * params.batch + i % params.inner;
  for (var d = 0u; d < params.depth; d++) {
    let extent = i32(params.dims[d >> 2u][d & 3u]);
    var index = position_of_indices(indices_at(tuple * params.depth + d));
    index = clamp(select(index, index + extent, index < 0), 0, extent - 1);
    at += u32(index) * params.strides[d >> 2u][d & 3u];
  }
  return at;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let i = (id.y * count.x * WORKGROUP + id.x) * 4u;
  if (i >= params.len) {
    return;
  }
  let n = min(4u, params.len - i);
  if (FOUR == 1u) {
    emit4(x_at4(source(i)), i, n);
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
  emit4(four, i, n);
}
