// The position of the extreme element of each line of [outer, len, inner], a workgroup to a line: for few long lines.

const WORKGROUP = 64u;
// The smallest element rather than the largest.
const SMALLEST = 0u;
// The last of equal elements rather than the first.
const LAST = 0u;

struct Params { lines: u32, len: u32, inner: u32, pad: u32 }

var<workgroup> values: array<x_value, WORKGROUP>;
var<workgroup> places: array<u32, WORKGROUP>;

// Whether element `v` at `k` goes before `best` at `place`.
fn better(v: x_value, k: u32, best: x_value, place: u32) -> bool {
  if (v == best) {
    return (k < place) == (LAST == 0u);
  }
  return (v < best) == (SMALLEST != 0u);
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
  // Idle invocations repeat the last element, which changes nothing.
  var place = min(lane, params.len - 1u);
  var best = x_at(base + place * params.inner);
  for (var k = lane + WORKGROUP; k < params.len; k += WORKGROUP) {
    let v = x_at(base + k * params.inner);
    if (better(v, k, best, place)) {
      best = v;
      place = k;
    }
  }
  values[lane] = best;
  places[lane] = place;
  workgroupBarrier();
  for (var step = WORKGROUP / 2u; step > 0u; step >>= 1u) {
    if (lane < step && better(values[lane + step], places[lane + step], values[lane], places[lane])) {
      values[lane] = values[lane + step];
      places[lane] = places[lane + step];
    }
    workgroupBarrier();
  }
  if (lane == 0u) {
    emit(vec2<u32>(places[0], 0u), line);
  }
}
