//! Compiled kernels on disk: what drivers give to keep between processes, where wgpu lets them (Vulkan).

use std::collections::HashSet;
use std::time::Instant;

use super::gpu::{BoundKernel, Gpu};
use crate::cache::{CacheFolder, Entry, Key};
use crate::observer::{About, CacheUse, Event, Observers};

/// What kernels are compiled with.
#[derive(Clone, Copy, Default)]
pub(crate) struct Compiler<'a> {
    pub(crate) cache: Option<&'a CacheFolder>,
    /// Who is told, and what the kernels are for.
    pub(crate) told: Option<(&'a Observers, About<'a>)>,
}

/// What the driver keeps of the kernels of one program, and where it is on disk.
pub(super) struct Stored<'a> {
    folder: &'a CacheFolder,
    found: CacheUse,
    /// `None` where the device has no such thing.
    kept: Option<Kept>,
}

struct Kept {
    key: Key,
    /// Bytes that were on disk.
    before: Option<usize>,
    cache: wgpu::PipelineCache,
}

impl<'a> Stored<'a> {
    /// Finds what is kept of `kernels`: those of a whole program, so that programs that share some leave each other alone.
    pub(super) fn open(gpu: &Gpu, folder: &'a CacheFolder, kernels: &[&BoundKernel]) -> Stored<'a> {
        let unsupported = Stored { folder, found: CacheUse::Unsupported, kept: None };
        if !gpu.device().features().contains(wgpu::Features::PIPELINE_CACHE) {
            return unsupported;
        }
        let Some(key) = key(gpu, kernels) else { return unsupported };
        let make = |data: Option<&[u8]>| gpu.scoped(|| create(gpu.device(), data));
        let found = match folder.read(&key) {
            Entry::Found(data) => match make(Some(&data)) {
                Ok(cache) => {
                    let kept = Kept { key, before: Some(data.len()), cache };
                    return Stored { folder, found: CacheUse::Hit, kept: Some(kept) };
                }
                // The driver was changed without a change of its name.
                Err(_) => CacheUse::Refused,
            },
            Entry::Absent => CacheUse::Miss,
            Entry::Refused => CacheUse::Refused,
        };
        // A driver that keeps nothing compiles all the same.
        let Ok(cache) = make(None) else { return unsupported };
        Stored { folder, found, kept: Some(Kept { key, before: None, cache }) }
    }

    /// What pipelines are made with.
    pub(super) fn cache(&self) -> Option<&wgpu::PipelineCache> {
        self.kept.as_ref().map(|kept| &kept.cache)
    }

    /// Writes what the driver keeps now, if nothing was there or clearly less: some drivers (SwiftShader) give a little more
    /// each time, although they compiled nothing new.
    fn save(&self) -> std::io::Result<()> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let enough = kept.before.map(|before| before + before / 8 + 1024);
        match kept.cache.get_data() {
            Some(data) if enough.is_none_or(|enough| data.len() > enough) => {
                self.folder.write(&kept.key, &data)
            }
            _ => Ok(()),
        }
    }
}

impl Compiler<'_> {
    /// Keeps what was compiled, and tells it.
    pub(super) fn finish(self, kernels: usize, stored: Option<Stored<'_>>, start: Instant) {
        let saved = stored.as_ref().map_or(Ok(()), Stored::save);
        let Some((observers, about)) = self.told else { return };
        let cache = stored.as_ref().map_or(CacheUse::Off, |stored| stored.found);
        let took = start.elapsed();
        observers.tell(|| (about, Event::Compiled { kernels, cache, took }));
        if let (Err(error), Some(stored)) = (&saved, &stored) {
            let folder = stored.folder.path();
            observers.tell(|| (about, Event::CacheUnwritable { folder, error }));
        }
    }
}

/// Everything that the compiled code depends on: engine, adapter, driver, and the kernels' texts and bindings. `None` where
/// wgpu keeps nothing for such an adapter.
fn key(gpu: &Gpu, kernels: &[&BoundKernel]) -> Option<Key> {
    let adapter = gpu.device().adapter_info();
    let family = wgpu::util::pipeline_cache_key(&adapter)?;
    let each: HashSet<&BoundKernel> = kernels.iter().copied().collect();
    let text = |bound: &BoundKernel| {
        // One that is refused is not compiled either, and that says why.
        let source = gpu.changed().source(bound).ok()?;
        let bindings = (source.reads, source.writable, source.writes, source.uniforms);
        Some(format!("{bindings:?}{}", source.wgsl))
    };
    let mut texts: Vec<String> = each.into_iter().map(text).collect::<Option<_>>()?;
    texts.sort_unstable();
    let engine = [env!("CARGO_PKG_VERSION"), family.as_str()];
    let driver = [adapter.name.as_str(), adapter.driver.as_str(), adapter.driver_info.as_str()];
    let parts = engine.into_iter().chain(driver).chain(texts.iter().map(String::as_str));
    Some(Key::of(parts.map(str::as_bytes)))
}

/// A cache that begins with `data`; an error of the device where it is not its driver's.
#[allow(unsafe_code, reason = "drivers believe what they kept")]
fn create(device: &wgpu::Device, data: Option<&[u8]>) -> wgpu::PipelineCache {
    let descriptor = wgpu::PipelineCacheDescriptor { label: Some("sardonyx"), data, fallback: false };
    // SAFETY: data must come from `PipelineCache::get_data`. It was read from an entry whose digest says that it is, byte for
    // byte, what `Stored::save` wrote under the key of this engine, adapter and driver.
    unsafe { device.create_pipeline_cache(&descriptor) }
}
