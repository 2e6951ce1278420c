//! Preprocess recipes: what happens to a picture before the model sees it.
//!
//! A recipe is a list of steps, separated by spaces and done from left to right: first those that change the
//! geometry, then those that change the numbers.
//!
//! | step | does |
//! |---|---|
//! | `resize=WxH[:FILTER[:antialias\|plain]]` | scales to W x H; `resize=N`: the shorter side to N |
//! | `letterbox=WxH[:FILL]`, `letterbox=N[:FILL]` | scales to fit, centres, fills the rest with FILL (114) |
//! | `crop=center:WxH`, `crop=center:N` | cuts out the middle |
//! | `color=rgb\|bgr\|gray` | order of the channels; gray is 0.299 R + 0.587 G + 0.114 B |
//! | `layout=nchw\|nhwc` | order of the dimensions |
//! | `scale=A/B`, `scale=A` | multiplies each value, which is 0 to 255 at first |
//! | `mean=A,B,C` | subtracts, per channel or one for all |
//! | `std=A,B,C` | divides, per channel or one for all |
//!
//! Filters: `nearest`, `bilinear`, `bicubic`, `lanczos3`, `area`. With `antialias` the filter widens when a picture
//! shrinks, as Pillow does; with `plain` it does not, as OpenCV does. Presets stand for steps: `imagenet`, `unit`
//! (`scale=1/255`), `minus1to1` (`mean=127.5 std=127.5`).

use std::fmt;

use crate::failure::{Failure, Fault};

/// The largest width or height.
pub const LARGEST_SIDE: u32 = 1 << 15;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Scale to these sizes.
    Resize(Target, Filter),
    /// Scale to fit within width and height, and fill the rest.
    Letterbox(u32, u32, u8),
    /// Cut width and height out of the middle.
    Crop(u32, u32),
    /// The channels.
    Color(Color),
    /// The order of the dimensions.
    Layout(Layout),
    /// Multiply by the first and divide by the second.
    Scale(f32, f32),
    /// Subtract, per channel or one for all.
    Mean(Vec<f32>),
    /// Divide, per channel or one for all.
    Std(Vec<f32>),
}

/// The size to scale to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Width and height.
    Exact(u32, u32),
    /// The shorter side; the other follows.
    Shorter(u32),
}

/// How pixels are interpolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The kernel.
    pub kernel: Kernel,
    /// The kernel widens when a picture shrinks.
    pub antialias: bool,
}

/// Interpolation kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// The nearest pixel.
    Nearest,
    /// Linear in both directions.
    Bilinear,
    /// Catmull-Rom cubic.
    Bicubic,
    /// Lanczos with three lobes.
    Lanczos3,
    /// The mean of the pixels covered.
    Area,
}

const KERNELS: [(&str, Kernel); 5] = [
    ("nearest", Kernel::Nearest),
    ("bilinear", Kernel::Bilinear),
    ("bicubic", Kernel::Bicubic),
    ("lanczos3", Kernel::Lanczos3),
    ("area", Kernel::Area),
];

/// Channels in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Luma.
    Gray,
}

impl Color {
    /// The number of channels.
    pub fn channels(self) -> usize {
        if self == Color::Gray { 1 } else { 3 }
    }
}

/// Dimensions in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Batch, channels, height, width.
    Nchw,
    /// Batch, height, width, channels.
    Nhwc,
}

/// A recipe as it was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recipe(pub Vec<Step>);

/// What the model's input says about pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Order of the dimensions.
    pub layout: Layout,
    /// Channels, 1 or 3, if known.
    pub channels: Option<usize>,
    /// Height, if known.
    pub height: Option<u32>,
    /// Width, if known.
    pub width: Option<u32>,
    /// The elements are floats.
    pub float: bool,
}

impl Frame {
    /// Reads a shape (`None` = not known) as a picture; `None` when it is none: batch, channels and sides, without
    /// a batch, or sides alone.
    pub fn of(shape: &[Option<usize>], float: bool) -> Option<Frame> {
        let side = |dim: Option<usize>| dim.and_then(|n| u32::try_from(n).ok());
        let is_color = |dim: Option<usize>| matches!(dim, Some(1 | 3));
        let frame = |layout, channels, height, width| Frame {
            layout,
            channels,
            height: side(height),
            width: side(width),
            float,
        };
        match shape {
            [_, c, h, w] | [c, h, w] if is_color(*c) => Some(frame(Layout::Nchw, *c, *h, *w)),
            [_, h, w, c] | [h, w, c] if is_color(*c) => Some(frame(Layout::Nhwc, *c, *h, *w)),
            [_, None, h, w] => Some(frame(Layout::Nchw, None, *h, *w)),
            [h, w] => Some(frame(Layout::Nchw, Some(1), *h, *w)),
            _ => None,
        }
    }

