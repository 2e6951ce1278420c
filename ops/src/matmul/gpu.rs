//! Matrix products on the GPU.

use sardonyx_shaders::storage::{Storage, ValueType, Width};
use sardonyx_shaders::table::Variant;
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::product::Product;
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, word};
use crate::problem::{Operand, Problem};
use crate::repacked::Repacked;

/// A product whose results are output 0 of a problem.
#[derive(Debug)]
pub(crate) struct Factors {
    /// Sizes and strides.
    pub product: Product,
    /// Factor of every result.
    pub scale: f32,
    /// The input that is `a`.
    pub a: usize,
    /// The input that is `b`.
    pub b: usize,
    /// An input added to the results, under dimensions that broadcast to the output, and its factor.
    pub addend: Option<(usize, Vec<usize>, f32)>,
}

/// Rows up to which each is computed by itself.
const FEW_ROWS: usize = 3;

impl Factors {
    /// The kernels for a problem, best first.
    pub fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        let mut lowering = Lowering::default();
        if self.product.rows <= FEW_ROWS {
            lowering.push(self.candidate(problem, caps, &table::MATVEC));
        }
        if caps.sharing_subgroup().is_some() {
            lowering.push(self.candidate(problem, caps, &table::MATMUL_SG));
        }
        lowering.push(self.candidate(problem, caps, &table::MATMUL_T4X4));
        // Half-empty tiles cost more than they save.
        if self.product.rows > 32 && self.product.columns > 32 {
            lowering.push(self.candidate(problem, caps, &table::MATMUL_W64X64));
        }
        lowering
    }

    fn candidate(
        &self,
        problem: &Problem<'_>,
        caps: &Capabilities,
        variant: &'static Variant,
    ) -> Result<Candidate, Refusal> {
        let kernel = variant.name;
        let refuse = |reason: &str| Refusal { kernel, reason: reason.to_owned() };
        let missing = || refuse("a factor is missing");
        let mut product = self.product.clone();
        let (a, b) = (problem.input(self.a).ok_or_else(missing)?, problem.input(self.b).ok_or_else(missing)?);
        let storages = [problem.stored(kernel, Some(a))?, problem.stored(kernel, Some(b))?];
        if storages.iter().any(|storage| storage.value() != ValueType::F32) {
            return Err(refuse("it multiplies floats only"));
        }
        let output = problem.outputs.first().ok_or_else(|| refuse("no output"))?;
        for operand in [a, b, output] {
            if operand.len() >= 1 << 31 {
                return Err(refuse("a tensor of 2^31 elements or more"));
            }
        }
        if product.depth == 0 {
            return Err(refuse("nothing to sum"));
        }

        let mut packed = Vec::new();
        let mut b_binding = Binding::Input(self.b);
        if let Some(weights) = pack(b, storages[1], &mut product) {
            packed.push(weights);
            b_binding = Binding::Packed(0);
        }
        // Stored rows that run along the depth or across it.
        let (trans_a, trans_b) = (product.a.1 != 1, product.b.1 != 1);
        let whole = |stride: usize, batch: &[usize]| {
            let aligned = stride.is_multiple_of(4) && batch.iter().all(|stride| stride.is_multiple_of(4));
            if aligned { Width::Four } else { Width::One }
        };
        let mut a_width = whole(if trans_a { product.a.1 } else { product.a.0 }, &product.a_batch);
        let b_width = whole(if trans_b { product.b.1 } else { product.b.0 }, &product.b_batch);

        let width = if product.columns.is_multiple_of(4) { Width::Four } else { Width::One };
        let mut ending = problem.ending(kernel, ValueType::F32, width)?;
        if let Some((index, dims, factor)) = &self.addend {
            let addend = problem.input(*index).ok_or_else(|| refuse("an addend is missing"))?;
            let addend = Operand { dims, ..*addend };
            problem.stored(kernel, Some(&addend))?;
            ending
                .add_first(&addend, output.dims, width, Binding::Input(*index), *factor)
                .ok_or_else(|| refuse("an addend that no kernel can read"))?;
        }
        let reads = [vec![Binding::Input(self.a), b_binding], ending.reads].concat();
        if reads.len() + 1 > caps.storage_buffers as usize {
            return Err(refuse("more tensors than the device binds"));
        }

        let (rows, columns, count) = (product.rows, product.columns, product.count());
        let mut knobs = Vec::new();
        let mut knob = |name: &'static str, on: bool| knobs.extend(on.then_some((name, 1)));
        knob("WIDE_B", !trans_b && b_width == Width::Four);
        let grid = if *variant == table::MATMUL_SG {
            a_width = Width::One;
            let size = caps.sharing_subgroup().ok_or_else(|| refuse("no subgroups that share loads"))?;
            let share = shared_rows(rows);
            knobs.extend([("WORKGROUP", size), ("ROWS", share)]);
            [columns.div_ceil(8 * size as usize), rows.div_ceil(share as usize), count]
        } else if *variant == table::MATVEC {
            knob("TRANS_B", trans_b);
            // Its accessors read single elements of `a`.
            a_width = Width::One;
            let split = split(product.depth, columns.div_ceil(4) * rows * count);
            knobs.extend((split > 1).then_some(("SPLIT", split)));
            [columns.div_ceil(256 / split as usize), rows, count]
        } else {
            knob("TRANS_B", trans_b);
            knob("TRANS_A", trans_a);
            knob("WIDE_A", trans_a && a_width == Width::Four);
            let tile = if *variant == table::MATMUL_W64X64 { 64 } else { 32 };
            [columns.div_ceil(tile), rows.div_ceil(tile), count]
        };
        let axis = |size: usize| word(kernel, size).ok().filter(|&size| size <= caps.grid_axis);
        let (Some(x), Some(y), Some(z)) = (axis(grid[0]), axis(grid[1]), axis(grid[2])) else {
            return Err(refuse("more workgroups than the device can launch"));
        };

        let four = |all: &[usize], rest: u32| -> Result<[u32; 4], Refusal> {
            let mut words = [rest; 4];
            if all.len() > words.len() {
                return Err(refuse("more than four batch dimensions"));
            }
            for (slot, &size) in words.iter_mut().zip(all) {
                *slot = word(kernel, size)?;
            }
            Ok(words)
        };
        let params = params::matmul::Matmul {
            rows: word(kernel, rows)?,
            columns: word(kernel, columns)?,
            depth: word(kernel, product.depth)?,
            alpha: self.scale,
            a_row: word(kernel, product.a.0)?,
            a_step: word(kernel, product.a.1)?,
            b_step: word(kernel, product.b.0)?,
            b_column: word(kernel, product.b.1)?,
            batch: four(&product.batch, 1)?,
            a_batch: four(&product.a_batch, 0)?,
            b_batch: four(&product.b_batch, 0)?,
        };
        Ok(Candidate {
            dispatches: vec![Dispatch {
                kernel: Kernel {
                    variant,
                    inputs: vec![(storages[0], a_width), (storages[1], b_width)],
                    knobs,
                    expression: ending.expression,
                },
                reads,
                writes: vec![Binding::Output(0)],
                params: bytemuck::bytes_of(&params).to_vec(),
                operands: ending.operands,
                grid: [x, y, z],
            }],
            packed,
            ..Candidate::default()
        })
    }
}

