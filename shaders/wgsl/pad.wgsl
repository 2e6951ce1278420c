// Elements around a tensor. Dimensions are innermost first; a coordinate minus what lies before is one of the input.

const WORKGROUP = 64u;
// 0: the one element of value, 1: mirrored, 2: the outermost elements, 3: the tensor again.
const MODE = 0u;

struct Params {
  len: u32,
  rank: u32,
  pad0: u32,
  pad1: u32,
  dims: array<vec4<u32>, 2>,
  extents: array<vec4<u32>, 2>,
  strides: array<vec4<u32>, 2>,
  before: array<vec4<i32>, 2>,
}

// The remainder that is never negative. Written with a division, because OpenGL leaves % of negative numbers open.
fn cycle(at: i32, n: i32) -> i32 {
  let rest = at - (at / n) * n;
  return select(rest, rest + n, rest < 0);
}

// The input coordinate for one outside an axis of n elements; at least one that is inside.
fn fold(at: i32, n: i32) -> i32 {
  if (MODE == 1u) {
    let period = max(2 * (n - 1), 1);
    let folded = cycle(at, period);
    return min(min(folded, period - folded), n - 1);
  }
  if (MODE == 3u) {
    return cycle(at, n);
  }
  return clamp(at, 0, n - 1);
}

fn one(i: u32) -> x_value {
  var rest = min(i, params.len - 1u);
  var element = 0u;
  for (var d = 0u; d < params.rank; d++) {
    let size = params.dims[d >> 2u][d & 3u];
    let n = i32(params.extents[d >> 2u][d & 3u]);
    let at = i32(rest % size) - params.before[d >> 2u][d & 3u];
    rest /= size;
    if (MODE == 0u && (at < 0 || at >= n)) {
      return value_at(0u);
    }
    element += u32(fold(at, n)) * params.strides[d >> 2u][d & 3u];
  }
  return x_at(element);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let i = (id.y * count.x * WORKGROUP + id.x) * 4u;
  if (i >= params.len) {
    return;
  }
  emit4(x_pack(one(i), one(i + 1u), one(i + 2u), one(i + 3u)), i, min(4u, params.len - i));
}
