//! For tests: CPU kernels against references on random inputs.

use crate::expr::{Expr, ExprNode};
use crate::finish::Finish;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::{View, ViewMut};
use crate::operator::{CpuRun, Operator};
use crate::pointwise::functions;
use crate::problem::{Operand, Problem, storage_of};

/// Numbers in -1 .. 1 from a seed.
pub(crate) fn random(dims: &[usize], seed: u32) -> Tensor {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let count = dims.iter().product();
    let values = (0..count).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    });
    Tensor::from_vec(dims, values.collect::<Vec<f32>>()).unwrap()
}

/// The tensor with its elements in another float type.
pub(crate) fn narrowed(tensor: &Tensor, dtype: DType) -> Tensor {
    let all = tensor.to_vec::<f32>().unwrap();
    match dtype {
        DType::F16 => Tensor::from_vec(tensor.dims(), all.iter().map(|&x| half::f16::from_f32(x)).collect()),
        DType::BF16 => {
            Tensor::from_vec(tensor.dims(), all.iter().map(|&x| half::bf16::from_f32(x)).collect())
        }
        _ => Ok(tensor.clone()),
    }
    .unwrap()
}

/// A tensor of 16- or 32-bit floats as numbers.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f32> {
    super::floats(&tensor.view()).unwrap().into_owned()
}

/// The same tensor at an odd address, where constants of mapped files may lie.
fn unaligned(tensor: &Tensor) -> Tensor {
    let bytes = tensor.bytes();
    let mut raw = vec![0xFF; bytes.len() + 1];
    let from = usize::from((raw.as_ptr() as usize).is_multiple_of(2));
    raw[from..][..bytes.len()].copy_from_slice(bytes);
    let raw = bytes::Bytes::from_owner(raw).slice(from..from + bytes.len());
    Tensor::from_bytes(tensor.dtype(), tensor.dims(), raw).unwrap()
}

/// A problem with `inputs`, those at the indices in `constant` known, and outputs as inferred.
pub(crate) fn with_problem<R>(
    operator: &dyn Operator,
    inputs: &[Option<Tensor>],
    constant: &[usize],
    visit: impl FnOnce(&Problem<'_>, &[usize]) -> R,
) -> R {
    let facts: Vec<Option<Fact>> =
        inputs.iter().map(|x| x.as_ref().map(|x| Fact::known(x.dtype(), x.dims()))).collect();
    let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let fact = operator.infer(&facts, 1).unwrap().remove(0);
    let dims = fact.dims().unwrap();
    let mut all = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        all.push(input.as_ref().map(|tensor| Operand {
            dtype: tensor.dtype(),
            dims: tensor.dims(),
            value: constant.contains(&index).then_some(tensor),
            storage: storage_of(tensor.dtype(), true),
        }));
    }
    let output =
        Operand { dtype: fact.dtype, dims: &dims, value: None, storage: storage_of(fact.dtype, true) };
    visit(&Problem { inputs: all, outputs: vec![output], epilogue: None }, &dims)
}

/// Runs the CPU kernel; the result passes through `x + operand` where one is given. `None` where there is no kernel.
/// Constants are unaligned, but those that runs read by elements are aligned for these.
pub(crate) fn run_cpu(
    operator: &dyn Operator,
    inputs: &[Option<Tensor>],
    constant: &[usize],
    residual: Option<&Tensor>,
) -> Option<Tensor> {
    let given = |(index, input): (usize, &Option<Tensor>)| match constant.contains(&index) {
        true => input.as_ref().map(unaligned),
        false => input.clone(),
    };
    let given: Vec<Option<Tensor>> = inputs.iter().enumerate().map(given).collect();
    with_problem(operator, &given, constant, |problem, dims| {
        let kernel = operator.cpu(problem).unwrap()?;
        let dtype = problem.outputs[0].dtype;
        let read = |(index, (aligned, given))| if kernel.reads_elements(index) { aligned } else { given };
        let read = inputs.iter().zip(&given).enumerate().map(read);
        let views: Vec<Option<View<'_>>> =
            read.map(|x: &Option<Tensor>| x.as_ref().map(Tensor::view)).collect();
        let len: usize = dims.iter().product();
        let mut words = vec![u64::MAX; dtype.bytes_for(len).unwrap().div_ceil(8)];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        let mut scratch = vec![u64::MAX; kernel.scratch().div_ceil(8) + 8];
        let scratch: &mut [u8] = bytemuck::cast_slice_mut(&mut scratch);
        let expr = Expr {
            nodes: vec![
                ExprNode::Accumulator,
                ExprNode::Operand(0),
                ExprNode::Call { function: &functions::ADD, args: vec![0, 1], params: Vec::new() },
            ],
            results: vec![2],
        };
        let finish =
            residual.map(|residual| Finish::new(&expr, DType::F32, vec![residual.view()], dims).unwrap());
        assert!(finish.is_none() || kernel.finishes());
        {
            let bytes = &mut bytes[..dtype.bytes_for(len).unwrap()];
            let mut outputs = [ViewMut { dtype, dims, bytes }];
            let scratch = &mut scratch[..kernel.scratch()];
            let mut run = CpuRun { inputs: &views, outputs: &mut outputs, scratch, finish: finish.as_ref() };
            kernel.run(&mut run).unwrap();
        }
        let bytes = bytes::Bytes::copy_from_slice(&bytes[..dtype.bytes_for(len).unwrap()]);
        Some(Tensor::from_bytes(dtype, dims, bytes).unwrap().aligned())
    })
}

/// Asserts that the CPU kernel and the reference agree within `tolerance`, plain and with an epilogue, on one thread
/// and on several.
pub(crate) fn agrees(operator: &dyn Operator, inputs: &[Option<Tensor>], constant: &[usize], tolerance: f32) {
    let views: Vec<Option<View<'_>>> = inputs.iter().map(|x| x.as_ref().map(Tensor::view)).collect();
    let exact = operator.reference(&views, 1).unwrap().remove(0);
    let residual = random(exact.dims(), 99);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for residual in [None, Some(&residual)] {
            let got = pool.install(|| run_cpu(operator, inputs, constant, residual)).expect("a CPU kernel");
            assert_eq!((got.dtype(), got.dims()), (exact.dtype(), exact.dims()));
            let added = residual.map(numbers);
            for (i, (&got, &exact)) in numbers(&got).iter().zip(&numbers(&exact)).enumerate() {
                let exact = exact + added.as_ref().map_or(0.0, |added| added[i]);
                assert!(
                    (got - exact).abs() <= tolerance * exact.abs().max(1.0),
                    "{operator:?} {:?}: element {i} is {got}, expected {exact}",
                    inputs.iter().flatten().map(Tensor::dims).collect::<Vec<_>>()
                );
            }
        }
    }
}
