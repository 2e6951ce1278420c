//! A picture of memory: which value lies where.

use std::collections::BTreeMap;

/// Whose bytes they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    Value(usize),
    Scratch(usize, usize),
}

/// A range, by its start and length, with whose it is.
pub(super) type Owned = (u64, u64, Owner);

/// Which value lies where.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) size: u64,
    /// Start of a range, its end and its owner. Ranges do not overlap.
    ranges: BTreeMap<u64, (u64, Owner)>,
}

impl Memory {
    pub(super) fn new(size: u64) -> Memory {
        Memory { size, ranges: BTreeMap::new() }
    }

    pub(super) fn within(&self, start: u64, bytes: u64) -> Result<u64, String> {
        start
            .checked_add(bytes)
            .filter(|&end| end <= self.size)
            .ok_or_else(|| format!("{bytes} bytes at {start} are beyond a buffer of {}", self.size))
    }

    pub(super) fn write(&mut self, start: u64, bytes: u64, owner: Owner) -> Result<(), String> {
        let end = self.within(start, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        let first = self.ranges.range(..start).next_back().map_or(start, |(&from, _)| from);
        let met: Vec<(u64, (u64, Owner))> =
            self.ranges.range(first..end).map(|(&from, &range)| (from, range)).collect();
        for (from, (to, old)) in met.into_iter().filter(|(_, (to, _))| *to > start) {
            self.ranges.remove(&from);
            if from < start {
                self.ranges.insert(from, (start, old));
            }
            if to > end {
                self.ranges.insert(end, (to, old));
            }
        }
        self.ranges.insert(start, (end, owner));
        Ok(())
    }

    pub(super) fn read(&self, start: u64, bytes: u64, owner: Owner) -> Result<(), String> {
        let end = self.within(start, bytes)?;
        let mut at = start;
        while at < end {
            let found = self.ranges.range(..=at).next_back().filter(|(_, (to, _))| *to > at);
            match found {
                Some((_, (to, found))) if *found == owner => at = *to,
                Some((_, (_, found))) => return Err(format!("{owner:?} is read where {found:?} lies")),
                None => return Err(format!("{owner:?} is read where nothing was written")),
            }
        }
        Ok(())
    }
}

/// Whether two ranges, each a start and a length, share bytes.
pub(super) fn overlap(a: (u64, u64), b: (u64, u64)) -> bool {
    a.0 < b.0.saturating_add(b.1) && b.0 < a.0.saturating_add(a.1)
}
