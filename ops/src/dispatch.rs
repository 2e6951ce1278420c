//! Lowering: from a problem to ready dispatches, as plain data.

use sardonyx_shaders::expression::{self, Expression, OperandParams, Step};
use sardonyx_shaders::storage::{Storage, ValueType, Width};
use sardonyx_shaders::{Capabilities, Kernel};

use crate::broadcast::Strides;
use crate::problem::{Operand, Problem};
use crate::repacked::Repacked;

/// A tensor bound to a dispatch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Binding {
    /// Input of the problem.
    Input(usize),
    /// Operand of the epilogue.
    Operand(usize),
    /// Output of the problem.
    Output(usize),
    /// A constant repacked at load: index into [`Candidate::packed`].
    Packed(usize),
    /// Memory that lives for this step only: index into [`Candidate::scratch`].
    Scratch(usize),
}

/// One launch of a kernel.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// What runs.
    pub kernel: Kernel,
    /// Bindings read: the kernel's inputs, then the expression's operands.
    pub reads: Vec<Binding>,
    /// Bindings written, in the order of the expression's outputs.
    pub writes: Vec<Binding>,
    /// The bytes of the parameter struct.
    pub params: Vec<u8>,
    /// The broadcasts of the expression's operands.
    pub operands: Vec<OperandParams>,
    /// Workgroups.
    pub grid: [u32; 3],
}

/// Scratch memory of a candidate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scratch {
    /// Layout of an element.
    pub storage: Storage,
    /// Number of elements.
    pub len: usize,
}

/// A way to do a problem.
#[derive(Clone, Debug, Default)]
pub struct Candidate {
    /// Launches in order.
    pub dispatches: Vec<Dispatch>,
    /// Constants in the layout that the kernels want, with their storage on the device.
    pub packed: Vec<(Repacked, Storage)>,
    /// Scratch memory.
    pub scratch: Vec<Scratch>,
}

impl Candidate {
    /// The names of its kernels in the order of their launches, joined by `+`.
    pub fn name(&self) -> String {
        let names: Vec<&str> = self.dispatches.iter().map(|dispatch| dispatch.kernel.variant.name).collect();
        names.join("+")
    }
}

/// Why a kernel cannot do a problem.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The kernel or operator that refuses.
    pub kernel: &'static str,
    /// Why, for people.
    pub reason: String,
}

/// The ways to do a problem, best first, and why others cannot.
#[derive(Clone, Debug, Default)]
pub struct Lowering {
    /// Ready to run.
    pub candidates: Vec<Candidate>,
    /// Not possible here.
    pub refused: Vec<Refusal>,
}

impl Lowering {
    /// No way, for this reason.
    pub fn refused(kernel: &'static str, reason: impl Into<String>) -> Lowering {
        Lowering { candidates: Vec::new(), refused: vec![Refusal { kernel, reason: reason.into() }] }
    }

    /// Collects one attempt.
    pub fn from_result(result: Result<Candidate, Refusal>) -> Lowering {
        let mut lowering = Lowering::default();
        lowering.push(result);
        lowering
    }

    /// Adds one attempt.
    pub fn push(&mut self, result: Result<Candidate, Refusal>) {
        match result {
            Ok(candidate) => self.candidates.push(candidate),
            Err(refusal) => self.refused.push(refusal),
        }
    }
}

/// The end of a kernel for a problem: the expression, and the bindings and broadcasts of its operands.
#[derive(Clone, Debug)]
pub struct Ending {
    /// What happens to each result.
    pub expression: Expression,
    /// Bindings of the expression's operands.
    pub reads: Vec<Binding>,
    /// Their broadcasts.
    pub operands: Vec<OperandParams>,
}

impl Problem<'_> {
    /// The storage of an operand, or a refusal.
    ///
    /// # Errors
    /// When the device cannot hold its type.
    pub fn stored(&self, kernel: &'static str, operand: Option<&Operand<'_>>) -> Result<Storage, Refusal> {
        let operand = operand.ok_or_else(|| Refusal { kernel, reason: "an input is missing".to_owned() })?;
        operand
            .storage
            .ok_or_else(|| Refusal { kernel, reason: format!("the device cannot hold {}", operand.dtype) })
    }

    /// The end of a kernel that hands over values of type `accumulator` for output 0. With [`Width::Four`] the kernel
    /// hands over four elements whose first index is a multiple of four; with [`Width::One`] it may begin anywhere.
    ///
    /// # Errors
    /// When the epilogue has no GPU form, or the output's storage cannot be written that way.
    pub fn ending(
        &self,
        kernel: &'static str,
        accumulator: ValueType,
        width: Width,
    ) -> Result<Ending, Refusal> {
        let refuse = |reason: String| Refusal { kernel, reason };
        let output = self.outputs.first();
        let storage = self.stored(kernel, output)?;
        if width == Width::One && !storage.writes_single() {
            return Err(refuse(format!("{storage:?} results need aligned groups of four")));
        }
        let (Some(epilogue), Some(output)) = (self.epilogue, output) else {
            if storage.value() != accumulator {
                return Err(refuse(format!("it computes {accumulator:?}, not {storage:?}")));
            }
            return Ok(Ending {
                expression: Expression::store(accumulator, storage, width),
                reads: Vec::new(),
                operands: Vec::new(),
            });
        };
        let mut ending = Ending {
            expression: Expression {
                accumulator,
                operands: Vec::new(),
                steps: Vec::new(),
                outputs: Vec::new(),
            },
            reads: Vec::new(),
            operands: Vec::new(),
        };
        for (index, operand) in epilogue.operands.iter().enumerate() {
            let operand_storage = self.stored(kernel, Some(operand))?;
            ending
                .push_operand(operand, operand_storage, output.dims, width, Binding::Operand(index))
                .ok_or_else(|| refuse("an operand broadcasts over more than eight dimensions".to_owned()))?;
        }
        let types: Vec<_> = epilogue.operands.iter().map(|operand| operand.dtype).collect();
        let steps =
            epilogue.expr.to_wgsl(Some(output.dtype), &types).map_err(|reason| refuse(reason.to_string()))?;
        let result = *steps.results.first().ok_or_else(|| refuse("an empty epilogue".to_owned()))?;
        ending.expression.steps = steps.steps;
        ending.expression.outputs = vec![expression::Output { step: result, storage, width }];
        Ok(ending)
    }
}