/// Rows, or output channels, that an invocation of a kernel that shares loads computes: no more than there are.
pub(crate) fn shared_rows(rows: usize) -> u32 {
    match rows {
        0..=4 => 4,
        5..=8 => 8,
        _ => 16,
    }
}

/// Invocations that share the depth of a product whose results need `groups` invocations: enough of them together to
/// fill a device, as long as each keeps a few dozen steps.
fn split(depth: usize, groups: usize) -> u32 {
    const FULL: usize = 4096;
    let mut split = 1;
    while split < 16 && groups * (split as usize) < FULL && depth / (split as usize) >= 64 {
        split *= 4;
    }
    split
}

/// A constant `b` with rows along the columns, padded to groups of four, unless it lies so; the product then reads it.
fn pack(b: &Operand<'_>, storage: Storage, product: &mut Product) -> Option<(Repacked, Storage)> {
    let value = b.value?;
    if product.b.1 == 1 && product.columns.is_multiple_of(4) {
        return None;
    }
    // A single matrix: what weights are.
    if !product.b_batch.iter().all(|&stride| stride == 0) || value.len() != product.depth * product.columns {
        return None;
    }
    let shape = [product.depth, product.columns];
    let packed = Repacked::reordered(value, &shape, &[product.b.0, product.b.1], 4).ok()?;
    product.b = (product.columns.next_multiple_of(4), 1);
    Some((packed, storage))
}
