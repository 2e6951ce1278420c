//! Attention of floats on the CPU: some queries of a head against some keys at a time, so that their scores stay in cache.

use super::attend::{ANGLES, Attend, MASK, Order};
use super::scaled::Sizes;
use crate::cpu::micro::{self, COLUMNS, Right, Rows};
use crate::cpu::tiles::{Grid, Tile, for_each_tile};
use crate::cpu::{fill_floats, floats, is_float, math, scratch_floats};
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::Problem;

/// Keys that are met at a time.
const KEYS: usize = 256;
/// Most queries that meet them together.
const QUERIES: usize = 96;
/// Queries up to which keys are read as they lie, without being transposed.
const FEW: usize = 3;

struct AttendKernel {
    op: Attend,
    grid: Grid,
    /// Most rows of a tile: queries, or heads of one query.
    rows: usize,
    /// Heads of a tile.
    heads: usize,
}

pub(super) fn prepare(op: &Attend, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
    let factors = problem.inputs.iter().take(MASK).flatten();
    if factors.chain(problem.outputs.first()).any(|operand| !is_float(operand.dtype)) {
        return Ok(None);
    }
    let Sizes { batch, heads, key_heads, queries, value_size, .. } = op.sizes;
    let mut op = op.clone();
    if queries == 1 {
        // Both orders are one.
        op.order = Order::Rows;
    }
    // Few queries meet their keys together with those of the other heads that share them.
    let shared = if queries == 1 { heads / key_heads.max(1) } else { 1 };
    let tile_rows = queries.div_ceil(queries.div_ceil(QUERIES).max(1)).max(1);
    let grid = match op.order {
        Order::Heads => Grid {
            planes: batch * heads,
            rows: queries,
            columns: value_size,
            tile_rows,
            tile_columns: value_size.max(1),
        },
        Order::Rows => Grid {
            planes: batch,
            rows: queries,
            columns: heads * value_size,
            tile_rows,
            tile_columns: (value_size * shared).max(1),
        },
    };
    Ok(Some(Box::new(AttendKernel { op, grid, rows: tile_rows * shared, heads: shared })))
}

/// The inputs of a run.
struct Given<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    mask: Option<Mask<'a>>,
    /// Cosines and sines of the queries.
    angles: Option<[&'a [f32]; 2]>,
}

enum Mask<'a> {
    Added(&'a [f32]),
    Seen(&'a [u8]),
}

/// Working memory of a tile.
struct Work<'a> {
    /// Scaled queries, one after another.
    queries: &'a mut [f32],
    /// The scores of each, `KEYS` apart.
    scores: &'a mut [f32],
    /// Sums of values, `width` apart.
    sums: &'a mut [f32],
    /// The largest score of each, and the sum of the exponentials.
    totals: &'a mut [f32],
    /// Keys in panels.
    keys: &'a mut [f32],
    /// Values in panels.
    values: &'a mut [f32],
}

impl AttendKernel {
    fn parts(&self) -> [usize; 6] {
        let Sizes { size, value_size, .. } = self.op.sizes;
        let wide = value_size.next_multiple_of(COLUMNS);
        let panels = |depth, columns| micro::packed_len(depth, columns).unwrap_or(0);
        let keys = if self.few() { 0 } else { panels(size, KEYS) };
        let values = if self.straight() { 0 } else { panels(KEYS, value_size) };
        [self.rows * size, self.rows * KEYS, self.rows * wide, self.rows * 2, keys, values]
    }

    /// Keys are read as they lie.
    fn few(&self) -> bool {
        self.rows <= FEW && self.op.k.strides[3] <= 1
    }

    /// Values are read as they lie.
    fn straight(&self) -> bool {
        self.op.v.strides[3] == 1 && self.op.sizes.value_size.is_multiple_of(COLUMNS)
    }

