//! Pictures as tensors, and the way back from the model's coordinates to the picture's.

use std::io::Cursor;
use std::path::Path;

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};
use sardonyx_ops::{DType, Tensor};

use super::recipe::{Color, Filter, Kernel, LARGEST_SIDE, Layout, Recipe, Step, Target};
use crate::elements;
use crate::failure::{Failure, Fault};
use crate::formats::read_file;

/// The most bytes that are read from a picture file.
const MOST_BYTES: u64 = 1 << 29;
/// The most bytes that decoding may use.
const MOST_DECODED: u64 = 1 << 30;

/// Endings of the picture files that are read.
pub const ENDINGS: [&str; 7] = ["jpg", "jpeg", "png", "bmp", "webp", "ppm", "pgm"];

/// Reads a picture as 8-bit RGB, turned upright as its metadata says; transparency is dropped.
///
/// # Errors
/// When the file cannot be read, is no picture of a known kind, or is larger than the limits.
pub fn read(path: &Path) -> Result<RgbImage, Failure> {
    let fail =
        |error: image::ImageError| Failure::new(Fault::Malformed, format!("{}: {error}", path.display()));
    let bytes = read_file(path, MOST_BYTES)?;
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| Failure::file(path, &error))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(MOST_DECODED);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(fail)?;
    let orientation = decoder.orientation().map_err(fail)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(fail)?;
    picture.apply_orientation(orientation);
    let picture = picture.into_rgb8();
    if picture.width() == 0 || picture.height() == 0 {
        return Err(Failure::new(Fault::Malformed, format!("{}: the picture has no pixels", path.display())));
    }
    Ok(picture)
}

/// The affine map between a picture and what the model saw of it, per axis: `model = picture * scale + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// Factors for x and y.
    pub scale: [f64; 2],
    /// Offsets for x and y, in the model's pixels.
    pub offset: [f64; 2],
    /// Width and height of the picture.
    pub picture: [u32; 2],
    /// Width and height of what the model saw.
    pub model: [u32; 2],
}

impl Geometry {
    fn of(picture: &RgbImage) -> Geometry {
        let size = [picture.width(), picture.height()];
        Geometry { scale: [1.0; 2], offset: [0.0; 2], picture: size, model: size }
    }

    /// A point in the model's pixels as a point in the picture, held within it.
    pub fn to_picture(self, point: [f64; 2]) -> [f64; 2] {
        [0, 1].map(|axis| {
            let value = (point[axis] - self.offset[axis]) / self.scale[axis];
            value.clamp(0.0, f64::from(self.picture[axis]))
        })
    }

    fn scaled(&mut self, to: [u32; 2]) {
        let factor = [0, 1].map(|axis| f64::from(to[axis]) / f64::from(self.model[axis]));
        self.scale = [0, 1].map(|axis| self.scale[axis] * factor[axis]);
        self.offset = [0, 1].map(|axis| self.offset[axis] * factor[axis]);
        self.model = to;
    }

    /// The picture stands `by` pixels further to the right and below in a frame of `to`.
    fn shifted(&mut self, by: [f64; 2], to: [u32; 2]) {
        self.offset = [0, 1].map(|axis| self.offset[axis] + by[axis]);
        self.model = to;
    }
}

/// What a recipe made of a picture.
#[derive(Debug)]
pub struct Prepared {
    /// The tensor, of the wanted type; 4 dimensions with a batch of 1, unless fewer were wanted.
    pub tensor: Tensor,
    /// The way back.
    pub geometry: Geometry,
}

