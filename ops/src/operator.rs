//! The contract of an operator.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::expr::Expr;
use crate::finish::Finish;
use crate::ir::fact::Fact;
use crate::ir::graph::Graph;
use crate::ir::item::{Item, Part};
use crate::ir::tensor::Tensor;
use crate::ir::view::{View, ViewMut};
use crate::layout::Blocking;
use crate::movement::strided::Strided;
use crate::problem::Problem;
use sardonyx_shaders::Capabilities;

/// What an operator does to memory: fusion goes by this, never by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Element by element; [`Operator::expression`] says what.
    Pointwise,
    /// The output is input 0 under other dimensions: no work at all.
    View,
    /// Produces one output whose elements can pass through an expression before they are stored.
    Anchor,
    /// Anything else.
    Opaque,
}

/// Work counted, not measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// Floating-point (or integer) operations; a multiply-add counts two.
    pub flops: u64,
    /// Bytes read and written once each.
    pub bytes: u64,
}

/// What a use of an operator with nested graphs comes down to.
#[derive(Clone, Debug)]
pub enum Expansion {
    /// It stands for itself.
    Stays,
    /// It cannot be said before the contents of its inputs are known.
    Waits,
    /// It stands for the nodes of a graph: the branch that a constant condition takes.
    Graph {
        /// The graph; its outputs are the node's outputs, in order.
        graph: Arc<Graph>,
        /// For each of the graph's inputs and then for each of its captures: which input of the node it is.
        inputs: Vec<usize>,
    },
    /// Its outputs are there already: they are made of its inputs.
    Values(Vec<Item<Part>>),
}

/// Weights of sums: every result is a sum over weighted elements, and the weights of one sum are a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summed {
    /// The input that holds the weights.
    pub input: usize,
    /// Blocks of lines.
    pub blocks: usize,
    /// Weights of a line.
    pub len: usize,
    /// Lines of a block, and the distance between the weights of a line.
    pub lines: usize,
}

/// One use of an operator with its attributes: immutable, shared, plain data.
pub trait Operator: Any + Debug + Send + Sync {
    /// The operator's name, as in ONNX where ONNX has it.
    fn name(&self) -> &'static str;

    /// What is known about the outputs, given what is known about the inputs. A dimension that depends on data is a
    /// [`crate::ir::dim::Dim::Symbolic`]. `inputs` has the length of the node's input list; `outputs` is how many the
    /// node asks for.
    ///
    /// # Errors
    /// When a rule of the operator's definition is broken.
    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError>;

    /// The oracle: plain loops, any legal input, outputs allocated. Every fast path is tested against it.
    ///
    /// # Errors
    /// When the contents of an input break a rule, or a result does not fit memory.
    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError>;

    /// A fast path on the CPU for one problem; `None` runs [`Operator::reference`].
    ///
    /// # Errors
    /// When weights cannot be packed.
    fn cpu(&self, _problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        Ok(None)
    }

    /// The kernels that can do one problem on a device, and why others cannot.
    fn lower(&self, _problem: &Problem<'_>, _caps: &Capabilities) -> Lowering {
        Lowering::refused(self.name(), "it has no GPU kernel")
    }

    /// Whether a use whose inputs are all constant is computed while importing. Not so where results are random, and
    /// where the constant input is a compressed form of the output that kernels read as it is.
    fn folds(&self) -> bool {
        true
    }

    /// The nodes that the operator stands for, given what is known about its inputs. Asked before
    /// [`Operator::infer`], which is asked only when the operator stays.
    ///
    /// # Errors
    /// When a rule of the operator's definition is broken.
    fn expand(&self, _inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        Ok(Expansion::Stays)
    }

    /// The same where inputs may be sequences and optionals. An operator that does not say otherwise takes tensors only.
    ///
    /// # Errors
    /// As [`Operator::expand`]; when an input that must be a tensor is not.
    fn expand_items(&self, inputs: &[Option<Item<&Fact>>]) -> Result<Expansion, OpError> {
        self.expand(&all_tensors(inputs)?)
    }

