// LSTM, GRU and RNN: a workgroup walks along one sequence in one direction. The state stays in its memory; products of
// the input weights with all elements are there before. Results: the states after all steps in their order, then the
// last hidden states, then the last cell states.

const WORKGROUP = 64u;
// 0: RNN. 1: GRU. 2: GRU that scales its product. 3: LSTM. 4: LSTM whose forget gate is what the input gate leaves.
const CELL = 0u;
// The states after all steps are wanted.
const SEQUENCE = 0u;
// What enters a function is limited.
const CLIP = 0u;
// The functions of gates, of new values and of the cell state.
const GATE = 6u;
const NEW = 9u;
const OUT = 9u;
// Numbers of a state, at most.
const MOST = 1024u;

struct Params {
  steps: u32,
  batch: u32,
  directions: u32,
  hidden: u32,
  product_step: u32,
  product_sequence: u32,
  weight_row: u32,
  weight_column: u32,
  output_step: u32,
  output_direction: u32,
  output_sequence: u32,
  states: u32,
  state_direction: u32,
  state_sequence: u32,
  cells: u32,
  reversed: u32,
  functions: array<vec4<f32>, 6>,
  clip: f32,
  pad0: u32,
  pad1: u32,
  pad2: u32,
}

// The hidden state before and after a step.
var<workgroup> state: array<f32, 2048>;
// The cell state of an LSTM; the scaled state of a GRU.
var<workgroup> cell: array<f32, MOST>;

fn limited(sums: vec4<f32>) -> vec4<f32> {
  if (CLIP != 0u) {
    return clip_f32(sums, -params.clip, params.clip);
  }
  return sums;
}

fn curve(which: u32, index: u32, x: vec4<f32>) -> vec4<f32> {
  let own = params.functions[index];
  var y = x;
  switch which {
    case 0u: { y = own.x * x + own.y; }
    case 1u: { y = elu_f32(x, own.x); }
    case 2u: { y = hard_sigmoid_f32(x, own.x, own.y); }
    case 3u: { y = leaky_relu_f32(x, own.x); }
    case 4u: { y = relu_f32(x); }
    case 5u: { y = own.x * tanh_f32(own.y * x); }
    case 6u: { y = sigmoid_f32(x); }
    case 7u: { y = softplus_f32(x); }
    case 8u: { y = softsign_f32(x); }
    case 9u: { y = tanh_f32(x); }
    default: { y = select(x, vec4<f32>(0.0), x < vec4<f32>(own.x)); }
  }
  return y;
}

