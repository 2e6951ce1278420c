// Attention of one query of a head to a workgroup, whose invocations share the keys, and then the elements of the values.

const WORKGROUP = 128u;
// No mask (0), numbers added to the scores (1), or truth values: of the keys that keep their scores (2) or are seen (3).
const MASK = 0u;
// Queries are turned: x · cos + r · sin, r being the second half of x, negative, and then the first.
const TURN = 0u;
// The elements of each factor follow each other, in whole groups of four.
const NEAR_Q = 0u;
const NEAR_K = 0u;
const NEAR_V = 0u;

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

// The least number: a score below it is of a key that is not seen.
const LEAST = -3.4028234663852886e38;

var<workgroup> q_row: array<vec4<f32>, 128>;
var<workgroup> scores: array<f32, WORKGROUP>;
var<workgroup> partial: array<vec4<f32>, WORKGROUP>;

// Elements past the last are zeros.
fn q_four(base: u32, e: u32) -> vec4<f32> {
  if (NEAR_Q == 1u) { return q_at4(base + e); }
  let at = e + vec4<u32>(0u, 1u, 2u, 3u);
  let i = base + min(at, vec4<u32>(params.size - 1u)) * params.q_strides.w;
  let all = q_pack(q_at(i.x), q_at(i.y), q_at(i.z), q_at(i.w));
  return select(vec4<f32>(0.0), all, at < vec4<u32>(params.size));
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
  let at = e + vec4<u32>(0u, 1u, 2u, 3u);
  let i = base + min(at, vec4<u32>(params.size - 1u)) * params.k_strides.w;
  let all = k_pack(k_at(i.x), k_at(i.y), k_at(i.z), k_at(i.w));
  return select(vec4<f32>(0.0), all, at < vec4<u32>(params.size));
}

fn v_four(base: u32, e: u32) -> vec4<f32> {
  if (NEAR_V == 1u) { return v_at4(base + e); }
  let i = base + min(e + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.value_size - 1u)) * params.v_strides.w;
  return v_pack(v_at(i.x), v_at(i.y), v_at(i.z), v_at(i.w));
}

// Of all scores in workgroup memory: the largest (0), or the sum (1). Everything in `partial` is lost.
fn together(mine: f32, lane: u32, add: bool) -> f32 {
  partial[lane].x = mine;
  workgroupBarrier();
  for (var step = WORKGROUP / 2u; step > 0u; step >>= 1u) {
    if (lane < step) {
      let a = partial[lane].x;
      let b = partial[lane + step].x;
      partial[lane].x = select(max(a, b), a + b, add);
    }
    workgroupBarrier();
  }
  let all = partial[0].x;
  workgroupBarrier();
  return all;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let batch = group.z;
  let head = group.y;
  let query = group.x;
  let key_head = head / params.group;
  let q0 = params.offsets.x + batch * params.q_strides.x + head * params.q_strides.y + query * params.q_strides.z;
  let k0 = params.offsets.y + batch * params.k_strides.x + key_head * params.k_strides.y;
  let v0 = params.offsets.z + batch * params.v_strides.x + key_head * params.v_strides.y;
  let mask0 = params.offsets.w + batch * params.mask_strides.x + head * params.mask_strides.y + query * params.mask_strides.z;
  let size4 = (params.size + 3u) / 4u;
  let value4 = (params.value_size + 3u) / 4u;
  // Invocations that work on the same elements of the values.
  let slices = WORKGROUP / value4;
  let element = lane % value4;
  let slice = lane / value4;
  if (lane < size4) {
    q_row[lane] = q_turned(q0, lane * 4u, vec3<u32>(batch, head, query)) * params.scale;
  }
  workgroupBarrier();
  var y = vec4<f32>(0.0);
  var most: f32 = LEAST;
  var sum = 0.0;
  let begin = u32(max(i32(query) + params.low, 0));
  let end = u32(clamp(i32(query) + params.high + 1, 0, i32(params.keys)));
  for (var start = begin; start < end; start += WORKGROUP) {
    let key = start + lane;
    var s: f32 = LEAST;
    var seen = key < end;
    if (seen) {
      let base = k0 + key * params.k_strides.z;
      var products = vec4<f32>(0.0);
      for (var e = 0u; e < size4; e++) {
        products += q_row[e] * k_four(base, e * 4u);
      }
      s = (products.x + products.y) + (products.z + products.w);
      if (params.softcap > 0.0) {
        s = tanh_f32(vec4<f32>(s / params.softcap)).x * params.softcap;
      }
      if (MASK > 0u) {
        let m = f32(mask_at(mask0 + key * params.mask_strides.w));
        if (MASK == 1u) { s += m; }
        if (MASK == 2u) { s = select(params.fill, s, m != 0.0); }
        if (MASK == 3u) { seen = m != 0.0; }
      }
      if (!seen) {
        s = LEAST;
      }
    }
    let larger = max(most, together(s, lane, false));
    let keep = exp(most - larger);
    let p = select(0.0, exp(s - larger), seen && s >= LEAST);
    most = larger;
    scores[lane] = p;
    sum = sum * keep + together(p, lane, true);
    y *= keep;
    if (slice < slices) {
      let count = min(WORKGROUP, end - start);
      for (var j = slice; j < count; j += slices) {
        y += scores[j] * v_four(v0 + (start + j) * params.v_strides.z, element * 4u);
      }
    }
    workgroupBarrier();
  }
  partial[lane] = y;
  workgroupBarrier();
  if (lane >= value4) {
    return;
  }
  for (var other = 1u; other < slices; other++) {
    y += partial[other * value4 + lane];
  }
  let factor = select(0.0, 1.0 / sum, sum > 0.0);
  let y0 = batch * params.y_strides.x + head * params.y_strides.y + query * params.y_strides.z;
  emit4(y * factor, y0 + lane * 4u, min(4u, params.value_size - lane * 4u));
}
