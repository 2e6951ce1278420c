// Windows over the last three dimensions: their maximum, mean or norm. Axes are depth, height, width; where there are
// fewer, the first ones have extent 1.

const WORKGROUP = 64u;
// 0: maximum, 1: mean, 2: p-norm.
const KIND = 0u;

struct Params {
  len: u32,
  include_pad: u32,
  p: f32,
  pad: u32,
  input: vec4<u32>,
  output: vec4<u32>,
  window: vec4<u32>,
  stride: vec4<u32>,
  dilation: vec4<u32>,
  before: vec4<u32>,
  after: vec4<u32>,
}

fn window(i: u32) -> f32 {
  let plane = i / (params.output.x * params.output.y * params.output.z);
  let rest = i / params.output.z;
  let at = vec3<u32>(rest / params.output.y % params.output.x, rest % params.output.y, i % params.output.z);
  let size = vec3<i32>(params.input.xyz);
  let step = vec3<i32>(params.dilation.xyz);
  let start = vec3<i32>(at * params.stride.xyz) - vec3<i32>(params.before.xyz);
  let taps = vec3<i32>(params.window.xyz);
  // Taps inside the input: from first up to end.
  let first = (max(-start, vec3<i32>(0)) + step - 1) / step;
  let end = max(min(taps, (size - start + step - 1) / step), first);
  var acc = 0.0;
  if (KIND == 0u) {
    let at_first = start + first * step;
    acc = f32(x_at(u32(((i32(plane) * size.x + at_first.x) * size.y + at_first.y) * size.z + at_first.z)));
  }
  for (var a = first.x; a < end.x; a++) {
    for (var b = first.y; b < end.y; b++) {
      let row = (i32(plane) * size.x + start.x + a * step.x) * size.y + start.y + b * step.y;
      for (var c = first.z; c < end.z; c++) {
        let v = f32(x_at(u32(row * size.z + start.z + c * step.z)));
        if (KIND == 0u) {
          acc = max(acc, v);
        } else if (KIND == 1u) {
          acc += v;
        } else {
          acc += pow(abs(v), params.p);
        }
      }
    }
  }
  if (KIND == 1u) {
    var count = end - first;
    if (params.include_pad == 1u) {
      count = min(taps, (size + vec3<i32>(params.after.xyz) - start + step - 1) / step);
    }
    acc /= f32(max(count.x * count.y * count.z, 1));
  }
  if (KIND == 2u) {
    acc = pow(acc, 1.0 / params.p);
  }
  return acc;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let i = (id.y * count.x * WORKGROUP + id.x) * 4u;
  if (i >= params.len) {
    return;
  }
  var v: vec4<f32>;
  let n = min(4u, params.len - i);
  for (var lane = 0u; lane < n; lane++) {
    v[lane] = window(i + lane);
  }
  emit4(v, i, n);
}
