//! [`com.microsoft.MatMulNBits`](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits):
//! a product with a matrix of 2-, 4- or 8-bit codes, of which every block has a scale.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::nbits_cpu::CodesKernel;
use super::nbits_gpu;
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Cost, CpuKernel, Operator, Role};
use crate::problem::{Operand, Problem};

/// `a · bᵀ + bias`, where row `n` of `b` is codes in blocks along the depth: lowest bits first, every row and block from
/// a byte of its own. Inputs: `a`, codes, scales, zero points, group indices, bias.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MatMulNBits {
    /// Columns of `a`.
    pub depth: usize,
    /// Columns of the output.
    pub columns: usize,
    /// Bits of a code.
    pub bits: usize,
    /// Codes that share a scale.
    pub block: usize,
}

/// Builds [`MatMulNBits`].
///
/// # Errors
/// When there are not three to six inputs, or an attribute is out of range.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, 6, "3 to 6")?;
    if spec.has_input(4) {
        return Err(OpError::unsupported("input g_idx"));
    }
    // It says how exact a kernel must be at least; the reference is exact.
    spec.attributes.int("accuracy_level")?;
    let size = |name: &'static str, default: i64| {
        let value = i32::try_from(spec.attributes.int_or(name, default)?).ok().filter(|&value| value > 0);
        let value = value.and_then(|value| usize::try_from(value).ok());
        value.ok_or(OpError::Attribute { name, expected: "a positive integer below 2^31" })
    };
    let bits = size("bits", 4)?;
    if !matches!(bits, 2 | 4 | 8) {
        return Err(OpError::unsupported(format!("MatMulNBits of {bits} bits")));
    }
    let block = size("block_size", 0)?;
    if !(block.is_power_of_two() && block >= 16) {
        return Err(OpError::Attribute { name: "block_size", expected: "a power of two from 16 on" });
    }
    Ok(Arc::new(MatMulNBits { depth: size("K", 0)?, columns: size("N", 0)?, bits, block }))
}

impl MatMulNBits {
    /// Blocks of a column.
    pub(super) fn blocks(&self) -> usize {
        self.depth.div_ceil(self.block)
    }

    /// Code `index` of a run of codes.
    fn code(&self, codes: &[u8], index: usize) -> Option<u8> {
        let per_byte = 8 / self.bits;
        let byte = codes.get(index / per_byte)?;
        let mask = u8::MAX >> (8 - self.bits);
        Some(byte >> (index % per_byte * self.bits) & mask)
    }

    /// The zero point of every block.
    pub(super) fn zero_points(&self, view: Option<View<'_>>) -> Result<Vec<f64>, OpError> {
        let (blocks, total) = (self.blocks(), self.columns * self.blocks());
        let Some(view) = view else {
            return numbers::filled(&[total], f64::from(1u8 << (self.bits - 1)));
        };
        if view.dtype != DType::U8 {
            let all = numbers::floats(&view)?;
            return if all.len() == total { Ok(all) } else { Err(wrong("zero points", total, all.len())) };
        }
        let row = (blocks * self.bits).div_ceil(8);
        if view.len() != self.columns * row {
            return Err(wrong("zero points", self.columns * row, view.len()));
        }
        let code = |at: usize| self.code(view.bytes.get(at / blocks * row..)?, at % blocks);
        let all: Option<Vec<f64>> = (0..total).map(|at| code(at).map(f64::from)).collect();
        all.ok_or(OpError::Internal("fewer zero points than the dimensions say"))
    }
}

fn wrong(what: &'static str, expected: usize, got: usize) -> OpError {
    OpError::constraint(what, expected, got)
}

