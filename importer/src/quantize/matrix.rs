//! Constant matrices that products read: the second factor of `MatMul` and `Gemm`.

use std::sync::Arc;

use sardonyx_ops::{DType, Tensor};

use super::draft::{Draft, float_of, int_of};
use crate::onnx::NodeProto;

/// A product with a constant matrix of K rows and N columns.
pub(super) struct Product {
    /// The name of the constant.
    pub weight: Arc<str>,
    /// The constant has N rows of K instead.
    pub transposed: bool,
    /// What `Gemm` adds.
    pub bias: Option<Arc<str>>,
    pub k: usize,
    pub n: usize,
}

impl Product {
    /// The node as a product; `None` for everything else, and for what a `MatMul` with an `Add` is not.
    pub fn of(draft: &Draft, node: &NodeProto) -> Option<Product> {
        if !node.domain.is_empty() {
            return None;
        }
        let gemm = match &*node.op_type {
            "MatMul" => false,
            "Gemm" => true,
            _ => return None,
        };
        if gemm
            && (int_of(node, "transA", 0) != 0
                || float_of(node, "alpha", 1.0) != 1.0
                || float_of(node, "beta", 1.0) != 1.0)
        {
            return None;
        }
        let weight = node.inputs.get(1)?;
        let tensor = draft.constant(weight).filter(|tensor| tensor.dtype() == DType::F32)?;
        let &[rows, columns] = tensor.dims() else { return None };
        if rows == 0 || columns == 0 {
            return None;
        }
        let transposed = gemm && int_of(node, "transB", 0) != 0;
        let (k, n) = if transposed { (columns, rows) } else { (rows, columns) };
        let bias = node.inputs.get(2).filter(|name| !name.is_empty()).cloned();
        Some(Product { weight: weight.clone(), transposed, bias, k, n })
    }

    /// The constant, column after column: N runs of K.
    pub fn columns(&self, tensor: &Tensor) -> Option<Vec<f32>> {
        let values = tensor.elements::<f32>().ok()?;
        if self.transposed {
            return Some(values.into_owned());
        }
        let mut out = vec![0.0; values.len()];
        // Tiles, so that neither side is walked with large strides only.
        const TILE: usize = 32;
        for (tile, rows) in values.chunks(self.n * TILE).enumerate() {
            for from in (0..self.n).step_by(TILE) {
                for (r, row) in rows.chunks(self.n).enumerate() {
                    let k = tile * TILE + r;
                    for (c, value) in row.iter().enumerate().skip(from).take(TILE) {
                        if let Some(place) = out.get_mut(c * self.k + k) {
                            *place = *value;
                        }
                    }
                }
            }
        }
        Some(out)
    }
}
