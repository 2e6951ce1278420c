//! Operators that reduce windows sliding over the spatial dimensions.

pub mod average_pool;
mod blocked;
pub mod lp_pool;
pub mod max_pool;
pub mod max_roi_pool;
pub mod max_unpool;
mod nhwc_max_pool;
pub mod planes;
pub mod roi_align;
pub mod window;

use crate::build::{Build, OperatorRow};

const fn row(name: &'static str, build: Build) -> OperatorRow {
    OperatorRow { domain: "", name, since: 1, build }
}

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    row("AveragePool", average_pool::build),
    row("LpPool", lp_pool::build),
    row("MaxPool", max_pool::build),
    row("MaxRoiPool", max_roi_pool::build),
    row("MaxUnpool", max_unpool::build),
    row("RoiAlign", roi_align::build),
    OperatorRow { domain: "com.microsoft", name: "NhwcMaxPool", since: 1, build: nhwc_max_pool::build },
];

#[cfg(test)]
pub(crate) mod tests {
    use crate::ir::tensor::Tensor;
    use crate::ir::view::ViewMut;
    use crate::operator::{CpuRun, Operator};
    use crate::problem::{Operand, Problem};

    /// The fast path's result for one `f32` input.
    pub fn fast(op: &dyn Operator, x: &Tensor) -> Vec<f32> {
        let fact = crate::ir::fact::Fact::known(x.dtype(), x.dims());
        let dims = op.infer(&[Some(&fact)], 1).unwrap()[0].dims().unwrap();
        let operand = |dims| Operand { dtype: x.dtype(), dims, value: None, storage: None };
        let problem =
            Problem { inputs: vec![Some(operand(x.dims()))], outputs: vec![operand(&dims)], epilogue: None };
        let kernel = op.cpu(&problem).unwrap().unwrap();
        let mut y = vec![f32::NAN; dims.iter().product()];
        let bytes = bytemuck::cast_slice_mut(&mut y);
        let mut outputs = [ViewMut { dtype: x.dtype(), dims: &dims, bytes }];
        let mut scratch = vec![0u8; kernel.scratch()];
        let inputs = [Some(x.view())];
        let mut run = CpuRun { inputs: &inputs, outputs: &mut outputs, scratch: &mut scratch, finish: None };
        kernel.run(&mut run).unwrap();
        y
    }

    /// Numbers from -1 to 1, the same each time.
    pub fn random(dims: &[usize]) -> Tensor {
        let mut state = 0x9e37_79b9u32;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 * 2.0 - 1.0
        };
        Tensor::from_vec(dims, (0..dims.iter().product()).map(|_| next()).collect()).unwrap()
    }

    /// Equal within the rounding of sums in another order.
    pub fn assert_close(got: &[f32], expected: &[f32]) {
        assert_eq!(got.len(), expected.len());
        for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
            assert!((got - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{i}: {got} is not {expected}");
        }
    }
}
