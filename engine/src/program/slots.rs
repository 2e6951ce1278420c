//! Memory by lifetimes: values that are not alive together share a slot.

use std::collections::HashMap;

/// A value that needs memory from step `from` to step `to`, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lifetime<K> {
    pub(crate) key: K,
    pub(crate) bytes: u64,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// Sizes of slots, and the slot of each value.
#[derive(Clone, Debug)]
pub(crate) struct Slots<K> {
    pub(crate) bytes: Vec<u64>,
    pub(crate) place: HashMap<K, usize>,
}

/// Gives each value a slot. A free slot that fits best is taken; else the largest free one grows; else there is a new
/// one. No slot grows beyond `limit`; a single value may not either, which the caller has checked.
pub(crate) fn assign<K: Copy + Eq + std::hash::Hash>(mut values: Vec<Lifetime<K>>, limit: u64) -> Slots<K> {
    values.sort_by_key(|value| (value.from, std::cmp::Reverse(value.bytes)));
    let mut slots = Slots { bytes: Vec::new(), place: HashMap::new() };
    // Last step at which each slot is in use.
    let mut busy: Vec<usize> = Vec::new();
    for value in values {
        let free = |slot: &usize| busy[*slot] < value.from && value.bytes <= limit;
        let size = |slot: usize| slots.bytes[slot];
        let fits = (0..busy.len()).filter(free).filter(|&s| size(s) >= value.bytes).min_by_key(|&s| size(s));
        let chosen = fits.or_else(|| (0..busy.len()).filter(free).max_by_key(|&s| size(s)));
        let slot = chosen.unwrap_or_else(|| {
            slots.bytes.push(0);
            busy.push(0);
            busy.len() - 1
        });
        slots.bytes[slot] = slots.bytes[slot].max(value.bytes);
        busy[slot] = value.to;
        slots.place.insert(value.key, slot);
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_needs_two_slots() {
        let chain = (0..10).map(|i| Lifetime { key: i, bytes: 100 + i as u64, from: i, to: i + 1 }).collect();
        let slots = assign(chain, u64::MAX);
        assert_eq!(slots.bytes.len(), 2);
        assert_eq!(slots.bytes.iter().sum::<u64>(), 109 + 108);
    }

    #[test]
    fn values_alive_together_never_share() {
        let mut seed = 7u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let values: Vec<Lifetime<usize>> = (0..300)
            .map(|key| {
                let from = random(100) as usize;
                Lifetime { key, bytes: 1 + random(1000), from, to: from + random(10) as usize }
            })
            .collect();
        let slots = assign(values.clone(), u64::MAX);
        for (i, a) in values.iter().enumerate() {
            assert!(slots.bytes[slots.place[&a.key]] >= a.bytes);
            for b in &values[..i] {
                let together = a.from <= b.to && b.from <= a.to;
                assert!(!(together && slots.place[&a.key] == slots.place[&b.key]), "{a:?} {b:?}");
            }
        }
    }
}
