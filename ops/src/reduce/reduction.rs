//! [ReduceSum](https://onnx.ai/onnx/operators/onnx__ReduceSum.html), ReduceMean, ReduceMax, ReduceMin, ReduceProd,
//! ReduceL1, ReduceL2, ReduceLogSum, ReduceLogSumExp, ReduceSumSquare, and the global poolings, which are means and
//! maxima over all spatial dimensions.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::axes::{Axes, Reduced};
use super::kind::Kind;
use super::{cpu, gpu};
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::{self, Dim};
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats, integer_tensor, integers};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::layout::{Blocking, blocked_dims};
use crate::operator::{Cost, CpuKernel, Operator, Role};
use crate::problem::Problem;

/// A reduction over some dimensions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reduce {
    /// The operator's name in ONNX.
    pub name: &'static str,
    /// What is computed.
    pub kind: Kind,
    /// Over which dimensions.
    pub reduced: Reduced,
}

macro_rules! builders {
    ($($name:ident, $kind:ident, $input_since:literal;)*) => {$(
        pub(super) fn $name(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
            let reduced = Reduced::from_spec(spec, $input_since)?;
            Ok(Arc::new(Reduce { name: Kind::$kind.name(), kind: Kind::$kind, reduced }))
        }
    )*};
}

builders! {
    sum, Sum, 13;
    mean, Mean, 18;
    max, Max, 18;
    min, Min, 18;
    prod, Prod, 18;
    l1, L1, 18;
    l2, L2, 18;
    log_sum, LogSum, 18;
    log_sum_exp, LogSumExp, 18;
    sum_square, SumSquare, 18;
}

const SPATIAL: Reduced = Reduced { axes: Axes::Spatial, keepdims: true, noop_with_empty_axes: false };

/// <https://onnx.ai/onnx/operators/onnx__GlobalAveragePool.html>
pub(super) fn global_average_pool(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(Reduce { name: "GlobalAveragePool", kind: Kind::Mean, reduced: SPATIAL }))
}

/// <https://onnx.ai/onnx/operators/onnx__GlobalMaxPool.html>
pub(super) fn global_max_pool(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(Reduce { name: "GlobalMaxPool", kind: Kind::Max, reduced: SPATIAL }))
}

impl Reduce {
    fn check_type(&self, dtype: DType) -> Result<(), OpError> {
        use DType::*;
        let extremes = matches!(self.kind, Kind::Max | Kind::Min);
        let ok = match dtype {
            F32 | F64 | F16 | BF16 => true,
            Bool => extremes,
            I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64 => true,
            _ => false,
        };
        let expected = if extremes { "a float, an integer or bool" } else { "a float or an integer" };
        if ok { Ok(()) } else { Err(OpError::Type { input: 0, expected, got: dtype }) }
    }

    /// The result's contents when the input is a vector of dimensions known by name.
    fn sizes(&self, data: &Fact, shape: &[Dim]) -> Option<Vec<Dim>> {
        let sizes = data.sizes.as_ref().filter(|_| data.rank() == Some(1))?;
        if shape.first().is_some_and(|dim| !dim.is(1)) {
            return None;
        }
        let all = match self.kind {
            Kind::Prod => dim::product(sizes).ok()?,
            Kind::Sum => sizes.iter().try_fold(Dim::Known(0), |sum, dim| sum.add(dim)).ok()?,
            Kind::Max => Dim::Known(dim::known(sizes)?.into_iter().max()?),
            Kind::Min => Dim::Known(dim::known(sizes)?.into_iter().min()?),
            _ => return None,
        };
        Some(vec![all])
    }
}

