// Convolutions over up to three axes: four output channels by four neighbouring output elements to an invocation. The
// elements lie in the flattened output plane, so that they are neighbours in memory.

// The transposed convolution: output position o reads input position (o + before - k · dilation) / stride, if exact.
const TRANSPOSED = 0u;
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

// Input positions along an axis, and whether there are such.
struct Places {
  at: vec4<u32>,
  inside: vec4<bool>,
}

fn places(o: vec4<u32>, axis: u32, k: u32) -> Places {
  let shift = k * params.dilations[axis];
  let stride = params.strides[axis];
  let before = params.before[axis];
  var at: vec4<u32>;
  var inside: vec4<bool>;
  // Positions before the input wrap around to large ones.
  if (TRANSPOSED == 1u) {
    let reach = o + before - shift;
    at = reach / stride;
    inside = (reach % stride == vec4<u32>(0u)) & (o + before >= vec4<u32>(shift));
  } else {
    at = o * stride + shift - before;
    inside = vec4<bool>(true);
  }
  return Places(at, inside & (at < vec4<u32>(params.input[axis])));
}

// Four output channels' weights.
fn weights(i: vec4<u32>) -> vec4<f32> {
  if (PACKED == 1u) { return w_at4(i.x); }
  return w_pack(w_at(i.x), w_at(i.y), w_at(i.z), w_at(i.w));
}

@compute @workgroup_size(16, 4)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let plane = params.output.w;
  // Planes too large for one row of workgroups fold into several.
  let image = id.z / params.folds;
  let first = (id.z % params.folds * count.x * 16u + id.x) * 4u;
  let channel = id.y * 4u;
  if (first >= plane || channel >= params.outputs) {
    return;
  }
  let group = image % params.groups;
  // Elements past the end repeat the last one.
  let p = min(first + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(plane - 1u));
  let ox = p % params.output.z;
  let oy = p / params.output.z % params.output.y;
  let oz = p / (params.output.z * params.output.y);
  let x0 = image * params.inputs * params.input.w;
  // Channels past the end repeat the last one.
  let channels = min(channel + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.outputs - 1u));
  var w = group * params.weights.x + channels * params.weights.y;
  var y0 = vec4<f32>(0.0);
  var y1 = vec4<f32>(0.0);
  var y2 = vec4<f32>(0.0);
  var y3 = vec4<f32>(0.0);
  for (var kz = 0u; kz < params.kernel.x; kz++) {
    let z = places(oz, 0u, kz);
    for (var ky = 0u; ky < params.kernel.y; ky++) {
      let y = places(oy, 1u, ky);
      let zy = z.inside & y.inside;
      if (!any(zy)) {
        w += params.kernel.z * params.weights.w;
        continue;
      }
      for (var kx = 0u; kx < params.kernel.z; kx++) {
        let x = places(ox, 2u, kx);
        let inside = zy & x.inside;
        if (any(inside)) {
          let place = (z.at * params.input.y + y.at) * params.input.z + x.at;
          var at = x0 + select(vec4<u32>(0u), place, inside);
          for (var c = 0u; c < params.inputs; c++) {
            let four = x_pack(x_at(at.x), x_at(at.y), x_at(at.z), x_at(at.w));
            let v = select(vec4<f32>(0.0), four, inside);
            let k = weights(w + c * params.weights.z);
            y0 += k.x * v;
            y1 += k.y * v;
            y2 += k.z * v;
            y3 += k.w * v;
            at += params.input.w;
          }
        }
        w += params.weights.w;
      }
    }
  }
  let n = min(4u, plane - first);
  let rest = params.outputs - channel;
  let at = (image * params.outputs + channel) * plane + first;
  emit4(y0, at, n);
  if (rest > 1u) { emit4(y1, at + plane, n); }
  if (rest > 2u) { emit4(y2, at + 2u * plane, n); }
  if (rest > 3u) { emit4(y3, at + 3u * plane, n); }
}
