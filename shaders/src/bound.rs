//! How tensors are bound to a kernel: each as one range of a buffer, or, where that is more than a device binds at once,
//! in pieces that are bindings of their own.

use std::fmt::Write;

use crate::Capabilities;

/// How a kernel's tensors are bound: what is read for reading only, and each in one range, unless this says otherwise.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Bound {
    /// Which reads are bound as if they were written, a bit to each: a buffer that a dispatch writes cannot be bound for
    /// reading only besides.
    pub writable: u64,
    /// In how many pieces each tensor is bound: reads, then writes. Those behind the end are whole.
    pub pieces: Vec<u32>,
    /// Bytes of every piece but the last of a tensor: a power of two.
    pub piece_bytes: u64,
    /// Operands of the expression that lie where one of its results goes: the tensor read, and the tensor written. They have
    /// no binding of their own, so that nothing is bound twice and the compiler sees that they are the same memory.
    pub replaced: Vec<(usize, usize)>,
}

impl Bound {
    /// How `tensors` of so many bytes are bound on a device.
    pub fn new(caps: &Capabilities, writable: u64, replaced: Vec<(usize, usize)>, tensors: &[u64]) -> Bound {
        let pieces: Vec<u32> = tensors.iter().map(|&bytes| caps.pieces(bytes)).collect();
        match pieces.iter().all(|&count| count == 1) {
            true => Bound { writable, replaced, ..Bound::default() },
            false => Bound { writable, pieces, piece_bytes: caps.piece_bytes(), replaced },
        }
    }

    /// In how many pieces a tensor is bound; 0 when it is bound with the one that replaces it.
    pub fn pieces(&self, tensor: usize) -> u32 {
        match self.replaced_by(tensor) {
            Some(_) => 0,
            None => self.pieces.get(tensor).copied().unwrap_or(1),
        }
    }

    /// The tensor that is written over one that is read.
    pub fn replaced_by(&self, tensor: usize) -> Option<usize> {
        self.replaced.iter().find(|(read, _)| *read == tensor).map(|(_, write)| *write)
    }

    /// Whether a read is bound as if it were written.
    pub fn writable(&self, tensor: usize) -> bool {
        u32::try_from(tensor).ok().and_then(|bit| self.writable.checked_shr(bit)).unwrap_or(0) & 1 == 1
    }

    /// The offset and size of the ranges that a tensor of so many bytes is bound in.
    pub fn ranges(&self, tensor: usize, bytes: u64) -> impl Iterator<Item = (u64, u64)> + use<> {
        let (count, piece) = (u64::from(self.pieces(tensor)), self.piece_bytes);
        (0..count).map(move |index| match index + 1 == count {
            true => (index * piece, bytes.saturating_sub(index * piece)),
            false => (index * piece, piece),
        })
    }
}

/// The bindings of one tensor in a kernel's source.
pub(crate) struct Slot<'a> {
    /// The first binding.
    pub(crate) index: usize,
    /// What its accessors are called after.
    pub(crate) name: &'a str,
    /// The array: its own, or that of the tensor that replaces it.
    pub(crate) array: &'a str,
    pub(crate) write: bool,
    pub(crate) pieces: u32,
    pub(crate) piece_bytes: u64,
}

impl Slot<'_> {
    /// Writes the bindings: arrays of elements of this WGSL type and size.
    pub(crate) fn declare(&self, out: &mut String, element: &str, bytes: u64) {
        if self.name != self.array {
            return;
        }
        let access = if self.write { "read_write" } else { "read" };
        let mut declare = |index: usize, name: &str| {
            let binding = self.index + index;
            let _ = writeln!(
                out,
                "@group(0) @binding({binding}) var<storage, {access}> {name}: array<{element}>;"
            );
        };
        if self.pieces <= 1 {
            return declare(0, self.name);
        }
        let name = self.name;
        (0..self.pieces).for_each(|piece| declare(piece as usize, &format!("{name}_piece{piece}")));
        let reads = self.each_piece(bytes, |piece| format!("return {name}_piece{piece}[at];"));
        let _ = writeln!(out, "fn {name}_load(i: u32) -> {element} {{ {reads} }}");
    }

    /// Writes what [`Slot::store`] calls, besides the bindings.
    pub(crate) fn declare_stores(&self, out: &mut String, element: &str, bytes: u64) {
        if self.pieces > 1 {
            let name = self.name;
            let writes = self.each_piece(bytes, |piece| format!("{name}_piece{piece}[at] = v; return;"));
            let _ = writeln!(out, "fn {name}_store(i: u32, v: {element}) {{ {writes} }}");
        }
    }

    /// Statements that do something with element `at` of the piece that holds element `i`.
    fn each_piece(&self, bytes: u64, what: impl Fn(u32) -> String) -> String {
        let elements = (self.piece_bytes / bytes).max(1);
        let last = self.pieces - 1;
        let mut text = format!("let piece = i / {elements}u; let at = i % {elements}u; ");
        for piece in 0..last {
            let _ = write!(text, "if (piece == {piece}u) {{ {} }} ", what(piece));
        }
        text + &what(last)
    }

    /// An expression: the array element at an index.
    pub(crate) fn load(&self, at: &str) -> String {
        match self.pieces {
            0 | 1 => format!("{}[{at}]", self.array),
            _ => format!("{}_load({at})", self.array),
        }
    }

    /// A statement that stores an array element.
    pub(crate) fn store(&self, at: &str, value: &str) -> String {
        match self.pieces {
            0 | 1 => format!("{}[{at}] = {value};", self.name),
            _ => format!("{}_store({at}, {value});", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_tensor() {
        let caps = Capabilities { binding_bytes: 1000, ..Capabilities::BASELINE };
        let bound = Bound::new(&caps, 2, Vec::new(), &[16, 1000, 1008, 2048]);
        assert_eq!((bound.pieces.as_slice(), bound.piece_bytes), ([1, 1, 2, 4].as_slice(), 512));
        assert_eq!((bound.writable(0), bound.writable(1), bound.writable(64)), (false, true, false));
        assert_eq!(bound.ranges(0, 16).collect::<Vec<_>>(), [(0, 16)]);
        assert_eq!(bound.ranges(2, 1008).collect::<Vec<_>>(), [(0, 512), (512, 496)]);
        assert_eq!(bound.ranges(3, 2048).map(|(_, bytes)| bytes).sum::<u64>(), 2048);
        let whole = Bound::new(&caps, 0, Vec::new(), &[16, 1000]);
        assert_eq!(whole, Bound::default());
        assert_eq!(whole.ranges(1, 1000).collect::<Vec<_>>(), [(0, 1000)]);
        let replaced = Bound::new(&caps, 0, vec![(1, 2)], &[16, 2048, 2048]);
        assert_eq!([0, 1, 2].map(|tensor| replaced.pieces(tensor)), [1, 0, 4]);
        assert_eq!((replaced.replaced_by(1), replaced.replaced_by(2)), (Some(2), None));
        assert_eq!(replaced.ranges(1, 2048).count(), 0);
    }
}
