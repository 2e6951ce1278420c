// Slices of `inner` elements along an axis of `extent`, picked by `count` indices. Negative indices count from the end;
// others outside are clamped, so that no run reads beyond the input.

const WORKGROUP = 64u;
// 1: slices are whole groups of four.
const FOUR = 0u;

struct Params { len: u32, count: u32, extent: u32, inner: u32 }

fn source(i: u32) -> u32 {
  let slice = i / params.inner;
  let extent = i32(params.extent);
  var index = position_of_indices(indices_at(slice % params.count));
  index = clamp(select(index, index + extent, index < 0), 0, extent - 1);
  return (slice / params.count * params.extent + u32(index)) * params.inner + i % params.inner;
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
