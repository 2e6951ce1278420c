//! Memory by lifetimes: values that are not alive together share the bytes of an arena.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// A value that needs memory from step `from` to step `to`, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lifetime<K> {
    pub(crate) key: K,
    pub(crate) bytes: u64,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// Where a value begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Spot {
    pub(crate) arena: usize,
    pub(crate) offset: u64,
}

/// Sizes of arenas, and the place of each value.
#[derive(Clone, Debug)]
pub(crate) struct Arenas<K> {
    pub(crate) bytes: Vec<u64>,
    pub(crate) place: HashMap<K, Spot>,
}

/// What one launch reads and writes.
pub(crate) type Access<K> = (Vec<K>, Vec<K>);

/// Above this many values the search through all of them takes too long, and they are placed in the order of time only.
const MANY: usize = 8192;

/// Arenas that keep reads and writes of each launch apart are taken when they need at most this much more, in percent.
const APART: u64 = 5;

/// Most arenas that keep reads and writes apart.
const COLOURS: usize = 4;

impl<K> Arenas<K> {
    /// The bytes of all arenas.
    pub(crate) fn total(&self) -> u64 {
        self.bytes.iter().sum()
    }
}

/// The largest sum of bytes alive together: no arrangement needs less.
pub(crate) fn live<K>(values: &[Lifetime<K>]) -> u64 {
    let ends = values.iter().flat_map(|v| [(v.from, true, v.bytes), (v.to + 1, false, v.bytes)]);
    let mut ends: Vec<(usize, bool, u64)> = ends.collect();
    // What ends before a step frees its memory for what begins there.
    ends.sort_unstable();
    let (mut now, mut most) = (0u64, 0);
    for (_, begins, bytes) in ends {
        now = if begins { now.saturating_add(bytes) } else { now.saturating_sub(bytes) };
        most = most.max(now);
    }
    most
}

/// Gives each value a place in arenas of at most `limit` bytes, at a multiple of `alignment`. A single value may be
/// larger than `limit`; the caller has checked that it may.
pub(crate) fn pack<K: Copy + Eq + Hash>(values: &[Lifetime<K>], alignment: u64, limit: u64) -> Arenas<K> {
    let mut by_time: Vec<&Lifetime<K>> = values.iter().collect();
    by_time.sort_by_key(|value| (value.from, Reverse(value.bytes)));
    let first = place(&by_time, false, alignment, limit);
    if values.len() > MANY {
        return first;
    }
    let mut by_size = by_time;
    by_size.sort_by_key(|value| (Reverse(value.bytes), Reverse(value.to - value.from)));
    let best = place(&by_size, true, alignment, limit);
    let least = if best.total() <= first.total() { best } else { first };
    improve(least, by_size, alignment, limit)
}

/// Places again with the value that ends highest moved to the front, a few times over, and keeps the best.
fn improve<K: Copy + Eq + Hash>(
    mut least: Arenas<K>,
    mut order: Vec<&Lifetime<K>>,
    alignment: u64,
    limit: u64,
) -> Arenas<K> {
    const ROUNDS: usize = 24;
    if order.len() > MANY / 16 {
        return least;
    }
    let owned: Vec<Lifetime<()>> = order
        .iter()
        .map(|v| Lifetime { key: (), bytes: v.bytes.next_multiple_of(alignment), from: v.from, to: v.to })
        .collect();
    let goal = live(&owned);
    let mut tried = place(&order, true, alignment, limit);
    for _ in 0..ROUNDS {
        if least.total() <= goal {
            break;
        }
        let end = |value: &Lifetime<K>| tried.place.get(&value.key).map(|spot| spot.offset + value.bytes);
        let Some(highest) = (0..order.len()).max_by_key(|&index| end(order[index])) else { break };
        if highest == 0 {
            break;
        }
        let value = order.remove(highest);
        order.insert(0, value);
        tried = place(&order, true, alignment, limit);
        if tried.total() < least.total() {
            least = tried.clone();
        }
    }
    least
}

/// Where a placed value lies, and when.
struct Taken {
    offset: u64,
    end: u64,
    from: usize,
    to: usize,
}

