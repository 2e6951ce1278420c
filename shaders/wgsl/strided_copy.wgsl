// Output element (c0, c1, ...) is input element offset + sum(c * stride). Four outputs to an invocation, so that
// elements narrower than a word are written whole words at a time.

const WORKGROUP = 64u;
// 1: every group of four outputs is a group of four inputs.
const FOUR = 0u;

struct Params {
  len: u32,
  rank: u32,
  offset: u32,
  pad: u32,
  dims: array<vec4<u32>, 2>,
  strides: array<vec4<i32>, 2>,
}

fn source(i: u32) -> u32 {
  var rest = i;
  var at = i32(params.offset);
  for (var d = 0u; d < params.rank; d++) {
    let size = params.dims[d >> 2u][d & 3u];
    at += i32(rest % size) * params.strides[d >> 2u][d & 3u];
    rest /= size;
  }
  return u32(at);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let i = (id.y * count.x * WORKGROUP + id.x) * 4u;
  if (i >= params.len) {
    return;
  }
  if (FOUR == 1u) {
    emit4(x_at4(source(i)), i, min(4u, params.len - i));
    return;
  }
  // Lanes past the end repeat the last element.
  let last = params.len - 1u;
  let four = x_pack(
    x_at(source(i)),
    x_at(source(min(i + 1u, last))),
    x_at(source(min(i + 2u, last))),
    x_at(source(min(i + 3u, last))),
  );
  emit4(four, i, min(4u, params.len - i));
}
