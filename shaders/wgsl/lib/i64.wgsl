// Pointwise functions on four 64-bit integers.

fn add_i64(a: Long4, b: Long4) -> Long4 {
  let lo = a.lo + b.lo;
  let carry = select(vec4<u32>(0u), vec4<u32>(1u), lo < a.lo);
  return Long4(lo, a.hi + b.hi + carry);
}
