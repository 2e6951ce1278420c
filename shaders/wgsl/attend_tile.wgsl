// Attention by tiles: 64 queries of a head to a workgroup, one to an invocation, which keeps it and its result in registers.
// Keys and values pass through workgroup memory; the softmax is corrected whenever a larger score is met.

// Groups of four elements of a query and of a value.
const SIZE4 = 16u;
const VALUE4 = 16u;
// No mask (0), numbers added to the scores (1), or truth values: of the keys that keep their scores (2) or are seen (3).
const MASK = 0u;
// Queries are turned: x · cos + r · sin, r being the second half of x, negative, and then the first.
const TURN = 0u;
// The elements of each factor follow each other.
const NEAR_Q = 1u;
const NEAR_K = 1u;
const NEAR_V = 1u;

struct Params {
  queries: u32,
  keys: u32,
  size: u32,
  value_size: u32,
  group: u32,
  scale: f32,
  softcap: f32,
  fill: f32,
  low: i32,
  high: i32,
  pad: vec2<u32>,
  offsets: vec4<u32>,
  q_strides: vec4<u32>,
  k_strides: vec4<u32>,
  v_strides: vec4<u32>,
  mask_strides: vec4<u32>,
  y_strides: vec4<u32>,
  turn_offsets: vec4<u32>,
  cos_strides: vec4<u32>,
  sin_strides: vec4<u32>,
}

const ROOM = 512u;
const LONGER = max(SIZE4, VALUE4);
// Keys of a tile.
const KEYS = ROOM / LONGER / 4u * 4u;
// The least number: a score below it is of a key that is not seen.
const LEAST = -3.4028234663852886e38;

var<workgroup> k_tile: array<vec4<f32>, ROOM>;
var<workgroup> v_tile: array<vec4<f32>, ROOM>;

fn q_four(base: u32, e: u32) -> vec4<f32> {
  if (NEAR_Q == 1u) { return q_at4(base + e); }
  let i = base + (e + vec4<u32>(0u, 1u, 2u, 3u)) * params.q_strides.w;
  return q_pack(q_at(i.x), q_at(i.y), q_at(i.z), q_at(i.w));
}

fn q_turned(base: u32, e: u32, at: vec3<u32>) -> vec4<f32> {
  let own = q_four(base, e);
  if (TURN == 0u) { return own; }
  let front = e < params.size / 2u;
  let far = q_four(base, select(e - params.size / 2u, e + params.size / 2u, front));
  let lanes = e + vec4<u32>(0u, 1u, 2u, 3u);
  let c = params.turn_offsets.x + dot(at, params.cos_strides.xyz) + lanes * params.cos_strides.w;
  let s = params.turn_offsets.y + dot(at, params.sin_strides.xyz) + lanes * params.sin_strides.w;
  let c4 = cosines_pack(cosines_at(c.x), cosines_at(c.y), cosines_at(c.z), cosines_at(c.w));
  let s4 = sines_pack(sines_at(s.x), sines_at(s.y), sines_at(s.z), sines_at(s.w));
  return own * c4 + select(far, -far, front) * s4;
}

fn k_four(base: u32, e: u32) -> vec4<f32> {
  if (NEAR_K == 1u) { return k_at4(base + e); }
  let i = base + (e + vec4<u32>(0u, 1u, 2u, 3u)) * params.k_strides.w;
  return k_pack(k_at(i.x), k_at(i.y), k_at(i.z), k_at(i.w));
}

