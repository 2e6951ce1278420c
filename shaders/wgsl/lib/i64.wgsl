// Pointwise functions on four 64-bit signed integers in two words each. Division by zero gives 0.

fn add_i64(a: Long4, b: Long4) -> Long4 {
  let lo = a.lo + b.lo;
  return Long4(lo, a.hi + b.hi + select(vec4<u32>(0u), vec4<u32>(1u), lo < a.lo));
}

fn sub_i64(a: Long4, b: Long4) -> Long4 {
  return Long4(a.lo - b.lo, a.hi - b.hi - select(vec4<u32>(0u), vec4<u32>(1u), a.lo < b.lo));
}

// The low word's product is taken in halves, since its high word counts too.
fn mul_i64(a: Long4, b: Long4) -> Long4 {
  let half = vec4<u32>(16u);
  let mask = vec4<u32>(0xffffu);
  let low = (a.lo & mask) * (b.lo & mask);
  let left = (a.lo >> half) * (b.lo & mask) + (low >> half);
  let right = (a.lo & mask) * (b.lo >> half) + (left & mask);
  let carried = (a.lo >> half) * (b.lo >> half) + (left >> half) + (right >> half);
  return Long4(a.lo * b.lo, carried + a.lo * b.hi + a.hi * b.lo);
}

fn neg_i64(x: Long4) -> Long4 { return sub_i64(Long4(vec4<u32>(0u), vec4<u32>(0u)), x); }

fn is_negative_i64(x: Long4) -> vec4<bool> { return (x.hi & vec4<u32>(0x80000000u)) != vec4<u32>(0u); }

fn abs_i64(x: Long4) -> Long4 { return select_i64(is_negative_i64(x), neg_i64(x), x); }

fn sign_i64(x: Long4) -> Long4 {
  let sign = select(vec4<u32>(0u), vec4<u32>(0xffffffffu), is_negative_i64(x));
  return Long4(sign | select(vec4<u32>(0u), vec4<u32>(1u), (x.lo | x.hi) != vec4<u32>(0u)), sign);
}

fn select_i64(condition: vec4<bool>, a: Long4, b: Long4) -> Long4 {
  return Long4(select(b.lo, a.lo, condition), select(b.hi, a.hi, condition));
}

fn equal_i64(a: Long4, b: Long4) -> vec4<bool> { return (a.lo == b.lo) & (a.hi == b.hi); }

fn less_i64(a: Long4, b: Long4) -> vec4<bool> {
  let high = bitcast<vec4<i32>>(a.hi) < bitcast<vec4<i32>>(b.hi);
  return high | ((a.hi == b.hi) & (a.lo < b.lo));
}

fn greater_i64(a: Long4, b: Long4) -> vec4<bool> { return less_i64(b, a); }
fn less_equal_i64(a: Long4, b: Long4) -> vec4<bool> { return !less_i64(b, a); }
fn greater_equal_i64(a: Long4, b: Long4) -> vec4<bool> { return !less_i64(a, b); }
fn min_i64(a: Long4, b: Long4) -> Long4 { return select_i64(less_i64(b, a), b, a); }
fn max_i64(a: Long4, b: Long4) -> Long4 { return select_i64(less_i64(a, b), b, a); }

fn relu_i64(x: Long4) -> Long4 {
  return select_i64(is_negative_i64(x), Long4(vec4<u32>(0u), vec4<u32>(0u)), x);
}

fn prelu_i64(x: Long4, slope: Long4) -> Long4 { return select_i64(is_negative_i64(x), mul_i64(x, slope), x); }

fn div_i64(a: Long4, b: Long4) -> Long4 {
  let size = div_u64(abs_i64(a), abs_i64(b));
  return select_i64(is_negative_i64(a) != is_negative_i64(b), neg_i64(size), size);
}

fn remainder_i64(a: Long4, b: Long4) -> Long4 {
  let size = remainder_u64(abs_i64(a), abs_i64(b));
  return select_i64(is_negative_i64(a), neg_i64(size), size);
}

fn mod_i64(a: Long4, b: Long4) -> Long4 {
  let rest = remainder_i64(a, b);
  let moved = ((rest.lo | rest.hi) != vec4<u32>(0u)) & (is_negative_i64(rest) != is_negative_i64(b));
  return select_i64(moved, add_i64(rest, b), rest);
}

// A negative exponent leaves 0, or the sign where the base is 1 or -1.
fn pow_i64(a: Long4, b: Long4) -> Long4 {
  let one = Long4(vec4<u32>(1u), vec4<u32>(0u));
  let minus = Long4(vec4<u32>(0xffffffffu), vec4<u32>(0xffffffffu));
  let odd = (b.lo & vec4<u32>(1u)) != vec4<u32>(0u);
  let zero = Long4(vec4<u32>(0u), vec4<u32>(0u));
  let sign = select_i64(equal_i64(a, minus), select_i64(odd, minus, one), zero);
  return select_i64(is_negative_i64(b), select_i64(equal_i64(a, one), one, sign), pow_u64(a, b));
}

fn bit_and_i64(a: Long4, b: Long4) -> Long4 { return Long4(a.lo & b.lo, a.hi & b.hi); }
fn bit_or_i64(a: Long4, b: Long4) -> Long4 { return Long4(a.lo | b.lo, a.hi | b.hi); }
fn bit_xor_i64(a: Long4, b: Long4) -> Long4 { return Long4(a.lo ^ b.lo, a.hi ^ b.hi); }
fn bit_not_i64(x: Long4) -> Long4 { return Long4(~x.lo, ~x.hi); }

// Bits to the left by 0 to 63. A shift by 32 is none at all, so the bits that change words move in two steps.
fn left_by(a: Long4, by: vec4<u32>) -> Long4 {
  let n = by & vec4<u32>(31u);
  let lo = a.lo << n;
  let hi = (a.hi << n) | ((a.lo >> vec4<u32>(1u)) >> (vec4<u32>(31u) - n));
  let far = by >= vec4<u32>(32u);
  return Long4(select(lo, vec4<u32>(0u), far), select(hi, lo, far));
}

// Bits to the right by 0 to 63; `fill` comes in from the left.
fn right_by(a: Long4, by: vec4<u32>, fill: vec4<u32>) -> Long4 {
  let n = by & vec4<u32>(31u);
  let hi = (a.hi >> n) | ((fill << vec4<u32>(1u)) << (vec4<u32>(31u) - n));
  let lo = (a.lo >> n) | ((a.hi << vec4<u32>(1u)) << (vec4<u32>(31u) - n));
  let far = by >= vec4<u32>(32u);
  return Long4(select(lo, hi, far), select(hi, fill, far));
}

fn shift_left_i64(a: Long4, b: Long4) -> Long4 {
  let within = (b.hi == vec4<u32>(0u)) & (b.lo < vec4<u32>(64u));
  return select_i64(within, left_by(a, b.lo & vec4<u32>(63u)), Long4(vec4<u32>(0u), vec4<u32>(0u)));
}

fn shift_right_i64(a: Long4, b: Long4) -> Long4 {
  let within = (b.hi == vec4<u32>(0u)) & (b.lo < vec4<u32>(64u));
  let fill = select(vec4<u32>(0u), vec4<u32>(0xffffffffu), is_negative_i64(a));
  return right_by(a, select(vec4<u32>(63u), b.lo, within), fill);
}
