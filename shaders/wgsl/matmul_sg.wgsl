// y = alpha · a · b by subgroups: ROWS rows by 4 · QUADS columns to an invocation. A subgroup loads as many steps of its
// rows of a as it has invocations, each once, and hands them around; every element of b is loaded once for all rows.

const WORKGROUP = 8u;
const ROWS = 16u;
const QUADS = 2u;
// Stored rows of b run along its columns, begin at multiples of four and may be read past their end.
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

// Four columns of b at one step of depth.
fn b_four(base: vec4<u32>, k: u32) -> vec4<f32> {
  let i = base + k * params.b_step;
  if (WIDE_B == 1u) { return b_at4(i.x); }
  return b_pack(b_at(i.x), b_at(i.y), b_at(i.z), b_at(i.w));
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(global_invocation_id) id: vec3<u32>,
  @builtin(subgroup_invocation_id) lane: u32,
  @builtin(subgroup_size) size: u32,
) {
  // Invocations of a subgroup stay together to the end: those past the edge repeat the last row or column.
  let row = id.y * ROWS;
  let column = id.x * 4u * QUADS;
  var rest = id.z;
  var a0 = 0u;
  var b0 = 0u;
  for (var d = 0u; d < 4u; d++) {
    let at = rest % params.batch[d];
    a0 += at * params.a_batch[d];
    b0 += at * params.b_batch[d];
    rest /= params.batch[d];
  }
  let lanes = vec4<u32>(0u, 1u, 2u, 3u);
  let r$ROWS = a0 + min(row + $ROWSu, params.rows - 1u) * params.a_row;
  let c$QUADS = b0 + min(column + 4u * $QUADSu + lanes, vec4<u32>(params.columns - 1u)) * params.b_column;
  var y$ROWS_$QUADS = vec4<f32>(0.0);
  for (var first = 0u; first < params.depth; first += size) {
    let mine = min(first + lane, params.depth - 1u) * params.a_step;
    let w$ROWS = a_at(r$ROWS + mine);
    let steps = min(size, params.depth - first);
    for (var step = 0u; step < steps; step++) {
      let v$QUADS = b_four(c$QUADS, first + step);
      let u$ROWS = subgroupShuffle(w$ROWS, step);
      y$ROWS_$QUADS += u$ROWS * v$QUADS;
    }
  }
  var sums: array<vec4<f32>, ROWS * QUADS>;
  sums[$ROWSu * QUADS + $QUADSu] = y$ROWS_$QUADS;
  for (var r = 0u; r < min(ROWS, params.rows - min(row, params.rows)); r++) {
    let at = (id.z * params.rows + row + r) * params.columns;
    for (var q = 0u; q < QUADS; q++) {
      let c = column + 4u * q;
      if (c < params.columns) { emit4(sums[r * QUADS + q] * params.alpha, at + c, min(4u, params.columns - c)); }
    }
  }
}
