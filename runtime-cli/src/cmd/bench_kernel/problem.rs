//! The problems that kernels are measured on: an operator with sizes, written `kind:sizes`.

use std::sync::Arc;

use sardonyx::{DType, Tensor};
use sardonyx_importer::table;
use sardonyx_ops::Operator;
use sardonyx_ops::build::NodeSpec;
use sardonyx_ops::ir::attributes::{Attribute, Attributes};

use crate::failure::Failure;
use crate::input::generate::Recipe;
use crate::input::source::dimensions;

/// What is measured when nothing is asked for.
pub const DEFAULT: [&str; 7] = [
    "matmul:1024x1024x1024",
    "matmul:1x4096x4096",
    "copy:4096x4096",
    "softmax:4096x1024",
    "layernorm:4096x1024",
    "conv:64x64x3x56",
    "depthwise:96x3x112",
];

/// The kinds with their sizes, for people.
pub const KINDS: &str = "matmul:MxNxK conv:OUTxINxKERNELxSIZE depthwise:CHANNELSxKERNELxSIZE softmax:ROWSxCOLUMNS \
                         layernorm:ROWSxCOLUMNS copy:ROWSxCOLUMNS";

/// An operator with the dimensions of its inputs.
#[derive(Clone, Debug)]
pub struct Problem {
    /// As it was written.
    pub name: String,
    /// The operator.
    pub op: Arc<dyn Operator>,
    /// The inputs' dimensions, and whether each is a constant.
    pub inputs: Vec<(Vec<usize>, bool)>,
}

impl Problem {
    /// Reads `kind:sizes`.
    ///
    /// # Errors
    /// What is wrong with the text, for people.
    pub fn parse(text: &str) -> Result<Problem, String> {
        let unknown = || format!("{text:?} is no problem; there are {KINDS}");
        let (kind, sizes) = text.split_once(':').ok_or_else(unknown)?;
        let sizes = dimensions(sizes).ok_or_else(unknown)?;
        if sizes.iter().any(|&size| size == 0 || size > 1 << 20) {
            return Err(format!("{text:?}: sizes go from 1 to 2^20"));
        }
        let ints = |values: &[usize]| Attribute::Ints(values.iter().map(|&value| value as i64).collect());
        let image = |channels: usize, size: usize| (vec![1, channels, size, size], false);
        let mut attributes = Attributes::default();
        let (op, opset, inputs) = match (kind, sizes.as_slice()) {
            ("matmul", &[m, n, k]) => ("MatMul", 13, vec![(vec![m, k], false), (vec![k, n], true)]),
            ("softmax", &[rows, columns]) => ("Softmax", 13, vec![(vec![rows, columns], false)]),
            ("layernorm", &[rows, columns]) => {
                let vector = || (vec![columns], true);
                ("LayerNormalization", 17, vec![(vec![rows, columns], false), vector(), vector()])
            }
            ("copy", &[rows, columns]) => ("Neg", 13, vec![(vec![rows, columns], false)]),
            ("conv", &[out, channels, kernel, size]) => {
                attributes.insert("pads", ints(&[kernel / 2; 4]));
                let weights = vec![out, channels, kernel, kernel];
                ("Conv", 11, vec![image(channels, size), (weights, true), (vec![out], true)])
            }
            ("depthwise", &[channels, kernel, size]) => {
                attributes.insert("pads", ints(&[kernel / 2; 4]));
                attributes.insert("group", Attribute::Int(channels as i64));
                let weights = vec![channels, 1, kernel, kernel];
                ("Conv", 11, vec![image(channels, size), (weights, true), (vec![channels], true)])
            }
            _ => return Err(unknown()),
        };
        let row = table::lookup("", op, opset).ok_or_else(unknown)?;
        let given = vec![true; inputs.len()];
        let spec = NodeSpec { op_type: op, opset, inputs: &given, outputs: &[true], attributes: &attributes };
        let op = (row.build)(&spec).map_err(|error| error.to_string())?;
        Ok(Problem { name: text.to_owned(), op, inputs })
    }

    /// Inputs with elements between -1 and 1, the same each time.
    ///
    /// # Errors
    /// When they are too large.
    pub fn tensors(&self) -> Result<Vec<Tensor>, Failure> {
        let make = |(index, (dims, _)): (usize, &(Vec<usize>, bool))| {
            Recipe::Random { seed: index.to_string(), min: -1.0, max: 1.0 }.make(DType::F32, dims)
        };
        self.inputs.iter().enumerate().map(make).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_have_operators_and_sizes() {
        for text in DEFAULT {
            let problem = Problem::parse(text).unwrap();
            assert_eq!(problem.name, text);
            assert!(problem.tensors().unwrap().iter().zip(&problem.inputs).all(|(t, (d, _))| t.dims() == d));
        }
        let conv = Problem::parse("conv:8x4x3x7").unwrap();
        assert_eq!((conv.op.name(), conv.inputs[1].0.as_slice()), ("Conv", [8, 4, 3, 3].as_slice()));
        for wrong in ["matmul", "matmul:3x4", "dance:1x2", "copy:0x3", "copy:9999999x9"] {
            assert!(Problem::parse(wrong).is_err(), "{wrong}");
        }
    }
}
