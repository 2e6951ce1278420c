//! One operator on operands of known sizes: what kernels are chosen for.

use sardonyx_shaders::storage::Storage;

use crate::expr::Expr;
use crate::ir::dtype::DType;
use crate::ir::tensor::Tensor;
use crate::operator::Cost;

/// A tensor of a problem.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub dims: &'a [usize],
    /// The contents, when constant.
    pub value: Option<&'a Tensor>,
    /// How it lies on the device; `None` when the device cannot hold this type.
    pub storage: Option<Storage>,
}

impl Operand<'_> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// No elements at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An expression that an anchor's results pass through, with the dimensions it reads besides.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// The expression; its accumulator is the anchor's result. One result, of the anchor's type and dimensions.
    pub expr: &'a Expr,
    /// Its operands; each broadcasts to the output.
    pub operands: &'a [Operand<'a>],
}

/// One operator on operands of known sizes.
#[derive(Clone, Debug)]
pub struct Problem<'a> {
    /// Inputs; `None` where absent.
    pub inputs: Vec<Option<Operand<'a>>>,
    /// Outputs.
    pub outputs: Vec<Operand<'a>>,
    /// What output 0 passes through.
    pub epilogue: Option<Epilogue<'a>>,
}

impl<'a> Problem<'a> {
    /// Input `index`, if given.
    pub fn input(&self, index: usize) -> Option<&Operand<'a>> {
        self.inputs.get(index)?.as_ref()
    }

    /// The default with so many operations more.
    pub fn cost_with(&self, flops: u64) -> Cost {
        let base = self.default_cost();
        Cost { flops: base.flops.saturating_add(flops), ..base }
    }

    /// Every byte once, one operation per output element and epilogue step.
    pub fn default_cost(&self) -> Cost {
        let bytes = |operand: &Operand<'_>| {
            let per = operand.storage.map_or(operand.dtype.bits().div_ceil(8), Storage::bytes);
            (operand.len() as u64).saturating_mul(per as u64)
        };
        let epilogue = self.epilogue.map_or(&[][..], |epilogue| epilogue.operands);
        let steps = self.epilogue.map_or(0, |epilogue| epilogue.expr.calls()) as u64;
        Cost {
            flops: self.outputs.iter().map(|o| (o.len() as u64).saturating_mul(1 + steps)).sum(),
            bytes: self.inputs.iter().flatten().chain(&self.outputs).chain(epilogue).map(bytes).sum(),
        }
    }
}

/// How a device holds tensors of a type: bit for bit where kernels can address it, else widened.
pub fn storage_of(dtype: DType, f16: bool) -> Option<Storage> {
    Some(match dtype {
        DType::F16 if f16 => Storage::F16,
        DType::F32 | DType::F16 | DType::BF16 => Storage::F32,
        DType::I32 | DType::I16 => Storage::I32,
        DType::U32 | DType::U16 => Storage::U32,
        DType::I64 | DType::U64 => Storage::I64,
        DType::I8 => Storage::I8,
        DType::U8 => Storage::U8,
        DType::Bool => Storage::Bool,
        _ => return None,
    })
}
