//! The machine that a measurement was made on. What cannot be read here is null.

use std::fs;

use serde_json::{Value, json};

/// Operating system, processor, governor, load.
pub fn describe() -> Value {
    let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let cpu = read("/proc/cpuinfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let load = read("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    json!({"os": std::env::consts::OS, "arch": std::env::consts::ARCH,
           "kernel": read("/proc/sys/kernel/osrelease"), "cpu": cpu, "threads": threads,
           "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), "load1": load})
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
    #[cfg(target_os = "linux")]
    fn the_peak_grows_with_what_is_touched() {
        let before = peak_resident_bytes().unwrap();
        let touched = vec![1u8; 64 << 20];
        assert_eq!(touched.iter().map(|&b| usize::from(b)).sum::<usize>(), 64 << 20);
        let after = peak_resident_bytes().unwrap();
        assert!(after >= 64 << 20 && after >= before, "{before} {after}");
    }
}