/// Does the steps of a resolved recipe. `rank` is the number of dimensions that the model wants: 4, 3 (no batch) or
/// 2 (no channels either).
///
/// # Errors
/// When the picture is smaller than a cut, or the type is no number.
pub fn prepare(picture: &RgbImage, recipe: &Recipe, dtype: DType, rank: usize) -> Result<Prepared, Failure> {
    let mut geometry = Geometry::of(picture);
    let mut pixels = picture.clone();
    let (mut color, mut layout) = (Color::Rgb, Layout::Nchw);
    for step in &recipe.0 {
        match step {
            Step::Resize(target, filter) => {
                let to = match target {
                    Target::Exact(width, height) => [*width, *height],
                    Target::Shorter(side) => shorter_side(geometry.model, *side),
                };
                pixels = resize(&pixels, to, *filter)?;
                geometry.scaled(to);
            }
            Step::Letterbox(width, height, fill) => {
                pixels = letterbox(&pixels, [*width, *height], *fill, &mut geometry)?;
            }
            Step::Crop(width, height) => pixels = crop(&pixels, [*width, *height], &mut geometry)?,
            Step::Color(wanted) => color = *wanted,
            Step::Layout(wanted) => layout = *wanted,
            Step::Scale(..) | Step::Mean(_) | Step::Std(_) => {}
        }
    }
    let channels = color.channels();
    let planes: Vec<f32> = match color {
        Color::Rgb => pixels.into_raw().into_iter().map(f32::from).collect(),
        Color::Bgr => pixels.pixels().flat_map(|p| [p.0[2], p.0[1], p.0[0]]).map(f32::from).collect(),
        Color::Gray => pixels.pixels().map(|p| f32::from(luma(p.0))).collect(),
    };
    let mut values = planes;
    for step in &recipe.0 {
        let of = |list: &[f32], i: usize| list.get(i % channels).or(list.first()).copied().unwrap_or(0.0);
        match step {
            Step::Scale(above, below) => values.iter_mut().for_each(|value| *value = *value * above / below),
            Step::Mean(means) => values.iter_mut().enumerate().for_each(|(i, value)| *value -= of(means, i)),
            Step::Std(stds) => values.iter_mut().enumerate().for_each(|(i, value)| *value /= of(stds, i)),
            _ => {}
        }
    }
    let [width, height] = geometry.model.map(|side| side as usize);
    let (values, dims) = match layout {
        Layout::Nhwc => (values, [1, height, width, channels]),
        Layout::Nchw => {
            let plane = |c: usize| values.iter().skip(c).step_by(channels).copied();
            ((0..channels).flat_map(plane).collect(), [1, channels, height, width])
        }
    };
    let dims: Vec<usize> = match rank {
        2 => vec![height, width],
        3 => dims[1..].to_vec(),
        _ => dims.to_vec(),
    };
    let values: Vec<f64> = values.into_iter().map(f64::from).collect();
    let tensor = elements::from_f64(dtype, &dims, &values)
        .ok_or_else(|| {
            Failure::new(Fault::ElementType, format!("a picture cannot be given to an input of {dtype}"))
        })?
        .map_err(|error| Failure::new(Fault::Shape, format!("the picture does not fit: {error}")))?;
    Ok(Prepared { tensor, geometry })
}

/// ITU-R BT.601 luma in 16-bit fixed point.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + 0x8000;
    (sum >> 16) as u8
}

fn shorter_side([width, height]: [u32; 2], side: u32) -> [u32; 2] {
    let follow = |other: u32, this: u32| {
        let length = u64::from(side) * u64::from(other) / u64::from(this.max(1));
        u32::try_from(length).unwrap_or(LARGEST_SIDE).clamp(1, LARGEST_SIDE)
    };
    if width <= height { [side, follow(height, width)] } else { [follow(width, height), side] }
}

fn resize(pixels: &RgbImage, to: [u32; 2], filter: Filter) -> Result<RgbImage, Failure> {
    if to == [pixels.width(), pixels.height()] {
        return Ok(pixels.clone());
    }
    let kernel = match filter.kernel {
        Kernel::Nearest => None,
        Kernel::Bilinear => Some(FilterType::Bilinear),
        Kernel::Bicubic => Some(FilterType::CatmullRom),
        Kernel::Lanczos3 => Some(FilterType::Lanczos3),
        Kernel::Area => Some(FilterType::Box),
    };
    let algorithm = match kernel {
        None => ResizeAlg::Nearest,
        Some(kernel) if filter.antialias => ResizeAlg::Convolution(kernel),
        Some(kernel) => ResizeAlg::Interpolation(kernel),
    };
    let fail =
        |error: &dyn std::fmt::Display| Failure::new(Fault::Defect, format!("resizing failed: {error}"));
    let source =
        Image::from_vec_u8(pixels.width(), pixels.height(), pixels.as_raw().clone(), PixelType::U8x3)
            .map_err(|error| fail(&error))?;
    let mut target = Image::new(to[0], to[1], PixelType::U8x3);
    Resizer::new()
        .resize(&source, &mut target, &ResizeOptions::new().resize_alg(algorithm))
        .map_err(|error| fail(&error))?;
    RgbImage::from_raw(to[0], to[1], target.into_vec()).ok_or_else(|| fail(&"a buffer of another size"))
}

fn letterbox(
    pixels: &RgbImage,
    frame: [u32; 2],
    fill: u8,
    geometry: &mut Geometry,
) -> Result<RgbImage, Failure> {
    let [width, height] = [pixels.width(), pixels.height()];
    let factor = (f64::from(frame[0]) / f64::from(width)).min(f64::from(frame[1]) / f64::from(height));
    let fit = |side: u32, most: u32| ((f64::from(side) * factor).round() as u32).clamp(1, most);
    let inner = [fit(width, frame[0]), fit(height, frame[1])];
    let scaled = resize(pixels, inner, Filter { kernel: Kernel::Bilinear, antialias: true })?;
    geometry.scaled(inner);
    let start = [0, 1].map(|axis| (frame[axis] - inner[axis]) / 2);
    let mut boxed = RgbImage::from_pixel(frame[0], frame[1], image::Rgb([fill; 3]));
    image::imageops::replace(&mut boxed, &scaled, start[0].into(), start[1].into());
    geometry.shifted(start.map(f64::from), frame);
    Ok(boxed)
}

