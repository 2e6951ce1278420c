//! What reductions compute.

/// A reduction of ONNX: `Reduce…`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Σ x
    Sum,
    /// Σ x / n
    Mean,
    /// The largest; NaN if there is one.
    Max,
    /// The smallest; NaN if there is one.
    Min,
    /// Π x
    Prod,
    /// Σ |x|
    L1,
    /// √ Σ x²
    L2,
    /// ln Σ x
    LogSum,
    /// ln Σ eˣ, without overflow
    LogSumExp,
    /// Σ x²
    SumSquare,
}

impl Kind {
    /// The name of the ONNX operator.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Sum => "ReduceSum",
            Kind::Mean => "ReduceMean",
            Kind::Max => "ReduceMax",
            Kind::Min => "ReduceMin",
            Kind::Prod => "ReduceProd",
            Kind::L1 => "ReduceL1",
            Kind::L2 => "ReduceL2",
            Kind::LogSum => "ReduceLogSum",
            Kind::LogSumExp => "ReduceLogSumExp",
            Kind::SumSquare => "ReduceSumSquare",
        }
    }
}

/// What is done to each element first. The numbers are those of `reduce_prepare_f32` in the shaders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prepare {
    /// Nothing.
    None = 0,
    /// Its magnitude.
    Magnitude = 1,
    /// Its square.
    Square = 2,
    /// Its exponential, relative to the largest of its line.
    Exponential = 3,
}

/// How two elements become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Combine {
    /// Their sum.
    Sum = 0,
    /// Their product.
    Product = 1,
    /// The larger.
    Largest = 2,
    /// The smaller.
    Smallest = 3,
}

/// What is done to the result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Complete {
    /// Nothing.
    None = 0,
    /// Division by the number of elements.
    Divide = 1,
    /// The square root.
    Root = 2,
    /// The logarithm, plus what exponentials were relative to.
    Logarithm = 3,
}

/// A reduction in steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Steps {
    /// What is done to each element first.
    pub prepare: Prepare,
    /// How two become one.
    pub combine: Combine,
    /// What is done to the result.
    pub complete: Complete,
}

impl Kind {
    /// The steps of this reduction.
    pub fn steps(self) -> Steps {
        let steps = |prepare, combine, complete| Steps { prepare, combine, complete };
        match self {
            Kind::Sum => steps(Prepare::None, Combine::Sum, Complete::None),
            Kind::Mean => steps(Prepare::None, Combine::Sum, Complete::Divide),
            Kind::Max => steps(Prepare::None, Combine::Largest, Complete::None),
            Kind::Min => steps(Prepare::None, Combine::Smallest, Complete::None),
            Kind::Prod => steps(Prepare::None, Combine::Product, Complete::None),
            Kind::L1 => steps(Prepare::Magnitude, Combine::Sum, Complete::None),
            Kind::L2 => steps(Prepare::Square, Combine::Sum, Complete::Root),
            Kind::LogSum => steps(Prepare::None, Combine::Sum, Complete::Logarithm),
            Kind::LogSumExp => steps(Prepare::Exponential, Combine::Sum, Complete::Logarithm),
            Kind::SumSquare => steps(Prepare::Square, Combine::Sum, Complete::None),
        }
    }

    /// The steps of stage `stage` of `stages`, when a reduction is done in several, one after the other: only the first
    /// prepares and only the last completes, except that each stage of a logarithm of exponentials is one itself.
    pub fn stage(self, stage: usize, stages: usize) -> Steps {
        let mut steps = self.steps();
        if self != Kind::LogSumExp {
            if stage > 0 {
                steps.prepare = Prepare::None;
            }
            if stage + 1 < stages {
                steps.complete = Complete::None;
            }
        }
        steps
    }
}

/// The larger of two, NaN if one is.
pub fn larger(a: f32, b: f32) -> f32 {
    if a >= b || a.is_nan() { a } else { b }
}

/// The smaller of two, NaN if one is.
pub fn smaller(a: f32, b: f32) -> f32 {
    if a <= b || a.is_nan() { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_a_number_wins() {
        assert!(larger(f32::NAN, 1.0).is_nan() && larger(1.0, f32::NAN).is_nan());
        assert!(smaller(f32::NAN, 1.0).is_nan() && smaller(1.0, f32::NAN).is_nan());
        assert_eq!((larger(1.0, 2.0), smaller(1.0, 2.0)), (2.0, 1.0));
    }

    #[test]
    fn stages_prepare_first_and_complete_last() {
        let first = Kind::L2.stage(0, 2);
        assert_eq!((first.prepare, first.complete), (Prepare::Square, Complete::None));
        let last = Kind::L2.stage(1, 2);
        assert_eq!((last.prepare, last.complete), (Prepare::None, Complete::Root));
        assert_eq!(Kind::LogSumExp.stage(0, 2), Kind::LogSumExp.stage(1, 2));
    }
}
