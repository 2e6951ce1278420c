//! What a device was measured to reach, to hold kernels against.

use std::time::{Duration, Instant};

use sardonyx_ops::cpu::roof as cpu;
use sardonyx_shaders::roof;

use crate::device::{Device, Gpu};
use crate::error::{Error, Result};
use crate::program::WAIT_LIMIT;

/// What a device was measured to reach.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Roofs {
    /// Bytes read and written a second while copying.
    pub bytes_per_second: f64,
    /// Operations a second in f32; a multiply-add counts two.
    pub flops_per_second: f64,
}

/// A measurement lasts at least so long; the best of some counts.
const LEAST: Duration = Duration::from_millis(10);
const REPEATS: usize = 12;

/// A launch of this length hides what launching costs.
const LONG_LAUNCH: Duration = Duration::from_millis(5);

/// Bytes copied, beyond caches.
const COPIED: usize = 64 << 20;

impl Device {
    /// Measures how fast the device copies and how fast it multiplies and adds: a fraction of a second each. `threads`
    /// are those of the CPU, all of the machine for 0.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn measure(&self, threads: usize) -> Result<Roofs> {
        match self.gpu() {
            Some(gpu) => measure_gpu(gpu),
            None => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let pool = pool.map_err(|error| Error::Internal(error.to_string()))?;
                Ok(pool.install(measure_cpu))
            }
        }
    }
}

/// The most units of work a second: `work` does its argument's number of rounds, of `units` each.
fn best(units: f64, mut work: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    let (mut rounds, mut best) = (1, 0f64);
    let mut repeats = 0;
    while repeats < REPEATS {
        let start = Instant::now();
        work(rounds)?;
        let elapsed = start.elapsed();
        if elapsed < LEAST {
            rounds *= 2;
            continue;
        }
        best = best.max(units * rounds as f64 / elapsed.as_secs_f64());
        repeats += 1;
    }
    Ok(best)
}

fn measure_cpu() -> Roofs {
    let (from, mut to) = (vec![1u8; COPIED], vec![0u8; COPIED]);
    let copied = best(2.0 * COPIED as f64, |rounds| {
        for _ in 0..rounds {
            cpu::copy(std::hint::black_box(&from), &mut to);
        }
        std::hint::black_box(&mut to);
        Ok(())
    });
    let threads = rayon::current_num_threads();
    // Two to each multiply-add.
    const ROUNDS: usize = 1 << 12;
    let flops = 2.0 * cpu::MULTIPLY_ADDS as f64 * ROUNDS as f64 * threads as f64;
    let computed = best(flops, |rounds| {
        let sums = rayon::broadcast(|_| {
            let [factor, summand] = std::hint::black_box([0.999f32, 0.001]);
            (0..rounds).map(|_| cpu::multiply_add(ROUNDS, factor, summand)).sum::<f32>()
        });
        std::hint::black_box(sums);
        Ok(())
    });
    Roofs { bytes_per_second: copied.unwrap_or(0.0), flops_per_second: computed.unwrap_or(0.0) }
}

fn measure_gpu(gpu: &Gpu) -> Result<Roofs> {
    let caps = gpu.caps();
    let bytes = (COPIED as u64).min(caps.binding_bytes).min(caps.buffer_bytes) & !15;
    let most_groups = caps.grid_axis.min(1 << 14);
    let buffer = |size: u64| {
        gpu.scoped(|| {
            gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some("roof"),
                size,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })
    };
    let (from, to) = (buffer(bytes)?, buffer(bytes)?);
    gpu.queue().write_buffer(&from, 0, bytemuck::cast_slice(&[[0.999f32; 4], [0.001; 4]]));
    let copy = Launcher::new(gpu, roof::COPY, [&from, &to])?;
    copy.run(1, most_groups)?;
    let copied = best(2.0 * bytes as f64, |rounds| copy.run(rounds, most_groups))?;
    let compute = Launcher::new(gpu, roof::MULTIPLY_ADD, [&from, &to])?;
    // The driver may compile only at the first launch. Then: as many workgroups as make a launch long beside its cost.
    compute.run(1, 1)?;
    let mut groups = 64.min(most_groups);
    loop {
        let start = Instant::now();
        compute.run(1, groups)?;
        if start.elapsed() > LONG_LAUNCH || groups * 2 > most_groups {
            break;
        }
        groups *= 2;
    }
    let flops = 2.0 * roof::MULTIPLY_ADDS as f64 * f64::from(groups) * 64.0;
    let computed = best(flops, |rounds| compute.run(rounds, groups))?;
    Ok(Roofs { bytes_per_second: copied, flops_per_second: computed })
}

/// A kernel with its buffers.
struct Launcher<'g> {
    gpu: &'g Gpu,
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
}

impl<'g> Launcher<'g> {
    fn new(gpu: &'g Gpu, wgsl: &str, buffers: [&wgpu::Buffer; 2]) -> Result<Launcher<'g>> {
        let device = gpu.device();
        gpu.scoped(|| {
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some("roof"),
                source: wgpu::ShaderSource::Wgsl(wgsl.into()),
            });
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some("roof"),
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            });
            let entry = |binding| wgpu::BindGroupEntry {
                binding,
                resource: buffers[binding as usize].as_entire_binding(),
            };
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pipeline.get_bind_group_layout(0),
                entries: &[entry(0), entry(1)],
            });
            Launcher { gpu, pipeline, group }
        })
    }

    /// Launches so often in one submission, and waits.
    fn run(&self, launches: usize, groups: u32) -> Result<()> {
        let mut encoder =
            self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        for _ in 0..launches {
            pass.dispatch_workgroups(groups, 1, 1);
        }
        drop(pass);
        let submission = self.gpu.queue().submit([encoder.finish()]);
        self.gpu.wait(Some(submission), WAIT_LIMIT)
    }
}
