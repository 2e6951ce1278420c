// The nearest elements along two axes; like resize, for any type.

const WORKGROUP = 64u;
// 1: inner is a multiple of four, so that four neighbours have one source.
const FOUR = 0u;

struct Params {
  len: u32,
  inner: u32,
  between: u32,
  extrapolation: f32,
  input_a: u32,
  input_b: u32,
  output_a: u32,
  output_b: u32,
  taps_a: u32,
  taps_b: u32,
  table_b: u32,
  pad: u32,
}

// Negative outside a cropped region.
fn source(i: u32) -> i32 {
  let c = i % params.inner;
  var rest = i / params.inner;
  let b = index_at(params.table_b + rest % params.output_b);
  rest /= params.output_b;
  let m = rest % params.between;
  rest /= params.between;
  let a = index_at(rest % params.output_a);
  let outer = rest / params.output_a;
  if (a < 0 || b < 0) {
    return -1;
  }
  return i32((((outer * params.input_a + u32(a)) * params.between + m) * params.input_b + u32(b)) * params.inner + c);
}

fn one(i: u32) -> x_value {
  let at = source(min(i, params.len - 1u));
  if (at < 0) {
    return number_of_x(params.extrapolation);
  }
  return x_at(u32(at));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let i = (id.y * count.x * WORKGROUP + id.x) * 4u;
  if (i >= params.len) {
    return;
  }
  let n = min(4u, params.len - i);
  if (FOUR == 1u) {
    let at = source(i);
    if (at >= 0) {
      emit4(x_at4(u32(at)), i, n);
      return;
    }
  }
  emit4(x_pack(one(i), one(i + 1u), one(i + 2u), one(i + 3u)), i, n);
}
