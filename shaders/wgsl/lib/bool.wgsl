// Pointwise functions on four truth values.

fn and_bool(a: vec4<bool>, b: vec4<bool>) -> vec4<bool> { return a & b; }
fn or_bool(a: vec4<bool>, b: vec4<bool>) -> vec4<bool> { return a | b; }
fn xor_bool(a: vec4<bool>, b: vec4<bool>) -> vec4<bool> { return a != b; }
fn not_bool(x: vec4<bool>) -> vec4<bool> { return !x; }
fn equal_bool(a: vec4<bool>, b: vec4<bool>) -> vec4<bool> { return a == b; }
fn select_bool(condition: vec4<bool>, a: vec4<bool>, b: vec4<bool>) -> vec4<bool> { return select(b, a, condition); }
