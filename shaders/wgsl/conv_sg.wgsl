// Convolutions over up to three axes by subgroups: ROWS output channels by 4 · QUADS neighbouring output elements to an
// invocation. A subgroup loads the weights of as many input channels as it has invocations, each once, and hands them
// around; every input element is loaded once for all output channels. The elements lie in the flattened output plane.

const WORKGROUP = 8u;
const ROWS = 16u;
const QUADS = 2u;

struct Params {
  input: vec4<u32>,
  output: vec4<u32>,
  kernel: vec4<u32>,
  strides: vec4<u32>,
  dilations: vec4<u32>,
  before: vec4<u32>,
  weights: vec4<u32>,
  groups: u32,
  inputs: u32,
  outputs: u32,
  folds: u32,
}

// Where four output elements find their input elements, and which of those are inside.
struct Places {
  at: vec4<u32>,
  inside: vec4<bool>,
}

// Positions before the input wrap around to large ones.
fn places(p: vec4<u32>, k: vec3<u32>) -> Places {
  let first = k * params.dilations.xyz - params.before.xyz;
  let z = p / (params.output.z * params.output.y) * params.strides.x + first.x;
  let y = p / params.output.z % params.output.y * params.strides.y + first.y;
  let x = p % params.output.z * params.strides.z + first.z;
  let inside =
    (z < vec4<u32>(params.input.x)) & (y < vec4<u32>(params.input.y)) & (x < vec4<u32>(params.input.z));
  let at = (z * params.input.y + y) * params.input.z + x;
  return Places(select(vec4<u32>(0u), at, inside), inside);
}

fn x_four(at: vec4<u32>, inside: vec4<bool>) -> vec4<f32> {
  let four = x_pack(x_at(at.x), x_at(at.y), x_at(at.z), x_at(at.w));
  return select(vec4<f32>(0.0), four, inside);
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(global_invocation_id) id: vec3<u32>,
  @builtin(num_workgroups) count: vec3<u32>,
  @builtin(subgroup_invocation_id) lane: u32,
  @builtin(subgroup_size) size: u32,
) {
  let plane = params.output.w;
  // Planes too large for one row of workgroups fold into several.
  let image = id.z / params.folds;
  let first = (id.z % params.folds * count.x * WORKGROUP + id.x) * 4u * QUADS;
  let channel = id.y * ROWS;
  // Invocations of a subgroup stay together to the end: those past the edge repeat the last element or channel.
  let lanes = vec4<u32>(0u, 1u, 2u, 3u);
  let p$QUADS = min(first + 4u * $QUADSu + lanes, vec4<u32>(plane - 1u));
  let x0 = image * params.inputs * params.input.w;
  let own = image % params.groups * params.weights.x;
  let c$ROWS = own + min(channel + $ROWSu, params.outputs - 1u) * params.weights.y;
  var y$ROWS_$QUADS = vec4<f32>(0.0);
  for (var tap = 0u; tap < params.kernel.w; tap++) {
    let across = params.kernel.z;
    let k = vec3<u32>(tap / (across * params.kernel.y), tap / across % params.kernel.y, tap % across);
    let place$QUADS = places(p$QUADS, k);
    var at$QUADS = x0 + place$QUADS.at;
    for (var c = 0u; c < params.inputs; c += size) {
      let mine = min(c + lane, params.inputs - 1u) * params.weights.z + tap * params.weights.w;
      let w$ROWS = w_at(c$ROWS + mine);
      let steps = min(size, params.inputs - c);
      for (var step = 0u; step < steps; step++) {
        let v$QUADS = x_four(at$QUADS, place$QUADS.inside);
        let u$ROWS = subgroupShuffle(w$ROWS, step);
        y$ROWS_$QUADS += u$ROWS * v$QUADS;
        at$QUADS += params.input.w;
      }
    }
  }
  var sums: array<vec4<f32>, ROWS * QUADS>;
  sums[$ROWSu * QUADS + $QUADSu] = y$ROWS_$QUADS;
  for (var r = 0u; r < min(ROWS, params.outputs - min(channel, params.outputs)); r++) {
    let at = (image * params.outputs + channel + r) * plane;
    for (var q = 0u; q < QUADS; q++) {
      let e = first + 4u * q;
      if (e < plane) { emit4(sums[r * QUADS + q], at + e, min(4u, plane - e)); }
    }
  }
}
