// Pointwise functions on four 64-bit unsigned integers in two words each: what differs from signed ones, and the names of
// what does not. Division by zero gives 0.

fn add_u64(a: Long4, b: Long4) -> Long4 { return add_i64(a, b); }
fn sub_u64(a: Long4, b: Long4) -> Long4 { return sub_i64(a, b); }
fn mul_u64(a: Long4, b: Long4) -> Long4 { return mul_i64(a, b); }
fn neg_u64(x: Long4) -> Long4 { return neg_i64(x); }
fn abs_u64(x: Long4) -> Long4 { return x; }
fn relu_u64(x: Long4) -> Long4 { return x; }
fn prelu_u64(x: Long4, slope: Long4) -> Long4 { return x; }
fn select_u64(condition: vec4<bool>, a: Long4, b: Long4) -> Long4 { return select_i64(condition, a, b); }
fn equal_u64(a: Long4, b: Long4) -> vec4<bool> { return equal_i64(a, b); }
fn less_u64(a: Long4, b: Long4) -> vec4<bool> { return (a.hi < b.hi) | ((a.hi == b.hi) & (a.lo < b.lo)); }
fn greater_u64(a: Long4, b: Long4) -> vec4<bool> { return less_u64(b, a); }
fn less_equal_u64(a: Long4, b: Long4) -> vec4<bool> { return !less_u64(b, a); }
fn greater_equal_u64(a: Long4, b: Long4) -> vec4<bool> { return !less_u64(a, b); }
fn min_u64(a: Long4, b: Long4) -> Long4 { return select_i64(less_u64(b, a), b, a); }
fn max_u64(a: Long4, b: Long4) -> Long4 { return select_i64(less_u64(a, b), b, a); }

fn sign_u64(x: Long4) -> Long4 {
  return Long4(select(vec4<u32>(0u), vec4<u32>(1u), (x.lo | x.hi) != vec4<u32>(0u)), vec4<u32>(0u));
}

// Bit by bit from the top: the quotient takes the place of the dividend's bits as they move into the rest.
fn divide_u64(a: Long4, b: Long4, want_rest: bool) -> Long4 {
  var quotient = a;
  var rest = Long4(vec4<u32>(0u), vec4<u32>(0u));
  for (var step = 0u; step < 64u; step++) {
    let over = (rest.hi >> vec4<u32>(31u)) != vec4<u32>(0u);
    rest = Long4((rest.lo << vec4<u32>(1u)) | (quotient.hi >> vec4<u32>(31u)), (rest.hi << vec4<u32>(1u)) | (rest.lo >> vec4<u32>(31u)));
    quotient = Long4(quotient.lo << vec4<u32>(1u), (quotient.hi << vec4<u32>(1u)) | (quotient.lo >> vec4<u32>(31u)));
    let fits = over | !less_u64(rest, b);
    rest = select_i64(fits, sub_i64(rest, b), rest);
    quotient.lo |= select(vec4<u32>(0u), vec4<u32>(1u), fits);
  }
  let zero = Long4(vec4<u32>(0u), vec4<u32>(0u));
  let result = select_i64(vec4<bool>(want_rest), rest, quotient);
  return select_i64(equal_i64(b, zero), zero, result);
}

fn div_u64(a: Long4, b: Long4) -> Long4 { return divide_u64(a, b, false); }
fn remainder_u64(a: Long4, b: Long4) -> Long4 { return divide_u64(a, b, true); }
fn mod_u64(a: Long4, b: Long4) -> Long4 { return divide_u64(a, b, true); }

// By squaring.
fn pow_u64(a: Long4, b: Long4) -> Long4 {
  var y = Long4(vec4<u32>(1u), vec4<u32>(0u));
  var square = a;
  for (var step = 0u; step < 64u; step++) {
    let word = select(b.lo, b.hi, vec4<bool>(step >= 32u));
    let odd = ((word >> vec4<u32>(step & 31u)) & vec4<u32>(1u)) != vec4<u32>(0u);
    y = select_i64(odd, mul_i64(y, square), y);
    square = mul_i64(square, square);
  }
  return y;
}

fn bit_and_u64(a: Long4, b: Long4) -> Long4 { return bit_and_i64(a, b); }
fn bit_or_u64(a: Long4, b: Long4) -> Long4 { return bit_or_i64(a, b); }
fn bit_xor_u64(a: Long4, b: Long4) -> Long4 { return bit_xor_i64(a, b); }
fn bit_not_u64(x: Long4) -> Long4 { return bit_not_i64(x); }
fn shift_left_u64(a: Long4, b: Long4) -> Long4 { return shift_left_i64(a, b); }

fn shift_right_u64(a: Long4, b: Long4) -> Long4 {
  let within = (b.hi == vec4<u32>(0u)) & (b.lo < vec4<u32>(64u));
  let zero = vec4<u32>(0u);
  return select_i64(within, right_by(a, b.lo & vec4<u32>(63u), zero), Long4(zero, zero));
}
