//! An open GPU: its queue, what it can do, and the pipelines compiled for it so far.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sardonyx_shaders::{Bound, Capabilities, Kernel, Source};

use super::changed::Changed;
use super::list::{self, DeviceInfo};
use super::quirks;
use super::stored::{Compiler, Stored};
use crate::error::{Error, Result};
use crate::program::Known;

/// Optional features that kernels and timing use.
pub(super) const WANTED_FEATURES: wgpu::Features = wgpu::Features::SHADER_F16
    .union(wgpu::Features::SUBGROUP)
    .union(wgpu::Features::PIPELINE_CACHE)
    .union(wgpu::Features::TIMESTAMP_QUERY)
    .union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES);

/// Numbers of read, written and uniform bindings, and which reads are bound for writing.
type Shape = (usize, usize, usize, u64);

/// The layouts of a kernel's bindings.
type Layout = (wgpu::BindGroupLayout, wgpu::PipelineLayout);

/// Kernels with their pipelines.
type Compiled = Vec<(BoundKernel, Arc<Pipeline>)>;

/// Most storage buffers bound to one kernel: a bit to each says how it is bound.
const MOST_BINDINGS: u32 = 64;

/// A kernel, and how its tensors are bound. Reads that share a buffer with what it writes are bound for writing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct BoundKernel {
    pub(crate) kernel: Kernel,
    pub(crate) bound: Bound,
}

/// A compiled kernel.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

/// A buffer that the host reads, with the state of its mapping.
pub(crate) struct Staging {
    pub(crate) buffer: wgpu::Buffer,
    state: Arc<AtomicU8>,
}

const PENDING: u8 = 0;
const MAPPED: u8 = 1;
const FAILED: u8 = 2;

impl Staging {
    pub(crate) fn new(buffer: wgpu::Buffer) -> Staging {
        Staging { buffer, state: Arc::new(AtomicU8::new(PENDING)) }
    }
}

/// An open GPU.
pub(crate) struct Gpu {
    id: String,
    device: wgpu::Device,
    queue: wgpu::Queue,
    caps: Capabilities,
    /// Kernels with other texts than their own.
    changed: Changed,
    pipelines: Mutex<HashMap<BoundKernel, Arc<Pipeline>>>,
    layouts: Mutex<HashMap<Shape, Layout>>,
    weights: Known,
    /// The first report of the device's loss or of an error outside any scope.
    fault: Arc<Mutex<Option<Fault>>>,
}

#[derive(Clone, Debug)]
struct Fault {
    what: String,
    lost: bool,
}

/// What kernels may use of an adapter or device, without what its driver does wrong.
pub(super) fn capabilities(
    features: wgpu::Features,
    limits: &wgpu::Limits,
    info: &wgpu::AdapterInfo,
) -> Capabilities {
    let mut caps = Capabilities {
        without: Vec::new(),
        f16: features.contains(wgpu::Features::SHADER_F16),
        subgroups: features
            .contains(wgpu::Features::SUBGROUP)
            .then_some((info.subgroup_min_size, info.subgroup_max_size)),
        hides_latency: info.device_type != wgpu::DeviceType::Cpu,
        storage_buffers: limits.max_storage_buffers_per_shader_stage.min(MOST_BINDINGS),
        workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        grid_axis: limits.max_compute_workgroups_per_dimension,
        binding_bytes: limits.max_storage_buffer_binding_size,
        buffer_bytes: limits.max_buffer_size,
        offset_alignment: limits
            .min_storage_buffer_offset_alignment
            .max(limits.min_uniform_buffer_offset_alignment),
    };
    quirks::of(&info.name, &list::driver(info)).for_each(|quirk| quirk.apply(&mut caps));
    caps
}

/// Opens an adapter with every feature and limit that kernels can use.
pub(super) fn open(info: &DeviceInfo, adapter: &wgpu::Adapter, narrow: Option<&Capabilities>) -> Result<Gpu> {
    let (mut features, mut limits) = (adapter.features() & WANTED_FEATURES, adapter.limits());
    if let Some(narrow) = narrow {
        super::limits::narrow(narrow, &mut features, &mut limits);
    }
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("sardonyx"),
        required_features: features,
        required_limits: limits,
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..Default::default()
    }))
    .map_err(|error| Error::Device {
        device: info.id.clone(),
        what: error.to_string(),
        lost: false,
    })?;
    let mut gpu = Gpu::new(info, device, queue, true);
    if let Some(narrow) = narrow {
        gpu.caps = super::limits::meet(&gpu.caps, narrow);
    }
    Ok(gpu)
}

