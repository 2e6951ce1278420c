// Products of bytes, exactly: four rows by four columns to an invocation, four steps of depth to an operation. Words of `a`
// hold four bytes of a row; words of `b` four steps of a column, columns side by side, signed.

// The bytes of `a` are signed; else they are shifted into that range together with their zero point.
const SIGNED = 0u;
// Rows of `a` begin at multiples of four.
const WHOLE = 0u;
// Columns of `b` have zero points of their own.
const ZEROS = 0u;

struct Params {
  rows: u32,
  columns: u32,
  depth: u32,
  // Words of a row of `b`'s panel: its columns, padded.
  stride: u32,
}

fn shifted(word: u32) -> u32 {
  if (SIGNED == 1u) { return word; }
  return word ^ 0x80808080u;
}

fn a_byte(i: u32) -> u32 {
  return (a_at(i >> 2u) >> ((i & 3u) * 8u)) & 255u;
}

// Steps k to k + 3 of a row that begins at byte `base`; those past the end repeat the last one, where `b` has zeros.
fn a_word(base: u32, k: u32) -> u32 {
  if (WHOLE == 1u) { return shifted(a_at((base + k) >> 2u)); }
  let last = params.depth - 1u;
  let word = a_byte(base + k) | (a_byte(base + min(k + 1u, last)) << 8u)
    | (a_byte(base + min(k + 2u, last)) << 16u) | (a_byte(base + min(k + 3u, last)) << 24u);
  return shifted(word);
}

fn dots(a: u32, b: vec4<u32>) -> vec4<i32> {
  return vec4<i32>(dot4I8Packed(a, b.x), dot4I8Packed(a, b.y), dot4I8Packed(a, b.z), dot4I8Packed(a, b.w));
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let column = id.x * 4u;
  let row = id.y * 4u;
  if (column >= params.columns || row >= params.rows) {
    return;
  }
  // Rows past the edge repeat the last one.
  let base = min(vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.rows - 1u)) * params.depth;
  var y0 = vec4<i32>(0);
  var y1 = vec4<i32>(0);
  var y2 = vec4<i32>(0);
  var y3 = vec4<i32>(0);
  var sums = vec4<i32>(0);
  var at = column;
  for (var k = 0u; k < params.depth; k += 4u) {
    let b = b_at4(at);
    let a = vec4<u32>(a_word(base.x, k), a_word(base.y, k), a_word(base.z, k), a_word(base.w, k));
    y0 += dots(a.x, b);
    y1 += dots(a.y, b);
    y2 += dots(a.z, b);
    y3 += dots(a.w, b);
    if (ZEROS == 1u) {
      let left = min(params.depth - k, 4u);
      let ones = 0x01010101u >> ((4u - left) * 8u);
      sums += vec4<i32>(dot4I8Packed(a.x, ones), dot4I8Packed(a.y, ones), dot4I8Packed(a.z, ones), dot4I8Packed(a.w, ones));
    }
    at += params.stride;
  }
  // What the zero points leave: of `a` times the sums of columns, of columns times the sums of `a`.
  let zero = extractBits(bitcast<i32>(shifted(zero_at(0u))), 0u, 8u);
  let add = constants_at4(column) - zero * constants_at4(params.stride + column);
  if (ZEROS == 1u) {
    let zeros = constants_at4(2u * params.stride + column);
    y0 -= sums.x * zeros;
    y1 -= sums.y * zeros;
    y2 -= sums.z * zeros;
    y3 -= sums.w * zeros;
  }
  let n = min(4u, params.columns - column);
  let out = row * params.columns + column;
  emit4(y0 + add, out, n);
  if (row + 1u < params.rows) { emit4(y1 + add, out + params.columns, n); }
  if (row + 2u < params.rows) { emit4(y2 + add, out + 2u * params.columns, n); }
  if (row + 3u < params.rows) { emit4(y3 + add, out + 3u * params.columns, n); }
}
