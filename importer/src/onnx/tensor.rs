//! Constants of a model (`TensorProto`), and their way to tensors.
//!
//! Raw data and packed floats are used where they lie; other lists are unpacked when the tensor is asked for,
//! not when the file is read.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use sardonyx_ops::ir::tensor::element_count;
use sardonyx_ops::{DType, Tensor};

use super::decode::{Decoder, Entry, Message};
use super::limits::LoadLimits;
use super::wire::{Field, Reader, Run};
use crate::error::{Budget, ImportError, InvalidFault, Place, UnsupportedFault};

type Result<T> = std::result::Result<T, ImportError>;

/// A constant as the file has it.
#[derive(Debug, Clone, Default)]
pub struct TensorProto {
    /// Its name; empty in attributes.
    pub name: Arc<str>,
    /// Its dimensions, not checked.
    pub dims: Vec<i64>,
    /// The ONNX number of its element type, not checked.
    pub data_type: i64,
    /// Its elements.
    pub data: TensorData,
}

/// Where the elements of a constant are.
#[derive(Clone, Default)]
pub enum TensorData {
    /// Nowhere; right for tensors without elements.
    #[default]
    Absent,
    /// In the file, as the tensor has them in memory: little-endian, packed.
    Raw(Bytes),
    /// In the file, as a list of numbers or strings.
    Typed(TypedData),
    /// In another file: the keys and values of `external_data`.
    External(Vec<(Arc<str>, Arc<str>)>),
}

impl fmt::Debug for TensorData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TensorData::Absent => f.write_str("Absent"),
            TensorData::Raw(bytes) => write!(f, "Raw({} bytes)", bytes.len()),
            TensorData::Typed(typed) => write!(f, "Typed({})", typed.field.name()),
            TensorData::External(entries) => write!(f, "External({entries:?})"),
        }
    }
}

/// A list of numbers or strings, still in the form of the file.
#[derive(Clone)]
pub struct TypedData {
    field: TypedField,
    /// The whole `TensorProto`.
    body: Bytes,
    /// Where `body` begins in the file.
    base: u64,
}

/// The lists that `TensorProto` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TypedField {
    Float,
    Int32,
    String,
    Int64,
    Double,
    Uint64,
}

impl TypedField {
    fn from_number(number: u32) -> Option<TypedField> {
        Some(match number {
            4 => TypedField::Float,
            5 => TypedField::Int32,
            6 => TypedField::String,
            7 => TypedField::Int64,
            10 => TypedField::Double,
            11 => TypedField::Uint64,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            TypedField::Float => "float_data",
            TypedField::Int32 => "int32_data",
            TypedField::String => "string_data",
            TypedField::Int64 => "int64_data",
            TypedField::Double => "double_data",
            TypedField::Uint64 => "uint64_data",
        }
    }

    /// The list that holds elements of this type.
    fn of(dtype: DType) -> TypedField {
        match dtype {
            DType::F32 | DType::C64 => TypedField::Float,
            DType::F64 | DType::C128 => TypedField::Double,
            DType::I64 => TypedField::Int64,
            DType::U32 | DType::U64 => TypedField::Uint64,
            DType::Str => TypedField::String,
            _ => TypedField::Int32,
        }
    }
}

/// The fields of a `TensorProto`, before they are known to fit together.
#[derive(Default)]
pub(super) struct RawTensor {
    name: Arc<str>,
    dims: Vec<i64>,
    data_type: i64,
    raw: Option<Bytes>,
    typed: Option<TypedField>,
    second: Option<TypedField>,
    segmented: bool,
    external: Vec<(Arc<str>, Arc<str>)>,
    location: i64,
}

impl Message for RawTensor {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        match field.number {
            1 => field.each_int(|dim| decoder.push(&mut self.dims, dim.cast_signed()))?,
            2 => self.data_type = field.int()?,
            3 => self.segmented = true,
            8 => self.name = decoder.name(field)?,
            9 => self.raw = Some(field.bytes()?),
            13 => {
                let Entry(key, value) = decoder.message(field)?;
                decoder.push(&mut self.external, (key, value))?;
            }
            14 => self.location = field.int()?,
            number => {
                if let Some(typed) = TypedField::from_number(number) {
                    // An empty packed run is no data.
                    let empty =
                        typed != TypedField::String && field.inner().is_ok_and(|run| run.rest().is_empty());
                    match self.typed {
                        _ if empty => {}
                        None => self.typed = Some(typed),
                        Some(first) if first == typed => {}
                        Some(_) => self.second = Some(typed),
                    }
                }
            }
        }
        Ok(())
    }
}