    /// The recipe when none was asked for: resize to the model's sides, the model's channels, floats from 0 to 1.
    pub fn default_recipe(&self) -> Recipe {
        let steps = self.float.then_some(Step::Scale(1.0, 255.0)).into_iter().collect();
        Recipe(steps)
    }
}

impl Recipe {
    /// Parses a recipe; `frame` is what presets fit themselves to.
    ///
    /// # Errors
    /// When a step is unknown, given twice, out of order, or has a value that is no such number.
    pub fn parse(text: &str, frame: &Frame) -> Result<Recipe, Failure> {
        let mut steps = Vec::new();
        for word in text.split(|c: char| c.is_whitespace() || c == ';').filter(|word| !word.is_empty()) {
            match word.strip_prefix("pre=").unwrap_or(word) {
                "imagenet" => steps.extend(imagenet(frame)),
                "unit" => steps.push(Step::Scale(1.0, 255.0)),
                "minus1to1" => steps.extend([Step::Mean(vec![127.5]), Step::Std(vec![127.5])]),
                word => steps.push(step(word)?),
            }
        }
        let order = |step: &Step| match step {
            Step::Resize(..) | Step::Letterbox(..) | Step::Crop(..) => 0,
            Step::Color(_) | Step::Layout(_) => 1,
            Step::Scale(..) | Step::Mean(_) | Step::Std(_) => 2,
        };
        let geometry_last = steps.iter().rposition(|step| order(step) == 0);
        let numbers_first = steps.iter().position(|step| order(step) == 2);
        if let (Some(last), Some(first)) = (geometry_last, numbers_first)
            && first < last
        {
            return Err(wrong(format!("{} must stand before {}", steps[last], steps[first])));
        }
        for (i, step) in steps.iter().enumerate() {
            let same = |other: &Step| std::mem::discriminant(other) == std::mem::discriminant(step);
            if steps[..i].iter().any(same) {
                return Err(wrong(format!("{step}: the step stands twice")));
            }
        }
        Ok(Recipe(steps))
    }

    /// The recipe with everything that it leaves open filled in from the model's input: sides, channels, layout.
    ///
    /// # Errors
    /// When colour and the model's channels differ, or `mean` or `std` have another count.
    pub fn resolve(&self, frame: &Frame) -> Result<Recipe, Failure> {
        let mut steps: Vec<Step> = self.0.clone();
        let color =
            steps.iter().find_map(|step| if let Step::Color(color) = step { Some(*color) } else { None });
        let layout =
            steps.iter().find_map(|step| if let Step::Layout(layout) = step { Some(*layout) } else { None });
        let geometry = steps
            .iter()
            .rposition(|step| matches!(step, Step::Resize(..) | Step::Letterbox(..) | Step::Crop(..)));
        let color_of_frame = if frame.channels == Some(1) { Color::Gray } else { Color::Rgb };
        let resolved = color.unwrap_or(color_of_frame);
        if let Some(channels) = frame.channels
            && channels != resolved.channels()
        {
            return Err(wrong(format!(
                "color={} has {} channels, the model wants {channels}",
                name(resolved),
                resolved.channels()
            )));
        }
        for step in &steps {
            if let Step::Mean(values) | Step::Std(values) = step
                && !matches!(values.len(), n if n == 1 || n == resolved.channels())
            {
                return Err(wrong(format!(
                    "{step} has {} values for {} channels",
                    values.len(),
                    resolved.channels()
                )));
            }
        }
        let mut at = geometry.map_or(0, |at| at + 1);
        if geometry.is_none()
            && let (Some(width), Some(height)) = (frame.width, frame.height)
        {
            let filter = Filter { kernel: Kernel::Bilinear, antialias: true };
            steps.insert(0, Step::Resize(Target::Exact(width, height), filter));
            at = 1;
        }
        if color.is_none() {
            steps.insert(at, Step::Color(resolved));
        }
        if layout.is_none() {
            let after = steps.iter().rposition(|step| matches!(step, Step::Color(_))).map_or(at, |at| at + 1);
            steps.insert(after, Step::Layout(frame.layout));
        }
        Ok(Recipe(steps))
    }
}

