// Local response normalisation over the channels of [batch, channels, inner], four neighbouring elements to an
// invocation: x / (bias + alpha * sum of squares of the channels around)^beta.

const WORKGROUP = 64u;
// The four elements lie in one channel: inner is a multiple of four.
const VECTOR = 0u;

struct Params {
  len: u32,
  channels: u32,
  inner: u32,
  before: u32,
  after: u32,
  alpha: f32,
  beta: f32,
  bias: f32,
}

fn load(at: u32) -> vec4<f32> {
  if (VECTOR != 0u) {
    return x_at4(at);
  }
  return vec4<f32>(x_at(at));
}

fn response(i: u32) -> vec4<f32> {
  let channel = (i / params.inner) % params.channels;
  let low = min(channel, params.before);
  let high = min(params.channels - 1u - channel, params.after);
  let begin = i - low * params.inner;
  var sum = vec4<f32>(0.0);
  for (var k = 0u; k <= low + high; k++) {
    let v = load(begin + k * params.inner);
    sum += v * v;
  }
  return load(i) / pow(params.bias + params.alpha * sum, vec4<f32>(params.beta));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = (id.y * groups.x * WORKGROUP + id.x) * 4u;
  if (i >= params.len) {
    return;
  }
  var y = response(i);
  if (VECTOR == 0u) {
    // Lanes past the end repeat the last element.
    let last = params.len - 1u;
    for (var lane = 1u; lane < 4u; lane++) {
      y[lane] = response(min(i + lane, last)).x;
    }
  }
  emit4(y, i, min(4u, params.len - i));
}
