//! Choosing a device.

use super::list::{DeviceInfo, DeviceKind, Found, rank};
use crate::error::{Error, Result};

/// Which device to open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Select<'a> {
    /// The best real GPU; the CPU where there is none. GPUs in software are for tests and are never taken.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The best GPU, one in software included; an error where there is none.
    Gpu,
    /// The device at this place of [`super::Device::list`].
    Index(usize),
    /// A device's id (`vulkan:0`), or a part of its name, upper and lower case alike.
    Name(&'a str),
}

impl<'a> Select<'a> {
    /// Reads the form of the command line: `auto`, `cpu`, `gpu`, an index, an id or a part of a name.
    pub fn parse(text: &'a str) -> Select<'a> {
        match text {
            "auto" => Select::Auto,
            "cpu" => Select::Cpu,
            "gpu" => Select::Gpu,
            other => other.parse().map_or(Select::Name(other), Select::Index),
        }
    }

    pub(super) fn choose<'f>(&self, found: &'f [Found]) -> Result<&'f Found> {
        let best = |wanted: &dyn Fn(&DeviceInfo) -> bool| {
            found.iter().filter(|device| wanted(&device.info)).min_by_key(|device| rank(&device.info))
        };
        let chosen = match self {
            Select::Auto => best(&|info| info.kind != DeviceKind::Software),
            Select::Cpu => best(&|info| info.kind == DeviceKind::Cpu),
            Select::Gpu => best(&|info| info.kind != DeviceKind::Cpu),
            Select::Index(index) => found.get(*index),
            Select::Name(name) => best(&|info| info.id == *name).or_else(|| {
                let part = name.to_lowercase();
                best(&|info| info.name.to_lowercase().contains(&part))
            }),
        };
        chosen.ok_or_else(|| Error::NoDevice {
            wanted: self.to_string(),
            seen: found
                .iter()
                .map(|device| format!("{} \"{}\"", device.info.id, device.info.name))
                .collect::<Vec<_>>()
                .join(", "),
        })
    }
}

impl std::fmt::Display for Select<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Select::Auto => f.write_str("auto"),
            Select::Cpu => f.write_str("cpu"),
            Select::Gpu => f.write_str("gpu"),
            Select::Index(index) => index.fmt(f),
            Select::Name(name) => f.write_str(name),
        }
    }
}