impl Operator for Reduce {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let data = inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        self.check_type(data.dtype)?;
        if self.reduced.axes == Axes::Spatial && data.rank().is_some_and(|rank| rank < 2) {
            return Err(OpError::constraint("rank of the input", "2 or more", data.rank().unwrap_or(0)));
        }
        let axes = inputs.get(1).copied().flatten();
        Ok(vec![match self.reduced.shape(data, axes)? {
            None => Fact::unranked(data.dtype),
            Some(shape) => {
                let sizes = self.sizes(data, &shape);
                Fact { sizes, ..Fact::new(data.dtype, shape) }
            }
        }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let data = inputs.first().copied().flatten().ok_or(OpError::Internal("an input is missing"))?;
        self.check_type(data.dtype)?;
        let mask = self.reduced.mask_of(inputs, data.dims.len())?;
        let dims = self.reduced.remaining(data.dims, &mask, 1);
        let groups = Groups::new(data.dims, &mask, &dims)?;
        Ok(vec![if data.dtype.is_float() {
            float_tensor(data.dtype, &dims, &groups.floats(self.kind, &floats(&data)?))?
        } else {
            integer_tensor(data.dtype, &dims, &groups.integers(self.kind, data.dtype, &integers(&data)?)?)?
        }])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        Ok(self.reduced.mask_in(problem).and_then(|mask| cpu::kernel(self.kind, &mask, problem)))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        match self.reduced.mask_in(problem) {
            Some(mask) => Lowering::from_result(gpu::lower(self.kind, &mask, problem, caps)),
            None => Lowering::refused(self.name, "its axes are not constant"),
        }
    }

    fn role(&self) -> Role {
        Role::Anchor
    }

    fn blocked(&self, problem: &Problem<'_>, block: usize, blocked: &[bool]) -> Option<Blocking> {
        let mask = self.reduced.mask_in(problem)?;
        let there = blocked.first().copied().unwrap_or(false);
        if !there || !self.reduced.keepdims || mask != [false, false, true, true] {
            return None;
        }
        blocked_dims(problem.input(0)?.dims, block)?;
        let reduced = Reduced { axes: Axes::Attribute(vec![2, 3]), ..self.reduced.clone() };
        Some(Blocking::of_all(Arc::new(Reduce { reduced, ..self.clone() }), 1))
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let read = problem.input(0).map_or(0, |data| data.len() as u64);
        let cost = problem.default_cost();
        Cost { flops: cost.flops.saturating_add(read), ..cost }
    }
}

/// Which output each input element goes to.
struct Groups {
    places: Vec<usize>,
    outputs: usize,
    len: usize,
}

impl Groups {
    fn new(dims: &[usize], mask: &[bool], output: &[usize]) -> Result<Groups, OpError> {
        let mut places = filled(dims, 0usize)?;
        let outputs = filled(output, ())?.len();
        let len = dims.iter().zip(mask).filter(|(_, mark)| **mark).map(|(dim, _)| dim).product();
        for (i, place) in places.iter_mut().enumerate() {
            let (mut rest, mut stride) = (i, 1);
            for (&dim, &mark) in dims.iter().zip(mask).rev() {
                if !mark {
                    *place += rest % dim * stride;
                    stride *= dim;
                }
                rest /= dim;
            }
        }
        Ok(Groups { places, outputs, len })
    }

    fn fold<T: Copy>(&self, start: T, values: &[T], f: impl Fn(usize, T, T) -> T) -> Vec<T> {
        let mut all = vec![start; self.outputs];
        for (&place, &x) in self.places.iter().zip(values) {
            all[place] = f(place, all[place], x);
        }
        all
    }

    fn floats(&self, kind: Kind, values: &[f64]) -> Vec<f64> {
        let larger = |_, a: f64, b: f64| if a >= b || a.is_nan() { a } else { b };
        let smaller = |_, a: f64, b: f64| if a <= b || a.is_nan() { a } else { b };
        let sum = |_, a: f64, b: f64| a + b;
        let mut all = match kind {
            Kind::Max => self.fold(f64::NEG_INFINITY, values, larger),
            Kind::Min => self.fold(f64::INFINITY, values, smaller),
            Kind::Prod => self.fold(1.0, values, |_, a, b| a * b),
            Kind::Sum | Kind::Mean | Kind::LogSum => self.fold(0.0, values, sum),
            Kind::L1 => self.fold(0.0, values, |_, a, b| a + b.abs()),
            Kind::L2 | Kind::SumSquare => self.fold(0.0, values, |_, a, b| a + b * b),
            Kind::LogSumExp => {
                let mut shifts = self.fold(f64::NEG_INFINITY, values, larger);
                // An infinite largest value is no shift: inf - inf would be NaN.
                shifts.iter_mut().filter(|shift| shift.is_infinite()).for_each(|shift| *shift = 0.0);
                let sums = self.fold(0.0, values, |place, a, b| a + (b - shifts[place]).exp());
                return sums.iter().zip(&shifts).map(|(sum, shift)| sum.ln() + shift).collect();
            }
        };
        match kind {
            Kind::Mean => all.iter_mut().for_each(|x| *x /= self.len as f64),
            Kind::L2 => all.iter_mut().for_each(|x| *x = x.sqrt()),
            Kind::LogSum => all.iter_mut().for_each(|x| *x = x.ln()),
            _ => {}
        }
        all
    }