impl RawTensor {
    /// Settles where the data is; `body` is the message that was read.
    pub fn finish(self, body: &Reader<'_>) -> Result<TensorProto> {
        const EXTERNAL: i64 = 1;
        let fail =
            |fault, detail: &'static str| Err(ImportError::invalid(Place::value(&self.name), fault, detail));
        if self.segmented {
            return fail(InvalidFault::TensorData, "segments of tensors are not part of a model");
        }
        let raw = self.raw.filter(|raw| !raw.is_empty());
        let data = match (self.location, raw, self.typed, self.second) {
            (EXTERNAL, None, None, None) => TensorData::External(self.external),
            (EXTERNAL, ..) => {
                return fail(InvalidFault::TensorData, "data both in the model and in another file");
            }
            (0, None, None, None) => TensorData::Absent,
            (0, Some(raw), None, None) => TensorData::Raw(raw),
            (0, None, Some(field), None) => {
                TensorData::Typed(TypedData { field, body: body.shared(), base: body.offset() })
            }
            (0, ..) => return fail(InvalidFault::TensorData, "data in more than one field"),
            _ => return fail(InvalidFault::TensorData, "unknown data_location"),
        };
        Ok(TensorProto { name: self.name, dims: self.dims, data_type: self.data_type, data })
    }
}

/// The type and dimensions of a constant, checked.
pub(super) struct Layout {
    pub dtype: DType,
    pub dims: Vec<usize>,
    /// Number of elements.
    pub count: usize,
    /// Bytes of packed elements; 0 for strings.
    pub bytes: usize,
}

/// Checks dimensions: not too many, none negative, elements and bytes within the address space and the budget.
///
/// # Errors
/// [`InvalidFault::Shape`], [`Budget::Rank`] or [`Budget::TensorBytes`], at `place`.
pub(super) fn layout(dtype: DType, dims: &[i64], limits: &LoadLimits, place: &Place) -> Result<Layout> {
    let shape = |detail: String| ImportError::invalid(place.clone(), InvalidFault::Shape, detail);
    let rank = dims.len() as u64;
    if rank > limits.rank {
        return Err(ImportError::budget(place.clone(), Budget::Rank, rank, limits.rank));
    }
    let mut checked = Vec::with_capacity(dims.len());
    for &dim in dims {
        checked.push(usize::try_from(dim).map_err(|_| shape(format!("dimension {dim} in {dims:?}")))?);
    }
    let overflow = || shape(format!("{dims:?} of {dtype} is larger than any memory"));
    let count = element_count(&checked).ok_or_else(overflow)?;
    let (size, allowed) = match dtype {
        // A string takes its handle in memory at least, and is never shared with the file.
        DType::Str => {
            (count.checked_mul(size_of::<String>()), limits.tensor_bytes.min(limits.structure_bytes))
        }
        _ => (dtype.bytes_for(count), limits.tensor_bytes),
    };
    let size = size.ok_or_else(overflow)?;
    if size as u64 > allowed {
        let asked = size as u64;
        return Err(ImportError::budget(place.clone(), Budget::TensorBytes, asked, allowed));
    }
    let bytes = if dtype == DType::Str { 0 } else { size };
    Ok(Layout { dtype, dims: checked, count, bytes })
}

impl TensorProto {
    pub(super) fn place(&self) -> Place {
        if self.name.is_empty() { Place::model() } else { Place::value(&self.name) }
    }