    fn tile(&self, tile: &mut Tile<'_>, scratch: &mut [f32], given: &Given<'_>) -> Result<(), OpError> {
        let short = OpError::Internal("scratch memory is short");
        let op = &self.op;
        let Sizes { heads, key_heads, queries, keys, size, value_size, .. } = op.sizes;
        let (batch, head) = match op.order {
            Order::Heads => (tile.plane / heads, tile.plane % heads),
            Order::Rows => (tile.plane, tile.column / value_size),
        };
        let key_head = head / (heads / key_heads);
        // Row r belongs to one head and query.
        let (first, count) = (tile.row, tile.rows);
        let rows = self.heads * count;
        let place = |row: usize| (head + row / count, first + row % count);
        let mut rest = scratch;
        let mut take = |len: usize| {
            let (own, left) =
                std::mem::take(&mut rest).split_at_mut_checked(len).ok_or_else(|| short.clone())?;
            rest = left;
            Ok::<_, OpError>(own)
        };
        let [queries_len, scores, sums, totals, keys_len, values] = self.parts();
        let mut work = Work {
            queries: take(queries_len)?,
            scores: take(scores)?,
            sums: take(sums)?,
            totals: take(totals)?,
            keys: take(keys_len)?,
            values: take(values)?,
        };
        for (row, slots) in work.queries.chunks_exact_mut(size.max(1)).take(rows).enumerate() {
            let (head, query) = place(row);
            self.query([batch, head, query, 0], given, slots);
        }
        work.sums.fill(0.0);
        for pair in work.totals.chunks_exact_mut(2) {
            pair.copy_from_slice(&[f32::NEG_INFINITY, 0.0]);
        }
        let start = op.window(first).0;
        let end = op.window((first + count).min(queries).saturating_sub(1)).1.min(keys);
        for start in (start..end).step_by(KEYS) {
            let span = (start, KEYS.min(end - start));
            self.score(&mut work, rows, span, given.k.get(op.k.at([batch, key_head, start, 0])..))?;
            for row in 0..rows {
                let (head, query) = place(row);
                self.weigh(&mut work, row, span, (batch, head, query), given);
            }
            self.gather(&mut work, rows, span.1, given.v.get(op.v.at([batch, key_head, start, 0])..))?;
        }
        let wide = value_size.next_multiple_of(COLUMNS);
        for row in 0..rows {
            let sum = work.totals[2 * row + 1];
            // Scores that are no numbers must show.
            let factor = if sum == 0.0 { 0.0 } else { 1.0 / sum };
            let sums = work.sums.get(row * wide..).unwrap_or(&[]);
            let slots = tile.row_mut(row % count).iter_mut().skip(row / count * value_size).take(value_size);
            slots.zip(sums).for_each(|(slot, x)| *slot = x * factor);
        }
        Ok(())
    }

    /// One query, turned where queries are, and scaled.
    fn query(&self, place: [usize; 4], given: &Given<'_>, slots: &mut [f32]) {
        let op = &self.op;
        let (from, step) = (op.q.at(place), op.q.strides[3].max(1));
        let own = given.q.get(from..).unwrap_or(&[]).iter().step_by(step);
        let (Some([cos_spot, sin_spot]), Some([cos, sin])) = (op.turn, given.angles) else {
            slots.iter_mut().zip(own).for_each(|(slot, x)| *slot = x * op.scale);
            return;
        };
        let half = slots.len() / 2;
        let (cos_from, sin_from) = (cos_spot.at(place), sin_spot.at(place));
        for ((e, slot), x) in slots.iter_mut().enumerate().zip(own) {
            let far =
                if e < half { -given.q[from + (e + half) * step] } else { given.q[from + (e - half) * step] };
            let (c, s) = (cos[cos_from + e * cos_spot.strides[3]], sin[sin_from + e * sin_spot.strides[3]]);
            *slot = (x * c + far * s) * op.scale;
        }
    }

    /// The products of queries and of `count` keys from `start` on.
    fn score(
        &self,
        work: &mut Work<'_>,
        rows: usize,
        (_, count): (usize, usize),
        k: Option<&[f32]>,
    ) -> Result<(), OpError> {
        let (size, k) = (self.op.sizes.size, k.unwrap_or(&[]));
        let [_, _, place, element] = self.op.k.strides;
        let short = || OpError::Internal("keys are missing");
        if self.few() {
            for row in 0..rows {
                let query = &work.queries[row * size..(row + 1) * size];
                for (key, slot) in work.scores[row * KEYS..][..count].iter_mut().enumerate() {
                    *slot = math::dot(query, k.get(key * place..key * place + size).ok_or_else(short)?);
                }
            }
            return Ok(());
        }
        match element {
            0 | 1 => micro::pack_transposed(work.keys, size, count, Rows { data: k, stride: place }),
            _ if place == 1 => micro::pack(work.keys, size, count, |row, column| {
                k.get(row * element + column..).unwrap_or(&[])
            }),
            _ => {
                let line = |key: usize| k.get(key * place..).unwrap_or(&[]).iter().step_by(element);
                for key in 0..count {
                    let at = key / COLUMNS * COLUMNS * size + key % COLUMNS;
                    let slots = work.keys[at..].iter_mut().step_by(COLUMNS).take(size);
                    slots.zip(line(key)).for_each(|(slot, &x)| *slot = x);
                }
            }
        }
        let queries = Rows { data: &*work.queries, stride: size };
        product(work.scores, (rows, KEYS, count), queries, Right::Panels(work.keys, size), size, false)
    }

