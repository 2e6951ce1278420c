// Softmax or its logarithm along each line of [outer, len, inner], an invocation to a line or to four neighbouring ones.

const WORKGROUP = 64u;
// The logarithm of the softmax.
const LOG = 0u;
// Four neighbouring lines to an invocation: inner is a multiple of four.
const VECTOR = 0u;

struct Params { lines: u32, len: u32, inner: u32, pad: u32 }

fn one(base: u32) {
  var largest = x_at(base);
  for (var k = 1u; k < params.len; k++) {
    largest = max(largest, x_at(base + k * params.inner));
  }
  var sum = 0.0;
  for (var k = 0u; k < params.len; k++) {
    sum += exp(x_at(base + k * params.inner) - largest);
  }
  for (var k = 0u; k < params.len; k++) {
    let at = base + k * params.inner;
    let v = x_at(at) - largest;
    emit4(vec4<f32>(select(exp(v) / sum, v - log(sum), LOG != 0u)), at, 1u);
  }
}

fn four(base: u32) {
  var largest = x_at4(base);
  for (var k = 1u; k < params.len; k++) {
    largest = max(largest, x_at4(base + k * params.inner));
  }
  var sum = vec4<f32>(0.0);
  for (var k = 0u; k < params.len; k++) {
    sum += exp(x_at4(base + k * params.inner) - largest);
  }
  for (var k = 0u; k < params.len; k++) {
    let at = base + k * params.inner;
    let v = x_at4(at) - largest;
    emit4(select(exp(v) / sum, v - log(sum), LOG != 0u), at, 4u);
  }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * WORKGROUP + id.x;
  let line = select(i, i * 4u, VECTOR != 0u);
  if (line >= params.lines) {
    return;
  }
  let base = line / params.inner * params.len * params.inner + line % params.inner;
  if (VECTOR != 0u) {
    four(base);
  } else {
    one(base);
  }
}
