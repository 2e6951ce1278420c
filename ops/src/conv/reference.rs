//! Convolutions by plain loops.

use half::{bf16, f16};

use super::window::Sizes;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::matmul::terms::Term;

/// The input, the weights, and the bias if there is one.
pub(super) fn operands<'a, 'b>(
    inputs: &'a [Option<View<'b>>],
) -> Result<(&'a View<'b>, &'a View<'b>, Option<&'a View<'b>>), OpError> {
    match inputs {
        [Some(x), Some(w), rest @ ..] => Ok((x, w, rest.first().and_then(Option::as_ref))),
        _ => Err(OpError::Arity { what: "inputs", expected: "2 or 3", got: inputs.len() }),
    }
}

/// A convolution, or a transposed one, as a tensor of dimensions `dims`.
pub(super) fn convolve(
    sizes: &Sizes,
    transposed: bool,
    operands: [&View<'_>; 2],
    bias: Option<&View<'_>>,
    dims: &[usize],
) -> Result<Tensor, OpError> {
    match operands[0].dtype {
        DType::F32 => typed::<f32>(sizes, transposed, operands, bias, dims),
        DType::F64 => typed::<f64>(sizes, transposed, operands, bias, dims),
        DType::F16 => typed::<f16>(sizes, transposed, operands, bias, dims),
        DType::BF16 => typed::<bf16>(sizes, transposed, operands, bias, dims),
        // Of quantized operands without their zero points.
        DType::I32 => typed::<i32>(sizes, transposed, operands, bias, dims),
        got => Err(OpError::Type { input: 0, expected: "a float or i32", got }),
    }
}

/// The input position that window element `k` of output position `o` reads along an axis, if there is one.
fn source(sizes: &Sizes, transposed: bool, axis: usize, o: usize, k: usize) -> Option<usize> {
    let (stride, before) = (sizes.strides[axis], sizes.before[axis]);
    let inside = k * sizes.dilations[axis];
    let at = if transposed {
        let at = (o + before).checked_sub(inside)?;
        (at % stride == 0).then_some(at / stride)?
    } else {
        (o * stride + inside).checked_sub(before)?
    };
    (at < sizes.input[axis]).then_some(at)
}

fn typed<T: Term>(
    sizes: &Sizes,
    transposed: bool,
    [x, w]: [&View<'_>; 2],
    bias: Option<&View<'_>>,
    dims: &[usize],
) -> Result<Tensor, OpError> {
    for (input, view) in [Some(x), Some(w), bias].into_iter().enumerate() {
        if let Some(view) = view.filter(|view| view.dtype != T::DTYPE) {
            return Err(OpError::Type { input, expected: T::DTYPE.name(), got: view.dtype });
        }
    }
    let short = || OpError::Internal("an operand smaller than its dimensions");
    let (data, weights) = (x.slice::<T>(), w.slice::<T>());
    let bias = bias.map(View::slice::<T>);
    let [depth, height, width] = sizes.output;
    let [kd, kh, kw] = sizes.kernel;
    let [_, rows, columns] = sizes.input;
    let mut values = Vec::new();
    let len = crate::ir::tensor::element_count(dims).ok_or(OpError::Size)?;
    values.try_reserve_exact(len).map_err(|_| OpError::Size)?;
    let channels = sizes.groups * sizes.outputs;
    for image in 0..sizes.batch {
        for channel in 0..channels {
            let (group, own) = (channel / sizes.outputs, channel % sizes.outputs);
            for at in 0..depth * height * width {
                let (z, y, x) = (at / (height * width), at / width % height, at % width);
                let mut sum = T::ZERO;
                for k in 0..kd * kh * kw {
                    let (kz, ky, kx) = (k / (kh * kw), k / kw % kh, k % kw);
                    let (Some(z), Some(y), Some(x)) = (
                        source(sizes, transposed, 0, z, kz),
                        source(sizes, transposed, 1, y, ky),
                        source(sizes, transposed, 2, x, kx),
                    ) else {
                        continue;
                    };
                    for input in 0..sizes.inputs {
                        let from = (image * sizes.groups + group) * sizes.inputs + input;
                        let i = from * sizes.input_plane() + (z * rows + y) * columns + x;
                        let pair = if transposed {
                            (group * sizes.inputs + input) * sizes.outputs + own
                        } else {
                            channel * sizes.inputs + input
                        };
                        let weight = weights.get(pair * sizes.window() + k).ok_or_else(short)?;
                        sum = T::add_product(sum, *data.get(i).ok_or_else(short)?, *weight);
                    }
                }
                if let Some(bias) = bias {
                    sum = T::add_scaled(sum, *bias.get(channel).ok_or_else(short)?, 1.0);
                }
                values.push(T::from_sum(sum));
            }
        }
    }
    Ok(Tensor::from_vec(dims, values)?)
}
