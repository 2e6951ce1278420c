// An index as a 32-bit integer, saturated: kernels clamp it to an extent below 2^31 anyway.
fn position_i64(v: vec2<u32>) -> i32 {
  let low = bitcast<i32>(v.x);
  let far = select(2147483647, -2147483648, bitcast<i32>(v.y) < 0);
  return select(far, low, bitcast<i32>(v.y) == low >> 31u);
}
fn position_i32(v: i32) -> i32 { return v; }

// A float as a value of another type: what a parameter gives to kernels of any type.
fn number_f32(x: f32) -> f32 { return x; }
fn number_i32(x: f32) -> i32 { return i32(x); }
fn number_u32(x: f32) -> u32 { return u32(x); }
fn number_i64(x: f32) -> vec2<u32> { return bitcast<vec2<u32>>(vec2<i32>(i32(x), i32(x) >> 31u)); }
fn number_bool(x: f32) -> bool { return x != 0.0; }