    /// Checks what can be checked without touching the elements: type, dimensions, length of raw data.
    pub(super) fn layout(&self, limits: &LoadLimits) -> Result<Layout> {
        let place = self.place();
        let Some(dtype) = DType::from_onnx(self.data_type) else {
            return Err(match self.data_type {
                0 => ImportError::invalid(place, InvalidFault::ElementType, "the tensor has no element type"),
                number => ImportError::unsupported(
                    place,
                    UnsupportedFault::ElementType,
                    format!("element type number {number}"),
                ),
            });
        };
        let layout = layout(dtype, &self.dims, limits, &place)?;
        let wrong =
            |detail: String| Err(ImportError::invalid(self.place(), InvalidFault::TensorData, detail));
        match &self.data {
            TensorData::Raw(_) | TensorData::External(_) if dtype == DType::Str => {
                wrong("strings can only be in string_data".into())
            }
            TensorData::Raw(raw) if raw.len() != layout.bytes => {
                let (expected, got) = (layout.bytes, raw.len());
                wrong(format!("{dtype}{:?} needs {expected} bytes, raw_data has {got}", self.dims))
            }
            TensorData::Absent if layout.count != 0 => wrong(format!("{dtype}{:?} has no data", self.dims)),
            TensorData::Typed(typed) if typed.field != TypedField::of(dtype) => {
                let (got, expected) = (typed.field.name(), TypedField::of(dtype).name());
                wrong(format!("elements of {dtype} belong in {expected}, not in {got}"))
            }
            // Every element takes a byte at least: nothing is allocated for a count beyond that.
            TensorData::Typed(typed) if typed.elements_at_most(dtype) < layout.count => {
                wrong(format!("{dtype}{:?} has fewer elements in {}", self.dims, typed.field.name()))
            }
            _ => Ok(layout),
        }
    }
}

/// The tensor of a constant that is in the model file. Raw data is shared with the file, not copied.
///
/// # Errors
/// [`ImportError::Invalid`] for negative or overflowing dimensions, data of another length or kind than the
/// type says, values out of the type's range, and external data, for which see
/// [`super::external::ExternalData`]; [`ImportError::Unsupported`] for an unknown element type;
/// [`ImportError::BudgetExceeded`] for a tensor larger than the limit.
pub fn to_tensor(tensor: &TensorProto, limits: &LoadLimits) -> Result<Tensor> {
    let layout = tensor.layout(limits)?;
    let fail = |detail: String| ImportError::invalid(tensor.place(), InvalidFault::TensorData, detail);
    match &tensor.data {
        TensorData::Absent if layout.dtype == DType::Str => Tensor::from_strings(&layout.dims, Vec::new()),
        TensorData::Absent => Tensor::from_bytes(layout.dtype, &layout.dims, Bytes::new()),
        TensorData::Raw(raw) => return from_raw(&layout, raw.clone(), tensor),
        TensorData::Typed(typed) if layout.dtype == DType::Str => {
            Tensor::from_strings(&layout.dims, typed.strings(layout.count, &fail)?)
        }
        TensorData::Typed(typed) => {
            Tensor::from_bytes(layout.dtype, &layout.dims, typed.bytes(&layout, &fail)?)
        }
        TensorData::External(_) => {
            return Err(ImportError::invalid(
                tensor.place(),
                InvalidFault::ExternalData,
                "the data is in another file, and the model's folder is not known",
            ));
        }
    }
    .map_err(|error| fail(error.to_string()))
}

/// A tensor over bytes as they are in memory. Truth values are made 0 or 1, which costs a copy only where
/// they are something else.
pub(super) fn from_raw(layout: &Layout, raw: Bytes, tensor: &TensorProto) -> Result<Tensor> {
    let raw = if layout.dtype == DType::Bool && raw.iter().any(|&byte| byte > 1) {
        Bytes::from_iter(raw.iter().map(|&byte| u8::from(byte != 0)))
    } else {
        raw
    };
    Tensor::from_bytes(layout.dtype, &layout.dims, raw)
        .map_err(|e| ImportError::invalid(tensor.place(), InvalidFault::TensorData, e.to_string()))
}

/// Reads a `TensorProto` file, as test sets have them (`input_0.pb`): its name and the tensor.
///
/// # Errors
/// As [`to_tensor`], and [`ImportError::Parse`].
pub fn decode_tensor(bytes: Bytes, limits: &LoadLimits) -> Result<(Arc<str>, Tensor)> {
    let reader = Reader::new(&bytes, 0);
    let mut raw = RawTensor::default();
    Decoder::new(limits).read(&mut raw, reader)?;
    let tensor = raw.finish(&reader)?;
    Ok((tensor.name.clone(), to_tensor(&tensor, limits)?))
}

impl TypedData {
    /// No list in this message has more elements.
    fn elements_at_most(&self, dtype: DType) -> usize {
        let per_byte = match dtype.bits() {
            2 => 4,
            4 => 2,
            _ => 1,
        };
        self.body.len().saturating_mul(per_byte)
    }

