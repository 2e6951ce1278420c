// Running sums or products along each line of [outer, len, inner], an invocation to a line or to four neighbouring ones.

const WORKGROUP = 64u;
// Products, but not of 64-bit integers.
const PRODUCT = 0u;
// Of the elements before, without the element itself.
const EXCLUSIVE = 0u;
// From the end.
const REVERSE = 0u;
// Four neighbouring lines to an invocation: inner is a multiple of four.
const VECTOR = 0u;

struct Params { lines: u32, len: u32, inner: u32, pad: u32 }

fn load(at: u32) -> x_value4 {
  if (VECTOR != 0u) {
    return x_at4(at);
  }
  let v = x_at(at);
  return x_pack(v, v, v, v);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * WORKGROUP + id.x;
  let line = select(i, i * 4u, VECTOR != 0u);
  if (line >= params.lines) {
    return;
  }
  let base = line / params.inner * params.len * params.inner + line % params.inner;
  let neutral = x_value(PRODUCT);
  var total = x_pack(neutral, neutral, neutral, neutral);
  for (var k = 0u; k < params.len; k++) {
    let at = base + select(k, params.len - 1u - k, REVERSE != 0u) * params.inner;
    let before = total;
    total = reduce_combine_of_x(total, load(at), PRODUCT);
    if (EXCLUSIVE != 0u) {
      emit4(before, at, select(1u, 4u, VECTOR != 0u));
    } else {
      emit4(total, at, select(1u, 4u, VECTOR != 0u));
    }
  }
}
