// The upper or lower triangle of matrices; the rest is zero.

const WORKGROUP = 64u;
const UPPER = 0u;

struct Params { len: u32, rows: u32, columns: u32, offset: i32 }

fn one(i: u32) -> x_value {
  let at = min(i, params.len - 1u);
  let above = i32(at % params.columns) - i32(at / params.columns % params.rows) - params.offset;
  if ((UPPER == 1u && above < 0) || (UPPER == 0u && above > 0)) {
    return x_value();
  }
  return x_at(at);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let i = (id.y * count.x * WORKGROUP + id.x) * 4u;
  if (i >= params.len) {
    return;
  }
  emit4(x_pack(one(i), one(i + 1u), one(i + 2u), one(i + 3u)), i, min(4u, params.len - i));
}
