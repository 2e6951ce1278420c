//! Weights on a device: each is there once, however many programs read it. Programs for other sizes of the same model then cost
//! neither its memory nor its upload again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use sardonyx_ops::repacked::{Order, Repacked};
use sardonyx_ops::{DType, OpError, Tensor};
use sardonyx_shaders::storage::Storage;

use super::rounding::{self, Line, Lines};
use super::{BufferPlace, run};
use crate::device::Gpu;
use crate::error::{Error, Result};
use crate::transfer::{buffer_bytes, to_device};

/// Bytes of weights in one buffer, unless a single tensor is larger.
const SHELF: u64 = 64 << 20;

/// Bytes written to the device before it gets to work them off, while the next ones are written.
const UPLOAD_CHUNK: usize = 16 << 20;

/// What tells weights apart: the bytes they are made of, how they lie on the device, and how they are rounded for that.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Identity {
    at: usize,
    bytes: usize,
    /// Types may share bytes: what casts bits keeps them.
    dtype: DType,
    storage: Storage,
    rounded: Option<Line>,
    order: Option<Order>,
}

/// A buffer of weights.
pub(crate) struct Shelf {
    pub(super) buffer: wgpu::Buffer,
    /// What the weights were made of; while this lives, nothing else has its address.
    _sources: Vec<Bytes>,
}

/// The weights on a device.
#[derive(Default)]
pub(crate) struct Known(Mutex<HashMap<Identity, (Weak<Shelf>, u64)>>);

impl Known {
    /// Weights that are on the device, and the byte of their buffer that they begin at.
    fn find(&self, identity: &Identity) -> Option<(Arc<Shelf>, u64)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (shelf, offset) = known.get(identity)?;
        Some((shelf.upgrade()?, *offset))
    }

    fn add(&self, new: Vec<(Identity, (Weak<Shelf>, u64))>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (shelf, _)| shelf.strong_count() > 0);
        known.extend(new);
    }
}

/// A buffer that a program's weights lie in.
enum Room {
    /// It is there.
    Held(Arc<Shelf>),
    /// It will have so many bytes.
    New(u64),
}

/// A tensor that goes to the device.
struct Weight {
    source: Tensor,
    storage: Storage,
    rounded: Option<Line>,
    /// It goes there in this order.
    order: Option<Order>,
    /// Later programs find it.
    shared: bool,
    room: usize,
    offset: u64,
}

impl Weight {
    /// It has no room yet.
    fn new(source: &Tensor, storage: Storage, shared: bool) -> Weight {
        let source = source.clone();
        Weight { source, storage, rounded: None, order: None, shared, room: 0, offset: 0 }
    }

    /// What later programs know it by.
    fn identity(&self) -> Identity {
        let source = self.source.shared_bytes();
        let (at, bytes, dtype) = (source.as_ptr() as usize, source.len(), self.source.dtype());
        let Weight { storage, rounded, .. } = *self;
        Identity { at, bytes, dtype, storage, rounded, order: self.order.clone() }
    }

    /// What goes to the device: the source, rounded and in its order.
    fn finished(&self) -> Result<Tensor> {
        let rounded = self.rounded.and_then(|line| rounding::rounded(&self.source, line));
        let source = rounded.unwrap_or_else(|| self.source.clone());
        let failed = |error: OpError| Error::Internal(format!("weights cannot be reordered: {error}"));
        self.order.as_ref().map_or(Ok(source.clone()), |order| order.of(&source)).map_err(failed)
    }
}

/// The weights of a program before they are on the device.
pub(super) struct Weights<'a> {
    known: Option<&'a Known>,
    rooms: Vec<Room>,
    new: Vec<Weight>,
    /// Most bytes of a new room, and the one with space left.
    full: u64,
    open: Option<usize>,
    alignment: u64,
}

