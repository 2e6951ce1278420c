// An index as a 32-bit integer, saturated: kernels clamp it to an extent below 2^31 anyway.
fn position_i64(v: vec2<u32>) -> i32 {
  let low = bitcast<i32>(v.x);
  let far = select(2147483647, -2147483648, bitcast<i32>(v.y) < 0);
  return select(far, low, bitcast<i32>(v.y) == low >> 31u);
}
fn position_i32(v: i32) -> i32 { return v; }
