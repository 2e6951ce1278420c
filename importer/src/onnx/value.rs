//! Values of test sets: tensors, and sequences and optionals of them.
//!
//! A file does not say which of them it is; the declared type of the graph's input or output does.

use bytes::Bytes;
use sardonyx_ops::{Item, Tensor};

use super::decode::{Decoder, Message};
use super::limits::LoadLimits;
use super::model::TypeProto;
use super::tensor::{RawTensor, to_tensor};
use super::wire::{Field, Reader};
use crate::error::{ImportError, InvalidFault, Place, UnsupportedFault};

type Result<T> = std::result::Result<T, ImportError>;

/// Reads a value of a declared type from a `TensorProto`, `SequenceProto` or `OptionalProto` file.
///
/// # Errors
/// As [`super::decode_tensor`]; [`ImportError::Unsupported`] for maps, sparse tensors and opaque types;
/// [`ImportError::Invalid`] when the file holds a value of another kind.
pub fn decode_value(bytes: Bytes, ty: &TypeProto, limits: &LoadLimits) -> Result<Item<Tensor>> {
    read_value(Reader::new(&bytes, 0), ty, limits, &mut Decoder::new(limits))
}

fn read_value(
    reader: Reader<'_>,
    ty: &TypeProto,
    limits: &LoadLimits,
    decoder: &mut Decoder<'_>,
) -> Result<Item<Tensor>> {
    match ty {
        TypeProto::Tensor(_) | TypeProto::Unspecified => {
            let mut raw = RawTensor::default();
            decoder.read(&mut raw, reader)?;
            Ok(Item::Tensor(to_tensor(&raw.finish(&reader)?, limits)?))
        }
        TypeProto::Sequence(element) => {
            let values = read_members(reader, element, limits, decoder)?;
            Ok(Item::Sequence(values))
        }
        TypeProto::Optional(element) => {
            let mut values = read_members(reader, element, limits, decoder)?;
            let value = values.pop();
            if !values.is_empty() {
                let detail = "an optional holds several values";
                return Err(ImportError::invalid(Place::model(), InvalidFault::TensorData, detail));
            }
            Ok(Item::Optional(value.map(Box::new)))
        }
        TypeProto::SparseTensor(_) | TypeProto::Map(..) | TypeProto::Opaque => {
            Err(ImportError::unsupported(Place::model(), UnsupportedFault::ValueKind, ty.kind()))
        }
    }
}

/// The members of a `SequenceProto` or `OptionalProto`: both number their fields alike.
fn read_members(
    reader: Reader<'_>,
    element: &TypeProto,
    limits: &LoadLimits,
    decoder: &mut Decoder<'_>,
) -> Result<Vec<Item<Tensor>>> {
    let wanted = match element {
        TypeProto::Tensor(_) | TypeProto::Unspecified => 3,
        TypeProto::Sequence(_) => 5,
        TypeProto::Optional(_) => 7,
        TypeProto::SparseTensor(_) | TypeProto::Map(..) | TypeProto::Opaque => {
            return Err(ImportError::unsupported(
                Place::model(),
                UnsupportedFault::ValueKind,
                element.kind(),
            ));
        }
    };
    let mut members = Members { wanted, element, limits, values: Vec::new() };
    decoder.read(&mut members, reader)?;
    Ok(members.values)
}

struct Members<'t> {
    wanted: u32,
    element: &'t TypeProto,
    limits: &'t LoadLimits,
    values: Vec<Item<Tensor>>,
}

impl Message for Members<'_> {
    fn field(&mut self, field: &Field<'_>, decoder: &mut Decoder<'_>) -> Result<()> {
        match field.number {
            number if number == self.wanted => {
                let value = read_value(field.inner()?, self.element, self.limits, decoder)?;
                decoder.push(&mut self.values, value)
            }
            3..=7 => Err(ImportError::invalid(
                Place::model(),
                InvalidFault::ElementType,
                format!("a member is no {}", self.element.kind()),
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::encode_tensor;
    use crate::onnx::testing::{bytes, int};

    #[test]
    fn sequences_and_optionals() {
        let limits = LoadLimits::default();
        let tensor = TypeProto::Tensor(Default::default());
        let sequence = TypeProto::Sequence(Box::new(tensor.clone()));
        let one = bytes(3, &encode_tensor(&Tensor::from_slice(&[1], &[2.5f32]).unwrap(), ""));
        let file = [bytes(1, b"s"), int(2, 1), one.clone(), one.clone()].concat();
        match decode_value(file.clone().into(), &sequence, &limits).unwrap() {
            Item::Sequence(values) => assert_eq!(values.len(), 2),
            other => panic!("{other:?}"),
        }
        let optional = TypeProto::Optional(Box::new(sequence.clone()));
        let some = [int(2, 3), bytes(5, &file)].concat();
        match decode_value(some.into(), &optional, &limits).unwrap() {
            Item::Optional(Some(inner)) => assert!(matches!(*inner, Item::Sequence(_))),
            other => panic!("{other:?}"),
        }
        let none = decode_value(bytes(1, b"n").into(), &optional, &limits).unwrap();
        assert!(matches!(none, Item::Optional(None)));
        let wrong = TypeProto::Sequence(Box::new(sequence));
        assert_eq!(decode_value(file.into(), &wrong, &limits).unwrap_err().code(), "SDX-0208");
        let several = TypeProto::Optional(Box::new(tensor));
        assert!(decode_value([one.clone(), one].concat().into(), &several, &limits).is_err());
        let map = TypeProto::Map(7, Box::new(TypeProto::Opaque));
        assert_eq!(decode_value(Bytes::new(), &map, &limits).unwrap_err().code(), "SDX-0305");
    }
}
