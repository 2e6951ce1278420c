// The parts of a reduction that depend on the element type. `prepare` is done to each element: 0 nothing, 1 magnitude,
// 2 square, 3 the exponential relative to `shift`. `combine`: 0 sum, 1 product, 2 largest, 3 smallest. `complete` is
// done to the result: 0 nothing, 1 division by `scale`, 2 square root, 3 logarithm plus `shift`.

fn reduce_prepare_f32(v: vec4<f32>, mode: u32, shift: vec4<f32>) -> vec4<f32> {
  switch mode {
    case 1u: { return abs(v); }
    case 2u: { return v * v; }
    case 3u: { return exp(v - shift); }
    default: { return v; }
  }
}

fn reduce_combine_f32(a: vec4<f32>, b: vec4<f32>, mode: u32) -> vec4<f32> {
  switch mode {
    case 1u: { return a * b; }
    case 2u: { return max(a, b); }
    case 3u: { return min(a, b); }
    default: { return a + b; }
  }
}

// An infinite largest value is no shift: inf - inf would be NaN.
fn reduce_shift_f32(largest: vec4<f32>) -> vec4<f32> {
  return select(largest, vec4<f32>(0.0), abs(largest) > vec4<f32>(3.4028234e38));
}

fn reduce_complete_f32(v: vec4<f32>, mode: u32, scale: f32, shift: vec4<f32>) -> vec4<f32> {
  switch mode {
    case 1u: { return v / scale; }
    case 2u: { return sqrt(v); }
    case 3u: { return log(v) + shift; }
    default: { return v; }
  }
}

fn reduce_prepare_i32(v: vec4<i32>, mode: u32, shift: vec4<i32>) -> vec4<i32> {
  switch mode {
    case 1u: { return abs(v); }
    case 2u: { return v * v; }
    default: { return v; }
  }
}

fn reduce_combine_i32(a: vec4<i32>, b: vec4<i32>, mode: u32) -> vec4<i32> {
  switch mode {
    case 1u: { return a * b; }
    case 2u: { return max(a, b); }
    case 3u: { return min(a, b); }
    default: { return a + b; }
  }
}

fn reduce_shift_i32(largest: vec4<i32>) -> vec4<i32> { return largest; }
fn reduce_complete_i32(v: vec4<i32>, mode: u32, scale: f32, shift: vec4<i32>) -> vec4<i32> { return v; }

fn reduce_prepare_u32(v: vec4<u32>, mode: u32, shift: vec4<u32>) -> vec4<u32> {
  switch mode {
    case 2u: { return v * v; }
    default: { return v; }
  }
}

fn reduce_combine_u32(a: vec4<u32>, b: vec4<u32>, mode: u32) -> vec4<u32> {
  switch mode {
    case 1u: { return a * b; }
    case 2u: { return max(a, b); }
    case 3u: { return min(a, b); }
    default: { return a + b; }
  }
}

fn reduce_shift_u32(largest: vec4<u32>) -> vec4<u32> { return largest; }
fn reduce_complete_u32(v: vec4<u32>, mode: u32, scale: f32, shift: vec4<u32>) -> vec4<u32> { return v; }

fn reduce_prepare_i64(v: Long4, mode: u32, shift: Long4) -> Long4 { return v; }

fn reduce_combine_i64(a: Long4, b: Long4, mode: u32) -> Long4 {
  if (mode == 0u) {
    return add_i64(a, b);
  }
  // Signed order: by the high words as signed, then by the low words.
  let high_a = bitcast<vec4<i32>>(a.hi);
  let high_b = bitcast<vec4<i32>>(b.hi);
  let less = (high_a < high_b) | ((a.hi == b.hi) & (a.lo < b.lo));
  let take_b = less == vec4<bool>(mode == 2u);
  return Long4(select(a.lo, b.lo, take_b), select(a.hi, b.hi, take_b));
}

fn reduce_shift_i64(largest: Long4) -> Long4 { return largest; }
fn reduce_complete_i64(v: Long4, mode: u32, scale: f32, shift: Long4) -> Long4 { return v; }

fn reduce_prepare_bool(v: vec4<bool>, mode: u32, shift: vec4<bool>) -> vec4<bool> { return v; }

// The largest of truth values is their disjunction, the smallest their conjunction.
fn reduce_combine_bool(a: vec4<bool>, b: vec4<bool>, mode: u32) -> vec4<bool> {
  return select(a & b, a | b, mode == 2u);
}

fn reduce_shift_bool(largest: vec4<bool>) -> vec4<bool> { return largest; }
fn reduce_complete_bool(v: vec4<bool>, mode: u32, scale: f32, shift: vec4<bool>) -> vec4<bool> { return v; }
