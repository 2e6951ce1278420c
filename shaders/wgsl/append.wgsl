// Rows of a cache with further ones behind them, which lie anywhere and may be turned: y = x · cos + r · sin, r being the second
// half of x, negative, and then the first.

// There is a cache.
const PAST = 0u;
// Further rows are turned.
const TURN = 0u;

struct Params {
  len: u32,
  heads: u32,
  past: u32,
  rows: u32,
  size: u32,
  half: u32,
  pad: vec2<u32>,
  offsets: vec4<u32>,
  x_strides: vec4<u32>,
  cos_strides: vec4<u32>,
  sin_strides: vec4<u32>,
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = (id.y * groups.x * 64u + id.x) * 4u;
  if (i >= params.len) {
    return;
  }
  let at = min(i + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.len - 1u));
  let y = vec4<f32>(element(at.x), element(at.y), element(at.z), element(at.w));
  emit4(y, i, min(4u, params.len - i));
}

fn element(i: u32) -> f32 {
  let e = i % params.size;
  let row = i / params.size % params.rows;
  let block = i / params.size / params.rows;
  if (PAST == 1u && row < params.past) {
    return past_at((block * params.past + row) * params.size + e);
  }
  let at = vec3<u32>(block / params.heads, block % params.heads, row - params.past);
  let x0 = params.offsets.x + dot(at, params.x_strides.xyz);
  let own = x_at(x0 + e * params.x_strides.w);
  if (TURN == 0u) {
    return own;
  }
  let front = e < params.half;
  let other = select(e - params.half, e + params.half, front);
  let far = x_at(x0 + other * params.x_strides.w);
  let c = cosines_at(params.offsets.y + dot(at, params.cos_strides.xyz) + e * params.cos_strides.w);
  let s = sines_at(params.offsets.z + dot(at, params.sin_strides.xyz) + e * params.sin_strides.w);
  return own * c + select(far, -far, front) * s;
}
