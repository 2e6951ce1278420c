//! Kernels that `doctor` found wrong on a device of this machine: other commands leave them out, until it finds them right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sardonyx::{Device, DeviceInfo};
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::failure::Failure;
use crate::formats::{MOST_BYTES, read_file};
use crate::output::{Console, atomic, format};

/// What is wrong with a device: names of kernels, and why.
pub type Faults = BTreeMap<String, String>;

/// Where this process reads what is left out.
static FILE: OnceLock<PathBuf> = OnceLock::new();

/// The faults of all devices, by name and driver.
#[derive(Debug, Default, PartialEq)]
struct Quarantine(BTreeMap<String, Faults>);

/// A device with another driver is another device.
fn key(info: &DeviceInfo) -> String {
    format!("{}, {}", info.name, info.driver)
}

impl Quarantine {
    /// Those of a file; none when there is none, it is damaged, or another version of the engine, and so of its
    /// kernels, wrote it.
    fn read(path: &Path) -> Quarantine {
        let text = if path.is_file() { read_file(path, MOST_BYTES).ok() } else { None };
        let document: Value = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        if document["engine"] != env!("CARGO_PKG_VERSION") {
            return Quarantine::default();
        }
        let faults = |faults: &Value| -> Faults {
            let all = faults.as_object().into_iter().flatten();
            all.filter_map(|(name, why)| Some((name.clone(), why.as_str()?.to_owned()))).collect()
        };
        let devices = document["devices"].as_object().into_iter().flatten();
        Quarantine(devices.map(|(device, all)| (device.clone(), faults(all))).collect())
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let document = json!({"engine": env!("CARGO_PKG_VERSION"), "devices": self.0});
        atomic::write(path, format!("{document:#}\n").as_bytes())
    }
}

fn file(cache: &Cache) -> Option<PathBuf> {
    Some(cache.folder()?.join("quarantine.json"))
}

/// From here on, devices are opened without what is wrong with them.
pub fn obey(cache: &Cache, console: &Console) {
    let Some(path) = file(cache) else { return };
    for (device, faults) in Quarantine::read(&path).0 {
        let names = faults.keys().cloned().collect::<Vec<_>>().join(", ");
        console.warn(format!(
            "{}: kernels are left out, for they gave wrong results there: {}; `sardonyx doctor` tests them again",
            format::name(&device, 100),
            format::name(&names, 200)
        ));
    }
    // A second call would say the same.
    let _ = FILE.set(path);
}

/// The device without the kernels that are wrong on it.
pub fn leave_out(device: Device) -> Device {
    let faults = FILE.get().and_then(|path| Quarantine::read(path).0.remove(&key(device.info())));
    faults.map_or(device.clone(), |faults| device.without_kernels(faults.into_keys()))
}

/// Keeps what is wrong with a device for the commands to come, or forgets that something was. The file, where that is kept.
///
/// # Errors
/// When it cannot be written.
pub fn keep(cache: &Cache, info: &DeviceInfo, faults: &Faults) -> Result<Option<PathBuf>, Failure> {
    let Some(path) = file(cache) else { return Ok(None) };
    let mut quarantine = Quarantine::read(&path);
    let before = quarantine.0.remove(&key(info)).unwrap_or_default();
    if before != *faults {
        if !faults.is_empty() {
            quarantine.0.insert(key(info), faults.clone());
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
        }
        quarantine.write(&path)?;
    }
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn what_is_wrong_is_kept_until_it_is_right() {
        let scratch = Scratch::new("quarantine");
        let folder = scratch.path("cache");
        let cache = Cache::new(Some(&folder));
        let path = file(&cache).unwrap();
        let info = Device::cpu().info().clone();
        let faults = Faults::from([("softmax".to_owned(), "off by 3.0e-1".to_owned())]);
        assert_eq!(keep(&cache, &info, &Faults::new()).unwrap().as_deref(), Some(path.as_path()));
        assert!(!path.exists(), "nothing to say");
        keep(&cache, &info, &faults).unwrap();
        assert_eq!(Quarantine::read(&path).0, BTreeMap::from([(key(&info), faults)]));
        keep(&cache, &info, &Faults::new()).unwrap();
        assert_eq!(Quarantine::read(&path), Quarantine::default());
        for damaged in ["", "{", r#"{"engine": "0.0.0-old", "devices": {"a": {"b": "c"}}}"#] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(Quarantine::read(&path), Quarantine::default());
        }
        assert_eq!(keep(&Cache::off(), &info, &Faults::new()).unwrap(), None);
    }
}