/// Scale the shorter side to 8/7 of the model's (256 for 224), cut out the middle, normalise.
fn imagenet(frame: &Frame) -> Vec<Step> {
    let height = frame.height.unwrap_or(224);
    let width = frame.width.unwrap_or(224);
    let shorter = (f64::from(height.min(width)) * 256.0 / 224.0).round() as u32;
    vec![
        Step::Resize(Target::Shorter(shorter), Filter { kernel: Kernel::Bilinear, antialias: true }),
        Step::Crop(width, height),
        Step::Scale(1.0, 255.0),
        Step::Mean(vec![0.485, 0.456, 0.406]),
        Step::Std(vec![0.229, 0.224, 0.225]),
    ]
}

fn step(word: &str) -> Result<Step, Failure> {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let fail = || wrong(format!("{word:?} is no step of a recipe"));
    let mut parts = value.split(':');
    let first = parts.next().unwrap_or("");
    let step = match key {
        "resize" => {
            let target = match first.contains('x') {
                true => sides(first).map(|(width, height)| Target::Exact(width, height)),
                false => side(first).map(Target::Shorter),
            };
            let kernel = match parts.next() {
                None => Some(Kernel::Bilinear),
                Some(name) => KERNELS.iter().find(|row| row.0 == name).map(|row| row.1),
            };
            let antialias = match parts.next() {
                None | Some("antialias") => Some(true),
                Some("plain") => Some(false),
                Some(_) => None,
            };
            let (target, kernel, antialias) = (target, kernel, antialias);
            Step::Resize(
                target.ok_or_else(fail)?,
                Filter { kernel: kernel.ok_or_else(fail)?, antialias: antialias.ok_or_else(fail)? },
            )
        }
        "letterbox" => {
            let (width, height) = sides(first).ok_or_else(fail)?;
            let fill = parts.next().map_or(Some(114), |fill| fill.parse().ok());
            Step::Letterbox(width, height, fill.ok_or_else(fail)?)
        }
        "crop" if first == "center" => {
            let (width, height) = parts.next().and_then(sides).ok_or_else(fail)?;
            Step::Crop(width, height)
        }
        "color" => Step::Color(match first {
            "rgb" => Color::Rgb,
            "bgr" => Color::Bgr,
            "gray" => Color::Gray,
            _ => return Err(fail()),
        }),
        "layout" => Step::Layout(match first {
            "nchw" => Layout::Nchw,
            "nhwc" => Layout::Nhwc,
            _ => return Err(fail()),
        }),
        "scale" => {
            let (above, below) = first.split_once('/').unwrap_or((first, "1"));
            let (above, below) = (number(above).ok_or_else(fail)?, number(below).ok_or_else(fail)?);
            if below == 0.0 {
                return Err(wrong(format!("{word}: division by zero")));
            }
            Step::Scale(above, below)
        }
        "mean" => Step::Mean(numbers(first).ok_or_else(fail)?),
        "std" => {
            let values = numbers(first).ok_or_else(fail)?;
            if values.contains(&0.0) {
                return Err(wrong(format!("{word}: division by zero")));
            }
            Step::Std(values)
        }
        _ => return Err(fail()),
    };
    if parts.next().is_some() { Err(fail()) } else { Ok(step) }
}

fn side(text: &str) -> Option<u32> {
    text.parse().ok().filter(|side| (1..=LARGEST_SIDE).contains(side))
}

/// `WxH`, or `N` for both.
fn sides(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once('x').unwrap_or((text, text));
    Some((side(width)?, side(height)?))
}

fn number(text: &str) -> Option<f32> {
    text.parse().ok().filter(|value: &f32| value.is_finite())
}

fn numbers(text: &str) -> Option<Vec<f32>> {
    text.split(',').map(number).collect()
}

fn name(color: Color) -> &'static str {
    match color {
        Color::Rgb => "rgb",
        Color::Bgr => "bgr",
        Color::Gray => "gray",
    }
}

