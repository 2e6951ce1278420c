// Reduces [outer, len, inner] along len, a workgroup to an output: for few outputs of many elements each. Segments and
// modes are those of reduce.wgsl.

const WORKGROUP = 64u;
const PREPARE = 0u;
const COMBINE = 0u;
const COMPLETE = 0u;
// Four elements at a time: inner is 1, and len and segment are multiples of four.
const VECTOR = 0u;

struct Params {
  outputs: u32,
  len: u32,
  inner: u32,
  segment: u32,
  segments: u32,
  scale: f32,
  pad0: u32,
  pad1: u32,
}

var<workgroup> partial: array<x_value4, WORKGROUP>;

fn load(base: u32, step: u32) -> x_value4 {
  if (VECTOR != 0u) {
    return x_at4(base + step * 4u);
  }
  let v = x_at(base + step * params.inner);
  return x_pack(v, v, v, v);
}

// The values of the first `count` invocations combined, for all of them.
fn together(mine: x_value4, lane: u32, count: u32, mode: u32) -> x_value4 {
  partial[lane] = mine;
  workgroupBarrier();
  for (var step = WORKGROUP / 2u; step > 0u; step >>= 1u) {
    if (lane < step && lane + step < count) {
      partial[lane] = reduce_combine_of_x(partial[lane], partial[lane + step], mode);
    }
    workgroupBarrier();
  }
  var all = partial[0];
  workgroupBarrier();
  if (VECTOR != 0u) {
    let v = x_lanes(all);
    all = reduce_combine_of_x(all, x_pack(v[1], v[0], v[3], v[2]), mode);
    let w = x_lanes(all);
    all = reduce_combine_of_x(all, x_pack(w[2], w[3], w[0], w[1]), mode);
  }
  return all;
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let output = id.y * groups.x + id.x;
  if (output >= params.outputs) {
    return;
  }
  let start = (output / params.inner) % params.segments * params.segment;
  let outer = output / params.inner / params.segments;
  let base = (outer * params.len + start) * params.inner + output % params.inner;
  var count = min(params.segment, params.len - start);
  if (VECTOR != 0u) {
    count /= 4u;
  }
  let busy = min(count, WORKGROUP);
  // Idle invocations repeat the last element, which the tree leaves out.
  let begin = min(lane, count - 1u);
  var shift = x_value4();
  if (PREPARE == 3u) {
    var largest = load(base, begin);
    for (var k = lane + WORKGROUP; k < count; k += WORKGROUP) {
      largest = reduce_combine_of_x(largest, load(base, k), 2u);
    }
    shift = reduce_shift_of_x(together(largest, lane, busy, 2u));
  }
  var mine = reduce_prepare_of_x(load(base, begin), PREPARE, shift);
  for (var k = lane + WORKGROUP; k < count; k += WORKGROUP) {
    mine = reduce_combine_of_x(mine, reduce_prepare_of_x(load(base, k), PREPARE, shift), COMBINE);
  }
  let total = together(mine, lane, busy, COMBINE);
  if (lane == 0u) {
    emit(x_lanes(reduce_complete_of_x(total, COMPLETE, params.scale, shift))[0], output);
  }
}
