// Pointwise functions on four floats.

fn add_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return a + b; }
fn mul_f32(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> { return a * b; }
fn relu_f32(x: vec4<f32>) -> vec4<f32> { return max(x, vec4<f32>(0.0)); }
