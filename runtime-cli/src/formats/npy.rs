//! NumPy's `.npy` files, versions 1 to 3 of the format of `numpy.lib.format`.
//!
//! A header names the element type (`<f4`), the order of the elements and the dimensions; the elements follow.
//! NumPy has no bfloat16 and no 8-bit floats: it keeps such arrays as bytes (`|V2`, `|V1`), which are read as the
//! type that the model wants. Pickled objects are refused.

use std::path::Path;

use bytes::Bytes;
use sardonyx_ops::ir::tensor::element_count;
use sardonyx_ops::{DType, Tensor};

use super::malformed;
use crate::elements;
use crate::failure::Failure;

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy itself refuses longer headers.
const LONGEST_HEADER: usize = 10_000;

/// Reads an array. `wanted` is the type to give to elements that the file knows only as bytes.
///
/// # Errors
/// [`crate::failure::Fault::Malformed`] when the bytes are no array, are fewer than the header says, or hold
/// objects.
pub fn read(bytes: &Bytes, wanted: Option<DType>, path: &Path) -> Result<Tensor, Failure> {
    let fail = |what: &str| malformed(path, what);
    let (header, data) = split(bytes).ok_or_else(|| fail("not a .npy file"))?;
    let header = Header::parse(header).ok_or_else(|| fail("the .npy header is damaged"))?;
    let element = Stored::parse(&header.descr, wanted)
        .ok_or_else(|| malformed(path, format!("elements of type '{}' are not supported", header.descr)))?;
    let count = element_count(&header.shape).ok_or_else(|| fail("the dimensions overflow"))?;
    let length = count.checked_mul(element.size).ok_or_else(|| fail("the dimensions overflow"))?;
    if data.len() != length {
        return Err(malformed(path, format!("the header needs {length} bytes, the file has {}", data.len())));
    }
    let mut data = data.slice(..length);
    if element.swapped {
        data = swap(&data, element.word);
    }
    if header.fortran && header.shape.len() > 1 {
        data = to_row_major(&data, &header.shape, element.size);
    }
    let tensor = match element.dtype {
        DType::Str => Tensor::from_strings(
            &header.shape,
            element.texts(&data).ok_or_else(|| fail("a text is damaged"))?,
        ),
        DType::Bool => {
            let truth: Vec<bool> = data.iter().map(|&byte| byte != 0).collect();
            Tensor::from_bools(&header.shape, &truth)
        }
        dtype => Tensor::from_bytes(dtype, &header.shape, data),
    };
    tensor.map(Tensor::aligned).map_err(|error| malformed(path, error))
}

/// Writes an array: numbers as they are, 4-bit and 2-bit integers one to a byte, text as `<U`, types that NumPy does
/// not know as bytes (`|V1`, `|V2`).
pub fn write(tensor: &Tensor) -> Vec<u8> {
    let unpacked = |bits: usize, signed: bool| {
        let shift = 8 - bits;
        let widen = move |v: u8| if signed { ((v << shift) as i8 >> shift) as u8 } else { v };
        elements::unpack(tensor, bits).map(widen).collect::<Vec<u8>>()
    };
    let (descr, data) = match tensor.dtype() {
        DType::Str => texts(tensor),
        DType::I4 => ("|i1".to_owned(), unpacked(4, true)),
        DType::U4 => ("|u1".to_owned(), unpacked(4, false)),
        DType::I2 => ("|i1".to_owned(), unpacked(2, true)),
        DType::U2 => ("|u1".to_owned(), unpacked(2, false)),
        DType::F4E2M1 => ("|V1".to_owned(), unpacked(4, false)),
        dtype => (descr(dtype).to_owned(), tensor.bytes().to_vec()),
    };
    let dims: Vec<String> = tensor.dims().iter().map(|dim| format!("{dim}, ")).collect();
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", dims.concat());
    // The data starts at a multiple of 64, as NumPy wants it for mapping.
    let unpadded = MAGIC.len() + 4 + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
    header.push('\n');
    let mut out = Vec::with_capacity(header.len() + 10 + data.len());
    out.extend_from_slice(MAGIC);
    // A header of 64 KiB would need thousands of dimensions, more than any loader admits.
    out.extend_from_slice(&[1, 0]);
    out.extend_from_slice(&u16::try_from(header.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&data);
    out
}

/// `(NumPy's name, our type)` of types that both know.
const TYPES: &[(&str, DType)] = &[
    ("b1", DType::Bool),
    ("i1", DType::I8),
    ("u1", DType::U8),
    ("i2", DType::I16),
    ("i4", DType::I32),
    ("i8", DType::I64),
    ("u2", DType::U16),
    ("u4", DType::U32),
    ("u8", DType::U64),
    ("f2", DType::F16),
    ("f4", DType::F32),
    ("f8", DType::F64),
    ("c8", DType::C64),
    ("c16", DType::C128),
];

fn descr(dtype: DType) -> String {
    let size = dtype.bits().div_ceil(8);
    match TYPES.iter().find(|row| row.1 == dtype) {
        Some((name, _)) => format!("{}{name}", if size == 1 { '|' } else { '<' }),
        None => format!("|V{size}"),
    }
}

fn texts(tensor: &Tensor) -> (String, Vec<u8>) {
    let strings = tensor.strings().unwrap_or(&[]);
    let longest = strings.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
    let mut data = Vec::with_capacity(strings.len() * longest * 4);
    for text in strings {
        let padded = text.chars().map(u32::from).chain(std::iter::repeat(0)).take(longest);
        data.extend(padded.flat_map(u32::to_le_bytes));
    }
    (format!("<U{longest}"), data)
}

/// The header's text and the data behind it.
fn split(bytes: &Bytes) -> Option<(&str, Bytes)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (&[major, _], rest) = rest.split_first_chunk::<2>()?;
    let (length, header) = match major {
        1 => rest.split_first_chunk::<2>().map(|(n, rest)| (u16::from_le_bytes(*n) as usize, rest))?,
        2 | 3 => rest.split_first_chunk::<4>().map(|(n, rest)| (u32::from_le_bytes(*n) as usize, rest))?,
        _ => return None,
    };
    if length > LONGEST_HEADER {
        return None;
    }
    let text = std::str::from_utf8(header.get(..length)?).ok()?;
    let start = bytes.len() - header.len() + length;
    Some((text, bytes.slice(start..)))
}