impl Ending {
    /// Adds an operand that broadcasts to `output`. `None` when it has too many dimensions.
    pub fn push_operand(
        &mut self,
        operand: &Operand<'_>,
        storage: Storage,
        output: &[usize],
        width: Width,
        binding: Binding,
    ) -> Option<()> {
        let strides = Strides::new(operand.dims, output);
        let (pattern, params) = strides.pattern(width)?;
        // Only patterns that keep groups of four aligned may bind the operand as groups.
        let aligned = matches!(pattern, expression::Pattern::Same | expression::Pattern::Row);
        let width = if aligned { width } else { Width::One };
        self.expression.operands.push(expression::Operand { storage, width, pattern });
        self.operands.push(params);
        self.reads.push(binding);
        Some(())
    }
}

impl Ending {
    /// Adds `factor` times an operand to what the kernel hands over, before everything else: a bias. `None` when it has
    /// too many dimensions, or `factor` is not finite.
    pub fn add_first(
        &mut self,
        operand: &Operand<'_>,
        output: &[usize],
        width: Width,
        binding: Binding,
        factor: f32,
    ) -> Option<()> {
        let index = self.expression.operands.len();
        self.push_operand(operand, operand.storage?, output, width, binding)?;
        let mut steps = vec![Step::Accumulator, Step::Operand(index)];
        if factor != 1.0 {
            let literal = factor.is_finite().then(|| format!("f32({factor:?})"))?;
            steps.extend([Step::Constant(ValueType::F32, literal), call_f32("mul", vec![1, 2])]);
        }
        steps.push(call_f32("add", vec![0, steps.len() - 1]));
        self.prepend(steps)
    }

    /// Multiplies what the kernel hands over by an operand, before everything else: a scale. `None` when it has too many
    /// dimensions.
    pub fn multiply_first(
        &mut self,
        operand: &Operand<'_>,
        output: &[usize],
        width: Width,
        binding: Binding,
    ) -> Option<()> {
        let index = self.expression.operands.len();
        self.push_operand(operand, operand.storage?, output, width, binding)?;
        self.prepend(vec![Step::Accumulator, Step::Operand(index), call_f32("mul", vec![0, 1])])
    }

    /// Puts the value of the last of `steps` in the place of the accumulator. `None` when a step refers to no earlier one.
    pub fn prepend(&mut self, mut steps: Vec<Step>) -> Option<()> {
        let first = steps.len().checked_sub(1)?;
        // Where each of the old steps stands now.
        let mut place = Vec::with_capacity(self.expression.steps.len());
        for mut step in std::mem::take(&mut self.expression.steps) {
            if step == Step::Accumulator {
                place.push(first);
                continue;
            }
            if let Step::Call { args, .. } = &mut step {
                for arg in args {
                    *arg = *place.get(*arg)?;
                }
            }
            steps.push(step);
            place.push(steps.len() - 1);
        }
        for output in &mut self.expression.outputs {
            output.step = *place.get(output.step)?;
        }
        self.expression.steps = steps;
        Some(())
    }
}

fn call_f32(name: &str, args: Vec<usize>) -> Step {
    Step::Call { function: format!("{name}_f32"), args, params: Vec::new(), value: ValueType::F32 }
}

/// A grid of `groups` workgroups in a row.
///
/// # Errors
/// When the adapter cannot launch so many.
pub fn linear_grid(kernel: &'static str, groups: usize, caps: &Capabilities) -> Result<[u32; 3], Refusal> {
    caps.linear_grid(groups as u64).ok_or_else(|| Refusal {
        kernel,
        reason: format!("{groups} workgroups are more than the device can launch"),
    })
}

/// A number that a kernel's parameter can hold.
///
/// # Errors
/// When it is 2^32 or more.
pub fn word(kernel: &'static str, number: usize) -> Result<u32, Refusal> {
    u32::try_from(number)
        .map_err(|_| Refusal { kernel, reason: format!("{number} does not fit a kernel's parameters") })
}
