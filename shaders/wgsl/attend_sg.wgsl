// Attention by subgroups: ROWS queries of a head to each. For the scores an invocation has a key of its own, and the queries
// are handed around; for the result it has groups of four elements of the values, and the weights are.

const WORKGROUP = 8u;
const ROWS = 8u;
// Groups of four elements of a query and of a value, and how many of them an invocation has.
const SIZE4 = 16u;
const VALUE4 = 16u;
const PARTS = 2u;
const SHARES = 2u;
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

// The least number: a score below it is of a key that is not seen.
const LEAST = -3.4028234663852886e38;

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

// A score with its mask, which is element `i`, and whether it counts; what does not is the least.
fn masked(score: f32, i: u32, within: bool) -> vec2<f32> {
  var s = score;
  if (params.softcap > 0.0) {
    s = tanh_f32(vec4<f32>(s / params.softcap)).x * params.softcap;
  }
  var seen = within;
  if (MASK > 0u) {
    let m = f32(mask_at(i));
    if (MASK == 1u) { s += m; }
    if (MASK == 2u) { s = select(params.fill, s, m != 0.0); }
    if (MASK == 3u) { seen = seen && m != 0.0; }
  }
  return select(vec2<f32>(LEAST, 0.0), vec2<f32>(s, 1.0), seen && s >= LEAST);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
  let batch = group.z;
  let head = group.y;
  let key_head = head / params.group;
  let first = group.x * ROWS;
  let q0 = params.offsets.x + batch * params.q_strides.x + head * params.q_strides.y;
  let k0 = params.offsets.y + batch * params.k_strides.x + key_head * params.k_strides.y;
  let v0 = params.offsets.z + batch * params.v_strides.x + key_head * params.v_strides.y;
  let mask0 = params.offsets.w + batch * params.mask_strides.x + head * params.mask_strides.y;
  // Invocations of a subgroup stay together to the end: queries past the last repeat it, and so do groups.
  let row$ROWS = min(first + $ROWSu, params.queries - 1u);
  let e$PARTS = min(lane + $PARTSu * WORKGROUP, SIZE4 - 1u) * 4u;
  let f$SHARES = min(lane + $SHARESu * WORKGROUP, VALUE4 - 1u) * 4u;
  let q$ROWS_$PARTS = q_turned(q0 + row$ROWS * params.q_strides.z, e$PARTS, vec3<u32>(batch, head, row$ROWS)) * params.scale;
  let lowest$ROWS = u32(max(i32(row$ROWS) + params.low, 0));
  let bound$ROWS = u32(clamp(i32(row$ROWS) + params.high + 1, 0, i32(params.keys)));
  var most$ROWS: f32 = LEAST;
  var sum$ROWS = 0.0;
  var y$ROWS_$SHARES = vec4<f32>(0.0);
  // The keys that some query of the subgroup sees.
  let last = min(first + ROWS - 1u, params.queries - 1u);
  let begin = u32(max(i32(first) + params.low, 0));
  let end = u32(clamp(i32(last) + params.high + 1, 0, i32(params.keys)));
  for (var start = begin; start < end; start += WORKGROUP) {
    let own = start + lane;
    let key = min(own, params.keys - 1u);
    let base = k0 + key * params.k_strides.z;
    var s$ROWS = 0.0;
    for (var step = 0u; step < WORKGROUP; step++) {
      let d$PARTS = step + $PARTSu * WORKGROUP;
      let k$PARTS = select(vec4<f32>(0.0), k_four(base, min(d$PARTS, SIZE4 - 1u) * 4u), d$PARTS < SIZE4);
      let x$ROWS_$PARTS = subgroupShuffle(q$ROWS_$PARTS, step);
      s$ROWS += dot(x$ROWS_$PARTS, k$PARTS);
    }
    let t$ROWS = masked(s$ROWS, mask0 + row$ROWS * params.mask_strides.z + key * params.mask_strides.w, own >= lowest$ROWS && own < bound$ROWS);
    let larger$ROWS = max(subgroupMax(t$ROWS.x), most$ROWS);
    let keep$ROWS = exp(most$ROWS - larger$ROWS);
    let p$ROWS = select(0.0, exp(t$ROWS.x - larger$ROWS), t$ROWS.y > 0.0);
    most$ROWS = larger$ROWS;
    sum$ROWS = sum$ROWS * keep$ROWS + subgroupAdd(p$ROWS);
    y$ROWS_$SHARES *= keep$ROWS;
    for (var step = 0u; step < WORKGROUP; step++) {
      let at = v0 + min(start + step, params.keys - 1u) * params.v_strides.z;
      let v$SHARES = v_four(at, f$SHARES);
      let w$ROWS = subgroupShuffle(p$ROWS, step);
      y$ROWS_$SHARES += w$ROWS * v$SHARES;
    }
  }
  let y0 = batch * params.y_strides.x + head * params.y_strides.y;
  let factor$ROWS = select(0.0, 1.0 / sum$ROWS, sum$ROWS > 0.0);
  let there$SHARES = lane + $SHARESu * WORKGROUP < VALUE4;
  if (first + $ROWSu < params.queries && there$SHARES) { emit4(y$ROWS_$SHARES * factor$ROWS, y0 + row$ROWS * params.y_strides.z + f$SHARES, 4u); }
}