fn wrong(message: String) -> Failure {
    Failure::new(Fault::Recipe, format!("recipe: {message}")).help(
        "steps: resize=WxH:FILTER letterbox=N:FILL crop=center:N color= layout= scale=1/255 mean= std=, or a preset: \
         imagenet, unit, minus1to1",
    )
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        match self {
            Step::Resize(target, filter) => {
                match target {
                    Target::Exact(width, height) => write!(f, "resize={width}x{height}")?,
                    Target::Shorter(side) => write!(f, "resize={side}")?,
                }
                let kernel = KERNELS.iter().find(|row| row.1 == filter.kernel).map_or("", |row| row.0);
                write!(f, ":{kernel}:{}", if filter.antialias { "antialias" } else { "plain" })
            }
            Step::Letterbox(width, height, fill) => write!(f, "letterbox={width}x{height}:{fill}"),
            Step::Crop(width, height) => write!(f, "crop=center:{width}x{height}"),
            Step::Color(color) => write!(f, "color={}", name(*color)),
            Step::Layout(Layout::Nchw) => f.write_str("layout=nchw"),
            Step::Layout(Layout::Nhwc) => f.write_str("layout=nhwc"),
            Step::Scale(above, 1.0) => write!(f, "scale={above}"),
            Step::Scale(above, below) => write!(f, "scale={above}/{below}"),
            Step::Mean(values) => write!(f, "mean={}", list(values)),
            Step::Std(values) => write!(f, "std={}", list(values)),
        }
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<String> = self.0.iter().map(Step::to_string).collect();
        f.write_str(&steps.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACE: Frame =
        Frame { layout: Layout::Nchw, channels: Some(3), height: Some(240), width: Some(320), float: true };

    #[test]
    fn recipes_resolve_and_print_themselves() {
        let recipe = Recipe::parse("mean=127 std=128", &FACE).unwrap().resolve(&FACE).unwrap();
        assert_eq!(
            recipe.to_string(),
            "resize=320x240:bilinear:antialias color=rgb layout=nchw mean=127 std=128"
        );
        assert_eq!(Recipe::parse(&recipe.to_string(), &FACE).unwrap(), recipe);
        let recipe = FACE.default_recipe().resolve(&FACE).unwrap();
        assert!(recipe.to_string().ends_with("layout=nchw scale=1/255"));
        let square = Frame { height: Some(224), width: Some(224), ..FACE };
        let recipe = Recipe::parse("imagenet", &square).unwrap().resolve(&square).unwrap();
        assert_eq!(
            recipe.to_string(),
            "resize=256:bilinear:antialias crop=center:224x224 color=rgb layout=nchw scale=1/255 \
             mean=0.485,0.456,0.406 std=0.229,0.224,0.225"
        );
        let text = "letterbox=640:0; color=bgr; scale=0.5";
        assert_eq!(
            Recipe::parse(text, &FACE).unwrap().resolve(&FACE).unwrap().to_string(),
            "letterbox=640x640:0 color=bgr layout=nchw scale=0.5"
        );
    }

    #[test]
    fn shapes_read_as_pictures() {
        let f = |shape: &[Option<usize>]| Frame::of(shape, true).map(|f| (f.layout, f.channels, f.width));
        assert_eq!(f(&[Some(1), Some(3), Some(240), Some(320)]), Some((Layout::Nchw, Some(3), Some(320))));
        assert_eq!(f(&[None, Some(28), Some(28), Some(1)]), Some((Layout::Nhwc, Some(1), Some(28))));
        assert_eq!(f(&[None, Some(3), None, None]), Some((Layout::Nchw, Some(3), None)));
        assert_eq!(f(&[Some(3), Some(320), Some(320)]), Some((Layout::Nchw, Some(3), Some(320))));
        assert_eq!(f(&[Some(1), Some(512)]), Some((Layout::Nchw, Some(1), Some(512))));
        assert_eq!(f(&[Some(1), Some(7), Some(8), Some(9)]), None);
        assert_eq!(f(&[Some(10)]), None);
    }

    #[test]
    fn wrong_recipes_are_refused() {
        for text in [
            "resize",
            "resize=0x3",
            "resize=3x4:cubic",
            "resize=3x4:bilinear:yes",
            "resize=99999",
            "letterbox=4:256",
            "crop=224",
            "crop=center:0",
            "color=yuv",
            "layout=hwc",
            "scale=1/0",
            "scale=x",
            "mean=",
            "mean=1,inf",
            "std=0",
            "flip=1",
            "scale=2 scale=2",
            "scale=2 resize=3x4",
            "resize=3x4:nearest:plain:x",
            "mean=1:2",
        ] {
            assert!(Recipe::parse(text, &FACE).is_err(), "{text}");
        }
        for text in ["color=gray", "mean=1,2", "std=1,2,3,4"] {
            assert!(Recipe::parse(text, &FACE).unwrap().resolve(&FACE).is_err(), "{text}");
        }
    }
}
