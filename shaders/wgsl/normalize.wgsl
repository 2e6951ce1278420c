// Brings each line of [outer, len, inner] to a common scale, an invocation to a line or to four neighbouring ones.
// The statistics stand at `normalize_factor`; 0 and 4 also take the mean away.

const WORKGROUP = 64u;
const STATISTIC = 0u;
// Four neighbouring lines to an invocation: inner is a multiple of four.
const VECTOR = 0u;

struct Params { lines: u32, len: u32, inner: u32, epsilon: f32 }

fn load(at: u32) -> vec4<f32> {
  if (VECTOR != 0u) {
    return x_at4(at);
  }
  return vec4<f32>(x_at(at));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * WORKGROUP + id.x;
  let line = select(i, i * 4u, VECTOR != 0u);
  if (line >= params.lines) {
    return;
  }
  let base = line / params.inner * params.len * params.inner + line % params.inner;
  var mean = vec4<f32>(0.0);
  if (STATISTIC == 0u || STATISTIC == 4u) {
    for (var k = 0u; k < params.len; k++) {
      mean += load(base + k * params.inner);
    }
    mean /= f32(params.len);
  }
  var sum = vec4<f32>(0.0);
  for (var k = 0u; k < params.len; k++) {
    let v = load(base + k * params.inner) - mean;
    sum += select(v * v, abs(v), STATISTIC == 2u);
  }
  let factor = normalize_factor(sum, STATISTIC, f32(params.len), params.epsilon);
  for (var k = 0u; k < params.len; k++) {
    let at = base + k * params.inner;
    emit4((load(at) - mean) * factor, at, select(1u, 4u, VECTOR != 0u));
  }
}
