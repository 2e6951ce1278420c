// What a line is multiplied by, from the sum over its elements less their mean: of squares (statistic 0 variance, 1 mean
// square, 3 L2 norm, 4 deviation) or of magnitudes (2 L1 norm). A norm of zero leaves zeros.
fn normalize_factor(sum: vec4<f32>, statistic: u32, len: f32, epsilon: f32) -> vec4<f32> {
  switch statistic {
    case 2u: { return select(1.0 / sum, vec4<f32>(0.0), sum == vec4<f32>(0.0)); }
    case 3u: { return select(inverseSqrt(sum), vec4<f32>(0.0), sum == vec4<f32>(0.0)); }
    case 4u: { return 1.0 / (sqrt(sum / len) + epsilon); }
    default: { return inverseSqrt(sum / len + epsilon); }
  }
}

fn batch_norm_f32(
  x: vec4<f32>,
  scale: vec4<f32>,
  bias: vec4<f32>,
  mean: vec4<f32>,
  variance: vec4<f32>,
  epsilon: f32,
) -> vec4<f32> {
  return (x - mean) * inverseSqrt(variance + epsilon) * scale + bias;
}
