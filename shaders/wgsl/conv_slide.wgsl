// Convolutions over up to two axes whose windows move one step along the last axis and lie dense there: four output
// channels by four neighbouring output elements of a row to an invocation. Each input element is read once for all the
// window elements of a row that it meets.

// Weights of four output channels stand together, channels padded with zeros.
const PACKED = 0u;

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

// Four output channels' weights.
fn weights(i: vec4<u32>) -> vec4<f32> {
  if (PACKED == 1u) { return w_at4(i.x); }
  return w_pack(w_at(i.x), w_at(i.y), w_at(i.z), w_at(i.w));
}

@compute @workgroup_size(16, 4)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let width = params.output.z;
  let across = (width + 3u) / 4u;
  let channel = id.y * 4u;
  // Planes too large for one row of workgroups fold into several.
  let image = id.z / params.folds;
  let place = id.z % params.folds * count.x * 16u + id.x;
  let oy = place / across;
  let ox = place % across * 4u;
  if (oy >= params.output.y || channel >= params.outputs) {
    return;
  }
  let group = image % params.groups;
  var plane = image * params.inputs * params.input.w;
  // Channels past the end repeat the last one.
  let channels = min(channel + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.outputs - 1u));
  var w0 = group * params.weights.x + channels * params.weights.y;
  let x = ox - params.before.z;
  var y0 = vec4<f32>(0.0);
  var y1 = vec4<f32>(0.0);
  var y2 = vec4<f32>(0.0);
  var y3 = vec4<f32>(0.0);
  for (var c = 0u; c < params.inputs; c++) {
    var w = w0;
    for (var ky = 0u; ky < params.kernel.y; ky++) {
      let y = oy * params.strides.y + ky * params.dilations.y - params.before.y;
      if (y >= params.input.y) {
        w += params.kernel.z * params.weights.w;
        continue;
      }
      let row = plane + y * params.input.z;
      var v = vec4<f32>(0.0, element(row, x), element(row, x + 1u), element(row, x + 2u));
      for (var kx = 0u; kx < params.kernel.z; kx++) {
        v = vec4<f32>(v.yzw, element(row, x + kx + 3u));
        let k = weights(w);
        y0 += k.x * v;
        y1 += k.y * v;
        y2 += k.z * v;
        y3 += k.w * v;
        w += params.weights.w;
      }
    }
    plane += params.input.w;
    w0 += params.weights.z;
  }
  let n = min(4u, width - ox);
  let rest = params.outputs - channel;
  let size = params.output.w;
  let at = (image * params.outputs + channel) * size + oy * width + ox;
  emit4(y0, at, n);
  if (rest > 1u) { emit4(y1, at + size, n); }
  if (rest > 2u) { emit4(y2, at + 2u * size, n); }
  if (rest > 3u) { emit4(y3, at + 3u * size, n); }
}
