// Pointwise functions on four 32-bit signed integers, also those of 8 and 16 bits. Division by zero gives 0.

fn add_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<i32> { return a + b; }
fn sub_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<i32> { return a - b; }
fn mul_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<i32> { return a * b; }
fn min_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<i32> { return min(a, b); }
fn max_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<i32> { return max(a, b); }
fn abs_i32(x: vec4<i32>) -> vec4<i32> { return abs(x); }
fn neg_i32(x: vec4<i32>) -> vec4<i32> { return -x; }
fn sign_i32(x: vec4<i32>) -> vec4<i32> { return sign(x); }
fn relu_i32(x: vec4<i32>) -> vec4<i32> { return max(x, vec4<i32>(0)); }
fn prelu_i32(x: vec4<i32>, slope: vec4<i32>) -> vec4<i32> { return select(x, slope * x, x < vec4<i32>(0)); }

fn div_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<i32> {
  let none = b == vec4<i32>(0);
  return select(a / select(b, vec4<i32>(1), none), vec4<i32>(0), none);
}

fn remainder_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<i32> { return select(a - div_i32(a, b) * b, vec4<i32>(0), b == vec4<i32>(0)); }

fn mod_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<i32> {
  let rest = remainder_i32(a, b);
  return select(rest, rest + b, (rest != vec4<i32>(0)) & ((rest < vec4<i32>(0)) != (b < vec4<i32>(0))));
}

// By squaring. A negative exponent leaves 0, or the sign where the base is 1 or -1.
fn pow_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<i32> {
  var y = vec4<i32>(1);
  var square = a;
  var rest = bitcast<vec4<u32>>(b);
  for (var step = 0u; step < 32u; step++) {
    y = select(y, y * square, (rest & vec4<u32>(1u)) != vec4<u32>(0u));
    square *= square;
    rest = rest >> vec4<u32>(1u);
  }
  let sign = select(vec4<i32>(0), select(vec4<i32>(1), vec4<i32>(-1), (b & vec4<i32>(1)) != vec4<i32>(0)), a == vec4<i32>(-1));
  return select(y, select(sign, vec4<i32>(1), a == vec4<i32>(1)), b < vec4<i32>(0));
}

fn equal_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<bool> { return a == b; }
fn less_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<bool> { return a < b; }
fn greater_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<bool> { return a > b; }
fn less_equal_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<bool> { return a <= b; }
fn greater_equal_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<bool> { return a >= b; }
fn select_i32(condition: vec4<bool>, a: vec4<i32>, b: vec4<i32>) -> vec4<i32> { return select(b, a, condition); }
fn bit_and_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<i32> { return a & b; }
fn bit_or_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<i32> { return a | b; }
fn bit_xor_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<i32> { return a ^ b; }
fn bit_not_i32(x: vec4<i32>) -> vec4<i32> { return ~x; }

fn shift_left_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<i32> {
  let by = bitcast<vec4<u32>>(b);
  return select(vec4<i32>(0), a << (by & vec4<u32>(31u)), by < vec4<u32>(32u));
}

// A negative amount counts as a large one: only the sign is left.
fn shift_right_i32(a: vec4<i32>, b: vec4<i32>) -> vec4<i32> { return a >> min(bitcast<vec4<u32>>(b), vec4<u32>(31u)); }

fn wrap_i8(x: vec4<i32>) -> vec4<i32> { return extractBits(x, 0u, 8u); }
fn wrap_i16(x: vec4<i32>) -> vec4<i32> { return extractBits(x, 0u, 16u); }
