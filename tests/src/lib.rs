//! What the tests across crates share: devices, random tensors, and the check of one operator on all of them.
//!
//! GPU tests run on every adapter of the machine, in software or not. `SARDONYX_TEST_ADAPTERS` names adapters that must be
//! there, separated by commas, as parts of `id name` (`vulkan llvmpipe,SwiftShader,gl llvmpipe`): without one of them
//! the tests fail instead of passing over it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "test code")]

pub mod onnx;
pub mod zoo;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use half::{bf16, f16};
use sardonyx::{Capabilities, Device, DeviceKind, Fallback, Place, PlanSession, Precision, Select};
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::{Plan, PlanEpilogue, PlanStep, PlanValue};
use sardonyx_ops::{DType, Operator, Tensor};

/// Every GPU of this machine, opened once. Empty, with a loud word, where there is none and none is demanded.
pub fn gpus() -> &'static [Device] {
    static GPUS: OnceLock<Vec<Device>> = OnceLock::new();
    GPUS.get_or_init(|| {
        let infos: Vec<_> = Device::list().into_iter().filter(|info| info.kind != DeviceKind::Cpu).collect();
        let demanded = std::env::var("SARDONYX_TEST_ADAPTERS").unwrap_or_default();
        for wanted in demanded.split(',').map(str::trim).filter(|wanted| !wanted.is_empty()) {
            let words: Vec<String> = wanted.split_whitespace().map(str::to_lowercase).collect();
            let fits = |text: String| words.iter().all(|word| text.to_lowercase().contains(word));
            assert!(
                infos.iter().any(|info| fits(format!("{} {}", info.id, info.name))),
                "SARDONYX_TEST_ADAPTERS demands \"{wanted}\", but there are only {:?}",
                infos.iter().map(|info| format!("{} {}", info.id, info.name)).collect::<Vec<_>>()
            );
        }
        if infos.is_empty() {
            eprintln!(
                "*** NO GPU ADAPTER: every GPU test passes over its work. Install Mesa's Vulkan drivers. ***"
            );
        }
        infos
            .iter()
            .map(|info| Device::open(Select::Name(&info.id)).expect("an adapter that lists opens"))
            .collect()
    })
}

/// One test at a time uses the GPUs: drivers in software use all cores anyway.
pub fn gpu_turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The folder of shared models and official cases, if it is here. Says so loudly when it is not.
pub fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("SARDONYX_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")), PathBuf::from);
    if folder.join("onnx-conformance").is_dir() {
        return Some(folder);
    }
    eprintln!("*** SKIPPED: {} is not here; the larger checks did not run. ***", folder.display());
    None
}

/// Reproducible random numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// A float between `low` and `high`.
    pub fn float(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.bits() >> 40) as f32 / (1u64 << 24) as f32)
    }

    /// An f32 tensor with elements between -1 and 1.
    pub fn tensor(&mut self, dims: &[usize]) -> Tensor {
        self.tensor_of(DType::F32, dims)
    }

    /// A tensor of any type that kernels take: floats between -1 and 1, integers between -9 and 9 (0 and 9 where
    /// unsigned), truth values.
    pub fn tensor_of(&mut self, dtype: DType, dims: &[usize]) -> Tensor {
        let len: usize = dims.iter().product();
        macro_rules! make {
            ($one:expr) => {
                Tensor::from_vec(dims, (0..len).map(|_| $one).collect()).unwrap()
            };
        }
        match dtype {
            DType::F32 => make!(self.float(-1.0, 1.0)),
            DType::F64 => make!(f64::from(self.float(-1.0, 1.0))),
            DType::F16 => make!(f16::from_f32(self.float(-1.0, 1.0))),
            DType::BF16 => make!(bf16::from_f32(self.float(-1.0, 1.0))),
            DType::I8 => make!(self.below(19) as i8 - 9),
            DType::I16 => make!(self.below(19) as i16 - 9),
            DType::I32 => make!(self.below(19) as i32 - 9),
            DType::I64 => make!(self.below(19) as i64 - 9),
            DType::U8 => make!(self.below(10) as u8),
            DType::U16 => make!(self.below(10) as u16),
            DType::U32 => make!(self.below(10) as u32),
            DType::U64 => make!(self.below(10) as u64),
            DType::Bool => {
                let all: Vec<bool> = (0..len).map(|_| self.below(2) == 1).collect();
                Tensor::from_bools(dims, &all).unwrap()
            }
            other => panic!("no random {other}"),
        }
    }
}

/// Elements as f64, whatever their type.
pub fn numbers(tensor: &Tensor) -> Vec<f64> {
    macro_rules! cast {
        ($rust:ty) => {
            tensor.to_vec::<$rust>().unwrap().into_iter().map(|x| x as f64).collect()
        };
    }
    match tensor.dtype() {
        DType::F32 => cast!(f32),
        DType::F64 => cast!(f64),
        DType::F16 => tensor.to_vec::<f16>().unwrap().into_iter().map(f64::from).collect(),
        DType::BF16 => tensor.to_vec::<bf16>().unwrap().into_iter().map(f64::from).collect(),
        DType::I8 => cast!(i8),
        DType::I16 => cast!(i16),
        DType::I32 => cast!(i32),
        DType::I64 => cast!(i64),
        DType::U8 => cast!(u8),
        DType::U16 => cast!(u16),
        DType::U32 => cast!(u32),
        DType::U64 => cast!(u64),
        DType::Bool => tensor.bytes().iter().map(|&b| f64::from(b)).collect(),
        other => panic!("no numbers in {other}"),
    }
}

