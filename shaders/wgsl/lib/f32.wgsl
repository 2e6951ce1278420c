// Arithmetic, order and choice on four floats. min, max and clip hand NaN on, which the built-in functions need not do;
// NaN and infinities are recognised by their bits, since a compiler may assume that there are none.

fn add_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return a + b; }
fn sub_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return a - b; }
fn mul_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return a * b; }
fn div_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return a / b; }
fn div_by_f32(x: vec4<f32>, by: f32) -> vec4<f32> { return x / by; }
fn abs_f32(x: vec4<f32>) -> vec4<f32> { return abs(x); }
fn neg_f32(x: vec4<f32>) -> vec4<f32> { return -x; }
fn reciprocal_f32(x: vec4<f32>) -> vec4<f32> { return 1.0 / x; }
fn ceil_f32(x: vec4<f32>) -> vec4<f32> { return ceil(x); }
fn floor_f32(x: vec4<f32>) -> vec4<f32> { return floor(x); }
fn round_f32(x: vec4<f32>) -> vec4<f32> { return round(x); }

fn sign_f32(x: vec4<f32>) -> vec4<f32> {
  return select(select(x, vec4<f32>(-1.0), x < vec4<f32>(0.0)), vec4<f32>(1.0), x > vec4<f32>(0.0));
}

fn sqrt_f32(x: vec4<f32>) -> vec4<f32> { return select(sqrt(x), nan_like(x), x < vec4<f32>(0.0)); }

// NaN, made of x because WGSL has no literal for it and refuses constants that are not finite.
fn nan_like(x: vec4<f32>) -> vec4<f32> { return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) | vec4<u32>(0x7fc00000u)); }

// Infinity with the sign of x.
fn infinity_like(x: vec4<f32>) -> vec4<f32> {
  return bitcast<vec4<f32>>((bitcast<vec4<u32>>(x) & vec4<u32>(0x80000000u)) | vec4<u32>(0x7f800000u));
}

fn with_sign_of(magnitude: vec4<f32>, x: vec4<f32>) -> vec4<f32> {
  let sign = bitcast<vec4<u32>>(x) & vec4<u32>(0x80000000u);
  return bitcast<vec4<f32>>(bitcast<vec4<u32>>(abs(magnitude)) | sign);
}

fn is_nan_f32(x: vec4<f32>) -> vec4<bool> {
  return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

fn is_infinite(x: vec4<f32>) -> vec4<bool> {
  return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) == vec4<u32>(0x7f800000u);
}

fn is_inf_f32(x: vec4<f32>, positive: f32, negative: f32) -> vec4<bool> {
  let bits = bitcast<vec4<u32>>(x);
  return ((bits == vec4<u32>(0x7f800000u)) & vec4<bool>(positive != 0.0))
    | ((bits == vec4<u32>(0xff800000u)) & vec4<bool>(negative != 0.0));
}

fn min_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return select(b, a, (a < b) | is_nan_f32(a)); }
fn max_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return select(b, a, (a > b) | is_nan_f32(a)); }

fn clip_f32(x: vec4<f32>, low: f32, high: f32) -> vec4<f32> {
  let raised = select(x, vec4<f32>(low), x < vec4<f32>(low));
  let clipped = select(raised, vec4<f32>(high), raised > vec4<f32>(high));
  return select(clipped, x, is_nan_f32(x));
}

fn equal_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<bool> { return a == b; }
fn less_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<bool> { return a < b; }
fn greater_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<bool> { return a > b; }
fn less_equal_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<bool> { return a <= b; }
fn greater_equal_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<bool> { return a >= b; }
fn select_f32(condition: vec4<bool>, a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return select(b, a, condition); }

// The rounded quotient may be off by one, which leaves a remainder on the wrong side. Beyond 2^24 it says nothing.
fn remainder_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
  let size = abs(b);
  var rest = abs(a) - trunc(abs(a) / size) * size;
  rest = select(rest, rest + size, rest < vec4<f32>(0.0));
  rest = select(rest, rest - size, rest >= size);
  rest = select(rest, vec4<f32>(0.0), (rest < vec4<f32>(0.0)) | (rest >= size));
  rest = select(rest, abs(a), is_infinite(b) & !is_infinite(a));
  return select(with_sign_of(rest, a), nan_like(a), is_nan_f32(rest));
}

fn mod_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
  let rest = remainder_f32(a, b);
  let none = rest == vec4<f32>(0.0);
  let moved = select(rest, rest + b, (rest < vec4<f32>(0.0)) != (b < vec4<f32>(0.0)));
  return select(moved, with_sign_of(rest, b), none);
}

// The common exponents exactly; a negative base has powers only for integers.
fn pow_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
  let size = pow(abs(a), b);
  let whole = b == trunc(b);
  let odd = abs(b - 2.0 * trunc(b * 0.5)) == vec4<f32>(1.0);
  let below = select(nan_like(a), select(size, -size, odd), whole);
  var y = select(size, below, a < vec4<f32>(0.0));
  y = select(y, vec4<f32>(1.0), b == vec4<f32>(0.0));
  y = select(y, a, b == vec4<f32>(1.0));
  y = select(y, a * a, b == vec4<f32>(2.0));
  y = select(y, a * a * a, b == vec4<f32>(3.0));
  y = select(y, 1.0 / a, b == vec4<f32>(-1.0));
  return select(y, sqrt(a), (b == vec4<f32>(0.5)) & (a >= vec4<f32>(0.0)));
}
