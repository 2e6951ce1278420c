// How fast a device multiplies and adds: every invocation runs 32 chains that do not wait for each other. The first
// buffer gives a factor and a summand, so that nothing can be computed beforehand.

const ROUNDS = 256u;

@group(0) @binding(0) var<storage, read> given: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> sums: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let factor = given[0];
    let summand = given[1];
    var a = vec4<f32>(f32(id.x));
    var b = a + 1.0;
    var c = a + 2.0;
    var d = a + 3.0;
    var e = a + 4.0;
    var f = a + 5.0;
    var g = a + 6.0;
    var h = a + 7.0;
    for (var round = 0u; round < ROUNDS; round++) {
        a = fma(a, factor, summand);
        b = fma(b, factor, summand);
        c = fma(c, factor, summand);
        d = fma(d, factor, summand);
        e = fma(e, factor, summand);
        f = fma(f, factor, summand);
        g = fma(g, factor, summand);
        h = fma(h, factor, summand);
    }
    if (id.x < arrayLength(&sums)) {
        sums[id.x] = a + b + c + d + e + f + g + h;
    }
}