fn crop(pixels: &RgbImage, to: [u32; 2], geometry: &mut Geometry) -> Result<RgbImage, Failure> {
    let from = [pixels.width(), pixels.height()];
    if to[0] > from[0] || to[1] > from[1] {
        let message = format!("cannot cut {}x{} out of a picture of {}x{}", to[0], to[1], from[0], from[1]);
        return Err(Failure::new(Fault::Recipe, message).help("resize before the crop"));
    }
    let start = [0, 1].map(|axis| (from[axis] - to[axis]) / 2);
    geometry.shifted(start.map(|pixels| -f64::from(pixels)), to);
    Ok(image::imageops::crop_imm(pixels, start[0], start[1], to[0], to[1]).to_image())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::recipe::Frame;
    use crate::testing::Scratch;

    /// Red grows to the right, green downwards, blue is 200.
    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 200]))
    }

    fn prepared(picture: &RgbImage, text: &str, dtype: DType, rank: usize) -> Prepared {
        let frame = Frame { layout: Layout::Nchw, channels: None, height: None, width: None, float: true };
        let recipe = Recipe::parse(text, &frame).unwrap().resolve(&frame).unwrap();
        prepare(picture, &recipe, dtype, rank).unwrap()
    }

    #[test]
    fn numbers_and_order_of_the_elements() {
        let picture = picture(3, 2);
        let made = prepared(&picture, "mean=1,2,0 std=2,1,10", DType::F32, 4);
        assert_eq!(made.tensor.dims(), [1, 3, 2, 3]);
        let values = made.tensor.to_vec::<f32>().unwrap();
        assert_eq!(values[..6], [-0.5, 0.0, 0.5, -0.5, 0.0, 0.5]);
        assert_eq!(values[6..12], [-2.0, -2.0, -2.0, -1.0, -1.0, -1.0]);
        assert_eq!(values[12..], [20.0; 6]);
        let made = prepared(&picture, "color=bgr layout=nhwc", DType::U8, 3);
        assert_eq!(made.tensor.dims(), [2, 3, 3]);
        assert_eq!(made.tensor.to_vec::<u8>().unwrap()[..6], [200, 0, 0, 200, 0, 1]);
        let made = prepared(&picture, "color=gray scale=1/255", DType::F32, 2);
        assert_eq!(
            (made.tensor.dims(), made.tensor.to_vec::<f32>().unwrap()[0]),
            (&[2usize, 3][..], 23.0 / 255.0)
        );
    }

    #[test]
    fn the_way_back_through_every_geometry() {
        let picture = picture(120, 80);
        for text in [
            "resize=60x20",
            "resize=40",
            "letterbox=64",
            "letterbox=64x32:0",
            "crop=center:50",
            "resize=40 crop=center:30",
        ] {
            let made = prepared(&picture, text, DType::F32, 4);
            let values = made.tensor.to_vec::<f32>().unwrap();
            let [width, height] = made.geometry.model.map(|side| side as usize);
            assert_eq!(made.tensor.dims(), [1, 3, height, width]);
            // The colours say where a pixel came from; the centre of a pixel is half a pixel from its corner.
            let (x, y) = (width / 2, height / 2);
            let back = made.geometry.to_picture([x as f64 + 0.5, y as f64 + 0.5]);
            let red = f64::from(values[y * width + x]) + 0.5;
            let green = f64::from(values[width * height + y * width + x]) + 0.5;
            assert!(
                (back[0] - red).abs() < 1.01 && (back[1] - green).abs() < 1.01,
                "{text}: {back:?} {red} {green}"
            );
        }
        let made = prepared(&picture, "letterbox=60:7", DType::U8, 4);
        assert_eq!(made.tensor.to_vec::<u8>().unwrap()[0], 7, "the border is filled");
        assert_eq!((made.geometry.scale, made.geometry.offset), ([0.5, 0.5], [0.0, 10.0]));
        assert_eq!(made.geometry.to_picture([-5.0, 1000.0]), [0.0, 80.0], "held within the picture");
    }

    #[test]
    fn filters_and_files() {
        let scratch = Scratch::new("picture");
        let picture = picture(100, 60);
        for ending in ["png", "bmp", "ppm", "webp", "jpg"] {
            let path = scratch.path(&format!("a.{ending}"));
            picture.save(&path).unwrap();
            let back = read(&path).unwrap();
            assert_eq!((back.width(), back.height()), (100, 60));
            let off = back.as_raw().iter().zip(picture.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(off <= if ending == "jpg" { 16 } else { 0 }, "{ending}: {off}");
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(read(&scratch.write("cut", &bytes[..20])).unwrap_err().status(), 4, "{ending}");
        }
        for filter in ["nearest", "bilinear:plain", "bicubic", "lanczos3:plain", "area"] {
            let made = prepared(&picture, &format!("resize=50x30:{filter}"), DType::U8, 4);
            let values = made.tensor.to_vec::<u8>().unwrap();
            assert!((48..=52).contains(&values[15 * 50 + 25]), "{filter}: {}", values[15 * 50 + 25]);
        }
        let recipe = Recipe(vec![Step::Crop(101, 10)]);
        assert!(prepare(&picture, &recipe, DType::U8, 4).is_err());
    }
}
