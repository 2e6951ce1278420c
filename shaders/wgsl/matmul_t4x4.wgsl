// y = alpha · a · b. Four rows by four columns to an invocation, both factors straight from memory, four steps of depth
// at a time: column r of the block of a and of the accumulators belongs to row r.

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

// Four rows of a at one step of depth.
fn a_four(base: vec4<u32>, k: u32) -> vec4<f32> {
  let i = base + k * params.a_step;
  if (WIDE_A == 1u) { return a_at4(i.x); }
  return a_pack(a_at(i.x), a_at(i.y), a_at(i.z), a_at(i.w));
}

fn a_block(base: vec4<u32>, k: u32) -> mat4x4<f32> {
  if (TRANS_A == 1u) {
    return transpose(mat4x4<f32>(a_four(base, k), a_four(base, k + 1u), a_four(base, k + 2u), a_four(base, k + 3u)));
  }
  let i = base + k;
  return mat4x4<f32>(a_at4(i.x), a_at4(i.y), a_at4(i.z), a_at4(i.w));
}

// Four columns of b at one step of depth.
fn b_four(base: vec4<u32>, k: u32) -> vec4<f32> {
  let i = base + k * params.b_step;
  if (WIDE_B == 1u) { return b_at4(i.x); }
  return b_pack(b_at(i.x), b_at(i.y), b_at(i.z), b_at(i.w));
}

fn b_block(base: vec4<u32>, k: u32) -> mat4x4<f32> {
  if (TRANS_B == 1u) {
    let i = base + k;
    return transpose(mat4x4<f32>(b_at4(i.x), b_at4(i.y), b_at4(i.z), b_at4(i.w)));
  }
  return mat4x4<f32>(b_four(base, k), b_four(base, k + 1u), b_four(base, k + 2u), b_four(base, k + 3u));
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let column = id.x * 4u;
  let row = id.y * 4u;
  if (column >= params.columns || row >= params.rows) {
    return;
  }
  var rest = id.z;
  var a0 = 0u;
  var b0 = 0u;
  for (var d = 0u; d < 4u; d++) {
    let at = rest % params.batch[d];
    a0 += at * params.a_batch[d];
    b0 += at * params.b_batch[d];
    rest /= params.batch[d];
  }
  // Rows and columns past the edge repeat the last one.
  let lanes = vec4<u32>(0u, 1u, 2u, 3u);
  let a_base = a0 + min(row + lanes, vec4<u32>(params.rows - 1u)) * params.a_row;
  let b_base = b0 + min(column + lanes, vec4<u32>(params.columns - 1u)) * params.b_column;
  var y0 = vec4<f32>(0.0);
  var y1 = vec4<f32>(0.0);
  var y2 = vec4<f32>(0.0);
  var y3 = vec4<f32>(0.0);
  let blocks = params.depth & ~3u;
  for (var k = 0u; k < blocks; k += 4u) {
    let a = a_block(a_base, k);
    let b = b_block(b_base, k);
    y0 += b * a[0];
    y1 += b * a[1];
    y2 += b * a[2];
    y3 += b * a[3];
  }
  for (var k = blocks; k < params.depth; k++) {
    let a = a_four(a_base, k);
    let b = b_four(b_base, k);
    y0 += a.x * b;
    y1 += a.y * b;
    y2 += a.z * b;
    y3 += a.w * b;
  }
  let n = min(4u, params.columns - column);
  let at = (id.z * params.rows + row) * params.columns + column;
  emit4(y0 * params.alpha, at, n);
  if (row + 1u < params.rows) { emit4(y1 * params.alpha, at + params.columns, n); }
  if (row + 2u < params.rows) { emit4(y2 * params.alpha, at + 2u * params.columns, n); }
  if (row + 3u < params.rows) { emit4(y3 * params.alpha, at + 3u * params.columns, n); }
}
