//! Boxes and names drawn into a picture.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};

use super::boxes::{Candidate, Corners};
use super::font;
use super::labels::Labels;
use crate::failure::{Failure, Fault};
use crate::output::atomic;

/// Colours that differ well from each other, chosen by class.
const COLORS: [[u8; 3]; 6] =
    [[230, 25, 75], [60, 180, 75], [0, 130, 200], [245, 130, 48], [145, 30, 180], [70, 190, 190]];

/// Draws boxes, each with its name and score in a bar above it (or below the edge where there is no room).
pub fn draw(picture: &mut RgbImage, found: &[Candidate], labels: &Labels) {
    let thickness = (picture.width().min(picture.height()) / 240).max(1);
    for candidate in found {
        let color = Rgb(COLORS[candidate.class % COLORS.len()]);
        outline(picture, &candidate.corners, thickness, color);
        let text = match labels.get(candidate.class) {
            Some(label) => format!("{} {:.2}", label.to_uppercase(), candidate.score),
            None => format!("{} {:.2}", candidate.class, candidate.score),
        };
        let height = (font::HEIGHT + 2) * thickness;
        let left = (candidate.corners.x1.max(0.0) as u32).min(picture.width());
        let top = (candidate.corners.y1.max(0.0) as u32).min(picture.height()).saturating_sub(height);
        bar(picture, left, top, &text, thickness, color);
    }
}

/// Fills a rectangle, held within the picture.
fn fill(picture: &mut RgbImage, x: u32, y: u32, width: u32, height: u32, color: Rgb<u8>) {
    let right = x.saturating_add(width).min(picture.width());
    let bottom = y.saturating_add(height).min(picture.height());
    for y in y..bottom {
        for x in x..right {
            picture.put_pixel(x, y, color);
        }
    }
}

fn outline(picture: &mut RgbImage, corners: &Corners, thickness: u32, color: Rgb<u8>) {
    // Floats below 0 become 0, and those beyond u32 its largest value.
    let [x1, y1, x2, y2] = [corners.x1, corners.y1, corners.x2, corners.y2].map(|value| value.round() as u32);
    let (width, height) = (x2.saturating_sub(x1), y2.saturating_sub(y1));
    fill(picture, x1, y1, width, thickness, color);
    fill(picture, x1, y2.saturating_sub(thickness), width, thickness, color);
    fill(picture, x1, y1, thickness, height, color);
    fill(picture, x2.saturating_sub(thickness), y1, thickness, height, color);
}

fn bar(picture: &mut RgbImage, left: u32, top: u32, text: &str, scale: u32, color: Rgb<u8>) {
    const LONGEST: usize = 40;
    let characters: Vec<char> = text.chars().take(LONGEST).collect();
    let advance = (font::WIDTH + 1) * scale;
    let width = advance * characters.len() as u32 + scale;
    fill(picture, left, top, width, (font::HEIGHT + 2) * scale, color);
    for (i, &character) in characters.iter().enumerate() {
        let x = left + scale + advance * i as u32;
        for (row, bits) in font::glyph(character).into_iter().enumerate() {
            for column in (0..font::WIDTH).filter(|column| bits >> (font::WIDTH - 1 - column) & 1 == 1) {
                let y = top + scale * (row as u32 + 1);
                fill(picture, x + column * scale, y, scale, scale, Rgb([255; 3]));
            }
        }
    }
}

/// Writes a picture in the format of the path's ending.
///
/// # Errors
/// When the ending is unknown, or writing fails.
pub fn save(picture: &RgbImage, path: &Path) -> Result<(), Failure> {
    let format = ImageFormat::from_path(path).map_err(|_| {
        Failure::new(
            Fault::Usage,
            format!("{}: pictures are written as .png, .jpg, .bmp, .webp or .ppm", path.display()),
        )
    })?;
    let mut bytes = Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, format)
        .map_err(|error| Failure::new(Fault::File, format!("{}: {error}", path.display())))?;
    atomic::write(path, &bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    fn candidate(corners: [f32; 4]) -> Candidate {
        Candidate { corners: Corners::from_xyxy(corners), class: 0, score: 0.5 }
    }

    #[test]
    fn the_outline_stands_where_the_box_is() {
        let mut picture = RgbImage::new(64, 48);
        draw(&mut picture, &[candidate([20.0, 20.0, 40.0, 40.0])], &Labels::default());
        let red = Rgb(COLORS[0]);
        for (x, y) in [(20, 20), (39, 20), (20, 39), (39, 39), (30, 20), (20, 30)] {
            assert_eq!(*picture.get_pixel(x, y), red, "{x} {y}");
        }
        for (x, y) in [(30, 30), (41, 30), (30, 41), (19, 30)] {
            assert_eq!(*picture.get_pixel(x, y), Rgb([0; 3]), "{x} {y}");
        }
        let white = picture.enumerate_pixels().filter(|(_, y, p)| *y < 20 && p.0 == [255; 3]).count();
        assert!(white > 10, "the score is written above the box");
    }

    #[test]
    fn boxes_beyond_the_edge_are_cut() {
        let mut picture = RgbImage::new(9, 7);
        let boxes = [
            [-5.0, -5.0, 100.0, 100.0],
            [8.0, 6.0, 8.0, 6.0],
            [1e30, 1e30, 2e30, 2e30],
            [5.0, 5.0, 1.0, 1.0],
        ];
        draw(&mut picture, &boxes.map(candidate), &Labels::default());
        assert_eq!((picture.width(), picture.height()), (9, 7));
        let scratch = Scratch::new("draw");
        for name in ["a.png", "a.jpg", "a.ppm"] {
            save(&picture, &scratch.path(name)).unwrap();
            assert!(scratch.path(name).is_file());
        }
        assert_eq!(save(&picture, &scratch.path("a.xyz")).unwrap_err().status(), 2);
    }
}
