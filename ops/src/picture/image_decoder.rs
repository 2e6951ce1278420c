//! [ImageDecoder](https://onnx.ai/onnx/operators/onnx__ImageDecoder.html): pixels from the bytes of a picture's file.

use std::io::Cursor;
use std::sync::Arc;

use image::{ImageReader, Limits};

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{required, view};
use crate::operator::Operator;

/// The most bytes that decoding may take.
const MOST_BYTES: u64 = 1 << 30;

/// Pixels of a BMP, JPEG, PNG, PNM, TIFF or WebP file, as (height, width, channels).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageDecoder {
    /// Which channels a pixel has.
    pub format: PixelFormat,
}

/// The channels of a pixel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PixelFormat {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Brightness, by the weights of ITU-R BT.601.
    Grayscale,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let format = match spec.attributes.str_or("pixel_format", "RGB".to_owned())?.as_str() {
        "RGB" => PixelFormat::Rgb,
        "BGR" => PixelFormat::Bgr,
        "Grayscale" => PixelFormat::Grayscale,
        _ => return Err(OpError::Attribute { name: "pixel_format", expected: "RGB, BGR or Grayscale" }),
    };
    Ok(Arc::new(ImageDecoder { format }))
}

impl PixelFormat {
    fn channels(self) -> usize {
        if self == PixelFormat::Grayscale { 1 } else { 3 }
    }

    /// The pixels of red, green and blue in this form.
    fn of(self, mut pixels: Vec<u8>) -> Vec<u8> {
        match self {
            PixelFormat::Rgb => {}
            PixelFormat::Bgr => pixels.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2)),
            PixelFormat::Grayscale => {
                let weights = [19_595, 38_470, 7_471];
                let gray = |pixel: &[u8]| {
                    let sum: u32 = pixel.iter().zip(weights).map(|(&x, weight)| u32::from(x) * weight).sum();
                    ((sum + (1 << 15)) >> 16) as u8
                };
                pixels = pixels.chunks_exact(3).map(gray).collect();
            }
        }
        pixels
    }
}

impl Operator for ImageDecoder {
    fn name(&self) -> &'static str {
        "ImageDecoder"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        if x.dtype != DType::U8 {
            return Err(OpError::Type { input: 0, expected: "u8", got: x.dtype });
        }
        if x.rank().is_some_and(|rank| rank != 1) {
            return Err(OpError::constraint("rank of the file's bytes", 1, format!("{:?}", x.rank())));
        }
        let [height, width] = ["height", "width"].map(|name| Dim::named(&format!("ImageDecoder.{name}")));
        Ok(vec![Fact::new(DType::U8, vec![height, width, Dim::Known(self.format.channels())])])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let wrong = |error: image::ImageError| match error {
            image::ImageError::Unsupported(_) => OpError::unsupported("the format of the picture"),
            other => OpError::constraint("the file's bytes", "a picture", other),
        };
        let reader = ImageReader::new(Cursor::new(x.bytes)).with_guessed_format();
        let mut reader = reader.map_err(|error| wrong(error.into()))?;
        let mut limits = Limits::default();
        limits.max_alloc = Some(MOST_BYTES);
        reader.limits(limits);
        let picture = reader.decode().map_err(wrong)?.into_rgb8();
        let size = |n: u32| usize::try_from(n).map_err(|_| OpError::Size);
        let dims = [size(picture.height())?, size(picture.width())?, self.format.channels()];
        Ok(vec![Tensor::from_vec(&dims, self.format.of(picture.into_raw()))?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(format: PixelFormat, file: &[u8]) -> Result<Tensor, OpError> {
        let file = Tensor::from_slice(&[file.len()], file).unwrap();
        Ok(ImageDecoder { format }.reference(&[Some(file.view())], 1)?.remove(0))
    }

    #[test]
    fn channels_come_as_asked_for() {
        let file = b"P6 2 1 255\n\x0a\x14\x1e\xff\x00\x00";
        let rgb = decode(PixelFormat::Rgb, file).unwrap();
        assert_eq!((rgb.dims(), rgb.bytes()), (&[1, 2, 3][..], &[10, 20, 30, 255, 0, 0][..]));
        assert_eq!(decode(PixelFormat::Bgr, file).unwrap().bytes(), [30, 20, 10, 0, 0, 255]);
        let gray = decode(PixelFormat::Grayscale, file).unwrap();
        assert_eq!((gray.dims(), gray.bytes()), (&[1, 2, 1][..], &[18, 76][..]));
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        assert!(matches!(decode(PixelFormat::Rgb, b"no picture"), Err(OpError::Unsupported { .. })));
        assert!(matches!(decode(PixelFormat::Rgb, b"P6 2 1 255\n\x0a"), Err(OpError::Constraint { .. })));
        assert!(decode(PixelFormat::Rgb, b"P6 99999999 99999999 255\n").is_err());
    }
}
