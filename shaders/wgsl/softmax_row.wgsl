// Softmax or its logarithm along each line of [outer, len, inner], a workgroup to a line.

const WORKGROUP = 64u;
// The logarithm of the softmax.
const LOG = 0u;
// Four elements at a time: inner is 1 and len a multiple of four.
const VECTOR = 0u;

struct Params { lines: u32, len: u32, inner: u32, pad: u32 }

var<workgroup> partial: array<f32, WORKGROUP>;

fn together(mine: f32, lane: u32, largest: bool) -> f32 {
  partial[lane] = mine;
  workgroupBarrier();
  for (var step = WORKGROUP / 2u; step > 0u; step >>= 1u) {
    if (lane < step) {
      let a = partial[lane];
      let b = partial[lane + step];
      partial[lane] = select(a + b, max(a, b), largest);
    }
    workgroupBarrier();
  }
  let all = partial[0];
  workgroupBarrier();
  return all;
}

// Elements `step` of the line; one element counts once.
fn load(base: u32, step: u32) -> vec4<f32> {
  if (VECTOR != 0u) {
    return x_at4(base + step * 4u);
  }
  return vec4<f32>(x_at(base + step * params.inner));
}

fn sum_of(v: vec4<f32>) -> f32 {
  return select(v.x, (v.x + v.y) + (v.z + v.w), VECTOR != 0u);
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
  // Idle invocations repeat the last element.
  var most = load(base, min(lane, count - 1u));
  for (var k = lane + WORKGROUP; k < count; k += WORKGROUP) {
    most = max(most, load(base, k));
  }
  let largest = together(max(max(most.x, most.y), max(most.z, most.w)), lane, true);
  var mine = vec4<f32>(0.0);
  for (var k = lane; k < count; k += WORKGROUP) {
    mine += exp(load(base, k) - vec4<f32>(largest));
  }
  let sum = together(sum_of(mine), lane, false);
  for (var k = lane; k < count; k += WORKGROUP) {
    let v = load(base, k) - vec4<f32>(largest);
    let y = select(exp(v) / sum, v - vec4<f32>(log(sum)), LOG != 0u);
    if (VECTOR != 0u) {
      emit4(y, base + k * 4u, 4u);
    } else {
      emit4(y, base + k * params.inner, 1u);
    }
  }
}
