// Activations of four floats. They hand NaN on and do not overflow on the way.

fn sigmoid_f32(x: vec4<f32>) -> vec4<f32> {
  let z = exp_f32(-abs(x));
  return select(vec4<f32>(1.0), z, x < vec4<f32>(0.0)) / (1.0 + z);
}

// OpenGL drivers make a maximum of a mere comparison, and that is 0 for NaN.
fn relu_f32(x: vec4<f32>) -> vec4<f32> {
  return select(x, vec4<f32>(0.0), (x < vec4<f32>(0.0)) & !is_nan_f32(x));
}

fn leaky_relu_f32(x: vec4<f32>, alpha: f32) -> vec4<f32> { return select(x, alpha * x, x < vec4<f32>(0.0)); }
fn prelu_f32(x: vec4<f32>, slope: vec4<f32>) -> vec4<f32> { return select(x, slope * x, x < vec4<f32>(0.0)); }
fn elu_f32(x: vec4<f32>, alpha: f32) -> vec4<f32> { return select(x, alpha * expm1_f32(x), x < vec4<f32>(0.0)); }

fn celu_f32(x: vec4<f32>, alpha: f32) -> vec4<f32> {
  return select(x, alpha * expm1_f32(x / alpha), x < vec4<f32>(0.0));
}

fn selu_f32(x: vec4<f32>, alpha: f32, gamma: f32) -> vec4<f32> {
  return gamma * select(x, alpha * expm1_f32(x), x < vec4<f32>(0.0));
}

fn thresholded_relu_f32(x: vec4<f32>, alpha: f32) -> vec4<f32> {
  return select(vec4<f32>(0.0), x, x > vec4<f32>(alpha));
}

fn hard_sigmoid_f32(x: vec4<f32>, alpha: f32, beta: f32) -> vec4<f32> {
  return clip_f32(alpha * x + beta, 0.0, 1.0);
}

fn hard_swish_f32(x: vec4<f32>) -> vec4<f32> { return x * clip_f32(x / 6.0 + 0.5, 0.0, 1.0); }
fn softsign_f32(x: vec4<f32>) -> vec4<f32> { return x / (1.0 + abs(x)); }
fn softplus_f32(x: vec4<f32>) -> vec4<f32> { return relu_f32(x) + log1p_f32(exp_f32(-abs(x))); }

// tanh(ln(1 + e)) = w / (w + 2) with w = e * (e + 2); from 20 on it is 1.
fn mish_f32(x: vec4<f32>) -> vec4<f32> {
  let e = exp_f32(select(x, vec4<f32>(20.0), x > vec4<f32>(20.0)));
  let w = e * (e + 2.0);
  return x * (w / (w + 2.0));
}

fn shrink_f32(x: vec4<f32>, bias: f32, lambda: f32) -> vec4<f32> {
  let low = select(vec4<f32>(0.0), x + bias, x < vec4<f32>(-lambda));
  return select(low, x - bias, x > vec4<f32>(lambda));
}

fn gelu_f32(x: vec4<f32>) -> vec4<f32> { return 0.5 * x * (1.0 + erf_f32(x * 0.70710677)); }

// 1 + tanh(u) = 2 * sigmoid(2 * u).
fn gelu_tanh_f32(x: vec4<f32>) -> vec4<f32> { return x * sigmoid_f32(1.595769 * (x + 0.044715 * x * x * x)); }
fn swish_f32(x: vec4<f32>, alpha: f32) -> vec4<f32> { return x * sigmoid_f32(alpha * x); }
