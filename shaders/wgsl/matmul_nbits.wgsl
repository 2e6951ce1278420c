// y = a · bᵀ, where a row of b is codes of BITS bits in blocks along the depth: ROWS rows by four columns to an invocation, or
// to SPLIT of them that share the blocks. `factors` holds scale and shift of each block: an element is code · scale + shift.

const WORKGROUP = 64u;
const SPLIT = 1u;
// 4 or 8.
const BITS = 4u;
// 1 or 4.
const ROWS = 1u;
// Words of codes lie inside the depth or outside of it.
const WHOLE = 0u;

struct Params {
  rows: u32,
  columns: u32,
  depth: u32,
  // Codes of a block.
  block: u32,
  // Blocks of a row of b.
  blocks: u32,
  pad0: u32,
  pad1: u32,
  pad2: u32,
}

const GROUPS = WORKGROUP / SPLIT;
// Codes of a word.
const CODES = 32u / BITS;

var<workgroup> partial: array<vec4<f32>, WORKGROUP>;

fn element(base: u32, k: u32) -> f32 {
  if (WHOLE == 1u || k < params.depth) { return a_at(base + k); }
  return 0.0;
}

// Elements k, k + step, … of a row.
fn elements(base: u32, k: u32, step: u32) -> vec4<f32> {
  return vec4<f32>(element(base, k), element(base, k + step), element(base, k + 2u * step), element(base, k + 3u * step));
}

// Four columns' products with the elements of one row that belong to these words.
fn products(words: vec4<u32>, even: vec4<f32>, odd: vec4<f32>) -> vec4<f32> {
  if (BITS == 8u) {
    return vec4<f32>(dot(vec4<f32>(unpack4xU8(words.x)), even), dot(vec4<f32>(unpack4xU8(words.y)), even),
      dot(vec4<f32>(unpack4xU8(words.z)), even), dot(vec4<f32>(unpack4xU8(words.w)), even));
  }
  let low = words & vec4<u32>(0x0f0f0f0fu);
  let high = (words >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu);
  return vec4<f32>(
    dot(vec4<f32>(unpack4xU8(low.x)), even) + dot(vec4<f32>(unpack4xU8(high.x)), odd),
    dot(vec4<f32>(unpack4xU8(low.y)), even) + dot(vec4<f32>(unpack4xU8(high.y)), odd),
    dot(vec4<f32>(unpack4xU8(low.z)), even) + dot(vec4<f32>(unpack4xU8(high.z)), odd),
    dot(vec4<f32>(unpack4xU8(low.w)), even) + dot(vec4<f32>(unpack4xU8(high.w)), odd));
}

struct Part {
  product: vec4<f32>,
  sum: f32,
}

fn part(words: vec4<u32>, base: u32, k: u32) -> Part {
  if (BITS == 8u) {
    let a = elements(base, k, 1u);
    return Part(products(words, a, a), dot(a, vec4<f32>(1.0)));
  }
  let even = elements(base, k, 2u);
  let odd = elements(base, k + 1u, 2u);
  return Part(products(words, even, odd), dot(even + odd, vec4<f32>(1.0)));
}

// The sums of all slices of a column, for slice 0.
fn together(mine: vec4<f32>, lane: u32) -> vec4<f32> {
  if (SPLIT == 1u) { return mine; }
  partial[lane] = mine;
  for (var half = SPLIT / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane / GROUPS < half) { partial[lane] += partial[lane + half * GROUPS]; }
  }
  workgroupBarrier();
  let all = partial[lane];
  workgroupBarrier();
  return all;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let column = (group.x * GROUPS + lane % GROUPS) * 4u;
  let slice = lane / GROUPS;
  let row = group.y * ROWS;
  // Rows and columns past the edge repeat the last one.
  let base = min(vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.rows - 1u)) * params.depth;
  let columns = min(column + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.columns - 1u));
  let per_block = params.block / CODES;
  var y0 = vec4<f32>(0.0);
  var y1 = vec4<f32>(0.0);
  var y2 = vec4<f32>(0.0);
  var y3 = vec4<f32>(0.0);
  if (column < params.columns) {
    for (var block = slice; block < params.blocks; block += SPLIT) {
      var p0 = vec4<f32>(0.0);
      var p1 = vec4<f32>(0.0);
      var p2 = vec4<f32>(0.0);
      var p3 = vec4<f32>(0.0);
      var sums = vec4<f32>(0.0);
      let at = (columns * params.blocks + block) * per_block;
      for (var w = 0u; w < per_block; w++) {
        let k = block * params.block + w * CODES;
        if (k >= params.depth) { break; }
        let words = vec4<u32>(b_at(at.x + w), b_at(at.y + w), b_at(at.z + w), b_at(at.w + w));
        let first = part(words, base.x, k);
        p0 += first.product;
        sums.x += first.sum;
        if (ROWS == 4u) {
          let second = part(words, base.y, k);
          let third = part(words, base.z, k);
          let fourth = part(words, base.w, k);
          p1 += second.product;
          p2 += third.product;
          p3 += fourth.product;
          sums.y += second.sum;
          sums.z += third.sum;
          sums.w += fourth.sum;
        }
      }
      let f = (columns * params.blocks + block) * 2u;
      let scale = vec4<f32>(factors_at(f.x), factors_at(f.y), factors_at(f.z), factors_at(f.w));
      let shift = vec4<f32>(factors_at(f.x + 1u), factors_at(f.y + 1u), factors_at(f.z + 1u), factors_at(f.w + 1u));
      y0 += p0 * scale + sums.x * shift;
      y1 += p1 * scale + sums.y * shift;
      y2 += p2 * scale + sums.z * shift;
      y3 += p3 * scale + sums.w * shift;
    }
  }
  y0 = together(y0, lane);
  if (ROWS == 4u) {
    y1 = together(y1, lane);
    y2 = together(y2, lane);
    y3 = together(y3, lane);
  }
  if (slice == 0u && column < params.columns) {
    let n = min(4u, params.columns - column);
    let out = row * params.columns + column;
    emit4(y0, out, n);
    if (ROWS == 4u) {
      if (row + 1u < params.rows) { emit4(y1, out + params.columns, n); }
      if (row + 2u < params.rows) { emit4(y2, out + 2u * params.columns, n); }
      if (row + 3u < params.rows) { emit4(y3, out + 3u * params.columns, n); }
    }
  }
}