impl<'a> Weights<'a> {
    /// `known` has what earlier programs put on the device, whose buffers take at most `most` bytes.
    pub(super) fn new(known: Option<&'a Known>, most: u64, alignment: u64) -> Weights<'a> {
        Weights { known, rooms: Vec::new(), new: Vec::new(), full: most.min(SHELF), open: None, alignment }
    }

    /// The place of a constant of the model: where an earlier program put it, or a new one.
    pub(super) fn constant(&mut self, source: &Tensor, storage: Storage, lines: &Lines) -> BufferPlace {
        let rounded = lines.of(source).filter(|_| storage == Storage::F16);
        self.place(source.len(), Weight { rounded, ..Weight::new(source, storage, true) })
    }

    /// The same of what a kernel wants. What it made for itself is its program's alone.
    pub(super) fn packed(&mut self, packed: &Repacked, storage: Storage, lines: &Lines) -> BufferPlace {
        let weight = match packed {
            Repacked::Made(tensor) => Weight::new(tensor, storage, false),
            Repacked::Reordered { source, order } => {
                let rounded = lines.of(source).filter(|_| storage == Storage::F16);
                Weight { rounded, order: Some(order.clone()), ..Weight::new(source, storage, true) }
            }
        };
        self.place(packed.len(), weight)
    }

    /// The place of a weight of `len` elements on the device.
    fn place(&mut self, len: usize, weight: Weight) -> BufferPlace {
        let bytes = buffer_bytes(weight.storage, len);
        let known = self.known.filter(|_| weight.shared);
        if let Some((shelf, offset)) = known.and_then(|known| known.find(&weight.identity())) {
            let held = |room: &Room| matches!(room, Room::Held(other) if Arc::ptr_eq(other, &shelf));
            let buffer = self.rooms.iter().position(held).unwrap_or(self.rooms.len());
            if buffer == self.rooms.len() {
                self.rooms.push(Room::Held(shelf));
            }
            return BufferPlace::Weights { buffer, offset, bytes };
        }
        let wanted = bytes.next_multiple_of(self.alignment);
        let size = |room: &Room| if let Room::New(size) = room { *size } else { 0 };
        let open = self.open.filter(|&room| self.rooms.get(room).map_or(0, size) + wanted <= self.full);
        let room = open.unwrap_or(self.rooms.len());
        if room == self.rooms.len() {
            self.rooms.push(Room::New(0));
        }
        self.open = Some(room);
        let offset = size(&self.rooms[room]);
        self.rooms[room] = Room::New(offset + wanted);
        self.new.push(Weight { room, offset, ..weight });
        BufferPlace::Weights { buffer: room, offset, bytes }
    }

    /// Bytes of the buffers.
    pub(super) fn sizes(&self) -> Vec<u64> {
        let size = |room: &Room| match room {
            Room::Held(shelf) => shelf.buffer.size(),
            Room::New(size) => *size,
        };
        self.rooms.iter().map(size).collect()
    }

    /// Makes the buffers that are not there yet, and uploads what they hold.
    pub(super) fn upload(&self, gpu: &Gpu) -> Result<Vec<Arc<Shelf>>> {
        let mut shelves = Vec::with_capacity(self.rooms.len());
        for (index, room) in self.rooms.iter().enumerate() {
            shelves.push(match room {
                Room::Held(shelf) => Arc::clone(shelf),
                Room::New(size) => {
                    let buffer = gpu.scoped(|| {
                        gpu.device().create_buffer(&wgpu::BufferDescriptor {
                            label: Some("weights"),
                            size: *size,
                            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
                            mapped_at_creation: false,
                        })
                    })?;
                    let own = self.new.iter().filter(|weight| weight.room == index);
                    let sources = own.filter(|weight| weight.shared);
                    let sources = sources.map(|weight| weight.source.shared_bytes()).collect();
                    Arc::new(Shelf { buffer, _sources: sources })
                }
            });
        }
        let (mut written, mut before) = (0, None);
        for weight in &self.new {
            let finished = weight.finished()?;
            let data = to_device(&finished.view(), weight.storage);
            for (index, chunk) in data.chunks(UPLOAD_CHUNK).enumerate() {
                let offset = weight.offset + (index * UPLOAD_CHUNK) as u64;
                gpu.queue().write_buffer(&shelves[weight.room].buffer, offset, chunk);
                written += chunk.len();
                if written >= UPLOAD_CHUNK {
                    // Staging memory is freed when the device has copied it.
                    if let Some(before) = before.replace(gpu.queue().submit(None)) {
                        gpu.wait(Some(before), run::WAIT_LIMIT)?;
                    }
                    written = 0;
                }
            }
        }
        gpu.queue().submit(None);
        gpu.check()?;
        if let Some(known) = self.known {
            let shared = self.new.iter().filter(|weight| weight.shared);
            let known_by =
                |weight: &Weight| (weight.identity(), (Arc::downgrade(&shelves[weight.room]), weight.offset));
            known.add(shared.map(known_by).collect());
        }
        Ok(shelves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Device, DeviceKind, Select};

    #[test]
    #[allow(clippy::print_stderr, reason = "a test that is passed over says so")]
    fn later_programs_find_the_weights_of_earlier_ones() {
        let gpus = Device::list().into_iter().filter(|info| info.kind != DeviceKind::Cpu);
        let opened: Vec<Device> =
            gpus.filter_map(|info| Device::open(Select::parse(&info.id)).ok()).collect();
        let demanded = std::env::var_os("SARDONYX_TEST_ADAPTERS").is_some();
        assert!(
            !opened.is_empty() || !demanded,
            "SARDONYX_TEST_ADAPTERS demands adapters, and there are none"
        );
        if opened.is_empty() {
            eprintln!("*** NO GPU ADAPTER: nothing is uploaded in this test. ***");
        }
        for device in opened {
            let gpu = device.gpu().unwrap();
            let tensor = Tensor::from_vec(&[100], vec![0.5f32; 100]).unwrap();
            let twin = Tensor::from_vec(&[100], vec![0.5f32; 100]).unwrap();
            let start = || Weights::new(Some(gpu.weights()), u64::MAX, 256);
            let (mut first, mut second) = (start(), start());
            let plain = Lines::default();
            let place = first.constant(&tensor, Storage::F32, &plain);
            let own = first.packed(&Repacked::Made(tensor.clone()), Storage::F32, &plain);
            let turned = Repacked::reordered(&tensor, &[50, 2], &[1, 50], 4).unwrap();
            let ordered = first.packed(&turned, Storage::F32, &plain);
            assert!(place != own && own != ordered && ordered.bytes() > place.bytes());
            let shelves = first.upload(gpu).unwrap();
            assert_eq!(second.constant(&tensor, Storage::F32, &plain), place);
            assert_eq!((second.packed(&turned, Storage::F32, &plain), second.new.len()), (ordered, 0));
            let found = second.upload(gpu).unwrap();
            assert!(found.len() == 1 && Arc::ptr_eq(&found[0], &shelves[0]));
            // Other bytes, another type, another layout, another rounding and another order are other weights.
            let bits = Tensor::from_bytes(DType::F16, &[200], tensor.shared_bytes()).unwrap();
            second.constant(&bits, Storage::F32, &plain);
            second.constant(&twin, Storage::F32, &plain);
            second.constant(&tensor, Storage::F16, &plain);
            let mut lines = Lines::default();
            lines.add(&tensor, Line { blocks: 1, len: 100, lines: 1 });
            second.constant(&tensor, Storage::F16, &lines);
            second.packed(&turned, Storage::F16, &lines);
            assert_eq!(second.new.len(), 5);
            drop((first, second, shelves, found));
            let mut third = start();
            third.constant(&tensor, Storage::F32, &plain);
            assert_eq!(third.new.len(), 1, "what nobody holds is gone");
        }
    }
}
