// Data with updates at the places that indices name: each element looks through the updates that may fall on it, in
// their order, so that results do not depend on the device. An index outside the data means no element.

const WORKGROUP = 64u;
// 1: tuples of `depth` indices name slices of `inner` elements; 0: one index to each update, along an axis.
const ND = 0u;
// 0 replaces; else 1 more than the number of reduce_combine.
const REDUCTION = 0u;

struct Params {
  len: u32,
  // Updates that each element looks through, and how far apart they are.
  steps: u32,
  step: u32,
  inner: u32,
  depth: u32,
  rank: u32,
  pad0: u32,
  pad1: u32,
  // Innermost first: the data's dimensions; how many elements of each have updates; strides of the updates.
  // With ND, index by index: extents and, in slices, strides.
  dims: array<vec4<u32>, 2>,
  bounds: array<vec4<u32>, 2>,
  strides: array<vec4<u32>, 2>,
}

// The position that index `at` names along an axis; -1 outside.
fn named(at: u32, size: u32) -> i32 {
  let extent = i32(size);
  let index = position_of_indices(indices_at(at));
  let place = select(index, index + extent, index < 0);
  return select(-1, place, place >= 0 && place < extent);
}

// The slice that a tuple names; -1 outside.
fn slice(tuple: u32) -> i32 {
  var at = 0;
  for (var d = 0u; d < params.depth; d++) {
    let place = named(tuple * params.depth + d, params.dims[d >> 2u][d & 3u]);
    if (place < 0) {
      return -1;
    }
    at += place * i32(params.strides[d >> 2u][d & 3u]);
  }
  return at;
}

fn one(i: u32) -> x_value {
  let at = min(i, params.len - 1u);
  var value = x_at(at);
  var own = at / params.inner;
  var base = at % params.inner;
  var extent = 0u;
  if (ND == 0u) {
    own = 0u;
    base = 0u;
    var rest = at;
    for (var d = 0u; d < params.rank; d++) {
      let size = params.dims[d >> 2u][d & 3u];
      let c = rest % size;
      rest /= size;
      if (d == params.depth) {
        own = c;
        extent = size;
      } else if (c >= params.bounds[d >> 2u][d & 3u]) {
        return value;
      } else {
        base += c * params.strides[d >> 2u][d & 3u];
      }
    }
  }
  for (var k = 0u; k < params.steps; k++) {
    let update = base + k * params.step;
    var place = 0;
    if (ND != 0u) {
      place = slice(k);
    } else {
      place = named(update, extent);
    }
    if (place != i32(own)) {
      continue;
    }
    let v = updates_at(update);
    if (REDUCTION == 0u) {
      value = v;
    } else {
      let mode = max(REDUCTION, 1u) - 1u;
      value = x_lanes(reduce_combine_of_x(x_pack(value, value, value, value), x_pack(v, v, v, v), mode))[0];
    }
  }
  return value;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let i = (id.y * count.x * WORKGROUP + id.x) * 4u;
  if (i >= params.len) {
    return;
  }
  emit4(x_pack(one(i), one(i + 1u), one(i + 2u), one(i + 3u)), i, min(4u, params.len - i));
}