/// The dictionary of the header.
struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }`: the three keys in any order.
    fn parse(text: &str) -> Option<Header> {
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        while !rest.is_empty() {
            let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
            let (key, after) = rest[1..].split_once(quote)?;
            let value = after.trim_start().strip_prefix(':')?.trim_start();
            let after = match key {
                "descr" => {
                    let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
                    let (text, after) = value[1..].split_once(quote)?;
                    descr = Some(text.to_owned());
                    after
                }
                "fortran_order" => {
                    let (truth, word) = [(true, "True"), (false, "False")]
                        .into_iter()
                        .find(|(_, word)| value.starts_with(word))?;
                    fortran = Some(truth);
                    &value[word.len()..]
                }
                "shape" => {
                    let (dims, after) = value.strip_prefix('(')?.split_once(')')?;
                    let dims = dims.split(',').map(str::trim).filter(|dim| !dim.is_empty());
                    shape = Some(dims.map(|dim| dim.parse().ok()).collect::<Option<Vec<usize>>>()?);
                    after
                }
                _ => return None,
            };
            let after = after.trim_start();
            rest = after.strip_prefix(',').unwrap_or(after).trim_start();
        }
        Some(Header { descr: descr?, fortran: fortran?, shape: shape? })
    }
}

/// How the file holds one element.
struct Stored {
    dtype: DType,
    /// Bytes of an element.
    size: usize,
    /// Bytes of what is swapped in a big-endian file: an element, a part of a complex number, a character.
    word: usize,
    swapped: bool,
    /// Four bytes a character instead of one.
    wide_text: bool,
}

impl Stored {
    fn parse(descr: &str, wanted: Option<DType>) -> Option<Stored> {
        let order = descr.chars().next()?;
        let name = if matches!(order, '<' | '>' | '|' | '=') { &descr[1..] } else { descr };
        let swapped = order == '>';
        if let Some(&(_, dtype)) = TYPES.iter().find(|row| row.0 == name) {
            let size = dtype.bits() / 8;
            let word = if matches!(dtype, DType::C64 | DType::C128) { size / 2 } else { size };
            return Some(Stored { dtype, size, word, swapped, wide_text: false });
        }
        let count: usize = name.get(1..)?.parse().ok()?;
        match name.chars().next()? {
            'U' => Some(Stored {
                dtype: DType::Str,
                size: count.checked_mul(4)?,
                word: 4,
                swapped,
                wide_text: true,
            }),
            'S' => Some(Stored { dtype: DType::Str, size: count, word: 1, swapped: false, wide_text: false }),
            // Types that NumPy keeps as plain bytes; a 4-bit float would have to be packed, and is not.
            'V' => {
                let dtype = wanted.filter(|dtype| dtype.bits() == count.saturating_mul(8))?;
                let unknown_to_numpy = TYPES.iter().all(|row| row.1 != dtype);
                unknown_to_numpy.then_some(Stored {
                    dtype,
                    size: count,
                    word: count,
                    swapped: false,
                    wide_text: false,
                })
            }
            _ => None,
        }
    }

    /// The texts of a text array; padding at the end is dropped.
    fn texts(&self, data: &Bytes) -> Option<Vec<String>> {
        if self.size == 0 {
            return Some(Vec::new());
        }
        data.chunks_exact(self.size)
            .map(|cell| {
                let text = if self.wide_text {
                    let codes = cell.as_chunks::<4>().0.iter().map(|code| u32::from_le_bytes(*code));
                    codes.map(char::from_u32).collect::<Option<String>>()?
                } else {
                    String::from_utf8(cell.to_vec()).ok()?
                };
                Some(text.trim_end_matches('\0').to_owned())
            })
            .collect()
    }
}

fn swap(data: &[u8], word: usize) -> Bytes {
    let mut swapped = data.to_vec();
    swapped.chunks_exact_mut(word.max(1)).for_each(<[u8]>::reverse);
    Bytes::from(swapped)
}

/// From the first index running fastest to the last index running fastest.
fn to_row_major(data: &[u8], shape: &[usize], size: usize) -> Bytes {
    let mut out = Vec::with_capacity(data.len());
    let mut index = vec![0usize; shape.len()];
    let count = data.len() / size.max(1);
    for _ in 0..count {
        let at = index.iter().zip(shape).rev().fold(0, |at, (i, dim)| at * dim + i);
        out.extend_from_slice(&data[at * size..][..size]);
        for (i, dim) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *dim {
                break;
            }
            *i = 0;
        }
    }
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Bytes {
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend_from_slice(&(header.len() as u16).to_le_bytes());
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(data);
        Bytes::from(out)
    }

    fn parse(bytes: &Bytes, wanted: Option<DType>) -> Result<Tensor, String> {
        read(bytes, wanted, Path::new("a.npy")).map_err(|failure| failure.message().to_owned())
    }

    #[test]
    fn what_is_written_is_read() {
        let tensors = [
            Tensor::from_vec(&[2, 3], vec![1.5f32, -2.0, 0.0, f32::INFINITY, 5.0, 6.0]).unwrap(),
            Tensor::scalar(7i64),
            Tensor::from_vec::<u16>(&[0, 4], vec![]).unwrap(),
            Tensor::from_bools(&[3], &[true, false, true]).unwrap(),
            Tensor::from_strings(&[2], vec!["".into(), "häß".into()]).unwrap(),
            Tensor::from_vec(&[1], vec![half::bf16::from_f32(2.5)]).unwrap(),
        ];
        for tensor in tensors {
            let bytes = Bytes::from(write(&tensor));
            assert_eq!(bytes.len() % 64, tensor.bytes().len() % 64 + tensor.strings().map_or(0, |_| 24));
            let back = parse(&bytes, Some(tensor.dtype())).unwrap();
            assert_eq!((back.dtype(), back.dims()), (tensor.dtype(), tensor.dims()));
            assert_eq!((back.bytes(), back.strings()), (tensor.bytes(), tensor.strings()));
        }
        let packed = elements::from_f64(DType::I4, &[3], &[-1.0, 7.0, -8.0]).unwrap().unwrap();
        let bytes = Bytes::from(write(&packed));
        assert_eq!(parse(&bytes, None).unwrap().to_vec::<i8>().unwrap(), [-1, 7, -8]);
    }

    #[test]
    fn big_endian_and_column_major_arrays() {
        let data: Vec<u8> = [1i16, 2, 3, 4, 5, 6].iter().flat_map(|v| v.to_be_bytes()).collect();
        let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }\n";
        let tensor = parse(&file(header, &data), None).unwrap();
        assert_eq!(tensor.to_vec::<i16>().unwrap(), [1, 3, 5, 2, 4, 6]);
        let header = "{'shape': (2,), \"fortran_order\": False, 'descr': '|S3'}";
        let tensor = parse(&file(header, b"ab\0xyz"), None).unwrap();
        assert_eq!(tensor.strings().unwrap(), ["ab", "xyz"]);
    }

    #[test]
    fn damaged_files_are_refused() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
        assert!(parse(&file(good, &[0; 8]), None).is_ok());
        assert!(parse(&file(good, &[0; 7]), None).unwrap_err().contains("needs 8 bytes, the file has 7"));
        for header in [
            "",
            "{'descr': '<f4'}",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551615, 2), }",
            "{'descr': '<U9999999999999999999', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '|V2', 'fortran_order': False, 'shape': (2,), }",
            "{'descr': 'ä', 'fortran_order': False, 'shape': (2,), }",
        ] {
            assert!(parse(&file(header, &[0; 8]), None).is_err(), "{header}");
        }
        let whole = file(good, &[0; 8]);
        for cut in 0..whole.len() {
            assert!(parse(&whole.slice(..cut), None).is_err(), "cut at {cut}");
        }
    }
}
