// Rows of a cache with further ones behind them, which lie anywhere and may be turned: y = x · cos + r · sin, r being the second
// half of x, negative, and then the first. A second cache of the same sizes may get further rows as they are.

// There are caches.
const PAST = 0u;
// Further rows are turned.
const TURN = 0u;
// There is a second cache.
const PAIR = 0u;

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
  other_strides: vec4<u32>,
  cos_strides: vec4<u32>,
  sin_strides: vec4<u32>,
}

// Element, row and head of all batches.
struct Place {
  e: u32,
  row: u32,
  block: u32,
}

var<private> second: vec4<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = (id.y * groups.x * 64u + id.x) * 4u;
  if (i >= params.len) {
    return;
  }
  let at = min(i + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.len - 1u));
  let y = vec4<f32>(element(at.x), element(at.y), element(at.z), element(at.w));
  if (PAIR == 1u) {
    second = vec4<f32>(other_element(at.x), other_element(at.y), other_element(at.z), other_element(at.w));
  }
  emit4(y, i, min(4u, params.len - i));
}

fn place(i: u32) -> Place {
  return Place(i % params.size, i / params.size % params.rows, i / params.size / params.rows);
}

fn cached(at: Place) -> u32 {
  return (at.block * params.past + at.row) * params.size + at.e;
}

// Batch, head and row of a further row.
fn further(at: Place) -> vec3<u32> {
  return vec3<u32>(at.block / params.heads, at.block % params.heads, at.row - params.past);
}

fn element(i: u32) -> f32 {
  let p = place(i);
  if (PAST == 1u && p.row < params.past) {
    return past_at(cached(p));
  }
  let at = further(p);
  let x0 = params.offsets.x + dot(at, params.x_strides.xyz);
  let own = x_at(x0 + p.e * params.x_strides.w);
  if (TURN == 0u) {
    return own;
  }
  let front = p.e < params.half;
  let far = x_at(x0 + select(p.e - params.half, p.e + params.half, front) * params.x_strides.w);
  let c = cosines_at(params.offsets.y + dot(at, params.cos_strides.xyz) + p.e * params.cos_strides.w);
  let s = sines_at(params.offsets.z + dot(at, params.sin_strides.xyz) + p.e * params.sin_strides.w);
  return own * c + select(far, -far, front) * s;
}

fn other_element(i: u32) -> f32 {
  let p = place(i);
  if (PAST == 1u && p.row < params.past) {
    return other_past_at(cached(p));
  }
  return other_at(params.offsets.w + dot(further(p), params.other_strides.xyz) + p.e * params.other_strides.w);
}
