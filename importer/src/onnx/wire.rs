//! The protobuf wire format: fields out of shared bytes, without copying them.
//!
//! <https://protobuf.dev/programming-guides/encoding/>. Groups are refused (ONNX has none). A list of numbers
//! may stand packed or one field per element, whatever the schema says, and both may be mixed.

use bytes::Bytes;

use crate::error::{ImportError, ParseFault};

type Result<T> = std::result::Result<T, ImportError>;

/// A position in one message. Invariant: `position <= end <= whole.len()`.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    whole: &'a Bytes,
    position: usize,
    end: usize,
    /// Where `whole` begins in the file, for error messages.
    base: u64,
}

/// One field: its number, and its payload already checked to lie inside the message.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    pub number: u32,
    offset: u64,
    payload: Payload<'a>,
}

#[derive(Clone, Copy)]
enum Payload<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Length(Reader<'a>),
}

impl<'a> Reader<'a> {
    /// Reads `whole`, which begins at byte `base` of the file.
    pub fn new(whole: &'a Bytes, base: u64) -> Reader<'a> {
        Reader { whole, position: 0, end: whole.len(), base }
    }

    /// Bytes from the start of the file to here.
    pub fn offset(&self) -> u64 {
        self.base.saturating_add(self.position as u64)
    }

    fn fail<T>(&self, what: ParseFault) -> Result<T> {
        Err(ImportError::Parse { what, offset: self.offset() })
    }

    /// The bytes that are left, borrowed.
    pub fn rest(&self) -> &'a [u8] {
        self.whole.get(self.position..self.end).unwrap_or(&[])
    }

    /// The bytes that are left, sharing the file's memory.
    pub fn shared(&self) -> Bytes {
        self.whole.slice_ref(self.rest())
    }

    /// Takes `N` bytes.
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest().first_chunk::<N>() {
            Some(chunk) => {
                self.position = self.position.saturating_add(N);
                Ok(*chunk)
            }
            None => self.fail(ParseFault::Truncated),
        }
    }

    /// Takes one variable-length integer.
    fn varint(&mut self) -> Result<u64> {
        let rest = self.rest();
        let mut value = 0u64;
        for ((i, &byte), shift) in rest.iter().enumerate().zip((0u32..64).step_by(7)) {
            if shift == 63 && byte > 1 {
                return self.fail(ParseFault::Varint);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                self.position = self.position.saturating_add(i).saturating_add(1);
                return Ok(value);
            }
        }
        self.fail(if rest.len() < 10 { ParseFault::Truncated } else { ParseFault::Varint })
    }

    /// The next field, or `None` at the end of the message.
    pub fn next_field(&mut self) -> Result<Option<Field<'a>>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let start = *self;
        let tag = self.varint()?;
        let number = match u32::try_from(tag >> 3) {
            Ok(number) if (1..1 << 29).contains(&number) => number,
            _ => return start.fail(ParseFault::Tag),
        };
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(self.fixed()?),
            2 => Payload::Length(self.nested()?),
            5 => Payload::Fixed32(self.fixed()?),
            _ => return start.fail(ParseFault::Tag),
        };
        Ok(Some(Field { number, offset: start.offset(), payload }))
    }

    /// Takes a length and as many bytes.
    fn nested(&mut self) -> Result<Reader<'a>> {
        let start = *self;
        let length = self.varint()?;
        let end = usize::try_from(length).ok().and_then(|length| self.position.checked_add(length));
        match end {
            Some(end) if end <= self.end => {
                let inner = Reader { end, ..*self };
                self.position = end;
                Ok(inner)
            }
            _ => start.fail(ParseFault::Truncated),
        }
    }
}

impl<'a> Field<'a> {
    fn wrong_type<T>(&self) -> Result<T> {
        Err(ImportError::Parse { what: ParseFault::WireType, offset: self.offset })
    }

    /// A parse error at this field.
    pub fn error(&self, what: ParseFault) -> ImportError {
        ImportError::Parse { what, offset: self.offset }
    }

    /// A signed integer or enumeration.
    pub fn int(&self) -> Result<i64> {
        match self.payload {
            Payload::Varint(value) => Ok(value.cast_signed()),
            _ => self.wrong_type(),
        }
    }

    /// A 32-bit float.
    pub fn float(&self) -> Result<f32> {
        match self.payload {
            Payload::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => self.wrong_type(),
        }
    }