    /// Turns the scores of a row into weights, and corrects what was summed before.
    fn weigh(
        &self,
        work: &mut Work<'_>,
        row: usize,
        (start, count): (usize, usize),
        (batch, head, query): (usize, usize, usize),
        given: &Given<'_>,
    ) {
        let op = &self.op;
        let scores = &mut work.scores[row * KEYS..][..count];
        if op.softcap > 0.0 {
            scores.iter_mut().for_each(|x| *x = (*x / op.softcap).tanh() * op.softcap);
        }
        let from = op.mask.at([batch, head, query, start]);
        let step = op.mask.strides[3];
        match given.mask {
            Some(Mask::Added(all)) if step == 1 => {
                let mask = all.get(from..).unwrap_or(&[]);
                scores.iter_mut().zip(mask).for_each(|(x, m)| *x += m);
            }
            Some(Mask::Added(all)) => {
                scores.iter_mut().enumerate().for_each(|(i, x)| *x += all[from + i * step]);
            }
            Some(Mask::Seen(all)) => {
                for (i, x) in scores.iter_mut().enumerate() {
                    if all[from + i * step] == 0 {
                        *x = op.fill;
                    }
                }
            }
            None => {}
        }
        let (low, end) = op.window(query);
        let (low, end) = (low.saturating_sub(start).min(count), end.saturating_sub(start).min(count));
        scores[..low].fill(f32::NEG_INFINITY);
        scores[end.max(low)..].fill(f32::NEG_INFINITY);
        let pair = &mut work.totals[2 * row..2 * row + 2];
        let largest = math::max(scores);
        let most = if largest > pair[0] || largest.is_nan() { largest } else { pair[0] };
        if most == f32::NEG_INFINITY {
            scores.fill(0.0);
            return;
        }
        let keep = (pair[0] - most).exp();
        pair[1] = pair[1] * keep + math::exp_sum(scores, most);
        pair[0] = most;
        if keep != 1.0 && start > 0 {
            let wide = op.sizes.value_size.next_multiple_of(COLUMNS);
            work.sums[row * wide..(row + 1) * wide].iter_mut().for_each(|x| *x *= keep);
        }
    }

    /// Adds the values of `count` keys by their weights.
    fn gather(
        &self,
        work: &mut Work<'_>,
        rows: usize,
        count: usize,
        v: Option<&[f32]>,
    ) -> Result<(), OpError> {
        let (size, v) = (self.op.sizes.value_size, v.unwrap_or(&[]));
        let [_, _, place, element] = self.op.v.strides;
        let right = if self.straight() {
            Right::Rows(Rows { data: v, stride: place })
        } else if element <= 1 {
            let panels = micro::packed_len(count, size).and_then(|len| work.values.get_mut(..len));
            let panels = panels.ok_or(OpError::Internal("scratch memory is short"))?;
            micro::pack(panels, count, size, |row, column| v.get(row * place + column..).unwrap_or(&[]));
            Right::Panels(panels, count)
        } else {
            let panels = micro::packed_len(count, size).and_then(|len| work.values.get_mut(..len));
            let panels = panels.ok_or(OpError::Internal("scratch memory is short"))?;
            for (at, slot) in panels.iter_mut().enumerate() {
                let column = at / (count * COLUMNS) * COLUMNS + at % COLUMNS;
                let from = at / COLUMNS % count * place + column * element;
                *slot = v.get(from).copied().filter(|_| column < size).unwrap_or(0.0);
            }
            Right::Panels(panels, count)
        };
        let weights = Rows { data: &*work.scores, stride: KEYS };
        let wide = size.next_multiple_of(COLUMNS);
        product(work.sums, (rows, wide, size), weights, right, count, true)
    }
}

/// A product in rows of `stride` elements of which `columns` are used.
fn product(
    into: &mut [f32],
    sizes: (usize, usize, usize),
    a: Rows<'_>,
    b: Right<'_>,
    depth: usize,
    add: bool,
) -> Result<(), OpError> {
    if micro::multiply_into(into, sizes, a, b, depth, add) {
        Ok(())
    } else {
        Err(OpError::Internal("a factor smaller than the product reads"))
    }
}

impl CpuKernel for AttendKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (Some(Some(q)), Some(Some(k)), Some(Some(v)), Some(output)) =
            (run.inputs.first(), run.inputs.get(1), run.inputs.get(2), run.outputs.first_mut())
        else {
            return Err(OpError::Internal("a missing factor"));
        };
        let lens: Vec<Option<usize>> = run.inputs.iter().map(|view| view.map(|view| view.len())).collect();
        self.op.check(&lens)?;
        let mask = run.inputs.get(MASK).and_then(Option::as_ref);
        let added = mask.filter(|mask| mask.dtype != DType::Bool).map(floats).transpose()?;
        let (q, k, v) = (floats(q)?, floats(k)?, floats(v)?);
        let angle = |index: usize| run.inputs.get(index).and_then(Option::as_ref).map(floats).transpose();
        let angles = angle(ANGLES[0])?.zip(angle(ANGLES[1])?);
        let given = Given {
            angles: angles.as_ref().map(|(cos, sin)| [cos.as_ref(), sin.as_ref()]),
            q: &q,
            k: &k,
            v: &v,
            mask: match &added {
                Some(added) => Some(Mask::Added(added)),
                None => mask.map(|mask| Mask::Seen(mask.bytes)),
            },
        };
        let share = self.parts().iter().sum();
        let scratch = scratch_floats(run.scratch);
        fill_floats(output, |output| {
            for_each_tile(output, 0, &self.grid, (scratch, share), run.finish, |tile, scratch| {
                self.tile(tile, scratch, &given)
            })
        })
    }

    fn scratch(&self) -> usize {
        self.parts().iter().sum::<usize>() * rayon::current_num_threads() * size_of::<f32>()
    }

    fn finishes(&self) -> bool {
        true
    }
}
