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
fn dots(words: vec4<u32>, even: vec4<f32>, odd: vec4<f32>) -> vec4<f32> {
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
    return Part(dots(words, a, a), dot(a, vec4<f32>(1.0)));
  }
  let even = elements(base, k, 2u);
  let odd = elements(base, k + 1u, 2u);
  return Part(dots(words, even, odd), dot(even + odd, vec4<f32>(1.0)));
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
  // Columns past the edge repeat the last one.
  let columns = min(column + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.columns - 1u));
  let per_block = params.block / CODES;
  // Loops over rows keep the kernel short: drivers that want them long unroll them.
  var y: array<vec4<f32>, ROWS>;
  if (column < params.columns) {
    for (var block = slice; block < params.blocks; block += SPLIT) {
      var products: array<vec4<f32>, ROWS>;
      var sums: array<f32, ROWS>;
      let at = (columns * params.blocks + block) * per_block;
      for (var w = 0u; w < per_block; w++) {
        let k = block * params.block + w * CODES;
        if (k >= params.depth) { break; }
        let words = vec4<u32>(b_at(at.x + w), b_at(at.y + w), b_at(at.z + w), b_at(at.w + w));
        for (var r = 0u; r < ROWS; r++) {
          // Rows past the edge repeat the last one.
          let one = part(words, min(row + r, params.rows - 1u) * params.depth, k);
          products[r] += one.product;
          sums[r] += one.sum;
        }
      }
      let f = (columns * params.blocks + block) * 2u;
      let scale = vec4<f32>(factors_at(f.x), factors_at(f.y), factors_at(f.z), factors_at(f.w));
      let shift = vec4<f32>(factors_at(f.x + 1u), factors_at(f.y + 1u), factors_at(f.z + 1u), factors_at(f.w + 1u));
      for (var r = 0u; r < ROWS; r++) {
        y[r] += products[r] * scale + sums[r] * shift;
      }
    }
  }
  for (var r = 0u; r < ROWS; r++) {
    let all = together(y[r], lane);
    if (slice == 0u && column < params.columns && row + r < params.rows) {
      emit4(all, (row + r) * params.columns + column, min(4u, params.columns - column));
    }
  }
}