    /// The inside of a message, string or bytes field.
    pub fn inner(&self) -> Result<Reader<'a>> {
        match self.payload {
            Payload::Length(reader) => Ok(reader),
            _ => self.wrong_type(),
        }
    }

    /// A bytes field, sharing the file's memory.
    pub fn bytes(&self) -> Result<Bytes> {
        Ok(self.inner()?.shared())
    }

    /// A string field.
    pub fn text(&self) -> Result<&'a str> {
        std::str::from_utf8(self.inner()?.rest())
            .map_err(|_| ImportError::Parse { what: ParseFault::Utf8, offset: self.offset })
    }

    /// Feeds one element, or the elements of a packed run, of a list of integers.
    pub fn each_int(&self, mut each: impl FnMut(u64) -> Result<()>) -> Result<()> {
        match self.payload {
            Payload::Varint(value) => each(value),
            Payload::Length(mut run) => {
                while run.position < run.end {
                    each(run.varint()?)?;
                }
                Ok(())
            }
            _ => self.wrong_type(),
        }
    }

    /// The little-endian bytes of one element, or of a packed run, of a list of 4-byte numbers.
    pub fn run_of_4(&self) -> Result<Run<'a>> {
        match self.payload {
            Payload::Fixed32(bytes) => Ok(Run::One4(bytes)),
            Payload::Length(run) if run.rest().len().is_multiple_of(4) => Ok(Run::Many(run)),
            Payload::Length(_) => Err(self.error(ParseFault::Packed)),
            _ => self.wrong_type(),
        }
    }

    /// The little-endian bytes of one element, or of a packed run, of a list of 8-byte numbers.
    pub fn run_of_8(&self) -> Result<Run<'a>> {
        match self.payload {
            Payload::Fixed64(bytes) => Ok(Run::One8(bytes)),
            Payload::Length(run) if run.rest().len().is_multiple_of(8) => Ok(Run::Many(run)),
            Payload::Length(_) => Err(self.error(ParseFault::Packed)),
            _ => self.wrong_type(),
        }
    }
}

/// Elements of a fixed size: a single one, or a packed run that still lies in the file.
pub(crate) enum Run<'a> {
    One4([u8; 4]),
    One8([u8; 8]),
    Many(Reader<'a>),
}

impl Run<'_> {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Run::One4(bytes) => bytes,
            Run::One8(bytes) => bytes,
            Run::Many(reader) => reader.rest(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<u32>> {
        let whole = Bytes::copy_from_slice(bytes);
        let mut reader = Reader::new(&whole, 100);
        let mut numbers = Vec::new();
        while let Some(field) = reader.next_field()? {
            numbers.push(field.number);
        }
        Ok(numbers)
    }

    fn fault(bytes: &[u8]) -> (ParseFault, u64) {
        match read(bytes).unwrap_err() {
            ImportError::Parse { what, offset } => (what, offset),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn all_wire_types_and_large_numbers() {
        let fields = [
            &[0x08, 0x96, 0x01][..],
            &[0x11, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x1a, 0x02, 0xff, 0xff],
            &[0x25, 1, 2, 3, 4],
            &[0xf8, 0xff, 0xff, 0xff, 0x0f, 0x00],
        ]
        .concat();
        assert_eq!(read(&fields).unwrap(), [1, 2, 3, 4, (1 << 29) - 1]);
    }

    #[test]
    fn faults_have_their_place() {
        assert_eq!(fault(&[0x08]), (ParseFault::Truncated, 101));
        assert_eq!(fault(&[0x08, 0x80]), (ParseFault::Truncated, 101));
        assert_eq!(fault(&[0x08, 1, 0x25, 0, 0]), (ParseFault::Truncated, 103));
        assert_eq!(fault(&[0x00, 1]), (ParseFault::Tag, 100));
        assert_eq!(fault(&[0x0b, 0x0c]), (ParseFault::Tag, 100), "groups");
        assert_eq!(fault(&[0x0e]), (ParseFault::Tag, 100), "unassigned wire type");
        assert_eq!(fault(&[0x80, 0x80, 0x80, 0x80, 0x10, 0]), (ParseFault::Tag, 100), "field 2^29");
        let mut long = vec![0x08];
        long.extend([0xff; 9]);
        assert_eq!(fault(&[&long[..], &[0x02]].concat()), (ParseFault::Varint, 101));
        assert_eq!(fault(&[&long[..], &[0x81, 0x00]].concat()), (ParseFault::Varint, 101));
    }

    #[test]
    fn claimed_lengths_near_the_top_of_64_bits() {
        for length in [1u64, 1 << 31, (1 << 32) + 1, (1 << 63) - 1, 1 << 63, u64::MAX - 1, u64::MAX] {
            let mut bytes = vec![0x0a];
            let mut rest = length;
            while rest >= 0x80 {
                bytes.push((rest & 0x7f) as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
            assert_eq!(fault(&bytes), (ParseFault::Truncated, 101), "{length}");
        }
    }

    #[test]
    fn packed_and_single_elements_mix() {
        let whole = Bytes::from_static(&[0x0a, 3, 1, 0xac, 0x02, 0x08, 5]);
        let mut reader = Reader::new(&whole, 0);
        let mut got = Vec::new();
        while let Some(field) = reader.next_field().unwrap() {
            field
                .each_int(|value| {
                    got.push(value);
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(got, [1, 300, 5]);
        let whole = Bytes::from_static(&[0x0a, 3, 1, 2, 3]);
        let field = Reader::new(&whole, 0).next_field().unwrap().unwrap();
        assert!(matches!(field.run_of_4(), Err(ImportError::Parse { what: ParseFault::Packed, .. })));
        assert!(matches!(field.int(), Err(ImportError::Parse { what: ParseFault::WireType, .. })));
    }
}
