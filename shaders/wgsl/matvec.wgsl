// y = alpha · a · b for few rows: one row by four columns to an invocation, or to SPLIT of them that share the depth.

const WORKGROUP = 64u;
const SPLIT = 1u;
// Stored rows of b run along the depth (1) instead of its columns (0).
const TRANS_B = 0u;
// Stored rows of b begin at multiples of four and may be read past their end.
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

const GROUPS = WORKGROUP / SPLIT;

var<workgroup> partial: array<vec4<f32>, WORKGROUP>;

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

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let column = (group.x * GROUPS + lane % GROUPS) * 4u;
  let slice = lane / GROUPS;
  var rest = group.z;
  var a0 = group.y * params.a_row;
  var b0 = 0u;
  for (var d = 0u; d < 4u; d++) {
    let at = rest % params.batch[d];
    a0 += at * params.a_batch[d];
    b0 += at * params.b_batch[d];
    rest /= params.batch[d];
  }
  var y = vec4<f32>(0.0);
  if (column < params.columns) {
    // Columns past the edge repeat the last one.
    let columns = min(column + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.columns - 1u));
    let b_base = b0 + columns * params.b_column;
    let blocks = params.depth & ~3u;
    for (var k = slice * 4u; k < blocks; k += SPLIT * 4u) {
      let i = a0 + k * params.a_step;
      let a = vec4<f32>(a_at(i), a_at(i + params.a_step), a_at(i + 2u * params.a_step), a_at(i + 3u * params.a_step));
      y += b_block(b_base, k) * a;
    }
    for (var k = blocks + slice; k < params.depth; k += SPLIT) {
      y += a_at(a0 + k * params.a_step) * b_four(b_base, k);
    }
  }
  if (SPLIT > 1u) {
    partial[lane] = y;
    for (var half = SPLIT / 2u; half > 0u; half /= 2u) {
      workgroupBarrier();
      if (slice < half) {
        partial[lane] += partial[lane + half * GROUPS];
      }
    }
    y = partial[lane];
  }
  if (slice == 0u && column < params.columns) {
    let at = (group.z * params.rows + group.y) * params.columns + column;
    emit4(y * params.alpha, at, min(4u, params.columns - column));
  }
}
