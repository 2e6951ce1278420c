// y = alpha · a · b by tiles of 64 x 64 to a workgroup of 16 x 16, staged through workgroup memory 16 steps of depth at a
// time; four rows by four columns to an invocation.

// Stored rows of a run along its rows (1) instead of its depth (0); stored rows of b along the depth (1) instead of its
// columns (0).
const TRANS_A = 0u;
const TRANS_B = 0u;
// Stored rows that do not run along the depth begin at multiples of four and may be read past their end.
const WIDE_A = 0u;
const WIDE_B = 0u;

struct Params {
  rows: u32,
  columns: u32,
  depth: u32,
  alpha: f32,
  a_row: u32,
  a_step: u32,
  b_step: u32,
  b_column: u32,
  batch: vec4<u32>,
  a_batch: vec4<u32>,
  b_batch: vec4<u32>,
}

// A tile whose stored rows run along the depth holds, for each of its 64 rows or columns, four groups of four steps; the
// other kind, for each of 16 steps, sixteen groups of four rows or columns.
var<workgroup> a_tile: array<vec4<f32>, 256>;
var<workgroup> b_tile: array<vec4<f32>, 256>;

// Four elements of a from (outer, inner) on, along a stored row; zeros past the depth. The rows that results need are
// below `rows`; others repeat the last one.
fn a_fill(a0: u32, first: u32, k: u32, lane: u32) -> vec4<f32> {
  if (TRANS_A == 1u) {
    let step = k + lane / 16u;
    if (step >= params.depth) { return vec4<f32>(0.0); }
    let row = min(first + lane % 16u * 4u + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.rows - 1u));
    let i = a0 + step * params.a_step + row;
    if (WIDE_A == 1u) { return a_at4(i.x - i.x % 4u); }
    return a_pack(a_at(i.x), a_at(i.y), a_at(i.z), a_at(i.w));
  }
  let step = k + lane % 4u * 4u;
  let i = a0 + min(first + lane / 4u, params.rows - 1u) * params.a_row + step;
  if (step + 3u < params.depth) { return a_at4(i); }
  var four = vec4<f32>(0.0);
  if (step < params.depth) { four.x = a_at(i); }
  if (step + 1u < params.depth) { four.y = a_at(i + 1u); }
  if (step + 2u < params.depth) { four.z = a_at(i + 2u); }
  return four;
}

fn b_fill(b0: u32, first: u32, k: u32, lane: u32) -> vec4<f32> {
  if (TRANS_B == 0u) {
    let step = k + lane / 16u;
    if (step >= params.depth) { return vec4<f32>(0.0); }
    let column = min(first + lane % 16u * 4u + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.columns - 1u));
    let i = b0 + step * params.b_step + column;
    if (WIDE_B == 1u) { return b_at4(i.x - i.x % 4u); }
    return b_pack(b_at(i.x), b_at(i.y), b_at(i.z), b_at(i.w));
  }
  let step = k + lane % 4u * 4u;
  let i = b0 + min(first + lane / 4u, params.columns - 1u) * params.b_column + step;
  if (step + 3u < params.depth) { return b_at4(i); }
  var four = vec4<f32>(0.0);
  if (step < params.depth) { four.x = b_at(i); }
  if (step + 1u < params.depth) { four.y = b_at(i + 1u); }
  if (step + 2u < params.depth) { four.z = b_at(i + 2u); }
  return four;
}

// Steps 4 · q .. 4 · q + 3 of four rows of a: column r belongs to row r.
fn a_block(y: u32, q: u32) -> mat4x4<f32> {
  if (TRANS_A == 1u) {
    let i = q * 64u + y;
    return transpose(mat4x4<f32>(a_tile[i], a_tile[i + 16u], a_tile[i + 32u], a_tile[i + 48u]));
  }
  let i = y * 16u + q;
  return mat4x4<f32>(a_tile[i], a_tile[i + 4u], a_tile[i + 8u], a_tile[i + 12u]);
}

// Steps 4 · q .. 4 · q + 3 of four columns of b: column k belongs to step k.
fn b_block(x: u32, q: u32) -> mat4x4<f32> {
  if (TRANS_B == 0u) {
    let i = q * 64u + x;
    return mat4x4<f32>(b_tile[i], b_tile[i + 16u], b_tile[i + 32u], b_tile[i + 48u]);
  }
  let i = x * 16u + q;
  return transpose(mat4x4<f32>(b_tile[i], b_tile[i + 4u], b_tile[i + 8u], b_tile[i + 12u]));
}

@compute @workgroup_size(16, 16)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_id) local: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  var rest = group.z;
  var a0 = 0u;
  var b0 = 0u;
  for (var d = 0u; d < 4u; d++) {
    let at = rest % params.batch[d];
    a0 += at * params.a_batch[d];
    b0 += at * params.b_batch[d];
    rest /= params.batch[d];
  }
  var y0 = vec4<f32>(0.0);
  var y1 = vec4<f32>(0.0);
  var y2 = vec4<f32>(0.0);
  var y3 = vec4<f32>(0.0);
  for (var k = 0u; k < params.depth; k += 16u) {
    a_tile[lane] = a_fill(a0, group.y * 64u, k, lane);
    b_tile[lane] = b_fill(b0, group.x * 64u, k, lane);
    workgroupBarrier();
    for (var q = 0u; q < 4u; q++) {
      let a = a_block(local.y, q);
      let b = b_block(local.x, q);
      y0 += b * a[0];
      y1 += b * a[1];
      y2 += b * a[2];
      y3 += b * a[3];
    }
    workgroupBarrier();
  }
  let row = group.y * 64u + local.y * 4u;
  let column = group.x * 64u + local.x * 4u;
  if (column >= params.columns) {
    return;
  }
  let n = min(4u, params.columns - column);
  let at = (group.z * params.rows + row) * params.columns + column;
  if (row < params.rows) { emit4(y0 * params.alpha, at, n); }
  if (row + 1u < params.rows) { emit4(y1 * params.alpha, at + params.columns, n); }
  if (row + 2u < params.rows) { emit4(y2 * params.alpha, at + 2u * params.columns, n); }
  if (row + 3u < params.rows) { emit4(y3 * params.alpha, at + 3u * params.columns, n); }
}