impl Operator for MatMulNBits {
    fn name(&self) -> &'static str {
        "MatMulNBits"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let a = required(inputs, 0)?;
        if !matches!(a.dtype, DType::F32 | DType::F16 | DType::BF16) {
            return Err(OpError::Type { input: 0, expected: "f32, f16 or bf16", got: a.dtype });
        }
        let shape = match a.shape.as_deref() {
            Some([outer @ .., depth]) if depth.known().is_none_or(|depth| depth == self.depth) => {
                Some([outer, &[Dim::Known(self.columns)]].concat())
            }
            Some(other) => {
                return Err(OpError::constraint(
                    "columns of the first factor",
                    self.depth,
                    format!("{other:?}"),
                ));
            }
            None => None,
        };
        Ok(vec![Fact { dtype: a.dtype, shape, value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (a, codes, scales) = (view(inputs, 0)?, view(inputs, 1)?, view(inputs, 2)?);
        let [outer @ .., depth] = a.dims else { return Err(wrong("rank of the first factor", 1, 0)) };
        if *depth != self.depth {
            return Err(wrong("columns of the first factor", self.depth, *depth));
        }
        if codes.dtype != DType::U8 {
            return Err(OpError::Type { input: 1, expected: "u8", got: codes.dtype });
        }
        let blocks = self.blocks();
        let row = element_count(&[blocks, self.block, self.bits]).ok_or(OpError::Size)? / 8;
        if Some(codes.bytes.len()) != self.columns.checked_mul(row) {
            return Err(wrong("bytes of codes", self.columns.saturating_mul(row), codes.bytes.len()));
        }
        let scales = numbers::floats(&scales)?;
        if scales.len() != self.columns * blocks {
            return Err(wrong("scales", self.columns * blocks, scales.len()));
        }
        let zero_points = self.zero_points(optional(inputs, 3))?;
        let bias = optional(inputs, 5).map(|bias| numbers::floats(&bias)).transpose()?;
        if let Some(bias) = bias.as_ref().filter(|bias| bias.len() != self.columns) {
            return Err(wrong("biases", self.columns, bias.len()));
        }
        let data = numbers::floats(&a)?;
        let dims = [outer, &[self.columns]].concat();
        let mut values = numbers::filled(&dims, 0.0)?;
        let short = || OpError::Internal("fewer numbers than the dimensions say");
        for (column, codes) in codes.bytes.chunks_exact(row).enumerate() {
            let mut weights = Vec::with_capacity(self.depth);
            for k in 0..self.depth {
                let at = column * blocks + k / self.block;
                let code = f64::from(self.code(codes, k).ok_or_else(short)?);
                let (zero_point, scale) = zero_points.get(at).zip(scales.get(at)).ok_or_else(short)?;
                weights.push((code - zero_point) * scale);
            }
            let start = bias.as_ref().and_then(|bias| bias.get(column)).copied().unwrap_or(0.0);
            let results = values.iter_mut().skip(column).step_by(self.columns);
            for (value, a) in results.zip(data.chunks_exact(self.depth)) {
                *value = a.iter().zip(&weights).fold(start, |sum, (a, w)| sum + a * w);
            }
        }
        Ok(vec![numbers::float_tensor(a.dtype, &dims, &values)?])
    }

    fn folds(&self) -> bool {
        false
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        CodesKernel::prepare(*self, problem)
    }

    fn role(&self) -> Role {
        Role::Anchor
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let results: usize = problem.outputs.iter().map(Operand::len).sum();
        problem.cost_with(2 * (results as u64).saturating_mul(self.depth as u64))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(nbits_gpu::candidate(self, problem, caps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    const CODES: [u8; 32] = [
        95, 130, 194, 217, 207, 235, 15, 163, 33, 215, 217, 130, 248, 189, 16, 69, 184, 232, 205, 78, 169,
        61, 125, 10, 29, 240, 66, 19, 182, 39, 59, 4,
    ];

    // The numbers are those of ONNX Runtime 1.32.
    #[test]
    fn four_bits_with_all_kinds_of_zero_points() {
        let op = MatMulNBits { depth: 20, columns: 2, bits: 4, block: 16 };
        let a: Vec<f32> = (0..20).map(|k| k as f32 - 7.0).collect();
        let a = Tensor::from_slice(&[1, 20], &a).unwrap();
        let codes = Tensor::from_slice(&[2, 2, 8], &CODES).unwrap();
        let scales = Tensor::from_slice(&[4], &[0.1f32, 0.2, 0.3, 0.4]).unwrap();
        let packed = Tensor::from_slice(&[2], &[0x85u8, 0x79]).unwrap();
        let real = Tensor::from_slice(&[4], &[8f32, 1.5, 7.0, 9.0]).unwrap();
        let bias = Tensor::from_slice(&[2], &[1f32, 2.0]).unwrap();
        let run = |zero_points: Option<&Tensor>, bias: Option<&Tensor>| {
            let views = [Some(&a), Some(&codes), Some(&scales), zero_points, None, bias];
            let y = op.reference(&views.map(|x| x.map(Tensor::view)), 1).unwrap().remove(0);
            assert_eq!(y.dims(), [1, 2]);
            y.to_vec::<f32>().unwrap()
        };
        let close = |got: Vec<f32>, expected: [f32; 2]| {
            assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{got:?}");
        };
        close(run(None, None), [-12.4, -42.2]);
        close(run(Some(&packed), None), [-10.0, -27.8]);
        close(run(Some(&real), None), [42.2, -56.6]);
        close(run(Some(&packed), Some(&bias)), [-9.0, -25.8]);
    }

    #[test]
    fn attributes_and_sizes_are_checked() {
        let built = |block: i64, bits: i64| {
            let mut attributes = Attributes::default();
            for (name, value) in [("K", 20), ("N", 2), ("block_size", block), ("bits", bits)] {
                attributes.insert(name, Attribute::Int(value));
            }
            let inputs = &[true; 3];
            let op =
                build(&NodeSpec { op_type: "", opset: 1, inputs, outputs: &[true], attributes: &attributes });
            assert!(op.is_err() || attributes.unread().is_empty());
            op.is_ok()
        };
        assert!(built(16, 4) && built(32, 2) && !built(24, 4) && !built(16, 3) && !built(-16, 4));
        let op = MatMulNBits { depth: 20, columns: 2, bits: 4, block: 16 };
        let a = Tensor::from_slice(&[1, 20], &[0f32; 20]).unwrap();
        let codes = Tensor::from_slice(&[31], &CODES[..31]).unwrap();
        let scales = Tensor::from_slice(&[4], &[1f32; 4]).unwrap();
        assert!(op.reference(&[&a, &codes, &scales].map(|x| Some(x.view())), 1).is_err());
        let fact = Fact::new(DType::F32, vec![Dim::named("n"), Dim::Known(20)]);
        let y = op.infer(&[Some(&fact)], 1).unwrap().remove(0);
        assert_eq!(y.shape, Some(vec![Dim::named("n"), Dim::Known(2)]));
        assert!(op.infer(&[Some(&Fact::known(DType::F32, &[1, 21]))], 1).is_err());
    }
}