    /// Integers are exact; a mean or a root is cut off towards zero. Sums and products wrap.
    fn integers(&self, kind: Kind, dtype: DType, values: &[i128]) -> Result<Vec<i128>, OpError> {
        let bits = dtype.bits();
        let (least, most) = match dtype {
            DType::Bool => (0, 1),
            dtype if dtype.is_signed_integer() => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
            _ => (0, (1i128 << bits) - 1),
        };
        Ok(match kind {
            Kind::Max => self.fold(least, values, |_, a, b| a.max(b)),
            Kind::Min => self.fold(most, values, |_, a, b| a.min(b)),
            Kind::Prod => self.fold(1, values, |_, a, b| a.wrapping_mul(b)),
            Kind::Sum => self.fold(0, values, |_, a, b| a.wrapping_add(b)),
            Kind::L1 => self.fold(0, values, |_, a, b| a.wrapping_add(b.abs())),
            Kind::SumSquare => self.fold(0, values, |_, a, b| a.wrapping_add(b.wrapping_mul(b))),
            Kind::Mean => {
                let len = i128::try_from(self.len).map_err(|_| OpError::Size)?;
                if len == 0 && self.outputs > 0 {
                    return Err(OpError::constraint("integers to average", "at least one", 0));
                }
                let sums = self.fold(0, values, |_, a, b| a.wrapping_add(b));
                sums.into_iter().map(|sum| sum / len).collect()
            }
            Kind::L2 | Kind::LogSum | Kind::LogSumExp => {
                let values: Vec<f64> = values.iter().map(|&x| x as f64).collect();
                self.floats(kind, &values).into_iter().map(|x| x as i128).collect()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduce(kind: Kind, axes: &[i64]) -> Reduce {
        let axes = Axes::Attribute(axes.to_vec());
        Reduce {
            name: "Reduce",
            kind,
            reduced: Reduced { axes, keepdims: false, noop_with_empty_axes: false },
        }
    }

    fn one(op: &Reduce, data: &Tensor) -> Tensor {
        op.reference(&[Some(data.view())], 1).unwrap().remove(0)
    }

    #[test]
    fn every_kind_has_its_numbers() {
        let data = Tensor::from_vec(&[2, 3], vec![1.0f32, -2.0, 4.0, 3.0, 5.0, 0.5]).unwrap();
        let row = |kind| one(&reduce(kind, &[-1]), &data).to_vec::<f32>().unwrap();
        assert_eq!(row(Kind::Sum), [3.0, 8.5]);
        assert_eq!(row(Kind::Mean), [1.0, 8.5 / 3.0]);
        assert_eq!(row(Kind::Max), [4.0, 5.0]);
        assert_eq!(row(Kind::Min), [-2.0, 0.5]);
        assert_eq!(row(Kind::Prod), [-8.0, 7.5]);
        assert_eq!(row(Kind::L1), [7.0, 8.5]);
        assert_eq!(row(Kind::L2), [4.582_576, 5.852_349_8]);
        assert_eq!(row(Kind::SumSquare), [21.0, 34.25]);
        assert_eq!(row(Kind::LogSum), [1.098_612_3, 2.140_066_1]);
        assert_eq!(row(Kind::LogSumExp), [4.050_945_8, 5.136_665_2]);
        let column = one(&reduce(Kind::Sum, &[0]), &data);
        assert_eq!(column.to_vec::<f32>().unwrap(), [4.0, 3.0, 4.5]);
        let all = one(&reduce(Kind::Sum, &[]), &data);
        assert_eq!((all.dims(), all.to_vec::<f32>().unwrap()), (&[][..], vec![11.5]));
    }

    #[test]
    fn logarithms_of_exponentials_stay_finite() {
        let large = Tensor::from_vec(&[2], vec![1000.0f32, 1000.0]).unwrap();
        let got = one(&reduce(Kind::LogSumExp, &[0]), &large).to_vec::<f32>().unwrap();
        assert_eq!(got, [1_000.693_2]);
        let none = Tensor::from_vec(&[2], vec![f32::NEG_INFINITY; 2]).unwrap();
        let got = one(&reduce(Kind::LogSumExp, &[0]), &none).to_vec::<f32>().unwrap();
        assert_eq!(got, [f32::NEG_INFINITY]);
    }

    #[test]
    fn nothing_reduces_to_the_neutral_element() {
        let empty = Tensor::zeroed(DType::F32, &[2, 0]).unwrap();
        let row = |kind| one(&reduce(kind, &[1]), &empty).to_vec::<f32>().unwrap()[0];
        assert_eq!((row(Kind::Sum), row(Kind::Prod)), (0.0, 1.0));
        assert_eq!((row(Kind::Max), row(Kind::Min)), (f32::NEG_INFINITY, f32::INFINITY));
        assert!(row(Kind::Mean).is_nan());
        assert_eq!((row(Kind::LogSum), row(Kind::LogSumExp)), (f32::NEG_INFINITY, f32::NEG_INFINITY));
        let empty = Tensor::zeroed(DType::I32, &[0]).unwrap();
        assert_eq!(one(&reduce(Kind::Max, &[]), &empty).to_vec::<i32>().unwrap(), [i32::MIN]);
        assert!(reduce(Kind::Mean, &[]).reference(&[Some(empty.view())], 1).is_err());
        let empty = Tensor::zeroed(DType::Bool, &[0]).unwrap();
        assert_eq!(one(&reduce(Kind::Min, &[]), &empty).bytes(), [1]);
    }

    #[test]
    fn integers_are_exact() {
        let big = Tensor::from_vec(&[3], vec![i64::MAX - 1, -5, 2]).unwrap();
        assert_eq!(one(&reduce(Kind::Sum, &[]), &big).to_vec::<i64>().unwrap(), [i64::MAX - 4]);
        let odd = Tensor::from_vec(&[2], vec![-3i32, -2]).unwrap();
        assert_eq!(one(&reduce(Kind::Mean, &[]), &odd).to_vec::<i32>().unwrap(), [-2]);
    }

    #[test]
    fn axes_are_an_input_or_all_or_none() {
        let data = Tensor::from_vec(&[1, 2], vec![3.0f32, -4.0]).unwrap();
        let axes = Tensor::from_vec(&[1], vec![-1i64]).unwrap();
        let mut op = reduce(Kind::SumSquare, &[]);
        op.reduced.axes = Axes::Input;
        let facts = [Fact::known(DType::F32, &[1, 2]), Fact::constant(axes.clone())];
        let fact = op.infer(&[Some(&facts[0]), Some(&facts[1])], 1).unwrap().remove(0);
        assert_eq!(fact.dims(), Some(vec![1]));
        let got = op.reference(&[Some(data.view()), Some(axes.view())], 1).unwrap().remove(0);
        assert_eq!(got.to_vec::<f32>().unwrap(), [25.0]);
        let unknown = Fact::known(DType::I64, &[1]);
        assert_eq!(op.infer(&[Some(&facts[0]), Some(&unknown)], 1).unwrap()[0].rank(), None);
        // Without axes the squares are still taken when nothing is to be reduced.
        op.reduced = Reduced { axes: Axes::Attribute(vec![]), keepdims: true, noop_with_empty_axes: true };
        let got = one(&op, &data);
        assert_eq!((got.dims(), got.to_vec::<f32>().unwrap()), (&[1, 2][..], vec![9.0, 16.0]));
        assert!(reduce(Kind::Sum, &[2]).infer(&[Some(&facts[0])], 1).is_err());
    }

    #[test]
    fn shape_vectors_keep_their_names() {
        let n = Dim::named("n");
        let sizes = Some(vec![n.clone(), Dim::Known(3)]);
        let shape = Fact { sizes, ..Fact::known(DType::I64, &[2]) };
        let fact = reduce(Kind::Prod, &[0]).infer(&[Some(&shape)], 1).unwrap().remove(0);
        assert_eq!(fact.sizes, Some(vec![n.scale(3).unwrap()]));
    }
}