// Products of `count` gates, from the one whose weights begin at `base` on, with the state at `start`.
fn recurrent(base: u32, count: u32, start: u32) -> vec4<f32> {
  let gate = params.hidden * params.weight_row;
  var sums = vec4<f32>(0.0);
  for (var k = 0u; k < params.hidden; k++) {
    let x = state[start + k];
    let at = base + k * params.weight_column;
    sums.x += x * r_at(at);
    if (count > 1u) { sums.y += x * r_at(at + gate); }
    if (count > 2u) { sums.z += x * r_at(at + 2u * gate); }
    if (count > 3u) { sums.w += x * r_at(at + 3u * gate); }
  }
  return sums;
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let line = id.y * groups.x + id.x;
  if (line >= params.batch * params.directions) {
    return;
  }
  let direction = line / params.batch;
  let sequence = line % params.batch;
  let size = params.hidden;
  let gates = select(select(3u, 1u, CELL == 0u), 4u, CELL > 2u);
  let rows = gates * size;
  let first_function = direction * 3u;
  let bias = direction * 2u * rows;
  let weights = direction * rows * size;
  let own = direction * params.state_direction + sequence * params.state_sequence;
  let results = direction * params.output_direction + sequence * params.output_sequence;
  let length = u32(clamp(lengths_at(sequence), 0, i32(params.steps)));
  for (var unit = lane; unit < size; unit += WORKGROUP) {
    state[unit] = h_at(own + unit);
    if (CELL > 2u) {
      cell[unit] = c_at(own + unit);
    }
  }
  workgroupBarrier();
  let reversed = ((params.reversed >> direction) & 1u) == 1u;
  // All sequences take as many steps, so that barriers are met together; past its own length nothing is computed.
  for (var k = 0u; k < params.steps; k++) {
    let within = k < length;
    let reach = select(0u, size, within);
    let step = select(k, length - 1u - k, reversed && within);
    let products = step * params.product_step + sequence * params.product_sequence + direction * rows;
    let now = (k & 1u) * MOST;
    let next = MOST - now;
    if (CELL == 1u) {
      for (var unit = lane; unit < reach; unit += WORKGROUP) {
        var sums = recurrent(weights + unit * params.weight_row, 2u, now);
        sums.x += p_at(products + unit) + bias_at(bias + unit) + bias_at(bias + rows + unit);
        let reset = size + unit;
        sums.y += p_at(products + reset) + bias_at(bias + reset) + bias_at(bias + rows + reset);
        let values = curve(GATE, first_function, limited(sums));
        state[next + unit] = values.x;
        cell[unit] = values.y * state[now + unit];
      }
      workgroupBarrier();
      // The last gate's product is with the scaled state.
      for (var unit = lane; unit < reach; unit += WORKGROUP) {
        let row = 2u * size + unit;
        let base = weights + row * params.weight_row;
        var sum = p_at(products + row) + bias_at(bias + row) + bias_at(bias + rows + row);
        for (var j = 0u; j < size; j++) {
          sum += cell[j] * r_at(base + j * params.weight_column);
        }
        let value = curve(NEW, first_function + 1u, limited(vec4<f32>(sum))).x;
        let update = state[next + unit];
        state[next + unit] = (1.0 - update) * value + update * state[now + unit];
      }
    } else {
      for (var unit = lane; unit < reach; unit += WORKGROUP) {
        let old = recurrent(weights + unit * params.weight_row, gates, now);
        var add = vec4<f32>(0.0);
        var later = vec4<f32>(0.0);
        for (var gate = 0u; gate < gates; gate++) {
          let row = gate * size + unit;
          add[gate] = p_at(products + row) + bias_at(bias + row);
          later[gate] = bias_at(bias + rows + row);
        }
        var sums = old + later;
        if (CELL == 0u) {
          state[next + unit] = curve(NEW, first_function, limited(sums + add)).x;
        } else if (CELL == 2u) {
          let values = curve(GATE, first_function, limited(sums + add));
          let value = curve(NEW, first_function + 1u, limited(vec4<f32>(add.z + values.y * sums.z))).x;
          state[next + unit] = (1.0 - values.x) * value + values.x * state[now + unit];
        } else {
          sums += add;
          let peep = direction * 3u * size + unit;
          var own_cell = cell[unit];
          sums.x += peepholes_at(peep) * own_cell;
          sums.z += peepholes_at(peep + 2u * size) * own_cell;
          let values = curve(GATE, first_function, limited(sums));
          let keep = select(values.z, 1.0 - values.x, CELL == 4u);
          let value = curve(NEW, first_function + 1u, limited(sums)).w;
          own_cell = keep * own_cell + values.x * value;
          sums.y += peepholes_at(peep + size) * own_cell;
          let leave = curve(GATE, first_function, limited(sums)).y;
          cell[unit] = own_cell;
          state[next + unit] = leave * curve(OUT, first_function + 2u, vec4<f32>(own_cell)).x;
        }
      }
    }
    workgroupBarrier();
    if (SEQUENCE != 0u) {
      for (var unit = lane; unit < size; unit += WORKGROUP) {
        emit(select(0.0, state[next + unit], within), results + step * params.output_step + unit);
      }
    }
  }
  for (var unit = lane; unit < size; unit += WORKGROUP) {
    emit(state[(length & 1u) * MOST + unit], params.states + own + unit);
    if (CELL > 2u) {
      emit(cell[unit], params.cells + own + unit);
    }
  }
}
