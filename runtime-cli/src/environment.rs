//! The machine that a measurement was made on. What cannot be read here is null.

use std::fs;

use serde_json::{Value, json};

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// What may change while measuring.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Condition {
    /// When, since the measurement began.
    pub at_ns: u64,
    /// Clock of the first processor.
    pub mhz: Option<f64>,
    /// The hottest zone.
    pub celsius: Option<f64>,
    /// Load average over a minute.
    pub load1: Option<f64>,
}

impl Condition {
    /// What it is now.
    pub fn now(at_ns: u64) -> Condition {
        let khz =
            read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq").and_then(|t| t.parse::<f64>().ok());
        let zones = (0..16).filter_map(|zone| read(&format!("/sys/class/thermal/thermal_zone{zone}/temp")));
        let celsius = zones.filter_map(|text| text.parse::<f64>().ok()).map(|milli| milli / 1e3);
        Condition {
            at_ns,
            mhz: khz.map(|khz| khz / 1e3).or_else(clock_of_cpuinfo),
            celsius: celsius.max_by(f64::total_cmp),
            load1: load(),
        }
    }

    /// As an array of a document.
    pub fn to_json(self) -> Value {
        json!([self.at_ns, self.mhz, self.celsius, self.load1])
    }

    /// From an array of a document.
    pub fn from_json(value: &Value) -> Option<Condition> {
        let real = |index: usize| value.get(index).and_then(Value::as_f64);
        Some(Condition { at_ns: value.get(0)?.as_u64()?, mhz: real(1), celsius: real(2), load1: real(3) })
    }
}

fn clock_of_cpuinfo() -> Option<f64> {
    let text = read("/proc/cpuinfo")?;
    let line = text.lines().find(|line| line.starts_with("cpu MHz"))?;
    line.split_once(':')?.1.trim().parse().ok()
}

fn load() -> Option<f64> {
    read("/proc/loadavg")?.split(' ').next()?.parse().ok()
}

/// What the processor's packages have taken since some time in the past, in microjoules, where the system tells.
pub fn energy() -> Option<u64> {
    let zones = (0..8).filter_map(|zone| read(&format!("/sys/class/powercap/intel-rapl:{zone}/energy_uj")));
    let all: Vec<u64> = zones.filter_map(|text| text.parse().ok()).collect();
    (!all.is_empty()).then(|| all.iter().sum())
}

/// The clock fell by more than a tenth from its first readings to its last: the device was throttled. `None` when no
/// clock can be read.
pub fn throttled(conditions: &[Condition]) -> Option<bool> {
    let clocks: Vec<f64> = conditions.iter().filter_map(|condition| condition.mhz).collect();
    let quarter = (clocks.len() / 4).max(1);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (clocks.get(..quarter)?, clocks.get(clocks.len().checked_sub(quarter)?..)?);
    Some(mean(last) < 0.9 * mean(first))
}

/// Operating system, processor, governor, load.
pub fn describe() -> Value {
    let cpu = read("/proc/cpuinfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    json!({"os": std::env::consts::OS, "arch": std::env::consts::ARCH,
           "kernel": read("/proc/sys/kernel/osrelease"), "cpu": cpu, "threads": threads,
           "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), "load1": load()})
}

/// The largest resident set of this process so far, where the system tells (Linux).
pub fn peak_resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_is_a_clock_that_falls() {
        let clock = |mhz: f64| Condition { mhz: Some(mhz), ..Condition::default() };
        assert_eq!(throttled(&[]), None);
        assert_eq!(throttled(&[clock(3000.0), clock(2990.0)]), Some(false));
        let falling: Vec<_> = (0..20).map(|i| clock(3000.0 - 60.0 * f64::from(i))).collect();
        assert_eq!(throttled(&falling), Some(true));
        assert_eq!(Condition::from_json(&falling[3].to_json()), Some(falling[3]));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_grows_with_what_is_touched() {
        let before = peak_resident_bytes().unwrap();
        let touched = vec![1u8; 64 << 20];
        assert_eq!(touched.iter().map(|&b| usize::from(b)).sum::<usize>(), 64 << 20);
        let after = peak_resident_bytes().unwrap();
        assert!(after >= 64 << 20 && after >= before, "{before} {after}");
    }
}