impl Gpu {
    /// Wraps an open device. With `own`, errors and the device's loss are recorded; a host keeps its own handlers.
    pub(super) fn new(info: &DeviceInfo, device: wgpu::Device, queue: wgpu::Queue, own: bool) -> Gpu {
        let fault: Arc<Mutex<Option<Fault>>> = Arc::default();
        if own {
            let record = |fault: &Mutex<Option<Fault>>, what: String, lost: bool| {
                let mut fault = fault.lock().unwrap_or_else(PoisonError::into_inner);
                // What fails on a lost device may be reported before the loss.
                if fault.as_ref().is_none_or(|seen| lost && !seen.lost) {
                    *fault = Some(Fault { what, lost });
                }
            };
            let errors = Arc::clone(&fault);
            device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
                record(&errors, error.to_string(), false);
            }));
            let losses = Arc::clone(&fault);
            device.set_device_lost_callback(move |reason, message| {
                record(&losses, format!("lost ({reason:?}): {message}"), true);
            });
        }
        let adapter = device.adapter_info();
        Gpu {
            id: info.id.clone(),
            caps: capabilities(device.features(), &device.limits(), &adapter),
            device,
            queue,
            changed: Changed::default(),
            pipelines: Mutex::default(),
            layouts: Mutex::default(),
            weights: Known::default(),
            fault,
        }
    }

    /// The same device with other texts for some kernels, and so with pipelines of its own.
    pub(super) fn with_kernels(&self, changed: Changed) -> Gpu {
        Gpu {
            id: self.id.clone(),
            device: self.device.clone(),
            queue: self.queue.clone(),
            caps: self.caps.clone(),
            changed,
            pipelines: Mutex::default(),
            layouts: Mutex::default(),
            weights: Known::default(),
            fault: Arc::clone(&self.fault),
        }
    }

    /// The same device without some kernels.
    pub(super) fn without_kernels(&self, names: impl IntoIterator<Item = String>) -> Gpu {
        let mut gpu = self.with_kernels(self.changed.clone());
        gpu.caps.without.extend(names);
        gpu
    }

    /// Kernels with other texts than their own.
    pub(super) fn changed(&self) -> &Changed {
        &self.changed
    }

    /// The source of a kernel.
    ///
    /// # Errors
    /// When a text that stands in for its own does not fit.
    pub(crate) fn source(&self, kernel: &BoundKernel) -> Result<Source> {
        self.changed.source(kernel)
    }

    pub(crate) fn caps(&self) -> &Capabilities {
        &self.caps
    }

    pub(crate) fn device(&self) -> &wgpu::Device {
        &self.device
    }

    pub(crate) fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// What is known of the weights on it.
    pub(crate) fn weights(&self) -> &Known {
        &self.weights
    }

    /// The recorded fault, if any. The device's loss stays; other errors are reported once.
    pub(crate) fn check(&self) -> Result<()> {
        let recorded = || self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded().as_ref().is_some_and(|seen| !seen.lost) {
            // A loss is reported by a poll only, and explains what failed before.
            let _ = self.device.poll(wgpu::PollType::Poll);
        }
        let mut fault = recorded();
        let Some(seen) = fault.clone() else { return Ok(()) };
        if !seen.lost {
            *fault = None;
        }
        Err(Error::Device { device: self.id.clone(), what: seen.what, lost: seen.lost })
    }

    /// An error, or the loss of the device that explains it: a loss is reported by a poll only.
    fn explained(&self, what: String) -> Error {
        let _ = self.device.poll(wgpu::PollType::Poll);
        self.check().err().unwrap_or_else(|| self.fault(what))
    }

    /// Runs `make` and turns every error that the device reports meanwhile into an error of ours.
    pub(crate) fn scoped<T>(&self, make: impl FnOnce() -> T) -> Result<T> {
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let made = make();
        // Guards are popped in the reverse order of their making.
        let errors = [
            pollster::block_on(validation.pop()),
            pollster::block_on(internal.pop()),
            pollster::block_on(memory.pop()),
        ];
        match errors.into_iter().flatten().next() {
            None => Ok(made),
            Some(error) => Err(self.explained(error.to_string())),
        }
    }

    /// Waits until a submission has finished.
    pub(crate) fn wait(&self, submission: Option<wgpu::SubmissionIndex>, limit: Duration) -> Result<()> {
        let poll = wgpu::PollType::Wait { submission_index: submission, timeout: Some(limit) };
        match self.device.poll(poll) {
            Ok(_) => self.check(),
            Err(wgpu::PollError::Timeout) => {
                Err(Error::DeviceTimeout { device: self.id.clone(), seconds: limit.as_secs() })
            }
            Err(error) => Err(self.explained(error.to_string())),
        }
    }

    /// Maps a buffer for reading, after everything submitted before.
    pub(crate) fn map(&self, staging: &Staging, limit: Duration) -> Result<()> {
        staging.state.store(PENDING, Ordering::Release);
        let state = Arc::clone(&staging.state);
        staging.buffer.map_async(wgpu::MapMode::Read, .., move |result| {
            state.store(if result.is_ok() { MAPPED } else { FAILED }, Ordering::Release);
        });
        self.wait(None, limit)?;
        if staging.state.load(Ordering::Acquire) == MAPPED {
            return Ok(());
        }
        Err(self.explained("the read-back buffer could not be mapped".to_owned()))
    }

    /// The pipelines of `kernels`, compiled in parallel where they are new, with what the folder of `compiler` holds of them.
    pub(crate) fn pipelines(
        &self,
        kernels: &[&BoundKernel],
        compiler: Compiler<'_>,
    ) -> Result<HashMap<BoundKernel, Arc<Pipeline>>> {
        let start = Instant::now();
        let mut ready = HashMap::new();
        let mut missing: Vec<&BoundKernel> = Vec::new();
        {
            let known = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
            for kernel in kernels {
                match known.get(*kernel) {
                    Some(pipeline) => drop(ready.insert((*kernel).clone(), Arc::clone(pipeline))),
                    None if missing.contains(kernel) => {}
                    None => missing.push(kernel),
                }
            }
        }
        if missing.is_empty() {
            return Ok(ready);
        }
        let _span = tracing::info_span!("compile", device = %self.id, kernels = missing.len()).entered();
        let stored = compiler.cache.map(|folder| Stored::open(self, folder, kernels));
        let next = std::sync::atomic::AtomicUsize::new(0);
        let workers =
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(missing.len());
        let compile_all = || {
            let mut made = Vec::new();
            while let Some(kernel) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                made.push(((*kernel).clone(), Arc::new(self.compile(kernel, stored.as_ref())?)));
            }
            Ok(made)
        };
        // naga and drivers recurse deeply: give them a roomy stack.
        const STACK: usize = 16 << 20;
        let results: Vec<Result<Compiled>> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers)
                .filter_map(|_| {
                    std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, compile_all).ok()
                })
                .collect();
            handles
                .into_iter()
                .map(|handle| {
                    handle.join().unwrap_or_else(|_| {
                        Err(Error::Internal("a pipeline could not be compiled".to_owned()))
                    })
                })
                .collect()
        });
        let mut known = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        for made in results {
            for (kernel, pipeline) in made? {
                known.insert(kernel.clone(), Arc::clone(&pipeline));
                ready.insert(kernel, pipeline);
            }
        }
        drop(known);
        compiler.finish(missing.len(), stored, start);
        Ok(ready)
    }

    fn compile(&self, bound: &BoundKernel, stored: Option<&Stored<'_>>) -> Result<Pipeline> {
        let source = self.source(bound)?;
        let name = bound.kernel.variant.name;
        let (layout, pipeline_layout) = self.layout(&source)?;
        let pipeline = self.scoped(|| {
            let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(name),
                source: wgpu::ShaderSource::Wgsl(source.wgsl.into()),
            });
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(name),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    // Kernels write workgroup memory before they read it.
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: stored.and_then(Stored::cache),
            })
        })?;
        Ok(Pipeline { pipeline, layout })
    }

    /// The layout of group 0: reads, writes, uniforms.
    fn layout(&self, source: &Source) -> Result<Layout> {
        let key = (source.reads, source.writes, source.uniforms, source.writable);
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = layouts.get(&key) {
            return Ok(layout.clone());
        }
        let kind = |index: usize| match index {
            i if i < key.0 => wgpu::BufferBindingType::Storage { read_only: (key.3 >> i) & 1 == 0 },
            i if i < key.0 + key.1 => wgpu::BufferBindingType::Storage { read_only: false },
            _ => wgpu::BufferBindingType::Uniform,
        };
        let entries: Vec<wgpu::BindGroupLayoutEntry> = (0..key.0 + key.1 + key.2)
            .map(|index| wgpu::BindGroupLayoutEntry {
                binding: index as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: kind(index),
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let made = self.scoped(|| {
            let group = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: None,
                entries: &entries,
            });
            let pipeline = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            });
            (group, pipeline)
        })?;
        layouts.insert(key, made.clone());
        Ok(made)
    }
}

impl Gpu {
    /// An error of this device that is not its loss.
    pub(crate) fn fault(&self, what: String) -> Error {
        Error::Device { device: self.id.clone(), what, lost: false }
    }
}
