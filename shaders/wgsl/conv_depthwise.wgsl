// Depthwise convolutions over up to two axes: four neighbouring output elements of a row of one channel to an invocation.

// Windows move one step along the last axis and lie dense there: each input element is read once for a row of a window.
const SLIDE = 0u;

struct Params {
  input: vec4<u32>,
  output: vec4<u32>,
  kernel: vec4<u32>,
  strides: vec4<u32>,
  dilations: vec4<u32>,
  before: vec4<u32>,
  weights: vec4<u32>,
  groups: u32,
  inputs: u32,
  outputs: u32,
  folds: u32,
}

// Element x of an input row; zero outside. Positions before the row wrap around to large ones.
fn element(row: u32, x: u32) -> f32 {
  return select(0.0, x_at(row + min(x, params.input.z - 1u)), x < params.input.z);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let width = params.output.z;
  let across = (width + 3u) / 4u;
  // Planes too large for one row of workgroups fold into several.
  let image = id.z / params.folds;
  let place = id.z % params.folds * count.x * 64u + id.x;
  let oy = place / across;
  let ox = place % across * 4u;
  if (oy >= params.output.y) {
    return;
  }
  let channels = params.groups * params.outputs;
  let channel = image * channels + id.y;
  let plane = (image * params.groups + id.y / params.outputs) * params.input.w;
  var w = id.y * params.kernel.w;
  let step = params.strides.z;
  let x = ox * step - params.before.z;
  var sum = vec4<f32>(0.0);
  for (var ky = 0u; ky < params.kernel.y; ky++) {
    let y = oy * params.strides.y + ky * params.dilations.y - params.before.y;
    if (y >= params.input.y) {
      w += params.kernel.z;
      continue;
    }
    let row = plane + y * params.input.z;
    if (SLIDE == 1u) {
      var v = vec4<f32>(0.0, element(row, x), element(row, x + 1u), element(row, x + 2u));
      for (var kx = 0u; kx < params.kernel.z; kx++) {
        v = vec4<f32>(v.yzw, element(row, x + kx + 3u));
        sum += w_at(w) * v;
        w++;
      }
    } else {
      var at = x;
      for (var kx = 0u; kx < params.kernel.z; kx++) {
        let v = vec4<f32>(
          element(row, at),
          element(row, at + step),
          element(row, at + 2u * step),
          element(row, at + 3u * step),
        );
        sum += w_at(w) * v;
        w++;
        at += params.dilations.z;
      }
    }
  }
  emit4(sum, channel * params.output.w + oy * width + ox, min(4u, width - ox));
}
