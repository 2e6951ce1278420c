// A tensor read at the coordinates of a grid. Sizes are depth, height, width; where there are fewer axes, the first ones
// have extent 1. A point's coordinates stand innermost axis first.

const WORKGROUP = 64u;
// 0: the nearest element, 1: linear, 2: cubic.
const MODE = 0u;
// What lies outside. 0: zeros, 1: the outermost elements, 2: the tensor mirrored.
const PADDING = 0u;
// 1: -1 and 1 are the centres of the outermost elements, otherwise their outer edges.
const ALIGN = 0u;

struct Params {
  len: u32,
  axes: u32,
  points: u32,
  channels: u32,
  size: vec4<u32>,
}

fn reflect_within(at: f32, n: f32) -> f32 {
  let low = select(-0.5, 0.0, ALIGN == 1u);
  let range = select(n, n - 1.0, ALIGN == 1u);
  if (range <= 0.0) {
    return 0.0;
  }
  let moved = at - low;
  let folded = moved - 2.0 * range * floor(moved / (2.0 * range));
  return low + min(folded, 2.0 * range - folded);
}

// The position among n elements of a normalised coordinate.
fn locate(coordinate: f32, n: f32) -> f32 {
  var at = ((coordinate + 1.0) * n - 1.0) / 2.0;
  if (ALIGN == 1u) {
    at = (coordinate + 1.0) / 2.0 * (n - 1.0);
  }
  if (MODE == 0u) {
    at = round(at);
  }
  let edge = select(0.5, 0.0, ALIGN == 1u);
  if (at < -edge || at > n - 1.0 + edge) {
    if (PADDING == 1u) {
      at = clamp(at, 0.0, n - 1.0);
    }
    if (PADDING == 2u) {
      at = reflect_within(at, n);
    }
  }
  return at;
}

// The element at a position, -1 for none.
fn element(at: f32, n: u32) -> i32 {
  let last = f32(n) - 1.0;
  var inside = at;
  if (!(at >= 0.0 && at <= last)) {
    if (PADDING == 0u) {
      return -1;
    }
    if (PADDING == 2u) {
      inside = reflect_within(at, f32(n));
    }
  }
  return clamp(i32(clamp(inside, 0.0, last)), 0, i32(n) - 1);
}

fn weight(tap: i32, t: f32) -> f32 {
  if (MODE == 0u) {
    return 1.0;
  }
  let x = abs(t - f32(tap));
  if (MODE == 1u) {
    return 1.0 - x;
  }
  if (x <= 1.0) {
    return (1.25 * x - 2.25) * x * x + 1.0;
  }
  return ((-0.75 * x + 3.75) * x - 6.0) * x + 3.0;
}

fn sample(i: u32) -> f32 {
  let plane = i / params.points;
  let first = (plane / params.channels * params.points + i % params.points) * params.axes;
  var at = vec3<f32>(0.0);
  for (var axis = 0u; axis < params.axes; axis++) {
    at[2u - axis] = locate(grid_at(first + axis), f32(params.size[2u - axis]));
  }
  let base = select(floor(at), at, MODE == 0u);
  let t = at - base;
  // Taps run from low to high; axes that are not there have one.
  let low = select(0, -1, MODE == 2u);
  let high = i32(MODE);
  var sum = 0.0;
  let there = vec3<bool>(params.axes > 2u, params.axes > 1u, true);
  let from_tap = select(vec3<i32>(0), vec3<i32>(low), there);
  let to_tap = select(vec3<i32>(0), vec3<i32>(high), there);
  for (var a = from_tap.x; a <= to_tap.x; a++) {
    let z = element(base.x + f32(a), params.size.x);
    for (var b = from_tap.y; b <= to_tap.y; b++) {
      let y = element(base.y + f32(b), params.size.y);
      for (var c = from_tap.z; c <= to_tap.z; c++) {
        let x = element(base.z + f32(c), params.size.z);
        if (z >= 0 && y >= 0 && x >= 0) {
          let row = (plane * params.size.x + u32(z)) * params.size.y + u32(y);
          sum += weight(a, t.x) * weight(b, t.y) * weight(c, t.z) * x_at(row * params.size.z + u32(x));
        }
      }
    }
  }
  return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let i = (id.y * count.x * WORKGROUP + id.x) * 4u;
  if (i >= params.len) {
    return;
  }
  var v: vec4<f32>;
  let n = min(4u, params.len - i);
  for (var lane = 0u; lane < n; lane++) {
    v[lane] = sample(i + lane);
  }
  emit4(v, i, n);
}
