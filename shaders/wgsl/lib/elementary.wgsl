// Exponential, logarithm, trigonometric and hyperbolic functions of four floats. Where WGSL leaves a built-in function so
// much freedom that small or large arguments lose all digits, there is a polynomial instead.

// Some drivers give a number for NaN.
fn exp_f32(x: vec4<f32>) -> vec4<f32> { return select(exp(x), x, is_nan_f32(x)); }

// At 0 and for NaN too, drivers give numbers.
fn log_f32(x: vec4<f32>) -> vec4<f32> {
  let y = select(log(x), infinity_like(vec4<f32>(-1.0)), x == vec4<f32>(0.0));
  return select(y, nan_like(x), (x < vec4<f32>(0.0)) | is_nan_f32(x));
}

// e^x - 1.
fn expm1_f32(x: vec4<f32>) -> vec4<f32> {
  var near = 1.0 + x * (1.0 / 8.0);
  near = 1.0 + x * (1.0 / 7.0) * near;
  near = 1.0 + x * (1.0 / 6.0) * near;
  near = 1.0 + x * (1.0 / 5.0) * near;
  near = 1.0 + x * (1.0 / 4.0) * near;
  near = 1.0 + x * (1.0 / 3.0) * near;
  near = 1.0 + x * (1.0 / 2.0) * near;
  return select(exp_f32(x) - 1.0, x * near, abs(x) < vec4<f32>(0.5));
}

// ln(1 + x) for x >= 0: near 0 by the series of the inverse hyperbolic tangent.
fn log1p_f32(x: vec4<f32>) -> vec4<f32> {
  let s = x / (2.0 + x);
  let t = s * s;
  let series = 1.0 + t * (1.0 / 3.0 + t * (1.0 / 5.0 + t * (1.0 / 7.0 + t * (1.0 / 9.0))));
  return select(log_f32(1.0 + x), 2.0 * s * series, x < vec4<f32>(0.5));
}

// The sine of x plus `quarter` right angles. pi/2 stands in three parts so that the subtraction loses nothing.
fn sine_from(x: vec4<f32>, quarter: i32) -> vec4<f32> {
  let n = round(x * 0.63661977);
  let r = ((x - n * 1.5703125) - n * 0.00048351288) - n * 3.1391647e-7;
  let t = r * r;
  let sine = r + r * t * (-0.16666654 + t * (0.008332131 + t * -0.00019510838));
  let cosine = 1.0 - 0.5 * t + t * t * (0.041666646 + t * (-0.0013887306 + t * 0.000024431203));
  let turn = vec4<i32>(n) + vec4<i32>(quarter);
  let y = select(sine, cosine, (turn & vec4<i32>(1)) != vec4<i32>(0));
  return select(y, -y, (turn & vec4<i32>(2)) != vec4<i32>(0));
}

fn sin_f32(x: vec4<f32>) -> vec4<f32> { return sine_from(x, 0); }
fn cos_f32(x: vec4<f32>) -> vec4<f32> { return sine_from(x, 1); }
fn tan_f32(x: vec4<f32>) -> vec4<f32> { return sine_from(x, 0) / sine_from(x, 1); }

fn atan_f32(x: vec4<f32>) -> vec4<f32> {
  let a = abs(x);
  let steep = a > vec4<f32>(1.0);
  let z = select(a, 1.0 / a, steep);
  let t = z * z;
  var p = 0.043039143 + t * (-0.01628287 + t * 0.0029035176);
  p = -0.14207132 + t * (0.106546685 + t * (-0.075336576 + t * p));
  p = 1.0 + t * (-0.33333093 + t * (0.19993053 + t * p));
  return with_sign_of(select(z * p, 1.5707964 - z * p, steep), x);
}

// The arcsine for 0 <= s <= 1/2, with t = s * s.
fn asin_near(s: vec4<f32>, t: vec4<f32>) -> vec4<f32> {
  let p = 0.16666754 + t * (0.074952416 + t * (0.045477096 + t * (0.024147611 + t * 0.042218547)));
  return s + s * t * p;
}