/// Places values in the order given, each into the tightest gap (`best`) or the lowest one.
fn place<K: Copy + Eq + Hash>(order: &[&Lifetime<K>], best: bool, alignment: u64, limit: u64) -> Arenas<K> {
    let mut arenas = Arenas { bytes: Vec::new(), place: HashMap::with_capacity(order.len()) };
    let mut taken: Vec<Vec<Taken>> = Vec::new();
    for &value in order {
        let size = value.bytes.next_multiple_of(alignment.max(1));
        if !best {
            // In the order of time, what has ended meets nothing any more.
            taken.iter_mut().for_each(|arena| arena.retain(|other| other.to >= value.from));
        }
        let spot = taken.iter().enumerate().find_map(|(arena, taken)| {
            let offset = gap(taken, value, size, best)?;
            (offset.checked_add(size)? <= limit).then_some(Spot { arena, offset })
        });
        let spot = spot.unwrap_or_else(|| {
            taken.push(Vec::new());
            arenas.bytes.push(0);
            Spot { arena: taken.len() - 1, offset: 0 }
        });
        let end = spot.offset.saturating_add(size);
        let list = &mut taken[spot.arena];
        let at = list.partition_point(|other| other.offset <= spot.offset);
        list.insert(at, Taken { offset: spot.offset, end, from: value.from, to: value.to });
        arenas.bytes[spot.arena] = arenas.bytes[spot.arena].max(end);
        arenas.place.insert(value.key, spot);
    }
    arenas
}

/// The offset of a gap between the values of an arena that are alive with `value`; the open end counts as the widest.
fn gap<K>(taken: &[Taken], value: &Lifetime<K>, size: u64, best: bool) -> Option<u64> {
    let (mut cursor, mut found) = (0u64, None::<(u64, u64)>);
    for other in taken.iter().filter(|other| other.from <= value.to && value.from <= other.to) {
        if other.offset > cursor {
            let width = other.offset - cursor;
            if width >= size && found.is_none_or(|(least, _)| width < least) {
                if !best {
                    return Some(cursor);
                }
                found = Some((width, cursor));
            }
        }
        cursor = cursor.max(other.end);
    }
    Some(found.map_or(cursor, |(_, offset)| offset))
}

/// As [`pack`], for a device, where launches say what they access. A buffer cannot be bound for reading only and for
/// writing in one launch, so there are two ways: arenas that keep what a launch reads apart from what it writes, or one
/// arena whose launches bind everything for writing. The first lets a device cache what it reads, and is taken unless it
/// costs memory.
pub(crate) fn arrange<K: Copy + Eq + Hash>(
    values: &[Lifetime<K>],
    accesses: &[Access<K>],
    alignment: u64,
    limit: u64,
) -> Arenas<K> {
    let together = pack(values, alignment, limit);
    let most = together.total().saturating_add(together.total() / 100 * APART);
    match apart(values, accesses, alignment, limit) {
        Some(apart) if apart.total() <= most => apart,
        _ => together,
    }
}