    /// The fields of the list, in order.
    fn each_field(&self, mut each: impl FnMut(&Field<'_>) -> Result<()>) -> Result<()> {
        let mut reader = Reader::new(&self.body, self.base);
        while let Some(field) = reader.next_field()? {
            if TypedField::from_number(field.number) == Some(self.field) {
                each(&field)?;
            }
        }
        Ok(())
    }

    fn strings(&self, count: usize, fail: &dyn Fn(String) -> ImportError) -> Result<Vec<String>> {
        let mut strings = Vec::new();
        self.each_field(|field| {
            let text = std::str::from_utf8(field.inner()?.rest())
                .map_err(|_| fail(format!("string {} is not UTF-8", strings.len())))?;
            if strings.len() == count {
                return Err(fail(format!("string_data has more than {count} strings")));
            }
            strings.push(text.to_owned());
            Ok(())
        })?;
        if strings.len() != count {
            return Err(fail(format!("{count} strings are needed, string_data has {}", strings.len())));
        }
        Ok(strings)
    }

    /// The packed elements.
    fn bytes(&self, layout: &Layout, fail: &dyn Fn(String) -> ImportError) -> Result<Bytes> {
        match self.field {
            TypedField::Float => self.fixed(|field| field.run_of_4()),
            TypedField::Double => self.fixed(|field| field.run_of_8()),
            _ => self.integers(layout, fail),
        }
    }

    /// Elements that the file has in their memory form: shared when they are in one piece.
    fn fixed(&self, run: impl for<'f> Fn(&Field<'f>) -> Result<Run<'f>>) -> Result<Bytes> {
        let mut whole = Bytes::new();
        let mut pieces: Vec<u8> = Vec::new();
        self.each_field(|field| {
            let run = run(field)?;
            match run {
                Run::Many(run) if whole.is_empty() && pieces.is_empty() => whole = run.shared(),
                _ => {
                    pieces.extend_from_slice(&std::mem::take(&mut whole));
                    pieces.extend_from_slice(run.as_bytes());
                }
            }
            Ok(())
        })?;
        Ok(if pieces.is_empty() { whole } else { pieces.into() })
    }

    /// Integers, and small types in the low bits of integers, each checked to fit the element type.
    fn integers(&self, layout: &Layout, fail: &dyn Fn(String) -> ImportError) -> Result<Bytes> {
        // Sub-byte elements share an entry: one byte of packed elements each.
        let entry_bytes = layout.dtype.bits().div_ceil(8).max(1);
        let entries = layout.bytes.checked_div(entry_bytes).unwrap_or(0);
        let mut bytes: Vec<u8> = Vec::new();
        bytes.try_reserve_exact(layout.bytes).map_err(|error| fail(error.to_string()))?;
        let mut seen = 0usize;
        self.each_field(|field| {
            field.each_int(|entry| {
                seen = seen.saturating_add(1);
                if seen <= entries {
                    let entry = normal_entry(layout.dtype, entry).ok_or_else(|| {
                        fail(format!("entry {} is out of the range of {}", entry.cast_signed(), layout.dtype))
                    })?;
                    bytes.extend(entry.to_le_bytes().iter().take(entry_bytes));
                }
                Ok(())
            })
        })?;
        if seen != entries {
            let name = self.field.name();
            return Err(fail(format!("{entries} entries are needed, {name} has {seen}")));
        }
        Ok(bytes.into())
    }
}

