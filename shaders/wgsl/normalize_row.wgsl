// Brings each line of [outer, len, inner] to a common scale, a workgroup to a line. The statistics are those of
// normalize.wgsl.

const WORKGROUP = 64u;
const STATISTIC = 0u;
// Four elements at a time: inner is 1 and len a multiple of four.
const VECTOR = 0u;

struct Params { lines: u32, len: u32, inner: u32, epsilon: f32 }

var<workgroup> partial: array<f32, WORKGROUP>;

fn together(mine: vec4<f32>, lane: u32) -> f32 {
  partial[lane] = select(mine.x, (mine.x + mine.y) + (mine.z + mine.w), VECTOR != 0u);
  workgroupBarrier();
  for (var step = WORKGROUP / 2u; step > 0u; step >>= 1u) {
    if (lane < step) {
      partial[lane] += partial[lane + step];
    }
    workgroupBarrier();
  }
  let all = partial[0];
  workgroupBarrier();
  return all;
}

fn load(at: u32) -> vec4<f32> {
  if (VECTOR != 0u) {
    return x_at4(at);
  }
  return vec4<f32>(x_at(at));
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let line = id.y * groups.x + id.x;
  if (line >= params.lines) {
    return;
  }
  let base = line / params.inner * params.len * params.inner + line % params.inner;
  let count = select(params.len, params.len / 4u, VECTOR != 0u);
  let stride = select(params.inner, 4u, VECTOR != 0u);
  var mean = 0.0;
  if (STATISTIC == 0u || STATISTIC == 4u) {
    var mine = vec4<f32>(0.0);
    for (var k = lane; k < count; k += WORKGROUP) {
      mine += load(base + k * stride);
    }
    mean = together(mine, lane) / f32(params.len);
  }
  var mine = vec4<f32>(0.0);
  for (var k = lane; k < count; k += WORKGROUP) {
    let v = load(base + k * stride) - mean;
    mine += select(v * v, abs(v), STATISTIC == 2u);
  }
  let sum = vec4<f32>(together(mine, lane));
  let factor = normalize_factor(sum, STATISTIC, f32(params.len), params.epsilon);
  for (var k = lane; k < count; k += WORKGROUP) {
    let at = base + k * stride;
    emit4((load(at) - mean) * factor, at, select(1u, 4u, VECTOR != 0u));
  }
}