/// Arenas in which no launch reads where it writes; `None` where that takes too many.
fn apart<K: Copy + Eq + Hash>(
    values: &[Lifetime<K>],
    accesses: &[Access<K>],
    alignment: u64,
    limit: u64,
) -> Option<Arenas<K>> {
    let mut meets: HashMap<K, HashSet<K>> = HashMap::new();
    for (reads, writes) in accesses {
        for (&read, &write) in reads.iter().flat_map(|read| writes.iter().map(move |write| (read, write))) {
            meets.entry(read).or_default().insert(write);
            meets.entry(write).or_default().insert(read);
        }
    }
    let mut order: Vec<&Lifetime<K>> = values.iter().collect();
    order.sort_by_key(|value| (value.from, Reverse(value.bytes)));
    let mut colours: HashMap<K, usize> = HashMap::new();
    let mut groups: Vec<Vec<Lifetime<K>>> = Vec::new();
    for value in order {
        let near = meets.get(&value.key);
        let used: HashSet<usize> =
            near.into_iter().flatten().filter_map(|other| colours.get(other).copied()).collect();
        let colour = (0..COLOURS).find(|colour| !used.contains(colour))?;
        colours.insert(value.key, colour);
        if groups.len() <= colour {
            groups.resize_with(colour + 1, Vec::new);
        }
        groups[colour].push(*value);
    }
    let mut all = Arenas { bytes: Vec::new(), place: HashMap::new() };
    for group in groups {
        let packed = pack(&group, alignment, limit);
        let base = all.bytes.len();
        all.bytes.extend(packed.bytes);
        all.place.extend(
            packed.place.into_iter().map(|(key, spot)| (key, Spot { arena: base + spot.arena, ..spot })),
        );
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(count: usize, mut seed: u64) -> Vec<Lifetime<usize>> {
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        (0..count)
            .map(|key| {
                let from = random(100) as usize;
                Lifetime { key, bytes: 1 + random(100_000), from, to: from + random(10) as usize }
            })
            .collect()
    }

    fn sound(values: &[Lifetime<usize>], arenas: &Arenas<usize>, alignment: u64, limit: u64) {
        assert!(arenas.bytes.iter().all(|&bytes| bytes <= limit));
        for (i, a) in values.iter().enumerate() {
            let at = arenas.place[&a.key];
            assert!(at.offset.is_multiple_of(alignment) && at.offset + a.bytes <= arenas.bytes[at.arena]);
            for b in &values[..i] {
                let other = arenas.place[&b.key];
                let alive = a.from <= b.to && b.from <= a.to && at.arena == other.arena;
                let overlap = at.offset < other.offset + b.bytes && other.offset < at.offset + a.bytes;
                assert!(!(alive && overlap), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_chain_needs_its_two_largest_neighbours() {
        let chain: Vec<_> =
            (0..10).map(|i| Lifetime { key: i, bytes: 100 + i as u64, from: i, to: i + 1 }).collect();
        assert_eq!(live(&chain), 109 + 108);
        assert_eq!(pack(&chain, 1, u64::MAX).bytes, [109 + 108]);
    }

    #[test]
    fn values_alive_together_never_share() {
        for seed in 0..8 {
            let values = random(300, seed);
            for (alignment, limit) in [(1, u64::MAX), (256, u64::MAX), (256, 150_000)] {
                let arenas = pack(&values, alignment, limit);
                sound(&values, &arenas, alignment, limit);
                if limit == u64::MAX {
                    assert_eq!(arenas.bytes.len(), 1);
                    assert!(
                        arenas.total() <= live(&values) * 11 / 10,
                        "{} {}",
                        arenas.total(),
                        live(&values)
                    );
                }
            }
        }
    }

    #[test]
    fn many_values_are_placed_in_the_order_of_time() {
        let values: Vec<_> =
            (0..3 * MANY).map(|i| Lifetime { key: i, bytes: 64, from: i, to: i + 1 }).collect();
        assert_eq!(pack(&values, 64, u64::MAX).bytes, [128]);
    }

    #[test]
    fn reads_and_writes_are_kept_apart_where_that_costs_nothing() {
        let chain: Vec<_> = (0..10).map(|i| Lifetime { key: i, bytes: 256, from: i, to: i + 1 }).collect();
        let accesses: Vec<_> = (0..9).map(|i| (vec![i], vec![i + 1])).collect();
        let arenas = arrange(&chain, &accesses, 256, u64::MAX);
        assert_eq!(arenas.bytes, [256, 256]);
        for i in 0..9 {
            assert_ne!(arenas.place[&i].arena, arenas.place[&(i + 1)].arena);
        }
        // Large, small, small, large: two arenas would need two large places.
        let sizes = [1000, 10, 10, 1000];
        let uneven: Vec<_> =
            (0..4).map(|i| Lifetime { key: i, bytes: 256 * sizes[i], from: i, to: i + 1 }).collect();
        let arenas = arrange(&uneven, &accesses[..3], 256, u64::MAX);
        assert_eq!(arenas.bytes, [256 * 1010]);
        sound(&uneven, &arenas, 256, u64::MAX);
    }
}