fn asin_f32(x: vec4<f32>) -> vec4<f32> {
  let a = abs(x);
  let far = a > vec4<f32>(0.5);
  let t = select(a * a, (1.0 - a) * 0.5, far);
  let near = asin_near(select(a, sqrt(t), far), t);
  let y = with_sign_of(select(near, 1.5707964 - 2.0 * near, far), x);
  return select(y, nan_like(x), a > vec4<f32>(1.0));
}

fn acos_f32(x: vec4<f32>) -> vec4<f32> {
  let a = abs(x);
  let far = a > vec4<f32>(0.5);
  let t = select(a * a, (1.0 - a) * 0.5, far);
  let near = asin_near(select(a, sqrt(t), far), t);
  let low = x < vec4<f32>(0.0);
  let y = select(1.5707964 - with_sign_of(near, x), select(2.0 * near, 3.1415927 - 2.0 * near, low), far);
  return select(y, nan_like(x), a > vec4<f32>(1.0));
}

fn sinh_f32(x: vec4<f32>) -> vec4<f32> {
  let a = abs(x);
  let t = expm1_f32(a);
  // Halves of the exponent, so that the result may be larger than the exponential.
  let h = exp_f32(0.5 * a);
  let y = select((0.5 * h) * h - 0.5 / h / h, 0.5 * (t + t / (t + 1.0)), a < vec4<f32>(1.0));
  return with_sign_of(y, x);
}

fn cosh_f32(x: vec4<f32>) -> vec4<f32> {
  let h = exp_f32(0.5 * abs(x));
  return (0.5 * h) * h + 0.5 / h / h;
}

// Never beyond 1, whatever the size of x.
fn tanh_f32(x: vec4<f32>) -> vec4<f32> {
  let a = clip_f32(abs(x), 0.0, 10.0);
  let t = a * a;
  var near = -0.053735152 + t * (0.020636229 + t * -0.0057105212);
  near = 1.0 + t * (-0.3333327 + t * (0.13331304 + t * near));
  let far = 1.0 - 2.0 / (exp_f32(2.0 * a) + 1.0);
  return with_sign_of(select(far, a * near, a < vec4<f32>(0.6)), x);
}

fn asinh_f32(x: vec4<f32>) -> vec4<f32> {
  let a = abs(x);
  let near = log1p_f32(a + a * a / (1.0 + sqrt(a * a + 1.0)));
  return with_sign_of(select(near, log_f32(a) + 0.6931472, a > vec4<f32>(1e8)), x);
}

fn acosh_f32(x: vec4<f32>) -> vec4<f32> {
  let t = x - 1.0;
  let y = select(log1p_f32(t + sqrt(t * (t + 2.0))), log_f32(x) + 0.6931472, x > vec4<f32>(1e8));
  return select(y, nan_like(x), x < vec4<f32>(1.0));
}

fn atanh_f32(x: vec4<f32>) -> vec4<f32> {
  let a = abs(x);
  var y = 0.5 * log1p_f32(2.0 * a / (1.0 - a));
  y = select(y, infinity_like(x), a == vec4<f32>(1.0));
  return select(with_sign_of(y, x), nan_like(x), a > vec4<f32>(1.0));
}

// Near 0 an odd polynomial, beyond it 1 - e^-q.
fn erf_f32(x: vec4<f32>) -> vec4<f32> {
  let a = clip_f32(abs(x), 0.0, 4.0);
  let t = a * a;
  var near = -0.02685927 + t * (0.0052006342 + t * (-0.00081374374 + t * 0.00008345225));
  near = 0.1283792 + t * (-0.37612635 + t * (0.11283694 + t * near));
  var q = -0.025119428 + a * (0.004171063 + a * (-0.00043446268 + a * 0.000021095057));
  q = -0.00017468452 + a * (1.1295149 + a * (0.6333469 + a * (0.10828009 + a * q)));
  return with_sign_of(select(1.0 - exp_f32(-q), a + a * near, a < vec4<f32>(0.925)), x);
}
