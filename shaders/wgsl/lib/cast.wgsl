// Conversions of four values. Floats beyond an integer type give its nearest end, NaN gives 0; integers keep their lowest
// bits; anything but zero is true.

fn cast_f32_bool(x: vec4<f32>) -> vec4<bool> { return x != vec4<f32>(0.0); }

// The limits are the floats next to those of the type. The conversion itself must not see what does not fit.
fn cast_f32_i32(x: vec4<f32>) -> vec4<i32> {
  let high = x >= vec4<f32>(2147483648.0);
  let low = x < vec4<f32>(-2147483648.0);
  let y = vec4<i32>(select(x, vec4<f32>(0.0), high | low | is_nan_f32(x)));
  return select(select(y, vec4<i32>(2147483647), high), vec4<i32>(-2147483647 - 1), low);
}

fn cast_f32_u32(x: vec4<f32>) -> vec4<u32> {
  let high = x >= vec4<f32>(4294967296.0);
  let y = vec4<u32>(select(x, vec4<f32>(0.0), high | (x < vec4<f32>(0.0)) | is_nan_f32(x)));
  return select(y, vec4<u32>(0xffffffffu), high);
}

fn cast_f32_i8(x: vec4<f32>) -> vec4<i32> { return clamp(cast_f32_i32(x), vec4<i32>(-128), vec4<i32>(127)); }
fn cast_f32_i16(x: vec4<f32>) -> vec4<i32> { return clamp(cast_f32_i32(x), vec4<i32>(-32768), vec4<i32>(32767)); }
fn cast_f32_u8(x: vec4<f32>) -> vec4<u32> { return min(cast_f32_u32(x), vec4<u32>(255u)); }
fn cast_f32_u16(x: vec4<f32>) -> vec4<u32> { return min(cast_f32_u32(x), vec4<u32>(65535u)); }

fn cast_f32_u64(x: vec4<f32>) -> Long4 {
  let high = x >= vec4<f32>(18446744073709551616.0);
  let fit = select(x, vec4<f32>(0.0), high | (x < vec4<f32>(0.0)) | is_nan_f32(x));
  // Both are exact: a power of two, and a difference within the float's own digits.
  let upper = floor(fit * 2.3283064365386963e-10);
  let lower = fit - upper * 4294967296.0;
  let ones = vec4<u32>(0xffffffffu);
  return Long4(select(vec4<u32>(lower), ones, high), select(vec4<u32>(upper), ones, high));
}

fn cast_f32_i64(x: vec4<f32>) -> Long4 {
  let size = cast_f32_u64(abs(x));
  let over = (size.hi & vec4<u32>(0x80000000u)) != vec4<u32>(0u);
  let low = x < vec4<f32>(0.0);
  let ones = vec4<u32>(0xffffffffu);
  let end = Long4(select(ones, vec4<u32>(0u), low), select(ones >> vec4<u32>(1u), vec4<u32>(0x80000000u), low));
  return select_i64(over, end, select_i64(low, neg_i64(size), size));
}

// To the precision of 16-bit floats, halves to even.
fn round_to_f16(x: vec4<f32>) -> vec4<f32> {
  let bits = bitcast<vec4<u32>>(abs(x));
  let normal = (bits + vec4<u32>(0xfffu) + ((bits >> vec4<u32>(13u)) & vec4<u32>(1u))) & vec4<u32>(0xffffe000u);
  let small = round(abs(x) * 16777216.0) * 5.960464477539063e-8;
  let y = select(bitcast<vec4<f32>>(normal), small, bits < vec4<u32>(0x38800000u));
  let wide = select(y, infinity_like(abs(x)), y > vec4<f32>(65504.0));
  return select(with_sign_of(wide, x), x, is_nan_f32(x));
}

// To the precision of bf16, halves to even.
fn round_to_bf16(x: vec4<f32>) -> vec4<f32> {
  let bits = bitcast<vec4<u32>>(x);
  let y = (bits + vec4<u32>(0x7fffu) + ((bits >> vec4<u32>(16u)) & vec4<u32>(1u))) & vec4<u32>(0xffff0000u);
  return select(bitcast<vec4<f32>>(y), x, is_nan_f32(x));
}

fn cast_i32_f32(x: vec4<i32>) -> vec4<f32> { return vec4<f32>(x); }
fn cast_i32_u32(x: vec4<i32>) -> vec4<u32> { return bitcast<vec4<u32>>(x); }
fn cast_i32_bool(x: vec4<i32>) -> vec4<bool> { return x != vec4<i32>(0); }
fn cast_i32_i64(x: vec4<i32>) -> Long4 { return Long4(bitcast<vec4<u32>>(x), bitcast<vec4<u32>>(x >> vec4<u32>(31u))); }
fn cast_i32_u64(x: vec4<i32>) -> Long4 { return cast_i32_i64(x); }
fn cast_u32_f32(x: vec4<u32>) -> vec4<f32> { return vec4<f32>(x); }
fn cast_u32_i32(x: vec4<u32>) -> vec4<i32> { return bitcast<vec4<i32>>(x); }
fn cast_u32_bool(x: vec4<u32>) -> vec4<bool> { return x != vec4<u32>(0u); }
fn cast_u32_i64(x: vec4<u32>) -> Long4 { return Long4(x, vec4<u32>(0u)); }
fn cast_u32_u64(x: vec4<u32>) -> Long4 { return Long4(x, vec4<u32>(0u)); }
fn cast_u64_f32(x: Long4) -> vec4<f32> { return vec4<f32>(x.hi) * 4294967296.0 + vec4<f32>(x.lo); }

fn cast_i64_f32(x: Long4) -> vec4<f32> {
  let size = cast_u64_f32(abs_i64(x));
  return select(size, -size, is_negative_i64(x));
}

fn cast_i64_i32(x: Long4) -> vec4<i32> { return bitcast<vec4<i32>>(x.lo); }
fn cast_i64_u32(x: Long4) -> vec4<u32> { return x.lo; }
fn cast_i64_u64(x: Long4) -> Long4 { return x; }
fn cast_i64_bool(x: Long4) -> vec4<bool> { return (x.lo | x.hi) != vec4<u32>(0u); }
fn cast_u64_i32(x: Long4) -> vec4<i32> { return bitcast<vec4<i32>>(x.lo); }
fn cast_u64_u32(x: Long4) -> vec4<u32> { return x.lo; }
fn cast_u64_i64(x: Long4) -> Long4 { return x; }
fn cast_u64_bool(x: Long4) -> vec4<bool> { return (x.lo | x.hi) != vec4<u32>(0u); }
fn cast_bool_f32(x: vec4<bool>) -> vec4<f32> { return select(vec4<f32>(0.0), vec4<f32>(1.0), x); }
fn cast_bool_i32(x: vec4<bool>) -> vec4<i32> { return select(vec4<i32>(0), vec4<i32>(1), x); }
fn cast_bool_u32(x: vec4<bool>) -> vec4<u32> { return select(vec4<u32>(0u), vec4<u32>(1u), x); }
fn cast_bool_i64(x: vec4<bool>) -> Long4 { return Long4(cast_bool_u32(x), vec4<u32>(0u)); }
fn cast_bool_u64(x: vec4<bool>) -> Long4 { return Long4(cast_bool_u32(x), vec4<u32>(0u)); }
