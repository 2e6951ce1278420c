//! Defects of drivers: one row for each, with what is switched off because of it. Kernels then go by capabilities alone.

use sardonyx_shaders::Capabilities;

/// A defect of a driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quirk {
    /// Part of the adapter's name, in lower case.
    adapter: &'static str,
    /// Part of the driver's name and version, in lower case; empty for any.
    driver: &'static str,
    off: Feature,
    /// What goes wrong.
    pub why: &'static str,
    /// Where that is reported.
    pub source: &'static str,
    /// When the row was written or last checked: year and month.
    pub date: &'static str,
}

/// What can be switched off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Feature {
    Subgroups,
}

const QUIRKS: &[Quirk] = &[
    Quirk {
        adapter: "powervr",
        driver: "",
        off: Feature::Subgroups,
        why: "its compiler crashes on reductions over subgroups",
        source: "https://github.com/ggml-org/llama.cpp/pull/20565",
        date: "2026-11",
    },
    Quirk {
        adapter: "amd",
        driver: "moltenvk",
        off: Feature::Subgroups,
        why: "half of the lanes of a subgroup of 64 are not there",
        source: "https://github.com/KhronosGroup/MoltenVK/issues/2750",
        date: "2026-11",
    },
];

impl Quirk {
    /// The word in [`super::DeviceInfo::features`] for what is switched off.
    pub fn off(&self) -> &'static str {
        match self.off {
            Feature::Subgroups => "subgroups",
        }
    }

    pub(super) fn apply(&self, caps: &mut Capabilities) {
        match self.off {
            Feature::Subgroups => caps.subgroups = None,
        }
    }
}

/// The defects of an adapter and its driver that are known.
pub(super) fn of(adapter: &str, driver: &str) -> impl Iterator<Item = &'static Quirk> {
    let (adapter, driver) = (adapter.to_lowercase(), driver.to_lowercase());
    QUIRKS.iter().filter(move |row| adapter.contains(row.adapter) && driver.contains(row.driver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_meet_their_adapters_only() {
        let off = |adapter: &str, driver: &str| {
            let mut caps = Capabilities { subgroups: Some((32, 64)), ..Capabilities::BASELINE };
            of(adapter, driver).for_each(|quirk| quirk.apply(&mut caps));
            caps.subgroups.is_none()
        };
        assert!(off("PowerVR Rogue GE8320", "1.15"));
        assert!(off("AMD Radeon Pro 5500M", "MoltenVK 1.4.0"));
        assert!(!off("AMD Radeon Pro 5500M", "radv Mesa 25.1") && !off("Apple M2", "MoltenVK 1.4.0"));
        assert!(!off("llvmpipe", "llvmpipe Mesa 22.3.6"));
    }

    #[test]
    fn every_row_can_match_and_says_why() {
        for row in QUIRKS {
            assert_eq!(
                (row.adapter.to_lowercase(), row.driver.to_lowercase()),
                (row.adapter.into(), row.driver.into())
            );
            assert!(!row.adapter.is_empty() && !row.why.is_empty() && row.source.starts_with("https://"));
            assert_eq!(row.date.len(), "2026-11".len());
        }
    }
}
