// The position of the extreme element of each line of [outer, len, inner], an invocation to four neighbouring lines.

const WORKGROUP = 64u;
// The smallest element rather than the largest.
const SMALLEST = 0u;
// The last of equal elements rather than the first.
const LAST = 0u;
// The four lines are neighbours in memory: inner is a multiple of four.
const VECTOR = 0u;

struct Params { lines: u32, len: u32, inner: u32, pad: u32 }

fn first(line: u32) -> u32 {
  return line / params.inner * params.len * params.inner + line % params.inner;
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
  if (i >= params.lines) {
    return;
  }
  // Lanes past the end repeat the last line.
  let last = params.lines - 1u;
  let base = vec4<u32>(first(i), first(min(i + 1u, last)), first(min(i + 2u, last)), first(min(i + 3u, last)));
  var best = load(base, 0u);
  var place = vec4<u32>(0u);
  for (var k = 1u; k < params.len; k++) {
    let v = load(base, k);
    var better = v > best;
    if (SMALLEST != 0u) {
      better = v < best;
    }
    if (LAST != 0u) {
      better |= v == best;
    }
    best = select(best, v, better);
    place = select(place, vec4<u32>(k), better);
  }
  emit4(Long4(place, vec4<u32>(0u)), i, min(4u, params.lines - i));
}
