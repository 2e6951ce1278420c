//! Finding devices, and what is known about them before they are opened.

use sardonyx_shaders::Capabilities;

use super::quirks::{self, Quirk};

/// What kind of hardware a device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DeviceKind {
    /// A GPU with its own memory.
    Discrete,
    /// A GPU that shares the host's memory.
    Integrated,
    /// A GPU lent by a virtual machine.
    Virtual,
    /// A GPU in software, for tests.
    Software,
    /// Not said by the driver.
    Unknown,
    /// The CPU, without a GPU interface.
    Cpu,
}

impl DeviceKind {
    /// The word for people and JSON.
    pub fn name(self) -> &'static str {
        match self {
            DeviceKind::Discrete => "discrete",
            DeviceKind::Integrated => "integrated",
            DeviceKind::Virtual => "virtual",
            DeviceKind::Software => "software",
            DeviceKind::Unknown => "unknown",
            DeviceKind::Cpu => "cpu",
        }
    }
}

/// A device of this machine.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// Backend and number: `vulkan:0`, `gl:0`, `cpu`. What `--device` takes.
    pub id: String,
    /// The adapter's name.
    pub name: String,
    /// `vulkan`, `metal`, `dx12`, `gl` or `cpu`.
    pub backend: &'static str,
    /// What kind of hardware.
    pub kind: DeviceKind,
    /// The driver and its version.
    pub driver: String,
    /// PCI vendor number, 0 when unknown.
    pub vendor: u32,
    /// Features that kernels can use: `f16`, `subgroups`, `timestamps`; without those that a quirk switches off.
    pub features: Vec<&'static str>,
    /// Limits and capabilities that kernels go by; `None` for the CPU.
    pub capabilities: Option<Capabilities>,
    /// Defects of the driver that are worked around.
    pub quirks: Vec<&'static Quirk>,
}

/// A device with what is needed to open it.
pub(super) struct Found {
    pub(super) info: DeviceInfo,
    pub(super) adapter: Option<wgpu::Adapter>,
}

impl DeviceInfo {
    /// The CPU with the instruction sets that kernels use.
    pub(super) fn cpu() -> DeviceInfo {
        let mut features = Vec::new();
        #[cfg(target_arch = "x86_64")]
        for (name, present) in [
            ("avx2", std::arch::is_x86_feature_detected!("avx2")),
            ("fma", std::arch::is_x86_feature_detected!("fma")),
            ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
            ("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
        ] {
            if present {
                features.push(name);
            }
        }
        #[cfg(target_arch = "aarch64")]
        features.push("neon");
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        DeviceInfo {
            id: "cpu".to_owned(),
            name: format!("CPU, {threads} threads"),
            backend: "cpu",
            kind: DeviceKind::Cpu,
            driver: String::new(),
            vendor: 0,
            features,
            capabilities: None,
            quirks: Vec::new(),
        }
    }

    pub(super) fn from_adapter(adapter: &wgpu::Adapter, number: usize) -> DeviceInfo {
        let info = adapter.get_info();
        let known = BACKENDS.iter().find(|(_, backend)| *backend == wgpu::Backends::from(info.backend));
        let backend = known.map_or("other", |(name, _)| name);
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
            wgpu::DeviceType::VirtualGpu => DeviceKind::Virtual,
            wgpu::DeviceType::Cpu => DeviceKind::Software,
            wgpu::DeviceType::Other => DeviceKind::Unknown,
        };
        let driver = driver(&info);
        let quirks: Vec<_> = quirks::of(&info.name, &driver).collect();
        let has = adapter.features();
        let features = [
            ("f16", wgpu::Features::SHADER_F16),
            ("subgroups", wgpu::Features::SUBGROUP),
            ("timestamps", wgpu::Features::TIMESTAMP_QUERY),
        ];
        DeviceInfo {
            id: format!("{backend}:{number}"),
            name: info.name.clone(),
            backend,
            kind,
            driver,
            vendor: info.vendor,
            features: features
                .iter()
                .filter(|(name, feature)| {
                    has.contains(*feature) && quirks.iter().all(|row| row.off() != *name)
                })
                .map(|(name, _)| *name)
                .collect(),
            capabilities: Some(super::gpu::capabilities(has, &adapter.limits(), &info)),
            quirks,
        }
    }
}

/// A driver's name and version.
pub(super) fn driver(info: &wgpu::AdapterInfo) -> String {
    format!("{} {}", info.driver, info.driver_info).trim().to_owned()
}

/// The backends that devices are listed of.
const BACKENDS: [(&str, wgpu::Backends); 4] = [
    ("vulkan", wgpu::Backends::VULKAN),
    ("metal", wgpu::Backends::METAL),
    ("dx12", wgpu::Backends::DX12),
    ("gl", wgpu::Backends::GL),
];

/// Those that are compiled in, and the CPU.
pub(super) fn backends() -> Vec<&'static str> {
    let built = wgpu::Instance::enabled_backend_features();
    let gpus = BACKENDS.iter().filter(|(_, backend)| built.contains(*backend)).map(|(name, _)| *name);
    gpus.chain(["cpu"]).collect()
}

/// All devices: real GPUs, then software ones, then the CPU; numbered within their backend.
pub(super) fn all() -> Vec<Found> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let mut counts = std::collections::HashMap::new();
    let mut found: Vec<Found> = adapters
        .into_iter()
        .filter(|adapter| {
            adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
        })
        .map(|adapter| {
            let number = counts.entry(adapter.get_info().backend).or_insert(0usize);
            let info = DeviceInfo::from_adapter(&adapter, *number);
            *number += 1;
            Found { info, adapter: Some(adapter) }
        })
        .collect();
    found.sort_by_key(|device| rank(&device.info));
    found.push(Found { info: DeviceInfo::cpu(), adapter: None });
    found
}

/// Smaller is better: what `auto` prefers. OpenGL is the last resort among equals.
pub(super) fn rank(info: &DeviceInfo) -> (u8, bool) {
    let kind = match info.kind {
        DeviceKind::Discrete => 0,
        DeviceKind::Integrated => 1,
        DeviceKind::Virtual | DeviceKind::Unknown => 2,
        DeviceKind::Cpu => 3,
        DeviceKind::Software => 4,
    };
    (kind, info.backend == "gl")
}
