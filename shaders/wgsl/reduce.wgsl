// Reduces [outer, len, inner] along len, an invocation to four neighbouring outputs. The output is
// [outer, segments, inner]: each segment of len elements reduced on its own, so that a second launch can end what few
// outputs would leave to few invocations. What the modes mean stands at `reduce_prepare_f32`.

const WORKGROUP = 64u;
const PREPARE = 0u;
const COMBINE = 0u;
const COMPLETE = 0u;
// The four outputs read neighbouring elements: inner is a multiple of four.
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

fn segment_of(output: u32) -> u32 {
  return (output / params.inner) % params.segments;
}

fn first(output: u32) -> u32 {
  let outer = output / params.inner / params.segments;
  return (outer * params.len + segment_of(output) * params.segment) * params.inner + output % params.inner;
}

fn load(base: vec4<u32>, step: u32) -> x_value4 {
  let at = base + vec4<u32>(step * params.inner);
  if (VECTOR != 0u) {
    return x_at4(at.x);
  }
  return x_pack(x_at(at.x), x_at(at.y), x_at(at.z), x_at(at.w));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = (id.y * groups.x * WORKGROUP + id.x) * 4u;
  if (i >= params.outputs) {
    return;
  }
  // Lanes past the end repeat the last output.
  let last = params.outputs - 1u;
  let base = vec4<u32>(first(i), first(min(i + 1u, last)), first(min(i + 2u, last)), first(min(i + 3u, last)));
  let count = min(params.segment, params.len - segment_of(i) * params.segment);
  var shift = x_value4();
  if (PREPARE == 3u) {
    var largest = load(base, 0u);
    for (var k = 1u; k < count; k++) {
      largest = reduce_combine_of_x(largest, load(base, k), 2u);
    }
    shift = reduce_shift_of_x(largest);
  }
  var total = reduce_prepare_of_x(load(base, 0u), PREPARE, shift);
  for (var k = 1u; k < count; k++) {
    total = reduce_combine_of_x(total, reduce_prepare_of_x(load(base, k), PREPARE, shift), COMBINE);
  }
  emit4(reduce_complete_of_x(total, COMPLETE, params.scale, shift), i, min(4u, params.outputs - i));
}
