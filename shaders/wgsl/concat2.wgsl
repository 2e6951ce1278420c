// Two matrices beside each other. The dispatch writes `rows` runs of `span` elements, `stride` apart in the output;
// element k of all runs is column k % columns of row k / columns of the inputs taken together.

const WORKGROUP = 64u;
// 1: no group of four outputs crosses from one input to the next.
const FOUR = 0u;

struct Params {
  rows: u32,
  span: u32,
  columns: u32,
  stride: u32,
  offset: u32,
  pad0: u32,
  pad1: u32,
  pad2: u32,
  ends: vec4<u32>,
  counts: vec4<u32>,
}

fn pick(k: u32) -> x0_value {
  let row = k / params.columns;
  let at = k % params.columns;
  if (at < params.ends.x) {
    return x0_at(row * params.counts.x + at);
  }
  return x1_at(row * params.counts.y + at - params.ends.x);
}

fn pick4(k: u32) -> x0_value4 {
  let row = k / params.columns;
  let at = k % params.columns;
  if (at < params.ends.x) {
    return x0_at4(row * params.counts.x + at);
  }
  return x1_at4(row * params.counts.y + at - params.ends.x);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let g = id.y * count.x * WORKGROUP + id.x;
  let per_row = (params.span + 3u) / 4u;
  let row = g / per_row;
  if (row >= params.rows) {
    return;
  }
  let start = (g % per_row) * 4u;
  let k = row * params.span + start;
  let n = min(4u, params.span - start);
  let to = row * params.stride + params.offset + start;
  if (FOUR == 1u) {
    emit4(pick4(k), to, n);
    return;
  }
  // Lanes past the end repeat the last element.
  emit4(x0_pack(pick(k), pick(k + min(1u, n - 1u)), pick(k + min(2u, n - 1u)), pick(k + min(3u, n - 1u))), to, n);
}