/// The largest difference between two tensors, relative to the largest finite magnitude wanted (at least 1e-6).
/// Infinite when shape, type, an infinity or a NaN differs.
pub fn difference(got: &Tensor, want: &Tensor) -> f64 {
    if got.dtype() != want.dtype() || got.dims() != want.dims() {
        return f64::INFINITY;
    }
    let (got, want) = (numbers(got), numbers(want));
    let scale = want.iter().filter(|x| x.is_finite()).fold(1e-6, |most: f64, x| most.max(x.abs()));
    got.iter()
        .zip(&want)
        .map(|(&g, &w)| match (g.is_finite(), w.is_finite()) {
            (true, true) => (g - w).abs() / scale,
            _ if g == w || (g.is_nan() && w.is_nan()) => 0.0,
            _ => f64::INFINITY,
        })
        .fold(0.0, f64::max)
}

/// The same tensor at an odd address, as constants lie in mapped files.
pub fn misaligned(tensor: &Tensor) -> Tensor {
    let bytes = tensor.bytes();
    let mut moved: Vec<u8> = Vec::with_capacity(bytes.len() + 2);
    let odd = moved.as_ptr().addr().is_multiple_of(2);
    moved.resize(usize::from(odd), 0);
    moved.extend_from_slice(bytes);
    let moved = bytes::Bytes::from(moved).slice(usize::from(odd)..);
    Tensor::from_bytes(tensor.dtype(), tensor.dims(), moved).unwrap()
}

/// One operator on given inputs, checked on every device against its reference.
pub struct Check {
    op: Arc<dyn Operator>,
    inputs: Vec<Option<Tensor>>,
    constant: Vec<bool>,
    /// For each output of the operator, whether the plan has it.
    outputs: Vec<bool>,
    f32: f64,
    f16: f64,
    gpu: bool,
    half: bool,
    binding_bytes: Option<u64>,
    epilogue: Option<(sardonyx_ops::expr::Expr, Vec<Tensor>)>,
}

impl Check {
    /// All inputs given at run time, one output, kernels expected on every GPU. Tolerances, relative to the largest
    /// element: f32 1e-5, f16 4e-3; integers exact.
    pub fn new(op: Arc<dyn Operator>, inputs: Vec<Option<Tensor>>) -> Check {
        let constant = vec![false; inputs.len()];
        Check {
            op,
            inputs,
            constant,
            outputs: vec![true],
            f32: 1e-5,
            f16: 4e-3,
            gpu: true,
            half: true,
            binding_bytes: None,
            epilogue: None,
        }
    }

    /// Inputs with these indices are constants of the plan, so that they are packed at load. They lie unaligned.
    pub fn constants(mut self, indices: &[usize]) -> Check {
        indices.iter().for_each(|&index| self.constant[index] = true);
        self
    }

    /// The number of outputs.
    pub fn outputs(self, outputs: usize) -> Check {
        self.wanted(&vec![true; outputs])
    }

    /// For each output, whether it is wanted.
    pub fn wanted(mut self, outputs: &[bool]) -> Check {
        self.outputs = outputs.to_vec();
        self
    }

    /// Other tolerances; the reason belongs beside the call.
    pub fn tolerance(mut self, f32: f64, f16: f64) -> Check {
        (self.f32, self.f16) = (f32, f16);
        self
    }

    /// No kernel is expected: GPUs must refuse it with a reason.
    pub fn cpu_only(mut self) -> Check {
        self.gpu = false;
        self
    }

    /// Not with f32 tensors held as f16: rounding these inputs would change what is tested.
    pub fn as_modelled(mut self) -> Check {
        self.half = false;
        self
    }

    /// GPUs bind no more than so many bytes at once.
    pub fn binding_bytes(mut self, bytes: u64) -> Check {
        self.binding_bytes = Some(bytes);
        self
    }

    /// The result passes through an expression with these further operands.
    pub fn epilogue(mut self, expr: sardonyx_ops::expr::Expr, operands: Vec<Tensor>) -> Check {
        self.epilogue = Some((expr, operands));
        self
    }

