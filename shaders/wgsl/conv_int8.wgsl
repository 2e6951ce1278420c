// Convolutions of bytes, exactly: four output channels by four neighbouring output elements to an invocation, four input
// channels to an operation. Words of `w` hold four input channels of an output channel, output channels side by side,
// signed: group, window element, input channels, output channels.

// The bytes of `x` are signed; else they are shifted into that range together with their zero point.
const SIGNED = 0u;
// Output channels have zero points of their own.
const ZEROS = 0u;
// Windows of one element at stride 1: four neighbours are a word.
const POINTWISE = 0u;

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

fn shifted(word: u32) -> u32 {
  if (SIGNED == 1u) { return word; }
  return word ^ 0x80808080u;
}

// Input positions along an axis, and whether there are such. Positions before the input wrap around to large ones.
fn position(o: vec4<u32>, axis: u32, k: u32) -> vec4<u32> {
  return o * params.strides[axis] + k * params.dilations[axis] - params.before[axis];
}

fn bytes(i: vec4<u32>) -> vec4<u32> {
  let words = vec4<u32>(x_at(i.x >> 2u), x_at(i.y >> 2u), x_at(i.z >> 2u), x_at(i.w >> 2u));
  return (words >> ((i & vec4<u32>(3u)) * 8u)) & vec4<u32>(255u);
}

// Four channels from `c` on of four elements: a word for each element. Channels past the end repeat the last one, where
// `w` has zeros.
fn block(at: vec4<u32>, c: u32) -> vec4<u32> {
  let plane = params.input.w;
  let last = params.inputs - 1u;
  let c1 = min(c + 1u, last);
  let c2 = min(c + 2u, last);
  let c3 = min(c + 3u, last);
  if (POINTWISE == 1u) {
    let r = vec4<u32>(x_at((at.x + c * plane) >> 2u), x_at((at.x + c1 * plane) >> 2u),
      x_at((at.x + c2 * plane) >> 2u), x_at((at.x + c3 * plane) >> 2u));
    // Rows of four bytes become columns.
    let low = 0x00ff00ffu;
    let ab = (r.xz & vec2<u32>(low)) | ((r.yw & vec2<u32>(low)) << vec2<u32>(8u));
    let cd = ((r.xz >> vec2<u32>(8u)) & vec2<u32>(low)) | (r.yw & vec2<u32>(~low));
    return vec4<u32>((ab.x & 0xffffu) | (ab.y << 16u), (cd.x & 0xffffu) | (cd.y << 16u),
      (ab.x >> 16u) | (ab.y & 0xffff0000u), (cd.x >> 16u) | (cd.y & 0xffff0000u));
  }
  return bytes(at + c * plane) | (bytes(at + c1 * plane) << vec4<u32>(8u))
    | (bytes(at + c2 * plane) << vec4<u32>(16u)) | (bytes(at + c3 * plane) << vec4<u32>(24u));
}

fn dots(v: vec4<u32>, w: u32) -> vec4<i32> {
  return vec4<i32>(dot4I8Packed(v.x, w), dot4I8Packed(v.y, w), dot4I8Packed(v.z, w), dot4I8Packed(v.w, w));
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
  // What pads has the value of the zero point.
  let zero = shifted((zero_at(0u) & 255u) * 0x01010101u);
  let stride = params.weights.x;
  var w = group * params.weights.y + channel;
  var y0 = vec4<i32>(0);
  var y1 = vec4<i32>(0);
  var y2 = vec4<i32>(0);
  var y3 = vec4<i32>(0);
  var sums = vec4<i32>(0);
  for (var kz = 0u; kz < params.kernel.x; kz++) {
    let z = position(oz, 0u, kz);
    for (var ky = 0u; ky < params.kernel.y; ky++) {
      let y = position(oy, 1u, ky);
      for (var kx = 0u; kx < params.kernel.z; kx++) {
        let x = position(ox, 2u, kx);
        let inside = (z < vec4<u32>(params.input.x)) & (y < vec4<u32>(params.input.y)) & (x < vec4<u32>(params.input.z));
        let place = (z * params.input.y + y) * params.input.z + x;
        let at = x0 + select(vec4<u32>(0u), place, inside);
        for (var c = 0u; c < params.inputs; c += 4u) {
          let v = select(vec4<u32>(zero), shifted4(block(at, c)), inside);
          let k = w_at4(w);
          y0 += dots(v, k.x);
          y1 += dots(v, k.y);
          y2 += dots(v, k.z);
          y3 += dots(v, k.w);
          if (ZEROS == 1u) {
            let left = min(params.inputs - c, 4u);
            sums += dots(v, 0x01010101u >> ((4u - left) * 8u));
          }
          w += stride;
        }
      }
    }
  }
  // What the zero points leave: of `x` times the sums of weights, of weights times the sums of `x`.
  let at = group * stride + channel;
  let own = extractBits(bitcast<i32>(zero), 0u, 8u);
  let add = constants_at4(at) - own * constants_at4(params.weights.z + at);
  let zeros = constants_at4(2u * params.weights.z + at);
  let n = min(4u, plane - first);
  let rest = params.outputs - channel;
  let out = (image * params.outputs + channel) * plane + first;
  emit4(y0 + add.x - sums * zeros.x, out, n);
  if (rest > 1u) { emit4(y1 + add.y - sums * zeros.y, out + plane, n); }
  if (rest > 2u) { emit4(y2 + add.z - sums * zeros.z, out + 2u * plane, n); }
  if (rest > 3u) { emit4(y3 + add.w - sums * zeros.w, out + 3u * plane, n); }
}

fn shifted4(words: vec4<u32>) -> vec4<u32> {
  if (SIGNED == 1u) { return words; }
  return words ^ vec4<u32>(0x80808080u);
}
