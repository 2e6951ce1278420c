//! The kernels of a plan as texts, for whoever wants to read what runs.

use std::collections::HashMap;
use std::sync::Arc;

use crate::device::{BoundKernel, Gpu};
use crate::error::Result;
use crate::program::Program;

/// A kernel as it was compiled, and what it is launched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shader {
    /// The name of its variant, as placements give it.
    pub kernel: &'static str,
    /// WGSL with the entry point `main`.
    pub wgsl: String,
    /// Its launches in one run, in their order.
    pub launches: Vec<ShaderLaunch>,
}

/// A launch of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShaderLaunch {
    /// The operator of the step.
    pub op: &'static str,
    /// The model's nodes that the step does, the anchor first.
    pub nodes: Vec<Arc<str>>,
    /// Workgroups along three axes.
    pub grid: [u32; 3],
}

/// The kernels of programs, each once, in the order of their first launches.
///
/// # Errors
/// When a text that stands in for a kernel's own does not fit.
pub(crate) fn of<'a>(programs: impl Iterator<Item = &'a Program>, gpu: &Gpu) -> Result<Vec<Shader>> {
    let mut all: Vec<Shader> = Vec::new();
    let mut known: HashMap<&BoundKernel, usize> = HashMap::new();
    for (kernel, launch) in programs.flat_map(Program::launched) {
        let index = *known.entry(kernel).or_insert(all.len());
        if index == all.len() {
            let wgsl = gpu.source(kernel)?.wgsl;
            all.push(Shader { kernel: kernel.kernel.variant.name, wgsl, launches: Vec::new() });
        }
        all[index].launches.push(launch);
    }
    Ok(all)
}