    fn plan(&self, results: &[Tensor]) -> (Plan, Vec<Tensor>) {
        let mut plan = Plan::default();
        let mut given = Vec::new();
        let add = |plan: &mut Plan, name: String, tensor: &Tensor, constant: bool| {
            plan.values.push(PlanValue {
                name: name.into(),
                dtype: tensor.dtype(),
                dims: tensor.dims().to_vec(),
                constant: constant.then(|| misaligned(tensor)),
            });
            ValueId(plan.values.len() - 1)
        };
        let mut inputs = Vec::new();
        for (index, input) in self.inputs.iter().enumerate() {
            inputs.push(input.as_ref().map(|tensor| {
                let id = add(&mut plan, format!("input{index}"), tensor, self.constant[index]);
                if !self.constant[index] {
                    plan.inputs.push(id);
                    given.push(tensor.clone());
                }
                id
            }));
        }
        let epilogue = self.epilogue.as_ref().map(|(expr, operands)| {
            let operands = operands.iter().enumerate().map(|(index, tensor)| {
                let id = add(&mut plan, format!("operand{index}"), tensor, false);
                plan.inputs.push(id);
                given.push(tensor.clone());
                id
            });
            PlanEpilogue { expr: expr.clone(), operands: operands.collect() }
        });
        let mut results = results.iter().enumerate();
        let outputs = self.outputs.iter().map(|&wanted| {
            let (index, result) = results.next().filter(|_| wanted)?;
            let id = add(&mut plan, format!("output{index}"), result, false);
            plan.outputs.push(id);
            Some(id)
        });
        let outputs = outputs.collect();
        plan.steps.push(PlanStep {
            op: Arc::clone(&self.op),
            inputs,
            outputs,
            epilogue,
            nodes: vec![Arc::from(self.op.name())],
        });
        (plan, given)
    }

    /// Runs reference, CPU path and every GPU, and compares.
    ///
    /// # Panics
    /// When a result is off, or a kernel is missing.
    #[track_caller]
    pub fn run(&self) {
        let views: Vec<_> = self.inputs.iter().map(|input| input.as_ref().map(Tensor::view)).collect();
        let mut want = self.op.reference(&views, self.outputs.len()).unwrap();
        if let Some((expr, operands)) = &self.epilogue {
            let mut words = vec![0u64; want[0].bytes().len().div_ceil(8)];
            let dims = want[0].dims().to_vec();
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
            bytes[..want[0].bytes().len()].copy_from_slice(want[0].bytes());
            let len = want[0].bytes().len();
            let mut view =
                sardonyx_ops::ir::view::ViewMut { dtype: DType::F32, dims: &dims, bytes: &mut bytes[..len] };
            let operands = operands.iter().map(Tensor::view).collect();
            let finish = sardonyx_ops::finish::Finish::new(expr, DType::F32, operands, &dims).unwrap();
            finish.apply_all(&mut view).unwrap();
            want[0] = view.as_view().to_tensor();
        }
        let (plan, given) = self.plan(&want);
        let mut wanted = self.outputs.iter();
        want.retain(|_| wanted.next() == Some(&true));
        let _turn = gpu_turn();
        self.run_on(&Device::cpu(), &plan, &given, &want, Precision::Model);
        let narrowed = |gpu: &Device| {
            let Some(binding_bytes) = self.binding_bytes else { return gpu.clone() };
            let caps = Capabilities { binding_bytes, ..gpu.capabilities().unwrap().clone() };
            Device::open_narrowed(Select::Name(&gpu.info().id), &caps).unwrap()
        };
        for gpu in gpus() {
            let gpu = &narrowed(gpu);
            self.run_on(gpu, &plan, &given, &want, Precision::Model);
            if self.half && gpu.capabilities().unwrap().f16 {
                self.run_on(gpu, &plan, &given, &want, Precision::F16);
            }
        }
    }

    #[track_caller]
    fn run_on(&self, device: &Device, plan: &Plan, given: &[Tensor], want: &[Tensor], precision: Precision) {
        let label = || {
            let shapes: Vec<String> = self.inputs.iter().map(|t| format!("{t:?}")).collect();
            format!("{:?}\n on {device:?} {precision:?}, inputs {}", self.op, shapes.join(", "))
        };
        let session = match PlanSession::new(plan.clone(), device, Fallback::Deny, precision) {
            Ok(session) => session,
            Err(sardonyx::Error::Unsupported { why, .. }) => {
                assert!(!self.gpu, "{}: no kernel: {why}", label());
                assert!(!why.is_empty(), "{}: refused without a reason", label());
                return;
            }
            Err(error) => panic!("{}: {error}", label()),
        };
        let on_gpu = session.placement().steps.iter().any(|step| matches!(step.place, Place::Device { .. }));
        session.poison().unwrap();
        let got = session.run(given).unwrap_or_else(|error| panic!("{}: {error}", label()));
        for (index, (got, want)) in got.iter().zip(want).enumerate() {
            let half = precision == Precision::F16 || matches!(want.dtype(), DType::F16 | DType::BF16);
            let tolerance = match want.dtype().is_float() {
                true if half => self.f16,
                true => self.f32,
                false => 0.0,
            };
            let off = difference(got, want);
            assert!(
                off <= tolerance,
                "{}\n output {index} on {} is off by {off:e} (tolerance {tolerance:e})\n got  {:?}\n want {:?}",
                label(),
                if on_gpu { "the GPU" } else { "the CPU" },
                &numbers(got)[..got.len().min(16)],
                &numbers(want)[..want.len().min(16)],
            );
        }
    }
}
