//! Pictures as files have them.

mod image_decoder;

pub use image_decoder::{ImageDecoder, PixelFormat};

use crate::build::OperatorRow;

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] =
    &[OperatorRow { domain: "", name: "ImageDecoder", since: 20, build: image_decoder::build }];