    /// Whether the operator may stand for values that are no tensors, which a reference cannot give: then it is run by
    /// its expansion.
    fn gives_items(&self) -> bool {
        false
    }

    /// Whether the contents of an input can help to plan a use that waits. A value asked for is read back, and the plan
    /// is right for it only.
    fn wants_value(&self, _input: usize) -> bool {
        true
    }

    /// Small inputs whose contents kernels are chosen by, although no shape depends on them: where a run computes them,
    /// planning waits for them.
    fn planned_by(&self) -> &'static [usize] {
        &[]
    }

    /// What it does to memory.
    fn role(&self) -> Role {
        Role::Opaque
    }

    /// For [`Role::Pointwise`]: what is computed from each input element.
    fn expression(&self) -> Option<&Expr> {
        None
    }

    /// How the operator works on the CPU where channels lie in blocks of `block`, if it does: `blocked` says of each input
    /// whether it is there in blocks already. Asked for problems whose output is f32.
    fn blocked(&self, _problem: &Problem<'_>, _block: usize, _blocked: &[bool]) -> Option<Blocking> {
        None
    }

    /// For operators that only move elements of input 0: where those of an output come from, when the sizes and contents
    /// that this depends on are known.
    fn moves(&self, _problem: &Problem<'_>, _output: usize) -> Option<Strided> {
        None
    }

    /// The input that weighs another one, and how its elements are summed over.
    fn summed(&self, _problem: &Problem<'_>) -> Option<Summed> {
        None
    }

    /// Work for one problem. The default counts every byte once and one operation per output element.
    fn cost(&self, problem: &Problem<'_>) -> Cost {
        problem.default_cost()
    }
}

/// The inputs of an operator that takes tensors only.
///
/// # Errors
/// When one is a sequence or an optional.
pub fn all_tensors<'a>(inputs: &[Option<Item<&'a Fact>>]) -> Result<Vec<Option<&'a Fact>>, OpError> {
    let tensor = |item: &Option<Item<&'a Fact>>| match item {
        None => Ok(None),
        Some(Item::Tensor(fact)) => Ok(Some(*fact)),
        Some(other) => Err(OpError::constraint("an input", "a tensor", other.kind())),
    };
    inputs.iter().map(tensor).collect()
}

/// A CPU kernel, prepared for one problem.
pub trait CpuKernel: Send + Sync {
    /// Computes the outputs. Runs inside the session's thread pool: `rayon` calls use it.
    ///
    /// # Errors
    /// When the contents of an input break a rule.
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError>;

    /// What it is called where times are reported: the name of its type, unless it has a better one.
    fn name(&self) -> &'static str {
        let path = std::any::type_name::<Self>();
        let path = path.split('<').next().unwrap_or(path);
        path.rsplit("::").next().unwrap_or(path)
    }

    /// Bytes of scratch memory wanted.
    fn scratch(&self) -> usize {
        0
    }

    /// Whether runs read input `index` element by element; a constant there has to be aligned then. One that the kernel
    /// holds in a form of its own, or copies as bytes, may lie anywhere in a mapped file.
    fn reads_elements(&self, index: usize) -> bool {
        let _ = index;
        true
    }

    /// The kernel passes its results through [`CpuRun::finish`] itself. Otherwise the caller does, afterwards.
    fn finishes(&self) -> bool {
        false
    }
}

/// The arguments of one run of a CPU kernel.
pub struct CpuRun<'a, 'b> {
    /// Inputs; `None` where absent.
    pub inputs: &'a [Option<View<'b>>],
    /// Outputs to fill completely.
    pub outputs: &'a mut [ViewMut<'b>],
    /// As many bytes as [`CpuKernel::scratch`] asked for, aligned to 64; contents undefined.
    pub scratch: &'a mut [u8],
    /// What to do with each result before it is stored.
    pub finish: Option<&'a Finish<'b>>,
}
