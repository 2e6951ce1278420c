// Pointwise functions on four 32-bit unsigned integers, also those of 8 and 16 bits. Division by zero gives 0.

fn add_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> { return a + b; }
fn sub_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> { return a - b; }
fn mul_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> { return a * b; }
fn min_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> { return min(a, b); }
fn max_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> { return max(a, b); }
fn abs_u32(x: vec4<u32>) -> vec4<u32> { return x; }
fn neg_u32(x: vec4<u32>) -> vec4<u32> { return vec4<u32>(0u) - x; }
fn sign_u32(x: vec4<u32>) -> vec4<u32> { return min(x, vec4<u32>(1u)); }
fn relu_u32(x: vec4<u32>) -> vec4<u32> { return x; }
fn prelu_u32(x: vec4<u32>, slope: vec4<u32>) -> vec4<u32> { return x; }

fn div_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
  let none = b == vec4<u32>(0u);
  return select(a / select(b, vec4<u32>(1u), none), vec4<u32>(0u), none);
}

fn remainder_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> { return select(a - div_u32(a, b) * b, vec4<u32>(0u), b == vec4<u32>(0u)); }
fn mod_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> { return remainder_u32(a, b); }

// By squaring.
fn pow_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
  var y = vec4<u32>(1u);
  var square = a;
  var rest = b;
  for (var step = 0u; step < 32u; step++) {
    y = select(y, y * square, (rest & vec4<u32>(1u)) != vec4<u32>(0u));
    square *= square;
    rest = rest >> vec4<u32>(1u);
  }
  return y;
}

fn equal_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<bool> { return a == b; }
fn less_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<bool> { return a < b; }
fn greater_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<bool> { return a > b; }
fn less_equal_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<bool> { return a <= b; }
fn greater_equal_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<bool> { return a >= b; }
fn select_u32(condition: vec4<bool>, a: vec4<u32>, b: vec4<u32>) -> vec4<u32> { return select(b, a, condition); }
fn bit_and_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> { return a & b; }
fn bit_or_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> { return a | b; }
fn bit_xor_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> { return a ^ b; }
fn bit_not_u32(x: vec4<u32>) -> vec4<u32> { return ~x; }

fn shift_left_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
  return select(vec4<u32>(0u), a << (b & vec4<u32>(31u)), b < vec4<u32>(32u));
}

fn shift_right_u32(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
  return select(vec4<u32>(0u), a >> (b & vec4<u32>(31u)), b < vec4<u32>(32u));
}

fn wrap_u8(x: vec4<u32>) -> vec4<u32> { return x & vec4<u32>(255u); }
fn wrap_u16(x: vec4<u32>) -> vec4<u32> { return x & vec4<u32>(65535u); }
