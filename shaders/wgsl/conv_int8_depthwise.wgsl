// Depthwise convolutions of bytes, exactly: four neighbouring output elements of a channel to an invocation. `w` holds the
// weights of each output channel without their zero points.

// The bytes of `x` are signed.
const SIGNED = 0u;

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

fn wide(word: u32, i: u32) -> i32 {
  if (SIGNED == 1u) { return extractBits(bitcast<i32>(word), (i & 3u) * 8u, 8u); }
  return i32(extractBits(word, (i & 3u) * 8u, 8u));
}

fn x_wide(i: u32) -> i32 {
  return wide(x_at(i >> 2u), i);
}

// Input positions along an axis. Positions before the input wrap around to large ones.
fn position(o: vec4<u32>, axis: u32, k: u32) -> vec4<u32> {
  return o * params.strides[axis] + k * params.dilations[axis] - params.before[axis];
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let plane = params.output.w;
  // Planes too large for one row of workgroups fold into several.
  let image = id.z / params.folds;
  let first = (id.z % params.folds * count.x * 64u + id.x) * 4u;
  let channel = id.y;
  if (first >= plane) {
    return;
  }
  // Elements past the end repeat the last one.
  let p = min(first + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(plane - 1u));
  let ox = p % params.output.z;
  let oy = p / params.output.z % params.output.y;
  let oz = p / (params.output.z * params.output.y);
  let channels = params.groups * params.outputs;
  let x0 = (image * params.groups + channel / params.outputs) * params.input.w;
  let zero = wide(zero_at(0u), 0u);
  var w = channel * params.kernel.w;
  var acc = vec4<i32>(0);
  for (var kz = 0u; kz < params.kernel.x; kz++) {
    let z = position(oz, 0u, kz);
    for (var ky = 0u; ky < params.kernel.y; ky++) {
      let y = position(oy, 1u, ky);
      for (var kx = 0u; kx < params.kernel.z; kx++) {
        let x = position(ox, 2u, kx);
        let inside = (z < vec4<u32>(params.input.x)) & (y < vec4<u32>(params.input.y)) & (x < vec4<u32>(params.input.z));
        let place = (z * params.input.y + y) * params.input.z + x;
        let at = x0 + select(vec4<u32>(0u), place, inside);
        let v = vec4<i32>(x_wide(at.x), x_wide(at.y), x_wide(at.z), x_wide(at.w)) - zero;
        acc += select(vec4<i32>(0), v, inside) * w_at(w);
        w++;
      }
    }
  }
  let out = (image * channels + channel) * plane + first;
  emit4(acc + constants_at(channel), out, min(4u, plane - first));
}