fn v_four(base: u32, e: u32) -> vec4<f32> {
  if (NEAR_V == 1u) { return v_at4(base + e); }
  let i = base + (e + vec4<u32>(0u, 1u, 2u, 3u)) * params.v_strides.w;
  return v_pack(v_at(i.x), v_at(i.y), v_at(i.z), v_at(i.w));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let batch = group.z;
  let head = group.y;
  let key_head = head / params.group;
  let first = group.x * 64u;
  let query = min(first + lane, params.queries - 1u);
  let q0 = params.offsets.x + batch * params.q_strides.x + head * params.q_strides.y + query * params.q_strides.z;
  let k0 = params.offsets.y + batch * params.k_strides.x + key_head * params.k_strides.y;
  let v0 = params.offsets.z + batch * params.v_strides.x + key_head * params.v_strides.y;
  let mask0 = params.offsets.w + batch * params.mask_strides.x + head * params.mask_strides.y + query * params.mask_strides.z;
  var row: array<vec4<f32>, SIZE4>;
  for (var e = 0u; e < SIZE4; e++) {
    row[e] = q_turned(q0, e * 4u, vec3<u32>(batch, head, query)) * params.scale;
  }
  var y: array<vec4<f32>, VALUE4>;
  for (var e = 0u; e < VALUE4; e++) {
    y[e] = vec4<f32>(0.0);
  }
  var most: f32 = LEAST;
  var sum = 0.0;
  // The keys that some query of the workgroup sees, and those that this one sees.
  let last = min(first + 63u, params.queries - 1u);
  let begin = u32(max(i32(first) + params.low, 0));
  let end = u32(clamp(i32(last) + params.high + 1, 0, i32(params.keys)));
  let lowest = u32(max(i32(query) + params.low, 0));
  let bound = u32(clamp(i32(query) + params.high + 1, 0, i32(params.keys)));
  for (var start = begin; start < end; start += KEYS) {
    for (var i = lane; i < KEYS * SIZE4; i += 64u) {
      let key = min(start + i / SIZE4, params.keys - 1u);
      k_tile[i] = k_four(k0 + key * params.k_strides.z, i % SIZE4 * 4u);
    }
    for (var i = lane; i < KEYS * VALUE4; i += 64u) {
      let key = min(start + i / VALUE4, params.keys - 1u);
      v_tile[i] = v_four(v0 + key * params.v_strides.z, i % VALUE4 * 4u);
    }
    workgroupBarrier();
    for (var j = 0u; j < KEYS; j += 4u) {
      let key = start + j + vec4<u32>(0u, 1u, 2u, 3u);
      var s = vec4<f32>(0.0);
      let at = j * SIZE4;
      for (var e = 0u; e < SIZE4; e++) {
        s += vec4<f32>(
          dot(row[e], k_tile[at + e]),
          dot(row[e], k_tile[at + SIZE4 + e]),
          dot(row[e], k_tile[at + 2u * SIZE4 + e]),
          dot(row[e], k_tile[at + 3u * SIZE4 + e]),
        );
      }
      if (params.softcap > 0.0) {
        s = tanh_f32(s / params.softcap) * params.softcap;
      }
      var seen = (key >= vec4<u32>(lowest)) & (key < vec4<u32>(bound));
      if (MASK > 0u) {
        let i = mask0 + min(key, vec4<u32>(params.keys - 1u)) * params.mask_strides.w;
        let m = vec4<f32>(f32(mask_at(i.x)), f32(mask_at(i.y)), f32(mask_at(i.z)), f32(mask_at(i.w)));
        if (MASK == 1u) { s += m; }
        if (MASK == 2u) { s = select(vec4<f32>(params.fill), s, m != vec4<f32>(0.0)); }
        if (MASK == 3u) { seen = seen & (m != vec4<f32>(0.0)); }
      }
      s = select(vec4<f32>(LEAST), s, seen);
      let larger = max(max(max(s.x, s.y), max(s.z, s.w)), most);
      let keep = exp(most - larger);
      let p = select(vec4<f32>(0.0), exp(s - larger), seen & (s >= vec4<f32>(LEAST)));
      most = larger;
      sum = sum * keep + ((p.x + p.y) + (p.z + p.w));
      let values = j * VALUE4;
      for (var e = 0u; e < VALUE4; e++) {
        y[e] = y[e] * keep
          + ((p.x * v_tile[values + e] + p.y * v_tile[values + VALUE4 + e])
          + (p.z * v_tile[values + 2u * VALUE4 + e] + p.w * v_tile[values + 3u * VALUE4 + e]));
      }
    }
    workgroupBarrier();
  }
  if (first + lane >= params.queries) {
    return;
  }
  let factor = select(0.0, 1.0 / sum, sum > 0.0);
  let y0 = batch * params.y_strides.x + head * params.y_strides.y + query * params.y_strides.z;
  for (var e = 0u; e < VALUE4; e++) {
    emit4(y[e] * factor, y0 + e * 4u, 4u);
  }
}