/// Checks one entry of an integer list for an element type; its low bytes are the element.
fn normal_entry(dtype: DType, entry: u64) -> Option<u64> {
    // Protobuf gives the low 32 bits of an int32 alone a meaning.
    let low = i32::from_le_bytes(*entry.to_le_bytes().first_chunk()?);
    let range = match dtype {
        DType::I64 | DType::U64 => return Some(entry),
        DType::U32 => return u32::try_from(entry).ok().map(u64::from),
        DType::I32 => return Some(entry),
        DType::Bool => return Some(u64::from(low != 0)),
        DType::I8 => -0x80..=0x7f,
        DType::U8 => 0..=0xff,
        DType::I16 => -0x8000..=0x7fff,
        DType::U16 => 0..=0xffff,
        // Bit patterns: some writers extend their sign.
        DType::F16 | DType::BF16 => -0x8000..=0xffff,
        _ => -0x80..=0xff,
    };
    range.contains(&low).then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::encode_tensor;
    use crate::onnx::testing::{bytes, fixed32, int, packed};

    fn decode(message: Vec<u8>) -> Result<Tensor> {
        decode_tensor(message.into(), &LoadLimits::default()).map(|(_, tensor)| tensor)
    }

    /// A tensor of `data_type` with dimensions `dims` and one list field.
    fn typed(data_type: i64, dims: &[i64], field: u32, entries: &[i64]) -> Result<Tensor> {
        let dims: Vec<u64> = dims.iter().map(|d| *d as u64).collect();
        let entries: Vec<u64> = entries.iter().map(|d| *d as u64).collect();
        decode([packed(1, &dims), int(2, data_type as u64), packed(field, &entries)].concat())
    }

    #[test]
    fn small_types_in_int32_data() {
        let ok = |number: i64, dims: &[i64], entries: &[i64], expected: &[u8]| {
            let tensor = typed(number, dims, 5, entries).unwrap();
            assert_eq!(tensor.dtype().to_onnx() as i64, number);
            assert_eq!(tensor.bytes(), expected, "{tensor:?}");
        };
        ok(2, &[3], &[0, 127, 255], &[0, 127, 255]);
        ok(3, &[3], &[-128, 0, 127], &[0x80, 0, 0x7f]);
        ok(4, &[2], &[0x1234, 0xffff], &[0x34, 0x12, 0xff, 0xff]);
        ok(5, &[2], &[-2, 0x7fff], &[0xfe, 0xff, 0xff, 0x7f]);
        ok(6, &[2], &[-1, i32::MAX.into()], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        // A 32-bit writer does not extend the sign.
        ok(6, &[1], &[0xffff_fffe], &[0xfe, 0xff, 0xff, 0xff]);
        ok(9, &[3], &[0, 1, 2], &[0, 1, 1]);
        ok(10, &[2], &[0x3c00, 0xfc00], &[0x00, 0x3c, 0x00, 0xfc]);
        ok(16, &[1], &[0x3f80], &[0x80, 0x3f]);
        for number in 17..=20 {
            ok(number, &[2], &[0x38, 0xff], &[0x38, 0xff]);
        }
        ok(24, &[1], &[0x7f], &[0x7f]);
        // Two and four elements to an entry.
        for number in 21..=23 {
            ok(number, &[3], &[0x21, 0x0f], &[0x21, 0x0f]);
        }
        for number in 25..=26 {
            ok(number, &[1, 5], &[0xe4, 0x01], &[0xe4, 0x01]);
        }
        ok(2, &[], &[7], &[7]);
        ok(2, &[0, 5], &[], &[]);
    }

    #[test]
    fn wide_types_have_their_own_lists() {
        assert_eq!(typed(7, &[2], 7, &[-1, i64::MIN]).unwrap().to_vec::<i64>().unwrap(), [-1, i64::MIN]);
        assert_eq!(typed(13, &[1], 11, &[-1]).unwrap().to_vec::<u64>().unwrap(), [u64::MAX]);
        assert_eq!(typed(12, &[1], 11, &[0xffff_ffff]).unwrap().to_vec::<u32>().unwrap(), [u32::MAX]);
        let doubles = bytes(10, &[1.5f64.to_le_bytes(), 2.0f64.to_le_bytes()].concat());
        let tensor = decode([int(1, 2), int(2, 11), doubles.clone()].concat()).unwrap();
        assert_eq!(tensor.to_vec::<f64>().unwrap(), [1.5, 2.0]);
        assert_eq!(decode([int(1, 1), int(2, 15), doubles].concat()).unwrap().dtype(), DType::C128);
        let texts = [bytes(6, b"a"), bytes(6, b""), bytes(6, "ü".as_bytes())].concat();
        let tensor = decode([int(1, 3), int(2, 8), texts.clone()].concat()).unwrap();
        assert_eq!(tensor.strings().unwrap(), ["a", "", "ü"]);
        assert_eq!(decode([int(1, 2), int(2, 8), texts].concat()).unwrap_err().code(), "SDX-0210");
        assert_eq!(
            decode([int(1, 1), int(2, 8), bytes(6, &[0xff])].concat()).unwrap_err().code(),
            "SDX-0210"
        );
    }

    #[test]
    fn float_lists_packed_single_and_mixed() {
        let run = bytes(4, &[1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat());
        let one = fixed32(4, 3.0f32.to_bits());
        for (dims, fields) in [
            (2, vec![run.clone()]),
            (3, vec![run.clone(), one.clone()]),
            (3, vec![fixed32(4, 1.0f32.to_bits()), fixed32(4, 2.0f32.to_bits()), one.clone()]),
        ] {
            let tensor = decode([int(1, dims), int(2, 1), fields.concat()].concat()).unwrap();
            assert_eq!(tensor.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0][..dims as usize]);
        }
        let file = Bytes::from([int(1, 2), int(2, 1), run].concat());
        let (_, tensor) = decode_tensor(file.clone(), &LoadLimits::default()).unwrap();
        assert!(file.as_ptr_range().contains(&tensor.bytes().as_ptr()), "one packed run is not copied");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let code = |result: Result<Tensor>| result.unwrap_err().code();
        assert_eq!(code(typed(2, &[1], 5, &[256])), "SDX-0210", "range");
        assert_eq!(code(typed(3, &[1], 5, &[-129])), "SDX-0210", "range");
        assert_eq!(code(typed(12, &[1], 11, &[1 << 32])), "SDX-0210", "range");
        assert_eq!(code(typed(2, &[2], 5, &[1])), "SDX-0210", "too few");
        assert_eq!(code(typed(2, &[2], 5, &[1, 2, 3])), "SDX-0210", "too many");
        assert_eq!(code(typed(21, &[3], 5, &[1])), "SDX-0210", "too few nibbles");
        assert_eq!(code(typed(1, &[1], 5, &[1])), "SDX-0210", "wrong list");
        assert_eq!(code(typed(2, &[-1], 5, &[1])), "SDX-0209");
        assert_eq!(code(typed(2, &[i64::MAX, i64::MAX], 5, &[1])), "SDX-0209");
        assert_eq!(code(typed(2, &[1 << 40], 5, &[1])), "SDX-0408");
        assert_eq!(code(typed(2, &[1 << 30], 5, &[1])), "SDX-0210", "nothing allocated for a claim");
        assert_eq!(code(typed(0, &[1], 5, &[1])), "SDX-0208");
        assert_eq!(code(typed(27, &[1], 5, &[1])), "SDX-0304");
        assert_eq!(code(typed(-1, &[1], 5, &[1])), "SDX-0304");
        assert_eq!(code(typed(2, &[0; 65], 5, &[1])), "SDX-0407");
        let both = [int(1, 1), int(2, 2), bytes(9, &[1]), int(5, 1)].concat();
        assert_eq!(code(decode(both)), "SDX-0210");
        let lists = [int(1, 1), int(2, 2), int(7, 1), int(5, 1)].concat();
        assert_eq!(code(decode(lists)), "SDX-0210");
        assert_eq!(code(decode([int(1, 2), int(2, 2), bytes(9, &[1])].concat())), "SDX-0210");
        assert_eq!(code(decode([int(1, 1), int(2, 2)].concat())), "SDX-0210", "no data");
        assert_eq!(code(decode([int(1, 1), int(2, 2), int(14, 1)].concat())), "SDX-0213", "external");
        assert_eq!(code(decode([int(2, 1), bytes(4, &[0; 5])].concat())), "SDX-0107");
    }

    #[test]
    fn raw_data_is_shared_and_survives_a_round_trip() {
        for dtype in (1..=26).filter_map(DType::from_onnx).filter(|dtype| *dtype != DType::Str) {
            let length = dtype.bytes_for(65).unwrap();
            // 0 and 1 are legal in every type, booleans too.
            let data: Vec<u8> = (0..length).map(|i| (i % 2) as u8).collect();
            let tensor = Tensor::from_bytes(dtype, &[5, 13], data.into()).unwrap();
            let file = Bytes::from(encode_tensor(&tensor, "w"));
            let (name, again) = decode_tensor(file.clone(), &LoadLimits::default()).unwrap();
            assert_eq!((&*name, again.dtype(), again.dims()), ("w", dtype, &[5, 13][..]));
            assert_eq!(again.bytes(), tensor.bytes());
            assert!(file.as_ptr_range().contains(&again.bytes().as_ptr()));
        }
        let texts = Tensor::from_strings(&[2], vec!["x".into(), "".into()]).unwrap();
        let again = decode(encode_tensor(&texts, "")).unwrap();
        assert_eq!(again.strings().unwrap(), ["x", ""]);
        let scalar = decode(encode_tensor(&Tensor::scalar(3i64), "")).unwrap();
        assert_eq!((scalar.dims(), scalar.to_vec::<i64>().unwrap()), (&[][..], vec![3]));
        let booleans = decode([int(1, 2), int(2, 9), bytes(9, &[0, 7])].concat()).unwrap();
        assert_eq!(booleans.bytes(), [0, 1]);
    }
}
