// Interpolation along two axes, a before b: the input is outer × a × between × b × inner. For each coordinate of an
// axis, `index` has its taps in a row (-1: take the extrapolation value) and `weight` what they count.

const WORKGROUP = 64u;
// 1: inner is a multiple of four, so that four neighbours share their taps.
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

fn sample(i: u32) -> vec4<f32> {
  let c = i % params.inner;
  var rest = i / params.inner;
  let first_b = params.table_b + rest % params.output_b * params.taps_b;
  rest /= params.output_b;
  let m = rest % params.between;
  rest /= params.between;
  let first_a = rest % params.output_a * params.taps_a;
  let outer = rest / params.output_a;
  if (index_at(first_a) < 0 || index_at(first_b) < 0) {
    return vec4<f32>(params.extrapolation);
  }
  var sum = vec4<f32>(0.0);
  for (var a = first_a; a < first_a + params.taps_a; a++) {
    let row = ((outer * params.input_a + u32(index_at(a))) * params.between + m) * params.input_b;
    var line = vec4<f32>(0.0);
    for (var b = first_b; b < first_b + params.taps_b; b++) {
      let at = (row + u32(index_at(b))) * params.inner + c;
      if (FOUR == 1u) {
        line += weight_at(b) * x_at4(at);
      } else {
        line.x += weight_at(b) * x_at(at);
      }
    }
    sum += weight_at(a) * line;
  }
  return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let i = (id.y * count.x * WORKGROUP + id.x) * 4u;
  if (i >= params.len) {
    return;
  }
  let n = min(4u, params.len - i);
  if (FOUR == 1u) {
    emit4(sample(i), i, n);
    return;
  }
  var v: vec4<f32>;
  for (var lane = 0u; lane < n; lane++) {
    v[lane] = sample(i + lane).x;
  }
  emit4(v, i, n);
}
